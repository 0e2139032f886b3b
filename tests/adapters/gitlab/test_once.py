"""A start at GitLab acts exactly once, whatever is lost on the way; the double counts.

The whole table of faults, over both forges, is in `tests/adapters/forges`.
"""

import pytest

from responder.errors import StepFailed, StepRetry, Uncertain
from responder.ports import Pending
from tests.adapters.gitlab.world import a_call
from tests.adapters.gitlab.world import bench as gitlab_bench
from tests.doubles.faults import Fault
from tests.doubles.lab_executors import Straight

LOST = [Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.SLOW_AFTER]
NOT_ACTED = [Fault.ERROR_BEFORE, Fault.RESET_BEFORE, Fault.SLOW_BEFORE]


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
async def test_a_start_whose_answer_is_lost_is_found_although_the_list_lags(fault: Fault) -> None:
    """The pipeline exists and shows up at the third list: it is adopted by its name."""
    async with gitlab_bench(settings={"settle": 6}) as b:
        b.double.faults.arm("create", fault)
        b.double.faults.hide_runs_for = 2
        await b.to_end(a_call())
        assert b.started() == 1
        assert b.double.asked["create"] == 1
        assert b.double.asked["list"] == 3


@pytest.mark.parametrize("fault", NOT_ACTED, ids=lambda fault: fault.name)
async def test_a_start_that_did_not_act_is_tried_again_and_acts_once(fault: Fault) -> None:
    """No pipeline shows up in time, so the step says `StepRetry`; the next attempt starts it."""
    async with gitlab_bench() as b:
        b.double.faults.arm("create", fault)
        with pytest.raises(StepRetry, match="was not started"):
            await b.apply(a_call())
        assert b.started() == 0
        await b.to_end(a_call(attempt=2))
        assert b.started() == 1


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
    async with gitlab_bench() as b:
        b.double.faults.arm("create", fault)
        with pytest.raises(StepRetry) as caught:
            await b.apply(a_call())
        assert least <= caught.value.after <= most
        assert b.double.asked["list"] == 0
        b.double.clock.leap(caught.value.after)
        await b.to_end(a_call(attempt=2))
        assert b.started() == 1


async def test_a_lost_answer_that_cannot_be_looked_up_asks_a_person() -> None:
    """The forge is silent after acting: nobody can know, so nothing is repeated."""
    async with gitlab_bench() as b:
        b.double.faults.arm("create", Fault.ERROR_AFTER)
        b.double.faults.arm("list", Fault.ERROR_BEFORE, times=20)
        with pytest.raises(Uncertain, match="cannot be looked up"):
            await b.apply(a_call())
        assert b.started() == 1


async def test_pipelines_without_a_name_ask_a_person_when_an_answer_is_lost() -> None:
    """A new pipeline with nobody's correlation id may be ours: neither adopted nor repeated."""
    async with gitlab_bench(double={"shows_names": False}) as b:
        b.double.faults.arm("create", Fault.ERROR_AFTER)
        with pytest.raises(Uncertain, match="add it to workflow:name"):
            await b.apply(a_call())
        assert b.started() == 1


async def test_after_a_crash_the_pipeline_is_adopted_and_not_started_again() -> None:
    """`resumed` with the same key finds it with nothing of the first call remembered."""
    async with gitlab_bench() as b:
        first = await b.apply(a_call())
        again = await b.apply(a_call(resumed=True))
        assert again.state["run_id"] == first.state["run_id"] == 31
        assert b.started() == 1


async def test_a_token_that_expires_while_a_pipeline_runs_ends_with_the_reason() -> None:
    """401 in the middle: no second pipeline, and the words say what to renew."""
    async with gitlab_bench(double={"executor": Straight(states=("running",) * 3)}) as b:
        pending = await b.apply(a_call())
        assert isinstance(await b.action.poll(a_call(), pending.state), Pending)
        b.double.token = "renewed"
        with pytest.raises(StepFailed, match=r"does not hold.*renew \[forges.lab\] token"):
            await b.action.poll(a_call(), pending.state)
        assert b.started() == 1
