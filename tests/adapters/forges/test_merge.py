"""`change.merge` merges one commit once its checks have passed, and no other; on both forges."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from responder.errors import StepFailed, StepRetry
from responder.ports import Call, Done, Pending
from tests.adapters.forges.world import KINDS, PRODUCTION, Forge, a_call, forge, merging
from tests.doubles.faults import Fault


@asynccontextmanager
async def proposed(
    kind: str, *, checks: bool = True, **knobs: Any
) -> AsyncIterator[tuple[Forge, Call, Done]]:
    """One open request on a forge that behaves so, and the call that merges it."""
    async with forge(kind, change=replace(PRODUCTION, checks=checks)) as f:
        done = await f.proposed_by(a_call())
        for name, value in knobs.items():
            setattr(f.part, name, value)
        yield f, merging(done), done


def checked_after(kind: str, looks: int) -> dict[str, Any]:
    """The knob that lets a commit's checks come so late."""
    return {"checked_after" if kind == "github" else "pipeline_after": looks}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("checks", "settled"), [(0, 0), (3, 0), (0, 3), (4, 4)])
async def test_it_is_merged_after_its_checks_however_late_they_show_up(
    kind: str, checks: int, settled: int
) -> None:
    """Neither 405 right after it was made nor a merge that waits for nothing."""
    async with proposed(kind, settled_after=settled, **checked_after(kind, checks)) as (f, call, _):
        done = await f.merged_by(call, lives=20)
        assert (f.made["merge"], f.made["merged unbuilt"]) == (1, 0)
        assert f.git.branches["main"] == done.result["commit"]
        async with f.life() as life:
            verdict = await life.merge.verify(call, f.plans[call.key], done.result)
            assert (verdict.level, verdict.residual) == ("enforced", ())
            with pytest.raises(StepFailed, match="is not taken back"):
                await life.merge.undo(call, f.plans[call.key], done.result)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_nothing_has_checked_is_not_asked_to_be_merged(kind: str) -> None:
    """The reason is told, and the request is as it was."""
    async with proposed(kind, settled_after=0, **checked_after(kind, 999)) as (f, call, _):
        with pytest.raises(StepRetry, match=r"nothing has checked|no pipeline of this commit"):
            await f.merged_by(call, lives=2)
        assert f.double.asked["merge"] == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_repository_without_checks_is_merged_where_the_image_map_says_so(kind: str) -> None:
    """`checks = false` is the operator's word, and the plan and the verdict repeat it."""
    knobs: dict[str, Any] = {"settled_after": 0, **checked_after(kind, 999)}
    async with proposed(kind, checks=False, **knobs) as (f, call, _):
        done = await f.merged_by(call)
        plan = f.plans[call.key]
        assert "checks = false" in plan.residual[0]
        assert f.made["merge"] == 1
        assert done.result["commit"] == f.git.branches["main"]


@pytest.mark.parametrize("kind", KINDS)
async def test_checks_that_fail_end_the_step_with_the_reason(kind: str) -> None:
    """Nothing is merged."""
    ends = "failure" if kind == "github" else "failed"
    knobs: dict[str, Any] = {"settled_after": 0, "ends": ends, **checked_after(kind, 0)}
    async with proposed(kind, **knobs) as (f, call, _):
        with pytest.raises(StepFailed, match=r"checks failed: http|its pipeline failed: http"):
            await f.merged_by(call, lives=9)
        assert f.made["merged unbuilt"] == 0
        assert f.requests[0]["state"] in {"open", "opened"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deed", ["push", "close"])
async def test_another_commit_or_a_closed_one_is_never_merged(kind: str, deed: str) -> None:
    """What was approved is one commit."""
    async with proposed(kind, settled_after=0, **checked_after(kind, -9)) as (f, call, _):
        async with f.life() as life:
            f.plans[call.key] = await life.merge.plan(call)
            getattr(f, deed)()
            with pytest.raises(StepFailed, match=r"by somebody|somebody has pushed"):
                await life.merge.apply(call, f.plans[call.key])
        assert f.double.asked["merge"] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"request": 77}, "has no (pull|merge) request 77"),
        ({"sha": "9" * 40}, "somebody has pushed"),
        ({"change": "staging"}, '"staging" is not there'),
        ({"change": ""}, "name one"),
    ],
)
async def test_what_cannot_be_merged_is_said_in_the_plan(
    kind: str, change: dict[str, Any], text: str
) -> None:
    """The image map's entry and the commit bound it."""
    async with proposed(kind) as (f, _, done), f.life() as life:
        with pytest.raises(StepFailed, match=text):
            await life.merge.plan(merging(done, **change))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_into_another_branch_is_refused(kind: str) -> None:
    """The image map names the branch that may change."""
    async with proposed(kind) as (f, call, _), f.life() as life:
        [one] = f.requests
        if kind == "github":
            one["base"]["ref"] = "release"
        else:
            one["target_branch"] = "release"
        with pytest.raises(StepFailed, match="into another branch than main"):
            await life.merge.plan(call)


