"""A sender as a value: its table, the events that start nothing, and how to split a body.

Most senders differ only in the names of their fields, so a sender's file holds a `Table`, a list
of `Ignored` and, where that is not enough, a function or two.

Never: does I/O, reads a clock, raises on an odd value, or lets a payload choose the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from importlib import resources
from typing import Any

from integrations import _values as values
from integrations._json import BODY_MAX, as_text, decode
from integrations._keys import KeyRing
from integrations._table import (
    RULE_MAX,
    TAGS_MAX,
    Ignored,
    Page,
    Table,
    at,
    first,
    identity,
    own_kind,
    place_of,
    severity_in,
    target_of,
    texts,
    verdict,
    word,
)
from integrations._webhook import Guard
from responder.clock import World
from responder.errors import BadAlert
from responder.model import Alert, AlertKind, JsonObject
from responder.ports import HookInfo, Integration, Kit

__all__ = [
    "Door",
    "Ignored",
    "Page",
    "Sender",
    "Table",
    "at",
    "first",
    "listed",
    "own_kind",
    "payloads",
    "place_of",
    "sample_of",
    "texts",
    "verdict",
    "word",
]


def listed(*keys: str) -> Callable[[Any], list[Any]]:
    """How to split a body: an array, or the list under one of these keys, else the body itself."""

    def split(payload: Any) -> list[Any]:
        if isinstance(payload, list):
            return payload
        if isinstance(payload, dict):
            for key in keys:
                if isinstance(payload.get(key), list):
                    return list(payload[key])
        return [payload]

    return split


_RAW_MAX = 1 << 20  # characters of one part that are kept beside its alert
_WHOLE = listed()  # an array, or the body itself


def _as_it_is(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    return item


def _no_more(alert: Alert, _item: JsonObject) -> Alert:
    return alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One sender, whole. `setup` is the module's entry.

    `split` gives a body's parts, each with a fate of its own. `shape` turns a part into what the
    table reads, or says why it cannot (then it is *unparsed*). `finish` adds what no table can say.
    `media` are content types beyond JSON that this sender uses, "" for none at all.
    """

    name: str
    title: str
    home: str  # where the vendor describes it
    mapping: Table
    ignored: Sequence[Ignored] = ()
    split: Callable[[Any], list[Any]] = _WHOLE
    read: Callable[[bytes], list[Any]] | None = None  # instead of JSON
    # the payloads that only the headers tell apart; none: the body is read as ever
    receive: Callable[[Mapping[str, str], bytes], list[Any]] | None = None
    shape: Callable[[JsonObject, HookInfo], JsonObject | str] = _as_it_is
    finish: Callable[[Alert, JsonObject], Alert] = _no_more
    accepts_status: int = HTTPStatus.ACCEPTED.value
    media: frozenset[str] = frozenset()
    body_max: int = BODY_MAX  # bytes; reports are larger than alerts

    def setup(self, section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
        """Offer this source; it has no settings of its own. Raises `ConfigError` if given any."""
        del kit
        values.no_settings(section, self.name)
        ring = KeyRing(world)
        return Integration(sources=[Door(self, Guard(world, ring))], close=ring.close)

    def alert(self, item: Any, raw: str, hook: HookInfo) -> Alert:
        """One part of a body as an alert."""
        if isinstance(item, _Broken):
            return values.unparsed(self.name, item.reason, item.raw)
        if not isinstance(item, dict):
            return values.unparsed(self.name, "the event is not an object", raw)
        shaped = self.shape(item, hook)
        if isinstance(shaped, str):
            return values.unparsed(self.name, shaped, raw)
        table = self.mapping
        rule = first(shaped, table.rule, word)[:RULE_MAX]
        kind, reason = self._kind(shaped)
        if not rule:
            if kind.may_start:
                return values.unparsed(self.name, f"nothing at {' or '.join(table.rule)}", raw)
            rule = f"{self.title}: {reason}"
        target = target_of(shaped, table.target, hook.cluster)
        made = Alert(
            source=self.name,
            kind=kind,
            rule=rule,
            severity=severity_in(shaped, table),
            summary=values.summary(*(at(shaped, path) for path in table.summary), rule),
            time=first(shaped, table.time, values.micros, 0),
            fingerprint=values.fingerprint_of(
                self.name,
                rule,
                place_of(target),
                *(identity(at(shaped, path)) for path in table.fingerprint),
                *own_kind(kind),
            ),
            target=target,
            tags=tuple(tag for path in table.tags for tag in texts(at(shaped, path)))[:TAGS_MAX],
            fields=values.flat(shaped),
            reason=reason,
            raw=raw[:_RAW_MAX],
        )
        return _ended(self.finish(made, shaped))

    def _kind(self, item: JsonObject) -> tuple[AlertKind, str]:
        return verdict(self.ignored, item, self.mapping.kind)


class Door:
    """A sender with the guard of this server: what the product calls a source."""

    def __init__(self, sender: Sender, guard: Guard) -> None:
        self.name = sender.name
        self.accepts_status = sender.accepts_status
        self.media = sender.media  # content types beyond JSON
        self.body_max = sender.body_max
        self._sender = sender
        self._guard = guard

    @property
    def sample(self) -> bytes:
        """A payload in this sender's own shape, for `responder hook test` and for its page."""
        return sample_of(self.name)

    def preverify(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """What can be checked before the body is read; raises `Unauthorized`."""
        self._guard.before(headers, hook)

    async def prepare(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Fetch what `verify` will need, if anything; raises `Unauthorized`, `StoreUnavailable`."""
        await self._guard.prepare(headers, body, hook)

    async def follow(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """After everything is stored: confirm a subscription, where the hook allows it."""
        await self._guard.follow(headers, body, hook)

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Raise `Unauthorized` unless the sender holds this hook's credentials."""
        self._guard.whole(headers, body, hook)

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """An alert for each part, in the body's order. Raises `BadAlert` when it is no JSON."""
        sender = self._sender
        read = sender.read or partial(payloads, most=sender.body_max)
        told = sender.receive(headers, body) if sender.receive else []
        found = told or read(body)
        items = [
            item
            for payload in found
            for item in ([payload] if isinstance(payload, _Broken) else sender.split(payload))
        ]
        alone = not told and len(found) == len(items) == 1 and items[0] is found[0]
        return values.each(
            items,
            lambda item, raw: sender.alert(item, raw, hook),
            lambda reason, raw: values.unparsed(sender.name, reason, raw),
            as_text(body) if alone and sender.read is None else None,
        )


def sample_of(name: str) -> bytes:
    """The sample payload of a source, from integrations/samples."""
    return resources.files("integrations").joinpath("samples", f"{name}.json").read_bytes()


# --------------------------------------------------------------------------- bodies


class _Broken(str):
    """One line of a body that cannot be read; the others can."""

    __slots__ = ("raw", "reason")
    reason: str
    raw: str


def _broken(reason: str, raw: str) -> _Broken:
    made = _Broken(raw)
    made.reason, made.raw = reason, raw
    return made


def payloads(body: bytes, most: int = BODY_MAX) -> list[Any]:
    """The JSON values of a body: one, or one a line (NDJSON), where a bad line costs only itself.

    Raises `BadAlert` when it is neither.
    """
    try:
        return [decode(body, most)]
    except BadAlert:
        lines = [line for line in body.split(b"\n", values.ALERTS_MAX + 1) if line.strip()]
        if len(lines) < 2 or not lines[0].lstrip(b" \t\xef\xbb\xbf").startswith(b"{"):  # noqa: PLR2004
            raise
        parts = [_line(line) for line in lines]
        if all(isinstance(part, _Broken) for part in parts):
            raise
        return parts


def _line(line: bytes) -> Any:
    try:
        return decode(line)
    except BadAlert as failure:
        return _broken(str(failure), as_text(line))


def _ended(alert: Alert) -> Alert:
    """A resolved alert has a fingerprint of its own and names the one that it ends."""
    if alert.kind is not AlertKind.RESOLVED or alert.resolves:
        return alert
    ended = values.fingerprint_of(alert.fingerprint, "resolved")
    return replace(alert, fingerprint=ended, resolves=alert.fingerprint)
