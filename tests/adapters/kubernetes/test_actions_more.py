"""The further actions on a real API server: what they plan, do, prove and take back."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.kubernetes import INFOS
from responder.errors import Conflict, StepFailed, StepRetry
from responder.model import Effect, Target, VerdictLevel
from responder.ports import Pending
from tests.adapters.kubernetes import asking, stage
from tests.adapters.kubernetes.asking import responder
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane


# --------------------------------------------------------------------------- nodes


async def test_a_cordoned_node_takes_no_new_pod_keeps_its_own_and_has_no_taint(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Unschedulable and nothing else: a NoExecute taint would evict the evidence."""
    path = asking.spare_node(control_plane, f"node-{namespace}")
    before = stage.read(control_plane, path)[1]
    async with responder(control_plane, namespace, "cordon_node") as made:
        request = stage.call("cordon_node", node=f"node-{namespace}", expires="4h")
        doer = stage.action(made, "cordon_node")
        plan = await doer.plan(request)
        assert plan.blast.nodes == 1
        result = await stage.finish(doer, request, plan)
        await stage.finish(doer, request, plan)  # resumed
        assert (await doer.verify(request, plan, result)).level is VerdictLevel.ENFORCED
        node = stage.read(control_plane, path)[1]
        assert node["spec"]["unschedulable"] is True
        effects = {taint["effect"] for taint in node["spec"]["taints"]}
        assert effects == {"NoSchedule"}
        assert (await doer.plan(request)).changes == ()
        control_plane.must("PATCH", path, {"spec": {"unschedulable": False}})
        with pytest.raises(StepFailed, match="unschedulable: expected True, got False"):
            await doer.verify(request, plan, result)
        control_plane.must("PATCH", path, {"spec": {"unschedulable": True}})
        await doer.undo(request, plan, result)
        await doer.undo(request, plan, result)
    after = stage.read(control_plane, path)[1]
    assert after["spec"].get("unschedulable") is before["spec"].get("unschedulable")
    control_plane.must("DELETE", path)


