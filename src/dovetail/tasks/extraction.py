"""Finds the answer in what a model wrote. Every function here is linear in the text and never raises.

The order, for all scorers: thinking is cut off (`after_thinking`); the asked-for format is the last
`\\boxed{}` (`boxed`); the lenient fallbacks are GSM8K's ``#### 18``, ``<answer>18</answer>`` and ``the answer
is 18`` (`announced`), then the last number (`last_number`) or the last line (`last_line`).
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from dovetail.core import Completion

THINKING_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
)
TAIL = 2000  # characters at the end of a text that the last number or line is looked for in


def written(completion: Completion) -> str | None:
    """The completion's text after its thinking; None if it opened thinking and did not close it.

    Where the chat template opened the thinking, the method says so in the completion's column
    ``assistant_prefix`` (`Prompt.assistant_prefix`), since the written text then has no opening mark.
    """
    return after_thinking(str(completion.columns.get("assistant_prefix", "")) + completion.text)


def after_thinking(text: str) -> str | None:
    """The text after the last closed thinking; all of it if there is no thinking; None if thinking is still
    open.

    >>> after_thinking("<think>2+2 is \\\\boxed{5}? no</think>4")
    '4'
    >>> after_thinking("<think>so it is 4") is None
    True
    """
    end = 0
    for opening, closing in THINKING_MARKS:
        closed, opened = text.rfind(closing), text.rfind(opening)
        if opened > closed:
            return None
        if closed >= 0:
            end = max(end, closed + len(closing))
    return clean(text[end:])


# Line and paragraph controls stay; invisible format characters (bidi marks, zero-width spaces) only mislead.
_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u200a\u202f"), " ")
_SIGNS = dict.fromkeys(map(ord, "\u2212\ufe63\uff0d"), "-")


def clean(text: str) -> str:
    """Drops invisible format characters and lone surrogates; makes odd spaces and minus signs plain."""
    if text.isascii():
        return text
    text = text.translate(_SPACES | _SIGNS)
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cs"))


# One or two backslashes before the word (models escape it at times); then escaped characters, then braces.
_BRACES = re.compile(r"(?P<box>\\\\?(?:boxed|fbox)\s{0,8}\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)


def boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}`` whose braces balance; None if there is none or it is blank.

    Of nested boxes the innermost counts. Escaped braces (``\\{``) are LaTeX text and open nothing.

    >>> boxed(r"\\boxed{1} so \\boxed{\\frac{1}{2}}, see \\boxed{")
    '\\\\frac{1}{2}'
    """
    if "box" not in text:
        return None
    open_braces: list[int] = []  # start of the content for a box, -1 for any other brace
    best: tuple[int, int] | None = None
    for match in _BRACES.finditer(text):
        if match["box"]:
            open_braces.append(match.end())
        elif match["open"]:
            open_braces.append(-1)
        elif match["close"] and open_braces:
            start = open_braces.pop()
            if start >= 0 and (best is None or start > best[0]) and text[start : match.start()].strip():
                best = (start, match.start())
    return None if best is None else text[best[0] : best[1]].strip()


_HASHES = re.compile(r"####[ \t]*([^\n]{1,500})")
_PHRASE = re.compile(
    r"(?i)\banswer\b[\"'*_]{0,4}(?:[ \t]{1,3}(?:is|are|was)\b|[ \t]{0,3}[:=])[ \t:*_]{0,8}([^\n]{1,500})"
)


def announced(text: str) -> str | None:
    """An answer that the text announces outside a box: ``#### 18``, ``<answer>18</answer>``, ``the answer is
    18``.

    The last of each kind, the kinds in this order; None if there is none.
    """
    if found := _last(_HASHES, text):
        return found
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    if end >= 0 and start >= 0 and (inner := text[start + len("<answer>") : end].strip()):
        return inner
    if found := _last(_PHRASE, text):
        # "18. This is because ..." ends with the sentence, "3.5" does not
        return tidy(re.split(r"[.!?]\s", found, maxsplit=1)[0])
    return None


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = None
    for match in pattern.finditer(text):
        if inner := tidy(match[1]):
            found = inner
    return found


def last_line(text: str) -> str:
    """The last line that is not blank, within the last `TAIL` characters; "" if there is none."""
    lines = [line for line in text[-TAIL:].splitlines() if line.strip()]
    return tidy(lines[-1]) if lines else ""


_NUMBER = re.compile(
    r"(?:(?<![\w)\]}$.])[-+]\s?)?(?<![A-Za-z_\d.])"
    r"(?:\d{1,3}(?:,\d{3}){1,30}(?![\d])|\d+)?(?:(?<=\d)\.\d+|(?<!\d)\.\d+)?(?<=\d)"
    r"(?:[eE][-+]?\d{1,3}(?!\w))?(?:\s?/\s?\d+(?![\d.]))?"
)


def last_number(text: str) -> str | None:
    """The last number (``1,234``, ``-3.5``, ``2/3``, ``1e-3``) in the last `TAIL` characters, or None."""
    found = numbers(text[-TAIL:])
    return found[-1] if found else None


def numbers(text: str) -> list[str]:
    """All numbers in the text as written, without currency signs (``-$5`` is ``-5``)."""
    return [
        m[0].replace(" ", "")
        for m in _NUMBER.finditer(_ascii_digits(text).replace("\\$", "$").replace("$", ""))
    ]


def number_in(answer: str) -> str | None:
    """The number that a phrase states: the first after its last ``=``, or the first at all."""
    for part in (answer.rpartition("=")[2], answer):
        if found := numbers(part):
            return found[0]
    return None


