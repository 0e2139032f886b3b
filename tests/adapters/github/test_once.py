"""A dispatch acts exactly once, whatever is lost on the way; the double counts what acted."""

import pytest

from responder.errors import StepRetry, Uncertain
from responder.ports import Done
from tests.adapters.github.world import KEY, a_call, bench
from tests.doubles.faults import Fault
from tests.doubles.github import GitHubDouble

LOST = [Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.SLOW_AFTER]
NOT_ACTED = [Fault.ERROR_BEFORE, Fault.RESET_BEFORE, Fault.SLOW_BEFORE]


def told(fault: Fault, double: GitHubDouble) -> None:
    """Print what a reader of the run wants to see: how often each fault led to a dispatch."""
    print(f"{fault.value:40} dispatches by correlation id: {dict(double.dispatches)}")


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
async def test_a_dispatch_whose_answer_is_lost_is_found_and_followed(fault: Fault) -> None:
    """The run exists, so it is adopted by its correlation id and not started again."""
    async with bench() as b:
        b.double.faults.arm("dispatch", fault)
        done = await b.to_end(a_call())
        told(fault, b.double)
        assert isinstance(done, Done)
        assert b.dispatched() == 1
        assert b.double.asked["dispatch"] == b.double.asked["list"] == b.double.asked["run"] == 1


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
async def test_a_lost_answer_is_found_although_the_list_lags(fault: Fault) -> None:
    """The run shows up at the third list only: the bounded wait bridges that."""
    async with bench(settings={"settle": 6}) as b:
        b.double.faults.arm("dispatch", fault)
        b.double.faults.hide_runs_for = 2
        await b.to_end(a_call())
        told(fault, b.double)
        assert b.dispatched() == 1
        assert b.double.asked["list"] == 3


@pytest.mark.parametrize("fault", NOT_ACTED, ids=lambda fault: fault.name)
async def test_a_dispatch_that_did_not_act_is_tried_again_and_acts_once(fault: Fault) -> None:
    """No run shows up in time, so the step says `StepRetry`; the next attempt starts it."""
    async with bench() as b:
        b.double.faults.arm("dispatch", fault)
        with pytest.raises(StepRetry, match="was not started"):
            await b.apply(a_call())
        assert b.dispatched() == 0
        await b.to_end(a_call(attempt=2))
        told(fault, b.double)
        assert b.dispatched() == 1


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (Fault.FORBIDDEN_LIMIT, 7, 7),
        (Fault.FORBIDDEN_LIMIT_BODY, 60, 60),
        (Fault.TOO_MANY, 7, 7),
        (Fault.TOO_MANY_BARE, 60, 60),
        (Fault.TOO_MANY_DATE, 35, 41),
        (Fault.PRIMARY_LIMIT, 85, 92),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_a_limit_is_obeyed_and_not_slept_through(
    fault: Fault, least: float, most: float
) -> None:
    """A refusal before acting costs a row with a due time, and nothing is looked up."""
    async with bench() as b:
        b.double.faults.arm("dispatch", fault)
        with pytest.raises(StepRetry) as caught:
            await b.apply(a_call())
        assert least <= caught.value.after <= most
        assert b.double.asked["list"] == 0
        b.double.clock.leap(caught.value.after)
        await b.to_end(a_call(attempt=2))
        told(fault, b.double)
        assert b.dispatched() == 1


async def test_after_a_crash_the_run_is_adopted_and_not_started_again() -> None:
    """`resumed` with the same key finds the run with nothing of the first call remembered."""
    async with bench() as b:
        first = await b.apply(a_call())
        again = await b.apply(a_call(resumed=True))
        assert again.state["run_id"] == first.state["run_id"] == 4711
        assert b.dispatched() == 1


async def test_after_a_crash_before_the_dispatch_it_is_started_once() -> None:
    """`resumed` without a run waits for one to show up, then starts it."""
    async with bench() as b:
        await b.to_end(a_call(resumed=True))
        assert b.dispatched() == 1


async def test_a_run_of_this_attempt_that_failed_is_not_started_again() -> None:
    """After a crash a failed run is followed to its end, not dispatched a second time."""
    async with bench() as b:
        await b.apply(a_call())
        run = b.double.runs[4711]
        run.script, run.status, run.conclusion = [], "completed", "failure"
        pending = await b.apply(a_call(resumed=True))
        assert pending.state["run_id"] == 4711
        assert b.dispatched() == 1


async def test_a_lost_answer_that_cannot_be_looked_up_asks_a_person() -> None:
    """The forge is silent after acting: nobody can know, so nothing is repeated."""
    async with bench() as b:
        b.double.faults.arm("dispatch", Fault.ERROR_AFTER)
        b.double.faults.arm("list", Fault.ERROR_BEFORE, times=20)
        with pytest.raises(Uncertain, match="cannot be looked up"):
            await b.apply(a_call())
        assert b.dispatched() == 1


async def test_a_workflow_without_run_name_asks_a_person_when_an_answer_is_lost() -> None:
    """A new run with nobody's correlation id may be ours: it is neither adopted nor repeated."""
    async with bench(double={"shows_names": False}) as b:
        b.double.faults.arm("dispatch", Fault.ERROR_AFTER)
        with pytest.raises(Uncertain, match="add it to run-name"):
            await b.apply(a_call())
        assert b.dispatched() == 1


@pytest.mark.parametrize("old", ["without_details", "refuse_details"])
async def test_a_server_that_tells_no_run_id_is_searched_by_title(old: str) -> None:
    """GitHub Enterprise Server up to 3.19 answers 204, or 422 naming the parameter."""
    async with bench() as b:
        setattr(b.double.faults, old, True)
        b.double.faults.hide_runs_for = 1
        pending = await b.apply(a_call())
        assert pending.state["run_id"] == 0
        assert pending.waiting_for == "GitHub run (dispatched)"
        done = await b.to_end(a_call(resumed=True))
        assert done.result["run"] == 4711
        assert b.dispatched() == 1


async def test_two_steps_never_take_each_others_run() -> None:
    """Another key is another correlation id, even at the same moment."""
    async with bench() as b:
        one = await b.apply(a_call())
        two = await b.apply(a_call(key=f"{KEY}-other"))
        again = await b.apply(a_call(key=f"{KEY}-other", resumed=True))
        assert one.state["run_id"] != two.state["run_id"] == again.state["run_id"]
        assert sorted(b.double.dispatches.values()) == [1, 1]