async def test_a_node_of_the_same_name_is_not_touched(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Deleted and made again between plan and apply: a conflict, and nothing changed."""
    path = asking.spare_node(control_plane, f"node-{namespace}")
    async with responder(control_plane, namespace, "cordon_node") as made:
        request = stage.call("cordon_node", Target(node=f"node-{namespace}"))
        doer = stage.action(made, "cordon_node")
        plan = await doer.plan(request)
        control_plane.must("DELETE", path)
        asking.spare_node(control_plane, f"node-{namespace}")
        with pytest.raises(Conflict, match="is another one now"):
            await doer.apply(request, plan)
        with pytest.raises(StepFailed, match="is another one now"):
            await doer.verify(request, plan, {})
    assert not stage.read(control_plane, path)[1]["spec"].get("unschedulable")
    control_plane.must("DELETE", path)


# --------------------------------------------------------------------------- eviction


async def test_an_eviction_waits_for_its_budget_and_then_happens(
    control_plane: ControlPlane, namespace: str
) -> None:
    """429 means later; once the budget has room the pod goes and is proven gone."""
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "solo"}}}
    control_plane.must("POST", budgets, {"metadata": {"name": "keep"}, "spec": spec})
    with FakeKubelet(control_plane, namespace):
        stage.bare(control_plane, namespace, bound=True)
        await stage.pods(control_plane, namespace, 1, selector="app=solo")

        async def counted() -> bool:
            _, answer = await control_plane.arequest("GET", f"{budgets}/keep")
            return bool(answer["status"].get("expectedPods"))

        await eventually(counted, "the budget to count its pod")
        async with responder(control_plane, namespace, "evict_pod") as made:
            request = stage.call("evict_pod", pod=f"{namespace}/solo")
            doer = stage.action(made, "evict_pod")
            plan = await doer.plan(request)
            assert "PodDisruptionBudget keep allows no disruption" in plan.residual[0]
            assert plan.changes[0].effect is Effect.DESTROY
            with pytest.raises(StepRetry, match="429"):
                await doer.apply(request, plan)
            with pytest.raises(StepFailed, match="is still there"):
                await doer.verify(request, plan, {})
            control_plane.must("DELETE", f"{budgets}/keep")

            async def evicted() -> Any:
                try:
                    return await doer.apply(request, plan)
                except StepRetry:
                    return None

            state = await eventually(evicted, "the eviction to be let through")
            result = await stage.settle(doer, request, state)
            assert (await doer.verify(request, plan, result)).level is VerdictLevel.ENFORCED
            assert not isinstance(await doer.apply(request, plan), Pending)  # resumed
            with pytest.raises(StepFailed, match="cannot be undone"):
                await doer.undo(request, plan, result)


async def test_a_pod_of_the_same_name_is_not_evicted(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The UID is a precondition."""
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    async with responder(control_plane, namespace, "evict_pod") as made:
        request = stage.call("evict_pod", pod=f"{namespace}/solo")
        doer = stage.action(made, "evict_pod")
        plan = await doer.plan(request)
        control_plane.must("DELETE", path, {"gracePeriodSeconds": 0})
        twin = stage.bare(control_plane, namespace)
        await stage.finish(doer, request, plan)
    assert stage.read(control_plane, path)[1]["metadata"]["uid"] == twin["metadata"]["uid"]


# --------------------------------------------------------------------------- workloads


async def test_a_workload_is_scaled_and_comes_back_and_the_plan_counts_what_is_lost(
    control_plane: ControlPlane, namespace: str
) -> None:
    """To nothing and back to two; a HorizontalPodAutoscaler is named."""
    stage.workload(control_plane, namespace, "Deployment")
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}
    spec = {"scaleTargetRef": ref, "minReplicas": 1, "maxReplicas": 3}
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    control_plane.must("POST", path, {"metadata": {"name": "cart"}, "spec": spec})
    target = Target(namespace=namespace, workload="Deployment/cart")
    with FakeKubelet(control_plane, namespace):
        await stage.pods(control_plane, namespace, 2)
        async with responder(control_plane, namespace, "scale_workload") as made:
            request = stage.call("scale_workload", target, replicas=0)
            doer = stage.action(made, "scale_workload")
            plan = await doer.plan(request)
            assert (plan.blast.pods, plan.blast.ready_share, plan.blast.last_ready) == (
                2,
                1.0,
                True,
            )
            assert plan.changes[0].effect is Effect.DESTROY
            assert "HorizontalPodAutoscaler cart may change the number back" in plan.residual
            assert any("2 pods are deleted" in text for text in plan.residual)
            result = await stage.finish(doer, request, plan)
            assert result == {"workload": "Deployment/cart", "replicas": 0, "former": 2}
            assert (await doer.verify(request, plan, result)).level is VerdictLevel.ENFORCED
            await doer.undo(request, plan, result)
            await stage.pods(control_plane, namespace, 2)
            with pytest.raises(StepFailed, match="replicas: expected 0, got 2"):
                await doer.verify(request, plan, result)


