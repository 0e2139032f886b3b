"""How many three-step runs a second are carried to their end, every write on disk."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from responder import wiring
from responder.settings import load
from responder.store.interface import Event
from responder.store.sqlite import SqliteStore
from tests.bench.load import falco
from tests.bench.processes import folder
from tests.bench.report import Report, median
from tests.fakes import Things, fake_integration

__all__ = ["PLAYBOOK", "engine", "runs"]

ROUNDS, RUNS, SENDERS = 3, 600, 16
PLAYBOOK = """playbook: three-steps
on:
  - alert: {source: [falco], rule: [Bench run]}
mode: enforce
steps:
  look:
    use: fake.look
    with: {thing: "${{ target.pod }}"}
  mark:
    use: fake.mark
    needs: [look]
    with: {thing: "${{ target.pod }}", value: "on"}
  again:
    use: fake.mark
    needs: [mark]
    with: {thing: "${{ target.pod }}", value: "done"}
"""


class _Counted(SqliteStore):
    """Counts what a run writes, so that the floor writes as much."""

    appends = 0
    lines = 0

    async def append(
        self, run_id: str, known_seq: int, events: Sequence[Event], *a: Any, **k: Any
    ) -> list[Event]:
        self.appends += 1
        self.lines += len(events)
        return await super().append(run_id, known_seq, events, *a, **k)


@contextlib.asynccontextmanager
async def engine(place: Path, text: str, store: SqliteStore) -> AsyncIterator[wiring.App]:
    """A whole server but its doors, over trivial actions and a real store."""
    texts = place / "playbooks"
    texts.mkdir()
    (texts / "p.yaml").write_text(text)
    flags = {
        "store.url": f"sqlite:///{place / 'r.db'}",
        "playbooks.folders": [str(texts)],
        "guards": {"mode": "enforce", "storm": 10**6, "pods_per_window": 10**6, "pods_per_run": 99},
        "hooks": {"falco": {"source": "falco", "auth": {"none": True}}},
    }
    settings = load(None, environ={}, flags=flags)
    async with wiring.build(settings, store=store, extra=[fake_integration(Things())]) as app:
        yield app


async def _send(app: wiring.App, numbers: Sequence[int]) -> None:
    """Give the alerts in as the door would, so many at once."""
    left = iter(numbers)

    async def sender() -> None:
        for number in left:
            body = falco("Bench run", "shop", f"web-{number}").encode()
            await app.service.receive("falco", {}, body)

    await asyncio.gather(*(sender() for _ in range(SENDERS)))


async def _ours(place: Path, report: Report) -> None:
    store = _Counted(place / "r.db")
    rates, floors, cpu = [], [], []
    async with engine(place, PLAYBOOK, store) as app:
        numbers = itertools.count()
        total = 0
        for number in range(ROUNDS + 1):
            batch = list(itertools.islice(numbers, RUNS if number else 50))
            total += len(batch)
            before = (store.appends, store.lines)
            begun, used = time.perf_counter(), time.process_time()
            await _send(app, batch)
            await _done(app, total)
            took, used = time.perf_counter() - begun, time.process_time() - used
            if number:
                writes = (store.appends - before[0]) / len(batch)
                lines = (store.lines - before[1]) / (store.appends - before[0])
                rates.append(len(batch) / took)
                cpu.append(used / len(batch) * 1000)
                floors.append(_floor(place / f"floor{number}.db", round(writes), round(lines)))
    rate = median(rates)
    label = f"three-step durable runs/s ({writes:.0f} commits each)"
    report.line(label, f"{rate:.0f}/s", f"{median(floors):.0f}/s", ">= 300/s", ok=rate >= 300)
    report.note("CPU a run", f"{median(cpu):.2f} ms")


async def _done(app: wiring.App, total: int) -> None:
    """Until every run has ended; asks what is open, which costs little."""
    while await app.store.runs(status="open", limit=1):
        await asyncio.sleep(0.02)
    if len(await app.store.runs(status="succeeded", limit=total + 1)) != total:
        raise RuntimeError("not every run succeeded")


def _floor(path: Path, commits: int, lines: int) -> float:
    """Runs a second of a bare writer: as many commits and lines, 200 runs at once, no engine."""
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for _ in range(RUNS):
        todo.put(commits)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE journal (run INTEGER, data TEXT)")
    row = (1, "x" * 400)
    begun = time.perf_counter()
    while not todo.empty():
        group = [todo.get() for _ in range(min(200, todo.qsize()))]
        db.execute("BEGIN")
        db.executemany("INSERT INTO journal VALUES (?,?)", [row] * (lines * len(group)))
        db.execute("COMMIT")
        for left in group:
            if left > 1:
                todo.put(left - 1)
    db.close()
    return RUNS / (time.perf_counter() - begun)


def runs(report: Report) -> None:
    """Runs of one reading and two changing steps: plan, apply, verify, all journaled."""
    with folder() as place:
        asyncio.run(_ours(place, report))
