"""A sender's words as data, and the readers of it: paths, severities, targets, kinds.

The page of the sender in docs/senders is made from the same values, so that page and code cannot
part. Never: does I/O, reads a clock, raises on an odd value, or lets a payload choose the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from integrations import _values as values
from integrations._labels import KINDS
from responder.model import AlertKind, JsonObject, Severity, Target

__all__ = [
    "RULE_MAX",
    "TAGS_MAX",
    "Ignored",
    "Page",
    "Table",
    "at",
    "first",
    "identity",
    "own_kind",
    "place_of",
    "severity_in",
    "target_of",
    "texts",
    "verdict",
    "word",
]

Paths = tuple[str, ...]
Severities = Mapping[Any, Severity]  # words, or whole numbers
RULE_MAX = 256
TAGS_MAX = 64
_PAIR = " + "


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Where a sender says what.

    A path is keys joined by "/" (a number picks from a list); of several the first that says
    something wins. `severities` maps words (lower case), or numbers, each meaning "from here up".
    The workload's paths are pairs "kind + name". `fingerprint` comes beside rule and place.
    `notes` are sentences for the page, for what a path cannot say.
    """

    rule: Paths
    summary: Paths = ()
    severity: Paths = ()
    severities: Severities = field(default_factory=lambda: {**values.SEVERITIES})
    time: Paths = ()
    target: Mapping[str, Paths] = field(default_factory=dict)
    fingerprint: Paths = ()
    tags: Paths = ()
    kind: AlertKind = AlertKind.DETECTION
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ignored:
    """Events that are kept and shown and start nothing: which, as what, and why."""

    name: str
    kind: AlertKind
    reason: str
    when: Callable[[JsonObject], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the page of a source says that reads its sender by hand."""

    name: str
    title: str
    home: str
    mapping: Table
    ignored: Sequence[Ignored] = ()
    accepts_status: int = HTTPStatus.ACCEPTED.value
    media: frozenset[str] = frozenset()


def verdict(
    ignored: Sequence[Ignored], item: JsonObject, kind: AlertKind = AlertKind.DETECTION
) -> tuple[AlertKind, str]:
    """What an event is, and why when it starts nothing; the first that fits decides."""
    for one in ignored:
        if one.when(item):
            return one.kind, one.reason
    return kind, ""


# --------------------------------------------------------------------------- values


def own_kind(kind: AlertKind) -> tuple[str, ...]:
    """What a fingerprint adds for an event that starts nothing.

    Else a detection would pass for the repeat of, say, the blocked attempt before it. An end keeps
    the fingerprint of what it ends.
    """
    return () if kind.may_start or kind is AlertKind.RESOLVED else (kind.value,)


def at(item: Any, path: str) -> Any:
    """The value at a path, None when there is none."""
    for key in path.split("/"):
        if isinstance(item, dict):
            item = item.get(key)
        elif isinstance(item, list) and key.isdigit():
            item = item[int(key)] if int(key) < len(item) else None
        else:
            return None
    return item


def first(
    item: Any, paths: Paths, read: Callable[[Any], Any] = values.string, none: Any = ""
) -> Any:
    """What the first of these paths that says something says."""
    for path in paths:
        if found := read(at(item, path)):
            return found
    return none


def word(value: Any) -> str:
    """A text, or a whole number as text; anything else says nothing."""
    if type(value) is int:
        return str(value)
    return values.string(value) if values.known(value) else ""


def texts(value: Any) -> list[str]:
    """A list of texts, or one text of parts joined by commas."""
    parts: Iterable[Any] = value.split(",") if isinstance(value, str) else value
    if not isinstance(value, str | list):
        return []
    return [text for part in parts if (text := values.string(part, RULE_MAX).strip())]


def severity_in(item: Any, table: Table) -> Severity:
    """The severity by the table's words and numbers; a word it does not know is unknown."""
    for path in table.severity:
        value = at(item, path)
        if isinstance(value, str):
            found = table.severities.get(value.strip().lower())
            if found is not None:
                return found
            value = _number(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            steps = [key for key in table.severities if isinstance(key, int) and key <= value]
            if steps:
                return table.severities[max(steps)]
    return Severity.UNKNOWN


def _number(text: str) -> float | None:
    digits = text.strip()
    plain = len(digits) <= 6 and digits.replace(".", "", 1).isdigit() and digits.isascii()  # noqa: PLR2004
    return float(digits) if plain else None


_READERS: Mapping[str, Callable[[Any], str]] = {
    "container_id": values.container_id,
    "image": values.image_name,
    "digest": values.digest,
}


def target_of(item: Any, paths: Mapping[str, Paths], cluster: str) -> Target:
    """What the item is about, from the fields that name it and nothing else."""
    parts = {
        part: first(item, options, _READERS.get(part, values.name))
        for part, options in paths.items()
        if part != "workload"
    }
    if parts.get("container") == "host":
        del parts["container"]
    return Target(cluster=cluster, workload=_workload(item, paths.get("workload", ())), **parts)


def _workload(item: Any, pairs: Paths) -> str:
    """`Kind/name` of an owner; a bare pod has none."""
    for pair in pairs:
        kind_path, _, name_path = pair.partition(_PAIR)
        kind = KINDS.get(values.string(at(item, kind_path)).lower(), "")
        named = values.name(at(item, name_path))
        if kind and named:
            return f"{kind}/{named}"
    return ""


def place_of(target: Target) -> str:
    """Where it is, as a fingerprint's part: pod, container, workload, image, node or host."""
    if target.pod:
        return f"{target.namespace}/{target.pod}/{target.container}"
    owner = f"{target.namespace}/{target.workload}" if target.workload else ""
    return target.container_id[:12] or owner or target.image or target.node or target.host


def identity(value: Any) -> str:
    """A value as one part of a fingerprint: lists and objects by their flat words."""
    if isinstance(value, dict | list):
        return "\n".join(f"{key}={item}" for key, item in sorted(values.flat(value).items()))
    return "" if value is None else str(value)
