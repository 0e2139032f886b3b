"""The functions of the expression language: their declared types and what they do.

Pure; none changes a value, none may run longer than its input is long (`matches` is RE2).
A function raises `Fault` for values that it cannot work on.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from responder.playbook.values import (
    BOOL,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    kind_of,
    list_of,
    map_of,
)

__all__ = [
    "FUNCTIONS",
    "Fault",
    "Overload",
    "bounded",
    "compile_pattern",
    "duration",
    "span_within",
    "timestamp",
]

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1


class Fault(Exception):
    """An expression has no value; `missing` names the part that was absent, if that is why."""

    def __init__(self, reason: str, missing: str = "") -> None:
        super().__init__(reason)
        self.reason, self.missing = reason, missing


@dataclass(frozen=True, slots=True)
class Overload:
    """One way to call a function: as `x.f(…)`, as `f(x, …)`, or both."""

    params: tuple[Type, ...]
    result: Type
    run: Callable[..., Any]
    method: bool = False
    plain: bool = True


def bounded(value: int) -> int:
    """The same number, or a Fault when it does not fit into 64 bits."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise Fault("integer overflow")


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Any:
    """A compiled RE2 pattern; raises Fault when it is none.

    RE2 takes time linear in the text: https://github.com/google/re2/wiki/WhyRE2
    """
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a pattern"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise Fault(f"invalid pattern: {text}") from None


def _matches(text: str, pattern: str) -> bool:
    try:
        return compile_pattern(pattern).search(text) is not None
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form
        raise Fault("the text is not valid Unicode") from None


_INT = re.compile(r"\s*([+-]?[0-9]{1,19})\s*", re.ASCII)


def _int(value: Any) -> int:
    if isinstance(value, str):
        match = _INT.fullmatch(value)
        if match is None:
            raise Fault("int() of a text that is no whole number")
        return bounded(int(match.group(1)))
    if isinstance(value, dt.datetime):
        return (value - _EPOCH) // dt.timedelta(seconds=1)
    if isinstance(value, float):
        if not INT_MIN < value < INT_MAX:
            raise Fault("integer overflow")
        return int(value)
    return int(value)


_DOUBLE = re.compile(
    r"\s*[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?|inf|nan)\s*", re.ASCII
)


def _double(value: Any) -> float:
    if isinstance(value, str) and not _DOUBLE.fullmatch(value):
        raise Fault("double() of a text that is no number")
    return float(value)


def _string(value: Any) -> str:
    kind = kind_of(value)
    if kind == "bool":
        return "true" if value else "false"
    if kind == "double":
        return _double_text(value)
    if kind == "timestamp":
        return _timestamp_text(value)
    if kind == "duration":
        return _duration_text(value)
    return str(value)


def _double_text(value: float) -> str:
    """The fewest digits that read back as the same number, in C's `%g` manner."""
    if not math.isfinite(value):
        return str(value)
    sign, digits, exponent = decimal.Decimal(repr(value)).normalize().as_tuple()
    place = len(digits) + int(exponent) - 1
    if -4 <= place < 6 or not value:  # noqa: PLR2004 - the bounds of %g
        return f"{value:.17g}" if not value else f"{decimal.Decimal(repr(value)).normalize():f}"
    text = "".join(map(str, digits))
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{'-' if place < 0 else '+'}{abs(place):02d}"


_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _timestamp_text(value: dt.datetime) -> str:
    moment = value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}{_digits(value.microsecond)}Z"


def _duration_text(value: dt.timedelta) -> str:
    micros = value // dt.timedelta(microseconds=1)
    whole, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{whole}{_digits(rest)}s"


def _digits(micros: int) -> str:
    """A fraction of a second in three or six digits, as protobuf's JSON form has it."""
    if micros % 1000:
        return f".{micros:06d}"
    return f".{micros // 1000:03d}" if micros else ""


_SPAN = re.compile(
    r"([+-]?)((?:(?:[0-9]{1,15}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:h|ms|m|s|us|ns))+|0)"
)
_SPAN_PART = re.compile(r"([0-9]*\.?[0-9]*)(h|ms|m|s|us|ns)")
_NANOS: Final = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1000,
    "ns": 1,
}
_SPAN_MAX: Final = 315_576_000_000 * 1_000_000_000  # ten thousand years, CEL's own bound
_SPAN_LIMIT: Final = dt.timedelta(seconds=315_576_000_000)


def span_within(value: dt.timedelta) -> dt.timedelta:
    """The same duration, or a Fault beyond CEL's ten thousand years."""
    if abs(value) > _SPAN_LIMIT:
        raise Fault("the duration is out of range")
    return value


def duration(text: Any) -> dt.timedelta:
    """`1h30m`, `-2s`, `1.5h`: CEL's form, without days. Raises Fault."""
    if isinstance(text, dt.timedelta):
        return text
    match = _SPAN.fullmatch(text)
    if match is None:
        raise Fault("duration() of a text that is none, such as 90s, 15m, 1h30m")
    nanos = 0
    for number, unit in _SPAN_PART.findall(match.group(2)):
        whole, _, part = number.partition(".")
        nanos += int(whole or 0) * _NANOS[unit]
        nanos += int((part or "0").ljust(9, "0")) * _NANOS[unit] // 10**9
    if nanos > _SPAN_MAX:
        raise Fault("duration() beyond ten thousand years")
    return dt.timedelta(microseconds=(-1 if match.group(1) == "-" else 1) * (nanos // 1000))


_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)


def timestamp(value: Any) -> dt.datetime:
    """RFC 3339 text or whole seconds since 1970. Raises Fault."""
    if isinstance(value, dt.datetime):
        return value
    try:
        if isinstance(value, int):
            return _EPOCH + dt.timedelta(seconds=value)
        match = _MOMENT.fullmatch(value)
        if match is None:
            raise Fault("timestamp() of a text that is none, such as 2026-01-31T12:00:00Z")
        part = match.group(1) or ""
        text = value.replace(part, "", 1).upper().replace("Z", "+00:00")
        micros = int((part[1:7] or "0").ljust(6, "0"))
        moment = dt.datetime.fromisoformat(text).astimezone(dt.UTC)
        return moment.replace(microsecond=micros)
    except (ValueError, OverflowError):
        raise Fault("timestamp() of a day or an hour that does not exist") from None


def _one(kinds: tuple[Type, ...], result: Type, run: Callable[..., Any]) -> tuple[Overload, ...]:
    return tuple(Overload((kind,), result, run) for kind in kinds)


def _text_method(run: Callable[..., Any]) -> tuple[Overload, ...]:
    return (Overload((STRING, STRING), BOOL, run, method=True, plain=False),)


_SIZED: Final = (STRING, list_of(DYN), map_of(DYN))

FUNCTIONS: Final[Mapping[str, tuple[Overload, ...]]] = {
    "size": tuple(Overload((kind,), INT, len, method=True) for kind in _SIZED),
    "startsWith": _text_method(str.startswith),
    "endsWith": _text_method(str.endswith),
    "contains": _text_method(str.__contains__),
    "matches": (Overload((STRING, STRING), BOOL, _matches, method=True),),
    "string": _one((STRING, INT, DOUBLE, BOOL, TIMESTAMP, DURATION), STRING, _string),
    "int": _one((INT, STRING, DOUBLE, TIMESTAMP), INT, _int),
    "double": _one((DOUBLE, INT, STRING), DOUBLE, _double),
    "duration": _one((STRING, DURATION), DURATION, duration),
    "timestamp": _one((STRING, TIMESTAMP, INT), TIMESTAMP, timestamp),
}
