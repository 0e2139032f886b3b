"""Listings that are shared: never older than the question, and one failure is everybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.identity import PodResolver
from integrations.kubernetes.listing import Listings
from integrations.kubernetes.looks import Look, Looks
from responder.errors import StepFailed, StepRetry
from responder.model import Target

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


# --------------------------------------------------------------------------- ahead of the question


def look(name: str = "a") -> Look:
    """What was seen of a pod."""
    return Look({"metadata": {"namespace": "red", "name": name}}, [])


async def test_a_look_that_was_begun_ahead_is_given_out_once_and_only_while_it_is_fresh() -> None:
    """A second question is a new one, and an old look is none."""
    clock = HandClock()
    looks = Looks(cast(Any, clock))
    seen = look()

    async def see() -> Look:
        return seen

    looks.begin("red", "a", see)
    assert await looks.ahead("red", "b") is None
    assert await looks.ahead("red", "a") is seen
    assert await looks.ahead("red", "a") is None
    looks.begin("red", "a", see)
    clock.now_ += 1.0
    assert await looks.ahead("red", "a") is None


async def test_a_look_ahead_that_failed_is_none_and_looks_in_vain_are_few() -> None:
    """Whoever asks hears the reason then; a sender that repeats itself costs a bounded number."""
    clock = HandClock()
    looks = Looks(cast(Any, clock))
    begun: list[str] = []

    def seeing(name: str) -> Callable[[], Coroutine[Any, Any, Look]]:
        async def see() -> Look:
            begun.append(name)
            raise StepRetry("away")

        return see

    looks.begin("red", "a", seeing("a"))
    assert await looks.ahead("red", "a") is None
    for _ in range(3):
        for number in range(100):
            looks.begin("red", str(number), seeing(str(number)))
    await turns()
    assert len(begun) == 1 + 32
    clock.now_ += 61
    looks.begin("red", "0", seeing("again"))
    await turns()
    assert begun[-1] == "again"


async def test_a_target_is_resolved_from_the_look_ahead_and_read_anew_when_that_failed() -> None:
    """One look at the API server serves the alert that was foreseen; the check is the same."""
    server = PodServer()
    resolver = PodResolver(cast(Api, server), Looks(cast(Any, HandClock())))
    target = Target(cluster="prod", namespace="red", pod="a")
    resolver.foresee(target)
    resolver.foresee(target)
    await turns()
    assert server.gets == 1
    assert (await resolver.resolve(target)).pod_uid == "1"
    assert server.gets == 1
    assert (await resolver.resolve(target)).pod_uid == "1"
    assert server.gets == 2

    resolver.foresee(target)
    await turns()
    with pytest.raises(StepFailed, match="another one now"):
        await resolver.resolve(replace(target, pod_uid="2"))
    server.away = True
    resolver.foresee(target)
    await turns()
    server.away = False
    assert (await resolver.resolve(target)).pod_uid == "1"
    resolver.foresee(replace(target, pod="No Name"))  # said by whoever resolves it


@dataclass
class PodServer:
    """An API server with one pod, and nothing around it."""

    gets: int = 0
    away: bool = False

    async def get(self, _path: str) -> Json:
        """The pod."""
        self.gets += 1
        if self.away:
            raise StepRetry("away")
        return {"metadata": {"namespace": "red", "name": "a", "uid": "1"}}

    async def items(self, _path: str, *, cached: bool) -> list[Json]:
        """Nothing, from the cache."""
        assert cached
        return []
