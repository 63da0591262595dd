"""The part of `Math` that runs in the sandbox; importing it costs most of a second."""

from __future__ import annotations

import logging
import re

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that time limits are left to the caller
_TARGETS = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]


_PI = re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])")
_BARE_FRACTION = re.compile(r"\\[dt]?frac\s*(\\[A-Za-z]+|\d)\s*(\\[A-Za-z]+|\d)")


def equal(reference: str, answer: str) -> bool:
    """Whether math-verify finds ``answer`` equal to ``reference``, both LaTeX or plain, without a box."""
    return bool(verify(_parsed(reference), _parsed(answer), timeout_seconds=None))


def _parsed(text: str) -> list[object]:
    text = text.replace("\\$", "").replace("$", "")
    # Two spellings that the grammar does not know: "pi" without its backslash, and \frac\pi2 without braces.
    text = _PI.sub(r"\\pi", text)
    text = _BARE_FRACTION.sub(r"\\frac{\1}{\2}", text)
    found: list[object] = parse(f"\\boxed{{{text}}}", _TARGETS, parsing_timeout=None)
    return found


# Comparing builds the grammar's automaton and imports half of sympy: forks inherit what this warms up.
_WARM_UP = (
    (r"\frac{1}{2}", r"\frac{2}{4}+0"),
    (r"\left(3, \frac{\pi}{2}\right)", "(3, 1.5)"),
    ("x^2-1", "(x-1)(x+1)"),
    (r"[0,1)\cup\{2\}", "[0,1]"),
    ("y=2x+3", "2x+4"),
    (r"\sqrt{2}", "1.41"),
    ("2^{10}", "3+4i"),
)
for _pair in _WARM_UP:
    equal(*_pair)
