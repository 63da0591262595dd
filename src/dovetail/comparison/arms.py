"""Arms: what is compared. One line of text names one arm.

    greedy                                        a method with its defaults
    sampling:temperature=0.6,top_p=0.95           with parameters, checked against the method's fields
    em:lr=0.2+soft-thinking:max_topk=5            a stack: modifiers first, what chooses or searches last
    greedy:thinking=false                         the question put in the model's no-thinking mode
    cold=sampling:temperature=0.3                 a label of one's own, as the report shows it

A text with commas, pluses or brackets of its own stands in quotes: ``name:text='one, two=2'``. A prompting
method may stand anywhere in a stack; a stack of prompting methods alone is read by greedy.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from dovetail.core import InvalidValue, UnknownName, Unsupported

if TYPE_CHECKING:
    from dovetail.decoding.base import Decoding

_LABEL = re.compile(r"\s*([^=:+,()\[\]]+?)\s*=\s*(?=[A-Za-z])(.*)", re.DOTALL)
_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "'\""
THINKING = "thinking"  # the one parameter that belongs to the question rather than to a method


@dataclass(frozen=True)
class ArmSpec:
    """One arm of a comparison.

    Attributes:
        label: its name in the report.
        decoding: how the model writes.
        prompting: how the question is put; None for the task's own messages.
        thinking: the template's thinking mode; None leaves it to the comparison.
        description: in words, for the report.
        named: whether the user chose the label.
    """

    label: str
    decoding: Decoding
    prompting: Any | None = None
    thinking: bool | None = None
    description: str = ""
    named: bool = False

    def settings(self) -> dict[str, Any]:
        """What decides this arm's outcomes, as JSON values: for the record, and to tell two arms apart."""
        from dovetail.decoding.base import describe

        prompting = None if self.prompting is None else describe(self.prompting)
        settings = {"decoding": describe(self.decoding), "prompting": prompting, "thinking": self.thinking}
        plain: dict[str, Any] = json.loads(json.dumps(settings, default=_recorded))
        return plain


def known() -> dict[str, tuple[str, str, str]]:
    """Every name that an arm can be made of -> (slot, module, class)."""
    table: dict[str, tuple[str, str, str]] = {}
    for slot in ("decoding", "prompting"):
        if find_spec(f"dovetail.{slot}") is not None:
            names = getattr(import_module(f"dovetail.{slot}"), "NAMES", {})
            table |= {name: (slot, f"dovetail.{slot}.{module}", cls) for name, (module, cls) in names.items()}
    return table


def parse(spec: str) -> ArmSpec:
    """The arm that a line of text names; the grammar is this module's docstring.

    Raises:
        UnknownName: a method or parameter that is not known; suggests the nearest ones.
        InvalidValue: a value that does not fit the parameter's type or range; names the parameter.
        Unsupported: a stack whose parts do not fit together; says why.
    """
    text = spec.strip()
    label = None
    if match := _LABEL.fullmatch(text):
        label, text = match.group(1), match.group(2)
    decodings: list[Decoding] = []
    promptings: list[Any] = []
    thinking: bool | None = None
    for part in _split(text, "+"):
        slot, method, mode = _part(part, spec)
        thinking = mode if mode is not None else thinking
        (decodings if slot == "decoding" else promptings).append(method)
    return _build(label or spec.strip(), decodings, promptings, thinking, named=label is not None)


def resolve(
    arms: Sequence[str | Decoding | ArmSpec] | Mapping[str, str | Decoding | Sequence[Any] | ArmSpec],
) -> list[ArmSpec]:
    """Arms as the user gave them -> ArmSpecs with distinct labels, in order.

    Args:
        arms: specs, decodings or ArmSpecs; or a dict from label to one of these or to a list of
            parts to stack (``{"em+soft": [EntropyMinimization(), SoftThinking()]}``).

    Raises:
        InvalidValue: no arms, an arm that is none of these, two arms of one label, or one arm
            twice without labels that tell the two apart.
    """
    if isinstance(arms, str):
        arms = [arms]
    if isinstance(arms, Mapping):
        found = [_labelled(_resolve(arm), label) for label, arm in arms.items()]
    else:
        found = [_resolve(arm) for arm in arms]
    if not found:
        raise InvalidValue("arms", arms, "at least one arm, such as 'greedy'")
    seen: dict[str, ArmSpec] = {}
    for arm in found:
        if arm.label in seen:
            raise InvalidValue(
                "arms", arm.label, f"given once: tell the two apart with labels (a={arm.label} b={arm.label})"
            )
        for other in seen.values():
            if not (arm.named or other.named) and arm.settings() == other.settings():
                raise InvalidValue(
                    "arms",
                    arm.label,
                    f"another arm than {other.label!r}, or given a label (again={arm.label})",
                )
        seen[arm.label] = arm
    return found


