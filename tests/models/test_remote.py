from __future__ import annotations

import pickle
import socket
import sys
import threading
import time

import pytest
from models_checkpoints import run_python
from openai_server import Server, said, slowly

from dovetail.core import (
    DovetailError,
    InvalidValue,
    Limits,
    Message,
    MissingExtra,
    NotReachable,
    Unsupported,
)
from dovetail.decoding import Greedy, Sampling, SoftThinking
from dovetail.engine import Stepwise
from dovetail.models import RequestsFailed, load

NOW = {"retry-after-ms": "1"}  # the client would wait for half a second and longer


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "DOVETAIL_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def served(server: Server, **options):
    return load(f"openai/some/model@{server.url}", **options)


def prompts(model, *questions, **how):
    return [model.prompt([Message("user", q)], **how) for q in questions]


def generate(model, *questions, limits=None):
    return model.engine.generate(prompts(model, *questions), limits or Limits())


def test_answers_keep_the_order_of_the_prompts():
    def answer(body, _):
        question = body["messages"][0]["content"]
        return slowly(0.05 * (5 - int(question)), said(f"re {question}"))

    with Server(answer) as server:
        model = served(server, concurrency=3)
        started = time.perf_counter()
        answers = generate(model, *"01234")
        seconds = time.perf_counter() - started
    assert [a.text for a in answers] == ["re 0", "re 1", "re 2", "re 3", "re 4"]
    assert server.busiest == 3
    assert {(a.cost.tokens_read, a.cost.tokens_written, a.finish_reason) for a in answers} == {
        (11, 7, "stop")
    }
    # Shares of the call: they add up to what it took, however many requests ran side by side.
    assert 0.5 * seconds < sum(a.cost.seconds for a in answers) <= seconds
    assert model.engine.generate([], Limits()) == []


def test_what_is_asked_for_is_sent():
    with Server(lambda *_: said("ok")) as server:
        model = served(server)
        talk = [Message("system", "Be brief."), Message("user", "Hi")]
        limits = Limits(99, ("\n\n", "Q:"), logprobs=True)
        engine = model.engine
        engine.generate([model.prompt(talk, seed=(5 << 31) + 3)], limits, Sampling(0.7, 20, 0.9, 0.1))
        engine.generate([model.prompt(talk, thinking=False)], Limits(), Greedy())
        engine.generate([model.prompt(talk)], Limits())
        engine.generate([model.prompt(talk, thinking=False)], Limits(), Sampling(min_p=0.2))
    sampled, greedy, plain, unthinking = server.requests
    assert sampled == {
        "model": "some/model",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.1,
        "max_tokens": 99,
        "stop": ["\n\n", "Q:"],
        "seed": 3,
        "logprobs": True,
    }
    assert greedy["temperature"] == plain["temperature"] == 0
    assert greedy["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in plain
    assert (unthinking["min_p"], unthinking["chat_template_kwargs"]["enable_thinking"]) == (0.2, False)


def test_the_key_is_taken_from_the_environment(monkeypatch):
    with Server(lambda *_: said("ok")) as server:
        served(server).complete("a")
        monkeypatch.setenv("OPENAI_API_KEY", "general")
        served(server).complete("a")
        monkeypatch.setenv("DOVETAIL_API_KEY", "own")
        model = served(server)
        model.complete("a")
    assert server.keys == ["Bearer EMPTY", "Bearer general", "Bearer own"]
    assert "own" not in str(model.describe())


def test_a_public_server_needs_a_key():
    with pytest.raises(NotReachable, match=r"https://api\.example\.com/v1 needs a key: set DOVETAIL_API_KEY"):
        load("openai/x@https://api.example.com/v1").complete("a")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_put_back(field):
    replies = [
        said("\\boxed{42}", **{field: "\n17 + 25\n"}),
        said(None, finish="length", **{field: "\n17 + 2"}),
        said("42", **{field: None}),
    ]
    with Server(lambda _, before: replies[before]) as server:
        answers = generate(served(server, concurrency=1), "a", "b", "c")
    assert [a.text for a in answers] == ["<think>\n17 + 25\n</think>\\boxed{42}", "<think>\n17 + 2", "42"]
    assert answers[1].finish_reason == "length"


def test_logprobs_where_the_server_gives_them():
    tokens = {
        "content": [{"token": t, "logprob": p, "top_logprobs": []} for t, p in (("4", -0.5), ("2", -0.25))]
    }
    replies = [said("42", logprobs=tokens), said("42"), said("42", logprobs={"content": None})]
    with Server(lambda _, before: replies[before]) as server:
        model = served(server, concurrency=1)
        given, *absent = generate(model, "a", "b", "c", limits=Limits(logprobs=True))
    assert given.logprobs == (-0.5, -0.25)
    assert given.columns == {}
    for completion in absent:
        assert completion.logprobs is None
        assert completion.columns["logprobs"] == "not given by the server"


def test_missing_usage_is_said():
    with Server(lambda *_: said("42", usage=None)) as server:
        completion = served(server).complete("a")
    assert (completion.cost.tokens_read, completion.cost.tokens_written) == (0, 0)
    assert "not given" in completion.columns["usage"]


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "aborted"), ("tool_calls", "aborted")],
)
def test_finish_reasons(finish, expected):
    with Server(lambda *_: said("42", finish=finish)) as server:
        completion = served(server).complete("a")
    assert completion.finish_reason == expected
    assert completion.columns.get("finish_reason") == (finish if expected == "aborted" else None)


