"""A run on its way: who it waits for, what cancelled it, and which attempt of it is believed."""

from typing import Any

import pytest

from responder.errors import StepFailed, StepRetry
from responder.ports import Done, Pending
from tests.adapters.github.world import Bench, a_call, bench
from tests.doubles.executors import Immediate, build_json, zipped
from tests.doubles.faults import Fault
from tests.doubles.github_runs import Runs
from tests.doubles.shapes import DoubleRun

WAITING = Immediate(states=("waiting",) * 9)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "waiting for octocat to approve environment production"),
        ({"teams": ("ops",)}, "waiting for octocat or team ops to approve environment production"),
        ({"people": (), "timer": 30}, "waiting for the 30 minutes of environment production"),
        ({"people": ()}, "waiting for a protection rule of environment production"),
        (
            {"people": ("a\u202eb\n",)},
            r"waiting for a\x202eb\x0a to approve environment production",
        ),
        ({"old_server": True}, "waiting for a person or a rule of its environment"),
    ],
)
async def test_a_run_that_waits_says_for_whom_and_its_time_is_not_the_steps(
    settings: dict[str, Any], words: str
) -> None:
    """Names come from the list of pending deployments; without it the wait is the same."""
    more = Runs(**settings)
    async with bench(double={"executor": WAITING, "more": more}) as b:
        first = await b.apply(a_call())
        seen = await b.action.poll(a_call(), first.state)
        assert isinstance(seen, Pending)
        assert seen.waiting_for == f"GitHub run 4711 ({words})"
        assert seen.person


async def test_a_look_at_a_run_that_waits_costs_two_requests_and_comes_four_times_as_seldom() -> (
    None
):
    """At most one request in the usual pause, whatever is asked."""
    async with bench(double={"executor": WAITING}, settings={"poll": 15}) as b:
        seen: Any = await b.apply(a_call())
        assert seen.after == 15
        before, waited = b.double.asked.total(), 0.0
        for _ in range(5):
            seen = await b.action.poll(a_call(), seen.state)
            waited += seen.after
        assert (b.double.asked.total() - before) / waited <= 1 / 15


async def test_a_run_in_a_busy_group_says_which_place_it_has() -> None:
    """That is the queue's time, not a person's."""
    async with bench(double={"executor": Immediate(states=("pending",))}) as b:
        first = await b.apply(a_call())
        seen = await b.action.poll(a_call(), first.state)
        assert isinstance(seen, Pending)
        assert seen.waiting_for.endswith("(pending: place 1 in concurrency group rebuild-shop)")
        assert not seen.person


async def test_a_forge_that_is_silent_while_a_person_is_waited_for_stays_with_the_person() -> None:
    """The step's clock does not start to run because a look failed."""
    async with bench(double={"executor": WAITING}) as b:
        first = await b.apply(a_call())
        seen = await b.action.poll(a_call(), first.state)
        b.double.faults.arm("run", Fault.ERROR_BEFORE, times=9)
        silent = await b.action.poll(a_call(), seen.state)
        assert isinstance(silent, Pending)
        assert silent.person


def cancelled(b: Bench, number: int = 4711) -> None:
    """End a run as cancelled, now."""
    run = b.double.runs[number]
    run.script, run.status, run.conclusion = [], "completed", "cancelled"
    run.changed = b.double.clock.date()


async def test_a_run_that_a_newer_one_pushed_out_says_which() -> None:
    """Its group lets one run wait; it is begun again as another attempt."""
    async with bench() as b:
        first = await b.apply(a_call())
        b.double.new_run("acme/shop", "rebuild.yml", "main", {})
        cancelled(b)
        words = r"run 4711 was superseded: run 4712 of rebuild\.yml came after it"
        with pytest.raises(StepRetry, match=words) as c:
            await b.action.poll(a_call(), first.state)
        assert c.value.anew
        assert 15 <= c.value.after <= 23
        assert (await b.to_end(a_call(attempt=2, resumed=True))).result["run"] == 4713


async def test_a_run_that_was_cancelled_long_after_the_next_one_came_was_not_superseded() -> None:
    """Then it may have been a person, and the words leave that open."""
    async with bench() as b:
        first = await b.apply(a_call())
        b.double.new_run("acme/shop", "rebuild.yml", "main", {})
        b.double.clock.leap(600)
        cancelled(b)
        with pytest.raises(StepRetry, match=r"superseded by a newer run .* or by a person"):
            await b.action.poll(a_call(), first.state)


