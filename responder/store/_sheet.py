"""One group of alerts on its way into the tables: read what is known at once, write it at once.

Under load a group holds a dozen alerts. A statement for each row would hand the interpreter's
lock to the event loop and back a hundred times in a group, which costs more than the rows do; so
rows are collected here and written with one statement for many. What one alert of the group has
changed is what the next one sees. Nothing is on disk before `flush`, and nothing is decided here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

__all__ = ["Live", "Sheet", "Sighting"]

_MOST = 64  # rows of one statement
_SIZES = (64, 32, 16)  # what is fewer has a statement of its own: few enough to be found again
_NO_GRAVER = -1  # below every severity
Row = Sequence[Any]
Key = tuple[str, str]  # hook and fingerprint


class Sighting:
    """The last sight of one statement of one sender."""

    __slots__ = ("alert", "incident", "seen")

    def __init__(self, alert: str, incident: int | None, seen: int) -> None:
        self.alert, self.incident, self.seen = alert, incident, seen


class Live:
    """An incident that new alerts may join."""

    __slots__ = ("last_alert", "number")

    def __init__(self, number: int, last_alert: int) -> None:
        self.number, self.last_alert = number, last_alert


class Sheet:
    """The rows of one group. Used once, inside one transaction."""

    def __init__(self, db: sqlite3.Connection, sights: Iterable[Key], keys: Iterable[str]) -> None:
        self.db = db
        self.alerts: list[Row] = []
        self.stories: list[Row] = []
        self._sightings = {
            (hook, mark): Sighting(alert, incident, seen)
            for hook, mark, alert, incident, seen in _select(db, _SIGHTINGS, 2, set(sights))
        }
        self._live: dict[str, Live] = {}
        self._numbered: dict[int, Live] = {}
        for key, number, last_alert in _select(db, _INCIDENTS, 1, {(key,) for key in keys}):
            self._remember(key, Live(number, last_alert))
        self._seen: dict[Key, Sighting] = {}
        self._opened: list[Row] = []
        self._joined: list[Row] = []
        self._next = 0
        self._runs: dict[int, list[str]] | None = None

    # ----------------------------------------------------------------- sightings
    def sighting(self, key: Key) -> Sighting | None:
        """What is known of a statement."""
        return self._sightings.get(key)

    def see(self, key: Key, sighting: Sighting) -> None:
        """Remember a statement's latest sight."""
        self._sightings[key] = self._seen[key] = sighting

    # ----------------------------------------------------------------- incidents
    def live(self, key: str) -> Live | None:
        """The newest incident of this key that has not ended."""
        return self._live.get(key)

    def open(self, key: str, row: Row, last_alert: int) -> int:
        """A new incident of these columns; its number."""
        if not self._next:
            found = self.db.execute("SELECT max(number) FROM incidents").fetchone()[0]
            self._next = (found or 0) + 1
        number, self._next = self._next, self._next + 1
        self._remember(key, Live(number, last_alert))
        self._opened.append((number, key, *row))
        return number

    def join(self, number: int, at: int, severity: int) -> None:
        """One more alert in a live incident, which may make it graver."""
        self._joined.append((at, at, severity, number))
        self._numbered[number].last_alert = at

    def touch(self, number: int, at: int) -> None:
        """One more repeat in an incident, whatever its status."""
        self._joined.append((at, at, _NO_GRAVER, number))
        live = self._numbered.get(number)
        if live is not None:
            live.last_alert = at

    def _remember(self, key: str, live: Live) -> None:
        known = self._live.get(key)
        if known is None or known.number < live.number:
            self._live[key] = live
        self._numbered[live.number] = live

    # ----------------------------------------------------------------- runs
    def open_runs(self, incident: int) -> tuple[str, ...]:
        """The incident's runs that have not ended, oldest first."""
        if self._runs is None:
            wanted = {s.incident for s in self._sightings.values() if s.incident is not None}
            self._runs = {number: [] for number in wanted}
            for number, run in _select(self.db, _RUNS, 1, {(number,) for number in wanted}):
                self._runs[number].append(run)
        return tuple(self._runs.get(incident, ()))

    def ran(self) -> None:
        """Runs were created: what is known of open ones is old."""
        self._runs = None

    # ----------------------------------------------------------------- writing
    def flush(self) -> None:
        """Write every row that was collected."""
        db = self.db
        _insert(db, _ADD_INCIDENT, self._opened)
        if self._joined:
            db.executemany(_JOIN, self._joined)
        _insert(db, _ADD_ALERT, self.alerts)
        seen = [(*key, s.alert, s.incident, s.seen) for key, s in self._seen.items()]
        _insert(db, _ADD_SIGHTING, seen, _NEWER)
        _insert(db, _ADD_STORY, self.stories)
        self._seen.clear()
        for rows in (self._opened, self._joined, self.alerts, self.stories):
            rows.clear()


_SIGHTINGS = (
    "SELECT s.hook, s.fingerprint, s.alert, s.incident, s.seen FROM (VALUES {}) v"
    " CROSS JOIN sightings s ON s.hook=v.column1 AND s.fingerprint=v.column2"
)
_INCIDENTS = (
    "SELECT i.key, i.number, i.last_alert FROM (VALUES {}) v CROSS JOIN incidents i"
    " ON i.key=v.column1 AND i.status NOT IN ('resolved', 'closed')"
)
_RUNS = (
    "SELECT r.incident, r.id FROM (VALUES {}) v CROSS JOIN runs r"
    " ON r.incident=v.column1 AND r.outcome='' ORDER BY r.seq"
)
_ADD_INCIDENT = (
    "INSERT INTO incidents (number, key, title, severity, status, opened, updated, last_alert,"
    " alerts, target, stages)"
)
_ADD_ALERT = "INSERT INTO alerts (id, hook, received, incident, duplicate_of, body, raw)"
_ADD_SIGHTING = "INSERT INTO sightings (hook, fingerprint, alert, incident, seen)"
_NEWER = (
    " ON CONFLICT DO UPDATE SET alert=excluded.alert, incident=excluded.incident,"
    " seen=excluded.seen"
)
_ADD_STORY = "INSERT INTO timeline (incident, at, kind, text, door, person, data)"
_JOIN = (
    "UPDATE incidents SET alerts=alerts+1, updated=?, last_alert=?, severity=max(severity, ?)"
    " WHERE number=?"
)


def _select(db: sqlite3.Connection, text: str, width: int, keys: set[Any]) -> Iterable[Row]:
    """The rows of all these keys. The last key fills the statement up to one of its sizes."""
    todo = list(keys)
    for at in range(0, len(todo), _MOST):
        part = todo[at : at + _MOST]
        size = 1 << (len(part) - 1).bit_length()
        part += [part[-1]] * (size - len(part))
        known = set()
        statement = _with_values(text, width, size)
        for row in db.execute(statement, list(chain.from_iterable(part))).fetchall():
            if row not in known:
                known.add(row)
                yield row


def _insert(db: sqlite3.Connection, head: str, rows: Sequence[Row], tail: str = "") -> None:
    at = 0
    while at < len(rows):
        size = next((size for size in _SIZES if at + size <= len(rows)), len(rows) - at)
        part = rows[at : at + size]
        statement = _with_values(f"{head} VALUES {{}}{tail}", len(part[0]), size)
        db.execute(statement, list(chain.from_iterable(part)))
        at += size


@cache
def _with_values(text: str, width: int, rows: int) -> str:
    return text.format(",".join([f"({','.join('?' * width)})"] * rows))