async def test_scaling_refuses_what_others_scale_and_numbers_that_are_none(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A Deployment's ReplicaSet, a negative number, a kind that has no number."""
    stage.workload(control_plane, namespace, "Deployment", replicas=0)
    sets = f"/apis/apps/v1/namespaces/{namespace}/replicasets"

    async def made_set() -> Any:
        _, answer = await control_plane.arequest("GET", sets)
        return answer["items"]

    found = await eventually(made_set, "the Deployment's ReplicaSet")
    name = found[0]["metadata"]["name"]
    async with responder(control_plane, namespace, "scale_workload") as made:
        doer = stage.action(made, "scale_workload")

        async def plan(workload: str, replicas: object) -> None:
            target = Target(namespace=namespace, workload=workload)
            await doer.plan(stage.call("scale_workload", target, replicas=replicas))

        with pytest.raises(StepFailed, match="is scaled by Deployment/cart"):
            await plan(f"ReplicaSet/{name}", 1)
        for wrong in (-1, True, "2", 10_001):
            with pytest.raises(StepFailed, match="replicas: expected"):
                await plan("Deployment/cart", wrong)
        with pytest.raises(StepFailed, match="expected one of"):
            await plan("DaemonSet/cart", 1)


async def test_scaling_back_refuses_with_the_difference(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Somebody has scaled it since: their number stays."""
    stage.workload(control_plane, namespace, "Deployment", replicas=0)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/cart"
    target = Target(namespace=namespace, workload="Deployment/cart")
    async with responder(control_plane, namespace, "scale_workload") as made:
        request = stage.call("scale_workload", target, replicas=1)
        doer = stage.action(made, "scale_workload")
        plan = await doer.plan(request)
        control_plane.must("PATCH", path, {"spec": {"replicas": 4}})
        with pytest.raises(Conflict, match="replicas: expected 0, got 4"):
            await doer.apply(request, plan)
        control_plane.must("PATCH", path, {"spec": {"replicas": 0}})
        result = await stage.finish(doer, request, plan)
        control_plane.must("PATCH", path, {"spec": {"replicas": 5}})
        with pytest.raises(Conflict, match="replicas: expected 1, got 5"):
            await doer.undo(request, plan, result)
    assert stage.read(control_plane, path)[1]["spec"]["replicas"] == 5


async def test_suspending_a_job_says_that_it_deletes_its_pods_and_it_does(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The warning is in the plan, the pods are gone, the undo brings a new one."""
    stage.workload(control_plane, namespace, "Job")
    job = f"/apis/batch/v1/namespaces/{namespace}/jobs/cart"
    target = Target(namespace=namespace, workload="Job/cart")
    with FakeKubelet(control_plane, namespace):
        first = (await stage.pods(control_plane, namespace, 1))[0]["metadata"]["uid"]

        async def active() -> bool:
            return bool((await control_plane.arequest("GET", job))[1]["status"].get("active"))

        await eventually(active, "the job to count its pod")
        async with responder(control_plane, namespace, "suspend_job") as made:
            request = stage.call("suspend_job", target)
            doer = stage.action(made, "suspend_job")
            plan = await doer.plan(request)
            assert plan.residual[0].startswith("suspending DELETES its 1 running pods")
            assert plan.changes[0].effect is Effect.DESTROY
            assert plan.blast.pods == 1
            result = await stage.finish(doer, request, plan)
            pods = f"/api/v1/namespaces/{namespace}/pods"

            async def gone() -> bool:
                return not (await control_plane.arequest("GET", pods))[1]["items"]

            await eventually(gone, "the deletion of the job's pods")

            async def proven() -> bool:
                verdict = await doer.verify(request, plan, result)
                return verdict.level is VerdictLevel.ENFORCED

            await eventually(proven, "the job to have no pod")
            await doer.undo(request, plan, result)
            found = await stage.pods(control_plane, namespace, 1)
            assert found[0]["metadata"]["uid"] != first
            with pytest.raises(StepFailed, match="suspend: expected True, got False"):
                await doer.verify(request, plan, result)


async def test_a_suspended_cron_job_deletes_nothing(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Suspend, prove, take back; one that somebody suspended before is left to them."""
    stage.cron_job(control_plane, namespace)
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs/report"
    target = Target(namespace=namespace, workload="CronJob/report")
    async with responder(control_plane, namespace, "suspend_job") as made:
        request = stage.call("suspend_job", target)
        doer = stage.action(made, "suspend_job")
        plan, result = await stage.perform(made, request)
        assert plan.changes[0].effect is Effect.CHANGE
        assert (await doer.verify(request, plan, result)).level is VerdictLevel.ENFORCED
        again = await doer.plan(request)
        assert again.changes == ()
        await doer.undo(request, again, result)
        assert stage.read(control_plane, path)[1]["spec"]["suspend"] is True
        await doer.undo(request, plan, result)
    assert stage.read(control_plane, path)[1]["spec"]["suspend"] is False


# --------------------------------------------------------------------------- namespaces


async def test_a_locked_namespace_denies_all_names_what_stays_open_and_reverts(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The policy selects every pod; a foreign allow rule is residual before and after."""
    info = next(info for info in INFOS if asking.short(info) == "lock_namespace")
    assert (info.on_expiry, info.always_asks) == ("revert", True)
    with FakeKubelet(control_plane, namespace):
        stage.bare(control_plane, namespace, bound=True)
        await stage.pods(control_plane, namespace, 1, selector="app=solo")
        async with responder(control_plane, namespace, "lock_namespace") as made:
            request = stage.call("lock_namespace", Target(namespace=namespace), expires="1h")
            doer = stage.action(made, "lock_namespace")
            plan, result = await stage.perform(made, request)
            assert plan.blast.pods == 1
            assert plan.params["on expiry"].startswith("reverts")
            assert plan.params["approval"] == "a person always says yes first"
            verdict = await doer.verify(request, plan, result)
            assert verdict.level is VerdictLevel.APPLIED
            policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
            spec = stage.read(control_plane, f"{policies}/{result['policy']}")[1]["spec"]
            assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
            stage.policy(control_plane, namespace, "open", {"podSelector": {}, "ingress": [{}]})
            verdict = await doer.verify(request, plan, result)
            assert verdict.level is VerdictLevel.RESIDUAL
            assert verdict.residual[0] == "NetworkPolicy open still allows ingress"
            assert (await doer.plan(request)).residual[0] == verdict.residual[0]
            await doer.apply(request, plan)  # resumed
            path = f"{policies}/{result['policy']}"
            control_plane.must("PATCH", path, {"spec": {"policyTypes": ["Ingress"]}})
            with pytest.raises(StepFailed, match="was changed: the lock does not hold"):
                await doer.verify(request, plan, result)
            with pytest.raises(Conflict, match="was changed since"):
                await doer.undo(request, plan, result)
            both = {"spec": {"policyTypes": ["Ingress", "Egress"]}}
            control_plane.must("PATCH", path, both)
            await doer.undo(request, plan, result)
            await doer.undo(request, plan, result)
            assert stage.read(control_plane, path)[0] == 404
            with pytest.raises(StepFailed, match="is gone: the lock does not hold"):
                await doer.verify(request, plan, result)


# --------------------------------------------------------------------------- marks


@pytest.mark.parametrize("verb", ["label", "annotate"])
async def test_marks_are_set_changed_taken_away_and_put_back(
    control_plane: ControlPlane, namespace: str, verb: str
) -> None:
    """A new key, a changed one and one that goes; everything else stays as it is."""
    field = {"label": "labels", "annotate": "annotations"}[verb]
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    control_plane.must("PATCH", path, {"metadata": {field: {"old": "1", "going": "x"}}})
    before = stage.read(control_plane, path)[1]
    async with responder(control_plane, namespace, verb) as made:
        params: dict[str, Any] = {field: {"new": "a", "old": "2", "going": ""}}
        request = stage.call(verb, pod=f"{namespace}/solo", **params)
        doer = stage.action(made, verb)
        plan, result = await stage.perform(made, request)
        assert (await doer.verify(request, plan, result)).level is VerdictLevel.ENFORCED
        found = stage.read(control_plane, path)[1]["metadata"][field]
        assert (found["new"], found["old"], "going" in found) == ("a", "2", False)
        control_plane.must("PATCH", path, {"metadata": {field: {"old": "3"}}})
        with pytest.raises(StepFailed, match="old: expected 2, got 3"):
            await doer.verify(request, plan, result)
        with pytest.raises(Conflict, match="old: expected 2, got 3"):
            await doer.undo(request, plan, result)
        control_plane.must("PATCH", path, {"metadata": {field: {"old": "2"}}})
        await doer.undo(request, plan, result)
    assert stage.plain(stage.read(control_plane, path)[1]) == stage.plain(before)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"responder.dev/quarantine": "x"}, "tell of quarantines"),
        ({"a b": "x"}, "cannot be a key"),
        ({"a": "x y"}, "cannot be a key"),
        ({"a": "x" * 64}, "cannot be a key"),
        ({}, "at least one key"),
        ("a=b", "at least one key"),
    ],
)
async def test_our_own_marks_and_what_is_no_label_are_refused(
    control_plane: ControlPlane, namespace: str, labels: object, reason: str
) -> None:
    """Nobody opens a quarantine by labelling."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "label") as made:
        request = stage.call("label", pod=f"{namespace}/solo", labels=labels)
        with pytest.raises(StepFailed, match=reason):
            await stage.action(made, "label").plan(request)
