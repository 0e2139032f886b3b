"""Types and values of the expression language: what a name may hold, and what absence is.

Values are plain Python: bool, int, float, str, None, list, dict, aware datetime, timedelta.
A value that is not there is `MISSING`; it is false, equals nothing, and never reaches an action.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from responder.clock import SECOND, iso

__all__ = [
    "BOOL",
    "DOUBLE",
    "DURATION",
    "DYN",
    "INT",
    "MISSING",
    "NULL",
    "STRING",
    "TIMESTAMP",
    "Missing",
    "Type",
    "kind_of",
    "list_of",
    "map_of",
    "object_of",
    "parse_duration",
    "plain",
    "show_duration",
    "timestamp_of",
    "type_of",
    "unify",
]


class Missing:
    """The one value of what is not there."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class Type:
    """What a value may be; `object` has declared fields, `map` has text keys and one value type."""

    kind: str  # bool int double string null list map object duration timestamp dyn
    item: Type | None = None  # of a list or map
    fields: Mapping[str, Type] | None = None  # of an object
    label: str = ""  # how an object is called in error texts

    def __str__(self) -> str:
        """The name that error texts use."""
        if self.kind in {"list", "map"} and self.item is not None and self.item.kind != "dyn":
            return f"{self.kind} of {self.item}"
        return self.label or self.kind


BOOL: Final = Type("bool")
INT: Final = Type("int")
DOUBLE: Final = Type("double")
STRING: Final = Type("string")
NULL: Final = Type("null")
DURATION: Final = Type("duration")
TIMESTAMP: Final = Type("timestamp")
DYN: Final = Type("dyn")


def list_of(item: Type) -> Type:
    """A list whose elements are all of one type."""
    return Type("list", item)


def map_of(item: Type) -> Type:
    """A map from text to one type; a key may be absent."""
    return Type("map", item)


def object_of(label: str, fields: Mapping[str, Type]) -> Type:
    """A value with declared fields: any other field is a mistake found at load."""
    return Type("object", None, fields, label)


def unify(one: Type, other: Type) -> Type | None:
    """The type that both can be, or None when a value can never be of both."""
    if one.kind == "dyn" or other.kind == "dyn":
        return DYN
    if one.kind != other.kind:
        nullable = {"duration", "timestamp", "null"}  # CEL's message types may be null
        if {one.kind, other.kind} <= nullable and "null" in {one.kind, other.kind}:
            return other if one.kind == "null" else one
        return None
    if one.kind not in {"list", "map"}:
        return one
    item = unify(one.item or DYN, other.item or DYN)
    return None if item is None else Type(one.kind, item)


_KINDS: Final[Mapping[type, str]] = {
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    type(None): "null",
    list: "list",
    dict: "map",
    dt.datetime: "timestamp",
    dt.timedelta: "duration",
}


def kind_of(value: Any) -> str:
    """The kind of a value at run time; anything foreign is called by its Python name."""
    return _KINDS.get(type(value), type(value).__name__)


def type_of(value: Any) -> Type:
    """The declared type of a literal value, such as one under `vars`."""
    if isinstance(value, list):
        kinds = {type_of(item).kind for item in value}
        return list_of(type_of(value[0]) if len(kinds) == 1 else DYN)
    if isinstance(value, dict):
        return object_of("map", {key: type_of(item) for key, item in value.items()})
    return Type(kind_of(value))


_DURATION = re.compile(r"(?:[0-9]{1,12}(?:ms|s|m|h|d))+")
_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNIT: Final = {
    "ms": SECOND // 1000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 86_400 * SECOND,
}
LONGEST: Final = 3650 * 86_400 * SECOND  # ten years: beyond it is a slip of the pen


def parse_duration(text: str) -> int:
    """Microseconds of `30s`, `4h`, `1h30m`; raises ValueError for anything else."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f'expected a duration such as 30s, 45m or 4h, got "{text}"')
    total = sum(int(number) * _UNIT[unit] for number, unit in _PART.findall(text))
    if total > LONGEST:
        raise ValueError(f'duration "{text}" is longer than ten years')
    return total


def show_duration(micros: int) -> str:
    """The shortest text that `parse_duration` reads back, whole milliseconds at the finest."""
    if micros < 0:
        return f"-{show_duration(-micros)}"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        number, micros = divmod(micros, _UNIT[unit])
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def timestamp_of(micros: int) -> dt.datetime:
    """The language's timestamp for microseconds since 1970."""
    return _EPOCH + dt.timedelta(microseconds=micros)


def plain(value: Any) -> Any:
    """The same value as JSON can hold it: timestamps and durations become text."""
    if isinstance(value, dt.datetime):
        return iso((value - _EPOCH) // dt.timedelta(microseconds=1))
    if isinstance(value, dt.timedelta):
        return show_duration(value // dt.timedelta(microseconds=1))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
