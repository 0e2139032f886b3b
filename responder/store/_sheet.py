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
from typing import Any, NamedTuple

__all__ = ["Ended", "Live", "Sheet", "Sighting"]

_MOST = 64  # rows of one statement
_SIZES = (64, 32, 16)  # what is fewer has a statement of its own: few enough to be found again
_NO_GRAVER = -1  # below every severity
NOT_OPENED = (None,) * 5  # the columns of no incident
_NO_STORY = (None,) * 3
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


class Ended(NamedTuple):
    """A resolved incident, which an alert that comes back opens again."""

    number: int
    at: int
    stages: str


class Sheet:
    """The rows of one group. Used once, inside one transaction, on a prepared connection."""

    def __init__(self, db: sqlite3.Connection, sights: Iterable[Key], keys: Iterable[str]) -> None:
        self.db = db
        self._sightings: dict[Key, Sighting] = {}
        self._live: dict[str, Live] = {}
        self._numbered: dict[int, Live] = {}
        self._next = 1
        self._recall(list(set(sights)), list({(key,) for key in keys}))
        self._rows: list[Row] = []
        self._joined: list[Row] = []
        self._runs: dict[int, list[str]] | None = None

    def _recall(self, sights: list[Key], keys: list[tuple[str]]) -> None:
        """What the tables know of these, and the number of the newest incident."""
        for at in range(0, max(len(sights), len(keys), 1), _MOST):
            some = _filled(sights[at : at + _MOST], (None, None))
            these = _filled(keys[at : at + _MOST], (None,))
            known = self.db.execute(_known(len(some), len(these)), [*chain(*some, *these)])
            for what, name, mark, alert, incident, when in known.fetchall():
                if what == _SIGHTING:
                    self._sightings[name, mark] = Sighting(alert, incident, when)
                elif what == _NEWEST:
                    self._next = (incident or 0) + 1
                elif incident not in self._numbered:
                    self._remember(name, Live(incident, when))

    # ----------------------------------------------------------------- sightings
    def sighting(self, key: Key) -> Sighting | None:
        """What is known of a statement."""
        return self._sightings.get(key)

    # ----------------------------------------------------------------- incidents
    def live(self, key: str) -> Live | None:
        """The newest incident of this key that has not ended."""
        return self._live.get(key)

    def open(self, key: str, last_alert: int) -> int:
        """The number of a new incident; the alert that is kept next must bring its columns."""
        number, self._next = self._next, self._next + 1
        self._remember(key, Live(number, last_alert))
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
    def keep(self, alert: Row, opened: Row = NOT_OPENED, story: Row = _NO_STORY) -> None:
        """One alert: its columns, those of the incident it opens, and its line in the story.

        `alert` is id, hook, received, incident, the alert that it repeats, body, raw, fingerprint
        (None: it is no sight of anything). `opened` is number, key, title, severity, target;
        `story` is kind, text, data.
        """
        ident, hook, received, incident, earlier, _, _, mark = alert
        if mark is not None:
            self._sightings[hook, mark] = Sighting(earlier or ident, incident, received)
        self._rows.append((*opened, *alert, *story))

    def flush(self) -> None:
        """Write every row that was collected."""
        at, rows = 0, self._rows
        while at < len(rows):
            size = next((size for size in _SIZES if at + size <= len(rows)), len(rows) - at)
            statement = _with_values(_ADD, len(_COLUMNS), size)
            self.db.execute(statement, [*chain.from_iterable(rows[at : at + size])])
            at += size
        if self._joined:
            self.db.executemany(_JOIN, self._joined)
        self._rows, self._joined = [], []


def prepare(db: sqlite3.Connection) -> None:
    """Give a writing connection the one statement that a group is written with.

    A view of its own, whose trigger puts each row into its tables. A statement for each table
    would let go of the interpreter's lock and wait for it again four times in a group, while the
    loop makes the next alerts; that waiting was most of a group's time.
    """
    db.execute(f"CREATE TEMP VIEW sheet AS SELECT {','.join(f'0 AS {c}' for c in _COLUMNS)}")
    db.execute(_TRIGGER)


