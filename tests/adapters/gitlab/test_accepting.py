"""`gitlab.merge_request` merges one commit after its pipeline, and never before there is one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from integrations.gitlab.accepting import MergeRequest
from responder.errors import StepFailed, StepRetry
from responder.model import Plan
from responder.ports import Call, Done, Pending
from tests.adapters.gitlab.test_merging import asked, opened
from tests.adapters.gitlab.world import Bench, a_call, bench
from tests.doubles.faults import Fault


@dataclass
class Proposed:
    """A bench with one open merge request, and the call that merges it."""

    b: Bench
    action: MergeRequest
    call: Call

    @property
    def request(self) -> dict[str, Any]:
        """What the forge has."""
        [found] = self.b.double.repository.requests
        return found

    async def to_end(self, attempts: int = 4) -> Done:
        """Plan, apply and look."""
        return await self.to_end_of(await self.action.plan(self.call), attempts)

    async def to_end_of(self, plan: Plan, attempts: int = 4) -> Done:
        """Apply, again after each `StepRetry`, and look until it has ended."""
        for left in range(attempts, 0, -1):
            try:
                now = await self.action.apply(self.call, plan)
                for _ in range(6):
                    if isinstance(now, Done):
                        return now
                    assert isinstance(now, Pending)
                    now = await self.action.poll(self.call, now.state)
            except StepRetry:
                if left == 1:
                    raise
        raise AssertionError("it does not end")


@asynccontextmanager
async def proposed(**repository: Any) -> AsyncIterator[Proposed]:
    """Open a merge request on a double that behaves so."""
    async with bench(settings={"timeout": 2}) as b:
        done = await opened(b, asked())
        for name, value in repository.items():
            setattr(b.double.repository, name, value)
        [action] = [one for one in b.integration.actions if isinstance(one, MergeRequest)]
        params = {"request": done.result["request"], "sha": done.result["sha"]}
        yield Proposed(b, action, a_call(key="run_01j9/merge", params=params))


@pytest.mark.parametrize(("pipeline", "settled"), [(0, 0), (3, 0), (0, 3), (6, 6)])
async def test_it_is_merged_after_its_pipeline_however_late_that_shows_up(
    pipeline: int, settled: int
) -> None:
    """Neither 405 right after it was made nor a merge that waits for nothing."""
    async with proposed(pipeline_after=pipeline, settled_after=settled) as p:
        done = await p.to_end()
        verdict = await p.action.verify(p.call, await p.action.plan(p.call), done.result)
        assert verdict.level == "enforced"
        assert done.result["sha"] == p.request["sha"]
        assert p.b.double.repository.made["merge"] == 1
        assert p.b.double.repository.made["merged unbuilt"] == 0


async def test_without_a_pipeline_it_is_not_asked_at_all() -> None:
    """The reason is told, and the merge request is as it was."""
    async with proposed(pipeline_after=999, settled_after=0) as p:
        with pytest.raises(StepRetry, match="has no pipeline of this commit yet"):
            await p.to_end()
        assert p.b.double.asked["merge"] == 0


async def test_a_pipeline_that_fails_ends_the_step_with_the_reason() -> None:
    """GitLab drops the auto-merge then."""
    async with proposed(pipeline_after=0, settled_after=0, ends="failed") as p:
        with pytest.raises(StepFailed, match="gave the merge up, its pipeline failed: http"):
            await p.to_end()
        assert p.request["state"] == "opened"


@pytest.mark.parametrize("change", [{"sha": "9" * 40}, {"state": "closed"}])
async def test_another_commit_or_a_closed_one_is_never_merged(change: dict[str, str]) -> None:
    """What was approved is one commit."""
    async with proposed(pipeline_after=0, settled_after=0) as p:
        plan = await p.action.plan(p.call)
        p.request.update(change)
        with pytest.raises(StepFailed, match=r"by somebody|somebody has pushed"):
            await p.action.apply(p.call, plan)
        assert p.b.double.asked["merge"] == 0


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
@pytest.mark.parametrize("place", ["request", "merge"])
async def test_no_fault_merges_twice_or_unbuilt(place: str, fault: Fault) -> None:
    """An end or a reason, at most one merge."""
    async with proposed(pipeline_after=0, settled_after=0) as p:
        plan = await p.action.plan(p.call)
        p.b.double.faults.arm(place, fault)
        if fault is Fault.FORBIDDEN_LIMIT_BODY:  # nothing tells it from a missing right
            with pytest.raises(StepFailed, match="no right"):
                await p.action.apply(p.call, plan)
        else:
            await p.to_end_of(plan)
            assert p.request["state"] == "merged"
        made = p.b.double.repository.made
        assert made["merge"] <= 1
        assert made["merged unbuilt"] == 0
        assert not any(p.b.double.faults.armed.values())