_NOISE = re.compile(
    r"\\[!,;: $]|\\left|\\right|\\(?:text|mathrm)\s?\{[^{}]*\}(?:\^\s?\{?\d\}?)?"
    r"|\^\s?\{?\\circ\}?|[$°€£¥₹]"
)
_FRACTION = re.compile(r"\\[dt]?frac\s?(?:\{\s?(-?\d+)\s?\}\s?\{\s?(\d+)\s?\}|(\d)(\d)(?!\d))")
_MAX_NUMBER = 1000  # characters; longer ones are compared as text


_UNIT = re.compile(
    r"(?:\s*(?:[kcmn]?m|k?g|mg|m?l|s|h|hrs?|min|mph|ft|in|lbs?|oz|th|st|nd|rd|am|pm)\b|\s+[A-Za-z]{2,})"
    r"(?:[\s/,.'()-]{1,3}[A-Za-z]{1,30}){0,20}[\s.)]{0,3}"
)
_FUNCTION = re.compile(r"\s*(?:pi|mod|sin|cos|tan|log|ln|exp|sqrt|or|and|to)\b")


def number(answer: str, units: bool = True) -> Fraction | None:
    """The exact value of an answer that states one number, else None.

    Understands signs, thousands separators, decimals, fractions (``3/4``, ``\\frac{3}{4}``), exponents,
    currency signs, a percent sign (``18%`` is 18) and a name before it (``x = 18``). An expression (``2+3``,
    ``2x``, ``2^{10}``, ``\\sqrt{2}``) is not a number, and neither is ``Apollo 11``.

    Args:
        answer: what was extracted.
        units: whether a unit may follow (``18 dollars``). Not for references: ``12 Monkeys`` is no number.

    >>> number(r"\\$1,250.50"), number("x = 18 eggs"), number("2 + 3")
    (Fraction(2501, 2), Fraction(18, 1), None)
    """
    if len(answer) > _MAX_NUMBER:
        return None
    text = tidy(clean(answer)).replace("{,}", ",").replace("\\%", "%")
    text = _FRACTION.sub(lambda m: f"{m[1] or m[3]}/{m[2] or m[4]}", text)
    text = _ascii_digits(_NOISE.sub(" ", text))
    name, _, stated = text.rpartition("=")
    if "," not in name:  # "n = 5, m = 6" states two numbers
        text = stated
    text = text.strip().removeprefix("(").lstrip()
    match = _NUMBER.match(text)
    if match is None:
        return None
    rest = text[match.end() :].rstrip(" .)")
    rest = rest.removeprefix("%").rstrip()
    if rest and not (units and _UNIT.fullmatch(rest) and not _FUNCTION.match(rest)):
        return None
    value = match[0].replace(",", "").replace(" ", "").lstrip("+")
    try:
        top, _, bottom = value.partition("/")
        return Fraction(top) / Fraction(bottom or 1)
    except (ValueError, ZeroDivisionError):
        return None


def canonical(answer: str) -> str:
    """One spelling per value: votes for ``18``, ``18.0`` and ``$18`` are votes for the same answer."""
    value = number(answer)
    if value is None:
        return answer
    scaled, places = value, 0
    while scaled.denominator != 1 and places < 12:
        scaled, places = scaled * 10, places + 1
    if scaled.denominator != 1 or len(str(scaled)) > 40:
        return str(value) if len(str(value)) <= 40 else answer
    digits = f"{abs(scaled.numerator):0{places + 1}d}"
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def _ascii_digits(text: str) -> str:
    """Digits of other scripts (full-width, Arabic) as ASCII ones."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in text)


_WRAPS = (
    ("**", "**"),
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("`", "`"),
    ('"', '"'),
    ("\\text{", "}"),
)


def tidy(answer: str) -> str:
    """Strips what surrounds an answer: spaces, ``**``, ``$``, quotes, a final full stop."""
    answer = answer.strip()
    for _ in range(8):
        before = answer
        answer = answer.rstrip(".,;:!").strip() if not answer.endswith("\\!") else answer
        for opening, closing in _WRAPS:
            inner = answer[len(opening) : len(answer) - len(closing)]
            if answer.startswith(opening) and answer.endswith(closing) and inner and closing not in inner:
                answer = inner.strip()
        if answer.endswith("**") and answer.count("**") == 1:
            answer = answer[:-2]
        if answer == before:
            break
    return answer


_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|operatorname)\s?\{([^{}]*)\}")


def plain(answer: str) -> str:
    """An answer as words: without LaTeX text commands, spaces collapsed, case folded, ends tidied."""
    answer = _TEXT.sub(r"\1", clean(answer)).replace("\\ ", " ").replace("~", " ").replace("’", "'")
    return " ".join(tidy(answer).casefold().split())


_LETTER = re.compile(r"^\W{0,3}([A-Za-z])(?:[).:,\]]|\W*$)")
_OPTION = re.compile(r"\b(?:[Oo]ption|[Cc]hoice)[ \t]{1,3}\W{0,3}([A-Z])\b")
_BRACKETED = re.compile(r"\(([A-Z])\)")


def letter(answer: str) -> str | None:
    """The letter that an answer states (``B``, ``(b)``, ``B. Paris``, ``option B``), upper case; or None."""
    answer = tidy(_TEXT.sub(r"\1", answer))[:500]
    if match := _LETTER.match(answer):
        return match[1].upper()
    found = _OPTION.findall(answer) or _BRACKETED.findall(answer)
    return found[-1] if found else None
