"""Isolating a pod on a real API server, by owner kind, with what others do meanwhile."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Plan, Target, VerdictLevel
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.accounts import responder
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
LABEL = "responder.dev/quarantine"


def pod_at(plane: ControlPlane, namespace: str, name: str) -> dict[str, Any]:
    """The pod as it is."""
    found: dict[str, Any] = plane.must("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
    return found


def policies(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    """All NetworkPolicies of a namespace."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    return list(plane.must("GET", path)["items"])


async def test_a_deployments_pod_is_cut_off_and_replaced(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Policy for its own label, all other labels gone, owner released, a replacement Ready."""
    stage.workload(control_plane, namespace, "Deployment")
    with FakeKubelet(control_plane, namespace):
        found = await stage.pods(control_plane, namespace, 2)
        name = found[0]["metadata"]["name"]
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}", expires="4h")
            plan, result = await stage.perform(made, request)
            again = await stage.pods(control_plane, namespace, 2)
            verdict = await stage.action(made, "quarantine_pod").verify(request, plan, result)
    pod = pod_at(control_plane, namespace, name)
    uid = pod["metadata"]["uid"]
    assert pod["metadata"]["labels"] == {LABEL: f"inc-42-{uid[:8]}"}
    assert not pod["metadata"].get("ownerReferences")
    assert name not in [item["metadata"]["name"] for item in again]
    [policy] = policies(control_plane, namespace)
    assert policy["spec"] == {
        "podSelector": {"matchLabels": {LABEL: f"inc-42-{uid[:8]}"}},
        "policyTypes": ["Ingress", "Egress"],
    }
    assert result["replacement"] == "Deployment/cart"
    assert verdict.checks["replacement"].endswith("of 2 ready")
    assert result["uid"] == uid
    assert verdict.level is VerdictLevel.APPLIED
    assert plan.blast.ready_share == 0.5
    assert any("open connections may live on" in text for text in verdict.residual)


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_a_pod_whose_name_or_node_is_fixed_keeps_its_labels(
    control_plane: ControlPlane, namespace: str, kind: str
) -> None:
    """Stripping would wedge a StatefulSet and double a DaemonSet: only our label is added."""
    stage.workload(control_plane, namespace, kind, replicas=1)
    with FakeKubelet(control_plane, namespace):
        [before] = await stage.pods(control_plane, namespace, 1)
        name = before["metadata"]["name"]
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}")
            plan, _ = await stage.perform(made, request)
    labels = pod_at(control_plane, namespace, name)["metadata"]["labels"]
    assert labels == {**before["metadata"]["labels"], LABEL: labels[LABEL]}
    assert any(f"{kind}/cart" in text for text in plan.residual)
    assert plan.blast.last_ready


async def test_a_jobs_pod_is_cut_off_and_the_rerun_is_announced(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The Job starts another try; the plan says so before."""
    stage.workload(control_plane, namespace, "Job")
    with FakeKubelet(control_plane, namespace):
        [before] = await stage.pods(control_plane, namespace, 1)
        name = before["metadata"]["name"]
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}")
            plan, _ = await stage.perform(made, request)
        await stage.pods(control_plane, namespace, 1)
    assert "Job/cart counts the pod as lost and runs its work again" in plan.residual
    assert list(pod_at(control_plane, namespace, name)["metadata"]["labels"]) == [LABEL]


