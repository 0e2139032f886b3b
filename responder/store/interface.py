"""What the product asks of its store, in the product's words: no SQL crosses this line.

Promises every implementation keeps (the contract suite in `tests/core/store/` runs over each):

- a method that returns has its writes on disk; one that raises `StoreUnavailable` has none;
- `accept` and `append` are one transaction each: all of it or nothing;
- the journal is append-only and `(run, seq)` is unique and without gaps;
- times are integers, microseconds UTC, and always passed in: the store reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from responder.store.rows import (
    Accept,
    AuditEntry,
    Brake,
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

__all__ = [
    "Accept",
    "AuditEntry",
    "Brake",
    "Event",
    "EvidenceRow",
    "IncidentPatch",
    "IncidentRow",
    "Opening",
    "Receipt",
    "RunRow",
    "RunStart",
    "RunUpdate",
    "Store",
    "TimelineEntry",
    "TokenRow",
]


class Store(Protocol):
    """Everything durable. One process owns it at a time."""

    # ----------------------------------------------------------------- life
    async def open(self) -> None:
        """Take the lock, bring the schema up to date. Raises `ConfigError` when it may not."""
        ...

    async def close(self) -> None:
        """Finish what was promised and let go."""
        ...

    async def check(self) -> Mapping[str, str]:
        """Integrity, schema version, journal gaps, audit chain: name -> "ok" or what is wrong."""
        ...

    async def backup(self, path: str) -> str:
        """A consistent copy made while running; returns its SHA-256."""
        ...

    async def writable(self) -> bool:
        """Whether a write would be taken now; tries one."""
        ...

    # ----------------------------------------------------------------- intake
    async def accept(self, items: Sequence[Accept]) -> list[Receipt]:
        """Store alerts, join or open incidents, create runs and first events: one transaction."""
        ...

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
        ...

    # ----------------------------------------------------------------- runs
    async def due_runs(self, now: int, limit: int, exclude: Sequence[str] = ()) -> list[str]:
        """Runs whose due time has come, ended ones included: greatest priority, then oldest."""
        ...

    async def next_due(self, now: int) -> int | None:
        """The nearest due time after now, or None."""
        ...

    async def load_run(self, run_id: str) -> tuple[RunRow, list[Event]]:
        """A run with its whole journal. Raises `NotFound`."""
        ...

    async def append(
        self,
        run_id: str,
        known_seq: int,
        events: Sequence[Event],
        update: RunUpdate | None = None,
        timeline: Sequence[TimelineEntry] = (),
        audit: Sequence[AuditEntry] = (),
        patch: IncidentPatch | None = None,
    ) -> list[Event]:
        """Add events at the end; returns every event after `known_seq`, others' included.

        `update=None` leaves the row as it is but makes the run due at once: something was heard,
        or the writer is still at work and a restart must look at the run again. When others wrote
        after `known_seq`, an `update` does not delay the run: it is due now.
        """
        ...

    async def defer_run(self, run_id: str, due: int) -> None:
        """Look at this run again at a later time, whatever its row says."""
        ...

    async def recent_events(self, type_: str, since: int) -> list[Event]:
        """Journal events of one type over all runs, oldest first: for the ceilings."""
        ...

    async def set_run(self, run_id: str, known_seq: int, update: RunUpdate) -> bool:
        """Write only the row; False (and nothing written) when the journal has grown meanwhile."""
        ...

    async def heard(self, correlation: str, at: int) -> list[str]:
        """Append a `hint` event to open runs waiting for this correlation; their ids."""
        ...

    async def correlated(self, correlation: str, after: str = "", limit: int = 200) -> list[str]:
        """Runs that this name leads to, ended ones included, in the order of their making.

        `after` is the last one of the page before.
        """
        ...

    async def runs(
        self, *, incident: int | None = None, status: str = "", limit: int = 100, before: str = ""
    ) -> list[RunRow]:
        """Runs, newest first."""
        ...

    async def counts(self, now: int) -> Mapping[str, float]:
        """Figures for metrics: open runs by status, oldest pending age, quarantines, sizes."""
        ...

    # ----------------------------------------------------------------- incidents
    async def incidents(
        self, *, status: str = "", since: int = 0, limit: int = 50, before: int | None = None
    ) -> list[IncidentRow]:
        """Incidents, newest first."""
        ...

    async def incident(self, number: int) -> IncidentRow:
        """One incident. Raises `NotFound`."""
        ...

    async def latest_incident(self) -> int | None:
        """The number behind `@latest`."""
        ...

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
        ...

    async def alerts(
        self, *, incident: int | None = None, hook: str = "", limit: int = 100, before: str = ""
    ) -> list[Mapping[str, Any]]:
        """Stored alerts (hook, received, duplicate_of, alert, raw), newest first."""
        ...

    async def alert(self, alert_id: str) -> Mapping[str, Any]:
        """One stored alert. Raises `NotFound`."""
        ...

    async def add_timeline(self, entries: Sequence[TimelineEntry]) -> None:
        """Notes and other lines that belong to no run."""
        ...

    async def timeline(
        self, incident: int, after: int = 0, limit: int = 1000
    ) -> list[TimelineEntry]:
        """An incident's story after an entry's id, oldest first."""
        ...

    # ----------------------------------------------------------------- evidence
    async def put_evidence(self, row: EvidenceRow, data: bytes) -> None:
        """Keep the bytes (write, fsync, rename, fsync the folder), then the row."""
        ...

    async def evidence(self, incident: int) -> list[EvidenceRow]:
        """What is kept for an incident, oldest first."""
        ...

    async def evidence_bytes(self, sha256: str) -> bytes:
        """The bytes under a hash. Raises `NotFound`."""
        ...

    # ----------------------------------------------------------------- audit, tokens, switches
    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append to the chain."""
        ...

    async def audit(self, *, after: int = 0, limit: int = 200) -> list[AuditEntry]:
        """The chain, oldest first."""
        ...

    async def add_token(self, row: TokenRow, audit: AuditEntry) -> None:
        """Keep a token's hash."""
        ...

    async def find_token(self, token_hash: str) -> TokenRow | None:
        """The token with this hash, revoked and expired ones included."""
        ...

    async def tokens(self) -> list[TokenRow]:
        """All tokens."""
        ...

    async def revoke_token(self, token_id: str, at: int, audit: AuditEntry) -> None:
        """End a token. Raises `NotFound`."""
        ...

    async def get_switch(self, name: str) -> Mapping[str, Any] | None:
        """A durable setting such as `pause`."""
        ...

    async def set_switch(
        self, name: str, value: Mapping[str, Any] | None, audit: AuditEntry
    ) -> None:
        """Write or remove it, with its audit line, in one transaction."""
        ...

    async def strike(self, kind: str, key: str, reason: str, at: int) -> int:
        """Count a failure that must not repeat for ever; the count so far."""
        ...

    async def strikes(self, kind: str = "") -> list[Mapping[str, Any]]:
        """What was struck: kind, key, count, reason, at."""
        ...

    async def remember(
        self, key: str, request: str, answer: Mapping[str, Any] | None, at: int
    ) -> Mapping[str, Any] | None:
        """Idempotency: claim key for a request hash, or return what was stored for it.

        None: claimed now. Otherwise `{"request": …, "answer": … or None while running}`.
        With an `answer`, it is stored for the claimed key.
        """
        ...
