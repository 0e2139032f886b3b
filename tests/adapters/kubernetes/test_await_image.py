"""`kubernetes.await_image`: what an owner changes is watched to its end and proven by digest."""

from __future__ import annotations

from typing import Any

import pytest

from responder.errors import StepFailed
from responder.model import Effect, VerdictLevel
from responder.ports import Done, Pending
from tests.adapters.kubernetes import asking, stage
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import eventually, wait_until

pytestmark = pytest.mark.control_plane


def rolled(plane: ControlPlane, namespace: str, image: str) -> None:
    """Somebody else gives the Deployment another image, as a GitOps tool would."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/cart"
    item = plane.must("GET", path)
    item["spec"]["template"]["spec"]["containers"][0]["image"] = image
    plane.must("PUT", path, item)


async def test_it_waits_for_the_owner_and_then_for_every_pod(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Nothing is written, and the verdict is what the pods report."""
    stage.workload(control_plane, namespace, "Deployment", replicas=2)
    call = stage.call(
        "await_image", workload="Deployment/cart", namespace=namespace, image=stage.NEW
    )
    with FakeKubelet(control_plane, namespace):
        async with asking.responder(control_plane, namespace, "await_image") as made:
            doer = stage.action(made, "await_image")
            assert doer.info.effect is Effect.READ
            plan = await doer.plan(call)
            assert plan.changes == ()
            first = await doer.apply(call, plan)
            assert isinstance(first, Pending)
            assert "its owner has not changed it yet" in first.waiting_for
            with pytest.raises(StepFailed, match=r"expected .*b{64}, got .*a{64}"):
                await doer.verify(call, plan, {})
            tagged = stage.NEW.replace("@", ":2@")  # a tag beside the digest says nothing
            rolled(control_plane, namespace, tagged)
            await stage.settle(doer, call, first)

            async def proven() -> bool:
                verdict = await doer.verify(call, plan, {})
                return verdict.level is VerdictLevel.ENFORCED

            await eventually(proven, "every pod to report the digest")
            assert isinstance(await doer.undo(call, plan, {}), Done)


async def test_a_rollout_of_the_owners_that_fails_is_said(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A pod of the new image that does not come up, seen twice."""
    stage.workload(control_plane, namespace, "Deployment", replicas=1)
    call = stage.call(
        "await_image", workload="Deployment/cart", namespace=namespace, image=stage.BAD
    )

    def sick(pod: dict[str, Any]) -> bool:
        return stage.BAD in str(pod["spec"])

    with FakeKubelet(control_plane, namespace, sick):
        async with asking.responder(control_plane, namespace, "await_image") as made:
            doer = stage.action(made, "await_image")
            pending = await doer.apply(call, await doer.plan(call))
            rolled(control_plane, namespace, stage.BAD)
            with pytest.raises(StepFailed, match=r"the rollout of .* fails: pod cart-"):
                await stage.settle(doer, call, pending)


async def test_an_owner_that_never_comes_has_failed_when_the_time_is_over(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The pull request was not merged, or the tool does not look: bounded, and said."""
    stage.workload(control_plane, namespace, "Deployment", replicas=0)
    call = stage.call(
        "await_image",
        workload="Deployment/cart",
        namespace=namespace,
        image=stage.NEW,
        within="1s",
    )
    async with asking.responder(control_plane, namespace, "await_image") as made:
        doer = stage.action(made, "await_image")
        pending = await doer.apply(call, await doer.plan(call))
        assert isinstance(pending, Pending)
        late = {**pending.state, "since": pending.state["since"] - 2_000_000}
        with pytest.raises(StepFailed, match=r"does not run .* after 1 s: its owner has not"):
            await doer.poll(call, late)


async def test_a_cron_job_is_there_when_its_template_is(
    control_plane: ControlPlane, namespace: str
) -> None:
    """What it starts next counts; a name without a digest is never enough."""
    stage.cron_job(control_plane, namespace)
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs/report"
    item = control_plane.must("GET", path)
    spec = item["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    spec["containers"][0]["image"] = stage.NEW
    control_plane.must("PUT", path, item)
    wait_until(lambda: stage.NEW in str(control_plane.must("GET", path)["spec"]), "the template")
    call = stage.call(
        "await_image", workload="CronJob/report", namespace=namespace, image=stage.NEW
    )
    async with asking.responder(control_plane, namespace, "await_image") as made:
        doer = stage.action(made, "await_image")
        plan = await doer.plan(call)
        done = await doer.apply(call, plan)
        assert isinstance(done, Done)
        assert (await doer.verify(call, plan, done.result)).level is VerdictLevel.APPLIED
        with pytest.raises(StepFailed, match="is not named by digest"):
            await doer.plan(
                stage.call("await_image", workload="CronJob/report", namespace=namespace, image="x")
            )
