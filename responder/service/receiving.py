"""The first door: a sender's payload becomes stored alerts, incidents and runs, then an answer.

Nothing a detector said is lost: what cannot be parsed, matched or trusted to start something is
stored with its reason. The answer goes out only after the one transaction is on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from responder.engine.intake import admit
from responder.errors import BadAlert, BadRequest, NotFound, Unauthorized
from responder.model import Alert, AlertKind, Role, Severity, digest_of
from responder.playbook.definition import Playbook
from responder.ports import HookInfo, Source
from responder.service.core import Core, Who, require
from responder.store.interface import Accept, Receipt
from responder.text import suggestion

__all__ = ["Receiving"]

log = logging.getLogger(__name__)
_MOST_ALERTS = 1000  # in one body
_RAW_LIMIT = 1 << 20


class Receiving:
    """Everything between the bytes and the receipt."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def hook(self, name: str) -> HookInfo:
        """The configured door of this name. Raises `NotFound`."""
        found = self._core.hooks.get(name)
        if found is None:
            raise NotFound("there is no such hook")
        return found

    async def preauthorize(self, name: str, headers: Mapping[str, str]) -> None:
        """Refuse what headers alone can refuse, before the body is read."""
        hook = await self.hook(name)
        early = getattr(self._source(hook), "preverify", None)
        if early is not None:
            early(headers, hook)

    async def receive(
        self, name: str, headers: Mapping[str, str], body: bytes, address: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Store a payload and say what became of it. Raises `Unauthorized`, `BadAlert`."""
        del address  # part of every door's call; who sent it is the hook, not an address
        started = self._core.world.clock.monotonic()
        hook = await self.hook(name)
        source = self._source(hook)
        await self._prepare(source, headers, body, hook)
        source.verify(headers, body, hook)
        self._core.heard[hook.name] = self._core.world.clock.now()
        await self._hints(source, headers, body, hook)
        alerts = self._parse(source, headers, body, hook)
        receipts = await self._store(alerts, hook)
        self._count(hook, alerts, receipts, started)
        follow = getattr(source, "follow", None)
        if follow is not None:
            await follow(headers, body, hook)
        return source.accepts_status, {"alerts": [_shown(receipt) for receipt in receipts]}

    async def explain(
        self,
        who: Who,
        hook: str = "",
        payload: bytes | None = None,
        alert: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Why each playbook would or would not start on this alert; stores nothing."""
        require(who, Role.VIEWER)
        if alert is not None:
            alerts = [_given(alert)]
        else:
            info = await self.hook(hook)
            alerts = self._parse(self._source(info), {}, payload or b"", info)
        return [
            {
                "alert": one.to_json(),
                "playbooks": [why.to_json() for why in self._core.live.index.explain(one)],
            }
            for one in alerts
        ]

    async def test(self, who: Who, name: str) -> dict[str, Any]:
        """Send the sender's own sample through a hook as a test, and say what would start.

        It is read, stored and shown like any delivery, but of kind *test*, so nothing starts.
        The sender's credentials are not tried: they are the sender's. Raises `BadRequest` for a
        source that has no sample.
        """
        require(who, Role.RESPONDER)
        hook = await self.hook(name)
        source = self._source(hook)
        sample: bytes = getattr(source, "sample", b"")
        if not sample:
            raise BadRequest(f"hook {name}: its source {source.name} makes no alerts to test")
        now = self._core.world.clock.now()
        await self._core.store.add_audit([self._core.audit(who, "hook test", name)])
        found = self._parse(source, {}, sample, hook)
        receipts = await self._store([_as_test(alert, who, now) for alert in found], hook)
        self._core.metrics.count_received(hook.source, AlertKind.TEST.value)
        index = self._core.live.index
        return {
            "alerts": [
                {
                    **_shown(receipt),
                    "rule": alert.rule,
                    "kind": alert.kind.value,
                    "target": alert.target.to_json(),
                    "would_start": [playbook.name for playbook in index.match(alert)],
                }
                for alert, receipt in zip(found, receipts, strict=True)
            ]
        }

    # ----------------------------------------------------------------- parts

    def _source(self, hook: HookInfo) -> Source:
        return self._core.sources[hook.source]

    async def _prepare(
        self, source: Source, headers: Mapping[str, str], body: bytes, hook: HookInfo
    ) -> None:
        """Let a source fetch public keys before it checks; the check itself does no I/O."""
        prepare = getattr(source, "prepare", None)
        if prepare is not None:
            await prepare(headers, body, hook)

    async def _hints(
        self, source: Source, headers: Mapping[str, str], body: bytes, hook: HookInfo
    ) -> None:
        """A forge's webhook only says "look now"; what is true is asked by polling."""
        hints = getattr(source, "hints", None)
        if hints is None:
            return
        now = self._core.world.clock.now()
        for correlation in hints(headers, body, hook):
            for run in await self._core.store.heard(correlation, now):
                self._core.driver.heard(run)

    def _parse(
        self, source: Source, headers: Mapping[str, str], body: bytes, hook: HookInfo
    ) -> list[Alert]:
        try:
            alerts = source.parse(headers, body, hook)
        except (BadAlert, Unauthorized):
            raise
        except Exception as error:
            log.exception("source failed", extra={"event": "poison", "source": source.name})
            kept = b"" if "routing_key" in hook.auth else body  # that secret lies in the body
            return [_poison(source, kept, f"the source failed: {type(error).__name__}")]
        if len(alerts) > _MOST_ALERTS:
            raise BadAlert(f"{len(alerts)} alerts in one body, at most {_MOST_ALERTS} are taken")
        return [_bound(alert, hook) for alert in alerts]

    async def _store(self, alerts: Sequence[Alert], hook: HookInfo) -> list[Receipt]:
        if not alerts:
            return []
        now = self._core.world.clock.now()
        items = [self._admit(alert, hook, now) for alert in alerts]
        self._core.driver.foresee(item.alert.target for item in items if item.starts)
        receipts = await self._core.store.accept(items)
        for item, receipt in zip(items, receipts, strict=True):
            self._core.driver.take_up(run for run in receipt.runs if run in item.run_ids)
        for receipt in receipts:
            if receipt.incident is not None:
                self._core.news.tell(receipt.incident)
        return receipts

    def _admit(self, alert: Alert, hook: HookInfo, now: int) -> Accept:
        matching: list[Playbook] = []
        if alert.kind.may_start:
            try:
                matching = self._core.live.index.match(alert)
            except Exception:
                log.exception("matching failed", extra={"event": "poison"})
        return admit(alert, hook, matching, now, self._core.rules, self._core.world.ids.new)

    def _count(
        self,
        hook: HookInfo,
        alerts: Sequence[Alert],
        receipts: Sequence[Receipt],
        started: float,
    ) -> None:
        metrics = self._core.metrics
        for alert, receipt in zip(alerts, receipts, strict=True):
            fate = "duplicate" if receipt.duplicate else _fate(alert, receipt)
            metrics.count_received(hook.source, fate)
        clock = self._core.world.clock
        metrics.heard(hook.name, clock.now(), clock.monotonic() - started)


def _bound(alert: Alert, hook: HookInfo) -> Alert:
    """The alert as this hook may speak: of its own cluster, whatever a source made of the words.

    Before matching, so that no condition sees another cluster.
    """
    if alert.target.cluster == hook.cluster:
        return alert
    return replace(alert, target=replace(alert.target, cluster=hook.cluster))


def _fate(alert: Alert, receipt: Receipt) -> str:
    if receipt.runs:
        return "started"
    return "stored" if alert.kind.may_start else alert.kind.value


def _as_test(alert: Alert, who: Who, now: int) -> Alert:
    """The same alert, marked as a test of now; a test is never a repeat of another."""
    return replace(
        alert,
        kind=AlertKind.TEST,
        fingerprint=digest_of([alert.fingerprint, "test", now])[:32],
        reason=f"a test of this hook, asked for by {who.person}",
        time=now,
    )


def _shown(receipt: Receipt) -> dict[str, Any]:
    return {
        "id": receipt.id,
        "incident": receipt.incident,
        "duplicate": receipt.duplicate,
        "runs": list(receipt.runs),
    }


def _poison(source: Source, body: bytes, reason: str) -> Alert:
    raw = body[:_RAW_LIMIT].decode("utf-8", "replace")
    return Alert(
        source=source.name,
        kind=AlertKind.UNPARSED,
        rule="",
        severity=Severity.UNKNOWN,
        summary="a payload that could not be read",
        time=0,
        fingerprint=digest_of(raw),
        reason=reason,
        raw=raw,
    )


def _given(data: Mapping[str, Any]) -> Alert:
    """An alert written by hand, with defaults for what was left out."""
    full = {
        "source": "generic",
        "kind": "detection",
        "rule": "",
        "severity": 0,
        "summary": "",
        "time": 0,
        "fingerprint": "given",
        "target": {},
        "tags": [],
        "labels": {},
        "fields": {},
        "reason": "",
        "resolves": "",
    }
    unknown = set(data) - set(full)
    if unknown:
        name = min(unknown)
        raise BadRequest(f"alert.{name}: is not known; {suggestion(name, full)}", f"/alert/{name}")
    try:
        return Alert.from_json({**full, **data})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRequest(f"alert: cannot be read: {error}", "/alert") from None
