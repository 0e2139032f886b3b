"""Custom resources of the policy kinds beyond NetworkPolicy, in the shape that the product uses.

Written for the tests from the published field lists, not the vendors' files: the API server
refuses what has another shape and drops fields that are not named, so a call that works here has
the fields right. Nothing enforces them: what packets do under them is not proven by these.
"""

from __future__ import annotations

from typing import Any

from tests.real.cluster import ControlPlane
from tests.real.waiting import wait_until

Schema = dict[str, Any]
_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

TEXT: Schema = {"type": "string"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
SELECTOR: Schema = {
    "type": "object",
    "properties": {
        "matchLabels": LABELS,
        "matchExpressions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["key", "operator"],
                "properties": {
                    "key": TEXT,
                    "operator": TEXT,
                    "values": {"type": "array", "items": TEXT},
                },
            },
        },
    },
}


def obj(required: list[str] | None = None, /, **properties: Schema) -> Schema:
    """An object with these fields and no other."""
    return {"type": "object", "properties": properties, "required": required or []}


def many(items: Schema, **bounds: int) -> Schema:
    """A list."""
    return {"type": "array", "items": items, **bounds}


def one_of(*words: str) -> Schema:
    """One of a few words."""
    return {"type": "string", "enum": list(words)}


def exactly_one(**properties: Schema) -> Schema:
    """An object that sets one of these fields."""
    return {**obj(**properties), "minProperties": 1, "maxProperties": 1}


PODS = obj(["namespaceSelector", "podSelector"], namespaceSelector=SELECTOR, podSelector=SELECTOR)
INWARD = exactly_one(namespaces=SELECTOR, pods=PODS)
OUTWARD = exactly_one(namespaces=SELECTOR, pods=PODS, networks=many(TEXT, minItems=1, maxItems=25))


def admin(*actions: str) -> Schema:
    """The `spec` that both versions of administrators' policies share."""
    rule = {"name": TEXT, "action": one_of(*actions)}
    return obj(
        ["priority", "subject"],
        priority={"type": "integer", "minimum": 0, "maximum": 1000},
        subject=exactly_one(namespaces=SELECTOR, pods=PODS),
        ingress=many(obj(["action", "from"], **rule, **{"from": many(INWARD, minItems=1)})),
        egress=many(obj(["action", "to"], **rule, to=many(OUTWARD, minItems=1))),
    )


def _cluster_policy() -> Schema:
    spec = admin("Accept", "Deny", "Pass")
    spec["properties"]["tier"] = one_of("Admin", "Baseline")
    return {**spec, "required": [*spec["required"], "tier"]}


def _calico() -> Schema:
    rules = many(obj(["action"], action=one_of("Allow", "Deny", "Log", "Pass")))
    return obj(
        tier=TEXT,
        order={"type": "number"},
        selector=TEXT,
        types=many(one_of("Ingress", "Egress")),
        ingress=rules,
        egress=rules,
    )


def _cilium() -> Schema:
    entities = many(one_of("all", "world", "cluster", "host", "remote-node"))
    return obj(
        endpointSelector=SELECTOR,
        ingressDeny=many(obj(fromEntities=entities)),
        egressDeny=many(obj(toEntities=entities)),
    )


