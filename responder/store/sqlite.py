"""The store on SQLite: one file, one process, one writer.

Every method is one operation on a lane of `writer.py`; the SQL is in the files beside this one.
Nothing is acknowledged before it is flushed (`synchronous=FULL`), nothing here reads a clock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from responder.errors import NotFound, StoreUnavailable
from responder.store import (
    _audit,
    _desk,
    _evidence,
    _incidents,
    _intake,
    _journal,
    _upkeep,
)
from responder.store._commit import RESERVE, Committer
from responder.store._home import Home
from responder.store._text import encode
from responder.store.interface import (
    Accept,
    AuditEntry,
    Event,
    EvidenceRow,
    IncidentPatch,
    IncidentRow,
    Opening,
    Receipt,
    RunRow,
    RunStart,
    RunUpdate,
    TimelineEntry,
    TokenRow,
)
from responder.store.writer import ThreadWriter, Writer

__all__ = ["SqliteStore"]


class SqliteStore:
    """`Store` on one SQLite file, with the evidence folder beside it.

    `writer` chooses who runs blocking calls (`ThreadWriter` by default). `reserve` is the room kept
    for stopping and undoing while the disk is full. `synchronous` is there for the test that shows
    what a weaker setting loses; never set it elsewhere.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        writer: Writer | None = None,
        reserve: int = RESERVE,
        synchronous: str = "FULL",
    ) -> None:
        self._home = Home(Path(path), synchronous=synchronous)
        self._vault = _evidence.Vault(Path(path).parent / "evidence")
        self._lanes: Writer = writer or ThreadWriter()
        self._reserve = reserve

    # ----------------------------------------------------------------- life
    async def open(self) -> None:
        """Take the lock, bring the schema up to date. Raises `ConfigError` when it may not."""
        self._home.claim()
        try:
            self._home.prepare()
            await self._lanes.start(
                lambda: Committer(self._home, reserve=self._reserve), self._home.reader
            )
        except BaseException:
            self._lanes.abandon()
            self._home.release()
            raise

    async def close(self) -> None:
        """Finish what was promised and let go."""
        await self._lanes.stop()
        self._home.release()

    def abandon(self) -> None:
        """Let go at once, as a killed process would; for the simulation and crash tests."""
        self._lanes.abandon()
        self._home.release()

    async def check(self) -> Mapping[str, str]:
        """Integrity, schema, journal gaps, references, audit chain and evidence."""
        return await self._lanes.aside(lambda: _upkeep.check(self._home, self._vault))

    async def backup(self, path: str) -> str:
        """A consistent copy made while running; returns its SHA-256."""
        return await self._lanes.aside(lambda: _upkeep.backup(self._home, Path(path)))

    async def writable(self) -> bool:
        """Whether an alert would be taken now; commits a real write to find out."""
        try:
            await self._lanes.write(_beat, essential=False)
        except StoreUnavailable:
            return False
        return True

    # ----------------------------------------------------------------- intake
    async def accept(self, items: Sequence[Accept]) -> list[Receipt]:
        """Store alerts, join or open incidents, create runs and first events: one transaction."""
        ready = [_intake.prepare(item) for item in items]
        return await self._lanes.write(_intake.Take(ready), essential=False)

    async def start_run(
        self,
        run_id: str,
        start: RunStart,
        at: int,
        created: Event,
        *,
        incident: int | None,
        opening: Opening | None,
    ) -> tuple[str, int]:
        """A run by hand, in a given incident or a new one; returns run id and incident."""
        new = _intake.draft(run_id, start, at, created)
        about = encode(created.data.get("target", {}))
        place = _intake.opened(opening, about) if opening else None

        def op(db: sqlite3.Connection) -> tuple[str, int]:
            if incident is not None:
                number = _incidents.one(db, incident).number
            elif place is not None:
                number = _intake.find_or_open(db, place, at, 0)
            else:
                raise NotFound("a run needs an incident, or an opening for one")
            return _intake.create_run(db, number, new, always=True)[0], number

        return await self._lanes.write(op)

    # ----------------------------------------------------------------- runs
    async def due_runs(self, now: int, limit: int, exclude: Sequence[str] = ()) -> list[str]:
        """Runs whose due time has come, oldest due first."""
        return await self._lanes.read(lambda db: _journal.due(db, now, limit, exclude))

    async def next_due(self, now: int) -> int | None:
        """The nearest due time after now, or None."""
        return await self._lanes.read(lambda db: _journal.next_due(db, now))

    async def load_run(self, run_id: str) -> tuple[RunRow, list[Event]]:
        """A run with its whole journal. Raises `NotFound`."""
        return await self._lanes.read(lambda db: _journal.load(db, run_id))

    async def append(  # noqa: PLR0913 - one transaction has these parts
        self,
        run_id: str,
        known_seq: int,
        events: Sequence[Event],
        update: RunUpdate | None = None,
        timeline: Sequence[TimelineEntry] = (),
        audit: Sequence[AuditEntry] = (),
        patch: IncidentPatch | None = None,
        *,
        busy: bool = False,
    ) -> list[Event]:
        """Add events at the end; returns every event after `known_seq`, others' included.

        When others' events were among them, the run stays due: `update` was made without them.
        """
        lines = [(event, encode(dict(event.data))) for event in events]

        def op(db: sqlite3.Connection) -> list[Event]:
            added = _journal.append(db, run_id, known_seq, lines, update, busy=busy)
            if patch is not None:
                at = added[-1].at if added else 0
                _journal.patch_incident(db, run_id, at, patch)
            _incidents.add_story(db, timeline)
            _audit.add(db, audit)
            return added

        return await self._lanes.write(op)

    async def defer_run(self, run_id: str, due: int) -> None:
        """Look at this run again at a later time, whatever its row says."""
        await self._lanes.write(lambda db: _journal.defer(db, run_id, due))

    async def recent_events(self, type_: str, since: int) -> list[Event]:
        """Journal events of one type over all runs, oldest first: for the ceilings."""
        return await self._lanes.read(lambda db: _journal.recent(db, type_, since))

    async def set_run(self, run_id: str, known_seq: int, update: RunUpdate) -> bool:
        """Write only the row; False (and nothing written) when the journal has grown meanwhile."""
        return await self._lanes.write(lambda db: _journal.set_row(db, run_id, known_seq, update))

    async def heard(self, correlation: str, at: int) -> list[str]:
        """Append a `hint` event to open runs waiting for this correlation; their ids."""
        return await self._lanes.write(lambda db: _journal.heard(db, correlation, at))

    async def correlated(self, correlation: str, after: str = "", limit: int = 200) -> list[str]:
        """Runs that this name leads to, ended ones included, in the order of their making."""
        return await self._lanes.read(lambda db: _journal.correlated(db, correlation, after, limit))

    async def runs(
        self, *, incident: int | None = None, status: str = "", limit: int = 100, before: str = ""
    ) -> list[RunRow]:
        """Runs, newest first; status `open` means all without an outcome."""
        return await self._lanes.read(lambda db: _journal.rows(db, incident, status, limit, before))

    async def counts(self, now: int) -> Mapping[str, float]:
        """Figures for metrics: open runs by status, oldest pending age, quarantines, sizes."""
        return await self._lanes.read(lambda db: _upkeep.counts(db, now, self._home))

    # ----------------------------------------------------------------- incidents
    async def incidents(
        self, *, status: str = "", since: int = 0, limit: int = 50, before: int | None = None
    ) -> list[IncidentRow]:
        """Incidents, newest first."""
        return await self._lanes.read(lambda db: _incidents.rows(db, status, since, limit, before))

    async def incident(self, number: int) -> IncidentRow:
        """One incident. Raises `NotFound`."""
        return await self._lanes.read(lambda db: _incidents.one(db, number))

    async def latest_incident(self) -> int | None:
        """The number behind `@latest`."""
        return await self._lanes.read(_incidents.latest)

    async def set_incident(
        self,
        number: int,
        at: int,
        *,
        status: str = "",
        target: Mapping[str, Any] | None = None,
        stage: str = "",
    ) -> None:
        """Change status, fill in the target, or note that a stage was reached (kept once)."""
        await self._lanes.write(
            lambda db: _incidents.change(
                db, number, at, status=status, target=target, stages={stage: at} if stage else {}
            )
        )

    async def alerts(
        self, *, incident: int | None = None, hook: str = "", limit: int = 100, before: str = ""
    ) -> list[Mapping[str, Any]]:
        """Stored alerts (id, hook, received, incident, duplicate_of, alert, raw), newest first."""
        return await self._lanes.read(
            lambda db: _incidents.alerts(db, incident, hook, limit, before)
        )

    async def alert(self, alert_id: str) -> Mapping[str, Any]:
        """One stored alert. Raises `NotFound`."""
        return await self._lanes.read(lambda db: _incidents.alert(db, alert_id))

    async def add_timeline(self, entries: Sequence[TimelineEntry]) -> None:
        """Notes and other lines that belong to no run."""
        await self._lanes.write(lambda db: _incidents.add_story(db, entries))

    async def timeline(
        self, incident: int, after: int = 0, limit: int = 1000
    ) -> list[TimelineEntry]:
        """An incident's story after an entry's id, oldest first."""
        return await self._lanes.read(lambda db: _incidents.story(db, incident, after, limit))

    # ----------------------------------------------------------------- evidence
    async def put_evidence(self, row: EvidenceRow, data: bytes) -> None:
        """Keep the bytes (write, fsync, rename, fsync the folder), then the row."""
        await self._lanes.aside(lambda: self._vault.put(row.sha256, data))
        await self._lanes.write(lambda db: _evidence.add_row(db, row))

    async def evidence(self, incident: int) -> list[EvidenceRow]:
        """What is kept for an incident, oldest first."""
        return await self._lanes.read(lambda db: _evidence.rows(db, incident))

    async def evidence_bytes(self, sha256: str) -> bytes:
        """The bytes under a hash. Raises `NotFound`, `Conflict` when they were altered."""
        return await self._lanes.aside(lambda: self._vault.get(sha256))

    # ----------------------------------------------------------------- audit, tokens, switches
    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append to the chain."""
        await self._lanes.write(lambda db: _audit.add(db, entries))

    async def audit(self, *, after: int = 0, limit: int = 200) -> list[AuditEntry]:
        """The chain, oldest first."""
        return await self._lanes.read(lambda db: _audit.entries(db, after, limit))

    async def add_token(self, row: TokenRow, audit: AuditEntry) -> None:
        """Keep a token's hash."""

        def op(db: sqlite3.Connection) -> None:
            _desk.add_token(db, row)
            _audit.add(db, [audit])

        await self._lanes.write(op)

    async def find_token(self, token_hash: str) -> TokenRow | None:
        """The token with this hash, revoked and expired ones included."""
        return await self._lanes.read(lambda db: _desk.find_token(db, token_hash))

    async def tokens(self) -> list[TokenRow]:
        """All tokens."""
        return await self._lanes.read(_desk.tokens)

    async def revoke_token(self, token_id: str, at: int, audit: AuditEntry) -> None:
        """End a token. Raises `NotFound`."""

        def op(db: sqlite3.Connection) -> None:
            _desk.revoke_token(db, token_id, at)
            _audit.add(db, [audit])

        await self._lanes.write(op)

    async def get_switch(self, name: str) -> Mapping[str, Any] | None:
        """A durable setting such as `pause`."""
        return await self._lanes.read(lambda db: _desk.get_switch(db, name))

    async def set_switch(
        self, name: str, value: Mapping[str, Any] | None, audit: AuditEntry
    ) -> None:
        """Write or remove it, with its audit line, in one transaction."""

        def op(db: sqlite3.Connection) -> None:
            _desk.set_switch(db, name, value)
            _audit.add(db, [audit])

        await self._lanes.write(op)

    async def strike(self, kind: str, key: str, reason: str, at: int) -> int:
        """Count a failure that must not repeat for ever; the count so far."""
        return await self._lanes.write(lambda db: _desk.strike(db, kind, key, reason, at))

    async def strikes(self, kind: str = "") -> list[Mapping[str, Any]]:
        """What was struck: kind, key, count, reason, at."""
        return await self._lanes.read(lambda db: _desk.strikes(db, kind))

    async def remember(
        self, key: str, request: str, answer: Mapping[str, Any] | None, at: int
    ) -> Mapping[str, Any] | None:
        """Idempotency: claim key for a request hash, or return what was stored for it."""
        text = None if answer is None else encode(dict(answer))
        return await self._lanes.write(lambda db: _desk.remember(db, key, request, text, at))


def _beat(db: sqlite3.Connection) -> None:
    db.execute("UPDATE probe SET beats=beats+1")
