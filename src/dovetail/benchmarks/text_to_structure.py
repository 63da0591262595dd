"""T2S-Bench: can a model see the graph in a text? Multi-hop multiple choice, and recovering the graph itself.

"T2S-Bench & Structure-of-Thought", arXiv 2603.03790, sect. 3 and app. D; the scorers follow the official
``evaluate_model.py`` (multiple choice) and ``evaluate_structure.py`` (graph). Track ``mr`` asks
multiple-choice questions that need several links. The graph is asked for in two stages, so that scoring is
not ambiguous: names of the nodes given the links (``nodes``), and links given the gold nodes (``links``);
each is a task of its own.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from dovetail.benchmarks.hidden_graphs import (
    LETTERS,
    MOST_LETTERED_LINKS,
    HiddenGraph,
    Wording,
    hidden_graph,
)
from dovetail.core import (
    BadRow,
    Completion,
    Example,
    InvalidValue,
    Score,
    Scorer,
    Task,
)
from dovetail.models.sentences import sentence_embeddings
from dovetail.prompting.structure_of_thought import graph_of, read_json
from dovetail.tasks import extraction
from dovetail.tasks.parameters import converted, named
from dovetail.tasks.scorers.token_f1 import f1 as bag_f1
from dovetail.tasks.scorers.token_f1 import words

Track = Literal["mr", "nodes", "links"]
HIDDEN = "hidden-graph"
SBERT = "sentence-transformers/all-MiniLM-L6-v2"
RULE = "Give the answer as [Answer] A or [Answer] A,C,D, without blanks and with nothing else."
NODES_REQUEST = (
    "The text describes a graph with these links between node ids: {links}\nNode ids: {ids}\n"
    'Give every node a short label from the text. Write [Nodes] and then JSON: {{"nodes": [{{"id": "n1", '
    '"label": "..."}}]}}'
)
LINKS_REQUEST = (
    "The text describes a graph with these nodes: {nodes}\n"
    'Give its links. Write [Links] and then JSON: {{"links": [{{"source": "n1", "target": "n2"}}]}}'
)
Embed = Callable[[Sequence[str]], Any]


# --- scorers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LettersScorer:
    """Exact match of the chosen letters; figure ``f1`` is that of the two sets.

    Parameters
    ----------
    robust: the score counts letters found by `letters` with ``robust``; the strict score is always the
        official rule.
    """

    robust: bool = False

    name = "t2s-mr"
    extraction = "letters A to D after the first [Answer] after thinking"

    def __call__(self, example: Example, completion: Completion) -> Score:
        text = extraction.written(completion) or ""
        official, gold = letters(text), str(example.reference).split(",")
        given = letters(text, robust=True) if self.robust else official
        exact, strict = float(given == gold), float(official == gold)
        return Score(exact, strict, ",".join(given), bool(official), {"f1": set_f1(given, gold)})

    def extract(self, text: str) -> str:
        return ",".join(letters(extraction.after_thinking(text) or "", self.robust))


@dataclass(frozen=True)
class NodesScorer:
    """Mean similarity of the labels given to the gold nodes, matched by id; a missing label counts 0.

    Parameters
    ----------
    embed: texts -> [N, D] vectors (see `models.sentences`), or "words": 1 for equal labels, else overlap of
        words (F1).
    """

    embed: Embed | Literal["words"] = "words"

    name = "t2s-nodes"
    extraction = "JSON after [Nodes] after thinking"

    def __call__(self, example: Example, completion: Completion) -> Score:
        text = extraction.written(completion) or ""
        value = read_json(text, "[Nodes]")
        nodes, _ = graph_of(value)
        given = {n["id"]: n.get("label", "") for n in nodes}
        frame = example.columns["key_frame"]
        score = node_similarity(given, {n["id"]: n["label"] for n in frame["nodes"]}, self.embed)
        shown = json.dumps(given, ensure_ascii=False)[:1000] if given else ""
        return Score(min(max(score, 0.0), 1.0), min(max(score, 0.0), 1.0), shown, bool(value))

    def extract(self, text: str) -> str:
        return json.dumps(read_json(extraction.after_thinking(text) or "", "[Nodes]"), sort_keys=True)


@dataclass(frozen=True)
class LinksScorer:
    """F1 of the directed links between gold nodes; labels and links with unknown ends do not count."""

    name = "t2s-links"
    extraction = "JSON after [Links] after thinking"

    def __call__(self, example: Example, completion: Completion) -> Score:
        text = extraction.written(completion) or ""
        value = read_json(text, "[Links]")
        _, links = graph_of(value)
        frame = example.columns["key_frame"]
        score = link_f1(links, frame["links"], [n["id"] for n in frame["nodes"]])
        shown = " ".join(f"{l['source']}>{l['target']}" for l in links)
        return Score(score, score, shown[:1000], bool(value))

    def extract(self, text: str) -> str:
        return json.dumps(read_json(extraction.after_thinking(text) or "", "[Links]"), sort_keys=True)


_OFFICIAL = re.compile(r"\[answer\]\s*([a-d,\s]+)", re.IGNORECASE)
_ROBUST = re.compile(r"\[answer\][\s:*(]*([a-d](?:\s*(?:,|and|&)\s*[a-d])*)(?![a-z])", re.IGNORECASE)


def letters(text: str, robust: bool = False) -> list[str]:
    """The chosen letters, sorted; [] if there are none. A letter given twice stays twice.

    The official rule takes the run of letters A to D, commas and blanks after the *first* ``[Answer]`` and
    drops what is not a single letter between commas: "[Answer] AB" gives nothing, and a following word can
    spoil the last letter. ``robust`` takes the last ``[Answer]`` with whole letters, and reads "A, B and C".
    """
    if robust:
        found = _ROBUST.findall(text)
        return sorted(set(re.findall(r"\b[A-D]\b", found[-1].upper()))) if found else []
    match = _OFFICIAL.search(text)
    if match is None:
        return []
    parts = re.sub(r"[ \t]", "", match[1]).upper().split(",")
    return sorted(p for p in parts if p in set(LETTERS))


def set_f1(given: Iterable[Any], gold: Iterable[Any]) -> float:
    """F1 of two sets; 1 if both are empty, 0 if one is."""
    a, b = set(given), set(gold)
    if not a or not b:
        return float(a == b)
    return 2 * len(a & b) / (len(a) + len(b))


def link_f1(
    links: Iterable[Mapping[str, str]], gold: Iterable[Mapping[str, str]], ids: Iterable[str]
) -> float:
    """F1 of directed (source, target) pairs; links with ends outside ``ids`` are dropped first."""
    known = set(ids)
    pairs = {(l["source"], l["target"]) for l in links}
    return set_f1(
        {(a, b) for a, b in pairs if a in known and b in known}, {(l["source"], l["target"]) for l in gold}
    )


def node_similarity(given: Mapping[str, str], gold: Mapping[str, str], embed: Embed | str = "words") -> float:
    """Mean over gold ids of the similarity of both labels; a missing or empty label gives 0."""
    if not gold:
        return 1.0
    pairs = [(_label(given.get(id, "")), _label(label)) for id, label in gold.items()]
    told = [(a, b) for a, b in pairs if a and b]
    if not told:
        return 0.0
    if embed == "words":
        return sum(1.0 if a == b else bag_f1(words(a), words(b)) for a, b in told) / len(gold)
    import numpy as np

    assert callable(embed)
    left, right = (np.asarray(embed([p[side] for p in told]), dtype=np.float64) for side in (0, 1))
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.divide((left * right).sum(1), norms, out=np.zeros(len(told)), where=norms > 0)
    return float(cosines.sum() / len(gold))


def _label(text: str) -> str:
    return " ".join(text.lower().split())


# --- items -----------------------------------------------------------------------------------------------


def multiple_choice(values: Mapping[str, Any], pid: str, rule: str = RULE) -> Example:
    """An example of track ``mr`` from a row: columns text, question (with its "Options:" block), answer.

    Raises:
        InvalidValue: no options, no letter in the answer, or a gold letter without an option; names the pid.
    """
    stem, options = split_options(str(values.get("question", "")))
    if not options:
        raise InvalidValue(
            f"question of {pid}", values.get("question"), "followed by Options: and lines A. to D."
        )
    gold = sorted({p.strip().upper() for p in str(values.get("answer", "")).split(",")} & set(LETTERS))
    if not gold:
        raise InvalidValue(f"answer of {pid}", values.get("answer"), "letters A to D, such as A or A,C")
    if missing := [letter for letter in gold if letter not in options]:
        raise InvalidValue(f"answer of {pid}", ",".join(missing), f"among its options {','.join(options)}")
    listed = "\n".join(f"{letter}. {text}" for letter, text in options.items())
    asked = f"{str(values.get('text', '')).strip()}\n\n{stem}\nOptions:\n{listed}"
    kept = {k: v for k, v in values.items() if k not in ("text", "question", "answer")}
    columns = {
        **kept,
        "text": values.get("text", ""),
        "choices": tuple(options.values()),
        "type": "multi" if len(gold) > 1 else "single",
    }
    return Example.ask(pid, f"{asked}\n\n{rule}" if rule else asked, ",".join(gold), **columns)


_OPTIONS_LINE = re.compile(r"^[ \t]*options:[ \t]*$", re.IGNORECASE | re.MULTILINE)
_OPTION = re.compile(r"^[ \t]*([A-D])\.[ \t]*", re.MULTILINE)


def split_options(question: str) -> tuple[str, dict[str, str]]:
    """Question without its options, and the options by letter; an option may run over lines."""
    match = _OPTIONS_LINE.search(question)
    if match is None:
        return question.strip(), {}
    pieces = _OPTION.split(question[match.end() :])
    found = {letter: " ".join(text.split()) for letter, text in zip(pieces[1::2], pieces[2::2], strict=True)}
    return question[: match.start()].strip(), found


def key_frame(value: Any, pid: str) -> dict[str, list[dict[str, str]]]:
    """The gold graph, as an object or as JSON text, checked.

    Raises:
        InvalidValue: not JSON, two nodes of one id, or a link to an id that no node has; names the pid.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidValue(f"key_frame of {pid}", value[:80], "JSON") from None
    nodes, links = graph_of(value)
    ids = [n["id"] for n in nodes]
    if not ids or len(set(ids)) < len(ids):
        raise InvalidValue(f"key_frame of {pid}", ids, "nodes of different ids, at least one")
    for link in links:
        for end in (link["source"], link["target"]):
            if end not in ids:
                raise InvalidValue(f"key_frame of {pid}", end, f"links between its nodes {', '.join(ids)}")
    return {"nodes": [{"label": "", **n} for n in nodes], "links": list(links)}


