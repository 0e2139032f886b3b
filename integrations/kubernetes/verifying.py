"""What a quarantine reached: pod and policies read afresh and judged; the body of its `verify`.

Never says more than was looked at, and never believes the plan: everything here comes from a
consistent listing made after the change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from integrations.kubernetes import escalating
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.enforcement_class import Class
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.owners import ready_replicas
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.probing_isolation import Packets
from integrations.kubernetes.probing_verdict import Findings, judge
from integrations.kubernetes.quarantine import LABEL
from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Plan, Verdict, VerdictLevel
from responder.ports import Call

__all__ = ["verify"]


async def verify(fleet: Fleet, call: Call, plan: Plan) -> Verdict:
    """Read pod and policies afresh, try packets where that is configured, and judge all three.

    `probing_verdict` has the table of verdicts; without a probe image `applied` is the most.
    Raises `StepFailed` when label or policy is not there, in a later look `NotFound` when the pod
    is gone.
    """
    api = fleet.api(call)
    data = plan.data
    namespace = data["namespace"]
    api.connection.underway.end(data.get("holds", ()))
    try:
        pod = await api.get(named("Pod", namespace, data["pod"]))
    except NotFound:
        if call.recheck:  # it ended in the middle of a later look: over is another word than open
            raise NotFound(
                f"pod {namespace}/{data['pod']} is gone: nothing is left to hold"
            ) from None
        return Verdict(level=VerdictLevel.RESIDUAL, residual=("the pod is gone",))
    policies = await fleet.items(api, collection("NetworkPolicy", namespace))
    _must_hold(data, pod, policies)
    found = Findings(
        still=await escalating.still_open(fleet, api, pod, policies, data, LABEL),
        kind=fleet.network(api),
        limits=tuple(text for text in plan.residual if text not in data["still"]),
    )
    judged = judge(await _with_packets(fleet, api, call, pod, found))
    return Verdict(
        level=judged.level,
        residual=judged.residual,
        checks={
            "label": f"{LABEL}={data['label']}",
            "policy": f"{data['policy']} denies ingress and egress",
            "policies": f"{len(policies)} in namespace {namespace} judged again",
            **judged.checks,
            **await _replaced(api, data),
        },
    )


async def _with_packets(fleet: Fleet, api: Api, call: Call, pod: Json, found: Findings) -> Findings:
    """The same findings with what was tried, where the configuration wants packets tried.

    A later look while policies are open tries nothing, so that the news is not held up. Where a
    later look cannot try, `StepRetry` leaves what was proven before as it is. Afterwards the
    network plug-in itself is tried, if it is time to; nobody waits for that.
    """
    if not api.connection.settings.probe.on:
        return found
    if call.recheck and found.still:
        return replace(found, packets=Packets(fault="policies let something through"))
    addresses = [entry.get("ip") for entry in (pod.get("status") or {}).get("hostIPs") or []]
    own = frozenset(str(one) for one in addresses if one)
    seen = await fleet.probers[api.cluster].look(api, call, pod, found.kind)
    fleet.enforcement[api.cluster].kick()
    if call.recheck and seen.packets.fault and found.kind is not Class.NONE:
        raise StepRetry(f"policies are as they were; packets: {seen.packets.fault}")
    return replace(
        found, packets=seen.packets, table=seen.table, why_no_table=seen.why_no_table, own=own
    )


async def _replaced(api: Api, data: Mapping[str, Any]) -> dict[str, str]:
    """What the owner that starts a replacement counts now; nothing is waited for."""
    owner = data["owner"]
    if not data["replacement"] or owner["kind"] not in {"ReplicaSet", "ReplicationController"}:
        return {}
    try:
        found = await api.get(named(owner["kind"], data["namespace"], owner["name"]))
    except NotFound:
        return {"replacement": f"{owner['kind']}/{owner['name']} is gone"}
    wanted = (found.get("spec") or {}).get("replicas", 1)
    text = f"{owner['kind']}/{owner['name']}: {ready_replicas(found)} of {wanted} ready"
    return {"replacement": text}


def _must_hold(data: Mapping[str, Any], pod: Json, policies: list[Json]) -> None:
    place = f"pod {data['namespace']}/{data['pod']}"
    if pod["metadata"]["uid"] != data["uid"]:
        raise StepFailed(f"{place} is another one now; the isolated pod is gone")
    if (pod["metadata"].get("labels") or {}).get(LABEL) != data["label"]:
        raise StepFailed(f"{place} lost its label {LABEL}={data['label']}: it is not isolated")
    policy = next((p for p in policies if p["metadata"]["name"] == data["policy"]), None)
    if policy is None:
        raise StepFailed(f"{place}: NetworkPolicy {data['policy']} is gone: it is not isolated")
    wanted = {
        "podSelector": {"matchLabels": {LABEL: data["label"]}},
        "policyTypes": ["Ingress", "Egress"],
    }
    if policy["spec"] != wanted:
        raise StepFailed(f"{place}: NetworkPolicy {data['policy']} was changed by somebody")
