"""Small durable things: tokens, switches, strikes and remembered requests.

A token's secret is never here, only its hash.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from responder.errors import NotFound
from responder.store._text import clean, decode, encode
from responder.store.interface import TokenRow

__all__ = [
    "add_token",
    "find_token",
    "get_switch",
    "remember",
    "revoke_token",
    "set_switch",
    "strike",
    "strikes",
    "tokens",
]

_TOKEN = "id, person, role, hash, created, expires, revoked, last_used"  # noqa: S105 - columns


def add_token(db: sqlite3.Connection, row: TokenRow) -> None:
    """Keep a token."""
    db.execute(
        f"INSERT INTO tokens ({_TOKEN}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608 - constant
        (
            row.id,
            clean(row.person),
            row.role,
            row.hash,
            row.created,
            row.expires,
            row.revoked,
            row.last_used,
        ),
    )


def find_token(db: sqlite3.Connection, token_hash: str) -> TokenRow | None:
    """The token with this hash."""
    found = db.execute(
        f"SELECT {_TOKEN} FROM tokens WHERE hash=?",  # noqa: S608 - constant
        (token_hash,),
    ).fetchone()
    return _token(found) if found else None


def tokens(db: sqlite3.Connection) -> list[TokenRow]:
    """All tokens, oldest first."""
    found = db.execute(f"SELECT {_TOKEN} FROM tokens ORDER BY created, id")  # noqa: S608 - constant
    return [_token(row) for row in found]


def revoke_token(db: sqlite3.Connection, token_id: str, at: int) -> None:
    """End a token; one that has ended keeps its first time."""
    ended = db.execute(
        "UPDATE tokens SET revoked=coalesce(revoked, ?) WHERE id=?", (at, token_id)
    ).rowcount
    if not ended:
        raise NotFound(f"token {token_id} does not exist")


def get_switch(db: sqlite3.Connection, name: str) -> Mapping[str, Any] | None:
    """A setting's value."""
    found = db.execute("SELECT value FROM switches WHERE name=?", (name,)).fetchone()
    return decode(found[0]) if found else None


def set_switch(db: sqlite3.Connection, name: str, value: Mapping[str, Any] | None) -> None:
    """Write a setting, or remove it."""
    if value is None:
        db.execute("DELETE FROM switches WHERE name=?", (name,))
    else:
        db.execute("INSERT OR REPLACE INTO switches VALUES (?,?)", (name, encode(dict(value))))


def strike(db: sqlite3.Connection, kind: str, key: str, reason: str, at: int) -> int:
    """Count one more failure; the count so far."""
    count: int = db.execute(
        "INSERT INTO strikes (kind, key, count, reason, at) VALUES (?,?,1,?,?)"
        " ON CONFLICT DO UPDATE SET count=count+1, reason=excluded.reason, at=excluded.at"
        " RETURNING count",
        (clean(kind), clean(key), clean(reason), at),
    ).fetchone()[0]
    return count


def strikes(db: sqlite3.Connection, kind: str) -> list[Mapping[str, Any]]:
    """What was struck, newest first."""
    names = ("kind", "key", "count", "reason", "at")
    found = db.execute(
        "SELECT kind, key, count, reason, at FROM strikes WHERE ?='' OR kind=?"
        " ORDER BY at DESC, key",
        (kind, kind),
    )
    return [dict(zip(names, row, strict=True)) for row in found]


def remember(
    db: sqlite3.Connection, key: str, request: str, answer: str | None, at: int
) -> Mapping[str, Any] | None:
    """Claim a key, or say what is stored for it; with an answer, store it (the first one stays)."""
    known = db.execute("SELECT request, answer FROM requests WHERE key=?", (clean(key),)).fetchone()
    if known is None:
        db.execute("INSERT INTO requests VALUES (?,?,?,?)", (clean(key), request, answer, at))
        return None
    if answer is not None and known[1] is None:
        db.execute("UPDATE requests SET answer=? WHERE key=?", (answer, clean(key)))
        return None
    return {"request": known[0], "answer": decode(known[1]) if known[1] else None}


def _token(found: Sequence[Any]) -> TokenRow:
    return TokenRow(**dict(zip(_TOKEN.split(", "), found, strict=True)))