def graph_stage(text: str, frame: Mapping[str, Any], pid: str, track: Track, **columns: Any) -> Example:
    """An example of track ``nodes`` or ``links``."""
    ids = sorted(n["id"] for n in frame["nodes"])
    if track == "nodes":
        pairs = ", ".join(f"{l['source']} -> {l['target']}" for l in frame["links"])
        request = NODES_REQUEST.format(links=pairs, ids=", ".join(ids))
    else:
        listed = ", ".join(f"{n['id']}: {n['label']}" for n in frame["nodes"])
        request = LINKS_REQUEST.format(nodes=listed)
    return Example.ask(pid, f"{text.strip()}\n\n{request}", None, key_frame=frame, **columns)


# --- the family ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextToStructure:
    """T2S-Bench, or hidden graphs in its format.

    Parameters
    ----------
    track: "mr" (multiple choice), "nodes" or "links" (the two stages of the graph).
    source: "hidden-graph" (built in), a file, or a hub dataset (``hf:T2SBench/T2S-Bench-MR``,
        ``hf:T2SBench/T2S-Bench-E2E``). The official split is by question: most test texts are also in
        the training set, so split by text where you train.
    min_hops, max_hops, sentences, branching: of hidden graphs; hops take turns.
    wording: of hidden graphs: "names" ("Kalo gives to Mira.") or "letters" ("If E then K."), for tiny models.
    kind: question of hidden graphs, "reach" or "fault" (several letters can be right).
    split: "test" or "train": disjoint random streams of hidden graphs.
    rule: the answer format, put after the options; "" for none.
    robust: see `LettersScorer`.
    embed: of track nodes: a sentence-transformers model (the paper's), or "words".
    size: examples of hidden graphs where no limit is given.
    """

    track: Track = "mr"
    source: str = HIDDEN
    min_hops: int = 1
    max_hops: int = 4
    sentences: int = 9
    branching: float = 0.5
    wording: Wording = "names"
    kind: Literal["reach", "fault"] = "reach"
    split: Literal["train", "test"] = "test"
    rule: str = RULE
    robust: bool = False
    embed: str = SBERT
    size: int = 200

    def __post_init__(self) -> None:
        for name, allowed in (
            ("track", ("mr", "nodes", "links")),
            ("kind", ("reach", "fault")),
            ("split", ("train", "test")),
            ("wording", ("names", "letters")),
        ):
            if getattr(self, name) not in allowed:
                raise InvalidValue(name, getattr(self, name), " or ".join(allowed))
        if not 1 <= self.min_hops <= self.max_hops:
            raise InvalidValue("max_hops", self.max_hops, f"at least min_hops ({self.min_hops}), 1 or more")
        if self.max_hops > self.sentences - 3:
            raise InvalidValue("sentences", self.sentences, f"at least max_hops + 3 ({self.max_hops + 3})")
        if self.wording == "letters" and self.sentences > MOST_LETTERED_LINKS:
            raise InvalidValue("sentences", self.sentences, f"at most {MOST_LETTERED_LINKS} with letters")
        if not 0 <= self.branching <= 1:
            raise InvalidValue("branching", self.branching, "from 0 to 1")
        if self.size < 1:
            raise InvalidValue("size", self.size, "at least 1")

    def graphs(self, count: int | None, seed: int) -> list[HiddenGraph]:
        """The first ``count`` hidden graphs under ``seed``; a longer list begins with the shorter one."""
        rng = random.Random(f"hidden-graph-{self.kind}-{self.split}-{seed}")
        spans = range(self.min_hops, self.max_hops + 1)
        return [
            hidden_graph(rng, spans[i % len(spans)], self.sentences, self.branching, self.kind, self.wording)
            for i in range(self.size if count is None else count)
        ]

    def load(self, limit: int | None, seed: int) -> tuple[list[Example], list[BadRow]]:
        """What `dovetail.core.Task` asks for; hidden graphs have the columns ``hops`` and ``key_frame``."""
        if self.source != HIDDEN:
            return self._read(limit)
        prefix = f"t2s-{self.track}" if self.split == "test" else f"t2s-{self.track}-{self.split}"
        return [self.example(g, f"{prefix}-s{seed}-{i}") for i, g in enumerate(self.graphs(limit, seed))], []

    def example(self, graph: HiddenGraph, pid: str) -> Example:
        """A hidden graph as this track asks for it."""
        id_of = {name: f"n{i}" for i, name in enumerate(graph.nodes, 1)}
        frame = {
            "nodes": [{"id": id, "label": name} for name, id in id_of.items()],
            "links": [{"source": id_of[a], "target": id_of[b]} for a, b in graph.links],
        }
        columns = {"hops": graph.hops, "question_class": self.kind, "topic": HIDDEN}
        if self.track != "mr":
            return graph_stage(graph.text, frame, pid, self.track, **columns)
        listed = "\n".join(f"{l}. {name}" for l, name in zip(LETTERS, graph.options, strict=False))
        question = f"{graph.question}\nOptions:\n{listed}"
        values = {
            "text": graph.text,
            "question": question,
            "answer": ",".join(graph.answer),
            "key_frame": frame,
        }
        return multiple_choice(values | columns, pid, self.rule)

    def task(self, name: str | None = None, instruction: str = "", scorer: Scorer | None = None) -> Task:
        """As `dovetail.compare` takes it.

        Raises:
            MissingExtra: track nodes with sentence embeddings, where sentence-transformers is not installed.
        """
        if scorer is None:
            if self.track == "mr":
                scorer = LettersScorer(self.robust)
            elif self.track == "links":
                scorer = LinksScorer()
            else:
                scorer = NodesScorer("words" if self.embed == "words" else sentence_embeddings(self.embed))
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        return Task(name or f"t2s-{self.track}", self.load, scorer, instruction, "t2s 1", settings)

    def _read(self, limit: int | None) -> tuple[list[Example], list[BadRow]]:
        examples: list[Example] = []
        bad: list[BadRow] = []
        for row in _rows(self.source):
            if isinstance(row, BadRow):
                bad.append(row)
                continue
            if limit is not None and len(examples) >= limit:
                break
            pid = str(row.values.get("pid") or f"{self.track}-{row.line}")
            try:
                examples.append(self._from_row(row.values, pid))
            except InvalidValue as error:
                bad.append(BadRow(self.source, row.line, str(error)))
        return examples, bad

    def _from_row(self, values: Mapping[str, Any], pid: str) -> Example:
        if not str(values.get("text") or "").strip():
            raise InvalidValue(f"text of {pid}", values.get("text"), "a text")
        if self.track == "mr":
            return multiple_choice(values, pid, self.rule)
        given = values.get("key_frame") or values.get("reference_frame")
        frame = key_frame(given, pid)
        return graph_stage(str(values["text"]), frame, pid, self.track, topic=values.get("topic", ""))


