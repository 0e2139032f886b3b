"""Watchers are kept at work, and what they hear is passed on once and never lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from responder.clock import World
from responder.errors import StepRetry, StoreUnavailable
from responder.ports import Heard, Watcher
from responder.service.watching import Watching
from tests.real.waiting import eventually


class Clock:
    """A clock that notes how long was waited, and hurries."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0.001)


@asynccontextmanager
async def kept(watchers: Sequence[Watcher], heard: Heard, clock: Clock) -> AsyncIterator[None]:
    """These watchers at work."""
    world = World(clock=clock, rng=random.Random(1))
    task = asyncio.create_task(Watching(watchers, heard, world).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_watcher_that_ends_is_started_again_ever_more_slowly() -> None:
    """Failing, raising a bug or just returning: it is at work again, and others never notice."""
    starts: list[int] = []
    others: list[str] = []

    async def frail(_hear: Heard) -> None:
        starts.append(1)
        match len(starts) % 3:
            case 0:
                raise StepRetry("the API server is away")
            case 1:
                raise KeyError("a bug")

    async def steady(hear: Heard) -> None:
        others.append("began")
        await asyncio.Event().wait()

    async def nobody(_place: str) -> None:
        raise AssertionError("nothing was heard")

    clock = Clock()
    async with kept([frail, steady], nobody, clock):

        async def often() -> bool:
            return len(starts) >= 9

        await eventually(often, "nine starts")

    assert others == ["began"]
    pauses = clock.slept[:8]
    assert all(0.5 * 2**n <= pause * 1.0 for n, pause in enumerate(pauses[:5]))
    assert max(pauses) <= 60.0
    assert len(set(pauses)) == len(pauses)  # never all at the same moment


async def test_what_is_heard_in_one_breath_is_passed_on_once_and_kept_while_the_store_is_away() -> (
    None
):
    """A hundred events of one namespace are one look; none is lost."""
    got: list[str] = []
    away = [StoreUnavailable("full"), StoreUnavailable("full")]

    async def busy(hear: Heard) -> None:
        for number in range(100):
            await hear(f"cluster:prod/ns-{number % 2}")
        await asyncio.Event().wait()

    async def heard(place: str) -> None:
        if away:
            raise away.pop()
        got.append(place)

    async with kept([busy], heard, Clock()):

        async def both() -> bool:
            return len(got) >= 2

        await eventually(both, "both places")
        await asyncio.sleep(0.02)

    assert sorted(got) == ["cluster:prod/ns-0", "cluster:prod/ns-1"]
