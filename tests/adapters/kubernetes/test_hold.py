"""A held pod stays: eviction, deletion, a lost label, a lost namespace are all refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from responder.errors import Conflict, StepFailed
from responder.model import Plan, VerdictLevel
from responder.ports import Integration
from tests.adapters.kubernetes import accounts, stage
from tests.real.cluster import ControlPlane
from tests.real.kubelet import NODE, FakeKubelet
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
LABEL = "responder.dev/quarantine"
ACTIONS = ("quarantine_pod", "hold_pod", "release_pod", "delete_pod")
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


def paths(namespace: str, value: str, home: str) -> dict[str, str]:
    """Where everything of one quarantine and its hold lives."""
    policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    bindings = f"{ADMISSION}/validatingadmissionpolicybindings"
    return {
        "pod": f"/api/v1/namespaces/{namespace}/pods/solo",
        "policy": f"{policies}/responder-quarantine-{value.rpartition('-')[2]}",
        "budget": f"{budgets}/responder-hold-{value}",
        "binding": f"{bindings}/{home}-responder-hold-{value}",
        "namespace binding": f"{bindings}/{home}-responder-hold-{value}-namespace",
    }


async def held(
    plane: ControlPlane, namespace: str, made: Integration, home: str = ""
) -> tuple[dict[str, str], Plan, Mapping[str, Any]]:
    """An isolated pod that is held, and proven to be."""
    pod = f"{namespace}/solo"
    isolated, _ = await stage.perform(made, stage.call("quarantine_pod", pod=pod))
    request = stage.call("hold_pod", key="run_1/hold", pod=pod)
    plan, result = await stage.perform(made, request)
    verdict = await stage.action(made, "hold_pod").verify(request, plan, result)
    assert verdict.level is VerdictLevel.ENFORCED, verdict
    return paths(namespace, isolated.data["label"], home or namespace), plan, result


async def running(plane: ControlPlane, namespace: str) -> None:
    """A bare pod that is Ready."""
    stage.bare(plane, namespace, bound=True)
    await stage.pods(plane, namespace, 1, selector="app=solo")


def evict(plane: ControlPlane, namespace: str) -> tuple[int, Any]:
    """Ask for the eviction of the pod, as an administrator."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "solo"}}
    return plane.request("POST", f"/api/v1/namespaces/{namespace}/pods/solo/eviction", body)


async def test_eviction_deletion_label_and_namespace_are_refused_until_the_release(
    control_plane: ControlPlane, namespace: str
) -> None:
    """All doors, tried by a cluster administrator; release_pod opens every one."""
    with FakeKubelet(control_plane, namespace):
        await running(control_plane, namespace)
        before = stage.read(control_plane, f"/api/v1/namespaces/{namespace}/pods/solo")[1]
        async with stage.product(
            control_plane, _account(control_plane, namespace), home=namespace
        ) as made:
            where, _, _ = await held(control_plane, namespace, made)

            assert evict(control_plane, namespace)[0] == 429
            for what in ("pod", "policy", "budget"):
                status, answer = control_plane.request("DELETE", where[what])
                assert (status, "held as evidence" in answer["message"]) == (422, True), what
            force = {"gracePeriodSeconds": 0}
            assert control_plane.request("DELETE", where["pod"], force)[0] == 422
            pods = f"/api/v1/namespaces/{namespace}/pods"
            assert control_plane.request("DELETE", pods)[0] == 422
            status, answer = control_plane.request("DELETE", f"/api/v1/namespaces/{namespace}")
            assert (status, "held as evidence" in answer["message"]) == (422, True)

            freeing = stage.call("release_pod", key="run_2/free", pod=f"{namespace}/solo")
            plan, freed = await stage.perform(made, freeing)
            verdict = await stage.action(made, "release_pod").verify(freeing, plan, freed)
        assert verdict.level is VerdictLevel.APPLIED
        for what in ("policy", "budget", "binding", "namespace binding"):
            assert stage.read(control_plane, where[what])[0] == 404, what
        after = stage.read(control_plane, where["pod"])[1]
        assert stage.plain(after) == stage.plain(before)

        async def freed_now() -> bool:
            path = f"{where['pod']}?dryRun=All"
            return (await control_plane.arequest("DELETE", path))[0] == 200

        await eventually(freed_now, "the end of the lock on deletion")
        assert evict(control_plane, namespace)[0] == 201


