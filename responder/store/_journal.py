"""Runs and their journals: append, read, wake.

A journal only ever grows; `(run, seq)` has no gaps. A wake-up is never lost: a writer that did not
know the whole journal leaves the run due, so that somebody looks again with full knowledge.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from responder.errors import NotFound
from responder.model import Mode
from responder.store import _incidents
from responder.store._text import clean, decode, encode
from responder.store.interface import Event, IncidentPatch, RunRow, RunUpdate

__all__ = [
    "append",
    "correlated",
    "defer",
    "due",
    "heard",
    "load",
    "next_due",
    "patch_incident",
    "recent",
    "rows",
    "set_row",
]

_COLUMNS = (
    "r.id, r.incident, r.playbook, r.playbook_hash, r.mode, r.status, r.outcome, r.reason,"
    " r.waiting_for, r.due, r.created, r.finished, r.person"
)


def append(
    db: sqlite3.Connection,
    run_id: str,
    known: int,
    lines: Sequence[tuple[Event, str]],
    update: RunUpdate | None,
    *,
    busy: bool,
) -> list[Event]:
    """Add events (with their JSON) at the end; every event after `known`, in order."""
    run, last = _place(db, run_id)
    foreign = _events(db, run, known) if known < last else []
    added = [
        Event(type=event.type, at=event.at, data=event.data, seq=last + number)
        for number, (event, _) in enumerate(lines, 1)
    ]
    db.executemany(
        "INSERT INTO journal VALUES (?,?,?,?,?)",
        [
            (run, new.seq, new.type, new.at, text)
            for new, (_, text) in zip(added, lines, strict=True)
        ],
    )
    at = added[-1].at if added else _last_at(db, run)
    if update is None:
        db.execute("UPDATE runs SET last=?, due=? WHERE seq=?", (last + len(added), at, run))
    else:
        hurry = bool(foreign) or (busy and update.due is None)
        _write(db, run, update, at, hurry=hurry, last=last + len(added))
    return foreign + added


def set_row(db: sqlite3.Connection, run_id: str, known: int, update: RunUpdate) -> bool:
    """Write only the row; False when the journal is longer than `known`."""
    run, last = _place(db, run_id)
    if last != known:
        return False
    _write(db, run, update, _last_at(db, run), hurry=False, last=last)
    return True


def heard(db: sqlite3.Connection, correlation: str, at: int) -> list[str]:
    """Append a hint to each open run that waits for this name; their ids."""
    waiting = db.execute(
        "SELECT r.seq, r.id, r.last FROM correlations c JOIN runs r ON r.seq=c.run"
        " WHERE c.name=? AND r.outcome='' ORDER BY r.seq",
        (clean(correlation),),
    ).fetchall()
    data = encode({"correlation": correlation})
    for run, _, last in waiting:
        db.execute("INSERT INTO journal VALUES (?,?,'hint',?,?)", (run, last + 1, at, data))
        db.execute("UPDATE runs SET last=?, due=? WHERE seq=?", (last + 1, at, run))
    return [str(run_id) for _, run_id, _ in waiting]


def correlated(db: sqlite3.Connection, correlation: str, after: str, limit: int) -> list[str]:
    """Runs that a name leads to, ended ones included, in the order of their making."""
    found = db.execute(
        "SELECT r.id FROM correlations c JOIN runs r ON r.seq=c.run WHERE c.name=?"
        " AND c.run>coalesce((SELECT seq FROM runs WHERE id=?), 0) ORDER BY c.run LIMIT ?",
        (clean(correlation), after, limit),
    )
    return [run for (run,) in found]


def patch_incident(db: sqlite3.Connection, run_id: str, at: int, patch: IncidentPatch) -> None:
    """Change the run's incident as far as the patch says; a stage keeps its first time."""
    found = db.execute("SELECT incident FROM runs WHERE id=?", (run_id,)).fetchone()
    _incidents.change(
        db,
        found[0],
        at,
        status=patch.status,
        target=patch.target,
        stages=patch.stages,
        only_from=patch.only_from,
    )


def defer(db: sqlite3.Connection, run_id: str, at: int) -> None:
    """Set when to look again, whatever the row says."""
    run, _ = _place(db, run_id)
    db.execute("UPDATE runs SET due=? WHERE seq=?", (at, run))


def recent(db: sqlite3.Connection, kind: str, since: int) -> list[Event]:
    """Events of one type over all runs since then, oldest first."""
    found = db.execute(
        "SELECT type, at, data, seq FROM journal WHERE type=? AND at>=? ORDER BY at, rowid",
        (kind, since),
    )
    return [Event(type=of, at=at, data=decode(data), seq=seq) for of, at, data, seq in found]


