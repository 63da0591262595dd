"""Tagged format: one block in a style's tags, then one block in answer tags, and nothing else.

The format part of the reward of "Prior Prompt Engineering for Reinforcement Fine-Tuning" (arXiv 2505.14157),
after open-r1's; the other part is `Correct`, half of the reward each. Unlike open-r1's it asks that both
blocks hold something: an empty one would be paid for reasoning that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core import Completion, Example, InvalidValue, Scorer
from dovetail.prompting.prior_prompts import ANSWER, NONE, check_tag
from dovetail.rewards.base import Batch, Reward
from dovetail.tasks.scorers import scorer as scorer_of

#: The paper's weights of accuracy and format.
WEIGHTS = (0.5, 0.5)


@dataclass(frozen=True)
class TaggedFormat(Reward):
    """1 for ``<style>...</style> <answer>...</answer>``, both with something in them, else 0.

    Attributes:
        style: the tag; that of the `PriorPrompt` that the questions are put with. "none" asks for no format,
            and is never paid.
        blank: whether empty blocks will do.
    """

    style: str = "think"
    blank: bool = False

    name = "tagged-format"

    def __post_init__(self) -> None:
        check_tag("style", self.style)

    def pay(self, batch: Batch) -> Sequence[float]:
        rows = zip(batch.texts, batch.opened, strict=True)
        return [float(self.holds(opened + text)) for text, opened in rows]

    def holds(self, text: str) -> bool:
        """Whether a text has the format; linear in its length."""
        if self.style == NONE:
            return False
        rest, pieces = text, []
        for tag in (f"<{self.style}>", f"</{self.style}>", f"<{ANSWER}>", f"</{ANSWER}>"):
            if text.count(tag) != 1:
                return False
            before, found, rest = rest.partition(tag)
            if not found:  # the tags are there, in another order
                return False
            pieces.append(before.strip())
        front, reasoning, between, answer = pieces
        return not (front or between or rest.strip()) and (self.blank or bool(reasoning and answer))


def ppe_reward(response: str, gold: str, style: str, scorer: str | Scorer = "math") -> float:
    """The paper's reward of one response: 0.5 for a right boxed answer, wherever the box stands, and 0.5 for
    the format; with style "none" the first alone."""
    right, formed = WEIGHTS
    score = scorer_of(scorer)(Example.ask("", "", gold), Completion(response))
    return right * (score.strict >= 1) + formed * TaggedFormat(style).holds(response)


def check_golds(examples: Sequence[Example], scorer: str | Scorer = "math") -> None:
    """Refuses references that the scorer does not take for right even as the answer itself: math-verify
    cannot read every gold, and a question with such a one pays nobody.

    Raises:
        InvalidValue: names the first such example, and says how many there are.
    """
    judge = scorer_of(scorer)
    bad = [
        e
        for e in examples
        if e.reference is None or judge(e, Completion(f"\\boxed{{{e.reference}}}")).strict < 1
    ]
    if bad:
        expected = f"an answer that {judge.name} can read ({len(bad)} of {len(examples)} are not)"
        raise InvalidValue(f"reference of {bad[0].id}", bad[0].reference, expected)
