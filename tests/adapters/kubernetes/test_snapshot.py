"""Evidence of a pod and who a target is, on a real API server."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from responder.errors import NotFound, StepFailed
from responder.model import Target, VerdictLevel
from responder.wiring.rbac import SWITCH
from tests.adapters.kubernetes import accounts, stage
from tests.real.cluster import ControlPlane
from tests.real.kubelet import NODE, FakeKubelet
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
CANARY = "canary-7c1f"


async def collected(
    plane: ControlPlane, namespace: str, pod: str, shelf: stage.Shelf
) -> tuple[dict[str, Any], Any]:
    """Take a snapshot; its result and verdict."""
    async with accounts.responder(plane, namespace, "snapshot", shelf=shelf) as made:
        request = stage.call("snapshot", pod=f"{namespace}/{pod}")
        plan, result = await stage.perform(made, request)
        assert plan.changes == ()
        verdict = await stage.action(made, "snapshot").verify(request, plan, result)
    return dict(result), verdict


async def test_a_snapshot_keeps_everything_around_the_pod_under_its_hash(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Owners up to the root, policies, services, slices, budgets, events, node; all hashed."""
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
    stage.policy(control_plane, namespace, "others", {"podSelector": {}, "ingress": [{}]})
    stage.workload(control_plane, namespace, "Deployment", replicas=1)
    shelf = stage.Shelf()
    with FakeKubelet(control_plane, namespace):
        [pod] = await stage.pods(control_plane, namespace, 1)
        name = pod["metadata"]["name"]
        result, _ = await collected(control_plane, namespace, name, shelf)
    files = {path.rpartition("/")[2]: data for path, data in shelf.files.items()}
    manifest = json.loads(files["manifest.json"])
    assert hashlib.sha256(files["manifest.json"]).hexdigest() == result["manifest"]
    assert result["files"] == len(files)
    for entry in manifest["files"]:
        assert hashlib.sha256(files[entry["name"]]).hexdigest() == entry["sha256"]
        assert entry["origin"]["path"].startswith("/api")
        assert entry["origin"]["at"].endswith("Z")
    replicas = pod["metadata"]["ownerReferences"][0]["name"]
    assert {f"owner-ReplicaSet-{replicas}.json", "owner-Deployment-cart.json"} <= set(files)
    for file, needle in {
        "networkpolicies.json": '"others"',
        "services.json": '"shop"',
        "poddisruptionbudgets.json": '"keep"',
        "events.json": '"Scheduled"',
        "endpointslices.json": pod["metadata"]["uid"],
        "node.json": NODE,
        "pod.json": pod["metadata"]["uid"],
    }.items():
        assert needle in files[file].decode(), file