def name_of(method: Any) -> str:
    """The line of text that would name ``method``: its name with the parameters that are not defaults."""
    cls = type(method)
    if cls.__name__ == "Chain":
        return "+".join(name_of(part) for part in method.parts)
    names = {f"{module}.{c}": name for name, (_, module, c) in known().items()}
    name = names.get(f"{cls.__module__}.{cls.__name__}", cls.__name__)
    changed = [
        f"{f.name}={_text(getattr(method, f.name))}"
        for f in (fields(method) if is_dataclass(method) else ())
        if f.init and not _same(getattr(method, f.name), _default(f))
    ]
    return name + (":" + ",".join(changed) if changed else "")


def _labelled(arm: ArmSpec, label: str) -> ArmSpec:
    described = _describe(arm.decoding, arm.prompting, arm.thinking, named=True)
    return replace(arm, label=label, description=described, named=True)


# --- building ---------------------------------------------------------------------------------------


def _build(
    label: str, decodings: list[Decoding], promptings: list[Any], thinking: bool | None, named: bool
) -> ArmSpec:
    from dovetail.decoding import Greedy
    from dovetail.decoding.base import chain

    if len(promptings) > 1:
        both = " and ".join(type(p).__name__ for p in promptings)
        raise Unsupported(f"{both} both put the question, so they cannot be stacked: keep one of them")
    decoding = chain(decodings) if decodings else Greedy()
    prompting = promptings[0] if promptings else None
    return ArmSpec(
        label, decoding, prompting, thinking, _describe(decoding, prompting, thinking, named), named
    )


def _describe(decoding: Any, prompting: Any | None, thinking: bool | None, named: bool) -> str:
    """What the arm does, in words; and how, where the label does not say."""
    methods = [] if prompting is None else [prompting]
    methods += decoding.parts if type(decoding).__name__ == "Chain" else [decoding]
    words = " + ".join(_summary(m) for m in methods)
    words += {None: "", True: " (thinking)", False: " (no thinking)"}[thinking]
    return f"{'+'.join(map(name_of, methods))}: {words}" if named else words


def _summary(method: Any) -> str:
    first, _, _ = (inspect.getdoc(type(method)) or type(method).__name__).partition("\n\n")
    return " ".join(first.replace("``", "").split()).rstrip(".")


def _resolve(arm: Any) -> ArmSpec:
    if isinstance(arm, ArmSpec):
        return arm
    if isinstance(arm, str):
        return parse(arm)
    parts = list(arm) if isinstance(arm, (list, tuple)) else [arm]
    decodings: list[Any] = []
    promptings: list[Any] = []
    for part in parts:
        if isinstance(part, str):
            one = parse(part)
            decodings.append(one.decoding)
            if one.prompting is not None:
                promptings.append(one.prompting)
        elif is_dataclass(part) and callable(getattr(part, "generate", None)):
            decodings.append(part)
        elif is_dataclass(part) and callable(getattr(part, "messages", None)):
            promptings.append(part)
        else:
            raise InvalidValue(
                "arms", arm, "specs such as 'sampling:temperature=0.6', or decodings (dataclasses)"
            )
    label = "+".join(name_of(p) for p in (*promptings, *decodings))
    return _build(label, decodings, promptings, None, named=False)


# --- reading ----------------------------------------------------------------------------------------


def _part(part: str, spec: str) -> tuple[str, Any, bool | None]:
    """``name:key=value,...`` -> slot, the method, and the value of the reserved parameter."""
    name, _, listed = part.partition(":")
    name = name.strip()
    table = known()
    if name not in table:
        if not name:
            raise InvalidValue("arm", spec, "name:key=value,...+name:key=value,...")
        raise UnknownName("arm", name, table)
    slot, module, class_name = table[name]
    cls = getattr(import_module(module), class_name)
    hints = _hints(cls)
    allowed = [f.name for f in fields(cls) if f.init]
    values: dict[str, Any] = {}
    thinking: bool | None = None
    for key, text in _pairs(listed, name, spec):
        if key == THINKING and THINKING not in allowed:
            thinking = _read(text, bool, f"{name}:{THINKING}")
        elif key not in allowed:
            raise UnknownName(f"parameter of {name}", key, [*allowed, THINKING])
        elif key in values:
            raise InvalidValue(f"{name}:{key}", text, "given once")
        else:
            values[key] = _read(text, hints.get(key, Any), f"{name}:{key}")
    try:
        return slot, cls(**values), thinking
    except InvalidValue as error:
        raise InvalidValue(f"{name}:{error.name}", error.value, error.expected) from error
    except TypeError as error:  # a field without default that was not given
        needed = [f.name for f in fields(cls) if f.init and _default(f) is MISSING and f.name not in values]
        raise InvalidValue(f"arm {name}", spec, f"given {', '.join(needed) or error}") from error


def _pairs(listed: str, name: str, spec: str) -> Iterable[tuple[str, str]]:
    """``a=1,b=2,3`` -> (a, "1"), (b, "2,3"): a piece without a key carries on the value before it."""
    pairs: list[tuple[str, str]] = []
    for piece in _split(listed, ",") if listed.strip() else ():
        key, equals, value = piece.partition("=")
        if equals and key.strip().isidentifier():
            pairs.append((key.strip(), value))
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{piece}")
        else:
            raise InvalidValue(f"{name}:", spec, "followed by key=value, such as sampling:temperature=0.6")
    return [(key, value.strip()) for key, value in pairs]