# plural, group, version, kind, namespaced, spec
KINDS: dict[str, tuple[str, str, str, str, bool, Schema]] = {
    "ClusterNetworkPolicy": (
        "clusternetworkpolicies",
        "policy.networking.k8s.io",
        "v1alpha2",
        "ClusterNetworkPolicy",
        False,
        _cluster_policy(),
    ),
    "AdminNetworkPolicy": (
        "adminnetworkpolicies",
        "policy.networking.k8s.io",
        "v1alpha1",
        "AdminNetworkPolicy",
        False,
        admin("Allow", "Deny", "Pass"),
    ),
    "CiliumNetworkPolicy": (
        "ciliumnetworkpolicies",
        "cilium.io",
        "v2",
        "CiliumNetworkPolicy",
        True,
        _cilium(),
    ),
    "CalicoNetworkPolicy": (
        "networkpolicies",
        "projectcalico.org",
        "v3",
        "NetworkPolicy",
        True,
        _calico(),
    ),
    "CalicoGlobalNetworkPolicy": (
        "globalnetworkpolicies",
        "projectcalico.org",
        "v3",
        "GlobalNetworkPolicy",
        False,
        _calico(),
    ),
    "CalicoTier": (
        "tiers",
        "projectcalico.org",
        "v3",
        "Tier",
        False,
        obj(order={"type": "number"}),
    ),
    "CalicoStoredPolicy": (
        "networkpolicies",
        "crd.projectcalico.org",
        "v1",
        "NetworkPolicy",
        True,
        _calico(),
    ),
    "EgressFirewall": (
        "egressfirewalls",
        "k8s.ovn.org",
        "v1",
        "EgressFirewall",
        True,
        obj(egress=many(obj(type=TEXT))),
    ),
}
CALICO = ("CalicoNetworkPolicy", "CalicoGlobalNetworkPolicy", "CalicoTier")


def collection(kind: str, namespace: str = "") -> str:
    """Where the objects of a kind live."""
    plural, group, version, _, namespaced, _ = KINDS[kind]
    place = f"/namespaces/{namespace}" if namespaced else ""
    return f"/apis/{group}/{version}{place}/{plural}"


def install(plane: ControlPlane, kind: str) -> None:
    """Create the definition of a kind and wait until it is served."""
    plural, group, version, own, namespaced, spec = KINDS[kind]
    body = {
        "metadata": {
            "name": f"{plural}.{group}",
            # groups below k8s.io are reserved; whoever writes such a definition says so
            "annotations": {"api-approved.kubernetes.io": "unapproved, test-only"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"plural": plural, "singular": own.lower(), "kind": own},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": obj(spec=spec)},
                }
            ],
        },
    }
    plane.must("POST", _PATH, body)
    everywhere = f"/apis/{group}/{version}/{plural}"
    wait_until(lambda: plane.request("GET", everywhere)[0] == 200, f"{kind} to be served")
    wait_until(lambda: _is_listed(plane, group, version, plural), f"{kind} to be listed")


def _is_listed(plane: ControlPlane, group: str, version: str, plural: str) -> bool:
    """Whether discovery knows it, which follows a moment after."""
    groups = plane.must("GET", "/apis")["groups"]
    known = {one["groupVersion"] for group_ in groups for one in group_["versions"]}
    if f"{group}/{version}" not in known:
        return False
    status, listed = plane.request("GET", f"/apis/{group}/{version}")
    return status == 200 and any(one["name"] == plural for one in listed["resources"])


def make(plane: ControlPlane, kind: str, body: dict[str, Any]) -> None:
    """Create a cluster-wide object; wait until the API server's cache has it: plans ask that."""
    path, name = collection(kind), body["metadata"]["name"]
    plane.must("POST", path, body)

    def cached() -> bool:
        found = plane.must("GET", f"{path}?resourceVersion=0")["items"]
        return any(item["metadata"]["name"] == name for item in found)

    wait_until(cached, f"{kind} {name} to be in the cache")


def remove(plane: ControlPlane, kind: str) -> None:
    """Delete the definition, its objects with it, and wait until it is no longer served."""
    plural, group, version, *_ = KINDS[kind]
    plane.request("DELETE", f"{_PATH}/{plural}.{group}")

    everywhere = f"/apis/{group}/{version}/{plural}"

    def gone() -> bool:
        defined = plane.request("GET", f"{_PATH}/{plural}.{group}")[0] != 404
        return not defined and plane.request("GET", everywhere)[0] != 200

    wait_until(gone, f"the end of {kind}")