@pytest.mark.parametrize(
    ("spec", "annotations", "reason"),
    [
        ({"hostNetwork": True}, {}, "node's network"),
        ({}, {"kubernetes.io/config.mirror": "x"}, "static pod"),
    ],
)
async def test_a_pod_that_no_policy_can_hold_is_refused(
    control_plane: ControlPlane,
    namespace: str,
    spec: dict[str, Any],
    annotations: dict[str, str],
    reason: str,
) -> None:
    """The refusal names the reason, and nothing was made."""
    body = stage.template(app="solo")
    body["metadata"] |= {"name": "solo", "annotations": annotations}
    body["spec"] |= spec | ({"nodeName": "bench-node"} if annotations else {})
    path = f"/api/v1/namespaces/{namespace}/pods"
    status, answer = control_plane.request("POST", path, body)
    if status == 403 and annotations:  # NodeRestriction is for nodes only; an admin may
        pytest.fail(str(answer))
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        with pytest.raises(StepFailed, match=reason):
            await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/solo"))
    assert policies(control_plane, namespace) == []


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"podSelector": {}, "ingress": [{}]}, "still allows ingress"),
        (
            {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
            "still allows egress",
        ),
        (
            {
                "podSelector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
                "ingress": [{}],
            },
            "still allows ingress",
        ),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]
                },
                "ingress": [{}],
            },
            "still allows ingress",
        ),
    ],
)
async def test_what_still_allows_traffic_is_named_before_and_after(
    control_plane: ControlPlane, namespace: str, spec: dict[str, Any], line: str
) -> None:
    """A policy that selects the pod (or begins to, once its labels are gone) is residual."""
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", spec)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        verdict = await stage.action(made, "quarantine_pod").verify(request, plan, result)
    assert plan.residual[0] == f"NetworkPolicy others {line}"
    assert verdict.level is VerdictLevel.RESIDUAL
    assert verdict.residual[0] == f"NetworkPolicy others {line}"


