"""Has a language model take the answer out of a question: what it is asked, and how its reply is read.

The prompt is built as that of "The Hallucination Tax of Reinforcement Finetuning" (arXiv 2505.13988), whose
words were not published with it: a role, five criteria, an example of each, rules, the question, JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dovetail.training.data.unanswerable_rules import CRITERIA

_TELLTALE = ("unspecified", "unknown", "missing", "not given", "undefined", "unclear")

_PROMPT = """You make mathematics questions unanswerable while they stay plausible.

Use one or more of these criteria:
{criteria}

Examples:
{examples}

Rules:
- The modified question must not be answerable. Try to solve it; if you can, modify it again.
- Change as little as possible, and keep the style of the original.
- Do not use words that give it away, such as unspecified, unknown or missing.
- If the question is not suitable, reply with: I can't.

Question:
{question}

Reply with JSON: {{"original_question": "...", "modified_question": "..."}}"""

# Own examples after the paper's patterns, one for each criterion.
_EXAMPLES = {
    "deletion": (
        "A train goes 120 km in 2 hours. How fast is it?",
        "A train goes some way in 2 hours. How fast is it?",
    ),
    "ambiguous": (
        "Mia reads 20 pages a day. How many does she read in 5 days?",
        "Mia reads more than 20 pages a day. How many does she read in 5 days?",
    ),
    "unrealistic": (
        "A bus leaves every 30 minutes. How many leave in 3 hours?",
        "A bus leaves every 0 minutes. How many leave in 3 hours?",
    ),
    "unrelated": (
        "Tom has 8 pens and gives away 3. How many does Tom have?",
        "Tom has 8 pens and gives away 3. How many does Nora have?",
    ),
    "cut": (
        "A garden is 6 m by 4 m. What is its area?",
        "A garden is 6 m by 4 m. What is?",
    ),
}


@dataclass(frozen=True)
class Rewritten:
    """A question and its unanswerable variant, as the published data set names them."""

    original_question: str
    modified_question: str


class Declined(ValueError):
    """A rewriter gave no usable variant; the message says why, in few words that can be counted."""


def rewriting_prompt(question: str, criteria: Sequence[str] = tuple(CRITERIA)) -> str:
    """What a rewriting model is asked: role, criteria, an example of each, rules, question, format."""
    told = "\n".join(f"- {CRITERIA[c]}" for c in criteria)
    shown = "\n".join(
        f'{{"original_question": "{_EXAMPLES[c][0]}", "modified_question": "{_EXAMPLES[c][1]}"}}'
        for c in criteria
    )
    return _PROMPT.format(criteria=told, examples=shown, question=question)


def make_unanswerable(
    question: str, rewriter: Callable[[str], str], criteria: Sequence[str] = tuple(CRITERIA)
) -> Rewritten | None:
    """A model's unanswerable variant of a question; None where it declined or gave none that can be used."""
    try:
        return reply_of(question, rewriter(rewriting_prompt(question, criteria)))
    except Declined:
        return None


def reply_of(question: str, reply: str) -> Rewritten:
    """What a rewriting model replied.

    Raises:
        Declined: it declined, changed nothing, or used a word that gives the answer's absence away.
    """
    modified = next((found for found in _modified(reply)), None)
    if modified is None:
        raise Declined("declined or no JSON")
    if " ".join(modified.split()).casefold() == " ".join(question.split()).casefold():
        raise Declined("unchanged")
    for word in _TELLTALE:
        if word in modified.casefold() and word not in question.casefold():
            raise Declined("gives itself away")
    return Rewritten(question, modified)


def _modified(reply: str) -> Iterator[str]:
    decoder, at = json.JSONDecoder(), reply.find("{")
    for _ in range(20):  # a reply has few objects; a hostile one may have thousands of braces
        if at < 0:
            return
        try:
            found, _ = decoder.raw_decode(reply, at)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            modified = found.get("modified_question")
            if isinstance(modified, str) and modified.strip():
                yield modified.strip()
        at = reply.find("{", at + 1)
