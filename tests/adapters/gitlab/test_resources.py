"""A pipeline that waits for a resource group: said with the group, its mode and who is first."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from integrations.gitlab.webhook import GitLabHints, hint
from responder.clock import World
from responder.ports import HookInfo, Pending
from tests.adapters.gitlab.world import Bench, a_call, bench
from tests.doubles.corpus import corpus
from tests.doubles.faults import Fault
from tests.doubles.gitlab_deployments import Deployed
from tests.doubles.lab_executors import Straight


@dataclass
class Queue:
    """A step whose pipeline waits, and the groups that it may wait for."""

    bench: Bench
    groups: Deployed
    pending: Pending
    number: int

    async def look(self) -> Pending:
        """Look at the pipeline once more."""
        found = await self.bench.action.poll(a_call(), self.pending.state)
        assert isinstance(found, Pending)
        return found


@contextlib.asynccontextmanager
async def queue(*before: str, mode: str = "oldest_first", **groups: str) -> AsyncIterator[Queue]:
    """Let a pipeline wait for `production` behind others of these names."""
    part = Deployed(groups={**groups, "production": mode})
    executor = Straight(states=("running",) * 1000)
    async with bench(double={"parts": (part,), "executor": executor}) as b:
        pending = await b.apply(a_call())
        number = int(pending.state["run_id"])
        for name in before:
            other = b.double.new("acme/shop", "main", {}, "push")
            part.queue("production", other, name)
        part.queue("production", b.double.pipelines[number])
        yield Queue(b, part, pending, number)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("oldest_first", "oldest_first, the oldest first"),
        ("newest_first", "newest_first, the newest first: newer ones may go before ours"),
        ("newest_ready_first", "newest_ready_first, the newest ready one first"),
        ("unordered", "unordered, in no order"),
        ("some_day", "mode not told"),
    ],
)
async def test_the_group_and_its_process_mode_are_said(mode: str, words: str) -> None:
    """A person reads what it waits for, and that it may wait for long."""
    async with queue(mode=mode) as q:
        said = (await q.look()).waiting_for
        assert f"GitLab pipeline {q.number} (waiting: its resource group production" in said
        assert words in said
        assert "it is the next of the upcoming jobs" in said


async def test_the_jobs_before_ours_are_listed_with_their_pipelines() -> None:
    """Three are named, the others counted."""
    async with queue("deploy", "canary", "smoke", "more", "rest") as q:
        first = q.number + 1
        said = (await q.look()).waiting_for
        assert f"before it: deploy of {first}, canary of {first + 1}, smoke of {first + 2}" in said
        assert said.endswith("and 2 more)")


async def test_another_groups_queue_is_not_taken_for_ours() -> None:
    """Two groups are asked: the one with our job in it is named."""
    async with queue("deploy", staging="unordered") as q:
        other = q.bench.double.new("acme/shop", "main", {}, "push")
        q.groups.queue("staging", other)
        said = (await q.look()).waiting_for
        assert "resource group production" in said
        assert "staging" not in said


async def test_a_wait_that_costs_more_requests_is_looked_at_more_seldom() -> None:
    """One look, the groups and each one's jobs: the next look comes as much later."""
    async with queue(a="unordered", b="unordered") as q:
        before = sum(q.bench.double.asked[name] for name in ("pipeline", "groups", "upcoming"))
        found = await q.look()
        asked = sum(q.bench.double.asked[name] for name in ("pipeline", "groups", "upcoming"))
        print(f"requests of one look {asked - before}, next look after {found.after:g} s")
        assert found.after == asked - before


@pytest.mark.parametrize("where", ["groups", "upcoming"])
@pytest.mark.parametrize("fault", [403, 404, Fault.ERROR_BEFORE, Fault.RESET_BEFORE])
async def test_a_gitlab_that_does_not_tell_is_waited_for_all_the_same(
    where: str, fault: int | Fault
) -> None:
    """No right, an older server, an outage: fewer words, never a failed step."""
    async with queue() as q:
        if isinstance(fault, Fault):
            q.bench.double.faults.arm(where, fault, times=9)
        else:
            q.groups.denies[where] = fault
        said = (await q.look()).waiting_for
        assert said == f"GitLab pipeline {q.number} (waiting: its resource group is busy)"


async def test_hostile_names_of_groups_and_jobs_are_made_harmless() -> None:
    """They are others' words."""
    async with queue("dep\x1b[31m\nloy") as q:
        q.groups.groups = {"pro\u202educ\x07tion": "oldest_first"}
        q.groups.upcoming = {"pro\u202educ\x07tion": q.groups.upcoming["production"]}
        said = (await q.look()).waiting_for
        assert said.isprintable()
        assert "resource group pro" in said


# --------------------------------------------------------------------------- webhooks as hints

HOOK = HookInfo(name="lab", source="gitlab", auth={"none": True})


@pytest.mark.parametrize(
    ("body", "marks"),
    [
        ({"object_kind": "deployment", "deployment_id": 15}, ["deployment-15"]),
        ({"object_kind": "deployment", "deployment_id": "15"}, []),
        ({"object_kind": "pipeline", "object_attributes": {"id": 31}}, ["31"]),
        ({"object_kind": "build", "pipeline_id": 31}, ["31"]),
        ({"object_kind": "resource_group", "pipeline_id": 31}, []),
        ({"object_kind": "feature_flag", "object_attributes": {"id": 1}}, []),
        ({"object_kind": ["x"]}, []),
        ({}, []),
    ],
)
def test_events_are_hints_and_unknown_ones_are_taken_in_silence(
    body: dict[str, Any], marks: list[str]
) -> None:
    """GitLab switches a hook off for good that answers 4xx, so nothing is refused for its event."""
    project = {"project": {"path_with_namespace": "Acme/Shop"}}
    data = json.dumps({**project, **body}).encode()
    source = GitLabHints(World())
    source.verify({}, data, HOOK)
    assert source.parse({}, data, HOOK) == []
    assert source.hints({}, data, HOOK) == [f"gitlab:acme/shop:{mark}" for mark in marks]
    assert source.accepts_status == 202


def test_recorded_deliveries_of_deployments_jobs_and_pipelines_are_hints() -> None:
    """GitLab's own examples each name what a step can wait for."""
    folder = corpus()
    if folder is None:
        pytest.skip("no shared corpus")
    recorded = json.loads((folder / "openapi" / "gitlab-webhook-examples.json").read_text())
    found = recorded.values() if isinstance(recorded, dict) else recorded
    bodies = _bodies(list(found))
    kinds = {body["object_kind"]: hint(json.dumps(body).encode()) for body in bodies}
    print(kinds)
    assert {"pipeline", "build", "deployment"} <= set(kinds)


def _bodies(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        if "object_kind" in value:
            return [value]
        return [body for one in value.values() for body in _bodies(one)]
    return [body for one in value for body in _bodies(one)] if isinstance(value, list) else []
