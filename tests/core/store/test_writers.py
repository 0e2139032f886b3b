"""The lanes: groups share a flush, a failing operation stays alone, nothing hangs."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from responder.errors import StoreUnavailable
from responder.store.sqlite import SqliteStore
from responder.store.writer import PATIENCE, Writer
from tests.core.store.making import NOW, item, start


def commits(store: SqliteStore) -> list[str]:
    """Every COMMIT of the writing connection from now on."""
    seen: list[str] = []
    committer = store._lanes._committer  # type: ignore[attr-defined]
    committer._db.set_trace_callback(lambda text: seen.append(text) if text == "COMMIT" else None)
    return seen


async def test_concurrent_alerts_share_commits(store: SqliteStore) -> None:
    """What waits while a group is flushed goes with the next one."""
    seen = commits(store)
    await asyncio.gather(*(store.accept([item(n)]) for n in range(200)))
    assert len(seen) <= 20
    assert len(await store.alerts(limit=300)) == 200


async def test_alerts_that_come_together_are_committed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen senders that wait for their answers soon share one commit for all sixteen.

    However slow the machine: what could cut a group short is waited out.
    """
    monkeypatch.setattr("responder.store.writer.PATIENCE", 10.0)
    store = SqliteStore(tmp_path / "responder.db", reserve=0)
    await store.open()
    seen = commits(store)
    numbers = itertools.count()

    async def sender() -> None:
        for _ in range(20):
            await store.accept([item(next(numbers))])

    await asyncio.gather(*(sender() for _ in range(16)))
    await store.close()
    assert 20 <= len(seen) <= 24


async def test_an_alert_that_comes_alone_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crowd the first one waits its moment in vain; no later one does."""
    store = SqliteStore(tmp_path / "responder.db", reserve=0)
    await store.open()
    await asyncio.gather(*(store.accept([item(n)]) for n in range(16)))
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    plain = loop.call_later

    def counted(delay: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
        waits.append(delay)
        return plain(delay, *args, **more)

    monkeypatch.setattr(loop, "call_later", counted)
    for number in range(16, 30):
        await store.accept([item(number)])
    await store.close()
    assert waits == [PATIENCE]


async def test_what_is_no_alert_takes_those_that_wait_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's next line never waits for alerts, and alerts that wait go with it."""
    monkeypatch.setattr("responder.store.writer.PATIENCE", 60.0)
    store = SqliteStore(tmp_path / "responder.db", reserve=0)
    await store.open()
    await asyncio.gather(*(store.accept([item(n)]) for n in range(3)))
    waiting = asyncio.ensure_future(store.accept([item(3)]))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        assert await store.writable() is True
        assert len(await waiting) == 1
    await store.close()


async def test_a_failing_operation_hurts_no_other_of_its_group(store: SqliteStore) -> None:
    """Its own writes are gone, its neighbours' are there."""

    def bad(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM alerts")
        raise ZeroDivisionError

    results = await asyncio.gather(
        *(store.accept([item(n)]) for n in range(5)),
        store._lanes.write(bad),
        *(store.accept([item(n)]) for n in range(5, 10)),
        return_exceptions=True,
    )
    failed = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in failed] == [ZeroDivisionError]
    assert len(await store.alerts()) == 10


async def test_a_caller_that_gives_up_does_not_stop_the_others(store: SqliteStore) -> None:
    """A cancelled request may be stored; its neighbours are answered all the same."""
    tasks = [asyncio.ensure_future(store.accept([item(n)])) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, list) for result in results[1::2])


async def test_a_cancelled_reader_does_not_disturb_the_next(store: SqliteStore) -> None:
    """One connection is never used by two at once."""
    await store.accept([item(1)])
    for _ in range(20):
        task = asyncio.ensure_future(store.alerts())
        await asyncio.sleep(0)
        task.cancel()
        assert len(await store.alerts()) == 1


async def test_the_reading_connection_cannot_write(store: SqliteStore) -> None:
    """One writer is a promise of the connection, not of good manners."""
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store._lanes.read(lambda db: db.execute("DELETE FROM alerts"))


async def test_everything_queued_is_written_before_close(
    tmp_path: Path, writing: Callable[[], Writer]
) -> None:
    """Closing finishes what was promised; later calls are refused, not left hanging."""
    store = SqliteStore(tmp_path / "responder.db", writer=writing(), reserve=0)
    await store.open()
    tasks = [asyncio.ensure_future(store.accept([item(n)])) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert len(await asyncio.gather(*tasks)) == 50
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.accept([item(99)])
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.alerts()


async def test_a_store_can_be_opened_again_after_close_and_after_abandon(
    tmp_path: Path, writing: Callable[[], Writer]
) -> None:
    """All that was acknowledged is there each time, and no thread is left behind."""
    before = threading.active_count()
    store = SqliteStore(tmp_path / "responder.db", writer=writing(), reserve=0)
    for number in range(4):
        await store.open()
        await store.accept([item(number, start(), key=f"k{number}")])
        assert len(await store.runs()) == number + 1
        if number % 2:
            store.abandon()
        else:
            await store.close()
    assert threading.active_count() == before
    assert due_times(tmp_path) == [NOW] * 4


def due_times(folder: Path) -> list[int]:
    """What is on disk, read past the store."""
    db = sqlite3.connect(folder / "responder.db")
    try:
        return [row[0] for row in db.execute("SELECT due FROM runs")]
    finally:
        db.close()
