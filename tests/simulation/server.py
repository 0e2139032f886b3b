"""The real server on the simulated loop: booted, drained, killed, and booted again on its file.

Everything from the listener to the store is the product's own; only the loop, the clock, ids,
chance and what lies outside are given to it. A kill loses what was not committed and nothing
else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from responder import wiring
from responder.clock import World, sortable_id
from responder.errors import StoreUnavailable
from responder.model import Role
from responder.ports import Integration
from responder.service import Who
from responder.settings import Settings, load
from responder.store.sqlite import SqliteStore
from responder.store.writer import LoopWriter
from responder.web.app import listening, make_app
from tests.simulation.loop import NOBODY, PROCESS, Process, SimClock, SimLoop

__all__ = ["HOST", "Server", "Unused"]

HOST, PORT = "sim", 80
ROOT = Who(person="root", role=Role.ADMIN, door="test")
PLAYBOOKS = Path(__file__).parent / "playbooks"


class SeededIds:
    """Ids that look like the real ones and are the same for the same seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def new(self, prefix: str, now: int) -> str:
        """A sortable id."""
        return sortable_id(prefix, now, self._rng.getrandbits(50))

    def secret(self) -> str:
        """Text for a token; secret enough for a simulation."""
        return f"{self._rng.getrandbits(192):048x}"


class Unused(Executor):
    """Stands where a thread pool would; the simulated loop never asks it for anything."""


class FullWriter(LoopWriter):
    """The product's lanes on a disk that is full now and then."""

    def __init__(self, server: Server) -> None:
        super().__init__(Unused())
        self._server = server

    async def write(self, op: Callable[[Any], Any], *, essential: bool = True) -> Any:
        """Refuse while the disk is full: nothing is written, and the caller hears so."""
        if self._server.full:
            raise StoreUnavailable("the disk is full")
        return await super().write(op, essential=essential)


@dataclass
class Server:
    """One server and its file, over all its lives."""

    loop: SimLoop
    folder: Path
    integrations: Callable[[World], Integration]
    make_store: Callable[..., SqliteStore] = SqliteStore
    clock: SimClock = field(init=False)
    world: World = field(init=False)
    boots: int = 0
    full: bool = False  # the disk takes nothing
    app: wiring.App | None = None
    _process: Process = NOBODY
    _main: asyncio.Task[None] | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _up: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.clock = SimClock(self.loop)
        rng = random.Random(self.loop.rng.getrandbits(64))
        self.world = World(clock=self.clock, ids=SeededIds(rng), rng=rng)
        self._settings = _settings(self.folder)
        self._store: SqliteStore | None = None

    @property
    def database(self) -> Path:
        """The store's file."""
        return self._settings.store.path

    async def boot(self) -> None:
        """Start a new process on the file; returns when it listens."""
        self.boots += 1
        self._stop, self._up = asyncio.Event(), asyncio.Event()
        self._process = Process(f"server-{self.boots}")
        context = copy_context()
        context.run(PROCESS.set, self._process)
        self._main = self.loop.create_task(self._live(), context=context)
        up = asyncio.ensure_future(self._up.wait())
        await asyncio.wait({up, self._main}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._main.done():
            self._main.result()

    async def _live(self) -> None:
        writer = FullWriter(self)
        self._store = self.make_store(self.database, writer=writer, reserve=0, synchronous="OFF")
        extra = [self.integrations(self.world)]
        settings, store = self._settings, self._store
        async with wiring.build(settings, world=self.world, store=store, extra=extra) as app:
            doors = make_app(app.service, world=self.world)
            doors.on_response_prepare.append(_fixed_date)
            async with listening(doors, HOST, PORT):
                self.app = app
                self._up.set()
                await self._stop.wait()

    async def drain(self) -> None:
        """SIGTERM: what is in flight ends, the rest waits on disk."""
        self._stop.set()
        if self._main is not None:
            await self._main
        self.app = None

    async def crash(self) -> None:
        """SIGKILL: nothing more is written, sent or done by this process."""
        process, store, main = self._process, self._store, self._main
        self.app = None
        if store is not None:
            store.abandon()
        self.loop.kill(process)
        await self.loop.bury(process)
        if main is not None:
            await asyncio.gather(main, return_exceptions=True)

    async def token(self, person: str, role: Role) -> str:
        """A new token, as the command line on the server would make it."""
        assert self.app is not None
        made = await self.app.service.token_create(ROOT, person, role.value, 30)
        return str(made["secret"])


def _settings(folder: Path) -> Settings:
    return load(
        None,
        environ={},
        flags={
            "store.url": f"sqlite:///{folder / 'r.db'}",
            "playbooks.folders": [str(PLAYBOOKS)],
            "guards.mode": "enforce",
            "server.drain": "5s",
            "hooks": {
                "falco": {"source": "falco", "auth": {"none": True}},
                "forge": {"source": "github", "auth": {"none": True}},
            },
        },
    )


async def _fixed_date(_: web.Request, response: Any) -> None:
    """The library writes the machine's time into every answer; the simulation has its own."""
    response.headers["Date"] = "Thu, 01 Jan 1970 00:00:00 GMT"
