"""What the start practises and what the recipe computes, by hand."""

from __future__ import annotations

import random

import pytest

from dovetail.audits.behaviours import ELICITED, keywords
from dovetail.recipes.prior_prompt import NONE, PROMPTS, STYLES, Replies, claims, document, heat_map, written
from dovetail.rewards.tagged_format import ppe_reward

EQUATIONS = ("12+30=42", "42-7=35")


@pytest.mark.parametrize("style", STYLES)
def test_each_way_of_writing_has_its_own_markers_alone(style: str) -> None:
    text = written(style, EQUATIONS, "35", random.Random(0))
    assert ppe_reward(text, "35", style, "numeric") == 1
    assert [s for s in ELICITED if keywords(text, s)] == [style]


def test_a_plan_tells_the_changes_in_order() -> None:
    text = written("plan", ("-3+30=27", "27-7=20"), "20", random.Random(0))
    assert text.startswith("<plan>\n1. +30\n2. -7\n-3+30=27\n27-7=20\n</plan>")
    down = written("plan", ("-3-4=-7",), "-7", random.Random(0))
    assert "1. -4\n" in down


def test_what_the_start_practises() -> None:
    rng = random.Random(0)
    made = [document(rng, "plan") for _ in range(400)]
    assert {m.messages[-1]["content"].partition("\n")[0] for m in made} == {PROMPTS["plan"].text}
    shares = {
        kind: sum(m.family == kind for m in made) / 400 for kind in ("own", "other", "direct", "broken")
    }
    assert shares == pytest.approx({"own": 0.4, "other": 0.2, "direct": 0.25, "broken": 0.15}, abs=0.06)
    formed = [ppe_reward(m.completion, "x", "plan", "exact") == 0.5 for m in made]
    assert sum(formed) == sum(m.family == "own" for m in made)
    bare = [document(rng, NONE) for _ in range(50)]
    assert {m.family for m in bare} == {"other", "direct"}
    assert not any("Reply as" in m.messages[-1]["content"] for m in bare)


def arm(style: str, right: int, own: int, n: int = 100) -> Replies:
    """The first ones right; the first ``own`` in the style, one of them without the format, the rest with
    another's markers."""
    good = written(style, EQUATIONS, "35", random.Random(0)) if style != NONE else "35"
    other = "Fact: 1" if style != "knowledge" else "Example: 1"
    texts = [good] * (own - 1) + [good.removesuffix(">")] * (own > 0) + [other] * (n - own)
    return Replies(style, [[1.0] * right + [0.0] * (n - right)] * 2, [[10] * n] * 2, [texts] * 2)


def test_verdicts_follow_from_the_replies() -> None:
    good = {f"iPE {s}": arm(s, 20, 40) for s in PROMPTS} | {f"pPE {s}": arm(s, 60, 98) for s in PROMPTS}
    good |= {"pPE none": arm(NONE, 40, 0), "pPE examples": arm("examples", 80, 98)}
    made = claims(good, 0)
    assert [c.verdict for c in made] == ["holds"] * 10
    assert [c.main for c in made] == [True, *[False] * 5, True, True, False, False]
    assert made[0].measured == pytest.approx(0.44)
    assert made[6].measured == pytest.approx(0.97)
    assert made[7].measured == pytest.approx(0.98)
    assert made[7].baseline == pytest.approx(0.4)
    bad = {f"iPE {s}": arm(s, 60, 40) for s in PROMPTS} | {f"pPE {s}": arm(s, 30, 40) for s in PROMPTS}
    bad |= {"pPE none": arm(NONE, 90, 0), "pPE examples": arm("examples", 5, 40)}
    assert [c.verdict for c in claims(bad, 0)] == ["fails"] * 10


def test_the_heat_map_is_a_share_per_arm_and_behaviour() -> None:
    found = heat_map({"iPE plan": arm("plan", 1, 25)})
    assert found["arms"] == ["iPE plan"]
    shares = dict(zip(found["behaviours"], found["share"][0], strict=True))
    assert (shares["plan"], shares["knowledge"], shares["code"]) == (0.25, 0.75, 0.0)
