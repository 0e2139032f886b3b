"""Runs from start to end: every kind of step, failure, decision and way back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from responder.errors import Conflict, Forbidden, StepFailed, StepRetry, Uncertain
from responder.model import Blast, Role
from responder.service import Who
from tests.core.engine.bench import ANNA, BEN, bench
from tests.fakes import Things

HEAD = """
playbook: {name}
description: test
on:
  - manual:
      inputs:
        thing: {{type: string, required: true}}
mode: {mode}
steps:
"""
MARK = """
  mark:
    use: fake.mark
    with: {thing: "${{ inputs.thing }}", value: "yes"}
"""
BUILD = """
  build:
    use: fake.build
    needs: [mark]
    with: {thing: "${{ inputs.thing }}"}
"""


def playbook(steps: str, *, name: str = "p", mode: str = "enforce", tail: str = "") -> str:
    return HEAD.format(name=name, mode=mode) + steps + tail


async def test_a_run_goes_through_all_its_steps(tmp_path: Path) -> None:
    """Look, change, follow elsewhere: succeeded, each effect once."""
    async with bench(tmp_path, [playbook(MARK + BUILD)]) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded")

        assert [step["status"] for step in done["steps"]] == ["succeeded", "succeeded"]
        assert b.things.done == [("mark", f"{run}/mark"), ("dispatch", f"{run}/build")]
        assert b.things.state == {"a": "yes"}


async def test_observe_plans_and_changes_nothing(tmp_path: Path) -> None:
    """In observe every changing step has its plan and is skipped with the word."""
    async with bench(tmp_path, [playbook(MARK, mode="observe")]) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded")

        assert done["steps"][0]["plan_hash"]
        assert done["steps"][0]["reason"].startswith("observe")
        assert b.things.done == []


async def test_the_configuration_caps_the_playbooks_mode(tmp_path: Path) -> None:
    """`guards.mode = observe` wins over a playbook that says enforce."""
    async with bench(tmp_path, [playbook(MARK)], guards__mode="observe") as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")

        assert b.things.done == []


async def test_approve_asks_before_each_change_and_applies_after_the_yes(tmp_path: Path) -> None:
    """Nothing is applied while nobody has said yes."""
    async with bench(tmp_path, [playbook(MARK, mode="approve")]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        assert b.things.done == []

        await b.approve(run, "mark")
        await b.until(run, "succeeded")
        assert b.things.state == {"a": "yes"}


@pytest.mark.parametrize(
    ("who", "plan", "error"),
    [
        (Who(person="carl", role=Role.RESPONDER, door="t"), None, Forbidden),
        (Who(person="carl", role=Role.VIEWER, door="t"), None, Forbidden),
        (BEN, None, Forbidden),  # he asked for the run
        (ANNA, "0123456789abcdef", Conflict),  # another plan
    ],
    ids=["responder", "viewer", "requester", "other plan"],
)
async def test_a_yes_that_does_not_count_is_refused(
    tmp_path: Path, who: Who, plan: str | None, error: type[Exception]
) -> None:
    """Role, own request and plan are checked, and the step goes on waiting."""
    async with bench(tmp_path, [playbook(MARK, mode="approve")]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        hash_ = plan or (await b.step(run, "mark"))["plan_hash"]

        with pytest.raises(error):
            await b.app.service.decide(who, run, "mark", True, hash_, "")
        assert (await b.step(run, "mark"))["status"] == "waiting-approval"
        assert b.things.done == []


async def test_two_yeses_at_once_decide_once(tmp_path: Path) -> None:
    """Of two approvers in one moment one decides; the plan is applied once."""
    async with bench(tmp_path, [playbook(MARK, mode="approve")]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        carl = Who(person="carl", role=Role.APPROVER, door="t")
        await asyncio.gather(
            b.approve(run, "mark"), b.approve(run, "mark", carl), return_exceptions=True
        )
        await b.until(run, "succeeded")

        assert len(b.things.done) == 1


async def test_quorum_needs_different_people(tmp_path: Path) -> None:
    """With quorum 2 one person alone, however often, is not enough."""
    steps = MARK + "    approve: {by: approver, within: 30m, otherwise: stop, quorum: 2}\n"
    async with bench(tmp_path, [playbook(steps)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        await b.approve(run, "mark")
        with pytest.raises(Conflict):
            await b.approve(run, "mark")
        await asyncio.sleep(0.05)
        assert b.things.done == []

        await b.approve(run, "mark", Who(person="carl", role=Role.ADMIN, door="t"))
        await b.until(run, "succeeded")


async def test_silence_means_what_the_playbook_says(tmp_path: Path) -> None:
    """`otherwise: stop` fails the run, `continue` skips the step."""
    stop = MARK + "    approve: {within: 1m, otherwise: stop}\n"
    go_on = MARK + "    approve: {within: 1m, otherwise: continue}\n"
    texts = [playbook(stop, name="stop"), playbook(go_on, name="go-on")]
    async with bench(tmp_path, texts) as b:
        for name, outcome in (("stop", "failed"), ("go-on", "succeeded")):
            run = await b.start(name, thing="a")
            await b.until(run, "waiting-approval")
            b.clock.jump(61)
            b.app.driver.wake()
            assert (await b.until(run, "failed", "succeeded"))["outcome"] == outcome
        assert b.things.done == []


async def test_a_yes_is_void_when_the_plan_means_something_else(tmp_path: Path) -> None:
    """The world moves between yes and apply: planned again, asked again, old yes refused."""
    async with bench(tmp_path, [playbook(MARK, mode="approve")]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        first = (await b.step(run, "mark"))["plan_hash"]
        b.things.state["a"] = "somebody else's"
        await b.approve(run, "mark")
        for _ in range(200):
            state = await b.step(run, "mark")
            if state["plan_hash"] != first and state["status"] == "waiting-approval":
                break
            await asyncio.sleep(0.005)

        assert state["plan_hash"] != first
        assert b.things.done == []
        await b.approve(run, "mark")
        await b.until(run, "succeeded")


async def test_a_yes_outlives_noise(tmp_path: Path) -> None:
    """A conflict by noise alone plans the same meaning; the yes still holds."""
    things = Things(faults={"apply mark": [Conflict("resourceVersion moved")]})
    async with bench(tmp_path, [playbook(MARK, mode="approve")], things=things) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        await b.approve(run, "mark")
        done = await b.until(run, "succeeded", "waiting-approval")

        assert done["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("fault", "outcome", "effects"),
    [
        (("plan mark", StepRetry("busy", after=1)), "succeeded", 1),
        (("apply mark", StepRetry("busy", after=1)), "succeeded", 1),
        (("applied mark", TimeoutError()), "succeeded", 1),
        (("applied mark", OSError("reset")), "succeeded", 1),
        (("verify mark", StepRetry("not yet", after=1)), "succeeded", 1),
        (("plan mark", StepFailed("no")), "failed", 0),
        (("apply mark", StepFailed("no")), "failed", 0),
        (("verify mark", StepFailed("it does not hold")), "failed", 1),
        (("plan mark", ValueError("bug")), "failed", 0),
    ],
    ids=lambda value: f"{value[0]} {type(value[1]).__name__}" if isinstance(value, tuple) else None,
)
async def test_a_failure_does_what_its_class_says(
    tmp_path: Path, fault: tuple[str, Exception], outcome: str, effects: int
) -> None:
    """Temporary ones are tried again, final ones end the run; no effect happens twice."""
    things = Things(faults={fault[0]: [fault[1]]})
    async with bench(tmp_path, [playbook(MARK)], things=things) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded", "failed")

        assert done["outcome"] == outcome
        assert len(things.done) == effects
        assert done["reason"] or outcome == "succeeded"


async def test_uncertain_waits_for_a_person_and_goes_on_when_told(tmp_path: Path) -> None:
    """It may have happened: nothing is repeated until somebody says look again."""
    things = Things(faults={"applied mark": [Uncertain("the answer was lost")]})
    async with bench(tmp_path, [playbook(MARK)], things=things) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        assert (await b.step(run, "mark"))["status"] == "uncertain"

        await b.app.service.decide(ANNA, run, "mark", True, "", "looked")
        await b.until(run, "succeeded")
        assert len(things.done) == 1


async def test_on_error_continue_goes_on_and_says_so(tmp_path: Path) -> None:
    """A step that may fail does not stop the others, and the run's reason names it."""
    steps = MARK + "    on_error: continue\n" + BUILD
    things = Things(faults={"apply mark": [StepFailed("no luck")]})
    async with bench(tmp_path, [playbook(steps)], things=things) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded", "failed")

        assert done["outcome"] == "succeeded"
        assert "no luck" in done["reason"]


