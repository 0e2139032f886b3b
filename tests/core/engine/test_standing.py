"""A whole server over a world in which somebody else undoes or opens what was contained."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from responder.errors import Conflict, NotFound, StepFailed, StepRetry
from responder.model import Plan, Verdict, VerdictLevel
from responder.ports import Call, Done, Integration, Pending
from tests.core.engine.bench import ANNA, BEN, Bench, HandClock, bench
from tests.core.engine.test_driver import MARK, playbook
from tests.fakes import Mark, Things

STAND = MARK.replace("fake.mark", "fake.stand")
ALLOWS = ("another policy allows ingress",)


class Standing(Mark):
    """Marks a thing, and can say later whether the mark is still there."""

    info = replace(Mark.info, name="fake.stand", recheck=60.0)

    def __init__(self, things: Things) -> None:
        super().__init__(things)
        self.open: tuple[str, ...] = ()
        self.looks = 0
        self.applies: list[bool] = []
        self.fault: Exception | None = None
        self.uid = "one"

    async def plan(self, call: Call) -> Plan:
        made = await super().plan(call)
        changes = (replace(c, ref=replace(c.ref, uid=self.uid)) for c in made.changes)
        return replace(made, changes=tuple(changes))

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        self.applies.append(call.resumed)
        self.things.done = [one for one in self.things.done if one != ("mark", call.key)]
        return await super().apply(call, plan)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        self.looks += call.recheck
        if self.fault is not None:
            raise self.fault
        if self.things.state.get(str(call.params["thing"])) != "yes":
            raise StepFailed("the mark is gone")
        level = VerdictLevel.RESIDUAL if self.open else VerdictLevel.APPLIED
        return Verdict(level=level, residual=self.open)


def server(folder: Path, action: Standing, **more: Any) -> AbstractAsyncContextManager[Bench]:
    """A server over this one action."""
    extra = [Integration(actions=[action])]
    return bench(folder, [playbook(STAND)], things=action.things, extra=extra, **more)


async def until(b: Bench, check: Callable[[], Awaitable[bool]], *, jump: float = 0.0) -> None:
    """Wait until something is so; with `jump` time passes in such steps meanwhile."""
    for _ in range(800):
        if await check():
            return
        await asyncio.sleep(0.005)
        if jump:
            b.clock.jump(jump)
            b.app.driver.wake()
    raise AssertionError("\n".join(await b.story()))


def verdict(b: Bench, run: str, level: str) -> Callable[[], Awaitable[bool]]:
    """Whether the step's present verdict is this one."""

    async def check() -> bool:
        return bool((await b.step(run, "mark"))["verdict"] == level)

    return check


def seen(action: Standing, looks: int) -> Callable[[], Awaitable[bool]]:
    """Whether it was looked at so often."""

    async def check() -> bool:
        return action.looks >= looks

    return check


def told(b: Bench, part: str) -> Callable[[], Awaitable[bool]]:
    """Whether the incident's story has this."""

    async def check() -> bool:
        return any(part in text for text in await b.story())

    return check


async def events(b: Bench, run: str) -> list[str]:
    """The types of all events of the run."""
    return [event.type for event in (await b.app.store.load_run(run))[1]]


async def held(b: Bench) -> str:
    """A run that has ended and holds something."""
    run = await b.start("p", thing="a")
    await b.until(run, "succeeded")
    return run


async def test_time_alone_brings_the_next_look_and_a_true_word_is_not_repeated(
    tmp_path: Path,
) -> None:
    """After each interval the action is asked; the journal grows only when the truth changes."""
    action = Standing(Things())
    async with server(tmp_path, action) as b:
        run = await held(b)
        before = await events(b, run)
        await until(b, seen(action, 3), jump=20)
        assert await events(b, run) == before

        action.open = ALLOWS
        await until(b, verdict(b, run, "residual"), jump=20)
        assert (await events(b, run)).count("truth_changed") == 1
        wanted = f"mark a yes: is residual now, was applied - opened since: {ALLOWS[0]}"
        assert wanted in await b.story()
        page = (await b.app.service.metrics_text()).decode()
        assert 'responder_rechecks_total{action="fake.stand",outcome="changed"} 1.0' in page


async def test_what_is_heard_is_looked_at_at_once_and_everything_else_is_not(
    tmp_path: Path,
) -> None:
    """A voice names a cluster or a namespace; no time has to pass."""
    action = Standing(Things())
    async with server(tmp_path, action) as b:
        run = await held(b)
        action.open = ALLOWS
        await b.app.looker.heard("fake/other")
        await b.app.looker.heard("fake/shop")
        await until(b, verdict(b, run, "residual"))
        assert action.looks == 1
        assert (await b.app.service.incident(ANNA, 1))["status"] == "open"

        action.open = ()
        await b.app.looker.heard("fake")
        await until(b, verdict(b, run, "applied"))
        assert (await b.app.service.incident(ANNA, 1))["status"] == "contained"


async def test_a_look_in_vain_changes_nothing_and_comes_again_sooner(tmp_path: Path) -> None:
    """An API server that is away is no loss: nothing is said and nothing is put back."""
    action = Standing(Things())
    async with server(tmp_path, action) as b:
        run = await held(b)
        before = await events(b, run)
        action.fault = StepRetry("the API server is away")
        await b.app.looker.heard("fake/shop")
        await until(b, seen(action, 2), jump=5)
        assert await events(b, run) == before

        action.fault, action.open = None, ALLOWS
        await until(b, verdict(b, run, "residual"), jump=5)