_COLUMNS = (
    *("number", "key", "title", "severity", "target"),
    *("id", "hook", "received", "incident", "duplicate_of", "body", "raw", "fingerprint"),
    *("kind", "text", "data"),
)
_ADD = f"INSERT INTO sheet ({','.join(_COLUMNS)}) VALUES {{}}"  # noqa: S608 - constants
_TRIGGER = """
CREATE TEMP TRIGGER sheet_written INSTEAD OF INSERT ON sheet BEGIN
    INSERT INTO incidents (number, key, title, severity, status, opened, updated, last_alert,
        alerts, target, stages)
        SELECT NEW.number, NEW.key, NEW.title, NEW.severity, 'open', NEW.received, NEW.received,
            NEW.received, 1, NEW.target, '{}' WHERE NEW.number IS NOT NULL;
    INSERT INTO alerts (id, hook, received, incident, duplicate_of, body, raw)
        VALUES (NEW.id, NEW.hook, NEW.received, NEW.incident, NEW.duplicate_of, NEW.body, NEW.raw);
    INSERT INTO sightings (hook, fingerprint, alert, incident, seen)
        SELECT NEW.hook, NEW.fingerprint, coalesce(NEW.duplicate_of, NEW.id), NEW.incident,
            NEW.received WHERE NEW.fingerprint IS NOT NULL
        ON CONFLICT DO UPDATE SET alert=excluded.alert, incident=excluded.incident,
            seen=excluded.seen;
    INSERT INTO timeline (incident, at, kind, text, door, person, data)
        SELECT NEW.incident, NEW.received, NEW.kind, NEW.text, 'auto', '', NEW.data
        WHERE NEW.kind IS NOT NULL;
END
"""
_SIGHTING, _LIVE, _NEWEST = 0, 1, 2
_KNOWN = (
    f"SELECT {_SIGHTING}, s.hook, s.fingerprint, s.alert, s.incident, s.seen FROM (VALUES {{}}) v"  # noqa: S608 - constants
    " CROSS JOIN sightings s ON s.hook=v.column1 AND s.fingerprint=v.column2"
    f" UNION ALL SELECT {_LIVE}, i.key, NULL, NULL, i.number, i.last_alert FROM (VALUES {{}}) v"
    " CROSS JOIN incidents i ON i.key=v.column1 AND i.status NOT IN ('resolved', 'closed')"
    f" UNION ALL SELECT {_NEWEST}, NULL, NULL, NULL, max(number), NULL FROM incidents"
)
_RUNS = (
    "SELECT r.incident, r.id FROM (VALUES {}) v CROSS JOIN runs r"
    " ON r.incident=v.column1 AND r.outcome='' ORDER BY r.seq"
)
_JOIN = (
    "UPDATE incidents SET alerts=alerts+1, updated=?, last_alert=?, severity=max(severity, ?)"
    " WHERE number=?"
)


def _filled(keys: list[Any], nobody: Row) -> list[Any]:
    """The keys, the last one repeated up to one of the sizes a statement has."""
    if not keys:
        return [nobody]
    return keys + [keys[-1]] * ((1 << (len(keys) - 1).bit_length()) - len(keys))


def _select(db: sqlite3.Connection, text: str, width: int, keys: set[Any]) -> Iterable[Row]:
    """The rows of all these keys."""
    todo = list(keys)
    for at in range(0, len(todo), _MOST):
        part = _filled(todo[at : at + _MOST], ())
        known = set()
        statement = _with_values(text, width, len(part))
        for row in db.execute(statement, [*chain.from_iterable(part)]).fetchall():
            if row not in known:
                known.add(row)
                yield row


@cache
def _known(sights: int, keys: int) -> str:
    return _KNOWN.format(_values(2, sights), _values(1, keys))


@cache
def _with_values(text: str, width: int, rows: int) -> str:
    return text.format(_values(width, rows))


def _values(width: int, rows: int) -> str:
    return ",".join([f"({','.join('?' * width)})"] * rows)