@pytest.mark.parametrize("kind", KINDS)
async def test_405_right_after_it_was_made_is_asked_again(kind: str) -> None:
    """Refused three times, merged once."""
    async with proposed(kind, settled_after=0, early=3, **checked_after(kind, -9)) as (f, call, _):
        if kind == "gitlab":
            f.part.pipeline_after = 0
        await f.merged_by(call)
        assert f.double.asked["merge"] == 4
        assert f.made["merge"] == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_review_that_is_missing_is_waited_for_with_the_reason(kind: str) -> None:
    """A person merges it there, and that ends the step well."""
    states: dict[str, Any] = (
        {"state": "blocked", "checked_after": -9}
        if kind == "github"
        else {"status": "not_approved", "refuses_auto": True, "pipeline_after": 0}
    )
    async with proposed(kind, settled_after=0, **states) as (f, call, _), f.life() as life:
        plan = await life.merge.plan(call)
        now: Done | Pending = await life.merge.apply(call, plan)
        for _ in range(3):
            assert isinstance(now, Pending)
            assert "http" in now.waiting_for
            assert "review" in now.waiting_for or "approve" in now.waiting_for
            now = await life.merge.poll(call, now.state)
        assert f.made["merge"] == 0
        f.merge()
        assert isinstance(now, Pending)
        done = await life.merge.poll(call, now.state)
        assert isinstance(done, Done)
        assert (await life.merge.verify(call, plan, done.result)).level == "enforced"


@pytest.mark.parametrize(
    ("knobs", "error", "text"),
    [
        ({"state": "dirty"}, StepFailed, "it conflicts with its target"),
        ({"state": "draft"}, StepFailed, "made it a draft"),
        ({"refuses": "Pull Request is not mergeable"}, StepRetry, "is not mergeable; it is looked"),
    ],
)
async def test_what_github_will_not_merge_is_told(
    knobs: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Never stays so, or is asked again."""
    async with proposed("github", settled_after=0, checked_after=-9, **knobs) as (f, call, _):
        with pytest.raises(error, match=text):
            await f.merged_by(call, lives=1)
        assert f.made["merge"] == 0


@pytest.mark.parametrize(
    "said",
    [
        "Changes must be made through the merge queue",
        "Repository rule violations found",
        "At least 1 approving review is required by reviewers with write access.",
        "Merge commits are not allowed on this repository.",
    ],
)
async def test_what_only_people_may_do_on_github_is_waited_for_with_its_words(said: str) -> None:
    """One request for the merge, then looks; the queue or a person merges it."""
    knobs: dict[str, Any] = {"settled_after": 0, "checked_after": -9, "refuses": said}
    async with proposed("github", **knobs) as (f, call, _), f.life() as life:
        now = await life.merge.apply(call, await life.merge.plan(call))
        assert isinstance(now, Pending)
        assert said.rstrip(".") in now.waiting_for
        now = await life.merge.poll(call, now.state)
        assert isinstance(now, Pending)
        assert f.double.asked["merge"] == 1
        f.merge()
        assert isinstance(await life.merge.poll(call, now.state), Done)


@pytest.mark.parametrize("status", ["conflict", "draft_status"])
async def test_what_gitlab_will_never_merge_is_told(status: str) -> None:
    """A person must change it first."""
    async with proposed("gitlab", settled_after=0, pipeline_after=0, status=status) as (f, call, _):
        with pytest.raises(StepFailed, match=r"conflicts with its target|made it a draft"):
            await f.merged_by(call)
        assert f.double.asked["merge"] == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_forge_that_is_silent_while_it_is_waited_for_is_no_end(kind: str) -> None:
    """A look that fails is made again."""
    states: dict[str, Any] = (
        {"state": "blocked", "checked_after": -9}
        if kind == "github"
        else {"status": "not_approved", "refuses_auto": True, "pipeline_after": 0}
    )
    async with proposed(kind, settled_after=0, **states) as (f, call, _), f.life() as life:
        now = await life.merge.apply(call, await life.merge.plan(call))
        assert isinstance(now, Pending)
        f.double.faults.arm("request", Fault.ERROR_BEFORE, 3)
        later = await life.merge.poll(call, now.state)
        assert isinstance(later, Pending)
        assert later.state == now.state
