"""The scenarios of owners on a real API server: the real plan is the expected one, and its verdict.

Real controllers make the pods; a pretended kubelet says that they run. The product acts as its
generated account. No packets here: the owner does not change who may talk, only the labels do.
"""

from __future__ import annotations

from typing import Any

import pytest

from integrations.kubernetes.quarantine import LABEL
from responder.errors import StepFailed
from responder.ports import Integration
from tests.adapters.kubernetes import accounts, stage
from tests.adapters.kubernetes.policy.bench import NETWORKING
from tests.cluster.scenarios.reading import Scenario, scenarios
from tests.real.cluster import ControlPlane
from tests.real.kubelet import NODE, FakeKubelet
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
Json = dict[str, Any]
OWNED = [one for one in scenarios() if not one.packets]
KINDS = sorted({one.owner for one in OWNED})
BARE: dict[str, Json] = {
    "static": {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}},
    "host network": {"spec": {"hostNetwork": True}},
    "ended": {"spec": {"schedulerName": "nobody"}},
}


def start(plane: ControlPlane, namespace: str, owner: str) -> None:
    """A pod of this kind of owner, by whoever makes such pods."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    if owner in BARE:
        body = stage.template(app="web")
        more = BARE[owner]
        body["metadata"] |= {"name": "web", **more.get("metadata", {})}
        body["spec"] |= more.get("spec", {})
        if owner == "static":
            body["spec"]["nodeName"] = NODE
        plane.must("POST", pods, body)
        if owner == "ended":
            plane.must("PATCH", f"{pods}/web/status", {"status": {"phase": "Succeeded"}})
    elif owner == "ReplicationController":
        spec = {"replicas": 1, "selector": {"app": "web"}, "template": stage.template(app="web")}
        path = f"/api/v1/namespaces/{namespace}/replicationcontrollers"
        plane.must("POST", path, {"metadata": {"name": "web"}, "spec": spec})
    else:
        stage.workload(plane, namespace, owner, "web", replicas=1)


async def target(plane: ControlPlane, namespace: str, owner: str) -> Json:
    """The pod once it is what the scenario speaks of."""
    path = f"/api/v1/namespaces/{namespace}/pods"

    async def look() -> Json:
        found = (await plane.arequest("GET", path))[1]["items"]
        fit = [one for one in found if owner in BARE or stage.is_ready(one)]
        return fit[0] if len(fit) == 1 else {}

    return await eventually(look, f"a pod of {owner}", 60)


def around(plane: ControlPlane, namespace: str, one: Scenario) -> None:
    """The policies of others alone."""
    path = f"{NETWORKING}/{namespace}/networkpolicies"
    plane.must("DELETE", path)
    for spec in one.policies:
        plane.must("POST", path, {"metadata": {"generateName": "other-"}, "spec": spec})


async def as_planned(made: Integration, namespace: str, pod: Json, one: Scenario) -> bool:
    """Whether a plan was made; it is the expected one, or the refusal was."""
    request = stage.call("quarantine_pod", pod=f"{namespace}/{pod['metadata']['name']}")
    doer = stage.action(made, "quarantine_pod")
    if one.plan == "refuse":
        with pytest.raises(StepFailed, match="cannot be isolated"):
            await doer.plan(request)
        return False
    plan = await doer.plan(request)
    labels = set(pod["metadata"]["labels"])
    assert one.labels.items() <= pod["metadata"]["labels"].items()
    assert set(plan.data["labels"]) - {LABEL} == (set() if one.plan == "strip" else labels)
    assert bool(plan.data["still"]) is one.open, plan.data["still"]
    return True


@pytest.mark.parametrize("owner", KINDS)
async def test_the_real_plan_and_the_real_verdict_are_the_expected_ones(
    control_plane: ControlPlane, namespace: str, owner: str
) -> None:
    """Every scenario of one owner is planned; the last one is carried out and judged as well."""
    cases = [one for one in OWNED if one.owner == owner]
    start(control_plane, namespace, owner)
    with FakeKubelet(control_plane, namespace):
        pod = await target(control_plane, namespace, owner)
        async with accounts.responder(control_plane, namespace, "quarantine_pod") as made:
            planned = []
            for one in cases:
                around(control_plane, namespace, one)
                planned.append(await as_planned(made, namespace, pod, one))
            assert len(set(planned)) == 1
            if not planned[-1]:
                return
            name = f"{namespace}/{pod['metadata']['name']}"
            request = stage.call("quarantine_pod", pod=name)
            plan, result = await stage.perform(made, request)
            verdict = await stage.action(made, "quarantine_pod").verify(request, plan, result)
    assert verdict.level.value == cases[-1].verdict


def test_every_kind_of_owner_is_there() -> None:
    """Those whose pods are replaced, those that keep them, and those that nothing can isolate."""
    assert {one.plan for one in OWNED} == {"strip", "add", "refuse"}
    assert len(KINDS) >= 8
