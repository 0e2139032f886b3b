"""Asked again long afterwards: it stands, it is over, somebody took it away, or nobody can tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Plan, Verdict, VerdictLevel
from responder.ports import Call, Integration
from tests.adapters.kubernetes import accounts, stage
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
LABEL = "responder.dev/quarantine"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
USED = ("quarantine_pod", "hold_pod", "release_pod", "lock_namespace")


@dataclass
class Scene:
    """A namespace with the pod `solo`, and the product in it."""

    plane: ControlPlane
    namespace: str
    made: Integration
    token: str

    @property
    def pod(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/solo"

    @property
    def policies(self) -> str:
        return f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies"

    def patch(self, labels: Mapping[str, Any] | None, annotations: Any = ()) -> None:
        """Somebody changes the pod's metadata."""
        gone = dict.fromkeys(annotations)
        body = {"metadata": {"labels": labels, "annotations": gone}}
        self.plane.must("PATCH", self.pod, body)

    async def done(self, name: str, **params: Any) -> tuple[Call, Plan, Mapping[str, Any]]:
        """One step, planned and applied."""
        given = params or {"pod": f"{self.namespace}/solo"}
        call = stage.call(name, key=f"run_1/{name}", **given)
        return call, *await stage.perform(self.made, call)

    async def again(self, step: tuple[Call, Plan, Mapping[str, Any]]) -> Verdict:
        """What its action says of it now."""
        doer: Any = stage.action(self.made, step[0].action.removeprefix("kubernetes."))
        found: Verdict = await doer.recheck(*step)
        return found


@pytest.fixture
async def scene(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Scene]:
    """A running pod, and an account with the declared rights alone."""
    async with staged(control_plane, namespace) as found:
        yield found


@asynccontextmanager
async def staged(
    plane: ControlPlane, namespace: str, home: str = "", token: str = ""
) -> AsyncIterator[Scene]:
    """The same, for tests that end the stage themselves, or bring an account of their own."""
    token = token or accounts.token(plane, namespace, *USED)
    with FakeKubelet(plane, namespace):
        stage.bare(plane, namespace, bound=True)
        await stage.pods(plane, namespace, 1, selector="app=solo")
        async with stage.product(plane, token, home=home or namespace) as made:
            yield Scene(plane, namespace, made, token)


async def test_an_isolation_that_stands_says_what_it_said_before(scene: Scene) -> None:
    """The same verdict, to the word: a look alone is never a change."""
    step = await scene.done("quarantine_pod")
    doer = stage.action(scene.made, "quarantine_pod")

    assert await scene.again(step) == await doer.verify(*step)


async def test_a_label_or_a_policy_that_was_taken_away_is_a_loss(scene: Scene) -> None:
    """One of the two alone is missing: somebody did that, no release does."""
    step = await scene.done("quarantine_pod")
    scene.patch({LABEL: None})
    with pytest.raises(StepFailed, match="lost its label"):
        await scene.again(step)

    scene.patch({LABEL: step[1].data["label"]})
    assert (await scene.again(step)).level is VerdictLevel.APPLIED
    scene.plane.must("DELETE", f"{scene.policies}/{step[1].data['policy']}")
    with pytest.raises(StepFailed, match="is gone"):
        await scene.again(step)


async def test_a_release_is_the_end_of_isolation_and_hold(scene: Scene) -> None:
    """Label, marks and policy are gone together: nothing is left to look at."""
    isolated, held = await scene.done("quarantine_pod"), await scene.done("hold_pod")
    assert (await scene.again(held)).level is VerdictLevel.ENFORCED
    await scene.done("release_pod")

    for step in (isolated, held):
        with pytest.raises(NotFound, match="was released"):
            await scene.again(step)


