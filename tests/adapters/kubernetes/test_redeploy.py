"""Rolling out by digest on a real API server: the good way, the bad way and the way back."""

from __future__ import annotations

from typing import Any

import pytest

from responder.errors import Conflict, StepFailed
from responder.model import Target, VerdictLevel
from responder.ports import Pending
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.accounts import responder
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
FORCED = ("kubernetes.delete_pod force=true",)  # the guard lets only such a playbook do it


def path_of(namespace: str, kind: str = "Deployment") -> str:
    """Where the workload lives."""
    return f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s/cart"


def image_of(plane: ControlPlane, namespace: str, kind: str = "Deployment") -> str:
    """The image in the template."""
    found = plane.must("GET", path_of(namespace, kind))
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def asked(namespace: str, image: str = stage.NEW, kind: str = "Deployment") -> Any:
    """The step's request."""
    return stage.call("redeploy", Target(namespace=namespace), workload=f"{kind}/cart", image=image)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
async def test_a_rollout_ends_with_every_pod_on_the_digest_and_goes_back(
    control_plane: ControlPlane, namespace: str, kind: str
) -> None:
    """Patched, watched, proven by imageID; undo brings the former digest back to every pod."""
    count = 1 if kind == "DaemonSet" else 2
    stage.workload(control_plane, namespace, kind)
    with FakeKubelet(control_plane, namespace):
        await stage.pods(control_plane, namespace, count)
        before = control_plane.must("GET", path_of(namespace, kind))
        async with responder(control_plane, namespace, "redeploy") as made:
            doer = stage.action(made, "redeploy")
            request = asked(namespace, kind=kind)
            plan, result = await stage.perform(made, request)
            verdict = await doer.verify(request, plan, result)
            assert verdict.level is VerdictLevel.ENFORCED
            assert result == {
                "workload": f"{kind}/cart",
                "image": stage.NEW,
                "former": stage.OLD,
            }
            assert plan.changes[0].before == {"container": "main", "image": stage.OLD}
            await stage.settle(doer, request, await doer.undo(request, plan, result))
        found = await stage.pods(control_plane, namespace, count)
    assert {pod["spec"]["containers"][0]["image"] for pod in found} == {stage.OLD}
    after = control_plane.must("GET", path_of(namespace, kind))
    assert after["spec"] == before["spec"]
    ours = [key for key in after["metadata"].get("annotations", {}) if "responder" in key]
    assert ours == []


async def test_a_crashing_image_fails_and_names_the_way_back(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Old pods still serve; the failure names pod, sign and the former image; undo repairs."""
    stage.workload(control_plane, namespace, "Deployment")
    with FakeKubelet(control_plane, namespace, lambda pod: stage.BAD in str(pod["spec"])):
        await stage.pods(control_plane, namespace, 2)
        async with responder(control_plane, namespace, "redeploy") as made:
            doer = stage.action(made, "redeploy")
            request = asked(namespace, stage.BAD)
            plan = await doer.plan(request)
            with pytest.raises(StepFailed, match=f"CrashLoopBackOff.*go back to {stage.OLD}"):
                await stage.finish(doer, request, plan)
            await stage.settle(doer, request, await doer.undo(request, plan, {}))
            await stage.pods(control_plane, namespace, 2)
    assert image_of(control_plane, namespace) == stage.OLD


async def test_a_rollout_past_its_deadline_fails(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The controller's own word, ProgressDeadlineExceeded, ends the step."""
    stage.workload(control_plane, namespace, "Deployment")
    with FakeKubelet(control_plane, namespace) as kubelet:
        await stage.pods(control_plane, namespace, 2)
        patch = {"spec": {"progressDeadlineSeconds": 1, "minReadySeconds": 0}}
        control_plane.must("PATCH", path_of(namespace), patch)
        kubelet.paused = True
        async with responder(control_plane, namespace, "redeploy") as made:
            with pytest.raises(StepFailed, match="ProgressDeadlineExceeded"):
                await stage.perform(made, asked(namespace))


async def test_somebody_elses_image_is_a_conflict(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Between plan and apply, and between apply and undo."""
    stage.workload(control_plane, namespace, "Deployment", replicas=0)

    def change(image: str) -> None:
        found = control_plane.must("GET", path_of(namespace))
        found["spec"]["template"]["spec"]["containers"][0]["image"] = image
        control_plane.must("PUT", path_of(namespace), found)

    async with responder(control_plane, namespace, "redeploy") as made:
        doer = stage.action(made, "redeploy")
        request = asked(namespace)
        plan = await doer.plan(request)
        change(stage.BAD)
        with pytest.raises(Conflict, match=f"expected .*{stage.OLD}, got .*{stage.BAD}"):
            await doer.apply(request, plan)
        plan, result = await stage.perform(made, request)
        change(stage.BAD)
        with pytest.raises(Conflict, match=stage.BAD):
            await doer.undo(request, plan, result)
    assert image_of(control_plane, namespace) == stage.BAD


async def test_a_resumed_apply_patches_once_and_the_plan_stays_the_same(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The generation moves by one, however often the step is applied."""
    stage.workload(control_plane, namespace, "Deployment", replicas=0)
    async with responder(control_plane, namespace, "redeploy") as made:
        doer = stage.action(made, "redeploy")
        request = asked(namespace)
        plan = await doer.plan(request)
        assert isinstance(await doer.apply(request, plan), Pending)
        first = control_plane.must("GET", path_of(namespace))["metadata"]["generation"]
        await doer.apply(request, plan)
        assert control_plane.must("GET", path_of(namespace))["metadata"]["generation"] == first
        assert (await doer.plan(request)).hash == plan.hash


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}}, "Argo CD"),
        ({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}}, "Flux"),
        ({"spec": {"paused": True}}, "paused"),
    ],
)
async def test_a_workload_that_would_not_keep_the_image_is_refused(
    control_plane: ControlPlane, namespace: str, patch: dict[str, Any], reason: str
) -> None:
    """GitOps would put the old image back; a paused rollout would never begin."""
    stage.workload(control_plane, namespace, "Deployment", replicas=0)
    control_plane.must("PATCH", path_of(namespace), patch)
    async with responder(control_plane, namespace, "redeploy") as made:
        with pytest.raises(StepFailed, match=reason):
            await stage.action(made, "redeploy").plan(asked(namespace))