def _rows(source: str) -> Iterable[Any]:
    if source.startswith("hf:"):
        from dovetail.tasks import hub

        return hub.read(source.removeprefix("hf:"))
    from dovetail.tasks import rows

    rows.check(Path(source))
    return rows.read(Path(source))


def summary(examples: Sequence[Example], scores: Sequence[Score]) -> dict[str, Any]:
    """Official summary of track ``mr``: ``overall``, ``by_class``, ``by_type``, ``by_topic``: em, f1, n each.

    Raises:
        InvalidValue: not one score per example, or none.
    """
    if len(examples) != len(scores) or not examples:
        raise InvalidValue("scores", len(scores), f"one per example ({len(examples)}), at least one")

    def figures(chosen: Sequence[Score]) -> dict[str, float]:
        n = len(chosen)
        return {
            "em": sum(s.value for s in chosen) / n,
            "f1": sum(s.figures["f1"] for s in chosen) / n,
            "n": n,
        }

    parts: dict[str, Any] = {"overall": figures(scores)}
    for name, column in (("by_class", "question_class"), ("by_type", "type"), ("by_topic", "topic")):
        groups: dict[str, list[Score]] = {}
        for example, score in zip(examples, scores, strict=True):
            groups.setdefault(str(example.columns.get(column, "")), []).append(score)
        parts[name] = {group: figures(own) for group, own in groups.items()}
    return parts


def task(
    family: str,
    *,
    instruction: str | None = None,
    scorer: Scorer | None = None,
    name: str | None = None,
    **parameters: Any,
) -> Task:
    """``t2s-mr``, ``t2s-nodes`` or ``t2s-links``; `parameters` are the fields of `TextToStructure`; numbers
    may be given as text.

    Raises:
        UnknownName: there is no such parameter.
        InvalidValue: a parameter has an impossible value.
    """
    parameters = converted(family, TextToStructure(), parameters, fixed="track")
    made = TextToStructure(track=family.removeprefix("t2s-"), **parameters)  # type: ignore[arg-type]
    return made.task(name or named(family, parameters), instruction or "", scorer)
