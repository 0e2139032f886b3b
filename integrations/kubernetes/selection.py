"""What selects a pod by its labels, and what will when the labels are others. Pure.

Taking labels off ends selections, and begins some: `DoesNotExist`, `NotIn` and an empty selector
match a pod without labels. A policy counts twice: by the pods it speaks for, and by the pods that
it names as peers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from integrations.kubernetes import policy_v1
from integrations.kubernetes.client import Json
from integrations.kubernetes.policy import has_rules, selects, service_selects
from integrations.kubernetes.policy_model import Pod, PodSet, PolicyWorld
from integrations.kubernetes.policy_selectors import set_has
from integrations.kubernetes.policy_truth import Truth

__all__ = ["Shift", "shift"]

Labels = Mapping[str, str]
_Selecting = tuple[str, Callable[[Labels], bool]]


@dataclass(frozen=True, slots=True)
class Shift:
    """What stops and what starts selecting a pod, by name and in order."""

    stops: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()


def shift(
    pod: Json,
    after: Labels,
    *,
    policies: Iterable[Json] = (),
    services: Iterable[Json] = (),
    budgets: Iterable[Json] = (),
    hooks: Mapping[str, Iterable[Json]] | None = None,
) -> Shift:
    """The difference between the labels that the pod has and those that it will have.

    Policies, services and budgets are those of its namespace; what other namespaces say of it as
    a peer is not looked at.
    """
    before = pod["metadata"].get("labels") or {}
    known = [
        *_policies(pod, policies),
        *_services(services),
        *_budgets(budgets),
        *_admission(hooks or {}),
    ]
    was = {name for name, chosen in known if chosen(before)}
    will = {name for name, chosen in known if chosen(after)}
    return Shift(tuple(sorted(was - will)), tuple(sorted(will - was)))


def _policies(pod: Json, policies: Iterable[Json]) -> Iterator[_Selecting]:
    namespace = pod["metadata"]["namespace"]
    for item in policies:
        selector = (item.get("spec") or {}).get("podSelector") or {}
        name = f"NetworkPolicy {item['metadata']['name']}"
        yield name, partial(selects, selector)
        if not has_rules(item):
            continue
        rules = [rule for found in policy_v1.read(item).rules.values() for rule in found]
        peers = [peer for rule in rules for peer in rule.peers if isinstance(peer, PodSet)]
        if peers:
            yield f"{name} (as a peer)", partial(_is_peer, peers, namespace)


def _is_peer(peers: Iterable[PodSet], namespace: str, labels: Labels) -> bool:
    """Whether one of the sets may have it; a namespace's labels are not known here."""
    pod = Pod(namespace=namespace, name="", labels=dict(labels))
    return any(set_has(peer, PolicyWorld(), pod).truth is not Truth.NO for peer in peers)


def _services(services: Iterable[Json]) -> Iterator[_Selecting]:
    for item in services:
        yield f"Service {item['metadata']['name']}", partial(service_selects, item)


def _budgets(budgets: Iterable[Json]) -> Iterator[_Selecting]:
    for item in budgets:
        selector = (item.get("spec") or {}).get("selector")
        yield f"PodDisruptionBudget {item['metadata']['name']}", partial(selects, selector)


def _admission(hooks: Mapping[str, Iterable[Json]]) -> Iterator[_Selecting]:
    """Webhooks and admission policies that choose pods by their labels."""
    for kind, items in hooks.items():
        for item in items:
            for part, rules in _rules_of(item):
                selector = part.get("objectSelector")
                if selector and any(_is_about_pods(rule) for rule in rules):
                    place = "/".join(filter(None, (item["metadata"]["name"], part.get("name"))))
                    yield f"{kind} {place}", partial(selects, selector)


def _rules_of(item: Json) -> Iterator[tuple[Mapping[str, Any], list[Json]]]:
    for hook in item.get("webhooks") or []:
        yield hook, hook.get("rules") or []
    constraints = (item.get("spec") or {}).get("matchConstraints") or {}
    if constraints:
        yield constraints, constraints.get("resourceRules") or []


def _is_about_pods(rule: Json) -> bool:
    groups, resources = rule.get("apiGroups") or [], rule.get("resources") or []
    return bool({"", "*"} & set(groups) and {"pods", "*", "*/*", "pods/*"} & set(resources))