def test_a_busy_server_is_asked_again():
    def answer(_, before):
        return (429, {"error": {"message": "slow down"}}, NOW) if before < 2 else said("42")

    with Server(answer) as server:
        assert served(server, retries=2).complete("a").text == "42"
        assert len(server.requests) == 3


def test_a_server_that_stays_busy_stops_the_run():
    with (
        Server(lambda *_: (429, {"error": {"message": "slow down"}}, NOW)) as server,
        pytest.raises(NotReachable, match=r"prompt 1 of 1: .* answered 429 \(slow down\), asked 2 times"),
    ):
        served(server, retries=1).complete("a")
    assert len(server.requests) == 2


def test_one_bad_prompt_is_named_and_the_others_are_not_lost():
    def answer(body, _):
        if body["messages"][0]["content"] == "bad":
            return 500, {"error": {"message": "CUDA error"}}, NOW
        return said("fine")

    with Server(answer) as server:
        model = served(server, retries=1)
        asked = prompts(model, "a", "b", "bad", "c")
        with pytest.raises(
            RequestsFailed, match=r"^prompt 3 of 4: .* answered 500 \(CUDA error\)$"
        ) as caught:
            model.engine.generate(asked, Limits())
        assert not isinstance(caught.value, NotReachable)
        answers = caught.value.answers
        assert [getattr(a, "text", None) for a in answers] == ["fine", "fine", None, "fine"]
        assert isinstance(answers[2], DovetailError)

        stream = model.engine.stream(asked, Limits())
        written = {index: completion.text for index, completion in (next(stream) for _ in range(3))}
        assert written == {0: "fine", 1: "fine", 3: "fine"}
        with pytest.raises(RequestsFailed, match="prompt 3 of 4"):
            next(stream)


def test_a_refusal_gives_the_servers_words():
    with (
        Server(lambda *_: (400, {"error": {"message": "context is 4096 tokens"}}, {})) as server,
        pytest.raises(RequestsFailed, match=r"answered 400 \(context is 4096 tokens\) \(and 1 more\)"),
    ):
        generate(served(server), "a", "b")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "set DOVETAIL_API_KEY"), (404, "'some/model'"), (503, "asked 1 times")]
)
def test_what_no_other_prompt_would_change_stops_at_once(status, advice):
    with (
        Server(lambda *_: (status, {"detail": "no"}, NOW)) as server,
        pytest.raises(NotReachable, match=rf"answered {status} \(no\).*{advice}"),
    ):
        generate(served(server, concurrency=1, retries=0), *"abcdefgh")
    assert len(server.requests) < 8


