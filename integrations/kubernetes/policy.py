"""What the policies of a namespace still let through to one pod, and the policy that denies all.

Pure. Policies add up, so a deny-all beside another policy denies nothing: what the others allow
must be said (https://kubernetes.io/docs/concepts/services-networking/network-policies/). The
reading of policies is that of the evaluator; where it cannot tell, this takes it as allowing: a
doubt must show as "may still talk".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from integrations.kubernetes import policy_v1
from integrations.kubernetes.client import Json
from integrations.kubernetes.policy_selectors import matches, read_selector
from integrations.kubernetes.policy_truth import Truth

__all__ = ["deny_all", "remaining", "selects", "service_selects"]

Labels = Mapping[str, str]


def selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a label selector matches or may match. Nothing selects nothing; an empty one all."""
    return selector is not None and matches(read_selector(selector), labels).truth is not Truth.NO


def service_selects(service: Json, labels: Labels) -> bool:
    """Whether a Service sends traffic to pods with these labels; without a selector to none."""
    selector = (service.get("spec") or {}).get("selector") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def remaining(policies: Iterable[Json], labels: Labels, own: str) -> tuple[str, ...]:
    """What still lets traffic through for a pod with these labels, our own policy apart.

    The policies are those of the pod's namespace. A rule counts whoever its peers are: they may
    come later.
    """
    found = []
    for policy in map(policy_v1.read, policies):
        if policy.name == own or matches(policy.subject, labels).truth is Truth.NO:
            continue
        found += [
            f"NetworkPolicy {policy.name} still allows {direction}"
            for direction in policy.directions
            if policy.rules[direction]
        ]
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
