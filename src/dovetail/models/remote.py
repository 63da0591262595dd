"""`RemoteModel`: a model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, a hosted one).

It is asked by chat completions, one request per prompt, several at a time. The server renders the template,
tokenizes and draws: so only methods that mean the same as request parameters run on it.
"""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from dovetail.core import (
    Completion,
    Cost,
    DovetailError,
    InvalidValue,
    Limits,
    Message,
    MissingExtra,
    Model,
    NotReachable,
    Prompt,
    Unsupported,
)
from dovetail.core.completion import FinishReason

if TYPE_CHECKING:
    import openai

    from dovetail.engine import Stepwise

_FINISHED: dict[str, FinishReason] = {"stop": "stop", "eos": "stop", "eos_token": "stop", "length": "length"}
_GREEDY = {"temperature": 0.0}


class RequestsFailed(DovetailError):
    """The server refused or spoiled some of the requests; the others are not lost.

    Attributes:
        answers: in the order of the prompts, a completion or the error that there is instead.
    """

    def __init__(self, message: str, answers: Sequence[Completion | DovetailError]) -> None:
        super().__init__(message)
        self.answers = list(answers)


@dataclass(frozen=True, slots=True)
class RemotePrompt(Prompt):
    """A prompt that the server renders.

    Attributes:
        thinking: False is sent on as ``chat_template_kwargs: {"enable_thinking": false}``.
    """

    thinking: bool = True


class RemoteModel(Model):
    """A model by URL.

    The key is taken from DOVETAIL_API_KEY, else OPENAI_API_KEY, and is sent to ``url`` and nowhere else;
    servers on this machine or a private network need none ("EMPTY" is sent).

    Args:
        name: for reports (``openai/NAME@URL``).
        served: the name that the server knows the model by.
        url: of the API, up to ``/v1``.
        concurrency, timeout, retries: see `load`.
    """

    def __init__(
        self,
        name: str,
        served: str,
        url: str,
        *,
        concurrency: int = 16,
        timeout: float = 600.0,
        retries: int = 4,
    ) -> None:
        if concurrency < 1:
            raise InvalidValue("concurrency", concurrency, "at least 1")
        if not timeout > 0:
            raise InvalidValue("timeout", timeout, "a number of seconds above 0")
        if retries < 0:
            raise InvalidValue("retries", retries, "at least 0")
        try:
            import openai  # noqa: F401  better missed when the model is named than when it is asked
        except ImportError as error:
            raise MissingExtra("openai", "remote") from error
        self.name, self.served, self.url = name, served, url
        self.engine = RemoteEngine(
            name, served, url, concurrency=concurrency, timeout=timeout, retries=retries
        )
        self.provides = self.engine.provides

    def prompt(
        self, messages: Sequence[Message], *, thinking: bool = True, prefix: str = "", seed: int = 0
    ) -> Prompt:
        """The messages as they are; the server renders and tokenizes them.

        Raises:
            InvalidValue: no messages.
            Unsupported: a prefix; chat completions cannot begin the model's turn.
        """
        if not messages:
            raise InvalidValue("messages", messages, "at least one message")
        if prefix:
            raise Unsupported(
                f"{self.name} cannot be given the beginning of its answer ({prefix[:40]!r}): load the model "
                "locally (dovetail.load of a folder or hub id)"
            )
        return RemotePrompt(tuple(messages), seed=seed, thinking=thinking)

    def describe(self) -> dict[str, Any]:
        """What the record says of it: ``name``, ``source`` ("remote"), ``class``, ``served``, ``url``; what
        only its server knows (``parameters``, ``dtype``, ``device``, ``template``) is None."""
        return {
            "name": self.name,
            "source": "remote",
            "class": type(self).__name__,
            "served": self.served,
            "url": self.url,
            "parameters": None,
            "dtype": None,
            "device": None,
            "template": None,
        }


@dataclass(frozen=True, slots=True)
class _Fatal:
    """What ends a whole call."""

    error: Exception


