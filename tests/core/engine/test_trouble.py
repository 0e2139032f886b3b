"""When things go wrong in the middle: stops, outages, races, poison, unchecked targets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from responder.clock import SECOND
from responder.errors import StepRetry, StoreUnavailable
from responder.model import Blast, Effect, Plan
from responder.ports import Action, Call, Done, Integration, Pending
from responder.store.interface import Event
from responder.store.sqlite import SqliteStore
from tests.core.engine.bench import ANNA, BEN, Bench, bench
from tests.core.engine.test_driver import BUILD, MARK, playbook
from tests.fakes import Build, Mark, Things


class SlowPlan(Mark):
    """Marks like the other one, but plans only when the test lets it."""

    def __init__(self, things: Things, **info: Any) -> None:
        super().__init__(things)
        self.info = replace(Mark.info, name="slow.mark", **info)
        self.gate = asyncio.Event()
        self.planning = 0

    async def plan(self, call: Call) -> Plan:
        self.planning += 1
        await self.gate.wait()
        return await super().plan(call)


def slow(action: Action) -> Integration:
    return Integration(actions=[action])


SLOW = '  mark:\n    use: slow.mark\n    with: {thing: "${{ inputs.thing }}", value: "yes"}\n'


async def journal(b: Bench, run: str) -> list[Event]:
    return (await b.app.store.load_run(run))[1]


async def wait_for(condition: Any, looks: int = 400) -> None:
    """Look often, fail when it never comes true."""
    for _ in range(looks):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


async def test_a_stop_writes_no_intent_that_nobody_carries_out(tmp_path: Path) -> None:
    """The plan ends while the server drains: nothing is called, so nothing is said to be begun."""
    things = Things()
    action = SlowPlan(things, looks_up=False)
    async with bench(tmp_path, [playbook(SLOW)], things=things, extra=[slow(action)]) as b:
        run = await b.start("p", thing="a")
        await wait_for(lambda: action.planning)
        stopping = asyncio.create_task(b.app.driver.stop(5))
        await asyncio.sleep(0.02)
        action.gate.set()
        await stopping
        kinds = [event.type for event in await journal(b, run)]
        assert kinds == ["run_created", "step_planned"]

    again: dict[str, Any] = {"things": things, "extra": [slow(action)], "clock": b.clock}
    async with bench(tmp_path, [playbook(SLOW)], **again) as b:
        await b.until(run, "succeeded")
        assert len(things.done) == 1


class Outage(SqliteStore):
    """A store that takes no writes for a while."""

    down = False

    async def append(self, *args: Any, **more: Any) -> list[Event]:
        if self.down:
            raise StoreUnavailable("the disk is full")
        return await super().append(*args, **more)


class Blind(Build):
    """Builds only when the test lets it, and cannot look up whether it has."""

    def __init__(self, things: Things, **more: Any) -> None:
        super().__init__(things, **more)
        self.info = replace(self.info, name="blind.build")
        self.gate = asyncio.Event()
        self.applying = 0

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        self.applying += 1
        await self.gate.wait()
        return await super().apply(call, plan)


async def test_a_call_in_flight_outlives_an_outage_of_the_store(tmp_path: Path) -> None:
    """It ends, its result waits for the store, and nobody has to look whether it happened."""
    store, things = Outage(tmp_path / "r.db"), Things(gate=asyncio.Event())
    blind = Blind(things, looks_up=False)
    steps = MARK + "  build:\n    use: blind.build\n    with: {thing: b}\n"
    text = playbook(steps)
    async with bench(tmp_path, [text], things=things, store=store, extra=[slow(blind)]) as b:
        assert things.gate is not None
        run = await b.start("p", thing="a")
        await wait_for(lambda: blind.applying)
        while (await b.step(run, "mark"))["status"] != "applying":
            await asyncio.sleep(0.005)
        store.down = True
        things.gate.set()
        await wait_for(lambda: ("mark", f"{run}/mark") in things.done)
        await asyncio.sleep(0.1)
        blind.gate.set()
        await asyncio.sleep(0.1)
        store.down = False
        await b.until(run, "succeeded")

        kinds = [event.type for event in await journal(b, run)]
        assert kinds.count("apply_started") == 2
        assert sorted(things.done) == [("dispatch", f"{run}/build"), ("mark", f"{run}/mark")]


async def test_evidence_that_cannot_be_stored_now_is_stored_later(tmp_path: Path) -> None:
    """The sink writes into the store; its outage is no end of the step."""
    things = Things(faults={"apply look": [StoreUnavailable("the disk is full")]})
    look = "  look:\n    use: fake.look\n    with: {thing: a}\n"
    async with bench(tmp_path, [playbook(look)], things=things) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")


async def test_an_action_that_cancels_itself_is_a_bug_and_no_endless_loop(tmp_path: Path) -> None:
    """A library's stray `CancelledError` counts as a failure of that step, a few times."""
    stray: list[Any] = [asyncio.CancelledError() for _ in range(50)]
    things = Things(faults={"apply mark": stray})
    async with bench(tmp_path, [playbook(MARK)], things=things) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "failed")

        assert "internal error" in done["reason"]
        assert len(stray) > 10