async def test_a_policy_made_after_the_plan_shows_in_the_verdict(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The proof lists the policies afresh."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        stage.policy(control_plane, namespace, "late", {"podSelector": {}, "ingress": [{}]})
        verdict = await stage.action(made, "quarantine_pod").verify(request, plan, result)
    assert verdict.level is VerdictLevel.RESIDUAL
    assert "NetworkPolicy late still allows ingress" in verdict.residual


@pytest.mark.parametrize("harm", ["label", "policy", "rule"])
async def test_verifying_fails_when_somebody_opened_the_quarantine(
    control_plane: ControlPlane, namespace: str, harm: str
) -> None:
    """Label taken off, policy deleted, policy weakened: none of them passes for isolated."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        pod = f"/api/v1/namespaces/{namespace}/pods/solo"
        rule = (
            f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{result['policy']}"
        )
        if harm == "label":
            control_plane.must("PATCH", pod, {"metadata": {"labels": {LABEL: None}}})
        elif harm == "policy":
            control_plane.must("DELETE", rule)
        else:
            control_plane.must("PATCH", rule, {"spec": {"egress": [{}]}})
        with pytest.raises(StepFailed, match=r"not isolated|was changed"):
            await stage.action(made, "quarantine_pod").verify(request, plan, result)


async def test_a_recycled_name_is_not_touched(control_plane: ControlPlane, namespace: str) -> None:
    """The alert's UID belongs to a pod that is gone; its namesake is left alone."""
    stage.bare(control_plane, namespace)
    old = Target(namespace=namespace, pod="solo", pod_uid="00000000-0000-0000-0000-000000000000")
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        with pytest.raises(StepFailed, match="another one now"):
            await stage.perform(made, stage.call("quarantine_pod", old, pod="solo"))
    assert policies(control_plane, namespace) == []


async def test_a_pod_recreated_between_plan_and_apply_is_a_conflict(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Same name, other UID: the patch finds no pod to change."""
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan = await doer.plan(request)
        control_plane.must("DELETE", path, {"gracePeriodSeconds": 0})

        async def gone() -> bool:
            return stage.read(control_plane, path)[0] == 404

        await eventually(gone, "the first pod's end")
        stage.bare(control_plane, namespace)
        with pytest.raises(Conflict, match=r"another pod|UID"):
            await doer.apply(request, plan)
    assert LABEL not in pod_at(control_plane, namespace, "solo")["metadata"]["labels"]


async def test_a_foreign_label_between_plan_and_apply_asks_for_a_new_plan(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Conflict names the label; planning again sees it and works, with another hash."""
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan = await doer.plan(request)
        control_plane.must("PATCH", path, {"metadata": {"labels": {"team": "red"}}})
        with pytest.raises(Conflict, match=r"\+team=red"):
            await doer.apply(request, plan)
        second = await doer.plan(request)
        await stage.finish(doer, request, second)
    assert second.hash != plan.hash
    assert list(pod_at(control_plane, namespace, "solo")["metadata"]["labels"]) == [LABEL]


async def test_noise_between_plan_and_apply_is_no_conflict_and_keeps_the_hash(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A status update moves the resourceVersion and means nothing."""
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan = await doer.plan(request)
        control_plane.must("PATCH", f"{path}/status", {"status": {"message": "noise"}})
        assert (await doer.plan(request)).hash == plan.hash
        await stage.finish(doer, request, plan)
    assert LABEL in pod_at(control_plane, namespace, "solo")["metadata"]["labels"]


@pytest.mark.parametrize("done", ["nothing", "policy", "both"])
async def test_a_resumed_apply_ends_the_same_whatever_had_happened(
    control_plane: ControlPlane, namespace: str, done: str
) -> None:
    """Killed before, between or after the two writes: one policy, one label, the same plan."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan = await doer.plan(request)
        if done == "policy":
            body = plan.changes[0].after
            path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
            control_plane.must("POST", path, body)
        elif done == "both":
            await stage.finish(doer, request, plan)
        stored = Plan.from_json(plan.to_json())
        await stage.finish(doer, request, stored)
        assert (await doer.plan(request)).hash == plan.hash
    assert len(policies(control_plane, namespace)) == 1


async def test_a_second_step_leaves_an_isolated_pod_as_it_is(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Another run's plan has no changes and its undo takes nothing away."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/solo"))
        request = stage.call("quarantine_pod", key="run_2/step", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        await stage.action(made, "quarantine_pod").undo(request, plan, result)
    assert plan.changes == ()
    assert "already isolated" in plan.summary
    assert len(policies(control_plane, namespace)) == 1


async def test_of_two_incidents_the_second_leaves_nothing_behind(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Both planned before either applied: one policy, one label, and the other plans anew."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        first = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        second = dataclasses.replace(first, incident=43, key="run_2/step")
        plans = [await doer.plan(first), await doer.plan(second)]
        await stage.finish(doer, first, plans[0])
        with pytest.raises(Conflict, match="another incident has begun to isolate this pod"):
            await doer.apply(second, plans[1])
        assert (await doer.plan(second)).changes == ()
        [left] = policies(control_plane, namespace)
        assert left["metadata"]["name"] == plans[0].data["policy"]
        verdict = await doer.verify(first, plans[0], {})
    assert verdict.level is VerdictLevel.APPLIED


async def test_a_conflict_never_opens_a_pod_that_is_isolated(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Resumed after somebody added a label to the isolated pod: the policy stays."""
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan = await doer.plan(request)
        await stage.finish(doer, request, plan)
        control_plane.must("PATCH", path, {"metadata": {"labels": {"team": "red"}}})
        with pytest.raises(Conflict):
            await doer.apply(request, plan)
        verdict = await doer.verify(request, plan, {})
    assert verdict.level is VerdictLevel.APPLIED


async def test_a_pod_that_is_gone_is_not_found(control_plane: ControlPlane, namespace: str) -> None:
    """The failure class says what happened."""
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        with pytest.raises(NotFound):
            await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/nobody"))


async def test_lost_endpoints_and_crossed_budgets_are_counted(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The only ready pod of a Service, under a budget without room."""
    base = f"/namespaces/{namespace}"
    selector = {"app": "cart"}
    control_plane.must(
        "POST",
        f"/api/v1{base}/services",
        {"metadata": {"name": "shop"}, "spec": {"selector": selector, "ports": [{"port": 80}]}},
    )
    control_plane.must(
        "POST",
        f"/apis/policy/v1{base}/poddisruptionbudgets",
        {
            "metadata": {"name": "keep"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": selector}},
        },
    )
    stage.workload(control_plane, namespace, "Deployment", replicas=1)
    with FakeKubelet(control_plane, namespace):
        [pod] = await stage.pods(control_plane, namespace, 1)
        name = pod["metadata"]["name"]
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            doer = stage.action(made, "quarantine_pod")
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}")

            async def counted() -> Plan | None:
                plan = await doer.plan(request)
                return plan if plan.blast.last_ready else None

            plan = await eventually(counted, "the owner to count its pod")
    assert plan
    assert plan.blast.services_without_endpoints == (f"{namespace}/shop",)
    assert plan.blast.budgets_crossed == (f"{namespace}/keep",)
    assert plan.blast.workloads == (f"{namespace}/Deployment/cart",)
