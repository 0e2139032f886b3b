"""Every kind of owner on a real API server: isolated or refused as planned, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from responder.errors import StepFailed
from responder.model import Plan, VerdictLevel
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.accounts import responder
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
LABEL = "responder.dev/quarantine"
Item = dict[str, Any]


def pods(plane: ControlPlane, namespace: str) -> list[Item]:
    """All pods of a namespace that are not going."""
    found = plane.must("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return [item for item in found if not item["metadata"].get("deletionTimestamp")]


def owner_at(plane: ControlPlane, namespace: str, kind: str) -> Item:
    """The workload called cart."""
    group = {"Job": "batch", "ReplicationController": ""}.get(kind, "apps")
    base = f"/apis/{group}/v1" if group else "/api/v1"
    found: Item = plane.must("GET", f"{base}/namespaces/{namespace}/{kind.lower()}s/cart")
    return found


def start(plane: ControlPlane, namespace: str, kind: str, replicas: int) -> None:
    """A workload called cart."""
    if kind == "ReplicationController":
        spec = {
            "replicas": replicas,
            "selector": {"app": "cart"},
            "template": stage.template(app="cart", tier="web"),
        }
        path = f"/api/v1/namespaces/{namespace}/replicationcontrollers"
        plane.must("POST", path, {"metadata": {"name": "cart"}, "spec": spec})
    else:
        stage.workload(plane, namespace, kind, replicas=replicas)


async def ready(plane: ControlPlane, namespace: str, count: int) -> list[Item]:
    """Exactly so many pods with the workload's label, all of them Ready."""

    async def look() -> list[Item]:
        there = [p for p in pods(plane, namespace) if p["metadata"]["labels"].get("app") == "cart"]
        fit = len(there) == count and all(stage.is_ready(item) for item in there)
        return there if fit else []

    return await eventually(look, f"exactly {count} ready pods of cart", seconds=30)


async def counts(plane: ControlPlane, namespace: str, kind: str, count: int) -> None:
    """Until the owner itself counts so many."""
    key = {"DaemonSet": "numberReady", "Job": "ready"}.get(kind, "readyReplicas")

    async def look() -> bool:
        status = owner_at(plane, namespace, kind)["status"]
        return bool(status.get(key, 0) == count)

    await eventually(look, f"{kind} cart to count {count}", seconds=30)


STRIPPED = ["Deployment", "ReplicaSet", "ReplicationController", "Job"]
FIXED = ["StatefulSet", "DaemonSet"]


@pytest.mark.parametrize("kind", STRIPPED)
async def test_a_replaced_pod_is_kept_beside_its_replacement_and_undo_leaves_the_right_number(
    control_plane: ControlPlane, namespace: str, kind: str
) -> None:
    """The owner is whole again beside the isolated pod; undone, it counts what it should."""
    count = 1 if kind == "Job" else 2
    start(control_plane, namespace, kind, count)
    with FakeKubelet(control_plane, namespace):
        name = (await ready(control_plane, namespace, count))[0]["metadata"]["name"]
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            doer = stage.action(made, "quarantine_pod")
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}")
            plan, result = await stage.perform(made, request)
            again = await ready(control_plane, namespace, count)
            await counts(control_plane, namespace, kind, count)
            verdict = await doer.verify(request, plan, result)
            assert len(pods(control_plane, namespace)) == count + 1
            assert name not in [item["metadata"]["name"] for item in again]
            await doer.undo(request, plan, result)
            await ready(control_plane, namespace, count)
            await counts(control_plane, namespace, kind, count)
    assert verdict.level is VerdictLevel.APPLIED
    assert "deletes one of them" in plan.undo
    assert len(pods(control_plane, namespace)) == count


