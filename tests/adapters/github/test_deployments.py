"""`deployment.record` on GitHub: what the forge is told, once, whatever is lost on the way."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from responder.errors import StepFailed, StepRetry, Uncertain
from responder.model import VerdictLevel
from responder.ports import Action, Done
from tests.adapters.github.recording import LOST, NEW, SAFE, Desk
from tests.adapters.github.world import IMAGE, bench
from tests.doubles.faults import Fault
from tests.doubles.github import GitHubDouble
from tests.doubles.github_deployments import Deployed
from tests.doubles.shapes import SHA


@dataclass
class HubDesk:
    """The action's desk with the forge it tells."""

    forge: GitHubDouble
    deployed: Deployed
    desk: Desk

    @property
    def action(self) -> Action:
        """The action."""
        return self.desk.action

    def __getattr__(self, name: str) -> Any:
        """What the desk itself can do: call, tell, trying."""
        return getattr(self.desk, name)

    def told(self, fault: Fault) -> None:
        """Print what a reader of the run wants to see."""
        print(
            f"GitHub {fault.value:42} deployments {dict(self.deployed.made)} "
            f"states {dict(self.deployed.told)}"
        )


@contextlib.asynccontextmanager
async def desk(deployed: Deployed | None = None, **settings: Any) -> AsyncIterator[HubDesk]:
    """Set the action up against a forge that knows deployments."""
    part = deployed or Deployed()
    async with bench(double={"parts": (part,)}, settings=settings or None) as b:
        action = next(a for a in b.integration.actions if a.info.name == "deployment.record")
        yield HubDesk(b.double, part, Desk(action, b.double.clock))


async def test_one_rollout_is_one_deployment_with_its_states_in_order() -> None:
    """Two steps of a run speak of the same deployment; the forge is told each state once."""
    async with desk() as d:
        first = await d.tell("running")
        last = await d.tell("success")
        assert first.result["deployment"] == last.result["deployment"] == 900
        assert first.result["commit"] == SHA
        assert [s["state"] for s in d.deployed.states[900]] == ["in_progress", "success"]
        assert list(d.deployed.made.values()) == [1]


async def test_a_deployment_never_merges_and_never_demands_checks_nobody_asked_for() -> None:
    """Left out, GitHub would merge the default branch and wait for every check of the commit."""
    async with desk(Deployed(failing=("ci/slow",))) as d:
        await d.tell("running")
        [made] = d.deployed.deployments
        assert made["task"] == "responder"
        assert made["payload"]["digest"] == NEW
        assert "rr-" in made["payload"]["mark"]


async def test_checks_that_were_asked_for_and_failed_refuse_it() -> None:
    """A 409 is final, and says what it was about."""
    async with desk(Deployed(failing=("ci/test",))) as d:
        with pytest.raises(StepFailed, match="a status check that was asked for has not passed"):
            await d.tell("running", params={"contexts": ["ci/test"]})
        assert not d.deployed.made


async def test_a_forge_that_merged_instead_is_no_deployment() -> None:
    """GitHub answers 202 where it merged; nothing is taken for a deployment then."""
    async with desk(Deployed(merges=True)) as d:
        with pytest.raises(StepFailed, match="made no deployment"):
            await d.tell("running")


async def test_success_marks_earlier_ones_inactive_but_not_those_of_production() -> None:
    """As GitHub's `auto_inactive` says of itself; the plan tells the exception."""
    async with desk() as d:
        for place, now in (("staging", "inactive"), ("production", "success")):
            for run in ("run_1", "run_2"):
                await d.tell("success", run=run, params={"environment": place})
            earlier = next(one for one in d.deployed.deployments if one["environment"] == place)
            assert d.deployed.states[earlier["id"]][-1]["state"] == now
        plan = await d.action.plan(d.call("success", run="run_3"))
        assert any("except in a production environment" in text for text in plan.residual)


async def test_one_made_inactive_by_a_later_one_was_told_all_the_same() -> None:
    """A crash after success, and a later deployment meanwhile: nothing is told twice."""
    async with desk() as d:
        place = {"environment": "staging"}
        call = d.call("success", params=place)
        plan = await d.action.plan(call)
        await d.action.apply(call, plan)
        await d.tell("success", run="run_2", params=place)
        await d.action.apply(d.call("success", params=place, resumed=True, attempt=2), plan)
        assert d.deployed.told["900 success"] == 1


@pytest.mark.parametrize("where", ["deploy", "state"])
@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
async def test_a_lost_answer_is_looked_up_and_nothing_is_made_twice(
    fault: Fault, where: str
) -> None:
    """The deployment is found by the mark in its payload, the state among its states."""
    async with desk() as d:
        call = d.call("running")
        plan = await d.action.plan(call)
        d.forge.faults.arm(where, fault)
        await d.trying(call, plan)
        d.told(fault)
        assert list(d.deployed.made.values()) == [1]
        assert dict(d.deployed.told) == {"900 in_progress": 1}


@pytest.mark.parametrize("where", ["deploy", "state"])
@pytest.mark.parametrize("fault", SAFE, ids=lambda fault: fault.name)
async def test_what_did_not_act_is_tried_again_and_acts_once(fault: Fault, where: str) -> None:
    """A refusal or an outage before acting ends with one deployment and one state."""
    async with desk() as d:
        call = d.call("running")
        plan = await d.action.plan(call)
        d.forge.faults.arm(where, fault)
        await d.trying(call, plan)
        d.told(fault)
        assert list(d.deployed.made.values()) == [1]
        assert dict(d.deployed.told) == {"900 in_progress": 1}


