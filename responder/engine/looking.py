"""Who has contained things looked at again: at once where something was heard, else by time.

Rows on disk say which runs hold something, so nothing is forgotten by a restart: after one, every
such run is looked at once, some in each second, the heard ones first. Looks have places of their
own. What it must never do: take a place from a run that has something to do, or write to a journal.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterable

from responder.clock import SECOND, World
from responder.engine import truth
from responder.engine.driver import Driver
from responder.engine.state import RunState
from responder.errors import StoreUnavailable
from responder.store.interface import Event, Store

__all__ = ["Looker"]

log = logging.getLogger(__name__)
_WORKERS = 4
_PACE = 0.05  # seconds between two runs that are looked at for the first time after a start
_SPREAD = 0.1  # of the interval, at most: what began together is not looked at together for ever
_RETRY = 15.0  # seconds until a look that nobody could make is tried again, then ever later
_PATIENCE = 2.0  # seconds a look stands back, at most, while a run has something to do
_GLANCE = 0.1  # seconds between two glances at that
_TICK = 5.0  # seconds between two looks at the clock, at most
_PAGE = 500
_MOVES = {
    *("step_done", "undo_failed", "truth_same", "truth_unseen", "truth_changed"),
    *("reasserted", "reassert_failed", "reassert_given_up"),
}  # after one of these the next look is planned anew


class Looker:
    """The queue of runs to look at, and those who work on it."""

    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._world = world
        self._driver: Driver | None = None
        self._heard: dict[str, None] = {}  # at once, in this order
        self._later: list[tuple[float, str]] = []  # a heap: when, which run
        self._due: dict[str, float] = {}  # run -> when; what the heap says otherwise is out of date
        self._unseen: dict[str, int] = {}  # run -> looks in a row that nobody could make
        self._wake = asyncio.Event()

    # ----------------------------------------------------------------- from outside

    async def heard(self, correlation: str) -> None:
        """Something may have changed there ("cluster:prod/shop"): look at what is held at once."""
        assert self._driver is not None  # noqa: S101 - watchers begin after the driver
        for name in truth.names(correlation):
            self._take(self._driver.holding(name))
            after = ""
            while page := await self._store.correlated(name, after, _PAGE):
                self._take(page)
                after = page[-1]

    def saved(self, run: RunState, events: Iterable[Event]) -> None:
        """What a run's new events, saved or passing, mean for its next look."""
        kinds = {event.type for event in events}
        if "truth_unseen" in kinds:
            self._unseen[run.id] = self._unseen.get(run.id, 0) + 1
        elif kinds & {"truth_same", "truth_changed"}:
            self._unseen.pop(run.id, None)
        if kinds & _MOVES:
            self._plan(run)

    # ----------------------------------------------------------------- life

    async def run(self, driver: Driver) -> None:
        """Have everything looked at that is held, until cancelled."""
        self._driver = driver
        workers = [asyncio.create_task(self._work(driver)) for _ in range(_WORKERS)]
        try:
            await self._begin()
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _begin(self) -> None:
        """Plan a first look at everything that was held before this start."""
        after, number = "", 0
        while True:
            try:
                page = await self._store.correlated(truth.HELD, after, _PAGE)
            except StoreUnavailable:
                await self._world.clock.sleep(1.0)
                continue
            if not page:
                return
            for run_id in page:
                number += 1
                if run_id not in self._due:
                    self._put(run_id, self._world.clock.monotonic() + number * _PACE)
            after = page[-1]

    async def _work(self, driver: Driver) -> None:
        while True:
            run_id, wait = self._next()
            if not run_id:
                await self._wait(wait)
                continue
            await self._stand_back(driver)
            try:
                if not await driver.look(run_id):
                    self._put(run_id, self._world.clock.monotonic() + _RETRY)
            except Exception:
                log.exception("a look stumbled", extra={"event": "look_bug", "run": run_id})

    async def _stand_back(self, driver: Driver) -> None:
        """Let containments go first: each new one is a change that asks for looks at all others.

        Never for long: under lasting load the truth must be told as well.
        """
        clock = self._world.clock
        end = clock.monotonic() + _PATIENCE
        while driver.working and clock.monotonic() < end:
            await clock.sleep(_GLANCE)

    def _next(self) -> tuple[str, float]:
        """The run to look at now, or the seconds until there may be one."""
        if self._heard:
            run_id = next(iter(self._heard))
            del self._heard[run_id]
            self._due.pop(run_id, None)
            return run_id, 0.0
        now = self._world.clock.monotonic()
        while self._later:
            at, run_id = self._later[0]
            if self._due.get(run_id) != at:
                heapq.heappop(self._later)
            elif at > now:
                return "", min(at - now, _TICK)
            else:
                heapq.heappop(self._later)
                del self._due[run_id]
                return run_id, 0.0
        return "", _TICK

    async def _wait(self, seconds: float) -> None:
        """Until the time is over, or somebody was heard."""
        self._wake.clear()
        waker = asyncio.ensure_future(self._wake.wait())
        sleeper = asyncio.ensure_future(self._world.clock.sleep(seconds))
        try:
            await asyncio.wait({waker, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waker.cancel()
            sleeper.cancel()
            await asyncio.gather(waker, sleeper, return_exceptions=True)

    # ----------------------------------------------------------------- the queue

    def _take(self, run_ids: Iterable[str]) -> None:
        self._heard |= dict.fromkeys(run_ids)
        self._wake.set()

    def _plan(self, run: RunState) -> None:
        """The next look by time; sooner where the last one saw nothing."""
        seconds = truth.every(run) / SECOND
        if not seconds:
            self._due.pop(run.id, None)
            self._unseen.pop(run.id, None)
            return
        if failed := self._unseen.get(run.id, 0):
            seconds = min(seconds, _RETRY * 2.0 ** min(failed - 1, 10))
        spread = 1 - _SPREAD * self._world.rng.random()
        self._put(run.id, self._world.clock.monotonic() + seconds * spread)

    def _put(self, run_id: str, at: float) -> None:
        """One place for each run: a later word on when replaces the one before."""
        self._due[run_id] = at
        heapq.heappush(self._later, (at, run_id))
        self._wake.set()