def due(db: sqlite3.Connection, now: int, limit: int, exclude: Sequence[str]) -> list[str]:
    """Runs whose time has come: greatest priority first, then oldest due."""
    skipped = set(exclude)
    wanted: list[str] = []
    for priority in _priorities(db):
        found = db.execute(
            "SELECT id FROM runs WHERE priority=? AND due<=? ORDER BY due, seq LIMIT ?",
            (priority, now, limit + len(skipped)),
        )
        wanted += [run for (run,) in found if run not in skipped]
        if len(wanted) >= limit:
            break
    return wanted[:limit]


def next_due(db: sqlite3.Connection, now: int) -> int | None:
    """The nearest due time after now."""
    nearest = [
        db.execute(
            "SELECT min(due) FROM runs WHERE priority=? AND due>?", (priority, now)
        ).fetchone()[0]
        for priority in _priorities(db)
    ]
    return min((at for at in nearest if at is not None), default=None)


def load(db: sqlite3.Connection, run_id: str) -> tuple[RunRow, list[Event]]:
    """A run with its playbook's text and whole journal."""
    found = db.execute(
        f"SELECT {_COLUMNS}, p.text, r.seq FROM runs r JOIN playbooks p"  # noqa: S608 - constant
        " ON p.hash=r.playbook_hash WHERE r.id=?",
        (run_id,),
    ).fetchone()
    if found is None:
        raise NotFound(f"run {run_id} does not exist")
    return _row(found[:-1]), _events(db, found[-1], 0)


def rows(
    db: sqlite3.Connection, incident: int | None, status: str, limit: int, before: str
) -> list[RunRow]:
    """Runs, newest first; status `open` means every run without an outcome."""
    where, given = ["1"], list[Any]()
    if incident is not None:
        where.append("r.incident=?")
        given.append(incident)
    if status == "open":
        where.append("r.outcome=''")
    elif status:
        where.append("r.status=?")
        given.append(status)
    if before:
        where.append("r.seq<(SELECT seq FROM runs WHERE id=?)")
        given.append(before)
    found = db.execute(
        f"SELECT {_COLUMNS} FROM runs r WHERE {' AND '.join(where)}"  # noqa: S608 - constants
        " ORDER BY r.seq DESC LIMIT ?",
        (*given, limit),
    )
    return [_row(row) for row in found]


# --------------------------------------------------------------------------- inner


def _place(db: sqlite3.Connection, run_id: str) -> tuple[int, int]:
    found = db.execute("SELECT seq, last FROM runs WHERE id=?", (run_id,)).fetchone()
    if found is None:
        raise NotFound(f"run {run_id} does not exist")
    return found[0], found[1]


def _priorities(db: sqlite3.Connection) -> Iterator[int]:
    """The priorities that runs wait under, greatest first: few, each one step in the index."""
    below = 1 << 62
    while True:
        found = db.execute(
            "SELECT max(priority) FROM runs WHERE due IS NOT NULL AND priority<?", (below,)
        ).fetchone()[0]
        if found is None:
            return
        yield found
        below = found


def _last_at(db: sqlite3.Connection, run: int) -> int:
    at: int = db.execute(
        "SELECT at FROM journal WHERE run=? ORDER BY seq DESC LIMIT 1", (run,)
    ).fetchone()[0]
    return at


def _events(db: sqlite3.Connection, run: int, after: int) -> list[Event]:
    found = db.execute(
        "SELECT type, at, data, seq FROM journal WHERE run=? AND seq>? ORDER BY seq", (run, after)
    )
    return [Event(type=kind, at=at, data=decode(data), seq=seq) for kind, at, data, seq in found]


def _write(
    db: sqlite3.Connection, run: int, update: RunUpdate, at: int, *, hurry: bool, last: int
) -> None:
    """Write the row. With `hurry` the run is due now, whatever the update says."""
    db.execute(
        "UPDATE runs SET last=?, status=?, due=?, waiting_for=?, outcome=?, reason=?,"
        " finished=CASE WHEN ?='' THEN NULL ELSE coalesce(finished, ?) END WHERE seq=?",
        (
            last,
            update.status,
            at if hurry else update.due,
            clean(update.waiting_for),
            update.outcome,
            clean(update.reason),
            update.outcome,
            at,
            run,
        ),
    )
    db.execute("DELETE FROM correlations WHERE run=?", (run,))
    if update.correlations:
        db.executemany(
            "INSERT OR IGNORE INTO correlations VALUES (?,?)",
            [(clean(name), run) for name in update.correlations],
        )


def _row(found: Sequence[Any]) -> RunRow:
    names = (name.removeprefix("r.") for name in _COLUMNS.replace(",", "").split())
    values = dict(zip(names, found, strict=False))
    values["mode"] = Mode(values["mode"])
    return RunRow(**values, text=found[13] if len(found) > 13 else "")  # noqa: PLR2004 - the joined text
