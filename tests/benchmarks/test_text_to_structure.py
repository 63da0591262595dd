"""T2S-Bench: official scoring rules by hand-worked cases, hidden graphs, files, and the door by name."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

import dovetail
from dovetail import benchmarks
from dovetail.benchmarks.hidden_graphs import breadth_first, hidden_graph
from dovetail.benchmarks.text_to_structure import (
    LettersScorer,
    LinksScorer,
    NodesScorer,
    TextToStructure,
    key_frame,
    letters,
    link_f1,
    multiple_choice,
    node_similarity,
    set_f1,
    split_options,
    summary,
)
from dovetail.core import Completion, Example, InvalidValue, MissingExtra, Score, UnknownName

ITEM = {
    "text": "P feeds Q.",
    "question": "What follows P?\noptions:\nA. Q\nB. R\n over two lines\nC. S\nD. T",
    "answer": "C, A",
}


@pytest.mark.parametrize(
    ("text", "official", "robust"),
    [
        ("[Answer] B", ["B"], ["B"]),
        ("[answer]a,c", ["A", "C"], ["A", "C"]),
        ("[Answer] D, A", ["A", "D"], ["A", "D"]),
        ("[Answer] AB", [], []),
        ("[Answer] A, B because", ["A"], ["A", "B"]),
        ("[Answer] A\nBecause", [], ["A"]),
        ("[Answer] A,A", ["A", "A"], ["A"]),
        ("[Answer] A echoed, then [Answer] C", ["A"], ["C"]),
        ("[Answer]: **A, B and C**", [], ["A", "B", "C"]),
        ("the answer is B", [], []),
        ("", [], []),
    ],
)
def test_letters_by_the_official_and_the_robust_rule(text, official, robust):
    assert letters(text) == official
    assert letters(text, robust=True) == robust


def test_a_multiple_choice_item():
    example = multiple_choice(ITEM, "p1", rule="RULE")
    assert example.reference == "A,C"
    assert example.columns["type"] == "multi"
    assert example.columns["choices"] == ("Q", "R over two lines", "S", "T")
    assert example.question.startswith("P feeds Q.\n\nWhat follows P?\nOptions:\nA. Q\nB. R over two lines\n")
    assert example.question.endswith("\n\nRULE")
    assert split_options("no list here") == ("no list here", {})


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"answer": "E"}, "answer of p1"),
        ({"answer": ""}, "answer of p1"),
        ({"question": "What?\nOptions:\nA. Q\nB. R"}, "answer of p1 is 'C'"),
        ({"question": "What follows P?"}, "question of p1"),
    ],
)
def test_impossible_items_are_named(changed, named):
    with pytest.raises(InvalidValue, match=named):
        multiple_choice(ITEM | changed, "p1")


def scored(text: str, robust: bool = False) -> Score:
    return LettersScorer(robust)(multiple_choice(ITEM, "p1"), Completion(text))


def test_exact_match_and_f1():
    assert scored("[Answer] A,C").value == scored("[Answer] A,C").figures["f1"] == 1
    one = scored("[Answer] A")
    assert (one.value, one.parsed, one.answer) == (0, True, "A")
    assert one.figures["f1"] == pytest.approx(2 / 3)
    none = scored("I do not know")
    assert (none.value, none.figures["f1"], none.parsed) == (0, 0, False)
    assert scored("<think>[Answer] B</think>[Answer] A,C").value == 1
    assert scored("<think>[Answer] A,C").value == 0
    assert scored("[Answer] A,A,C").value == 0  # a repeated letter makes it wrong, though the sets are equal
    late = scored("[Answer] B. No: [Answer] A and C", robust=True)
    assert (late.value, late.strict) == (1, 0)
    assert LettersScorer().extract("[Answer] C,A") == "A,C"


def test_all_letters_on_a_single_choice_give_four_tenths():
    assert set_f1("ABCD", "A") == pytest.approx(0.4)
    assert set_f1("", "") == 1
    assert set_f1("A", "") == set_f1("", "A") == 0


def pairs(text: str) -> list[dict[str, str]]:
    return [{"source": a, "target": b} for a, b in (p.split(">") for p in text.split())]


def test_links_are_directed_pairs_between_gold_nodes():
    gold, ids = pairs("a>b b>c"), "abc"
    assert link_f1(gold, gold, ids) == 1
    assert link_f1([{**l, "label": "x"} for l in gold], gold, ids) == 1
    assert link_f1(pairs("b>a c>b"), gold, ids) == 0
    assert link_f1(pairs("a>b b>c z>a b>z"), gold, ids) == 1
    assert link_f1(pairs("a>b a>c"), gold, ids) == pytest.approx(0.5)
    assert link_f1([], [], ids) == 1
    assert link_f1([], gold, ids) == 0


def test_labels_are_compared_by_id():
    gold = {"n1": "Water Pump", "n2": "Filter"}
    assert node_similarity({"n1": " water  pump", "n2": "filter"}, gold) == 1
    assert node_similarity({"n1": "pump"}, gold) == pytest.approx((2 / 3) / 2)
    assert node_similarity({"n1": "", "n9": "filter"}, gold) == 0
    assert node_similarity({}, {}) == 1


def test_embeddings_give_cosines_and_zero_norms_count_zero():
    table = {"a": [1.0, 0.0], "b": [1.0, 1.0], "zero": [0.0, 0.0]}

    def embed(texts):
        return np.array([table[t] for t in texts])

    assert node_similarity({"1": "a", "2": "zero"}, {"1": "b", "2": "a"}, embed) == pytest.approx(
        0.5**0.5 / 2
    )


def test_key_frames_are_checked():
    frame = key_frame('{"nodes": [{"id": "n1"}, {"id": "n2", "label": "x"}], "links": []}', "p")
    assert frame["nodes"] == [{"label": "", "id": "n1"}, {"label": "x", "id": "n2"}]
    for bad, message in (
        ("{", "JSON"),
        ({"nodes": [{"id": "a"}, {"id": "a"}]}, "different ids"),
        ({"nodes": [{"id": "a"}], "links": pairs("a>b")}, "links between its nodes"),
        ({}, "at least one"),
    ):
        with pytest.raises(InvalidValue, match=f"key_frame of p .*{message}"):
            key_frame(bad, "p")


@pytest.mark.parametrize("kind", ["reach", "fault"])
def test_hidden_graphs_have_the_answer_that_they_claim(kind):
    rng = random.Random(kind)
    for i in range(60):
        graph = hidden_graph(rng, 1 + i % 4, 9, 0.6, kind)
        assert len(graph.links) == 9
        assert graph.text.count(" gives to ") == 9
        steps = {graph.start: 0}
        for source, target in breadth_first(graph.links, graph.start):
            steps.setdefault(target, steps[source] + 1)
        right = [
            letter
            for letter, name in zip("ABCD", graph.options, strict=True)
            if (steps.get(name) == graph.hops if kind == "reach" else name in steps)
        ]
        assert list(graph.answer) == right
        assert right
        assert steps[graph.path[-1]] == graph.hops == len(graph.path) - 1
        assert len(set(graph.options)) == 4
    with pytest.raises(InvalidValue, match="hops"):
        hidden_graph(rng, 4, 6)


def test_nodes_named_by_letters():
    graph = hidden_graph(random.Random(0), 4, 18, wording="letters")
    assert graph.text.startswith("If ")
    assert graph.text.count(" then ") == len(set(graph.links)) == 18
    assert all(len(name) == 1 and name not in "ABCDIO" for name in graph.nodes)
    with pytest.raises(InvalidValue, match="links is 19"):
        hidden_graph(random.Random(0), 4, 19, wording="letters")


def test_links_within_reach_nearest_first():
    links = [("b", "c"), ("x", "y"), ("a", "b"), ("a", "d"), ("c", "e")]
    assert breadth_first(links, "a") == [("a", "b"), ("a", "d"), ("b", "c"), ("c", "e")]
    assert breadth_first(links, "a", 1) == [("a", "b"), ("a", "d")]


def test_the_family_by_name_and_its_splits():
    task = dovetail.task("t2s-mr:max_hops=2,size=4,robust=true")
    examples, bad = task.examples()
    assert (len(examples), bad) == (4, [])
    assert [e.columns["hops"] for e in examples] == [1, 2, 1, 2]
    assert task.scorer == LettersScorer(robust=True)
    assert {"t2s-mr", "t2s-nodes", "t2s-links", "atlas-facts"} <= set(benchmarks.known())
    longer = TextToStructure().load(8, 3)[0]
    assert [e.question for e in TextToStructure().load(4, 3)[0]] == [e.question for e in longer[:4]]
    train = TextToStructure(split="train").load(8, 3)[0]
    assert not {e.question for e in train} & {e.question for e in longer}


def test_the_door_still_opens_to_the_floor_below():
    assert dovetail.task("atlas-facts", size=3).name == "atlas-facts:size=3"
    assert dovetail.task(TextToStructure(size=2).task()).name == "t2s-mr"
    with pytest.raises(UnknownName, match="t2s-mr"):
        dovetail.task("t2s-mrr")
    with pytest.raises(UnknownName, match="did you mean max_hops"):
        dovetail.task("t2s-mr", max_hop=3)


@pytest.mark.parametrize(
    "values",
    [
        {"track": "e2e"},
        {"kind": "why"},
        {"split": "dev"},
        {"min_hops": 3, "max_hops": 2},
        {"max_hops": 7},
        {"branching": 1.5},
        {"size": 0},
        {"wording": "words"},
        {"wording": "letters", "sentences": 19},
    ],
)
def test_impossible_parameters_are_named(values):
    with pytest.raises(InvalidValue):
        TextToStructure(**values)


def test_both_stages_of_a_graph_score_their_gold_answer():
    for track in ("nodes", "links"):
        task = TextToStructure(track=track, embed="words", size=2).task()
        example = task.examples()[0][0]
        frame = example.columns["key_frame"]
        gold = Completion(f"Here: [{track.title()}] {json.dumps({track: frame[track]})}")
        assert task.scorer(example, gold).value == 1
        assert task.scorer(example, Completion("no idea")) == Score(0.0, 0.0, "", False)
        assert task.scorer.extract(gold.text) == task.scorer.extract("[x] " + gold.text)
        shown = [n["label"] in example.question.rpartition("\n\n")[2] for n in frame["nodes"]]
        assert all(shown) if track == "links" else not any(shown)
    assert NodesScorer()(example, Completion('[Nodes] {"nodes": [{"id": "n1"}]}')).value == 0
    assert LinksScorer()(example, Completion('[Links] {"links": [{"source": 1}]}')).value == 0


def test_sentence_embeddings_are_an_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"dovetail\[embeddings\]"):
        TextToStructure(track="nodes", embed="never/loaded").task()


def test_a_file_in_the_benchmarks_format(tmp_path):
    rows = [ITEM | {"pid": "p1", "topic": "bio"}, ITEM | {"pid": "p2", "answer": "E"}, {"pid": "p3"}]
    path = tmp_path / "mr.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    examples, bad = TextToStructure(source=str(path)).load(None, 0)
    assert [e.id for e in examples] == ["p1"]
    assert [(b.line, b.reason.split(" is ")[0]) for b in bad] == [(2, "answer of p2"), (3, "text of p3")]
    frames = [
        {"pid": "g1", "text": "a feeds b", "key_frame": {"nodes": [{"id": "n1", "label": "a"}], "links": []}},
        {"pid": "g2", "text": "a feeds b", "key_frame": "not json"},
    ]
    path.write_text("\n".join(map(json.dumps, frames)))
    examples, bad = TextToStructure(track="links", source=str(path)).load(None, 0)
    assert [e.id for e in examples] == ["g1"]
    assert "key_frame of g2" in bad[0].reason


def test_the_official_summary():
    columns = [("x", "single"), ("x", "multi"), ("y", "multi")]
    examples = [Example.ask(str(i), "?", "A", question_class=c, type=t) for i, (c, t) in enumerate(columns)]
    scores = [Score(v, v, figures={"f1": f}) for v, f in ((1, 1.0), (0, 0.5), (0, 0.0))]
    found = summary(examples, scores)
    assert found["overall"] == {"em": pytest.approx(1 / 3), "f1": 0.5, "n": 3}
    assert found["by_class"] == {"x": {"em": 0.5, "f1": 0.75, "n": 2}, "y": {"em": 0, "f1": 0, "n": 1}}
    assert found["by_type"]["multi"] == {"em": 0, "f1": 0.25, "n": 2}
    with pytest.raises(InvalidValue, match="one per example"):
        summary(examples, scores[:1])
