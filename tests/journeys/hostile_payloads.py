"""What is posted: recorded and own payloads, and each of their fields turned into something odd."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.adapters.sources import payloads
from tests.doubles.corpus import corpus


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    made: Any = "bottom"
    for _ in range(levels):
        made = [made]
    return made


TOO_DEEP = "too deep"
ODD: Mapping[str, Any] = {
    "null": None,
    "list": ["x", 1, None, {}],
    "object": {"k": "v", "name": {}, "0": []},
    "number": 7,
    "string": "../../etc\r\n\x1b[31m\u202e${{ x }}\x00<script>",
    "huge": "A" * 70_000,
    "deep": deep(40),
    TOO_DEEP: deep(200),
}
_FOLDERS = {"falcosidekick": "falco"}
_SOURCES = ("falco", "alertmanager", "pagerduty", "github", "generic")
_STRIDE = 7919  # a prime: neighbours of the sample are far apart in the product


@dataclass(frozen=True)
class Payload:
    """One body and the source that it was written for, if it is one of ours."""

    name: str
    source: str
    value: Any
    raw: bytes = b""  # of what is no JSON


@dataclass(frozen=True)
class Odd:
    """One payload with one field replaced."""

    payload: Payload
    path: tuple[Any, ...]
    kind: str

    @property
    def value(self) -> Any:
        """The changed payload."""
        return with_value(self.payload.value, self.path, ODD[self.kind])


def own() -> list[Payload]:
    """The payloads that the sources' own tests use."""
    return [
        Payload(f"{source} {number}", source, value)
        for source, values in payloads.ALL.items()
        for number, value in enumerate(values)
    ]


def recorded() -> list[Payload]:
    """Every recorded payload; none without the corpus."""
    root = corpus()
    if root is None:
        return []
    files = sorted(
        path
        for folder in ("alerts", "falco-talon")
        for path in (root / folder).rglob("*")
        if path.suffix in {".json", ".txt"}
    )
    return [_read(path) for path in files]


def _read(path: Path) -> Payload:
    body = path.read_bytes()
    folder = path.parent.name
    try:
        value = json.loads(body)
    except ValueError:
        return Payload(path.name, "", None, raw=body)
    return Payload(f"{folder}/{path.name}", _FOLDERS.get(folder, folder), value)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside, the top included; the first two items of each list."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for at in range(min(len(value), 2)):
            yield from places(value[at], (*path, at))


def with_value(payload: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the payload with one value replaced."""
    if not path:
        return value
    changed = copy.copy(payload)
    at = changed
    for key in path[:-1]:
        at[key] = copy.copy(at[key])
        at = at[key]
    at[path[-1]] = value
    return changed


def of_matching_senders(given: list[Payload]) -> list[Odd]:
    """For each source every field that any of its payloads has, by every odd kind, once each."""
    found: dict[tuple[str, tuple[str, ...]], tuple[Payload, tuple[Any, ...]]] = {}
    for payload in given:
        if payload.source in _SOURCES and not payload.raw:
            for path in places(payload.value):
                field = tuple("[]" if isinstance(part, int) else part for part in path)
                found.setdefault((payload.source, field), (payload, path))
    return [Odd(payload, path, kind) for payload, path in found.values() for kind in ODD]


def sample(given: list[Payload], number: int) -> list[Odd]:
    """So many of all payloads' fields by odd kinds, evenly over the whole, the same every time."""
    fields = [(p, path) for p in given if not p.raw for path in places(p.value)]
    kinds = list(ODD)
    total = len(fields) * len(kinds)
    chosen = []
    for step in range(min(number, total)):
        field, kind = divmod(step * _STRIDE % total, len(kinds))
        chosen.append(Odd(*fields[field], kinds[kind]))
    return chosen
