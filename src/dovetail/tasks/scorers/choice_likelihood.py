"""ChoiceLikelihood: the choice that the model finds most likely after the question; nothing is generated.

The comparison sees that the scorer has `continuations`, asks the engine for
``engine.loglikelihood(prompts, continuations) -> list[float]``, and passes the completion that `choose`
makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core import Completion, Cost, Example, Score, Unsupported
from dovetail.tasks import extraction
from dovetail.tasks.scorers.answer import references
from dovetail.tasks.scorers.multiple_choice import choices


@dataclass(frozen=True)
class ChoiceLikelihood:
    """1 if the right choice is the likeliest, else 0.

    Strict and lenient score are equal: nothing has to be parsed. Figures: ``by_sum`` and ``by_byte``, the
    accuracy under both rankings (``acc`` and ``acc_norm`` of EleutherAI's evaluation harness).

    Parameters
    ----------
    per_byte: rank by log-likelihood per UTF-8 byte, so that long choices are not at a disadvantage; False
        ranks by the sum.
    prefix: put before every choice, such as a space for models that continue plain text.
    """

    per_byte: bool = True
    prefix: str = ""

    name = "likelihood"
    extraction = "the choice with the highest log-likelihood as continuation of the question"

    def continuations(self, example: Example) -> tuple[str, ...]:
        """The texts whose log-likelihood decides, in the order of the choices.

        Raises:
            Unsupported: the example has no choices.
        """
        found = choices(example)
        if not found:
            raise Unsupported(f"example {example.id} has no choices: name their column, choices=COLUMN")
        return tuple(self.prefix + choice for choice in found)

    def choose(
        self, example: Example, loglikelihoods: Sequence[float], cost: Cost | None = None
    ) -> Completion:
        """The completion that stands for the likeliest choice (nats, in the order of `continuations`)."""
        texts = self.continuations(example)
        if len(loglikelihoods) != len(texts):
            raise ValueError(
                f"{len(loglikelihoods)} log-likelihoods for the {len(texts)} choices of {example.id}"
            )
        best = self._best(texts, loglikelihoods, self.per_byte)
        columns = {"loglikelihoods": [float(l) for l in loglikelihoods]}
        return Completion(texts[best], cost=cost or Cost(), columns=columns)

    def __call__(self, example: Example, completion: Completion) -> Score:
        found = completion.columns.get("loglikelihoods")
        if found is None:
            raise Unsupported(
                "choices are judged by likelihood, not by a written answer: use scorer='choice' for that"
            )
        texts, right = self.continuations(example), references(example)
        by_sum, by_byte = (chr(ord("A") + self._best(texts, found, per_byte)) for per_byte in (False, True))
        chosen = by_byte if self.per_byte else by_sum
        figures = {"by_sum": float(by_sum in right), "by_byte": float(by_byte in right)}
        return Score(float(chosen in right), float(chosen in right), chosen, True, figures)

    def extract(self, text: str) -> str:
        return extraction.plain(text)

    @staticmethod
    def _best(texts: Sequence[str], loglikelihoods: Sequence[float], per_byte: bool) -> int:
        lengths = [max(len(t.encode(errors="replace")), 1) if per_byte else 1 for t in texts]
        scores = [float(l) / n for l, n in zip(loglikelihoods, lengths, strict=True)]
        return max(range(len(scores)), key=scores.__getitem__)
