"""Look after the store: check it, copy it, count it.

A check never repairs: it names what is wrong. A copy is made by SQLite's own backup, never by
copying files, which loses what is still in the write-ahead log and looks whole.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from responder.errors import ConfigError
from responder.store import _audit
from responder.store._evidence import Vault, faults
from responder.store._home import Home, known_schema, sync_folder

__all__ = ["backup", "check", "counts"]

_GAPS = (
    "SELECT r.id FROM runs r LEFT JOIN (SELECT run, count(*) n, min(seq) low, max(seq) high"
    " FROM journal GROUP BY run) j ON j.run=r.seq"
    " WHERE j.n IS NULL OR j.low!=1 OR j.n!=j.high OR j.high!=r.last LIMIT 1"
)
_ORPHANS = (
    "SELECT 'run '||id FROM runs WHERE incident NOT IN (SELECT number FROM incidents)"
    " OR playbook_hash NOT IN (SELECT hash FROM playbooks)"
    " UNION ALL SELECT 'alert '||id FROM alerts"
    " WHERE incident IS NOT NULL AND incident NOT IN (SELECT number FROM incidents)"
    " UNION ALL SELECT 'journal line of run '||run FROM journal"
    " WHERE run NOT IN (SELECT seq FROM runs) LIMIT 1"
)


def check(home: Home, vault: Vault) -> Mapping[str, str]:
    """Each check's name with "ok" or what is wrong."""
    try:
        with closing(home.reader()) as db:
            db.execute("BEGIN")
            found = _look(db)
            hashes = [row[0] for row in db.execute("SELECT DISTINCT sha256 FROM evidence")]
    except sqlite3.Error as error:
        return {"integrity": f"the database cannot be read: {error}"}
    return {name: text or "ok" for name, text in found.items()} | {
        "evidence": faults(vault, hashes) or "ok"
    }


def _look(db: sqlite3.Connection) -> dict[str, str]:
    integrity = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    gap = db.execute(_GAPS).fetchone()
    orphan = db.execute(_ORPHANS).fetchone()
    return {
        "integrity": "" if integrity == "ok" else integrity,
        "schema": "" if version == known_schema() else f"{version}, expected {known_schema()}",
        "journal": f"run {gap[0]} has a gap in its journal" if gap else "",
        "references": f"{orphan[0]} points to nothing" if orphan else "",
        "audit": _audit.fault(db),
    }


def backup(home: Home, target: Path) -> str:
    """Copy the database while it is written to; the copy's SHA-256.

    Raises `ConfigError` when the target exists, cannot be written, or the copy does not hold.
    The evidence folder is not part of it: its files never change and are copied as they are.
    """
    if target.exists():
        raise ConfigError(f"backup {target} exists already: name a new file")
    beside = target.with_name(f".{target.name}.new")
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        _copy(home, beside)
        digest = _flushed_digest(beside)
        beside.rename(target)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(f"backup {target} failed: {error}") from error
    return digest


def _copy(home: Home, path: Path) -> None:
    with closing(home.reader()) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, whole in itself
        found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy does not hold: {found}")


def _flushed_digest(path: Path) -> str:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def counts(db: sqlite3.Connection, now: int, home: Home) -> Mapping[str, float]:
    """Figures for metrics; `a.b` names a figure b of kind a."""
    found: dict[str, float] = {}
    for status, number in db.execute(
        "SELECT status, count(*) FROM runs WHERE outcome='' GROUP BY status"
    ):
        found[f"runs.{status}"] = number
    for status, number in db.execute("SELECT status, count(*) FROM incidents GROUP BY status"):
        found[f"incidents.{status}"] = number
    late = db.execute("SELECT min(due) FROM runs WHERE due<=?", (now,)).fetchone()[0]
    oldest = db.execute("SELECT min(created) FROM runs WHERE outcome=''").fetchone()[0]
    found["oldest_due_seconds"] = (now - late) / 1e6 if late is not None else 0.0
    found["oldest_open_seconds"] = (now - oldest) / 1e6 if oldest is not None else 0.0
    found["quarantines"] = found.get("incidents.contained", 0)
    first = db.execute(
        "SELECT min(json_extract(stages, '$.contained')) FROM incidents WHERE status='contained'"
    ).fetchone()[0]
    found["quarantine_oldest_seconds"] = (now - first) / 1e6 if first is not None else 0.0
    found["evidence_bytes"] = db.execute("SELECT coalesce(sum(size), 0) FROM evidence").fetchone()[
        0
    ]
    for name, path in (("store_bytes", home.path), ("wal_bytes", Path(f"{home.path}-wal"))):
        found[name] = path.stat().st_size if path.exists() else 0
    return found
