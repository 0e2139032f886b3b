"""A start acts exactly once on either forge, whatever is lost on the way; the doubles count.

Every fault that a forge's API can show, at each call that one step makes. What must hold each time:
no intent has two pipelines, and the end is a digest, or a failure class whose words tell a person.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from responder.errors import Conflict, StepFailed, StepRetry, Uncertain
from responder.ports import Done, Pending
from tests.adapters.github.world import bench as github_bench
from tests.adapters.gitlab.world import a_call
from tests.adapters.gitlab.world import bench as gitlab_bench
from tests.doubles.executors import Immediate
from tests.doubles.faults import Fault
from tests.doubles.lab_executors import Straight

LOST = [Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.SLOW_AFTER]
NOT_ACTED = [Fault.ERROR_BEFORE, Fault.RESET_BEFORE, Fault.SLOW_BEFORE]
PLACES = {
    "github": ["workflow", "dispatch", "list", "run", "artifacts", "zip"],
    "gitlab": ["commit", "create", "list", "pipeline", "bridges", "jobs", "file"],
}
STARTS = {"github": "dispatch", "gitlab": "create"}
SPEED = {"timeout": 1, "poll": 1, "settle": 0.6}
CASES = [
    (forge, place, fault) for forge, places in PLACES.items() for place in places for fault in Fault
]
TOLD: Counter[str] = Counter()


@asynccontextmanager
async def bench(forge: str) -> AsyncIterator[Any]:
    """The bench of one forge, quick enough for a table."""
    made = {"github": github_bench, "gitlab": gitlab_bench}[forge]
    async with made(settings=SPEED) as b:  # type: ignore[operator]
        yield b


async def carried_on(b: Any, attempts: int = 4, looks: int = 6) -> Done | Exception:
    """What the engine does with a step: try again after `StepRetry`, ask after `Uncertain`."""
    for attempt in range(1, attempts + 1):
        call = a_call(attempt=attempt)
        try:
            now = await b.action.apply(call, await b.action.plan(call))
            for _ in range(looks):
                if isinstance(now, Done):
                    return now
                assert isinstance(now, Pending)
                assert now.waiting_for
                now = await b.action.poll(call, now.state)
        except StepRetry as error:
            last: Exception = error
        except (StepFailed, Uncertain, Conflict) as error:
            return error
    return last


@pytest.mark.parametrize(
    ("forge", "place", "fault"), CASES, ids=lambda v: v.name if isinstance(v, Fault) else v
)
async def test_no_fault_makes_two_pipelines_or_ends_without_a_reason(
    forge: str, place: str, fault: Fault
) -> None:
    """One fault at one call: exactly one pipeline and its digest, or words for a person."""
    async with bench(forge) as b:
        b.double.faults.arm(place, fault)
        if place == "list":  # it is asked only where an answer was lost
            b.double.faults.arm(STARTS[forge], Fault.ERROR_AFTER)
        end = await carried_on(b)
        acted = b.double.dispatches
        assert not any(b.double.faults.armed.values()), f"{place} was never asked"
        assert all(times == 1 for times in acted.values()), acted
        assert acted.total() <= 1, acted
        judge(forge, b, end)
        if not isinstance(end, Done):
            assert fault is Fault.FORBIDDEN_LIMIT_BODY or place == "list", repr(end)


def judge(forge: str, b: Any, end: Done | Exception) -> None:
    """A digest of the one pipeline, or a reason in words; counted for the reader."""
    if isinstance(end, Done):
        assert b.double.dispatches.total() >= 1
        assert end.result["digest"].startswith("sha256:")
        TOLD[f"{forge}: right end"] += 1
    else:
        assert len(str(end)) > 20, repr(end)
        TOLD[f"{forge}: a person asked"] += 1


def lagging(b: Any) -> None:
    """The answer is lost and the list is stale."""
    b.double.faults.hide_runs_for = 1
    b.double.faults.arm(STARTS[kind_of(b)], Fault.ERROR_AFTER)


def superseded(b: Any) -> None:
    """The first pipeline is canceled for a newer one."""
    made = {"github": Immediate(conclusion="cancelled"), "gitlab": Straight(status="canceled")}
    b.double.executor = Once(made[kind_of(b)], b.double.executor)


def waiting(b: Any) -> None:
    """A person must approve first."""
    made = {"github": Immediate(states=("waiting",)), "gitlab": Straight(states=("manual",))}
    b.double.executor = made[kind_of(b)]


def late_once(b: Any) -> None:
    """The artifact's address has run out once."""
    b.double.object_store = True
    b.double.faults.archive_late = 1


def late_always(b: Any) -> None:
    """The artifact is gone where it is kept."""
    b.double.object_store = True
    b.double.faults.archive_late = 99


def expiring(b: Any) -> None:
    """The token does not hold any more once the pipeline runs."""
    b.double.executor = Expiring(b.double)


def kind_of(b: Any) -> str:
    """Which forge a bench has."""
    return "gitlab" if hasattr(b.double, "pipelines") else "github"


@dataclass
class Once:
    """One executor for the first pipeline, another for the rest."""

    first: Any
    rest: Any

    async def execute(self, run: Any) -> None:
        """Use the first one once."""
        mine, self.first = self.first or self.rest, None
        await mine.execute(run)


@dataclass
class Expiring:
    """Lets the token run out when a pipeline begins."""

    double: Any

    async def execute(self, run: Any) -> None:
        """Change what the forge takes for valid."""
        self.double.token = "renewed"


SITUATIONS: dict[Any, tuple[bool, int]] = {  # what happens -> right end, pipelines at most
    lagging: (True, 1),
    superseded: (True, 2),
    waiting: (True, 1),
    late_once: (True, 1),
    late_always: (False, 1),
    expiring: (False, 1),
}


@pytest.mark.parametrize("forge", PLACES)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.__name__)
async def test_no_situation_makes_two_pipelines_or_ends_without_a_reason(
    situation: Any, forge: str
) -> None:
    """The same on either forge; a superseded pipeline is another attempt with its own name."""
    async with bench(forge) as b:
        situation(b)
        end = await carried_on(b)
        right, most = SITUATIONS[situation]
        assert isinstance(end, Done) is right, repr(end)
        assert all(times == 1 for times in b.double.dispatches.values())
        assert b.double.dispatches.total() == most
        judge(forge, b, end)


def test_the_counts_of_the_table_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Most faults end well; how many of each is for the reader."""
    if not TOLD:
        pytest.skip("the table was not run")
    with capsys.disabled():
        print(f"\nfaults at one call each, never two pipelines: {dict(sorted(TOLD.items()))}")
    for forge in PLACES:
        assert TOLD[f"{forge}: right end"] > 4 * TOLD[f"{forge}: a person asked"]


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
        with pytest.raises(StepFailed, match="the credential does not hold"):
            await b.action.poll(a_call(), pending.state)
        assert b.started() == 1
