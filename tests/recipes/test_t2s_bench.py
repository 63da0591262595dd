"""T2S-Bench's recipe: what is taught in each way of answering is right, and equally much of it."""

from __future__ import annotations

from collections import Counter

import pytest

from dovetail.benchmarks.hidden_graphs import breadth_first
from dovetail.benchmarks.text_to_structure import letters
from dovetail.prompting.structure_of_thought import parse_sot
from dovetail.recipes.t2s_bench import ARMS, BENCHMARK, HOPS, completion, documents, growth


@pytest.mark.parametrize("graph", BENCHMARK.graphs(8, seed=3), ids=lambda g: f"{g.hops} hops")
def test_every_way_of_answering_ends_in_the_answer(graph):
    for arm in ARMS:
        assert letters(completion(arm, graph)) == list(graph.answer)
    drawn = parse_sot(completion("structure-of-thought", graph))
    within = breadth_first(graph.links, graph.start, graph.hops)
    assert [(l["source"], l["target"]) for l in drawn.links] == within
    assert completion("chain-of-thought", graph).count(", so ") == graph.hops
    assert completion("direct", graph) == f"[Answer] {graph.answer[0]}"


def test_every_arm_is_taught_the_same_questions():
    made = documents(8, seed=0)
    assert Counter(d.family for d in made) == dict.fromkeys(ARMS, 8)
    texts = {
        arm: [d.messages[-1]["content"].split("\n\n")[0] for d in made if d.family == arm] for arm in ARMS
    }
    assert texts["direct"] == texts["chain-of-thought"] == texts["structure-of-thought"]
    asked = {e.columns["text"] for e in BENCHMARK.load(8, 0)[0]}
    assert not asked & set(texts["direct"])


def test_a_gap_that_grows_and_one_that_does_not():
    sot = {h: [1.0] * 40 for h in HOPS}
    falling = {1: [1.0] * 40, 2: [1.0] * 40, 3: [0.0] * 40, 4: [0.0] * 40}
    assert growth("x", sot, falling, 0).verdict == "holds"
    assert growth("x", falling, sot, 0).verdict == "fails"
