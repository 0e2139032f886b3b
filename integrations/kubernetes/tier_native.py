"""Denies of the network plug-in's own: Cilium and Calico. Pure.

Cilium: a deny comes before every allow, NetworkPolicy's included
(https://docs.cilium.io/en/stable/security/policy/deny/). Calico: tiers by order, in a tier
policies by order, the first rule that matches decides; NetworkPolicies are in the tier `default`
with order 1000 (https://docs.tigera.io/calico/latest/network-policy/policy-tiers/tiered-policy).
So ours goes there with a low order, and whatever is asked before it and may allow is named,
without judging its selector.

These kinds are there only with the plug-in that made them, so being served is taken for being
enforced; still nothing here is proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from integrations.kubernetes.client import Json
from integrations.kubernetes.ground import CALICO, Ground
from integrations.kubernetes.tier_model import Subject, Tier, metadata
from responder.model import Change, ObjectRef

__all__ = ["before_ours", "probed_by_network", "spec", "tiers"]

ORDER = 0
_TIER = "default"
_TIERS_OF_ADMINS = {"adminnetworkpolicy", "kube-admin"}  # of ClusterNetworkPolicy and the like


def tiers(ground: Ground, subject: Subject) -> Iterator[Tier]:
    """A deny of each plug-in that is there, or why it cannot be used."""
    if "CiliumNetworkPolicy" in ground.served:
        yield _cilium(ground, subject)
    kind = next((kind for kind in CALICO if kind in ground.served), "")
    if kind:
        yield _calico(ground, subject, kind)


def _cilium(ground: Ground, subject: Subject) -> Tier:
    kind = "CiliumNetworkPolicy"
    if kind in ground.refused:
        why = f"{kind} cannot be used: {ground.refused[kind]}"
        return Tier(level="native", kind=kind, refusal=why)
    made = {
        "apiVersion": "cilium.io/v2",
        "kind": kind,
        "metadata": metadata(subject, subject.namespace),
        "spec": spec(kind, subject.label),
    }
    probed = probed_by_network(subject.pod)
    note = f"it cuts the node's probes of {', '.join(probed)} too, which may then be restarted"
    return _made(kind, subject, made, subject.name, notes=(note,) if probed else ())


def spec(kind: str, label: tuple[str, str]) -> Json:
    """What denies everything, both ways, for one label. Raises `KeyError` for another kind."""
    key, value = label
    if kind == "CiliumNetworkPolicy":
        return {
            "endpointSelector": {"matchLabels": {key: value}},
            "ingressDeny": [{"fromEntities": ["all"]}],
            "egressDeny": [{"toEntities": ["all"]}],
        }
    if kind not in CALICO:
        raise KeyError(kind)
    return {
        "tier": _TIER,
        "order": ORDER,
        "selector": f"{key} == '{value}'",
        "types": ["Ingress", "Egress"],
        "ingress": [{"action": "Deny"}],
        "egress": [{"action": "Deny"}],
    }


def probed_by_network(pod: Json) -> list[str]:
    """Containers that are restarted when the node cannot reach them."""
    return [
        container["name"]
        for container in (pod.get("spec") or {}).get("containers") or []
        if {"httpGet", "tcpSocket", "grpc"} & set(container.get("livenessProbe") or {})
    ]


def _calico(ground: Ground, subject: Subject, kind: str) -> Tier:
    if kind in ground.refused:
        why = f"{kind} cannot be used: {ground.refused[kind]}"
        return Tier(level="native", kind=kind, refusal=why)
    stored = kind == "CalicoStoredPolicy"
    # what is stored carries its tier's name in front (projectcalico/calico#9642)
    name = f"{_TIER}.{subject.name}" if stored else subject.name
    made = {
        "apiVersion": "crd.projectcalico.org/v1" if stored else "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": metadata(subject, subject.namespace, name),
        "spec": spec(kind, subject.label),
    }
    return _made(kind, subject, made, name)


def _made(
    kind: str,
    subject: Subject,
    made: Json,
    name: str,
    notes: tuple[str, ...] = (),
) -> Tier:
    place = subject.namespace
    ref = ObjectRef(kind=kind, name=name, namespace=place, system=subject.system)
    return Tier(
        level="native",
        kind=kind,
        changes=(Change(verb="create", ref=ref, after=made),),
        memory={"level": "native", "kind": kind, "name": name, "namespace": place},
        notes=notes,
    )


def before_ours(ground: Ground, kind: str, label: str) -> tuple[str, ...]:
    """What Calico asks before our deny, or may, and which could allow; selectors are not judged."""
    if kind not in CALICO:
        return ()
    own, wide, tier = CALICO[kind]
    found = [
        f"{one} objects cannot be read, and one may let it through: {ground.unread[one]}"
        for one in (own, wide, tier)
        if one in ground.unread
    ]
    early = {
        item["metadata"]["name"]
        for item in ground.listed.get(tier, ())
        if _comes_first(item, ground.listed.get(tier, ()))
    }
    for one in (own, wide):
        found += [
            f"{one} {item['metadata']['name']} is asked first and may allow it"
            for item in ground.listed.get(one, ())
            if label not in (item["metadata"].get("labels") or {}) and _may_decide(item, early)
        ]
    return tuple(found)


def _comes_first(item: Json, every: Any) -> bool:
    """Whether a tier is asked before `default`; one without an order is asked last."""
    orders = {one["metadata"]["name"]: _order(one) for one in every}
    name = item["metadata"]["name"]
    if name == _TIER or name in _TIERS_OF_ADMINS:
        return False
    return orders[name] <= orders.get(_TIER, float("inf"))


def _may_decide(item: Json, early: set[str]) -> bool:
    spec = item.get("spec") or {}
    rules = [*(spec.get("ingress") or []), *(spec.get("egress") or [])]
    if not any(rule.get("action") in {"Allow", "Pass"} for rule in rules):
        return False
    tier = spec.get("tier") or _TIER
    return tier in early or (tier == _TIER and _order(item) <= ORDER)


def _order(item: Mapping[str, Any]) -> float:
    order = (item.get("spec") or {}).get("order")
    return float("inf") if order is None else float(order)