@pytest.mark.parametrize("kind", FIXED)
async def test_a_pod_with_a_fixed_place_stays_in_its_set_and_nothing_wedges(
    control_plane: ControlPlane, namespace: str, kind: str
) -> None:
    """The owner neither loses nor doubles it; undone, all is as before, without any pod lost."""
    start(control_plane, namespace, kind, 2)
    count = 1 if kind == "DaemonSet" else 2
    with FakeKubelet(control_plane, namespace):
        found = await ready(control_plane, namespace, count)
        name = found[-1]["metadata"]["name"]
        before = {item["metadata"]["uid"] for item in found}
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            doer = stage.action(made, "quarantine_pod")
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}")
            plan, result = await stage.perform(made, request)
            verdict = await doer.verify(request, plan, result)
            await counts(control_plane, namespace, kind, count)
            scaled = await _still_moves(control_plane, namespace, kind, count)
            await doer.undo(request, plan, result)
            await ready(control_plane, namespace, scaled)
            await counts(control_plane, namespace, kind, scaled)
    after = pods(control_plane, namespace)
    assert verdict.level is VerdictLevel.APPLIED
    assert result["replacement"] == ""
    assert before <= {item["metadata"]["uid"] for item in after}
    assert len(after) == scaled
    assert not any(LABEL in item["metadata"]["labels"] for item in after)


async def _still_moves(plane: ControlPlane, namespace: str, kind: str, count: int) -> int:
    """A wedged StatefulSet would not start another pod: it does. A DaemonSet has no number."""
    if kind == "DaemonSet":
        return count
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/cart"
    plane.must("PATCH", path, {"spec": {"replicas": count + 1}})
    await ready(plane, namespace, count + 1)
    return count + 1


async def test_a_fixed_pod_that_a_policy_still_reaches_says_so_and_can_be_closed(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Its labels stay, so the application's own policy still selects it: named, then excluded."""
    start(control_plane, namespace, "StatefulSet", 2)
    allow = {"podSelector": {"matchLabels": {"app": "cart"}}, "ingress": [{}]}
    stage.policy(control_plane, namespace, "web", allow)
    with FakeKubelet(control_plane, namespace):
        await ready(control_plane, namespace, 2)
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            doer = stage.action(made, "quarantine_pod")
            plain = await doer.plan(stage.call("quarantine_pod", pod=f"{namespace}/cart-0"))
            request = stage.call("quarantine_pod", pod=f"{namespace}/cart-0", escalate="foreign")
            plan, result = await stage.perform(made, request)
            verdict = await doer.verify(request, plan, result)
    assert plain.residual[0] == "NetworkPolicy web still allows ingress"
    assert "escalate: foreign (NetworkPolicy)" in plain.residual[1]
    assert plan.asks == "it changes NetworkPolicies of others: web"
    assert verdict.level is VerdictLevel.APPLIED


async def _run_of(plane: ControlPlane, namespace: str) -> Item:
    """A CronJob's run, started by hand as its controller would; its one pod."""
    stage.cron_job(plane, namespace)
    base = f"/apis/batch/v1/namespaces/{namespace}"
    cron = plane.must("GET", f"{base}/cronjobs/report")
    reference = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": "report",
        "uid": cron["metadata"]["uid"],
        "controller": True,
    }
    body = {
        "metadata": {"name": "report-1", "ownerReferences": [reference]},
        "spec": cron["spec"]["jobTemplate"]["spec"],
    }
    plane.must("POST", f"{base}/jobs", body)
    found = await stage.pods(plane, namespace, 1, selector="app=report")
    return found[0]


@pytest.mark.parametrize("way", ["undo", "release"])
@pytest.mark.parametrize("suspend", [False, True])
async def test_a_cron_jobs_pod_is_isolated_and_its_schedule_stopped_only_where_asked(
    control_plane: ControlPlane, namespace: str, suspend: bool, way: str
) -> None:
    """The next run is announced, or its own change prevents it; undone, the schedule goes on."""
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs/report"
    with FakeKubelet(control_plane, namespace):
        name = (await _run_of(control_plane, namespace))["metadata"]["name"]
        before = stage.plain(control_plane.must("GET", path))
        async with responder(control_plane, namespace, "quarantine_pod", "release_pod") as made:
            doer = stage.action(made, "quarantine_pod")
            params: dict[str, Any] = {"suspend_cronjob": True} if suspend else {}
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}", **params)
            plan, result = await stage.perform(made, request)
            stopped = control_plane.must("GET", path)["spec"]["suspend"]
            await stage.pods(control_plane, namespace, 1, selector="app=report")
            again = await doer.plan(request)
            if way == "undo":
                await doer.undo(request, plan, result)
            else:
                freeing = stage.call("release_pod", key="run_2/f", pod=f"{namespace}/{name}")
                await stage.perform(made, freeing)
            await stage.pods(control_plane, namespace, 1, selector="app=report")
    kinds = [change.ref.kind for change in plan.changes]
    assert kinds == ["NetworkPolicy", "Pod", *(["CronJob"] if suspend else [])]
    assert stopped is suspend
    assert any("CronJob/report goes on" in text for text in plan.residual) is not suspend
    assert "Job/report-1 counts the pod as lost and runs its work again" in plan.residual
    assert again.hash == plan.hash
    assert stage.plain(control_plane.must("GET", path)) == before