@pytest.mark.parametrize(
    ("what", "sub", "patch"),
    [
        ("pod", "", {"metadata": {"labels": {LABEL: None}}}),
        ("pod", "", {"metadata": {"labels": {LABEL: "another"}}}),
        ("pod", "", {"metadata": {"labels": None}}),
        ("pod", "/status", {"metadata": {"labels": {LABEL: None}}}),
        ("policy", "", {"metadata": {"labels": {LABEL: None}}}),
        ("policy", "", {"spec": {"ingress": [{}]}}),
        ("policy", "", {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}),
        ("policy", "", {"spec": {"policyTypes": ["Ingress"]}}),
        ("budget", "", {"metadata": {"labels": {LABEL: None}}}),
        ("budget", "", {"spec": {"minAvailable": 0}}),
        ("budget", "/status", {"metadata": {"labels": {LABEL: None}}}),
    ],
    ids=str,
)
async def test_neither_the_label_nor_the_held_policies_can_be_changed(
    control_plane: ControlPlane, namespace: str, what: str, sub: str, patch: dict[str, Any]
) -> None:
    """Refused with 422 for an administrator; what is harmless passes."""
    with FakeKubelet(control_plane, namespace):
        await running(control_plane, namespace)
        async with stage.product(
            control_plane, _account(control_plane, namespace), home=namespace
        ) as made:
            where, _, _ = await held(control_plane, namespace, made)
        status, answer = control_plane.request("PATCH", where[what] + sub, patch)
        assert status == 422, answer
        assert f"{namespace}-holds" in answer["message"]
        harmless = {"metadata": {"labels": {"team": "red"}, "annotations": {"note": "seen"}}}
        control_plane.must("PATCH", where[what] + sub, harmless)


