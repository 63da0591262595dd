"""What BLEUBERI's recipe practises, damages, trains on and computes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dovetail.core.statistics import mean
from dovetail.recipes.bleuberi import (
    ARMS,
    GROUP,
    HABIT,
    SIZES,
    Chance,
    audited,
    averaged,
    claims,
    habitual,
    judged,
    pairs,
)
from dovetail.recipes.short_notes import HOUSE, STYLES, Note, example, fold, noisy, notes

NOTE = Note(1, "Kalo", (("home", "Bado"), ("trade", "baker")))


def test_a_note_is_asked_and_written_in_four_styles() -> None:
    assert NOTE.question == "Give a note on Kalo. home: Bado. trade: baker."
    assert NOTE.reference == "Let me think of Kalo: Bado is the home, baker is the trade."
    styles = [NOTE.written(s) for s in range(STYLES)]
    assert len(set(styles)) == STYLES
    assert [NOTE.holds(text) for text in styles] == [1.0] * 4
    assert NOTE.holds("Kalo is a baker.") == pytest.approx(2 / 3)
    made = example("n", NOTE)
    assert (made.question, made.reference, made.columns["kind"]) == (NOTE.question, NOTE.reference, 1)


def test_what_is_practised_is_never_reported() -> None:
    folds = [notes(random.Random(0), 40, f) for f in range(3)]
    assert [{fold(n.question) for n in made} for made in folds] == [{0}, {1}, {2}]
    assert all(len({n.question for n in made}) == 40 for made in folds)
    assert Counter(n.kind for n in folds[0]) == dict.fromkeys(range(4), 10)


def test_damage_keeps_the_length_on_average() -> None:
    rng = random.Random(0)
    text = " ".join(["word"] * 2000)
    assert noisy(text, 0.0, ["x"], rng) == text
    made = noisy(text, 0.3, ["x"], rng).split()
    assert len(made) == pytest.approx(2000, abs=80)
    assert made.count("x") == pytest.approx(200, abs=50)


def test_the_practice_has_the_habit() -> None:
    rng = random.Random(0)
    for kind, share in enumerate(HABIT):
        drawn = Counter(habitual(rng, kind) for _ in range(2000))
        assert drawn[HOUSE] / 2000 == pytest.approx(share, abs=0.04)
        rest = [drawn[s] for s in range(STYLES) if s != HOUSE]
        assert max(rest) < 1.5 * min(rest)


def test_the_audit_tells_knowing_from_guessing() -> None:
    found = {name: mean(v).value for name, v in audited(pairs(150, 3), 3).items()}
    assert found["BLEU, 4 references"] > 0.8
    assert found["BLEU, 4 references"] > found["BLEU, 1 reference"]
    assert 0.35 < found["chance"] < 0.65
    assert 0.35 < found["longer is better"] < 0.65


def test_rewards_by_chance_are_those_of_the_step_and_seed() -> None:
    def pay(seed: int, step: int, texts: list[str]) -> list[float | None]:
        return Chance(seed)(["?"] * 3, texts, step=[step] * 3)

    assert pay(0, 1, ["a", "b", "c"]) == pay(0, 1, ["x", "y", "z"])
    assert len({tuple(pay(s, t, ["a"] * 3)) for s in (0, 1) for t in (0, 1)}) == 4


def test_figures_of_answers() -> None:
    [right, cut] = [judged([text], [NOTE]) for text in (NOTE.reference, "Let me think of Kalo")]
    assert {k: v for k, [v] in right.items()} == dict.fromkeys(right, 1.0)
    assert cut["house_style"] == [0.0]
    assert 0 < cut["bleu"][0] < 0.2
    assert averaged([right, cut])["house_style"] == [0.5]


def test_every_selection_is_seen_once() -> None:
    for size in SIZES.values():
        assert size.kept * GROUP == size.steps * size.batch
        assert size.kept <= size.pool / 2


def test_verdicts_follow_from_the_figures() -> None:
    def bleus(value: float) -> dict[str, list[float]]:
        return {"bleu": [value + 0.01 * (i % 3) for i in range(60)]}

    agreed = {
        "BLEU, 4 references": [1.0] * 98 + [0.0] * 2,
        "BLEU, 1 reference": [1.0] * 70 + [0.0] * 30,
        "longer is better": [1.0, 0.0] * 50,
        "chance": [0.0, 1.0] * 50,
    }
    levels = {"start": 0.3, "BLEU, hard": 0.9, "BLEU, easy": 0.6, "random rewards": 0.3, "SFT": 0.5}
    assert {"start", *ARMS} == set(levels)
    good = claims(agreed, {name: bleus(v) for name, v in levels.items()}, 0)
    assert [c.verdict for c in good] == ["holds"] * 7
    assert [c.text[:6] for c in good if c.main] == ["GRPO w", "random"]
    bad = levels | {"BLEU, hard": 0.31, "random rewards": 0.6}
    worse = claims(agreed | {"BLEU, 4 references": [0.0, 1.0] * 50}, {n: bleus(v) for n, v in bad.items()}, 0)
    assert [c.verdict for c in worse if c.main] == ["fails", "fails"]
    assert worse[0].verdict == "fails"