async def test_on_error_undo_takes_back_what_was_applied(tmp_path: Path) -> None:
    """The world is as before, the run says undone."""
    steps = MARK + BUILD + "    on_error: undo\n"
    things = Things(state={"a": "before"}, faults={"apply build": [StepFailed("no forge")]})
    async with bench(tmp_path, [playbook(steps)], things=things) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "undone", "failed")

        assert done["outcome"] == "undone"
        assert things.state == {"a": "before"}


async def test_a_person_can_undo_after_the_end_and_only_once(tmp_path: Path) -> None:
    """Undo works on an ended run, restores the thing, and a second undo is refused."""
    async with bench(tmp_path, [playbook(MARK)], things=Things(state={"a": "before"})) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")
        await b.app.service.undo(ANNA, run, "mark", "false alarm")
        for _ in range(200):
            if (await b.step(run, "mark"))["status"] == "undone":
                break
            await asyncio.sleep(0.005)

        assert b.things.state == {"a": "before"}
        with pytest.raises(Conflict):
            await b.app.service.undo(ANNA, run, "mark", "again")


async def test_undo_refuses_with_the_difference(tmp_path: Path) -> None:
    """Somebody changed the thing since: it stays as it is, and the reason is shown."""
    async with bench(tmp_path, [playbook(MARK)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")
        b.things.state["a"] = "by hand"
        await b.app.service.undo(ANNA, run, "mark", "false alarm")
        for _ in range(200):
            state = await b.step(run, "mark")
            if state["undo"] == "failed":
                break
            await asyncio.sleep(0.005)

        assert "by hand" in state["error"]
        assert b.things.state == {"a": "by hand"}


async def test_the_playbook_can_undo_its_own_step(tmp_path: Path) -> None:
    """`use: undo` reverses an earlier step and waits until it is reversed."""
    steps = MARK + "  back:\n    use: undo\n    needs: [mark]\n    with: {step: mark}\n"
    async with bench(tmp_path, [playbook(steps)]) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded", "failed")

        assert done["outcome"] == "succeeded"
        assert b.things.state == {}


async def test_cancel_ends_a_waiting_run_and_finally_still_runs(tmp_path: Path) -> None:
    """Cancelled while waiting for a person: nothing applied, the closing step ran."""
    tail = "finally:\n  - use: fake.mark\n    with: {thing: closing, value: 'yes'}\n"
    async with bench(tmp_path, [playbook(MARK, mode="enforce", tail=tail)]) as b:
        b.things.gate = asyncio.Event()
        run = await b.start("p", thing="a")
        await asyncio.sleep(0.05)
        await b.app.service.cancel(BEN, run, "wrong pod")
        b.things.gate.set()
        done = await b.until(run, "cancelled")

        assert done["outcome"] == "cancelled"
        assert b.things.state == {"a": "yes", "closing": "yes"}


async def test_pause_holds_changes_and_resume_lets_them_go(tmp_path: Path) -> None:
    """While paused nothing is applied; reads go on; after resume the step is applied."""
    look = "  look:\n    use: fake.look\n    with: {thing: a}\n"
    async with bench(tmp_path, [playbook(look + MARK)]) as b:
        await b.app.service.pause(BEN, "CNI upgrade")
        run = await b.start("p", thing="a")
        done = await b.until(run, "paused")
        assert done["steps"][0]["status"] == "succeeded"
        assert b.things.done == []

        await b.app.service.resume(BEN, "done")
        b.clock.jump(2)
        await b.until(run, "succeeded")


async def test_the_pause_file_holds_changes(tmp_path: Path) -> None:
    """A file named PAUSE beside the store is enough."""
    async with bench(tmp_path, [playbook(MARK)]) as b:
        (tmp_path / "PAUSE").write_text("flood")
        await asyncio.sleep(0.1)
        b.clock.jump(1)
        await asyncio.sleep(0.1)
        run = await b.start("p", thing="a")
        await b.until(run, "paused")
        assert b.things.done == []


async def test_a_pause_outlives_a_restart(tmp_path: Path) -> None:
    """Paused by API, stopped, started: still paused."""
    async with bench(tmp_path, [playbook(MARK)]) as b:
        await b.app.service.pause(BEN, "CNI upgrade")
    async with bench(tmp_path, [playbook(MARK)]) as b:
        assert "CNI upgrade" in (await b.app.service.status(ANNA))["paused"]


async def test_the_guard_refuses_protected_and_asks_for_the_last(tmp_path: Path) -> None:
    """A protected namespace fails the step; the last ready replica asks even in enforce."""
    things = Things(blast=Blast(pods=1, namespaces=("kube-system",)))
    async with bench(tmp_path, [playbook(MARK)], things=things) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "failed")
        assert "kube-system is protected" in done["reason"]

        things.blast = Blast(pods=1, namespaces=("shop",), last_ready=True)
        run = await b.start("p", thing="b")
        await b.until(run, "waiting-approval")
        assert "last ready" in (await b.step(run, "mark"))["asks"]
    assert things.done == []


async def test_for_each_does_every_item_once(tmp_path: Path) -> None:
    """Each element is a step of its own with its own key; the parent ends after all."""
    steps = (
        "  mark:\n    use: fake.mark\n    for_each: ['a', 'b', 'c']\n"
        '    with: {thing: "${{ item }}", value: "yes"}\n'
    ).replace("['a', 'b', 'c']", "\"${{ ['a', 'b', 'c'] }}\"")
    async with bench(tmp_path, [playbook(steps)]) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded", "failed")

        assert done["outcome"] == "succeeded", done["reason"]
        assert b.things.state == {"a": "yes", "b": "yes", "c": "yes"}
        assert len(b.things.done) == 3


async def test_a_later_step_goes_through_the_results_of_a_for_each(tmp_path: Path) -> None:
    """`steps.<id>.each` has every element with its results; without elements it is empty."""
    steps = (
        "  first:\n    use: fake.mark\n    for_each: \"${{ ['a', 'b'] }}\"\n"
        '    with: {thing: "${{ item }}", value: "${{ \'of \' + item }}"}\n'
        "  none:\n    use: fake.mark\n    for_each: '${{ [] }}'\n    with: {thing: x, value: y}\n"
        "  then:\n    use: fake.mark\n    needs: [first, none]\n"
        "    for_each: \"${{ steps.first.each.filter(e, e.status == 'succeeded')"
        ' + steps.none.each }}"\n'
        "    with: {thing: \"${{ item.item + '2' }}\", value: '${{ item.value }}'}\n"
    )
    async with bench(tmp_path, [playbook(steps)]) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded", "failed")

        assert done["outcome"] == "succeeded", done["reason"]
        assert b.things.state == {"a": "of a", "b": "of b", "a2": "of a", "b2": "of b"}


async def test_a_false_if_skips_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A condition that is false is no failure."""
    steps = MARK + "    if: \"inputs.thing == 'other'\"\n" + BUILD
    async with bench(tmp_path, [playbook(steps)]) as b:
        run = await b.start("p", thing="a")
        done = await b.until(run, "succeeded", "failed")

        assert done["outcome"] == "succeeded"
        assert [s["status"] for s in done["steps"]] == ["skipped", "succeeded"]


async def test_a_timeout_ends_a_wait_elsewhere(tmp_path: Path) -> None:
    """A build that never ends fails its step when the step's time is over."""
    steps = "  build:\n    use: fake.build\n    timeout: 10m\n    with: {thing: a}\n"
    async with bench(tmp_path, [playbook(steps)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-external")
        b.things.jobs[f"{run}/build"] = 10_000
        done = await b.until(run, "failed", looks=2000)

        assert "timed out after 600" in done["reason"]


async def test_containment_that_expires_stays_and_calls_a_person(tmp_path: Path) -> None:
    """After `expires` the thing is still marked and the story says who must act."""
    steps = MARK.replace('value: "yes"}', 'value: "yes", expires: 4h}')
    async with bench(tmp_path, [playbook(steps)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")
        b.clock.jump(4 * 3600 + 1)
        b.app.driver.wake()
        for _ in range(200):
            if any("has expired" in line for line in await b.story()):
                break
            await asyncio.sleep(0.005)

        assert any("stays until a person decides" in line for line in await b.story())
        assert b.things.state == {"a": "yes"}


async def test_a_recycled_pod_name_is_refused(tmp_path: Path) -> None:
    """The alert spoke of another UID: nothing is planned, nothing changed."""
    text = playbook(MARK).replace(
        "thing: {type: string, required: true}",
        "thing: {type: string, required: true}\n        pod: {type: kubernetes.pod}",
    )
    async with bench(tmp_path, [text], pods={"shop/web-1": "uid-new"}) as b:
        answer = await b.app.service.start(BEN, "p", {"thing": "a", "pod": "shop/web-2"}, "x")
        done = await b.until(answer["run"], "failed")
        assert "gone" in done["reason"]
        assert b.things.done == []
