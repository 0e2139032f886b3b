"""The second way to start: a `repository_dispatch`, found by its run's name, exactly once."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from integrations.github import setup as set_up_github
from integrations.gitlab import setup as set_up_gitlab
from responder.clock import World
from responder.errors import ConfigError, StepFailed, StepRetry, Uncertain
from responder.model import Secret
from responder.ports import ImageRoute, Kit
from tests.adapters.github.world import Bench, NoEvidence, a_call, bench
from tests.doubles.faults import Fault
from tests.doubles.github_runs import Runs

ROUTE = ImageRoute(
    match="registry.example/shop/*",
    forge="github",
    repo="acme/shop",
    workflow="rebuild.yml",
    event="rebuild-image",
    inputs={"team": "shop"},
)


@contextlib.asynccontextmanager
async def event_bench(
    settings: Mapping[str, Any] | None = None, **double: Any
) -> AsyncIterator[Bench]:
    """Serve a double whose workflow listens for the event."""
    async with bench(route=ROUTE, settings=settings, double=double) as b:
        yield b


async def test_an_event_starts_the_workflow_and_its_run_is_found_by_its_name() -> None:
    """204 and no run id: the id in the run's name is all there is, and it is enough."""
    async with event_bench() as b:
        pending = await b.apply(a_call())
        assert pending.state["run_id"] == 0
        assert pending.waiting_for == "GitHub run (dispatched)"
        done = await b.to_end(a_call(resumed=True))
        assert done.result["run"] == 4711
        assert b.double.runs[4711].event == "repository_dispatch"
        assert b.double.runs[4711].inputs["team"] == "shop"
        assert b.double.asked["dispatch"] == 0
        assert b.dispatched() == 1


async def test_the_plan_says_which_event_is_sent_and_names_no_branch() -> None:
    """It runs on the default branch, whichever that is."""
    async with event_bench() as b:
        plan = await b.action.plan(a_call())
        after = plan.changes[0].after
        assert after["event"] == "rebuild-image"
        assert "ref" not in after


@pytest.mark.parametrize("fault", [Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.SLOW_AFTER])
async def test_an_event_whose_answer_is_lost_is_sent_once(fault: Fault) -> None:
    """The run exists: it is adopted, although the list lags."""
    async with event_bench(settings={"settle": 6}) as b:
        b.double.faults.arm("event", fault)
        b.double.faults.hide_runs_for = 1
        await b.to_end(a_call())
        assert b.dispatched() == 1
        assert b.double.asked["event"] == 1


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.RESET_BEFORE, Fault.SLOW_BEFORE])
async def test_an_event_that_did_not_act_is_sent_again_and_acts_once(fault: Fault) -> None:
    """No run shows up in time: the next attempt sends it, with its own name."""
    async with event_bench() as b:
        b.double.faults.arm("event", fault)
        with pytest.raises(StepRetry, match="was not started"):
            await b.apply(a_call())
        await b.to_end(a_call(attempt=2, resumed=True))
        assert b.dispatched() == 1


async def test_a_run_by_the_other_event_is_never_taken_for_ours() -> None:
    """A workflow that listens for both has two kinds of runs; one list is looked through."""
    async with event_bench() as b:
        b.double.new_run("acme/shop", "rebuild.yml", "main", {"correlation_id": "x"})
        done = await b.to_end(a_call())
        assert done.result["run"] == 4712


async def test_an_event_that_nobody_listens_for_asks_a_person_in_the_end() -> None:
    """GitHub says 204 all the same; no run bears the name within five minutes."""
    async with event_bench(more=Runs(listens={})) as b:
        pending = await b.apply(a_call())
        b.double.clock.leap(301)
        with pytest.raises(Uncertain, match="no run bears rr-"):
            await b.action.poll(a_call(), pending.state)
        assert b.dispatched() == 0


async def test_a_token_without_the_right_is_told_which_one_it_needs() -> None:
    """Events need contents: write, unlike dispatches of a workflow."""
    async with event_bench() as b:
        plan = await b.action.plan(a_call())
        b.double.more.no_right = True
        with pytest.raises(StepFailed, match="it needs contents: write"):
            await b.action.apply(a_call(), plan)


def kit(**changes: Any) -> Kit:
    """Return a kit with one route."""
    values = {name: getattr(ROUTE, name) for name in ROUTE.__slots__}
    return Kit(evidence=NoEvidence(), images=(ImageRoute(**{**values, **changes}),))


def test_a_payload_of_more_than_ten_values_is_refused_at_the_start() -> None:
    """GitHub takes ten: three are ours."""
    table = {"github": {"token": Secret("x")}}
    set_up_github(table, World(), kit(inputs={f"i{n}": "x" for n in range(7)}))
    with pytest.raises(ConfigError, match="at most 10 in all"):
        set_up_github(table, World(), kit(inputs={f"i{n}": "x" for n in range(8)}))


def test_a_gitlab_route_with_an_event_is_refused_at_the_start() -> None:
    """It would be ignored, and that is worse than an error."""
    table = {"github": {"kind": "gitlab", "token": Secret("x")}}
    with pytest.raises(ConfigError, match="event: a GitLab knows no repository_dispatch"):
        set_up_gitlab(table, World(), kit(workflow=".gitlab-ci.yml"))
