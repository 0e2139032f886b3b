"""Incidents, their alerts and their story.

Reading never changes anything; numbers and entry ids only ever rise.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from responder.errors import NotFound
from responder.store._text import clean, decode, encode
from responder.store.interface import IncidentRow, TimelineEntry

__all__ = [
    "add_story",
    "alert",
    "alerts",
    "change",
    "latest",
    "one",
    "rows",
    "story",
]

_COLUMNS = (
    "number, key, title, severity, status, opened, updated, last_alert, alerts, target, stages"
)
_ALERT = "id, hook, received, incident, duplicate_of, body, raw"


def rows(
    db: sqlite3.Connection, status: str, since: int, limit: int, before: int | None
) -> list[IncidentRow]:
    """Incidents opened since then, newest first."""
    where, given = ["opened>=?"], list[Any]([since])
    if status:
        where.append("status=?")
        given.append(status)
    if before is not None:
        where.append("number<?")
        given.append(before)
    found = db.execute(
        f"SELECT {_COLUMNS} FROM incidents WHERE {' AND '.join(where)}"  # noqa: S608 - constants
        " ORDER BY number DESC LIMIT ?",
        (*given, limit),
    )
    return [_row(row) for row in found]


def one(db: sqlite3.Connection, number: int) -> IncidentRow:
    """One incident."""
    found = db.execute(
        f"SELECT {_COLUMNS} FROM incidents WHERE number=?",  # noqa: S608 - constant
        (number,),
    ).fetchone()
    if found is None:
        raise NotFound(f"incident {number} does not exist")
    return _row(found)


def latest(db: sqlite3.Connection) -> int | None:
    """The newest incident's number."""
    found: int | None = db.execute("SELECT max(number) FROM incidents").fetchone()[0]
    return found


def change(
    db: sqlite3.Connection,
    number: int,
    at: int,
    *,
    status: str = "",
    target: Mapping[str, Any] | None = None,
    stages: Mapping[str, int] | None = None,
    only_from: str = "",
) -> None:
    """Change what is given; a stage that was reached before keeps its first time."""
    old = one(db, number)
    if only_from and old.status != only_from:
        status = ""
    reached = {**(stages or {}), **old.stages}
    db.execute(
        "UPDATE incidents SET status=?, target=?, stages=?, updated=max(updated, ?) WHERE number=?",
        (
            status or old.status,
            encode(dict(old.target if target is None else target)),
            encode(reached),
            at,
            number,
        ),
    )


def alerts(
    db: sqlite3.Connection, incident: int | None, hook: str, limit: int, before: str
) -> list[Mapping[str, Any]]:
    """Stored alerts, newest first."""
    where, given = ["1"], list[Any]()
    if incident is not None:
        where.append("incident=?")
        given.append(incident)
    if hook:
        where.append("hook=?")
        given.append(hook)
    if before:
        where.append("seq<(SELECT seq FROM alerts WHERE id=?)")
        given.append(before)
    found = db.execute(
        f"SELECT {_ALERT} FROM alerts WHERE {' AND '.join(where)}"  # noqa: S608 - constants
        " ORDER BY seq DESC LIMIT ?",
        (*given, limit),
    )
    return [_alert(row) for row in found]


def alert(db: sqlite3.Connection, alert_id: str) -> Mapping[str, Any]:
    """One stored alert."""
    found = db.execute(
        f"SELECT {_ALERT} FROM alerts WHERE id=?",  # noqa: S608 - constant
        (alert_id,),
    ).fetchone()
    if found is None:
        raise NotFound(f"alert {alert_id} does not exist")
    return _alert(found)


def add_story(db: sqlite3.Connection, entries: Sequence[TimelineEntry]) -> None:
    """Add lines to the stories of their incidents."""
    if not entries:
        return
    db.executemany(
        "INSERT INTO timeline (incident, at, kind, text, door, person, data)"
        " VALUES (?,?,?,?,?,?,?)",
        [
            (
                entry.incident,
                entry.at,
                entry.kind,
                clean(entry.text),
                clean(entry.door),
                clean(entry.person),
                encode(dict(entry.data)),
            )
            for entry in entries
        ],
    )


def story(db: sqlite3.Connection, incident: int, after: int, limit: int) -> list[TimelineEntry]:
    """An incident's lines after an id, oldest first."""
    found = db.execute(
        "SELECT id, incident, at, kind, text, door, person, data FROM timeline"
        " WHERE incident=? AND id>? ORDER BY id LIMIT ?",
        (incident, after, limit),
    )
    return [
        TimelineEntry(
            id=number,
            incident=of,
            at=at,
            kind=kind,
            text=text,
            door=door,
            person=person,
            data=decode(data),
        )
        for number, of, at, kind, text, door, person, data in found
    ]


def _row(found: Sequence[Any]) -> IncidentRow:
    values = dict(zip(_COLUMNS.split(", "), found, strict=True))
    values["target"] = decode(values["target"])
    values["stages"] = decode(values["stages"])
    return IncidentRow(**values)


def _alert(found: Sequence[Any]) -> Mapping[str, Any]:
    values = dict(zip(_ALERT.split(", "), found, strict=True))
    values["alert"] = decode(values.pop("body"))
    return values
