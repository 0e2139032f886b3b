"""Parts with one bug each, as somebody might write them; the simulation must find every one.

They stand in place of our own parts only inside the tests of this folder.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from responder.model import Plan, Verdict, VerdictLevel
from responder.ports import Call, Done, Pending
from responder.store import _intake
from responder.store.interface import Accept, Event, Receipt, RunUpdate
from responder.store.sqlite import SqliteStore
from tests.simulation.actions import Build, Mark, building

__all__ = ["BlindMark", "ForgetfulBuild", "HastyStore", "RacyStore", "SleepyStore"]


class RacyStore(SqliteStore):
    """Dedup race: looks for the alert in one transaction and inserts it in another."""

    async def accept(self, items: Sequence[Accept]) -> list[Receipt]:
        """Check, then insert; between the two somebody else does the same."""
        ready = [_intake.prepare(item) for item in items]

        def check(db: sqlite3.Connection) -> list[bool]:
            query = "SELECT 1 FROM sightings WHERE hook=? AND fingerprint=?"
            return [bool(db.execute(query, (i.hook, i.fingerprint)).fetchone()) for i in ready]

        known = await self._lanes.read(check)
        ready = [
            item if seen else item._replace(window=0)
            for item, seen in zip(ready, known, strict=True)
        ]
        return await self._lanes.write(lambda db: _intake.take(db, ready), essential=False)


class SleepyStore(SqliteStore):
    """Lost wake-up: what a person says is written, and the run's row is left as it was."""

    async def append(
        self,
        run_id: str,
        known_seq: int,
        events: Sequence[Event],
        update: RunUpdate | None = None,
        *rest: Any,
        **named: Any,
    ) -> list[Event]:
        """Write the event and put the row's due time back to what it was."""
        if update is not None or known_seq:
            return await super().append(run_id, known_seq, events, update, *rest, **named)
        query = "SELECT due FROM runs WHERE id=?"
        due = await self._lanes.read(lambda db: db.execute(query, (run_id,)).fetchone()[0])
        added = await super().append(run_id, known_seq, events, update, *rest, **named)
        change = "UPDATE runs SET due=? WHERE id=?"
        await self._lanes.write(lambda db: db.execute(change, (due, run_id)).close())
        return added


class HastyStore(SqliteStore):
    """Double effect: a save is answered before it is on disk, so that effects come first."""

    async def append(
        self,
        run_id: str,
        known_seq: int,
        events: Sequence[Event],
        update: RunUpdate | None = None,
        *rest: Any,
        **named: Any,
    ) -> list[Event]:
        """Promise, then write."""
        work = super().append(run_id, known_seq, events, update, *rest, **named)
        if update is not None or not known_seq:
            return await work
        self.late = asyncio.ensure_future(work)
        return [
            Event(event.type, event.at, event.data, known_seq + number)
            for number, event in enumerate(events, 1)
        ]


class ForgetfulBuild(Build):
    """Double dispatch: begins anew without a look whether an earlier attempt got through."""

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Dispatch, whatever `call.resumed` says."""
        await self._outside.dispatch(call.key)
        return building(call.key)


class BlindMark(Mark):
    """Says of what it has isolated that all is well, and never looks again."""

    async def recheck(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """What was true once."""
        return Verdict(level=VerdictLevel.APPLIED)