@pytest.mark.parametrize("image", ["registry.test/shop/cart:1.2", "cart", "x@sha256:12"])
async def test_an_image_without_digest_is_refused(
    control_plane: ControlPlane, namespace: str, image: str
) -> None:
    """A tag may mean another image by the time it is pulled."""
    async with responder(control_plane, namespace, "redeploy") as made:
        with pytest.raises(StepFailed, match="not named by digest"):
            await stage.action(made, "redeploy").plan(asked(namespace, image))


async def test_a_rollout_that_would_delete_evidence_says_so(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The isolated pod of a StatefulSet belongs to it still."""
    stage.workload(control_plane, namespace, "StatefulSet", replicas=1)
    with FakeKubelet(control_plane, namespace):
        await stage.pods(control_plane, namespace, 1)
        async with responder(control_plane, namespace, "quarantine_pod", "redeploy") as made:
            await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/cart-0"))
            plan = await stage.action(made, "redeploy").plan(asked(namespace, kind="StatefulSet"))
    assert plan.residual == ("the rollout deletes the isolated pod cart-0 and what is in it",)


async def test_a_deleted_pod_is_waited_for_and_takes_its_policy_along(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Gone by UID; the garbage collector removes the policy after it."""
    stage.bare(control_plane, namespace, bound=True)
    with FakeKubelet(control_plane, namespace):
        await stage.pods(control_plane, namespace, 1, selector="app=solo")
        async with responder(control_plane, namespace, "quarantine_pod", "delete_pod") as made:
            isolating = stage.call("quarantine_pod", pod=f"{namespace}/solo")
            _, isolated = await stage.perform(made, isolating)
            request = stage.call("delete_pod", pod=f"{namespace}/solo")
            plan, result = await stage.perform(made, request)
            verdict = await stage.action(made, "delete_pod").verify(request, plan, result)
    assert verdict.level is VerdictLevel.ENFORCED
    assert stage.read(control_plane, f"/api/v1/namespaces/{namespace}/pods/solo")[0] == 404
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"

    async def collected() -> bool:
        _, answer = await control_plane.arequest("GET", f"{path}/{isolated['policy']}")
        return bool(answer.get("code") == 404)

    await eventually(collected, "the policy's end")


async def test_a_pod_that_is_not_isolated_is_deleted_only_by_force(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The plan refuses, and says how."""
    stage.bare(control_plane, namespace)
    place = f"{namespace}/solo"
    async with responder(control_plane, namespace, "delete_pod", used=FORCED) as made:
        with pytest.raises(StepFailed, match="not isolated"):
            await stage.perform(made, stage.call("delete_pod", pod=place))
        with FakeKubelet(control_plane, namespace):
            await stage.perform(made, stage.call("delete_pod", pod=place, force=True))
    assert stage.read(control_plane, f"/api/v1/namespaces/{namespace}/pods/solo")[0] == 404


async def test_deleting_never_hits_a_namesake(control_plane: ControlPlane, namespace: str) -> None:
    """The pod was replaced by one of the same name: ours is gone, the other one lives."""
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    async with responder(control_plane, namespace, "delete_pod", used=FORCED) as made:
        doer = stage.action(made, "delete_pod")
        request = stage.call("delete_pod", pod=f"{namespace}/solo", force=True)
        plan = await doer.plan(request)
        control_plane.must("DELETE", path, {"gracePeriodSeconds": 0})

        async def gone() -> bool:
            return (await control_plane.arequest("GET", path))[0] == 404

        await eventually(gone, "the first pod's end")
        stage.bare(control_plane, namespace)
        await stage.finish(doer, request, plan)
    assert stage.read(control_plane, path)[0] == 200
