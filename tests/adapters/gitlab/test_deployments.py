"""`deployment.record` on GitLab: what the forge is told, once, whatever is lost on the way."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from integrations._forges import setup
from responder.clock import World
from responder.errors import StepFailed, StepRetry, Uncertain
from responder.model import Secret
from responder.ports import Action, Done, Kit
from tests.adapters.github.recording import LOST, NEW, SAFE, Desk
from tests.adapters.gitlab.world import NoEvidence, bench, route_to
from tests.doubles import github, gitlab
from tests.doubles.faults import Fault
from tests.doubles.github_deployments import Deployed as HubDeployed
from tests.doubles.gitlab import GitLabDouble
from tests.doubles.gitlab_deployments import Deployed
from tests.doubles.lab_shapes import SHA


@dataclass
class LabDesk:
    """The action's desk with the forge it tells."""

    forge: GitLabDouble
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
            f"GitLab {fault.value:42} deployments {dict(self.deployed.made)} "
            f"statuses {dict(self.deployed.told)}"
        )


@contextlib.asynccontextmanager
async def desk(deployed: Deployed | None = None, **settings: Any) -> AsyncIterator[LabDesk]:
    """Set the action up against a forge that knows deployments."""
    part = deployed or Deployed()
    async with bench(double={"parts": (part,)}, settings=settings or None) as b:
        action = next(a for a in b.integration.actions if a.info.name == "deployment.record")
        yield LabDesk(b.double, part, Desk(action, b.double.clock))


async def test_one_rollout_is_one_deployment_with_its_states_in_order() -> None:
    """The second step goes on with the deployment that is still running."""
    async with desk() as d:
        first = await d.tell("running")
        last = await d.tell("success")
        assert first.result["deployment"] == last.result["deployment"] == 40
        assert dict(d.deployed.told) == {"40 running": 1, "40 success": 1}
        assert dict(d.deployed.made) == {f"production {SHA}": 1}


async def test_a_rollout_after_an_ended_one_is_another_deployment() -> None:
    """The same commit is rolled out again later: the former record stays what it was."""
    async with desk() as d:
        await d.tell("running")
        await d.tell("failure")
        again = await d.tell("running", run="run_2")
        assert again.result["deployment"] == 41
        assert [one["status"] for one in d.deployed.deployments] == ["failed", "running"]


async def test_a_jobs_own_deployment_is_never_taken_for_ours() -> None:
    """Same environment, commit and ref, but a job made it: it is left alone."""
    async with desk() as d:
        job = {"id": 1, "name": "deploy", "status": "running"}
        d.deployed.put("production", "running", deployable={**_a_job(d), **job})
        done = await d.tell("running")
        assert done.result["deployment"] == 41


def _a_job(d: LabDesk) -> dict[str, Any]:
    from tests.doubles import lab_shapes

    one = d.forge.new("acme/shop", "main", {}, "push")
    return lab_shapes.job(d.forge.base_url, one, 1, "deploy")


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
@pytest.mark.parametrize("where", ["deploy", "deployed"])
async def test_a_lost_answer_is_looked_up_and_nothing_is_made_twice(
    fault: Fault, where: str
) -> None:
    """What came after the plan, of our commit and by no job, is ours; its status is looked at."""
    async with desk() as d:
        state = "running"
        if where == "deployed":
            await d.tell("running")
            state = "success"
        call = d.call(state)
        plan = await d.action.plan(call)
        d.forge.faults.arm(where, fault)
        await d.trying(call, plan)
        d.told(fault)
        assert list(d.deployed.made.values()) == [1]
        assert set(d.deployed.told.values()) == {1}
        assert d.deployed.deployments[0]["status"] == state


@pytest.mark.parametrize("fault", SAFE, ids=lambda fault: fault.name)
@pytest.mark.parametrize("where", ["deploy", "deployed"])
async def test_what_did_not_act_is_tried_again_and_acts_once(fault: Fault, where: str) -> None:
    """A refusal or an outage before acting ends with one deployment and one status."""
    async with desk() as d:
        state = "running"
        if where == "deployed":
            await d.tell("running")
            state = "failure"
        call = d.call(state)
        plan = await d.action.plan(call)
        d.forge.faults.arm(where, fault)
        await d.trying(call, plan)
        d.told(fault)
        assert list(d.deployed.made.values()) == [1]
        assert set(d.deployed.told.values()) == {1}


async def test_a_crash_after_success_does_not_make_a_second_record() -> None:
    """The plan knows the number, so what has ended meanwhile is found again."""
    async with desk() as d:
        await d.tell("running")
        call = d.call("success")
        plan = await d.action.plan(call)
        await d.action.apply(call, plan)
        await d.action.apply(d.call("success", resumed=True, started=1), plan)
        assert dict(d.deployed.told) == {"40 running": 1, "40 success": 1}


async def test_a_new_deployment_that_the_list_does_not_show_yet_is_waited_for() -> None:
    """The bounded wait bridges a list that lags."""
    async with desk(settle=6) as d:
        call = d.call("running")
        plan = await d.action.plan(call)
        d.forge.faults.arm("deploy", Fault.RESET_AFTER)
        d.deployed.hidden_looks = 3
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


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the credential does not hold"),
        (403, "it needs the scope api"),
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


async def test_the_commit_is_the_pipelines_own_or_the_refs() -> None:
    """An unknown pipeline or commit is no guess."""
    async with desk() as d:
        one = d.forge.new("acme/shop", "main", {}, "api")
        plan = await d.action.plan(d.call("running", params={"run": one.id}))
        assert plan.params["commit"] == SHA
        with pytest.raises(StepFailed, match="no commit to record"):
            await d.action.plan(d.call("running", params={"run": 99}))
        with pytest.raises(StepFailed, match="no commit to record"):
            await d.action.plan(d.call("running", params={"commit": "f" * 40}))


async def test_what_somebody_ended_otherwise_fails_the_verification() -> None:
    """A person cancels it: the record does not say what we told."""
    async with desk() as d:
        await d.tell("running")
        call = d.call("success")
        plan = await d.action.plan(call)
        done = await d.action.apply(call, plan)
        assert isinstance(done, Done)
        d.deployed.deployments[0]["status"] = "canceled"
        with pytest.raises(StepFailed, match="expected success"):
            await d.action.verify(call, plan, done.result)


async def test_one_action_tells_the_forge_that_the_image_map_names() -> None:
    """A GitHub and a GitLab side by side: the image chooses its line, and the line the forge."""
    hub_part, lab_part = HubDeployed(), Deployed()
    async with github.running(parts=(hub_part,)) as hub, gitlab.running(parts=(lab_part,)) as lab:
        tables = {
            "hub": {"kind": "github", "base_url": hub.base_url, "token": Secret(hub.token)},
            "lab": {"kind": "gitlab", "base_url": lab.base_url, "token": Secret(lab.token)},
        }
        routes = (
            route_to("registry.example/shop/*", forge="lab"),
            route_to("registry.example/bank/*", forge="hub", workflow="rebuild.yml"),
        )
        made = setup(tables, World(), Kit(evidence=NoEvidence(), images=routes))
        [action] = [one for one in made.actions if one.info.name == "deployment.record"]
        desk = Desk(action, lab.clock)
        await desk.tell("running")
        await desk.tell("running", params={"image": f"registry.example/bank/teller@{NEW}"})
        assert made.close
        await made.close()
    assert (lab_part.made.total(), hub_part.made.total()) == (1, 1)
    assert hub_part.deployments[0]["payload"]["image"] == "registry.example/bank/teller"
