"""Structure of Thought: have the model draw the text's graph, then answer from text and graph.

"T2S-Bench & Structure-of-Thought: Benchmarking and Prompting Comprehensive Text-to-Structure Reasoning",
arXiv 2603.03790, sect. 2.1. One instruction after text and question asks for the key nodes and their links
behind a ``[Structure]`` mark and for the answer behind an ``[Answer]`` mark; nothing in the model changes.
Costs the tokens of the structure. Beside it stand the paper's two baselines: the bare answer, and a free
chain of thought.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from dovetail.core import Example, InvalidValue, Message
from dovetail.prompting.base import Prompting, with_question

STRUCTURE, ANSWER = "[Structure]", "[Answer]"
Notation = Literal["json", "arrows"]

ONLY_ANSWER = "Output only the final answer in the required format."
_EXAMPLES: dict[str, str] = {
    "json": '{"nodes": [{"id": "n1", "label": "..."}, {"id": "n2", "label": "..."}], '
    '"links": [{"source": "n1", "target": "n2"}]}',
    "arrows": "first node -> second node\nsecond node -> third node",
}
SOT_INSTRUCTION = (
    "From the given text, name the key nodes and the links between them and give that structure. Then answer "
    "from the text and the structure. Write exactly:\n[Structure]\n{notation}\n[Answer] your answer"
)
# The paper does not give its wording.
COT_INSTRUCTION = "Think step by step, then write [Answer] and your answer."


@dataclass(frozen=True)
class Structure:
    """What `parse_sot` finds in a response.

    Attributes:
        nodes: ``{"id", "label"}`` each, both text.
        links: ``{"source", "target"}`` each and ``"label"`` where given; ends are ids.
        answer: what follows the mark, None without a mark.
    """

    nodes: tuple[dict[str, str], ...] = ()
    links: tuple[dict[str, str], ...] = ()
    answer: str | None = None


@dataclass(frozen=True)
class StructureOfThought(Prompting):
    """Asks for the text's graph before the answer (SoT).

    Attributes:
        notation: of the structure: "json" (the paper) or "arrows", one ``source -> target`` per line, for
            models whose tokenizer makes JSON long; `parse_sot` reads both.
        instruction: put after the question; ``{notation}`` is replaced by an example of the notation.
        system: replaces system messages, since one that asks for the answer alone contradicts the method;
            None keeps them.
    """

    notation: Notation = "json"
    instruction: str = SOT_INSTRUCTION
    system: str | None = ""

    def __post_init__(self) -> None:
        if self.notation not in _EXAMPLES:
            raise InvalidValue("notation", self.notation, " or ".join(_EXAMPLES))
        _check_instruction(self.instruction)

    def messages(self, example: Example) -> list[Message]:
        instruction = self.instruction.replace("{notation}", _EXAMPLES[self.notation])
        return with_question(example, f"{example.question}\n\n{instruction}", self.system)


@dataclass(frozen=True)
class ChainOfThought(Prompting):
    """Asks to think step by step in free words before the answer.

    Attributes:
        instruction: put after the question.
        system: replaces system messages; None keeps them.
    """

    instruction: str = COT_INSTRUCTION
    system: str | None = ""

    def __post_init__(self) -> None:
        _check_instruction(self.instruction)

    def messages(self, example: Example) -> list[Message]:
        return with_question(example, f"{example.question}\n\n{self.instruction}", self.system)


@dataclass(frozen=True)
class DirectAnswer(Prompting):
    """Asks for the answer alone.

    Attributes:
        instruction: put after the question, "" for nothing.
        system: replaces system messages (official evaluation: ``ONLY_ANSWER``); None keeps them.
    """

    instruction: str = ""
    system: str | None = ONLY_ANSWER

    def messages(self, example: Example) -> list[Message]:
        question = f"{example.question}\n\n{self.instruction}" if self.instruction else example.question
        return with_question(example, question, self.system)


def parse_sot(response: str) -> Structure:
    """Structure and answer of a response; never raises.

    The structure stands between the last ``[Structure]`` and the ``[Answer]`` after it (or the end of the
    text); where it cannot be read it is empty, and the answer is still taken. Links in arrow notation make
    their nodes: id and label are the text at the arrow's end.
    """
    folded = _fold(response)
    end = folded.rfind(ANSWER.lower())
    answer = response[end + len(ANSWER) :].strip() if end >= 0 else None
    start = folded.rfind(STRUCTURE.lower(), 0, end if end >= 0 else len(folded))
    if start < 0:
        return Structure(answer=answer)
    body = response[start + len(STRUCTURE) : end if end >= 0 else len(response)]
    nodes, links = _json_graph(body) if "{" in body else _arrow_graph(body)
    return Structure(nodes, links, answer)


def read_json(text: str, mark: str = "") -> Any:
    """The JSON from the first "{" after ``mark`` (where it stands) to the last "}"; {} if there is none."""
    at = _fold(text).find(mark.lower()) if mark else -1
    text = text[at + len(mark) :] if at >= 0 else text
    start, end = text.find("{"), text.rfind("}")
    try:
        return json.loads(text[start : end + 1]) if 0 <= start < end else {}
    except (ValueError, RecursionError):
        return {}


def graph_of(value: Any) -> tuple[tuple[dict[str, str], ...], tuple[dict[str, str], ...]]:
    """Nodes and links of a parsed JSON object; entries without the needed fields are left out."""
    value = value if isinstance(value, dict) else {}
    nodes = [_fields(n, ("id",), ("label",)) for n in _list(value.get("nodes"))]
    links = [_fields(l, ("source", "target"), ("label",)) for l in _list(value.get("links"))]
    return tuple(n for n in nodes if n), tuple(l for l in links if l)


def _json_graph(body: str) -> tuple[tuple[dict[str, str], ...], tuple[dict[str, str], ...]]:
    return graph_of(read_json(body))


def _arrow_graph(body: str) -> tuple[tuple[dict[str, str], ...], tuple[dict[str, str], ...]]:
    links = []
    for line in body.splitlines():
        ends = [end.strip() for end in line.split("->")]
        links += [{"source": a, "target": b} for a, b in pairwise(ends) if a and b]
    names = dict.fromkeys(end for link in links for end in (link["source"], link["target"]))
    return tuple({"id": name, "label": name} for name in names), tuple(links)


def _fields(entry: Any, needed: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, str]:
    """The named fields of an entry as text; {} where it is no object or lacks a needed one."""
    if not isinstance(entry, dict) or any(not isinstance(entry.get(f), str | int) for f in needed):
        return {}
    given = (f for f in optional if isinstance(entry.get(f), str | int))
    return {f: str(entry[f]) for f in (*needed, *given)}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _fold(text: str) -> str:
    """Lower case of the same length: str.lower() would move positions after letters such as a dotted I."""
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _check_instruction(instruction: str) -> None:
    if not instruction.strip():
        raise InvalidValue("instruction", instruction, "a text (it is what the method consists of)")