class Extra(Mark):
    """An action of an integration that goes away."""

    info = replace(Mark.info, name="extra.mark")


async def test_a_run_that_cannot_be_read_any_more_is_shown_with_its_reason(tmp_path: Path) -> None:
    """Its integration is gone after an upgrade: three strikes, told, and the page still opens."""
    text = playbook(MARK.replace("fake.mark", "extra.mark"), mode="approve")
    good = playbook(MARK, name="good")
    async with bench(tmp_path, [text, good], extra=[slow(Extra(Things()))]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
    for file in (tmp_path / "playbooks").iterdir():
        file.unlink()
    async with bench(tmp_path, [good]) as b:
        for _ in range(200):
            b.clock.jump(60)
            b.app.driver.wake()
            await asyncio.sleep(0.01)
            if (await b.app.store.runs(incident=1))[0].outcome:
                break
        shown = await b.app.service.incident(ANNA, 1)
        assert shown["runs"][0]["outcome"] == "needs-attention"
        assert "extra.mark" in shown["runs"][0]["reason"]
        assert (await b.app.service.run(ANNA, run))["steps"] == []
        assert any("set aside" in line for line in await b.story())


async def test_nothing_is_changed_for_a_target_that_is_not_what_it_was(tmp_path: Path) -> None:
    """The pod is gone: the closing steps run, but none of them may change anything."""
    tail = "finally:\n  - use: fake.mark\n    with: {thing: closing}\n"
    text = playbook(MARK, tail=tail).replace(
        "thing: {type: string, required: true}",
        "thing: {type: string, required: true}\n        pod: {type: kubernetes.pod}",
    )
    async with bench(tmp_path, [text], pods={"shop/web-1": "uid-new"}) as b:
        answer = await b.app.service.start(BEN, "p", {"thing": "a", "pod": "shop/web-2"}, "x")
        await b.until(answer["run"], "failed")

        assert b.things.done == []


async def test_a_loop_has_an_end(tmp_path: Path) -> None:
    """What an alert lists must not become ten thousand steps."""
    steps = (
        '  mark:\n    use: fake.mark\n    for_each: "${{ inputs.many }}"\n'
        '    with: {thing: "${{ item }}", value: "yes"}\n'
    )
    text = playbook(steps).replace("thing: {type: string, required: true}", "many: {type: list}")
    async with bench(tmp_path, [text]) as b:
        run = await b.start("p", many=[str(n) for n in range(5000)])
        done = await b.until(run, "failed")

        assert "5000 items" in done["reason"]
        assert b.things.done == []


async def test_the_ceiling_of_the_window_counts_what_is_about_to_begin(tmp_path: Path) -> None:
    """Three plans judged in one moment must not all see the same free place."""
    things = Things(blast=Blast(pods=1, namespaces=("shop",)))
    action = SlowPlan(things)
    more: dict[str, Any] = {"guards__pods_per_window": 2}
    async with bench(tmp_path, [playbook(SLOW)], things=things, extra=[slow(action)], **more) as b:
        runs = [await b.start("p", thing=name) for name in "abc"]
        await wait_for(lambda: action.planning == 3)
        action.gate.set()
        ends = [(await b.until(run, "succeeded", "waiting-approval"))["status"] for run in runs]

        assert sorted(ends) == ["succeeded", "succeeded", "waiting-approval"]


async def test_the_same_pod_counts_once_in_a_run(tmp_path: Path) -> None:
    """Isolate it, then delete it: one pod was touched, and a ceiling of one allows that."""
    limits = "limits: {pods: 1}\n"
    second = '  again:\n    use: fake.pod\n    needs: [mark]\n    with: {thing: "a", value: "no"}\n'
    things = Things()
    text = playbook(MARK.replace("fake.mark", "fake.pod") + second, tail=limits)
    async with bench(tmp_path, [text], things=things, extra=[slow(OnePod(things))]) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded", "failed")

        assert done["outcome"] == "succeeded", done["reason"]


class OnePod(Mark):
    """Marks a pod."""

    info = replace(Mark.info, name="fake.pod")

    async def plan(self, call: Call) -> Plan:
        made = await super().plan(call)
        changes = [replace(c, ref=replace(c.ref, kind="Pod")) for c in made.changes]
        return replace(made, changes=tuple(changes))


class SlowUndo(Mark):
    """Takes its time to undo."""

    info = replace(Mark.info, name="slow.undo")

    def __init__(self, things: Things) -> None:
        super().__init__(things)
        self.gate = asyncio.Event()
        self.undoing = 0

    async def undo(self, call: Call, plan: Plan, result: Any) -> Done | Pending:
        self.undoing += 1
        await self.gate.wait()
        return await super().undo(call, plan, result)


async def test_an_undo_and_an_apply_of_one_object_do_not_overlap(tmp_path: Path) -> None:
    """Another run's change of the same thing waits until it has been put back."""
    things = Things()
    action = SlowUndo(things)
    texts: Sequence[str] = [
        playbook(MARK.replace("fake.mark", "slow.undo")),
        playbook(MARK.replace('"yes"', '"other"'), name="q"),
    ]
    async with bench(tmp_path, texts, things=things, extra=[slow(action)]) as b:
        first = await b.start("p", thing="a")
        await b.until(first, "succeeded")
        await b.app.service.undo(ANNA, first, "mark", "back")
        await wait_for(lambda: action.undoing)
        second = await b.start("q", thing="a")
        await asyncio.sleep(0.1)
        assert ("mark", f"{second}/mark") not in things.done
        action.gate.set()
        await b.until(second, "succeeded", "failed", "waiting-approval")
        assert things.done[1] == ("unmark", f"{first}/mark")


async def test_an_undo_is_allowed_while_paused(tmp_path: Path) -> None:
    """The stop button holds changes, not the way back."""
    async with bench(tmp_path, [playbook(MARK + BUILD)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")
        await b.app.service.pause(BEN, "stop")
        await b.app.service.undo(ANNA, run, "mark", "back")
        await wait_for(lambda: b.things.state == {})


def test_effects_are_what_the_fakes_say() -> None:
    """The stand-ins of this file change things, or the tests above prove nothing."""
    assert {SlowUndo.info.effect, OnePod.info.effect, Extra.info.effect} == {Effect.CHANGE}


@pytest.mark.parametrize("phase", ["plan", "apply"])
async def test_a_partition_of_ten_minutes_is_outlived(tmp_path: Path, phase: str) -> None:
    """The API server is away for a rolling upgrade: the step waits instead of failing."""
    things = Things()
    async with bench(tmp_path, [playbook(MARK)], things=things) as b:
        things.faults = {f"{phase} mark": [StepRetry("refused", after=5) for _ in range(10_000)]}
        begun = b.clock.now()
        run = await b.start("p", thing="a")
        while b.clock.now() < begun + 600 * SECOND:
            await asyncio.sleep(0.005)
            state = await b.step(run, "mark")
            assert state["status"] != "failed", state["error"]
            if state["status"] == "retrying":
                b.clock.jump(15)
                b.app.driver.wake()
        things.faults = {}
        await b.until(run, "succeeded")
