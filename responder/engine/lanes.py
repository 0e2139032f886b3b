"""Bounded lanes: so many calls at once, the most urgent waiter first.

Containment has a lane of its own, so an isolation never stands behind a slow forge. A lane never
gives more places than it has, and a cancelled waiter never takes one with it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["KeyedLocks", "Lane", "Lanes"]


class Lane:
    """A counting gate with an order: greater urgency first, then first come, first served."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._turn = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return sum(not future.done() for _, _, future in self._waiting)

    @asynccontextmanager
    async def place(self, urgency: int) -> AsyncIterator[None]:
        """Hold a place for the length of the block."""
        await self._take(urgency)
        try:
            yield
        finally:
            self._give()

    async def _take(self, urgency: int) -> None:
        if self._free > 0 and not self._waiting:
            self._free -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn += 1
        heapq.heappush(self._waiting, (-urgency, self._turn, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give()  # the place was handed over in the moment of the cancellation
            raise

    def _give(self) -> None:
        while self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
                return
        self._free += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """How many calls may be under way at once, by kind."""

    containment: Lane
    normal: Lane
    looks: Lane = field(default_factory=lambda: Lane(4))  # at what was contained: never urgent


class KeyedLocks:
    """One lock for each key, made on demand and forgotten when nobody holds it."""

    def __init__(self) -> None:
        self._lanes: dict[str, tuple[Lane, int]] = {}

    @asynccontextmanager
    async def hold(self, keys: tuple[str, ...]) -> AsyncIterator[None]:
        """Hold all keys; always taken in one order, so that two holders never wait in a ring."""
        entered: list[str] = []
        taken: list[Lane] = []
        try:
            for key in sorted(set(keys)):
                lane = self._enter(key)
                entered.append(key)
                await lane._take(0)  # noqa: SLF001 - the two classes of this file share one idea
                taken.append(lane)
            yield
        finally:
            for lane in taken:
                lane._give()  # noqa: SLF001
            for key in entered:
                self._leave(key)

    def _enter(self, key: str) -> Lane:
        lane, users = self._lanes.get(key, (Lane(1), 0))
        self._lanes[key] = (lane, users + 1)
        return lane

    def _leave(self, key: str) -> None:
        lane, users = self._lanes[key]
        if users <= 1:
            del self._lanes[key]
        else:
            self._lanes[key] = (lane, users - 1)