async def test_it_is_put_back_three_times_and_then_a_person_is_asked(tmp_path: Path) -> None:
    """Each time is told; a fourth loss stays, and the verdict says why."""
    action = Standing(Things())
    async with server(tmp_path, action) as b:
        run = await held(b)
        for _ in range(3):
            del action.things.state["a"]
            await b.app.looker.heard("fake/shop")
            await until(b, told(b, f"time {len(action.applies)} of at most 3"), jump=5)
            await until(b, verdict(b, run, "applied"), jump=5)
        del action.things.state["a"]
        await b.app.looker.heard("fake/shop")
        await until(b, told(b, "not put back any more, a person must decide"), jump=5)

        assert action.applies == [False, True, True, True]
        assert "a" not in action.things.state
        step = await b.step(run, "mark")
        assert step["verdict"] == "residual"
        assert step["residual"] == [
            "the mark is gone",
            "it was put back 3 times and did not last: a person must look",
        ]


async def test_a_loss_found_after_a_restart_is_put_back(tmp_path: Path) -> None:
    """What is held follows from the store alone; the next server looks at it by itself."""
    action, clock = Standing(Things()), HandClock()
    async with server(tmp_path, action, clock=clock) as b:
        run = await held(b)
    del action.things.state["a"]

    async with server(tmp_path, action, clock=clock) as b:

        async def told() -> bool:
            return any("is residual now" in line for line in await b.story())

        await until(b, told, jump=0.1)
        await until(b, verdict(b, run, "applied"), jump=1)
        assert action.things.state == {"a": "yes"}


async def test_nothing_is_put_back_while_everything_is_paused(tmp_path: Path) -> None:
    """The loss is said at once; the change waits for the end of the pause."""
    action = Standing(Things())
    async with server(tmp_path, action) as b:
        run = await held(b)
        await b.app.service.pause(BEN, "drill")
        del action.things.state["a"]
        await b.app.looker.heard("fake/shop")
        await until(b, verdict(b, run, "residual"))
        for _ in range(20):
            await asyncio.sleep(0.005)
            b.clock.jump(1)
        assert action.applies == [False]

        await b.app.service.resume(BEN, "over")
        await until(b, verdict(b, run, "applied"), jump=1)
        assert action.applies == [False, True]


@pytest.mark.parametrize("way", ["observe", "another object", "protected"])
async def test_it_is_never_put_back_where_that_must_not_be(tmp_path: Path, way: str) -> None:
    """Only observing by now, another object of the same name, a guarded place: a person decides."""
    action, clock = Standing(Things()), HandClock()
    async with server(tmp_path, action, clock=clock) as b:
        run = await held(b)
    del action.things.state["a"]
    if way == "another object":
        action.uid = "two"
    flags: dict[str, Any] = {
        "observe": {"guards__namespace_modes": {"shop": "observe"}},
        "protected": {"guards__protected_namespaces": ["shop"]},
    }.get(way, {})

    async with server(tmp_path, action, clock=clock, **flags) as b:
        await until(b, told(b, "could not be put back; a person must decide"), jump=1)
        assert action.applies == [False]
        step = await b.step(run, "mark")
        assert step["verdict"] == "residual"
        assert step["residual"][0] == "the mark is gone"
        assert len(step["residual"]) == 2


async def test_something_that_is_gone_is_told_once_and_never_looked_at_again(
    tmp_path: Path,
) -> None:
    """A pod that ended by itself: a person hears of it, nobody puts it back."""
    action = Standing(Things())
    async with server(tmp_path, action) as b:
        run = await held(b)
        action.fault = NotFound("pod shop/cart is gone")
        await b.app.looker.heard("fake/shop")
        await until(b, told(b, "has ended: pod shop/cart is gone"))
        looks = action.looks
        for _ in range(10):
            await asyncio.sleep(0.005)
            b.clock.jump(100)
        assert action.looks == looks
        assert action.applies == [False]
        assert (await events(b, run)).count("truth_ended") == 1


async def test_a_try_that_meets_a_conflict_is_made_again(tmp_path: Path) -> None:
    """Somebody wrote in the same moment: the next try plans anew, within the bound."""
    action = Standing(Things())
    action.things.faults["apply mark"] = []
    async with server(tmp_path, action) as b:
        run = await held(b)
        action.things.faults["apply mark"] = [Conflict("it changed meanwhile")]
        del action.things.state["a"]
        await b.app.looker.heard("fake/shop")
        await until(b, told(b, "could not be put back: it changed meanwhile"), jump=1)
        await until(b, verdict(b, run, "applied"), jump=5)
        assert action.applies == [False, True, True]


async def test_a_thousand_looks_take_no_place_of_a_new_alert(tmp_path: Path) -> None:
    """While every look hangs, a new run begins and ends as if there were none."""
    action = Standing(Things())
    gate = asyncio.Event()

    async def hang(call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        if call.recheck:
            await gate.wait()
        return Verdict(level=VerdictLevel.APPLIED)

    action.verify = hang  # type: ignore[method-assign]
    async with server(tmp_path, action) as b:
        for _ in range(12):
            await held(b)
        await b.app.looker.heard("fake/shop")
        await asyncio.sleep(0.05)
        await held(b)
        gate.set()
