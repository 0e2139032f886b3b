"""Opening, owning, upgrading and copying a store."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from responder.errors import ConfigError
from responder.store._home import known_schema
from responder.store.sqlite import SqliteStore
from tests.core.store.making import item, start


def digests(folder: Path) -> dict[str, str]:
    """Each file's hash, the lock and the reserve apart."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.suffix in {".db", ".db-wal"}
    }


async def test_a_second_process_is_refused_in_one_line(tmp_path: Path) -> None:
    """It names the process that owns the store, and may come in when that has gone."""
    path = tmp_path / "responder.db"
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ConfigError, match=f"in use by process {other.pid}: ") as refused:
            await SqliteStore(path).open()
        assert "\n" not in str(refused.value)
        other.communicate(b"\n")
    store = SqliteStore(path, reserve=0)
    await store.open()
    await store.close()


_HOLD = """
import asyncio, sys
from responder.store.sqlite import SqliteStore
async def main():
    await SqliteStore(sys.argv[1]).open()
    print("open", flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""


async def test_two_stores_in_one_process_are_refused_too(tmp_path: Path) -> None:
    """The lock is about the file, not about the process."""
    store = SqliteStore(tmp_path / "responder.db", reserve=0)
    await store.open()
    with pytest.raises(ConfigError, match="in use"):
        await SqliteStore(tmp_path / "responder.db").open()
    await store.close()


async def test_a_newer_store_is_refused_and_not_touched(tmp_path: Path) -> None:
    """Not one byte of database or log changes."""
    path = tmp_path / "responder.db"
    store = SqliteStore(path, reserve=0)
    await store.open()
    await store.accept([item(1)])
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={known_schema() + 1}")
    before = digests(tmp_path)
    with pytest.raises(ConfigError, match=f"has schema {known_schema() + 1}"):
        await SqliteStore(path).open()
    assert digests(tmp_path) == before


async def test_a_foreign_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    """A wrong path in the configuration must not add tables to someone's data."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id=77")
        db.execute("CREATE TABLE theirs (a)")
    before = digests(tmp_path)
    with pytest.raises(ConfigError, match="another program"):
        await SqliteStore(path).open()
    assert digests(tmp_path) == before


async def test_a_damaged_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """And the lock is let go again."""
    path = tmp_path / "responder.db"
    path.write_bytes(b"this is no database " * 300)
    for _ in range(2):
        with pytest.raises(ConfigError, match="restore a backup"):
            await SqliteStore(path).open()


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Alerts and evidence may hold secrets of the house."""
    store = SqliteStore(tmp_path / "made" / "responder.db", reserve=4096)
    await store.open()
    await store.accept([item(1)])
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "made").iterdir()}
    await store.close()
    assert set(modes.values()) == {0o600}
    assert {"responder.db", "responder.db-wal", "responder.db.lock"} <= set(modes)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


async def test_a_backup_made_under_load_holds_all_that_was_acknowledged_before(
    tmp_path: Path,
) -> None:
    """One whole file that opens as a store, with the hash that was named."""
    store = SqliteStore(tmp_path / "responder.db", reserve=0)
    await store.open()
    await store.accept([item(n, start(), key=f"k{n}") for n in range(50)])
    load = [asyncio.ensure_future(store.accept([item(n)])) for n in range(50, 250)]
    target = tmp_path / "copy" / "backup.db"
    target.parent.mkdir()
    digest = await store.backup(str(target))
    await asyncio.gather(*load)
    with pytest.raises(ConfigError, match="exists already"):
        await store.backup(str(target))
    await store.close()
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
    assert [path.name for path in target.parent.iterdir()] == ["backup.db"]
    copy = SqliteStore(target, reserve=0)
    await copy.open()
    assert {f"alr_{n:06}" for n in range(50)} <= {a["id"] for a in await copy.alerts(limit=999)}
    assert set((await copy.check()).values()) == {"ok"}
    await copy.close()


async def test_check_names_a_gap_in_a_journal(tmp_path: Path) -> None:
    """And a run that points to no incident."""
    path = tmp_path / "responder.db"
    store = SqliteStore(path, reserve=0)
    await store.open()
    await store.accept([item(1, start()), item(2, start(), key="b")])
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM journal WHERE run=1")
        db.execute("UPDATE runs SET incident=99 WHERE seq=2")
    await store.open()
    found = await store.check()
    await store.close()
    assert found["journal"] == "run run_000001_0 has a gap in its journal"
    assert found["references"] == "run run_000002_0 points to nothing"