async def test_a_step_whose_runs_are_cancelled_again_and_again_ends() -> None:
    """Four times is somebody's will; the pause before each start grows."""
    async with bench() as b:
        pauses = []
        for attempt in range(1, 5):
            call = a_call(attempt=attempt, resumed=attempt > 1)
            pending = await b.apply(call)
            cancelled(b, 4710 + attempt)
            with pytest.raises(StepRetry if attempt < 4 else StepFailed) as caught:
                await b.action.poll(call, pending.state)
            pauses.append(getattr(caught.value, "after", 0))
        assert "4 runs of this step were cancelled" in str(caught.value)
        assert b.dispatched() == 4
        assert 15 <= pauses[0] <= 23
        assert 30 <= pauses[1] <= 45
        assert 60 <= pauses[2] <= 90


async def test_after_a_crash_an_old_cancelled_run_never_hides_the_new_one() -> None:
    """The list still lacks the run of this attempt: it is waited for, not started twice."""
    async with bench(settings={"settle": 3}) as b:
        await b.apply(a_call())
        cancelled(b)
        b.double.faults.hide_runs_for = 2
        second = await b.apply(a_call(attempt=2))
        b.double.runs[4712].hidden_looks = 2
        again = await b.apply(a_call(attempt=2, resumed=True))
        assert again.state["run_id"] == second.state["run_id"] == 4712
        assert sorted(b.double.dispatches.values()) == [1, 1]


# --------------------------------------------------------------------------- attempts


def other_digest(run: DoubleRun) -> bytes | None:
    """Zip a build.json of each attempt's own digest."""
    return zipped({"build.json": build_json(run, digest=f"sha256:{run.attempt:064x}")})


async def seen_to_end(b: Bench, state: Any) -> Done:
    """Poll until done."""
    for _ in range(9):
        now = await b.action.poll(a_call(), state)
        if isinstance(now, Done):
            return now
        state = now.state
    raise AssertionError("not done")


async def test_a_run_that_a_person_starts_again_is_followed_and_says_who() -> None:
    """The words name the attempt and the person; the result is the new attempt's."""
    executor = Immediate(states=("in_progress",), archive=other_digest)
    async with bench(double={"executor": executor}) as b:
        first = await b.apply(a_call())
        b.double.more.again(b.double.runs[4711], "hubot")
        seen = await b.action.poll(a_call(), first.state)
        assert isinstance(seen, Pending)
        words = "GitHub run 4711 (running; attempt 2: run again by hubot)"
        assert seen.waiting_for == words
        done = await seen_to_end(b, seen.state)
        assert (done.result["digest"], done.result["attempt"]) == (f"sha256:{2:064x}", 2)
        assert b.dispatched() == 1


def nothing_the_second_time(run: DoubleRun) -> bytes | None:
    """Zip a build.json in the first attempt only."""
    return other_digest(run) if run.attempt == 1 else None


async def test_an_artifact_of_an_earlier_attempt_is_never_taken_for_this_ones() -> None:
    """The second attempt left none: what the first one left is not its result."""
    executor = Immediate(archive=nothing_the_second_time)
    async with bench(double={"executor": executor}) as b:
        first = await b.apply(a_call())
        b.double.clock.leap(60)
        b.double.more.again(b.double.runs[4711])
        with pytest.raises(StepFailed, match="from another attempt than 2, which was watched"):
            await seen_to_end(b, first.state)


async def test_what_a_job_made_that_was_not_run_again_counts_for_the_new_attempt() -> None:
    """ "Re-run failed jobs" keeps the build: its artifact is older and still the right one."""
    executor = Immediate(archive=nothing_the_second_time)
    async with bench(double={"executor": executor}) as b:
        first = await b.apply(a_call())
        await b.double.settled()
        b.double.clock.leap(60)
        b.double.more.again(b.double.runs[4711], failed_only=True)
        done = await seen_to_end(b, first.state)
        assert done.result["digest"] == f"sha256:{1:064x}"
        assert b.double.asked["attempt-jobs"] == 1


async def test_an_attempt_that_begins_while_the_result_is_read_is_followed() -> None:
    """Its artifact is newer than the attempt that was watched, so that one's is not there."""
    async with bench(double={"executor": Immediate(archive=other_digest)}) as b:
        first = await b.apply(a_call())
        await b.double.settled()
        run = b.double.runs[4711]

        def pressed() -> None:
            b.double.clock.leap(120)
            b.double.more.again(run, "hubot")
            run.earlier.clear()

        b.double.before["artifacts"] = pressed
        seen = await b.action.poll(a_call(), first.state)
        assert isinstance(seen, Pending)
        assert "attempt 2: run again by hubot" in seen.waiting_for
        done = await seen_to_end(b, seen.state)
        assert done.result["attempt"] == 2