async def test_a_namespace_that_is_deleted_anyway_keeps_pod_policy_and_budget(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Somebody takes the namespace's own lock away first: the quarantine still does not open."""
    path = f"/api/v1/namespaces/{namespace}"
    with FakeKubelet(control_plane, namespace):
        await running(control_plane, namespace)
        home = control_plane.namespace("home")
        # a namespace's end takes RoleBindings first, so only rights in the whole cluster last
        token = accounts.generated(control_plane, home, [], *ACTIONS)
        accounts.let_into(control_plane, home, "", token)
        async with stage.product(control_plane, token, home=home) as made:
            where, plan, result = await held(control_plane, namespace, made, home)
            control_plane.must("DELETE", where["namespace binding"])

            async def going() -> bool:
                await control_plane.arequest("DELETE", path)
                _, answer = await control_plane.arequest("GET", path)
                told = {c["type"]: c for c in answer["status"].get("conditions") or []}
                failure = told.get("NamespaceDeletionContentFailure", {})
                return "held as evidence" in failure.get("message", "")

            await eventually(going, "the namespace controller to run into the hold", seconds=30)
            for what in ("pod", "policy", "budget"):
                status, answer = stage.read(control_plane, where[what])
                assert status == 200, what
                assert "deletionTimestamp" not in answer["metadata"], what

            request = stage.call("hold_pod", key="run_1/hold", pod=f"{namespace}/solo")
            with pytest.raises(StepFailed, match="-namespace is gone: the pod is not held"):
                await stage.action(made, "hold_pod").verify(request, plan, result)
            with pytest.raises(StepFailed, match="is being deleted"):
                await stage.action(made, "hold_pod").plan(request)
            await stage.action(made, "hold_pod").undo(request, plan, result)

        async def gone() -> bool:
            return (await control_plane.arequest("GET", path))[0] == 404

        await eventually(gone, "the end of the namespace once the hold is lifted", seconds=60)
    accounts.forget(control_plane, home)


async def test_undo_lifts_the_hold_and_leaves_the_quarantine(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Also when it is done twice, and when the pod had the autoscalers' annotations before."""
    key = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    with FakeKubelet(control_plane, namespace):
        await running(control_plane, namespace)
        pod = f"/api/v1/namespaces/{namespace}/pods/solo"
        control_plane.must("PATCH", pod, {"metadata": {"annotations": {key: "true"}}})
        token = _account(control_plane, namespace)
        async with stage.product(control_plane, token, home=namespace) as made:
            where, plan, result = await held(control_plane, namespace, made)
            assert stage.read(control_plane, pod)[1]["metadata"]["annotations"][key] == "false"
            request = stage.call("hold_pod", key="run_1/hold", pod=f"{namespace}/solo")
            doer = stage.action(made, "hold_pod")
            assert (await doer.plan(request)).hash == plan.hash
            await stage.finish(doer, request, plan)  # resumed: everything is there already
            other = stage.call("hold_pod", key="run_2/hold", pod=f"{namespace}/solo")
            assert (await doer.plan(other)).changes == ()
            with pytest.raises(StepFailed, match="held as evidence: undo the step"):
                await stage.perform(made, stage.call("delete_pod", pod=f"{namespace}/solo"))
            await doer.undo(request, plan, result)
            await doer.undo(request, plan, result)
        for what in ("budget", "binding", "namespace binding"):
            assert stage.read(control_plane, where[what])[0] == 404, what
        assert stage.read(control_plane, where["policy"])[0] == 200
        metadata = stage.read(control_plane, pod)[1]["metadata"]
        assert metadata["annotations"][key] == "true"
        assert "responder.dev/hold" not in metadata["annotations"]
        assert LABEL in metadata["labels"]


async def test_undo_refuses_with_the_difference(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A binding that somebody changed is not thrown away unseen, and nothing else is touched."""
    with FakeKubelet(control_plane, namespace):
        await running(control_plane, namespace)
        token = _account(control_plane, namespace)
        async with stage.product(control_plane, token, home=namespace) as made:
            where, plan, result = await held(control_plane, namespace, made)
            control_plane.must(
                "PATCH", where["binding"], {"spec": {"validationActions": ["Audit"]}}
            )
            request = stage.call("hold_pod", key="run_1/hold", pod=f"{namespace}/solo")
            with pytest.raises(Conflict, match=r'was changed since: expected .*"Deny"'):
                await stage.action(made, "hold_pod").undo(request, plan, result)
            with pytest.raises(StepFailed, match="was changed: the pod is not held"):
                await stage.action(made, "hold_pod").verify(request, plan, result)
        assert stage.read(control_plane, where["budget"])[0] == 200


@pytest.mark.parametrize(
    ("kind", "count"), [("Deployment", 2), ("StatefulSet", 2), ("DaemonSet", 1), ("Job", 1)]
)
async def test_an_owned_pod_is_held_and_its_owner_is_whole_again_afterwards(
    control_plane: ControlPlane, namespace: str, kind: str, count: int
) -> None:
    """The owner's own deletion is refused as well; released, it has as many pods as before."""
    with FakeKubelet(control_plane, namespace):
        stage.workload(control_plane, namespace, kind)
        if kind == "DaemonSet":
            _only_here(control_plane, namespace)
        name = (await stage.pods(control_plane, namespace, count))[0]["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        token = _account(control_plane, namespace)
        async with stage.product(control_plane, token, home=namespace) as made:
            pod = f"{namespace}/{name}"
            await stage.perform(made, stage.call("quarantine_pod", pod=pod))
            request = stage.call("hold_pod", key="run_1/hold", pod=pod)
            plan, result = await stage.perform(made, request)
            verdict = await stage.action(made, "hold_pod").verify(request, plan, result)
            assert verdict.level is VerdictLevel.ENFORCED, verdict
            stays = kind in {"StatefulSet", "DaemonSet"}
            assert any("a rollout waits for it" in text for text in plan.residual) is stays
            assert control_plane.request("DELETE", path)[0] == 422
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            assert control_plane.request("POST", f"{path}/eviction", body)[0] == 429
            freeing = stage.call("release_pod", key="run_2/free", pod=pod)
            plan, _ = await stage.perform(made, freeing)
            assert plan.residual[0] == "it is held as evidence: its hold ends first"
        if kind != "Job":  # a Job has begun another try, which goes on
            await stage.pods(control_plane, namespace, count)
        assert stage.read(control_plane, path)[0] in {200, 404}


def _only_here(plane: ControlPlane, namespace: str) -> None:
    """Let the DaemonSet run on one node, whatever nodes other tests have made."""
    path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/cart"
    selector = {"nodeSelector": {"kubernetes.io/hostname": NODE}}
    plane.must("PATCH", path, {"spec": {"template": {"spec": selector}}})


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"key": "a"}', '{"key": "a", "home": 1, "before": {}}']
)
async def test_a_spoilt_memory_of_the_hold_lifts_nothing(
    control_plane: ControlPlane, namespace: str, text: str
) -> None:
    """Whoever may annotate the pod cannot have the hold lifted halfway."""
    with FakeKubelet(control_plane, namespace):
        await running(control_plane, namespace)
        token = _account(control_plane, namespace)
        async with stage.product(control_plane, token, home=namespace) as made:
            where, plan, result = await held(control_plane, namespace, made)
            patch = {"metadata": {"annotations": {"responder.dev/hold": text}}}
            control_plane.must("PATCH", where["pod"], patch)
            request = stage.call("hold_pod", key="run_1/hold", pod=f"{namespace}/solo")
            with pytest.raises(StepFailed, match="cannot be read: mend it"):
                await stage.action(made, "hold_pod").undo(request, plan, result)
        for what in ("budget", "binding", "namespace binding"):
            assert stage.read(control_plane, where[what])[0] == 200, what


async def test_a_pod_that_is_not_isolated_is_not_held(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A hold belongs to a quarantine."""
    stage.bare(control_plane, namespace)
    token = _account(control_plane, namespace)
    async with stage.product(control_plane, token, home=namespace) as made:
        with pytest.raises(StepFailed, match="is not isolated"):
            await stage.perform(made, stage.call("hold_pod", pod=f"{namespace}/solo"))


async def test_the_plan_says_when_a_failing_probe_would_restart_the_container(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Period times threshold, for each container with a liveness probe, in the plan."""
    body = stage.template(app="solo")
    body["metadata"]["name"] = "solo"
    probe = {"tcpSocket": {"port": 80}, "periodSeconds": 7, "failureThreshold": 4}
    body["spec"]["containers"][0]["livenessProbe"] = probe
    body["spec"]["schedulerName"] = "nobody"
    control_plane.must("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    token = _account(control_plane, namespace)
    async with stage.product(control_plane, token, home=namespace) as made:
        await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/solo"))
        plan = await stage.action(made, "hold_pod").plan(
            stage.call("hold_pod", pod=f"{namespace}/solo")
        )
    assert "container main will be restarted in about 28 s" in plan.residual[0]


def _account(plane: ControlPlane, namespace: str) -> str:
    """A token with the declared rights of the actions at play, and no other."""
    return accounts.token(plane, namespace, *ACTIONS)
