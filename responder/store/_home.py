"""Where the store lives on disk: its folder, its lock, its connections and its schema.

Nothing here ever touches a store whose schema is newer than this program, or one that another
process holds. One connection writes and checkpoints; all others only read, because SQLite before
3.51.3 can corrupt a write-ahead log when one connection checkpoints while another commits
(https://sqlite.org/wal.html).
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from importlib import resources
from pathlib import Path

from responder.errors import ConfigError

__all__ = ["Home", "known_schema"]

_APPLICATION = 0x52535052  # "RSPR": says that the file is ours
_OLDEST_SQLITE = (3, 37, 0)  # the first with STRICT tables
_MIGRATION = re.compile(r"^(\d{4})_\w+\.sql$")


class Home:
    """The folder and file of one store. Never shared between two processes."""

    def __init__(self, path: Path, *, synchronous: str = "FULL") -> None:
        self.path = path
        self._synchronous = synchronous
        self._lock: int | None = None
        self._inode = (0, 0)

    # ----------------------------------------------------------------- life
    def claim(self) -> None:
        """Make the folder and take the lock. Raises `ConfigError` when another process has it."""
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise ConfigError(
                f"SQLite is {sqlite3.sqlite_version}: expected 3.37 or newer; update the system"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"store {self.path} cannot be created: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise ConfigError(
                f"store {self.path} is in use by process {holder}: one process owns it at a time; "
                "stop the other one first"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def release(self) -> None:
        """Let the lock go; the file stays, since removing it would let two processes in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def prepare(self) -> None:
        """Create the file (for its owner only) and bring the schema up to date.

        Raises `ConfigError` for a newer schema, a foreign file or a damaged one, without
        touching it.
        """
        created = not self.path.exists()
        try:
            if created:
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
                sync_folder(self.path.parent)
            else:
                self._inspect()
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"store {self.path} cannot be opened ({error}): check the disk and the rights of "
                "the folder, or restore a backup"
            ) from error
        found = self.path.stat()
        self._inode = (found.st_dev, found.st_ino)

    def stands(self) -> bool:
        """Whether the file under our name is still the one we opened."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    # ----------------------------------------------------------------- connections
    def writer(self) -> sqlite3.Connection:
        """The one connection that writes and checkpoints."""
        db = self._connect()
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={self._synchronous}")
        db.execute("PRAGMA wal_autocheckpoint=2000")
        db.execute("PRAGMA journal_size_limit=67108864")
        db.execute("PRAGMA temp_store=MEMORY")
        return db

    def reader(self) -> sqlite3.Connection:
        """A connection that can neither write nor checkpoint."""
        db = self._connect()
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute("PRAGMA query_only=1")
        return db

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path,
            timeout=1.0,
            isolation_level=None,
            check_same_thread=False,  # a lane may change threads, never run in two at once
            cached_statements=256,
        )

    # ----------------------------------------------------------------- schema
    def _inspect(self) -> None:
        if self.path.stat().st_size == 0:
            return
        log = Path(f"{self.path}-wal")
        # without a log nothing can change under us (we hold the lock), and no log is made
        how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
        db = sqlite3.connect(f"{self.path.absolute().as_uri()}?{how}", uri=True)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            application = db.execute("PRAGMA application_id").fetchone()[0]
        finally:
            db.close()
        if application != _APPLICATION and (application or version):
            raise ConfigError(f"store {self.path} is a database of another program")
        if version > known_schema():
            raise ConfigError(
                f"store {self.path} has schema {version}, this version knows {known_schema()}: "
                "install the newer version again, or restore a backup made before it"
            )

    def _migrate(self) -> None:
        db = self.writer()
        try:
            current = db.execute("PRAGMA user_version").fetchone()[0]
            for number, text in _migrations():
                if number > current:
                    db.executescript(
                        f"BEGIN IMMEDIATE;\n{text}\nPRAGMA application_id={_APPLICATION};\n"
                        f"PRAGMA user_version={number};\nCOMMIT;"
                    )
        finally:
            db.close()


def known_schema() -> int:
    """The newest schema this program can work with."""
    return _migrations()[-1][0]


def sync_folder(folder: Path) -> None:
    """Make names in a folder (new, renamed) survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _migrations() -> list[tuple[int, str]]:
    folder = resources.files("responder.store") / "migrations"
    found = [
        (int(match[1]), entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if (match := _MIGRATION.match(entry.name))
    ]
    return sorted(found)
