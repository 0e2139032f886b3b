"""The verbs that only look. None of them changes anything, whoever asks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from responder.clock import iso
from responder.errors import NotFound, PlaybookError
from responder.model import Role
from responder.service import views
from responder.service.core import Core, Who, require
from responder.store.interface import IncidentRow
from responder.text import cut

__all__ = ["Reading"]

_HEARTBEAT = 15.0  # seconds without news before a live page gets a sign of life
_PAGE_MAX = 500
_ENDED = {"resolved", "closed"}


class Reading:
    """Lists, pages and live streams."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def incidents(
        self,
        who: Who,
        *,
        status: str = "",
        since: int = 0,
        limit: int = 50,
        before: int | None = None,
    ) -> dict[str, Any]:
        """Incidents, newest first."""
        require(who, Role.VIEWER)
        limit = max(1, min(limit, _PAGE_MAX))
        rows = await self._core.store.incidents(
            status=status, since=since, limit=limit, before=before
        )
        cursor = rows[-1].number if len(rows) == limit else None
        return views.page([views.incident(row) for row in rows], cursor)

    async def number(self, reference: str | int) -> int:
        """`42`, `#42` or `@latest` as a number. Raises `NotFound`."""
        text = str(reference).lstrip("#")
        if text == "@latest":
            latest = await self._core.store.latest_incident()
            if latest is None:
                raise NotFound("there is no incident yet")
            return latest
        if not text.isascii() or not text.isdigit() or len(text) > 15:  # noqa: PLR2004
            raise NotFound(f'"{text[:40]}" is no incident number; try @latest')
        return int(text)

    async def incident(self, who: Who, number: int | str) -> dict[str, Any]:
        """One incident with its runs and their steps."""
        require(who, Role.VIEWER)
        row = await self._core.store.incident(await self.number(number))
        runs = await self._core.store.runs(incident=row.number, limit=50)
        shown = [await self._shown(run.id) for run in runs]
        return {**views.incident(row), "runs": shown}

    async def timeline(self, who: Who, number: int | str, after: int = 0) -> dict[str, Any]:
        """An incident's story after an entry, oldest first."""
        require(who, Role.VIEWER)
        row = await self._core.store.incident(await self.number(number))
        entries = await self._core.store.timeline(row.number, after)
        return views.page([views.timeline_entry(e) for e in entries])

    async def watch(
        self, who: Who, number: int | str, after: int = 0
    ) -> AsyncIterator[dict[str, Any] | None]:
        """The story as it happens; None is a sign of life. Ends when all of it is told."""
        require(who, Role.VIEWER)
        wanted = (await self._core.store.incident(await self.number(number))).number
        while True:
            news = self._core.news.listen(wanted)
            row = await self._core.store.incident(wanted)
            entries = await self._core.store.timeline(wanted, after)
            for entry in entries:
                after = entry.id
                yield views.timeline_entry(entry)
            if not entries and await self._over(row):
                return
            if not entries:
                try:
                    async with asyncio.timeout(_HEARTBEAT):
                        await news.wait()
                except TimeoutError:
                    yield None

    async def _over(self, row: IncidentRow) -> bool:
        """Whether nothing more is going to be told: every run has ended."""
        if "draining" in self._core.state:
            return True
        runs = await self._core.store.runs(incident=row.number, limit=50)
        return bool(runs) and all(run.outcome for run in runs) and row.status in _ENDED

    async def run(self, who: Who, run_id: str) -> dict[str, Any]:
        """One run with its steps."""
        require(who, Role.VIEWER)
        return await self._shown(run_id)

    async def _shown(self, run_id: str) -> dict[str, Any]:
        """A run with its steps; without them where its playbook can no longer be read."""
        try:
            return views.run_state(*await self._core.driver.load(run_id))
        except PlaybookError as error:
            row, _ = await self._core.store.load_run(run_id)
            why = row.reason or cut(f"it cannot be read: {error}", 600)
            return {**views.run_row(row), "reason": why, "target": {}, "steps": []}

    async def plan(self, who: Who, run_id: str, step: str) -> dict[str, Any]:
        """A step's plan as JSON and as a diff."""
        require(who, Role.VIEWER)
        _, run = await self._core.driver.load(run_id)
        state = run.steps.get(step)
        if state is None or state.plan is None:
            raise NotFound(f"run {run_id} has no plan for a step named {step[:80]}")
        shown = {key: value for key, value in state.plan.items() if key != "data"}
        return {"plan": shown, "diff": views.diff(state.plan), "hash": state.plan_hash}

    async def playbooks(self, who: Who) -> list[dict[str, Any]]:
        """The playbooks in force."""
        require(who, Role.VIEWER)
        loaded = sorted(self._core.live.by_name.values(), key=lambda p: p.name)
        return [views.playbook(one) for one in loaded]

    async def playbook(self, who: Who, name: str) -> dict[str, Any]:
        """One playbook with its text and inputs."""
        require(who, Role.VIEWER)
        return views.playbook(self._core.live.named(name), full=True)

    async def alerts(self, who: Who, number: int | str = "", hook: str = "") -> dict[str, Any]:
        """Stored alerts, newest first; the raw payload is left out."""
        require(who, Role.VIEWER)
        incident = await self.number(number) if number != "" else None
        rows = await self._core.store.alerts(incident=incident, hook=hook)
        return views.page([{k: v for k, v in row.items() if k != "raw"} for row in rows])

    async def audit(self, who: Who, after: int = 0, limit: int = 200) -> dict[str, Any]:
        """The audit chain, oldest first."""
        require(who, Role.VIEWER)
        rows = await self._core.store.audit(after=after, limit=max(1, min(limit, _PAGE_MAX)))
        cursor = rows[-1].id if rows else None
        return views.page([views.audit_line(row) for row in rows], cursor)

    async def audit_verify(self, who: Who) -> dict[str, Any]:
        """Whether the chain is unbroken."""
        require(who, Role.VIEWER)
        found = (await self._core.store.check()).get("audit", "ok")
        return {"ok": found == "ok", "detail": found}

    async def evidence(self, who: Who, number: int | str) -> dict[str, Any]:
        """What is kept for an incident."""
        require(who, Role.VIEWER)
        row = await self._core.store.incident(await self.number(number))
        kept = await self._core.store.evidence(row.number)
        return views.page([views.evidence_row(one) for one in kept])

    async def evidence_bytes(self, who: Who, number: int | str, sha256: str) -> bytes:
        """One artefact's bytes. Raises `NotFound` when it is not this incident's."""
        require(who, Role.RESPONDER)
        row = await self._core.store.incident(await self.number(number))
        if all(kept.sha256 != sha256 for kept in await self._core.store.evidence(row.number)):
            raise NotFound(f"incident {row.number} has no artefact with that hash")
        return await self._core.store.evidence_bytes(sha256)

    async def evidence_verify(self, who: Who, number: int | str) -> dict[str, Any]:
        """Read every artefact again and compare its hash."""
        require(who, Role.VIEWER)
        row = await self._core.store.incident(await self.number(number))
        items = []
        for kept in await self._core.store.evidence(row.number):
            try:
                data = await self._core.store.evidence_bytes(kept.sha256)
                same = hashlib.sha256(data).hexdigest() == kept.sha256
            except NotFound:
                same = False
            items.append({"name": kept.name, "sha256": kept.sha256, "ok": same})
        return {"ok": all(item["ok"] for item in items), "items": items}

    async def status(self, who: Who) -> dict[str, Any]:
        """The server in one look."""
        require(who, Role.VIEWER)
        now = self._core.world.clock.now()
        counts = await self._core.store.counts(now)
        degraded = [v for k, v in self._core.state.items() if k.startswith("degraded:")]
        return {
            "version": self._core.version,
            "now": iso(now),
            "paused": self._core.pause.reason,
            "degraded": degraded,
            "draining": "draining" in self._core.state,
            "playbooks": len(self._core.live.by_name),
            "hooks": sorted(self._core.hooks),
            "busy": self._core.driver.busy,
            "counts": dict(counts),
        }

    async def ready(self) -> dict[str, str]:
        """Readiness, one check a line: a lost cluster is `degraded`, not unready."""
        checks = {
            "store": "ok" if await self._core.store.writable() else "takes no writes",
            "playbooks": "ok",
            "draining": "draining" if "draining" in self._core.state else "ok",
        }
        for name, text in self._core.state.items():
            if name.startswith("degraded:"):
                checks[name] = f"ok ({text})"
        return checks

    def alive(self) -> bool:
        """The event loop turns, or nobody could ask."""
        return True

    async def metrics_text(self) -> bytes:
        """The Prometheus page."""
        counts = await self._core.store.counts(self._core.world.clock.now())
        return self._core.metrics.text(counts, paused=bool(self._core.pause.reason))