async def test_another_pod_of_the_name_is_the_end_too(scene: Scene) -> None:
    """Its successor is nobody's to isolate."""
    step = await scene.done("quarantine_pod")
    scene.plane.must("DELETE", scene.pod, {"gracePeriodSeconds": 0})

    async def gone() -> bool:
        return (await scene.plane.arequest("GET", scene.pod))[0] == 404

    await eventually(gone, "the end of the pod")
    with pytest.raises(NotFound, match="is gone"):
        await scene.again(step)
    stage.bare(scene.plane, scene.namespace)
    with pytest.raises(NotFound, match="is another one now"):
        await scene.again(step)


async def test_a_pod_that_ends_in_the_middle_of_a_later_look_is_over_and_not_open(
    scene: Scene,
) -> None:
    """Right after the change the same is what is left of it: said, and not counted as isolated."""
    call, plan, result = await scene.done("quarantine_pod")
    scene.plane.must("DELETE", f"{scene.pod}?gracePeriodSeconds=0")
    doer = stage.action(scene.made, "quarantine_pod")
    verdict = await doer.verify(call, plan, result)
    assert (verdict.level, verdict.residual) == (VerdictLevel.RESIDUAL, ("the pod is gone",))
    with pytest.raises(NotFound, match="nothing is left to hold"):
        await doer.verify(replace(call, recheck=True), plan, result)


async def test_rights_that_we_lost_are_no_loss_of_the_isolation(scene: Scene) -> None:
    """Who cannot look cannot tell: nothing is put back because of it."""
    step = await scene.done("quarantine_pod")
    bindings = f"{RBAC}/namespaces/{scene.namespace}/rolebindings"
    for one in scene.plane.must("GET", bindings)["items"]:
        scene.plane.must("DELETE", f"{bindings}/{one['metadata']['name']}")

    async def blind() -> bool:
        try:
            await scene.again(step)
        except StepRetry as error:
            return "HTTP 403" in str(error)
        return False

    await eventually(blind, "the rights to be gone")


async def test_a_lock_that_somebody_deleted_is_a_loss(scene: Scene) -> None:
    """The lock of a namespace is looked at like everything else."""
    step = await scene.done("lock_namespace", namespace=scene.namespace, expires="1h")
    assert (await scene.again(step)).level is VerdictLevel.APPLIED

    scene.plane.must("DELETE", f"{scene.policies}/{step[1].data['policy']}")
    with pytest.raises(StepFailed, match="the lock does not hold"):
        await scene.again(step)


async def test_a_held_pod_in_a_namespace_being_deleted_says_what_the_hold_keeps(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Pod, policy and budget stay; the alarm says so, and what ends it."""
    home = control_plane.namespace("home")
    # a namespace's end takes RoleBindings first, so only rights in the whole cluster last
    token = accounts.generated(control_plane, home, [], *USED)
    accounts.let_into(control_plane, home, "", token)
    async with staged(control_plane, namespace, home, token) as scene:
        isolated, held = await scene.done("quarantine_pod"), await scene.done("hold_pod")
        await stage.action(scene.made, "hold_pod").verify(*held)
        binding = f"{home}-responder-hold-{isolated[1].data['label']}-namespace"
        admission = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
        control_plane.must("DELETE", f"{admission}/{binding}")

        async def begun() -> bool:
            path = f"/api/v1/namespaces/{namespace}"
            return (await control_plane.arequest("DELETE", path))[0] < 300

        await eventually(begun, "the deletion of the namespace to be let in")
        verdict = await scene.again(isolated)

        assert verdict.level is VerdictLevel.RESIDUAL
        alarm = verdict.residual[0]
        assert alarm.startswith(f"ALARM: namespace {namespace} is being deleted: the hold")
        assert isolated[1].data["policy"] in alarm
        assert f"responder-hold-{isolated[1].data['label']}" in alarm
        assert "the deletion hangs" in alarm

        async def lifted() -> bool:
            try:
                await stage.action(scene.made, "hold_pod").undo(*held)
            except StepRetry:
                return False  # the API server has not read the end of the binding yet
            return True

        await eventually(lifted, "the end of the hold")
    accounts.forget(control_plane, home)
