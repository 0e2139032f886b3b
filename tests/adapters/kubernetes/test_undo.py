"""Undo and release: everything back byte for byte, or a refusal that shows the difference."""

from __future__ import annotations

from typing import Any

import pytest

from responder.errors import Conflict, StepFailed
from responder.model import VerdictLevel
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.accounts import responder
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet

pytestmark = pytest.mark.control_plane
LABEL = "responder.dev/quarantine"


def pod_path(namespace: str, name: str = "solo") -> str:
    """Where a pod lives."""
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def policy_path(namespace: str, name: str) -> str:
    """Where a NetworkPolicy lives."""
    return f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}"


@pytest.mark.parametrize("way", ["undo", "release"])
@pytest.mark.parametrize("labels", [True, False])
async def test_a_pod_comes_back_byte_for_byte(
    control_plane: ControlPlane, namespace: str, way: str, labels: bool
) -> None:
    """Labels and annotations as they were, also when there were none; the policy is gone."""
    stage.bare(control_plane, namespace)
    path = pod_path(namespace)
    if not labels:
        control_plane.must("PATCH", path, {"metadata": {"labels": {"app": None, "tier": None}}})
    before = stage.read(control_plane, path)[1]
    async with responder(control_plane, namespace, "quarantine_pod", "release_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", expires="4h")
        plan, result = await stage.perform(made, request)
        assert stage.plain(stage.read(control_plane, path)[1]) != stage.plain(before)
        if way == "undo":
            await stage.action(made, "quarantine_pod").undo(request, plan, result)
        else:
            freeing = stage.call("release_pod", key="run_2/free", pod=f"{namespace}/solo")
            second, freed = await stage.perform(made, freeing)
            verdict = await stage.action(made, "release_pod").verify(freeing, second, freed)
            assert verdict.level is VerdictLevel.APPLIED
    assert stage.plain(stage.read(control_plane, path)[1]) == stage.plain(before)
    assert stage.read(control_plane, policy_path(namespace, result["policy"]))[0] == 404


async def test_an_additive_quarantine_comes_back_byte_for_byte(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A StatefulSet's pod is released with its owner and all its labels."""
    stage.workload(control_plane, namespace, "StatefulSet", replicas=1)
    with FakeKubelet(control_plane, namespace):
        await stage.pods(control_plane, namespace, 1)
        path = pod_path(namespace, "cart-0")
        before = stage.read(control_plane, path)[1]
        async with responder(control_plane, namespace, "quarantine_pod", "release_pod") as made:
            await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/cart-0"))
            await stage.perform(made, stage.call("release_pod", pod=f"{namespace}/cart-0"))
    assert stage.plain(stage.read(control_plane, path)[1]) == stage.plain(before)


async def test_a_released_pod_is_taken_back_and_the_set_shrinks_to_its_size(
    control_plane: ControlPlane, namespace: str
) -> None:
    """What the plan says about the ReplicaSet is what happens."""
    stage.workload(control_plane, namespace, "Deployment")
    with FakeKubelet(control_plane, namespace):
        found = await stage.pods(control_plane, namespace, 2)
        name = found[0]["metadata"]["name"]
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}")
            plan, result = await stage.perform(made, request)
            await stage.pods(control_plane, namespace, 2)
            await stage.action(made, "quarantine_pod").undo(request, plan, result)
            await stage.pods(control_plane, namespace, 2)
    assert "one pod too many and deletes one" in plan.undo


HARM: list[tuple[str, dict[str, Any], str]] = [
    ("pod", {"metadata": {"labels": {"team": "red"}}}, r"\+team=red"),
    ("pod", {"metadata": {"labels": {LABEL: "mine"}}}, "expected inc-42-"),
    (
        "pod",
        {"metadata": {"annotations": {"responder.dev/original-labels": '{"a":"b"}'}}},
        "original-labels: expected",
    ),
    ("policy", {"spec": {"ingress": [{}]}}, r"\+ingress"),
]


@pytest.mark.parametrize(("what", "patch", "difference"), HARM)
async def test_undo_refuses_with_the_difference(
    control_plane: ControlPlane,
    namespace: str,
    what: str,
    patch: dict[str, Any],
    difference: str,
) -> None:
    """Somebody changed pod or policy since: nothing is touched, the text shows what."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        rule = policy_path(namespace, result["policy"])
        path = pod_path(namespace) if what == "pod" else rule
        control_plane.must("PATCH", path, patch)
        before = [stage.read(control_plane, place)[1] for place in (pod_path(namespace), rule)]
        with pytest.raises(Conflict, match=difference):
            await stage.action(made, "quarantine_pod").undo(request, plan, result)
        after = [stage.read(control_plane, place)[1] for place in (pod_path(namespace), rule)]
    assert after == before


async def test_undo_may_be_repeated_and_cleans_up_after_a_pod_that_is_gone(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Killed in the middle of an undo: the second one ends it."""
    stage.bare(control_plane, namespace)
    path = pod_path(namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        await doer.undo(request, plan, result)
        await doer.undo(request, plan, result)
        assert LABEL not in stage.read(control_plane, path)[1]["metadata"]["labels"]
        plan, result = await stage.perform(made, request)
        control_plane.must("DELETE", path, {"gracePeriodSeconds": 0})
        await doer.undo(request, plan, result)
    assert stage.read(control_plane, policy_path(namespace, result["policy"]))[0] == 404


async def test_only_our_own_quarantine_is_released(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A pod without our marks is refused."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "release_pod") as made:
        with pytest.raises(StepFailed, match="not isolated by us"):
            await stage.perform(made, stage.call("release_pod", pod=f"{namespace}/solo"))


async def test_a_released_pod_can_be_planned_after_a_change_only_with_the_difference(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Release looks at the same marks as undo."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod", "release_pod") as made:
        await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/solo"))
        patch = {"metadata": {"labels": {"team": "red"}}}
        control_plane.must("PATCH", pod_path(namespace), patch)
        with pytest.raises(Conflict, match=r"\+team=red"):
            await stage.perform(made, stage.call("release_pod", pod=f"{namespace}/solo"))


@pytest.mark.parametrize(
    ("text", "failure", "reason"),
    [
        ('{"app":"admin"}', Conflict, "is not what NetworkPolicy"),
        ("{", StepFailed, "cannot be read"),
        ("[1]", StepFailed, "cannot be read"),
        ('{"a":1}', StepFailed, "cannot be read"),
    ],
)
async def test_a_forged_memory_of_the_labels_is_not_believed(
    control_plane: ControlPlane,
    namespace: str,
    text: str,
    failure: type[Exception],
    reason: str,
) -> None:
    """Whoever may patch the pod cannot have us put other labels on it."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod", "release_pod") as made:
        await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/solo"))
        patch = {"metadata": {"annotations": {"responder.dev/original-labels": text}}}
        control_plane.must("PATCH", pod_path(namespace), patch)
        with pytest.raises(failure, match=reason):
            await stage.perform(made, stage.call("release_pod", pod=f"{namespace}/solo"))
