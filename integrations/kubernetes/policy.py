"""NetworkPolicy as arithmetic: who is selected, and what the union of policies still allows.

Pure. A pod is isolated in a direction once any policy that selects it names that direction, and
then everything is allowed that any of them allows, so a deny-all beside another policy denies
nothing (https://kubernetes.io/docs/concepts/services-networking/network-policies/). Where a
selector cannot be read, it is taken to select: a doubt must show as "may still talk".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from integrations.kubernetes.client import Json

__all__ = ["allows", "deny_all", "directions", "remaining", "selects", "service_selects"]

Labels = Mapping[str, str]


def selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a label selector matches. Nothing selects nothing; an empty one selects all.

    An absent key satisfies `NotIn` and `DoesNotExist`: taking labels off can open as well as close
    (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/).
    """
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(rule, labels) for rule in selector.get("matchExpressions") or [])


def _holds(rule: Mapping[str, Any], labels: Labels) -> bool:
    key, values = rule.get("key", ""), rule.get("values") or []
    match rule.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return True  # an operator of tomorrow: assume that it selects


def service_selects(service: Json, labels: Labels) -> bool:
    """Whether a Service sends traffic to pods with these labels; without a selector to none."""
    selector = (service.get("spec") or {}).get("selector") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def directions(policy: Json) -> frozenset[str]:
    """The directions a policy speaks of. Left out: Ingress, and Egress when it has such rules."""
    spec = policy.get("spec") or {}
    named = spec.get("policyTypes")
    if named:
        return frozenset(named)
    return frozenset({"Ingress", "Egress"} if spec.get("egress") else {"Ingress"})


def allows(policy: Json) -> tuple[str, ...]:
    """The directions in which a policy lets anything through at all."""
    spec = policy.get("spec") or {}
    return tuple(
        direction.lower()
        for direction in ("Ingress", "Egress")
        if direction in directions(policy) and spec.get(direction.lower())
    )


def remaining(policies: Iterable[Json], labels: Labels, own: str) -> tuple[str, ...]:
    """What still lets traffic through for a pod with these labels, our own policy apart."""
    found = []
    for policy in policies:
        name = policy["metadata"]["name"]
        if name == own or not selects((policy.get("spec") or {}).get("podSelector") or {}, labels):
            continue
        found += [f"NetworkPolicy {name} still allows {way}" for way in allows(policy)]
    return tuple(sorted(found))


def deny_all(
    *, name: str, namespace: str, label: tuple[str, str], annotations: Labels, owner: Json
) -> Json:
    """A policy that denies both directions for one label, and goes when its pod has gone.

    Both directions are named, because a policy without egress rules speaks only of ingress.
    `owner` is the pod: the garbage collector removes the policy after the pod, never before.
    """
    key, value = label
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {key: value, "app.kubernetes.io/managed-by": "responder"},
            "annotations": dict(annotations),
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                }
            ],
        },
        "spec": {
            "podSelector": {"matchLabels": {key: value}},
            "policyTypes": ["Ingress", "Egress"],
        },
    }