async def test_a_new_deployment_that_the_list_does_not_show_yet_is_waited_for() -> None:
    """The bounded wait bridges a list that lags."""
    async with desk(Deployed(hidden_looks=3), settle=6) as d:
        call = d.call("running")
        plan = await d.action.plan(call)
        d.forge.faults.arm("deploy", Fault.RESET_AFTER)
        await d.action.apply(call, plan)
        assert list(d.deployed.made.values()) == [1]


async def test_a_lost_answer_that_nobody_can_look_up_asks_a_person() -> None:
    """Made or not cannot be known: it is not made again in the dark."""
    async with desk() as d:
        call = d.call("running")
        plan = await d.action.plan(call)
        await d.action.apply(call, plan)
        d.forge.faults.arm("deployments", Fault.ERROR_BEFORE, times=20)
        with pytest.raises(Uncertain, match="may have been made"):
            await d.action.apply(d.call("running", resumed=True), plan)
        assert list(d.deployed.made.values()) == [1]


@pytest.mark.parametrize("place", ["before", "deploy", "state"])
async def test_after_a_crash_it_goes_on_where_it_stopped(place: str) -> None:
    """Killed before the call, after the deployment, or after its state: one of each in the end."""
    async with desk() as d:
        call = d.call("running")
        plan = await d.action.plan(call)
        if place == "deploy":
            d.forge.faults.arm("state", Fault.ERROR_BEFORE, times=9)
            with pytest.raises(StepRetry):
                await d.action.apply(call, plan)
            d.forge.faults.armed.clear()
        elif place == "state":
            await d.action.apply(call, plan)
        await d.action.apply(d.call("running", resumed=True, started=1), plan)
        assert (list(d.deployed.made.values()), d.deployed.told.total()) == ([1], 1)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the credential does not hold"),
        (403, "it needs deployments: write"),
        (404, "not there, or not visible"),
        (422, "HTTP 422"),
    ],
)
async def test_a_refusal_is_final_and_says_what_is_missing(status: int, words: str) -> None:
    """Nothing was made, and asking again cannot help."""
    async with desk() as d:
        call = d.call("running")
        plan = await d.action.plan(call)
        d.deployed.denies["deploy"] = status
        with pytest.raises(Exception, match=words) as caught:
            await d.action.apply(call, plan)
        assert not isinstance(caught.value, StepRetry | Uncertain)
        assert not d.deployed.made


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"image": f"{IMAGE}:1.4"}, "repository@sha256"),
        ({"image": f"registry.example/other/app@{NEW}"}, "no route in"),
        ({"state": "inactive"}, "running, success, failure"),
        ({"environment": "a\nb"}, "environment: expected"),
        ({"environment": "\x1b[31m"}, "environment: expected"),
        ({"commit": "main"}, "forty hex digits"),
        ({"commit": "f" * 40}, "HTTP 422"),
        ({"run": 99}, "no commit to record"),
    ],
)
async def test_what_cannot_be_recorded_is_refused_before_anything_is_told(
    params: dict[str, Any], words: str
) -> None:
    """The image map bounds it, and no text of an alert gets into a request."""
    async with desk() as d:
        with pytest.raises(StepFailed, match=words):
            await d.action.plan(d.call("running", params=params))
        assert not d.deployed.made


async def test_the_commit_is_the_runs_own() -> None:
    """The forge says which commit its run was of; the ref's tip may have moved on."""
    async with desk(Deployed(commits=("a" * 40, SHA))) as d:
        run = d.forge._new_run("acme/shop", "rebuild.yml", "main", {"correlation_id": "x"})
        tip = await d.action.plan(d.call("running"))
        its = await d.action.plan(d.call("running", params={"run": run.id}))
        assert tip.params["commit"] == "a" * 40
        assert its.params["commit"] == SHA


async def test_what_was_told_and_is_gone_fails_the_verification() -> None:
    """Somebody deletes the state, or the deployment says another commit."""
    async with desk() as d:
        call = d.call("running")
        plan = await d.action.plan(call)
        done = await d.action.apply(call, plan)
        assert isinstance(done, Done)
        verdict = await d.action.verify(call, plan, done.result)
        assert verdict.level is VerdictLevel.APPLIED
        with pytest.raises(StepFailed, match=f"expected running of {'b' * 40}"):
            await d.action.verify(call, plan, {**done.result, "commit": "b" * 40})
        d.deployed.states[900].clear()
        with pytest.raises(StepFailed, match="is pending"):
            await d.action.verify(call, plan, done.result)


async def test_two_runs_never_share_a_deployment() -> None:
    """Another run is another mark, for the same commit and environment too."""
    async with desk() as d:
        one = await d.tell("running", run="run_1")
        two = await d.tell("running", run="run_2")
        assert one.result["deployment"] != two.result["deployment"]


async def test_what_a_stranger_puts_into_a_payload_is_no_mark() -> None:
    """Text, rubbish and deep nesting are read without harm and adopt nothing."""
    async with desk() as d:
        await d.tell("running", run="run_0")
        for payload in ("", "[]", "{", "[" * 5000, '{"mark": 7}'):
            d.deployed.deployments.append({**d.deployed.deployments[0], "payload": payload})
        assert (await d.tell("running")).result["deployment"] not in {0, 900}