def _split(text: str, mark: str) -> list[str]:
    """``text`` cut at ``mark`` outside brackets and quoted values; the plus of 1e+5 is not a mark."""
    pieces, depth, start, quoted = [], 0, 0, 0
    for i, letter in enumerate(text):
        # A quote opens where a value begins; elsewhere it is an apostrophe.
        if letter in _QUOTES and i >= quoted and text[:i].rstrip()[-1:] in ("=", "[", ","):
            quoted = text.find(letter, i + 1) + 1
        if i < quoted:
            continue
        depth += (letter in _OPEN) - (letter in _CLOSE)
        if letter == mark and depth == 0 and not (mark == "+" and text[i + 1 : i + 2].isdigit()):
            pieces.append(text[start:i])
            start = i + 1
    return [*pieces, text[start:]]


def _read(text: str, kind: Any, name: str) -> Any:
    """``text`` as a value of the annotated type ``kind``."""
    for one in _alternatives(kind):
        try:
            return _as(text, one, name)
        except ValueError as error:
            if isinstance(error, InvalidValue):  # a nested method's own complaint
                raise
    raise InvalidValue(name, text, _expected(kind))


def _alternatives(kind: Any) -> list[Any]:
    """Members of a union, the pickiest first: every text is a str, and every int a float."""
    if get_origin(kind) not in (Union, types.UnionType):
        return [kind]
    order = {type(None): 0, bool: 1, int: 2, float: 3, str: 9}
    return sorted(get_args(kind), key=lambda k: order.get(k, 5))


def _as(text: str, kind: Any, name: str) -> Any:
    if kind is type(None):
        if text.lower() in ("none", "null"):
            return None
    elif kind is bool:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
    elif kind in (int, float):
        return kind(text)
    elif kind is str:
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES else text
    elif get_origin(kind) is Literal:
        for value in get_args(kind):
            if str(value) == text:
                return value
    elif get_origin(kind) in (tuple, list, Sequence) or kind in (tuple, list):
        origin = get_origin(kind) or kind
        inner = [k for k in get_args(kind) if k is not Ellipsis] or [Any]
        pieces = [p.strip() for p in _split(_unwrap(text), ",") if p.strip()]
        if len(inner) == 1:
            inner = inner * len(pieces)
        if len(inner) == len(pieces):
            values = [_read(p, k, name) for p, k in zip(pieces, inner, strict=True)]
            return values if origin is list else tuple(values)
    elif isinstance(kind, type) and callable(getattr(kind, "generate", None)):
        return parse(_unwrap(text)).decoding
    elif kind is Any:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
    raise ValueError(text)


def _unwrap(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text[:1] in _OPEN and text[-1:] in _CLOSE and len(text) > 1 else text


def _expected(kind: Any) -> str:
    def word(k: Any) -> str:
        if k is type(None):
            return "none"
        if k is bool:
            return "true or false"
        if get_origin(k) is Literal:
            return " or ".join(map(str, get_args(k)))
        if get_origin(k) is not None:
            return str(k).replace("typing.", "")
        return {int: "an integer", float: "a number", str: "a text"}.get(k, str(getattr(k, "__name__", k)))

    return " or ".join(word(k) for k in reversed(_alternatives(kind)))


@cache
def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except NameError:  # an annotation imported for type checkers only: its values are read as literals
        return {}


def _default(f: Any) -> Any:
    if f.default is not MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not MISSING else MISSING


def _text(value: Any) -> str:
    """A value as `_read` reads it back."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(_text(v) for v in value) + "]"
    if is_dataclass(value):
        return f"({name_of(value)})"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {_text(v)}" for key, v in value.items()) + "}"
    if _array(value):
        return f"<{'x'.join(map(str, value.shape))} {value.dtype}>"
    text = str(value)
    if isinstance(value, str) and (set(text) & set(",+=" + _OPEN + _CLOSE) or text != text.strip()):
        return f"'{text}'" if "'" not in text else f'"{text}"'
    return text


def _array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _same(a: Any, b: Any) -> bool:
    """Whether two values of a field are equal; arrays, within dataclasses too, entry by entry."""
    if a is b:
        return True
    if type(a) is not type(b):
        return not _array(a) and not _array(b) and bool(a == b)
    if _array(a):
        return bool(a.shape == b.shape and a.dtype == b.dtype and (a == b).all())
    if is_dataclass(a):
        return all(_same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_same(v, b[key]) for key, v in a.items())
    return bool(a == b)


def _recorded(value: Any) -> Any:
    """What JSON has no form for; arrays by their digest, since their ``repr`` leaves entries out."""
    if _array(value):
        content = value.detach().cpu().numpy() if hasattr(value, "detach") else value
        return f"{_text(value)} sha256 {hashlib.sha256(content.tobytes()).hexdigest()[:16]}"
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__, **{f.name: getattr(value, f.name) for f in fields(value)}}
    if callable(value) and hasattr(value, "__qualname__"):  # its repr would hold an address
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)
