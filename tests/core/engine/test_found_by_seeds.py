"""What the simulation found, or what building it made plain, each as its smallest story.

Seeds found the lost quorum, the change that a pause did not hold, and the pause that a resume
undid; the others were seen while reading the engine for it, and no seed reaches them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from responder.engine.folding import fold_all
from responder.engine.machine import begin, decide
from responder.engine.state import RunState, StepStatus
from responder.model import Mode, Plan, Role
from responder.playbook.loading import load_text
from responder.ports import Call, Done, Integration, Pending
from responder.service import Who
from responder.store.interface import AuditEntry, Event
from responder.store.sqlite import SqliteStore
from tests.core.engine.bench import ANNA, BEN, bench
from tests.core.engine.test_driver import MARK, playbook
from tests.fakes import Build, Things, fake_integration

OTHER = """
  other:
    use: fake.build
    with: {thing: other}
"""
SLOW = """
  slow:
    use: fake.mark
    with: {thing: slow}
"""
Said = tuple[str, Mapping[str, object]]
CLEO = Who(person="cleo", role=Role.APPROVER, door="test")
TWO = MARK + "    approve: {by: approver, within: 30m, otherwise: stop, quorum: 2}\n"
ASKED = {"step": "mark", "until": 99, "otherwise": "stop", "quorum": 1, "waiting_for": "a yes"}


def _run(text: str, *events: Said) -> RunState:
    """A run that has been planned, asked for, and then what the events say."""
    infos = {a.info.name: a.info for a in fake_integration(Things()).actions}
    loaded = load_text(text, "p.yaml", infos)
    planned = {"step": "mark", "plan": {"hash": "h1", "changes": [1]}, "params": {}, "asks": "why"}
    first = [
        Event("run_created", 1, {"incident": 1, "mode": Mode.ENFORCE}, 1),
        Event("step_planned", 2, planned, 2),
        Event("approval_asked", 3, ASKED, 3),
    ]
    rest = [
        Event(kind, 10 + number, {"step": "mark", **data}, 4 + number)
        for number, (kind, data) in enumerate(events)
    ]
    return fold_all(begin("run_1", loaded), [*first, *rest])


YES: Said = ("approval_given", {"person": "anna", "plan": "h1"})
LATE: Said = ("approval_given", {"person": "cleo", "plan": "h1"})
NO: Said = ("approval_denied", {"reason": "denied by cleo"})
BEGUN: Said = ("apply_started", {"attempt": 1})
APPLIED: Said = ("step_applied", {"result": {}})


async def test_two_people_who_say_yes_in_one_moment_are_two(tmp_path: Path) -> None:
    """Each looked before the other had spoken; together they are the quorum all the same."""
    async with bench(tmp_path, [playbook(TWO)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        await asyncio.gather(b.approve(run, "mark", ANNA), b.approve(run, "mark", CLEO))

        assert (await b.until(run, "succeeded"))["steps"][0]["approvals"] == ["anna", "cleo"]


@pytest.mark.parametrize("late", [LATE, NO, ("approval_expired", {"reason": "nobody"})])
@pytest.mark.parametrize("done", [[BEGUN], [BEGUN, APPLIED]])
def test_a_word_that_comes_after_the_beginning_changes_nothing(
    late: Said, done: list[Said]
) -> None:
    """A second yes must not begin the step anew, a late no must not hide that it has begun."""
    before = _run(playbook(MARK), YES, *done)
    after = _run(playbook(MARK), YES, *done, late)

    assert after.step("mark") == before.step("mark")
    assert decide(after, 50).commands == decide(before, 50).commands


def test_a_yes_to_another_plan_does_not_count() -> None:
    """What was said to a plan that has changed since stays with that plan."""
    stale: Said = ("approval_given", {"person": "anna", "plan": "h0"})

    assert _run(playbook(MARK), stale).step("mark").status is StepStatus.WAITING_APPROVAL


def test_a_yes_in_the_last_moment_is_in_time() -> None:
    """The end of the time, written just after a yes, does not take the yes away."""
    run = _run(playbook(MARK), YES, ("approval_expired", {"reason": "nobody decided in time"}))

    assert run.step("mark").status is StepStatus.APPROVED


def test_what_two_people_undo_in_one_moment_is_undone_once() -> None:
    """The second request finds the undo under way, or done."""
    back: Said = ("undo_asked", {"person": "anna"})
    undone: list[Said] = [("undo_started", {}), ("undo_done", {})]
    run = _run(playbook(MARK), YES, BEGUN, APPLIED, back, *undone, back)

    assert run.step("mark").undo == "done"


class SlowBuild(Build):
    """Begins jobs only when the test lets it."""

    def __init__(self, things: Things) -> None:
        super().__init__(things)
        self.gate = asyncio.Event()
        self.called: list[str] = []

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        self.called.append(call.key)
        await self.gate.wait()
        return await super().apply(call, plan)


async def test_a_change_that_waits_in_line_is_held_by_a_pause(tmp_path: Path) -> None:
    """It had its intent on disk and stood behind another one when the pause came."""
    things = Things()
    build, text = SlowBuild(things), playbook(OTHER)
    async with bench(tmp_path, [text], things=things, extra=[Integration(actions=[build])]) as b:
        first, second = await b.start("p", thing="a"), await b.start("p", thing="a")
        for run in (first, second):
            while (await b.step(run, "other"))["status"] != "applying":
                await asyncio.sleep(0.005)
        await b.app.service.pause(ANNA, "look first")
        build.gate.set()
        await b.until(first, "waiting-external")
        await b.until(second, "paused")
        assert build.called == [f"{first}/other"]

        await b.app.service.resume(ANNA, "go on")
        b.clock.jump(2)  # a held run looks once a second
        b.app.driver.wake()
        await b.until(second, "succeeded")
        assert build.called == [f"{first}/other", f"{second}/other"]


class SlowSwitch(SqliteStore):
    """Holds the answer to a resume back until the test lets it go."""

    gate: asyncio.Event | None = None

    async def set_switch(self, name: str, value: object, audit: AuditEntry) -> None:
        await super().set_switch(name, value, audit)  # type: ignore[arg-type]
        if value is None and self.gate is not None:
            await self.gate.wait()


async def test_a_pause_during_a_resume_holds(tmp_path: Path) -> None:
    """The resume was written first, so the pause is the last word: on disk and in memory."""
    store = SlowSwitch(tmp_path / "r.db")
    async with bench(tmp_path, [playbook(MARK)], store=store) as b:
        store.gate = asyncio.Event()
        resume = asyncio.create_task(b.app.service.resume(ANNA, "go on"))
        await asyncio.sleep(0.05)
        pause = asyncio.create_task(b.app.service.pause(BEN, "no, wait"))
        await asyncio.sleep(0.05)
        store.gate.set()
        await asyncio.gather(resume, pause)

        assert (await b.app.service.status(ANNA))["paused"] == "paused by ben: no, wait"
        assert await store.get_switch("pause") is not None


async def test_a_branch_is_looked_after_while_another_has_a_call_in_flight(tmp_path: Path) -> None:
    """Its due time, and the end of a pause, do not wait for the slow call's end."""
    things = Things(gate=asyncio.Event())
    async with bench(tmp_path, [playbook(SLOW + OTHER)], things=things) as b:
        run = await b.start("p", thing="a")
        while (await b.step(run, "other"))["status"] != "waiting-external":
            await asyncio.sleep(0.005)
        async with asyncio.timeout(10):
            while (await b.step(run, "other"))["status"] != "succeeded":
                b.clock.jump(16)
                await asyncio.sleep(0.05)

        assert (await b.step(run, "slow"))["status"] == "applying"
        assert things.gate is not None
        things.gate.set()
        await b.until(run, "succeeded")


async def test_a_step_given_up_while_another_lets_it_look_again_goes_on(tmp_path: Path) -> None:
    """Of two decisions over an uncertain step, the first one in the journal holds."""
    run = _run(
        playbook(MARK),
        YES,
        BEGUN,
        ("step_uncertain", {"error": "?"}),
        ("step_look_again", {}),
        ("step_failed", {"error": "given up by cleo", "given_up": True}),
    )

    assert run.step("mark").status is StepStatus.APPLYING
