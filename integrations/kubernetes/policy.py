"""What the policies of a namespace still let through to one pod, and the policy that denies all.

Pure. Policies add up, so a deny-all beside another policy denies nothing: what the others allow
must be said (https://kubernetes.io/docs/concepts/services-networking/network-policies/). The
reading of policies is that of the evaluator; where it cannot tell, this takes it as allowing: a
doubt must show as "may still talk".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from integrations.kubernetes import policy_v1
from integrations.kubernetes.client import Json
from integrations.kubernetes.policy_model import Direction, PodSet, Rule, V1Policy
from integrations.kubernetes.policy_selectors import matches, read_selector
from integrations.kubernetes.policy_truth import Truth

__all__ = ["begun", "deny_all", "has_rules", "is_for", "remaining", "selects", "service_selects"]

Labels = Mapping[str, str]


def selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a label selector matches or may match. Nothing selects nothing; an empty one all.

    Most selectors fail at a plain label, so that is asked before the selector is read.
    """
    if selector is None:
        return False
    plain = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in plain.items()):
        return False
    return matches(read_selector(selector), labels).truth is not Truth.NO


def service_selects(service: Json, labels: Labels) -> bool:
    """Whether a Service sends traffic to pods with these labels; without a selector to none."""
    selector = (service.get("spec") or {}).get("selector") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def remaining(
    policies: Iterable[Json], labels: Labels, own: str, under: str = ""
) -> tuple[str, ...]:
    """What still lets traffic through for a pod with these labels, our own policy apart.

    The policies are those of the pod's namespace. A rule counts whoever its peers are: they may
    come later. `under` is the level of a deny of ours that is asked before: under `native` nothing
    is left, under `admin` only what comes from outside the cluster, because policies of
    administrators know no addresses for ingress
    (https://network-policy-api.sigs.k8s.io/api-overview/).
    """
    found: list[str] = []
    for item in policies:
        if item["metadata"]["name"] == own or not has_rules(item):
            continue
        if selects(item["spec"].get("podSelector") or {}, labels):
            found += _left(policy_v1.read(item), under)
    return tuple(sorted(found))


def has_rules(policy: Json) -> bool:
    """Whether a policy can let anything through at all; one for an isolation cannot."""
    spec = policy.get("spec") or {}
    return bool(spec.get("ingress") or spec.get("egress"))


def _left(policy: V1Policy, under: str) -> Iterator[str]:
    """What one policy that selects the pod lets through."""
    text = f"NetworkPolicy {policy.name} still allows"
    if under == "native":
        return
    if under == "admin":
        if any(_is_open(rule) for rule in policy.rules[Direction.INGRESS]):
            yield f"{text} ingress from outside the cluster and from nodes"
        return
    for direction in policy.directions:
        if policy.rules[direction]:
            yield f"{text} {direction}"


def _is_open(rule: Rule) -> bool:
    """Whether a rule may let in somebody who is no pod of the cluster's own network."""
    return not rule.peers or not all(isinstance(peer, PodSet) for peer in rule.peers)


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


def begun(policies: Iterable[Json], name: str, pod: Json, key: str) -> str:
    """The label value of an isolation of this very pod that somebody has begun; else nothing.

    Two incidents about one pod then agree on one policy and one label, whoever writes first.
    """
    for policy in policies:
        metadata = policy["metadata"]
        if metadata["name"] == name and is_for(policy, pod["metadata"]["uid"]):
            return str((metadata.get("labels") or {}).get(key, ""))
    return ""


def is_for(policy: Json, uid: str) -> bool:
    """Whether a policy says that it belongs to this pod and goes with it."""
    return any(ref["uid"] == uid for ref in policy["metadata"].get("ownerReferences") or [])
