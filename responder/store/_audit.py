"""The audit chain: who did what, when, through which door, on which plan.

Each line's hash covers the line before it, so a changed, added or missing line breaks every hash
after it. Lines are never changed and never removed. A cut tail shows because ids are never given
twice; someone who rewrites the whole file is found by comparing the newest hash with a copy kept
elsewhere.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

from responder.model import canonical
from responder.store._text import clean, decode
from responder.store.interface import AuditEntry

__all__ = ["add", "chain_hash", "entries", "fault"]

_COLUMNS = "id, at, person, door, verb, object, plan, detail, address, hash"
_START = ""  # what the first line is chained to


def chain_hash(previous: str, entry: AuditEntry) -> str:
    """The hash of a line: SHA-256 over the former hash and this line's canonical JSON."""
    meaning = {
        "id": entry.id,
        "at": entry.at,
        "person": entry.person,
        "door": entry.door,
        "verb": entry.verb,
        "object": entry.object,
        "plan": entry.plan,
        "detail": dict(entry.detail),
        "address": entry.address,
    }
    return hashlib.sha256((previous + canonical(meaning)).encode()).hexdigest()


def add(db: sqlite3.Connection, lines: Sequence[AuditEntry]) -> None:
    """Append lines to the chain."""
    if not lines:
        return
    newest = db.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    last, previous = newest or (0, _START)
    for number, line in enumerate(lines, last + 1):
        entry = AuditEntry(
            id=number,
            at=line.at,
            person=clean(line.person),
            door=clean(line.door),
            verb=clean(line.verb),
            object=clean(line.object),
            plan=clean(line.plan),
            detail=line.detail,
            address=clean(line.address),
        )
        previous = chain_hash(previous, entry)
        db.execute(
            f"INSERT INTO audit ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 - constant
            (
                entry.id,
                entry.at,
                entry.person,
                entry.door,
                entry.verb,
                entry.object,
                entry.plan,
                canonical(dict(entry.detail)),
                entry.address,
                previous,
            ),
        )


def entries(db: sqlite3.Connection, after: int, limit: int) -> list[AuditEntry]:
    """The chain after an id, oldest first."""
    found = db.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE id>? ORDER BY id LIMIT ?",  # noqa: S608 - constant
        (after, limit),
    )
    return [_entry(row) for row in found]


def fault(db: sqlite3.Connection) -> str:
    """Where the chain breaks, or the empty text. Never raises for what somebody wrote into it."""
    previous, number = _START, 0
    for row in db.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY id"):  # noqa: S608 - constant
        number += 1
        try:
            entry = _entry(row)
            holds = chain_hash(previous, entry) == entry.hash
            holds = holds and entry.id == number and row[7] == canonical(entry.detail)
        except (ValueError, TypeError):
            holds = False
        if not holds:
            return f"line {number} does not follow from the line before it"
        previous = entry.hash
    given = db.execute("SELECT seq FROM sqlite_sequence WHERE name='audit'").fetchone()
    if (given[0] if given else 0) != number:
        return f"lines after {number} are missing"
    return ""


def _entry(found: Sequence[Any]) -> AuditEntry:
    values = dict(zip(_COLUMNS.split(", "), found, strict=True))
    values["detail"] = decode(values["detail"])
    return AuditEntry(**values)