async def test_what_cannot_be_read_is_a_gap_and_not_the_end(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Without a kubelet there is no log: the rest is kept, the verdict is residual."""
    stage.workload(control_plane, namespace, "Deployment", replicas=1)
    shelf = stage.Shelf()
    with FakeKubelet(control_plane, namespace, lambda _pod: True):
        path = f"/api/v1/namespaces/{namespace}/pods"

        async def crashed() -> list[Any]:
            _, answer = await control_plane.arequest("GET", path)
            return [p for p in answer["items"] if p["status"].get("containerStatuses")]

        [pod] = await eventually(crashed, "a crash-looping pod")
        name = pod["metadata"]["name"]
        result, verdict = await collected(control_plane, namespace, name, shelf)
    assert any(gap.startswith("previous log of main") for gap in result["gaps"])
    assert verdict.level is VerdictLevel.RESIDUAL
    assert any(path.endswith("/pod.json") for path in shelf.files)


async def test_no_secret_gets_into_the_evidence(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A Secret's data, a variable that sounds secret, the last applied configuration."""
    control_plane.must(
        "POST",
        f"/api/v1/namespaces/{namespace}/secrets",
        {"metadata": {"name": "db"}, "stringData": {"password": CANARY}},
    )
    body = stage.template(app="solo")
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": CANARY}
    body["metadata"] |= {"name": "solo", "annotations": annotations}
    body["spec"]["containers"][0]["env"] = [
        {"name": "DB_PASSWORD", "value": CANARY},
        {"name": "MODE", "value": "shown"},
        {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
    ]
    control_plane.must("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    shelf = stage.Shelf()
    await collected(control_plane, namespace, "solo", shelf)
    whole = b"".join(shelf.files.values()).decode()
    assert CANARY not in whole
    assert "managedFields" not in whole.replace('"redacted": "managedFields', "")
    assert "shown" in whole
    assert '"secretKeyRef"' in whole


async def test_verifying_fails_when_the_manifest_is_not_in_the_store(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A verdict that cannot fail would be worth nothing."""
    stage.bare(control_plane, namespace)
    shelf = stage.Shelf()
    async with accounts.responder(control_plane, namespace, "snapshot", shelf=shelf) as made:
        request = stage.call("snapshot", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        shelf.rows.clear()
        with pytest.raises(StepFailed, match="not in the evidence store"):
            await stage.action(made, "snapshot").verify(request, plan, result)


async def test_a_target_is_filled_in_from_what_runs_now(
    control_plane: ControlPlane, namespace: str
) -> None:
    """UID, root owner, node, image, digest and container id."""
    stage.workload(control_plane, namespace, "Deployment", replicas=1)
    with FakeKubelet(control_plane, namespace):
        [pod] = await stage.pods(control_plane, namespace, 1)
        async with accounts.responder(control_plane, namespace, "snapshot") as made:
            status = pod["status"]["containerStatuses"][0]
            full = status["containerID"].rpartition("//")[2]
            asked = Target(namespace=namespace, pod=pod["metadata"]["name"], container_id=full[:12])
            found = await made.resolvers["prod"].resolve(asked)
            for wrong in (
                Target(namespace=namespace, pod=asked.pod, container_id="f" * 12),
                Target(namespace=namespace, pod=asked.pod, container_id=full[:11]),
                Target(namespace=namespace, pod=asked.pod, pod_uid="1-2"),
                Target(
                    namespace=namespace,
                    pod=asked.pod,
                    container="sidecar",
                    container_id=full[:12],
                ),
                Target(namespace=namespace, pod="../secrets/x"),
                Target(pod="cart"),
            ):
                with pytest.raises(StepFailed):
                    await made.resolvers["prod"].resolve(wrong)
            with pytest.raises(NotFound):
                await made.resolvers["prod"].resolve(Target(namespace=namespace, pod="nobody"))
    assert found == Target(
        cluster="prod",
        namespace=namespace,
        pod=pod["metadata"]["name"],
        pod_uid=pod["metadata"]["uid"],
        container="main",
        container_id=full,
        image=stage.OLD,
        digest=stage.OLD.partition("@")[2],
        workload="Deployment/cart",
        node=NODE,
    )


async def test_a_target_without_a_pod_keeps_what_it_has(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A vulnerability report speaks of an image: nothing is guessed."""
    image = Target(image="registry.test/shop/cart:1")
    async with accounts.responder(control_plane, namespace, "snapshot") as made:
        found = await made.resolvers["prod"].resolve(image)
    assert found == Target(cluster="prod", image="registry.test/shop/cart:1")


async def test_the_pause_switch_is_a_key_of_a_config_map(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Absent and "false" let pass; a reason stops; a switch that cannot be read stops."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    pause = f"{namespace}/{SWITCH}"

    async def says(token: str) -> str:
        async with stage.product(control_plane, token, pause=pause) as made:
            return await made.pausers[0]()

    ours = accounts.generated(control_plane, namespace, [namespace], "snapshot")
    try:
        assert await says(ours) == ""
        control_plane.must("POST", path, {"metadata": {"name": SWITCH}, "data": {"pause": "false"}})
        assert await says(ours) == ""
        control_plane.must("PATCH", f"{path}/{SWITCH}", {"data": {"pause": "audit today"}})
        assert "audit today" in await says(ours)
        nobody = control_plane.token_for(namespace, "nobody")
        assert "cannot be read" in await says(nobody)
    finally:
        accounts.forget(control_plane, namespace)