async def test_a_schedule_that_was_stopped_already_stays_stopped(
    control_plane: ControlPlane, namespace: str
) -> None:
    """What was not done here is not undone here."""
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs/report"
    with FakeKubelet(control_plane, namespace):
        name = (await _run_of(control_plane, namespace))["metadata"]["name"]
        control_plane.must("PATCH", path, {"spec": {"suspend": True}})
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            request = stage.call("quarantine_pod", pod=f"{namespace}/{name}", suspend_cronjob=True)
            plan, result = await stage.perform(made, request)
            await stage.action(made, "quarantine_pod").undo(request, plan, result)
    assert "CronJob" not in [change.ref.kind for change in plan.changes]
    assert control_plane.must("GET", path)["spec"]["suspend"] is True


async def test_an_operators_pod_keeps_its_labels_and_whoever_puts_them_back_is_named(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A kind that is not Kubernetes' own, though it has the name of one that is."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = stage.template(app="solo")
    # owned by an object that is there, or the garbage collector takes the pod for an orphan
    keeper = control_plane.must(
        "POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "keeper"}}
    )
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "keeper",
        "uid": keeper["metadata"]["uid"],
        "controller": True,
    }
    body["metadata"] |= {"name": "solo", "ownerReferences": [owner]}
    body["spec"]["schedulerName"] = "nobody"
    control_plane.must("POST", path, body)
    before = stage.plain(control_plane.must("GET", f"{path}/solo"))
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        labels = control_plane.must("GET", f"{path}/solo")["metadata"]["labels"]
        control_plane.must("PATCH", f"{path}/solo", {"metadata": {"labels": {LABEL: None}}})
        with pytest.raises(StepFailed, match="lost its label"):
            await doer.verify(request, plan, result)
        await doer.apply(request, await doer.plan(request))
        await doer.undo(request, plan, result)
    assert labels == {"app": "solo", LABEL: plan.data["label"]}
    assert any("may put them back as it wants them" in text for text in plan.residual)
    assert stage.plain(control_plane.must("GET", f"{path}/solo")) == before


REFUSED: list[tuple[Item, Item, str]] = [
    ({"hostNetwork": True}, {}, "node's network, to which no NetworkPolicy applies"),
    ({"hostPID": True}, {}, r"node's processes \(hostPID\)"),
    ({}, {"securityContext": {"privileged": True}}, "main is privileged"),
]


@pytest.mark.parametrize(("spec", "container", "reason"), REFUSED)
async def test_a_pod_that_holds_its_node_is_refused_with_what_to_do_there(
    control_plane: ControlPlane, namespace: str, spec: Item, container: Item, reason: str
) -> None:
    """Network isolation of it would be a lie: the refusal names the node's own steps."""
    body = stage.template(app="solo")
    body["metadata"]["name"] = "solo"
    body["spec"] |= spec
    body["spec"]["containers"][0] |= container
    await _refused(control_plane, namespace, body, f"{reason}.*kubernetes.cordon_node")