class RemoteEngine:
    """Produces tokens by asking a server. Arguments as for `RemoteModel`."""

    provides = frozenset({"text", "logprobs"})

    def __init__(
        self, name: str, served: str, url: str, *, concurrency: int, timeout: float, retries: int
    ) -> None:
        self.name, self.served, self.url = name, served, url
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries

    def generate(
        self, prompts: Sequence[Prompt], limits: Limits, step: Stepwise | None = None
    ) -> list[Completion]:
        """One completion per prompt, in order.

        Text: reasoning that the server keeps apart (``reasoning_content`` or ``reasoning``) comes first,
        in ``<think>`` and ``</think>``. Cost: the server's own token counts; where it gives none they
        are 0 and ``columns["usage"]`` says so. ``seconds`` is the row's share of the whole call,
        ``forward_passes`` is not known and 0. ``logprobs``, where asked for: nats, one per token that the
        server wrote; where it gives none, None and ``columns["logprobs"]`` says so. ``token_ids`` is empty.

        Args:
            prompts: from `RemoteModel.prompt`. Their ``seed`` is sent in its lowest 31 bits, which is what
                every server can read.
            limits: where writing ends.
            step: the decoding; greedy if None.

        Raises:
            Unsupported: the decoding does not mean the same as request parameters.
            NotReachable: no server at the URL, one that does not answer in time (408, 429, 502-504 after
                the retries too), or one that does not know the key or the model. Nothing is wrong
                with the prompts.
            RequestsFailed: the server refused some prompts or its answer could not be read; names them.
        """
        answers: list[Completion | DovetailError] = [DovetailError("not asked")] * len(prompts)
        for index, answer in self._ask_all(prompts, limits, step):
            answers[index] = answer
        failed = [i for i, a in enumerate(answers) if isinstance(a, DovetailError)]
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise RequestsFailed(f"{answers[failed[0]]}{more}", answers)
        return [a for a in answers if isinstance(a, Completion)]

    def stream(
        self, prompts: Sequence[Prompt], limits: Limits, step: Stepwise | None = None
    ) -> Iterator[tuple[int, Completion]]:
        """Yields (prompt index, Completion) as requests are answered, in any order; whole ones, since token
        ids are not known. Raises like `generate`, RequestsFailed (of the failed ones only) at the end."""
        errors = []
        for index, answer in self._ask_all(prompts, limits, step):
            if isinstance(answer, Completion):
                yield index, answer
            else:
                errors.append(answer)
        if errors:
            raise RequestsFailed("; ".join(map(str, errors)), errors)

    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> NoReturn:
        """Raises Unsupported: chat completions give no log-probabilities of given text."""
        raise Unsupported(
            f"{self.name} cannot score given text, since chat completions return log-probabilities only of "
            "what they write: load the model locally, or have it generate the choice"
        )

    @cached_property
    def client(self) -> openai.OpenAI:
        """The `openai` client: connection pool, time limits, retries with backoff."""
        import openai

        return openai.OpenAI(
            base_url=self.url, api_key=_api_key(self.url), timeout=self.timeout, max_retries=self.retries
        )

    def __getstate__(self) -> dict[str, Any]:
        # Connections stay behind when a worker process gets its own copy.
        return {k: v for k, v in self.__dict__.items() if k != "client"}

    def _ask_all(
        self, prompts: Sequence[Prompt], limits: Limits, step: Stepwise | None
    ) -> Iterator[tuple[int, Completion | DovetailError]]:
        """(index, answer) as they come; raises NotReachable at the first sign that no other would come."""
        common = self._common(limits, step)
        _ = self.client  # made before the threads, which would each make one
        waiting: SimpleQueue[int] = SimpleQueue()
        answered: SimpleQueue[tuple[int, Completion | DovetailError | _Fatal]] = SimpleQueue()
        over = threading.Event()
        for index in range(len(prompts)):
            waiting.put(index)

        def work() -> None:
            while not over.is_set():
                try:
                    index = waiting.get_nowait()
                except Empty:
                    return
                which = f"prompt {index + 1} of {len(prompts)}"
                try:
                    answered.put((index, self._ask(prompts[index], common, limits, which)))
                except Exception as error:
                    answered.put((index, _Fatal(error)))

        last = time.perf_counter()
        for _ in range(min(self.concurrency, len(prompts))):
            # Daemons, not a pool: an interrupted program would wait for a pool's requests, however long
            # they may take.
            threading.Thread(target=work, name="dovetail-remote", daemon=True).start()
        try:
            for _ in prompts:
                index, answer = answered.get()
                if isinstance(answer, _Fatal):
                    raise answer.error
                if isinstance(answer, Completion):
                    # The shares add up to the time that the whole call took.
                    now = time.perf_counter()
                    answer = replace(answer, cost=replace(answer.cost, seconds=now - last))
                    last = now
                yield index, answer
        finally:
            over.set()

    def _common(self, limits: Limits, step: Stepwise | None) -> dict[str, Any]:
        """The request parameters that all prompts share."""
        drawn: Mapping[str, Any] | None = _GREEDY if step is None else step.api_parameters()
        if drawn is None:
            raise Unsupported(
                f"{type(step).__name__} cannot run on {self.name}: it decides every token from the "
                "model's own numbers, which a server does not hand out; load the model locally "
                "(dovetail.load of a folder or hub id)"
            )
        parameters = {**drawn, "model": self.served}
        # OpenAI's newer models take only the new name of this limit, other servers only the old one.
        of_openai = (urlsplit(self.url).hostname or "").endswith(".openai.com")
        parameters["max_completion_tokens" if of_openai else "max_tokens"] = limits.max_new_tokens
        if limits.stop:
            parameters["stop"] = list(limits.stop)
        if limits.logprobs:
            parameters["logprobs"] = True
        return parameters

    def _ask(
        self, prompt: Prompt, common: Mapping[str, Any], limits: Limits, which: str
    ) -> Completion | DovetailError:
        import openai

        parameters = dict(common)
        if not getattr(prompt, "thinking", True):
            extra = dict(parameters.get("extra_body") or {})
            parameters["extra_body"] = extra | {"chat_template_kwargs": {"enable_thinking": False}}
        try:
            answer = self.client.chat.completions.create(
                messages=[m.as_dict() for m in prompt.messages],  # type: ignore[misc]
                seed=prompt.seed & 0x7FFFFFFF,
                **parameters,
            )
            return _completion(answer, limits)
        except openai.APITimeoutError as error:
            raise NotReachable(
                f"{which}: {self.url} did not answer within {self.timeout:g} s, asked {self.retries + 1} "
                "times: give it longer, load(..., timeout=...)"
            ) from error
        except openai.APIConnectionError as error:
            raise NotReachable(
                f"{which}: no server answers at {self.url} ({error.__cause__ or error}): is it running?"
            ) from error
        except openai.APIStatusError as error:
            said = f"{which}: {self.url} answered {error.status_code} ({_said(error)})"
            if error.status_code in (401, 403):
                raise NotReachable(f"{said}: set DOVETAIL_API_KEY or OPENAI_API_KEY") from error
            if error.status_code == 404:
                raise NotReachable(
                    f"{said}: does the URL end in /v1, and does the server call the model {self.served!r}?"
                ) from error
            if error.status_code in (408, 429, 502, 503, 504):
                raise NotReachable(f"{said}, asked {self.retries + 1} times") from error
            return DovetailError(said)
        except (openai.OpenAIError, ValueError, TypeError, AttributeError, LookupError) as error:
            # Whatever the client or `_completion` stumbled over in the answer's body.
            return DovetailError(f"{which}: {self.url} gave no readable chat completion: {error}")


