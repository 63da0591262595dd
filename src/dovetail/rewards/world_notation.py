"""How a difference between two states is written: as JSON, or in lines that a small model can afford.

Reading follows the official order (RLVR-World, arXiv 2505.13934): what stands behind the last cue phrase,
else the last fenced block, else all of it; Python's literals and broken JSON are mended. In lines, every
changed object is written whole, ``chest open=yes locked=no: egg, pen``, and a removed one as ``egg is gone``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from dovetail.rewards.world_state import State

_CUES = re.compile(r"[Tt]he final (?:answer|state|game state) is:")
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_WORD = re.compile("|".join(_WORDS))
_LONGEST = 20_000  # characters of a difference; a longer one is no answer

NOTHING = "nothing changes"
_TRUTH = {"yes": True, "no": False}
_TRUTH_NAMES = {True: "yes", False: "no"}
_GONE = " is gone"
_EMPTY = "empty"


def read_json(text: str) -> dict[str, Any]:
    """The difference in a response.

    Raises:
        ValueError, RecursionError: there is none that can be mended.
    """
    given = _given(text)
    try:
        found = json.loads(given)
    except ValueError:
        found = json.loads(mended(given))
    if not isinstance(found, dict):
        raise ValueError("a difference is a JSON object")
    return found


def _given(text: str) -> str:
    cues = list(_CUES.finditer(text))
    after = text[cues[-1].end() :] if cues else text
    blocks = [b for b in _FENCE.findall(after) if len(b.strip()) >= 10]
    given = (blocks[-1] if blocks else after).strip()
    if len(given) > _LONGEST:
        raise ValueError("the difference is too long")
    return given


def mended(text: str) -> str:
    """JSON from what is nearly JSON: text around the outermost braces, Python's True, False and None, single
    quotes, commas before a closing bracket, and brackets or quotes that were never closed."""
    text = text[max(text.find("{"), 0) :]
    made: list[str] = []
    open_: list[str] = []
    place = 0
    while place < len(text):
        char = text[place]
        if char in "\"'":
            end = _quoted(text, place)
            inner = text[place + 1 : end]
            made.append(json.dumps(inner.replace("\\'", "'")) if char == "'" else f'"{inner}"')
            place = end + 1
            continue
        if char in "{[":
            open_.append("}" if char == "{" else "]")
        elif char in "}]":
            _drop_comma(made)
            if open_:
                open_.pop()
        word = _WORD.match(text, place)
        made.append(_WORDS[word[0]] if word else char)
        place += len(word[0]) if word else 1
        if char in "}]" and not open_:
            return "".join(made)  # what follows the difference is no part of it
    _drop_comma(made)
    return "".join(made) + "".join(reversed(open_))


def _quoted(text: str, start: int) -> int:
    """Where the quote that opens at ``start`` closes; the text's end if it does not."""
    place = start + 1
    while place < len(text) and text[place] != text[start]:
        place += 2 if text[place] == "\\" else 1
    return min(place, len(text))


def _drop_comma(made: list[str]) -> None:
    while made and made[-1].isspace():
        made.pop()
    if made and made[-1] == ",":
        made.pop()


def read_lines(text: str) -> dict[str, Any]:
    """The difference in lines.

    Raises:
        ValueError: a line is none of `write_lines`, or there is none at all.
    """
    cues = list(_CUES.finditer(text))
    text = text[cues[-1].end() :] if cues else text
    if len(text) > _LONGEST:
        raise ValueError("the difference is too long")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines == [NOTHING]:
        return {"modified": [], "removed": []}
    if not lines:
        raise ValueError("no line")
    removed = [line.removesuffix(_GONE) for line in lines if line.endswith(_GONE)]
    return {"modified": [_object(x) for x in lines if not x.endswith(_GONE)], "removed": removed}


def _object(line: str) -> dict[str, Any]:
    head, colon, inside = line.partition(":")
    uuid, *pairs = head.split()
    properties: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise ValueError(f"{pair!r} is no property")
        properties[key] = _TRUTH.get(value, value)
    if not properties:
        raise ValueError(f"{line!r} says nothing of an object")
    made: dict[str, Any] = {"uuid": uuid, "properties": properties}
    if colon:
        names = [name.strip() for name in inside.split(",")]
        made["contains"] = [] if names == [_EMPTY] else names
    return made


def write_object(row: Mapping[str, Any]) -> str:
    """An object in a line; its uuid and values must have no spaces."""
    pairs = [f"{k}={_TRUTH_NAMES[v] if isinstance(v, bool) else v}" for k, v in row["properties"].items()]
    line = " ".join([str(row["uuid"]), *pairs])
    return f"{line}: {', '.join(row['contains']) or _EMPTY}" if "contains" in row else line


def write_lines(diff: Mapping[str, Any]) -> str:
    lines = [write_object(row) for row in diff["modified"]]
    return "\n".join([*lines, *(f"{uuid}{_GONE}" for uuid in diff["removed"])]) or NOTHING


def write_json(diff: Mapping[str, Any]) -> str:
    return json.dumps(diff)


def difference(state: State, after: State) -> dict[str, Any]:
    """What makes ``after`` of ``state``: objects that differ, whole, and those that are gone."""
    kept = {uuid: row for uuid, row in after.objects.items() if uuid in state.objects}
    made: dict[str, Any] = {
        "modified": [row for uuid, row in kept.items() if row != state.objects[uuid]],
        "removed": [uuid for uuid in state.objects if uuid not in after.objects],
    }
    if after.score is not None:
        made["score"] = {} if after.score == state.score else dict(after.score)
    return made


Read = Callable[[str], dict[str, Any]]
Write = Callable[[Mapping[str, Any]], str]
#: Notation -> how it is read and written.
NOTATIONS: dict[str, tuple[Read, Write]] = {
    "json": (read_json, write_json),
    "lines": (read_lines, write_lines),
}
