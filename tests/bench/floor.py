"""The least an alert receiver can be: aiohttp, `json.loads`, and 202 once SQLite has it.

    python -m tests.bench.floor PORT_FILE DATABASE

WAL, `synchronous=FULL`, one writer thread that commits everything that waits as one group. It
imports nothing of the product. Never a model for one: no duplicates, no incidents, no limits.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import queue
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

GROUP = 512
Waiting = tuple[tuple[str, str], "asyncio.Future[None]"]


class Writer:
    """Commits what waits, in groups, in a thread of its own."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._path, self._loop = path, loop
        self._queue: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, row: tuple[str, str]) -> asyncio.Future[None]:
        """Done when the row is on disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((row, future))
        return future

    def _run(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE alerts (id INTEGER PRIMARY KEY, rule TEXT, body TEXT)")
        while True:
            group = self._take()
            db.execute("BEGIN")
            db.executemany("INSERT INTO alerts (rule, body) VALUES (?,?)", [r for r, _ in group])
            db.execute("COMMIT")
            self._loop.call_soon_threadsafe(_settle, [future for _, future in group])

    def _take(self) -> list[Waiting]:
        group = [self._queue.get()]
        while len(group) < GROUP and not self._queue.empty():
            group.append(self._queue.get_nowait())
        return group


def _settle(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


async def _serve(port_file: Path, database: str) -> None:
    writer = Writer(database, asyncio.get_running_loop())

    async def post(request: web.Request) -> web.Response:
        raw = await request.read()
        await writer.put((json.loads(raw)["rule"], raw.decode()))
        return web.Response(status=202)

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/", post), web.get("/readyz", ready)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    part = port_file.with_suffix(".part")
    part.write_text(f"http://127.0.0.1:{runner.addresses[0][1]}")
    part.replace(port_file)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed, on uvloop where it is installed (as the product does)."""
    try:
        factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(Path(sys.argv[1]), sys.argv[2]))


if __name__ == "__main__":
    main()
