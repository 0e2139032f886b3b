"""Listings that are shared: never older than the question, and one failure is everybody's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.listing import Listings
from integrations.kubernetes.looks import Looks
from responder.errors import StepRetry

POLICIES, OTHER = "/policies", "/other"


@dataclass
class Server:
    """An API server whose listings end when the test says so."""

    begun: list[str] = field(default_factory=list)
    ends: list[asyncio.Future[list[Json]]] = field(default_factory=list)

    async def items(self, path: str, *, cached: bool = False) -> list[Json]:
        """The listing; its number is its content."""
        self.begun.append(path)
        self.ends.append(asyncio.get_running_loop().create_future())
        return await self.ends[-1]

    def end(self, number: int, failure: Exception | None = None) -> None:
        """Let a listing come to its end."""
        if failure is not None:
            self.ends[number].set_exception(failure)
        else:
            self.ends[number].set_result([{"number": number}])

    @property
    def api(self) -> Api:
        return cast(Api, self)


async def turns() -> None:
    """Let everything go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def number(task: asyncio.Task[Any]) -> int:
    """Which listing it was given."""
    found: int = task.result()[0]["number"]
    return found


async def test_who_comes_meanwhile_gets_the_next_listing_and_all_of_them_the_same() -> None:
    """A listing that was begun before the question may not know what the question is about."""
    server, listings = Server(), Listings()

    def ask(path: str = POLICIES) -> asyncio.Task[list[Json]]:
        return asyncio.create_task(listings.items(server.api, path))

    first = ask()
    await turns()
    late = [ask() for _ in range(50)]
    aside = ask(OTHER)
    await turns()
    assert server.begun == [POLICIES, OTHER]
    server.end(0)
    server.end(1)
    await turns()
    assert (number(first), number(aside)) == (0, 1)
    assert server.begun == [POLICIES, OTHER, POLICIES]
    latest = ask()
    await turns()
    server.end(2)
    await turns()
    server.end(3)
    await turns()
    assert {number(one) for one in late} == {2}
    assert number(latest) == 3
    again = ask()
    await turns()
    server.end(4)
    await turns()
    assert number(again) == 4


async def test_a_failure_is_told_to_all_who_waited_for_it_and_to_nobody_else() -> None:
    """The next listing is asked for anew."""
    server, listings = Server(), Listings()

    def ask() -> asyncio.Task[list[Json]]:
        return asyncio.create_task(listings.items(server.api, POLICIES))

    first = ask()
    await turns()
    second, third = ask(), ask()
    server.end(0, StepRetry("away"))
    await turns()
    server.end(1)
    await turns()
    with pytest.raises(StepRetry, match="away"):
        first.result()
    assert {number(second), number(third)} == {1}


async def test_one_who_goes_away_ends_nothing_for_the_others() -> None:
    """A step that has run out of time is no reason to list again."""
    server, listings = Server(), Listings()
    gone, stays = (asyncio.create_task(listings.items(server.api, POLICIES)) for _ in range(2))
    await turns()
    gone.cancel()
    await turns()
    server.end(0)
    await turns()
    assert server.begun == [POLICIES]
    assert gone.cancelled()
    assert stays.result()


# --------------------------------------------------------------------------- what stands around


@dataclass
class HandClock:
    """Time that a test sets."""

    now_: float = 100.0

    def monotonic(self) -> float:
        return self.now_


async def test_what_stands_around_is_shared_for_a_quarter_of_a_second_and_a_vain_look_never() -> (
    None
):
    """By namespace; the age counts from the beginning of the look."""
    server, clock = Server(), HandClock()
    looks = Looks(cast(Any, clock))

    async def ask(space: str = "red", failure: Exception | None = None) -> tuple[int, Any]:
        """How many listings it took, and what was found."""
        before = len(server.begun)
        asked = [asyncio.create_task(looks.near(server.api, space)) for _ in range(3)]
        await turns()
        for one in range(before, len(server.begun)):
            server.end(one, failure)
        found = await asyncio.gather(*asked)
        assert found[0] is found[1] is found[2]
        return len(server.begun) - before, found[0]

    assert await ask(failure=StepRetry("away")) == (4, None)
    count, found = await ask()
    assert (count, len(found)) == (4, 4)
    clock.now_ += 0.2
    assert await ask() == (0, found)
    assert (await ask("blue"))[0] == 4
    clock.now_ += 0.1
    assert (await ask())[0] == 4
