"""Decode JSON that a stranger sent: bounded, strict, and safe for every store and encoder after.

Python's decoder lets through what later layers choke on: NaN, 1e999, 5,000 digits, half a
character, NUL, a key named twice, a depth that ends the call stack. Here each of them is either
made harmless or refused with `BadAlert`. Never shows in an error what was in the body.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from responder.errors import BadAlert
from responder.text import cut

__all__ = ["BODY_MAX", "DEPTH_MAX", "as_text", "decode", "dump"]

BODY_MAX = 1 << 20  # bytes; the door refuses more before it reads them, this is the second lock
DEPTH_MAX = 64
_POINTER_MAX = 256
_INT64 = 1 << 63
_SAFE_DIGITS = 18  # any integer of so many characters fits 64 bits


class _FoundTwice(dict[str, Any]):
    """An object that names one key twice; only made while a fault is being located."""


class _NoNumber:
    """NaN or Infinity, which JSON does not have; only made while a fault is being located."""


class _FaultError(Exception):
    """The fast decoder met something that has to be located."""


def _whole(text: str) -> int | str:
    """An integer, or its digits where it does not fit 64 bits (a store would refuse it)."""
    if len(text) <= _SAFE_DIGITS:
        return int(text)
    if len(text) > _SAFE_DIGITS + 2:
        return text
    number = int(text)
    return number if -_INT64 <= number < _INT64 else text


def _fraction(text: str) -> float | str:
    """A finite float, or its text where it is too great to be one (1e999)."""
    number = float(text)
    return number if math.isfinite(number) else text


def _refuse_constant(_text: str) -> Any:
    raise _FaultError


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _FaultError
    return found


def _mark_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _FoundTwice(found)


_FAST = json.JSONDecoder(
    parse_int=_whole,
    parse_float=_fraction,
    parse_constant=_refuse_constant,
    object_pairs_hook=_refuse_twice,
)
_MARKING = json.JSONDecoder(
    parse_int=_whole,
    parse_float=_fraction,
    parse_constant=lambda _text: _NoNumber(),
    object_pairs_hook=_mark_twice,
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def as_text(body: bytes) -> str:
    """The body as text. Bytes that are not UTF-8 become U+FFFD: a file's name may hold any byte,
    and an intruder who chose such a name must not make the alert about it vanish."""
    return body.decode("utf-8", "replace").removeprefix("\ufeff")


def decode(body: bytes, most: int = BODY_MAX) -> Any:
    """The JSON value in `body`, bounded in size and depth, safe for every store and encoder.

    NUL becomes U+FFFD; integers beyond 64 bits and infinite floats stay as text. Raises
    `BadAlert` with the JSON pointer for: more than `most` bytes, no JSON, deeper than 64, NaN or
    Infinity, a key named twice, a lone surrogate. The text never shows what was in the body.
    """
    if len(body) > most:
        raise BadAlert(f"body has {len(body)} bytes, expected at most {most}")
    text = as_text(body)
    try:
        value = _load(_FAST, text)
    except _FaultError:
        return _clean(_load(_MARKING, text), [])
    if text.count("[") + text.count("{") > DEPTH_MAX or (
        "\\u" in text and ("\\ud" in text or "\\uD" in text or "\\u0000" in text)
    ):
        return _clean(value, [])
    return value


def _load(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise BadAlert(
            f"body is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise BadAlert(f"body is nested too deep, expected at most {DEPTH_MAX} levels") from None


def _clean(value: Any, path: list[Any]) -> Any:
    """The same value with NUL replaced; raises `BadAlert` with the pointer of the first fault.

    Calls itself, but never deeper than `DEPTH_MAX`: deeper is a fault.
    """
    if isinstance(value, str):
        return _clean_text(value, path)
    if isinstance(value, _FoundTwice | _NoNumber) or (
        isinstance(value, list | dict) and len(path) >= DEPTH_MAX
    ):
        where = _pointer(path)
        raise BadAlert(f"{_what(value)} at {where or 'the top'}", where)
    if isinstance(value, list):
        for at, item in enumerate(value):
            value[at] = _clean(item, [*path, at])
    elif isinstance(value, dict):
        return _clean_object(value, path)
    return value


def _what(value: Any) -> str:
    if isinstance(value, _FoundTwice):
        return "a key named twice"
    if isinstance(value, _NoNumber):
        return "NaN or Infinity, which JSON does not have,"
    return f"nesting deeper than {DEPTH_MAX} levels"


def _clean_text(value: str, path: list[Any]) -> str:
    if _LONE_SURROGATE.search(value):
        where = _pointer(path)
        raise BadAlert(f"a lone surrogate (half a character) at {where or 'the top'}", where)
    return value.replace("\x00", "\ufffd")


def _clean_object(value: dict[str, Any], path: list[Any]) -> dict[str, Any]:
    """The same object, keys cleaned too; a cleaned key never hides another one."""
    clean: dict[str, Any] = {}
    for key, item in value.items():
        fresh = _clean_text(key, path)
        while fresh in clean:
            fresh += "\ufffd"
        clean[fresh] = _clean(item, [*path, fresh])
    return clean


def _pointer(path: list[Any]) -> str:
    """The JSON pointer (RFC 6901) of a list of keys, cut to a readable length."""
    parts = (str(key).replace("~", "~0").replace("/", "~1") for key in path)
    return cut("".join(f"/{part}" for part in parts), _POINTER_MAX)


def dump(value: Any) -> str:
    """One part of a payload as text, to be kept beside the alert made from it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