async def test_a_static_pod_is_refused_with_where_its_file_is(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Its copy here is the kubelet's: what is changed in it does not last."""
    body = stage.template(app="solo")
    body["metadata"] |= {"name": "solo", "annotations": {"kubernetes.io/config.mirror": "x"}}
    body["spec"]["nodeName"] = "bench-node"
    await _refused(control_plane, namespace, body, "static pod.*bench-node.*staticPodPath")


async def _refused(plane: ControlPlane, namespace: str, body: Item, reason: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    plane.must("POST", path, body)
    before = stage.plain(plane.must("GET", f"{path}/solo"))["metadata"]
    async with responder(plane, namespace, "quarantine_pod") as made:
        with pytest.raises(StepFailed, match=reason):
            await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/solo"))
    rules = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    assert stage.plain(plane.must("GET", f"{path}/solo"))["metadata"] == before
    assert plane.must("GET", rules)["items"] == []


async def test_a_volume_for_one_node_is_announced_before_the_replacement_waits_for_it(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The claim's own access modes decide; one for many nodes is no matter."""
    base = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    for name, mode in (("data", "ReadWriteOnce"), ("share", "ReadWriteMany")):
        spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}}
        control_plane.must("POST", base, {"metadata": {"name": name}, "spec": spec})
    spec = stage.template(app="cart")
    spec["spec"]["volumes"] = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("data", "share")
    ]
    body = {
        "metadata": {"name": "cart"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "cart"}}, "template": spec},
    }
    control_plane.must("POST", f"/apis/apps/v1/namespaces/{namespace}/replicasets", body)

    async def made_one() -> str:
        found = pods(control_plane, namespace)
        return str(found[0]["metadata"]["name"]) if found else ""

    name = await eventually(made_one, "the set's pod")
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        plan: Plan = await doer.plan(stage.call("quarantine_pod", pod=f"{namespace}/{name}"))
    told = [text for text in plan.residual if "volume claim" in text]
    line = "it keeps volume claim data, which can be used on one node only"
    assert told == [f"{line}: a replacement may not start"]


GROUP = "/apis/admissionregistration.k8s.io/v1"


@contextmanager
def _ruled(
    plane: ControlPlane, namespace: str, kind: str, spec: Item, bound: Item
) -> Iterator[None]:
    """An admission policy on changes of the namespace's pods, and its binding; both go again."""
    name = f"keep-{namespace}"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["pods"],
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    about = {"resourceRules": [rule], "namespaceSelector": selector}
    policy = {"metadata": {"name": name}, "spec": {"matchConstraints": about, **spec}}
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, **bound}}
    plane.must("POST", f"{GROUP}/{kind}admissionpolicies", policy)
    plane.must("POST", f"{GROUP}/{kind}admissionpolicybindings", binding)
    try:
        yield
    finally:
        plane.request("DELETE", f"{GROUP}/{kind}admissionpolicybindings/{name}")
        plane.request("DELETE", f"{GROUP}/{kind}admissionpolicies/{name}")


async def test_an_admission_rule_that_forbids_the_new_labels_is_heard_before_anything_is_done(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The plan asks the API server with a dry run, and the rule's own words come back."""
    stage.bare(control_plane, namespace)
    check = {"expression": "'app' in object.metadata.labels", "message": "app must stay"}
    spec = {"validations": [check]}
    with _ruled(control_plane, namespace, "validating", spec, {"validationActions": ["Deny"]}):
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            doer = stage.action(made, "quarantine_pod")
            request = stage.call("quarantine_pod", pod=f"{namespace}/solo")

            async def refused() -> str:
                try:
                    await doer.plan(request)
                except StepFailed as error:
                    return str(error)
                return ""

            text = await eventually(refused, "the rule to be in force")
    assert "app must stay" in text
    assert LABEL not in pods(control_plane, namespace)[0]["metadata"]["labels"]


async def test_an_admission_rule_that_changes_the_new_labels_is_named_in_the_plan(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A rule that labels every pod anew would make the pod another one than was judged."""
    stage.bare(control_plane, namespace)
    change = 'Object{metadata: Object.metadata{labels: {"team": "red"}}}'
    spec = {
        "reinvocationPolicy": "Never",
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": change}}
        ],
    }
    with _ruled(control_plane, namespace, "mutating", spec, {}):
        async with responder(control_plane, namespace, "quarantine_pod") as made:
            doer = stage.action(made, "quarantine_pod")
            request = stage.call("quarantine_pod", pod=f"{namespace}/solo")

            async def told() -> str:
                plan = await doer.plan(request)
                return next((text for text in plan.residual if "admission rule" in text), "")

            text = await eventually(told, "the rule to be in force")
    assert text == "an admission rule changes its labels: +team=red"
