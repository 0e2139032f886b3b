"""One seed, one story: alerts, people, faults, clock jumps and kills, then calm, then judgement.

`tell(seed)` is the whole simulation of a seed. The same seed tells the same story to the last
callback, in any process.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from responder.model import Role
from responder.store.sqlite import SqliteStore
from tests.simulation.actions import RECHECK, Build, Mark, integration
from tests.simulation.checks import Said, Witness, paused_applies
from tests.simulation.loop import SimLoop
from tests.simulation.network import Links
from tests.simulation.people import Caller, Crowd
from tests.simulation.server import Server
from tests.simulation.world import Outside

__all__ = ["Story", "Variant", "tell"]

_SETTLED = 3 * RECHECK + 60.0
PATIENCE = 900.0  # virtual seconds of calm within which everything must have ended
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Variant:
    """Parts that a test replaces by ones with a planted bug."""

    make_store: Callable[..., SqliteStore] = SqliteStore
    build: type[Build] = Build
    isolate: type[Mark] = Mark


@dataclass
class Story:
    """What came of a seed."""

    seed: int
    digest: str
    faults: list[str]
    steps: int
    seconds: float  # virtual
    boots: int
    outcomes: dict[str, int]
    put_back: int  # isolations that somebody took away and the server set anew
    lines: list[str] = field(default_factory=list)


def tell(seed: int, variant: Variant | None = None, *, keep_lines: bool = False) -> Story:
    """Run one seed to its end."""
    logging.disable(logging.CRITICAL)  # thousands of refused and broken things are the point
    gc.disable()  # when it runs depends on what this process did before
    loop = SimLoop(seed, keep_lines=keep_lines)
    loop.links = Links()
    place = _MEMORY if _MEMORY.is_dir() else None
    try:
        with tempfile.TemporaryDirectory(prefix="sim-", dir=place) as folder:
            told = _Telling(loop, Path(folder), variant or Variant())
            loop.run(told.tell())
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
    return Story(
        seed=seed,
        digest=loop.digest,
        faults=told.witness.faults,
        steps=loop.steps,
        seconds=loop.time(),
        boots=told.server.boots,
        outcomes=told.outcomes,
        put_back=sum(n for (verb, _), n in told.outside.effects.items() if "put back" in verb),
        lines=loop.lines or [],
    )


class _Telling:
    """The parts of one story."""

    def __init__(self, loop: SimLoop, folder: Path, variant: Variant) -> None:
        self.loop, self.rng = loop, loop.rng
        self.outside = Outside(loop)
        self.server = Server(
            loop,
            folder,
            lambda world: integration(self.outside, world, variant.build, variant.isolate),
            variant.make_store,
        )
        self.witness = Witness(self.server.database)
        self.said = Said()
        self.outcomes: dict[str, int] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._callers: list[Caller] = []

    async def tell(self) -> None:
        """Trouble, calm, judgement."""
        await self.server.boot()
        crowd = await self._crowd()
        self.outside.witness = self.witness.applying
        self.outside.finished = lambda key: self._aside(crowd.hint(key))
        alerts = self._people(crowd)
        await self._trouble()
        await self._calm(crowd)
        await self._wait(alerts)
        await self._judge(crowd)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks.append(task)
        return task

    def _aside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin what goes on until the end of the story."""
        self._tasks.append(self.loop.create_task(work))

    async def _crowd(self) -> Crowd:
        """Everybody with their tokens; made before anything can go wrong."""

        async def known(name: str, role: Role) -> Caller:
            token = await self.server.token(name, role)
            return Caller(self.loop, name, self.said, token)

        names = ("anna", "ben", "cleo")[: self.rng.choice([2, 3])]
        approvers = [await known(name, Role.APPROVER) for name in names]
        operators = [await known(name, Role.RESPONDER) for name in ("olga", "otto")]
        strangers = [Caller(self.loop, name, self.said) for name in ("falco-a", "falco-b")]
        self._callers = [*approvers, *operators, *strangers]
        return Crowd(self.loop, self.said, self.witness, approvers, operators, strangers)

    def _people(self, crowd: Crowd) -> list[asyncio.Task[Any]]:
        """Everybody begins; the tasks that must come to an end by themselves."""
        pods = [f"{self.rng.choice(['cart', 'cart', 'web', 'gone'])}-{n}" for n in range(4)]
        finite = [
            self._begin(crowd.report(number, self.rng.choice(pods)))
            for number in range(self.rng.randint(2, 6))
        ]
        finite += [self._begin(crowd.start(n)) for n in range(self.rng.randint(0, 2))]
        self._aside(crowd.decide())
        self._aside(crowd.disturb())
        for who in crowd.operators[: self.rng.choice([0, 1, 2])]:
            self._aside(crowd.switch(who))
        return finite

    # ----------------------------------------------------------------- trouble

    async def _trouble(self) -> None:
        """Kills, restarts, jumps of the clock, and somebody else in the cluster."""
        pests = [self._begin(pest()) for pest in (self._jumps, self._disk, self._meddling)]
        for _ in range(self.rng.choice([0, 1, 1, 2, 3])):
            await self._moment()
            if self.rng.random() < 0.75:
                await self.server.crash()
            else:
                await self.server.drain()
            await asyncio.sleep(self.rng.uniform(0.01, 3))
            await self.server.boot()
        await asyncio.sleep(self.rng.uniform(5, 20))
        await asyncio.gather(*pests)

    async def _moment(self) -> None:
        """Some time, or just after something was really done outside."""
        if self.rng.random() < 0.4:
            await asyncio.sleep(self.rng.uniform(0, 20))
            return
        seen, left = asyncio.Event(), self.rng.randint(1, 4)

        def happened() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                seen.set()

        self.outside.happened = happened
        try:
            async with asyncio.timeout(20):
                await seen.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self.rng.uniform(0, 0.06))

    async def _jumps(self) -> None:
        for _ in range(self.rng.choice([0, 0, 1, 2])):
            await asyncio.sleep(self.rng.uniform(1, 15))
            self.server.clock.jump(self.rng.choice([-100.0, -3.0, 5.0, 100.0]))
            self.outside.meddle("Deployment/cart", "other", repr(self.rng.random()))

    async def _meddling(self) -> None:
        """Somebody takes isolations away: a controller that insists, a person, an intruder."""
        for _ in range(self.rng.choice([0, 1, 3, 8])):
            await asyncio.sleep(self.rng.uniform(0, 12))
            isolated = self.outside.marked("isolated")
            if isolated:
                self.outside.meddle(self.rng.choice(isolated), "isolated", "")

    async def _disk(self) -> None:
        """The disk is full for a while."""
        for _ in range(self.rng.choice([0, 0, 1, 2])):
            await asyncio.sleep(self.rng.uniform(0, 15))
            self.server.full = True
            await asyncio.sleep(self.rng.uniform(0.1, 4))
            self.server.full = False

    # ----------------------------------------------------------------- calm, judgement

    async def _calm(self, crowd: Crowd) -> None:
        """No more faults: from here on everything must come to its end."""
        crowd.calm = True
        self.outside.trouble = 0.0
        self.loop.links.cut = 0.0
        await asyncio.sleep(12)  # what was under way is answered, or its caller gives up
        await crowd.agree(crowd.operators[0])
        while not await crowd.press(crowd.operators[0], pause=False):
            await asyncio.sleep(1)

    async def _wait(self, alerts: list[asyncio.Task[Any]]) -> None:
        until = self.loop.time() + PATIENCE
        await asyncio.wait(alerts, timeout=PATIENCE)
        while self.witness.open_runs() and self.loop.time() < until:
            await asyncio.sleep(2)
        unended = sum(not task.done() for task in alerts)
        if unended:
            self.witness.faults.append(f"{unended} people were never answered")

    async def _judge(self, crowd: Crowd) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
        await crowd.agree(crowd.operators[0])
        await asyncio.sleep(_SETTLED)  # every look and every second and third try has its time
        faults = self.witness.faults
        faults += self.witness.lies(lambda name: self.outside.now(name).get("isolated"))
        assert self.server.app is not None
        check = await self.server.app.store.check()
        faults += [f"store: {name} {word}" for name, word in check.items() if word != "ok"]
        for caller in self._callers:
            await caller.close()
        await self.server.drain()
        self.witness.judge(self.said, self.outside.effects)
        faults += paused_applies(self.said.switches, self.outside.applied)
        query = "SELECT outcome, count(*) FROM runs GROUP BY outcome ORDER BY outcome"
        self.outcomes = dict(self.witness.rows(query))
        self.witness.close()
