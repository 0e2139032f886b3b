"""`gitlab.open_merge_request` proposes another base, exactly once, and says what it is not."""

from typing import Any

import pytest

from integrations.gitlab.merging import OpenMergeRequest
from responder.errors import Conflict, StepFailed, StepRetry
from responder.ports import Call, Done
from tests.adapters.gitlab.world import Bench, a_call, bench
from tests.doubles.faults import Fault

NEW = f"registry.example/base@sha256:{'a' * 64}"
OLD = "registry.example/base:1"
PLACES = ["read", "requests", "branch", "push", "open"]


def asked(**changes: Any) -> Call:
    """Return the call of one step."""
    values = {"base": NEW, "instead_of": OLD, **changes}
    return a_call(key="run_01j9/propose", action="gitlab.open_merge_request", params=values)


def action_of(b: Bench) -> OpenMergeRequest:
    """Return the action under test."""
    [found] = [one for one in b.integration.actions if isinstance(one, OpenMergeRequest)]
    return found


async def opened(b: Bench, call: Call, attempts: int = 4) -> Done:
    """Plan and apply, again after each `StepRetry`, as the engine does."""
    action = action_of(b)
    for left in range(attempts, 0, -1):
        try:
            return await action.apply(call, await action.plan(call))
        except StepRetry:
            if left == 1:
                raise
    raise AssertionError("unreachable")


async def test_a_merge_request_changes_the_lines_that_choose_the_base_and_no_other() -> None:
    """`base:1` is no part of `base:1.2`, a comment or a command is no base."""
    async with bench() as b:
        action, call = action_of(b), asked()
        plan = await action.plan(call)
        assert plan.hash == (await action.plan(call)).hash
        assert plan.changes[0].before == {"Dockerfile": [f"ARG BASE={OLD}", f"FROM {OLD}"]}
        done = await action.apply(call, plan)
        [text] = b.double.repository.proposed.values()
        assert text.splitlines() == [
            f"ARG BASE={NEW}",
            "FROM registry.example/base:1.2 AS tools",
            f"# not this one: {OLD}",
            f"FROM {NEW}",
            f"RUN echo {OLD}",
        ]
        verdict = await action.verify(call, plan, done.result)
        assert verdict.level == "applied"
        assert "before a person has merged it" in verdict.residual[0]
        assert done.result["url"].endswith("/acme/shop/-/merge_requests/1")


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
@pytest.mark.parametrize("place", PLACES)
async def test_no_fault_makes_two_merge_requests(place: str, fault: Fault) -> None:
    """At most one branch and one merge request, and an end or a reason."""
    async with bench(settings={"timeout": 1}) as b:
        b.double.faults.arm(place, fault)
        if fault is Fault.FORBIDDEN_LIMIT_BODY:  # nothing tells it from a missing right
            with pytest.raises(StepFailed, match="no right"):
                await opened(b, asked())
        else:
            done = await opened(b, asked())
            assert done.result["request"] == 1
            assert dict(b.double.repository.made) == {"push": 1, "open": 1}
        assert not any(b.double.faults.armed.values())


@pytest.mark.parametrize("lost", ["push", "open"])
async def test_after_a_crash_what_was_made_is_adopted(lost: str) -> None:
    """The next life asks again with the same key, and finds branch or merge request."""
    async with bench() as b:
        action, call = action_of(b), asked()
        plan = await action.plan(call)
        b.double.faults.arm(lost, Fault.ERROR_AFTER)
        with pytest.raises(StepRetry, match="the next try looks"):
            await action.apply(call, plan)
        done = await action.apply(asked(), plan)
        assert done.result["request"] == 1
        assert dict(b.double.repository.made) == {"push": 1, "open": 1}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"base": "registry.example/base:2"}, "a tag may move"),
        ({"instead_of": "registry.example/other:1"}, "builds on no registry.example/other:1"),
        ({"instead_of": "x y"}, "is no image name"),
        ({"file": "../etc/passwd"}, "a path inside the repository"),
        ({"file": "gone"}, "has no gone at main"),
        ({"image": "registry.example/bank/vault:1"}, "no route in"),
    ],
)
async def test_what_cannot_be_proposed_is_said_in_the_plan(change: Any, text: str) -> None:
    """The image map bounds it, and only a digest is proposed."""
    async with bench() as b:
        with pytest.raises(StepFailed, match=text):
            await action_of(b).plan(asked(**change))
        assert not b.double.repository.made


async def test_a_file_that_changed_since_the_plan_asks_for_a_new_plan() -> None:
    """What was approved is what is committed."""
    async with bench() as b:
        action = action_of(b)
        plan = await action.plan(asked())
        b.double.repository.changed = "c2"
        with pytest.raises(Conflict, match="has changed since the plan"):
            await action.apply(asked(), plan)
        assert not b.double.repository.made


async def test_undo_closes_it_and_leaves_alone_what_others_changed() -> None:
    """A closed one is not opened again, a merged or pushed one is not touched."""
    async with bench() as b:
        action, call = action_of(b), asked()
        plan = await action.plan(call)
        done = await action.apply(call, plan)
        [request] = b.double.repository.requests
        for changed in ({"state": "merged"}, {"sha": "9" * 40}):
            kept = dict(request)
            request.update(changed)
            with pytest.raises(Conflict, match="not as we left it"):
                await action.undo(call, plan, done.result)
            request.update(kept)
        request["sha"], kept_sha = "9" * 40, request["sha"]
        with pytest.raises(StepFailed, match="somebody has pushed"):
            await action.verify(call, plan, done.result)
        request["sha"] = kept_sha
        await action.undo(call, plan, done.result)
        await action.undo(call, plan, done.result)
        assert b.double.repository.made["close"] == 1
        with pytest.raises(StepFailed, match="was closed by somebody"):
            await action.apply(call, plan)
