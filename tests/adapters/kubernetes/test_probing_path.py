"""Where probing stands: beside a containment's plan and apply, never in them; off unless asked."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from integrations.kubernetes import setup
from integrations.kubernetes.client import Connection
from integrations.kubernetes.enforcement_class import Class
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.isolate import QuarantinePod
from integrations.kubernetes.looks import Looks
from integrations.kubernetes.probing_isolation import another_node
from integrations.kubernetes.probing_memory import Prober
from integrations.kubernetes.rights import Rights
from integrations.kubernetes.settings import read
from responder.clock import World
from responder.errors import ConfigError, StepRetry
from responder.model import VerdictLevel
from responder.ports import Kit
from tests.adapters.kubernetes import accounts, stage
from tests.adapters.kubernetes.asking import spare_node
from tests.real.cluster import ControlPlane
from tests.real.kubelet import ensure_node

PROBE = {"image": "registry.test/tools@sha256:0", "seconds": 5}


@pytest.mark.control_plane
async def test_a_containment_is_planned_and_applied_without_anything_that_could_probe(
    control_plane: ControlPlane, namespace: str
) -> None:
    """No prober, no knowledge of the network: pod and policy are written all the same."""
    stage.bare(control_plane, namespace)
    where = {"api": control_plane.api, "ca": str(control_plane.ca), "home": namespace}
    token = accounts.token(control_plane, namespace, "quarantine_pod")
    section = {"prod": {**where, "token": token, "probe": PROBE}}
    world = World()
    link = Connection("prod", read(section)["prod"], world)
    fleet = Fleet({"prod": link}, {"prod": Rights(world.clock)}, {"prod": Looks(world.clock)})
    doer = QuarantinePod(fleet)
    request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
    try:
        plan = await doer.plan(request)
        await stage.finish(doer, request, plan)
        with pytest.raises(KeyError):
            await doer.verify(request, plan, {})
    finally:
        await link.close()
    pod = control_plane.must("GET", f"/api/v1/namespaces/{namespace}/pods/solo")
    assert list(pod["metadata"]["labels"]) == ["responder.dev/quarantine"]


@pytest.mark.control_plane
async def test_a_probe_pod_that_never_runs_proves_nothing_and_is_taken_away(
    control_plane: ControlPlane, namespace: str
) -> None:
    """No kubelet here: the time is up, the verdict says so, and no pod stays.

    A later look that cannot try takes nothing back that was seen before.
    """
    stage.bare(control_plane, namespace, bound=True)
    ensure_node(control_plane, "bench-node")
    base = f"/api/v1/namespaces/{namespace}/pods"
    async with accounts.responder(
        control_plane, namespace, "quarantine_pod", "probe_network", probe=PROBE
    ) as made:

        async def bound() -> bool:
            return bool(stage.read(control_plane, f"{base}/solo")[1]["spec"].get("nodeName"))

        await stage.eventually(bound, "the pod to be bound")
        status = {"status": {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}}
        control_plane.must("PATCH", f"{base}/solo/status", status)
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        doer = stage.action(made, "quarantine_pod")
        verdict = await doer.verify(request, plan, result)
        with pytest.raises(StepRetry, match="did not end within 5 s"):
            await doer.verify(dataclasses.replace(request, recheck=True), plan, result)
    assert verdict.level is VerdictLevel.APPLIED
    assert any("did not end within 5 s" in text for text in verdict.residual)
    left = control_plane.must("GET", f"{base}?labelSelector=responder.dev%2Fprobe")["items"]
    assert [pod for pod in left if "deletionTimestamp" not in pod["metadata"]] == []


@pytest.mark.control_plane
async def test_another_node_is_ready_takes_pods_and_is_not_the_same(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A cordoned one is not chosen, whatever else there is."""
    for name in ("here", "shut", "there"):
        spare_node(control_plane, f"{name}-{namespace}")
    shut = f"/api/v1/nodes/shut-{namespace}"
    control_plane.must("PATCH", shut, {"spec": {"unschedulable": True}})
    where = {"api": control_plane.api, "ca": str(control_plane.ca)}
    token = accounts.token(control_plane, namespace, "probe_network")
    settings = read({"prod": {**where, "token": token}})["prod"]
    link = Connection("prod", settings, World())
    try:
        found, note = await another_node(link.api(), f"here-{namespace}")
    finally:
        await link.close()
        for name in ("here", "shut", "there"):
            control_plane.must("DELETE", f"/api/v1/nodes/{name}-{namespace}")
    assert found
    assert found not in {f"here-{namespace}", f"shut-{namespace}"}
    assert found in note


async def test_the_network_is_asked_for_by_doctor_only_where_probing_is_on() -> None:
    """Off without an image: no check, and nothing that could start a pod."""
    table = {"api": "http://127.0.0.1:1"}
    for probe, wanted in (({}, False), (PROBE, True)):
        made = setup({"prod": {**table, "probe": probe}}, World(), Kit(evidence=stage.Shelf()))
        assert ("kubernetes:prod network" in made.checks) is wanted
        assert made.close
        await made.close()


@pytest.mark.parametrize(
    ("probe", "text"),
    [
        ({"cut_flows": True}, "cut_flows needs an image"),
        ({"image": "x", "seconds": 60}, "clusters.prod.probe.seconds"),
        ({"image": "x", "inside": "nsenter"}, "clusters.prod.probe.inside"),
        ({"img": "x"}, "clusters.prod.probe.img"),
    ],
)
def test_a_probe_table_that_cannot_be_meant_is_refused(probe: dict[str, object], text: str) -> None:
    """The message names the key."""
    with pytest.raises(ConfigError, match=text):
        read({"prod": {"api": "http://127.0.0.1:1", "probe": probe}})


async def test_a_look_that_was_cancelled_leaves_the_prober_free() -> None:
    """A broken-off proof does not count as one that is under way."""
    table = {"api": "http://127.0.0.1:1", "probe": PROBE}
    link = Connection("prod", read({"prod": table})["prod"], World())
    pod = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"nodeName": "a", "containers": []},
        "status": {"podIP": "10.0.0.9"},
    }
    prober, request = Prober(), stage.call("quarantine_pod", pod="n/p")
    for key in ("a", "b", "c"):
        work = asyncio.create_task(
            prober.look(link.api(), dataclasses.replace(request, key=key), pod, Class.UNKNOWN)
        )
        await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    seen = await prober.look(link.api(), request, pod, Class.UNKNOWN)
    await link.close()
    assert "cannot connect" in seen.packets.fault