def test_a_url_without_v1_is_told_apart():
    with (
        Server(lambda *_: said("ok")) as server,
        pytest.raises(NotReachable, match=r"does the URL end in /v1"),
    ):
        load(f"openai/x@{server.url.removesuffix('/v1')}").complete("a")


@pytest.mark.parametrize(
    "reply",
    [
        "{not json",
        "<html>login</html>",
        "[]",
        "null",
        {"error": {"message": "oops"}},
        {"choices": []},
        "",
        "42",
    ],
)
def test_an_unreadable_answer_is_an_error_of_its_prompt(reply):
    with (
        Server(lambda *_: reply) as server,
        pytest.raises(RequestsFailed, match=r"prompt 1 of 1: http://\S+ gave no readable chat completion"),
    ):
        served(server, retries=0).complete("a")


def test_a_server_that_hangs_is_not_waited_for():
    started = time.perf_counter()
    with (
        Server(lambda *_: slowly(3, said("late"))) as server,
        pytest.raises(NotReachable, match=r"did not answer within 0\.2 s, asked 1 times.*timeout="),
    ):
        served(server, timeout=0.2, retries=0).complete("a")
    assert time.perf_counter() - started < 2


def test_an_interrupted_program_does_not_wait_for_its_requests():
    code = """
import threading, _thread, dovetail as dt
model = dt.load({name!r})
threading.Timer(1, _thread.interrupt_main).start()
try:
    model.complete("a")
except KeyboardInterrupt:
    print("interrupted")
"""
    done = threading.Event()
    with Server(lambda *_: done.wait(60) and said("late")) as server:
        assert run_python(code.format(name=f"openai/x@{server.url}")) == "interrupted\n"
        assert len(server.requests) == 1
        done.set()


def test_no_server_at_all():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(NotReachable, match=rf"no server answers at {url} .*refused.*is it running"):
        load(f"openai/x@{url}", retries=0).complete("a")


def test_methods_that_need_the_models_numbers_say_so():
    class Reweighted(Stepwise):
        pass

    with Server(lambda *_: said("ok")) as server:
        model = served(server)
        asked = prompts(model, "a")
        with pytest.raises(Unsupported, match=r"Reweighted cannot run on openai/some/model@http"):
            model.engine.generate(asked, Limits(), Reweighted())
        with pytest.raises(Unsupported, match=r"SoftThinking needs embeddings"):
            SoftThinking().generate(model.engine, asked, Limits())
        with pytest.raises(Unsupported, match="cannot score given text"):
            model.engine.loglikelihood(asked, ["b"])
        with pytest.raises(Unsupported, match="cannot be given the beginning of its answer"):
            model.prompt([Message("user", "a")], prefix="Well")
        assert Sampling(0.5).generate(model.engine, asked, Limits())[0].text == "ok"
    assert len(server.requests) == 1


def test_a_copy_for_a_worker_asks_the_same_server():
    with Server(lambda *_: said("ok")) as server:
        model = served(server)
        model.complete("a")
        assert pickle.loads(pickle.dumps(model)).complete("b").text == "ok"


def test_the_record():
    about = load("openai/some/model@http://127.0.0.1:9/v1").describe()
    assert (about["source"], about["served"], about["url"]) == (
        "remote",
        "some/model",
        "http://127.0.0.1:9/v1",
    )
    assert about["parameters"] is None


def test_options_are_checked():
    for name, value in (("concurrency", 0), ("timeout", 0), ("retries", -1)):
        with pytest.raises(InvalidValue, match=f"{name} is"):
            load("openai/x@http://127.0.0.1:9/v1", **{name: value})


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"dovetail\[remote\]"):
        load("openai/x@http://127.0.0.1:9/v1")