def _completion(answer: Any, limits: Limits) -> Completion:
    """The server's answer as a Completion. Raises ValueError where it is none."""
    choices = getattr(answer, "choices", None)
    if not choices:
        raise ValueError(_short(getattr(answer, "error", None) or answer))
    choice, columns = choices[0], dict[str, Any]()
    message, finish = choice.message, choice.finish_reason
    content = message.content or ""
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or ""
    if not isinstance(content, str) or not isinstance(reasoning, str):
        raise ValueError(f"its message is not text: {_short(message)}")
    # Cut off within the reasoning, a local model would not have closed it either.
    closing = "" if not content and finish == "length" else "</think>"
    text = f"<think>{reasoning}{closing}{content}" if reasoning else content
    if finish not in _FINISHED:
        columns["finish_reason"] = finish

    usage = answer.usage
    cost = Cost(
        tokens_read=getattr(usage, "prompt_tokens", None) or 0,
        tokens_written=getattr(usage, "completion_tokens", None) or 0,
    )
    if usage is None:
        columns["usage"] = "not given by the server: tokens are counted as 0"

    logprobs = None
    if limits.logprobs:
        tokens = getattr(choice.logprobs, "content", None)
        if tokens is None:
            columns["logprobs"] = "not given by the server"
        else:
            logprobs = tuple(float(t.logprob) for t in tokens)
    return Completion(text, (), logprobs, cost, _FINISHED.get(finish, "aborted"), columns)


def _api_key(url: str) -> str:
    key = os.environ.get("DOVETAIL_API_KEY") or os.environ.get("OPENAI_API_KEY")
    if not key and not _is_private(urlsplit(url).hostname or ""):
        raise NotReachable(
            f"{url} needs a key: set DOVETAIL_API_KEY or OPENAI_API_KEY ('EMPTY' if it needs none)"
        )
    return key or "EMPTY"


def _is_private(host: str) -> bool:
    """Whether a host is on this machine or a private network, as far as its name tells."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))


def _said(error: Any) -> str:
    """The server's own words for an error status."""
    body = error.body
    if isinstance(body, Mapping):
        body = body.get("message") or body.get("detail") or body.get("error") or body
    return _short(body or error.message)


def _short(value: object, limit: int = 300) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[:limit] + " ..."
