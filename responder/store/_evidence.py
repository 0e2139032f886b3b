"""Evidence: bytes in files named by their hash, custody data in rows.

A file is written beside its name, flushed, renamed and its folder flushed before the row exists;
so a row never speaks of bytes that a power loss could take. Bytes are never overwritten.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from responder.errors import Conflict, NotFound, StoreUnavailable
from responder.store._home import sync_folder
from responder.store._text import clean, decode, encode
from responder.store.interface import EvidenceRow

__all__ = ["Vault", "add_row", "faults", "rows"]

_HASH = re.compile(r"[0-9a-f]{64}")
_COLUMNS = "id, incident, run, step, name, sha256, size, at, origin"


class Vault:
    """The folder of evidence files. Blocking; run it beside the loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, sha256: str, data: bytes) -> None:
        """Keep the bytes under their hash; raises `ValueError` when it is not their hash."""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"evidence does not have the hash {sha256}")
        path = self._path(sha256)
        try:
            self._make(path.parent)
            if not path.exists():
                self._write(path, data)
            sync_folder(path.parent)
        except OSError as error:
            raise StoreUnavailable(f"evidence cannot be written: {error.strerror}") from error

    def get(self, sha256: str) -> bytes:
        """The bytes. Raises `NotFound`, or `Conflict` when somebody changed them."""
        if not _HASH.fullmatch(sha256):
            raise NotFound("evidence is named by a SHA-256 in lower-case hex")
        try:
            data = self._path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"evidence {sha256} does not exist") from error
        except OSError as error:
            raise StoreUnavailable(f"evidence cannot be read: {error.strerror}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise Conflict(f"evidence {sha256} was altered: its bytes now hash to {found}")
        return data

    def fault(self, sha256: str) -> str:
        """What is wrong with one artefact, or the empty text."""
        try:
            self.get(sha256)
        except (NotFound, Conflict, StoreUnavailable) as error:
            return str(error)
        return ""

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _make(self, folder: Path) -> None:
        for each in (self._folder, folder):
            if not each.exists():
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_folder(each.parent)

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        beside = path.with_name(f".{path.name}.new")
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
            beside.rename(path)
        except OSError:
            beside.unlink(missing_ok=True)  # an unfinished file must not eat a full disk
            raise


def add_row(db: sqlite3.Connection, row: EvidenceRow) -> None:
    """Keep the custody data; the same artefact of the same step is one row."""
    db.execute(
        "INSERT INTO evidence (incident, run, step, name, sha256, size, at, origin)"
        " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
        (
            row.incident,
            row.run,
            row.step,
            clean(row.name),
            row.sha256,
            row.size,
            row.at,
            encode(dict(row.origin)),
        ),
    )


def rows(db: sqlite3.Connection, incident: int) -> list[EvidenceRow]:
    """An incident's artefacts, oldest first."""
    found = db.execute(
        f"SELECT {_COLUMNS} FROM evidence WHERE incident=? ORDER BY id",  # noqa: S608 - constant
        (incident,),
    )
    return [_row(row) for row in found]


def faults(vault: Vault, hashes: Sequence[str]) -> str:
    """The first artefact that is missing or altered, or the empty text."""
    return next((fault for each in hashes if (fault := vault.fault(each))), "")


def _row(found: Sequence[Any]) -> EvidenceRow:
    values = dict(zip(_COLUMNS.split(", "), found, strict=True))
    values["origin"] = decode(values["origin"])
    return EvidenceRow(**values)
