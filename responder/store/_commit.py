"""Commit a group of operations, and judge what a failing disk means.

- Disk full: the group is refused, a reserve file is given back so that pause, undo and running
  work still fit, and taking alerts starts again by itself when the reserve can be made again.
- Failed flush or I/O error: nothing more is written until a restart, because a repeated flush may
  wrongly succeed (https://wiki.postgresql.org/wiki/Fsync_Errors).
- Anything else that is wrong with one operation hurts that operation only.

Nothing here ever reports a write that is not on disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from responder.errors import Conflict, ResponderError, StoreUnavailable
from responder.store import _sheet
from responder.store._home import Home

__all__ = ["Committer", "Job", "Op", "Outcome", "joins"]

Op = Callable[[sqlite3.Connection], Any]
# An operation with an attribute `join` is done together with neighbours that have the same one.
Join = Callable[[sqlite3.Connection, Sequence[Op]], Sequence[Any]]

RESERVE = 8 << 20  # room for one full write-ahead log

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY}
_LASTING = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
_PRIMARY = 0xFF  # the low byte of an extended code is its family


@dataclass(frozen=True, slots=True)
class Job:
    """One operation of a group; `essential` ones still go through while the disk is full."""

    op: Op
    essential: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation returned, or why it has written nothing."""

    value: Any = None
    error: BaseException | None = None


class Committer:
    """Owns the writing connection. Used by one thread at a time."""

    def __init__(self, home: Home, *, reserve: int = RESERVE) -> None:
        self._home = home
        self._db = home.writer()
        _sheet.prepare(self._db)
        self._reserve = Path(f"{home.path}.reserve")
        self._size = reserve
        self._full = not self._hold_reserve()
        self._broken = ""

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Write all jobs in one transaction; the answer is on disk when this returns."""
        if not self._broken and not self._home.stands():
            self._broken = "the file was removed or replaced while it was open"
        if self._broken:
            return [self._refuse(self._broken)] * len(jobs)
        if self._full:
            self._full = not self._hold_reserve()
        if not self._full:
            outcomes = self._transact([job.op for job in jobs])
            if outcomes is not None:
                return outcomes
        return self._when_full(jobs)

    def outside(self, op: Op) -> Any:
        """Run an operation that cannot be inside a transaction, such as a checkpoint."""
        return op(self._db)

    def close(self) -> None:
        """Checkpoint and close."""
        self._db.close()

    # ----------------------------------------------------------------- one group
    def _transact(self, ops: Sequence[Op]) -> list[Outcome] | None:
        """Commit the group; None when the disk is full and the reserve is now free.

        First all of it without savepoints, which cost as much as a small operation does; where one
        operation fails, the whole group again, each behind its own.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            outcomes = self._together(ops)
            if outcomes is None:
                self._rollback()
                self._db.execute("BEGIN IMMEDIATE")
                outcomes = [self._one(op) for op in ops]
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            if _code(error) in _FULL and not self._full:
                self._free_reserve()
                return None
            return [self._judge(error)] * len(ops)
        return outcomes

    def _together(self, ops: Sequence[Op]) -> list[Outcome] | None:
        """The group without savepoints; None when an operation failed by its own fault."""
        try:
            return [
                Outcome(value)
                for join, some in groupby(ops, _joiner)
                for value in (join(self._db, list(some)) if join else _apart(self._db, some))
            ]
        except sqlite3.Error as error:
            if _is_disk(error):
                raise
        except Exception:  # noqa: BLE001, S110 - it is met again, and told, one by one
            pass
        return None

    def _one(self, op: Op) -> Outcome:
        self._db.execute("SAVEPOINT one")
        try:
            outcome = Outcome(op(self._db))
        except sqlite3.Error as error:
            if _is_disk(error):
                raise
            outcome = Outcome(error=_told(error))
            self._db.execute("ROLLBACK TO one")
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes to its own caller
            outcome = Outcome(error=error)
            self._db.execute("ROLLBACK TO one")
        self._db.execute("RELEASE one")
        return outcome

    def _when_full(self, jobs: Sequence[Job]) -> list[Outcome]:
        essential = iter(self._transact([job.op for job in jobs if job.essential]) or ())
        refused = self._refuse("the disk is full; free some space and it goes on by itself")
        return [next(essential, refused) if job.essential else refused for job in jobs]

    def _rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    # ----------------------------------------------------------------- judgement
    def _judge(self, error: sqlite3.Error) -> Outcome:
        if _code(error) in _FULL:
            return self._refuse("the disk is full; free some space and it goes on by itself")
        if _code(error) & _PRIMARY in _PASSING:
            return self._refuse(f"{error}; check who holds or protects the file")
        self._broken = f"{error}; check the disk, then restart"
        return self._refuse(self._broken)

    def _refuse(self, why: str) -> Outcome:
        return Outcome(error=StoreUnavailable(f"store {self._home.path} takes no writes: {why}"))

    # ----------------------------------------------------------------- reserve
    def _hold_reserve(self) -> bool:
        """Occupy the reserve; False when there is no room for it."""
        if not self._size:
            return True
        try:
            handle = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            # a little more than is kept: a disk that is just full must not seem to have room
            os.posix_fallocate(handle, 0, self._size + self._size // 4)
            os.ftruncate(handle, self._size)
        except OSError:
            os.ftruncate(handle, 0)
            return False
        finally:
            os.close(handle)
        return True

    def _free_reserve(self) -> None:
        self._full = True
        with contextlib.suppress(OSError):
            os.truncate(self._reserve, 0)


def joins(op: Op) -> bool:
    """Whether an operation gains by being done together with neighbours of its kind."""
    return _joiner(op) is not None


def _joiner(op: Op) -> Join | None:
    """How an operation is done together with its neighbours, if it can be."""
    return getattr(op, "join", None)


def _apart(db: sqlite3.Connection, ops: Iterable[Op]) -> list[Any]:
    return [op(db) for op in ops]


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)


def _is_disk(error: sqlite3.Error) -> bool:
    """Whether the whole transaction is lost, not one operation."""
    return _code(error) in _FULL or _code(error) & _PRIMARY in _PASSING | _LASTING


def _told(error: sqlite3.Error) -> ResponderError | sqlite3.Error:
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(f"the store has this already ({error})")
    return error
