"""Policies of others: taking one pod out of what they select, and putting that back. Pure.

The last level of escalation, because it changes what belongs to somebody: a person always says
yes first, and whoever manages the policy may put it back. One condition is added to its selector,
"not with this value of our label", which is true of every pod but the isolated one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from integrations.kubernetes.client import Json
from integrations.kubernetes.policy import remaining
from integrations.kubernetes.tier_model import Subject, Tier
from responder.model import Change, ObjectRef

__all__ = ["excluding", "is_excluded", "restored", "rewound", "same_but_for_ours", "tier"]

_KIND = "NetworkPolicy"


def excluding(selector: Mapping[str, Any], label: tuple[str, str]) -> Json:
    """The selector with the condition that leaves our pod out."""
    rules = [*(selector.get("matchExpressions") or []), _condition(label)]
    return {**selector, "matchExpressions": rules}


def restored(selector: Mapping[str, Any], label: tuple[str, str]) -> Json:
    """The selector without that condition: word for word what it was before."""
    rules = [rule for rule in selector.get("matchExpressions") or [] if rule != _condition(label)]
    rest = {key: value for key, value in selector.items() if key != "matchExpressions"}
    return {**rest, "matchExpressions": rules} if rules else rest


def is_excluded(selector: Mapping[str, Any], label: tuple[str, str]) -> bool:
    """Whether the condition is there."""
    return _condition(label) in (selector.get("matchExpressions") or [])


def same_but_for_ours(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    """Whether two selectors differ at most in conditions on our label, whichever isolation's."""
    return _without(one, key) == _without(other, key)


def _without(selector: Mapping[str, Any], key: str) -> Json:
    rules = [rule for rule in selector.get("matchExpressions") or [] if rule.get("key") != key]
    return {"matchLabels": selector.get("matchLabels") or {}, "matchExpressions": rules}


def _condition(label: tuple[str, str]) -> Json:
    key, value = label
    return {"key": key, "operator": "NotIn", "values": [value]}


def rewound(policies: list[Json], label: tuple[str, str]) -> list[Json]:
    """The policies as they were before this very isolation changed any."""
    return [
        {**item, "spec": {**item["spec"], "podSelector": restored(selector, label)}}
        if is_excluded(selector := (item.get("spec") or {}).get("podSelector") or {}, label)
        else item
        for item in policies
    ]


def tier(subject: Subject, now: Mapping[str, Json]) -> Tier | None:
    """Take the pod out of every policy that still lets something through; nothing when none does.

    `now` are the policies as they were read, by name.
    """
    chosen = [item for item in subject.policies if _lets_through(subject, item)]
    if not chosen:
        return None
    names = [item["metadata"]["name"] for item in chosen]
    return Tier(
        level="foreign",
        kind=_KIND,
        changes=tuple(_changes(subject, chosen, now)),
        memory={"level": "foreign", "kind": _KIND, "names": " ".join(names)},
        notes=tuple(
            f"whoever manages NetworkPolicy {name} may put its selector back" for name in names
        ),
    )


def _lets_through(subject: Subject, item: Json) -> bool:
    return bool(remaining([item], subject.labels, subject.name))


def _changes(subject: Subject, chosen: list[Json], now: Mapping[str, Json]) -> Iterator[Change]:
    for item in chosen:
        metadata = item["metadata"]
        ref = ObjectRef(
            kind=_KIND,
            name=metadata["name"],
            namespace=subject.namespace,
            uid=metadata.get("uid", ""),
            system=subject.system,
        )
        selector = item["spec"].get("podSelector") or {}
        version = now[metadata["name"]]["metadata"].get("resourceVersion", "")
        yield Change(
            verb="patch",
            ref=ref,
            before={"podSelector": selector},
            after={"podSelector": excluding(selector, subject.label)},
            precondition={"resourceVersion": version},
        )
