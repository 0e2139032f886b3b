"""Policies of administrators: what they let through before NetworkPolicy, and our own deny. Pure.

Admin tier, then NetworkPolicy, then Baseline; an Admin rule that accepts or denies is final, the
lower number is asked first, and two policies of one number leave the order open
(https://network-policy-api.sigs.k8s.io/api-overview/). So our deny takes a number of its own out
of a few, and what a policy before it accepts is named. For ingress these policies know pods only,
neither addresses nor nodes: our NetworkPolicy stays beside it, and what another one still lets in
from outside is named too.

A CRD without an implementation denies nothing: only kinds that the configuration calls enforced
are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from integrations.kubernetes import policy_admin
from integrations.kubernetes.client import Json
from integrations.kubernetes.ground import ADMIN, Ground
from integrations.kubernetes.policy_model import (
    Action,
    AdminPolicy,
    Direction,
    Pod,
    PolicyWorld,
    read_namespace,
)
from integrations.kubernetes.policy_truth import Truth
from integrations.kubernetes.tier_model import Subject, Tier, metadata
from responder.model import Change, ObjectRef

__all__ = ["admitted", "spec", "tiers"]

PRIORITIES = range(6)
_OPENING = {Action.ACCEPT, Action.UNREADABLE}
_EVERYWHERE = ["0.0.0.0/0", "::/0"]
_VERSIONS = {"ClusterNetworkPolicy": "v1alpha2", "AdminNetworkPolicy": "v1alpha1"}


def admitted(
    ground: Ground,
    namespace: str,
    labels: Mapping[str, str],
    ours: tuple[str, int] | None = None,
) -> tuple[str, ...]:
    """What the Admin tier may accept for a pod, whatever NetworkPolicy denies.

    With our own deny (its kind and number) only what is asked before it, or may be. A kind that
    could not be listed counts as accepting.
    """
    known = dict([read_namespace(ground.namespace)]) if ground.namespace else {}
    world = PolicyWorld(namespaces=known)
    pod = Pod(namespace=namespace, name="", labels=dict(labels))
    found = [
        f"{policy.label} still accepts {direction}"
        for policy in _policies(ground)
        if not _is_after(policy, ours)
        and policy_admin.subject_is(policy, world, pod).truth is not Truth.NO
        for direction in Direction
        if any(rule.action in _OPENING for rule in policy.rules[direction])
    ]
    found += [
        f"{kind} objects cannot be read, and one may let it through: {why}"
        for kind, why in ground.unread.items()
        if kind in ADMIN
    ]
    return tuple(sorted(found)) + ((ground.doubt,) if ground.doubt else ())


def _policies(ground: Ground) -> Iterator[AdminPolicy]:
    for kind in ADMIN:
        for item in ground.listed.get(kind, ()):
            policy = policy_admin.read(item, kind)
            if not policy.baseline:
                yield policy


def _is_after(policy: AdminPolicy, ours: tuple[str, int] | None) -> bool:
    """Whether our deny is surely asked first; between two API versions nothing is sure."""
    return ours is not None and policy.kind == ours[0] and policy.priority > ours[1]


def tiers(ground: Ground, subject: Subject) -> Iterator[Tier]:
    """A deny in the Admin tier for each kind that is served, or why it cannot be used."""
    for kind in ADMIN:
        if kind in ground.served:
            yield _tier(ground, subject, kind)


def _tier(ground: Ground, subject: Subject, kind: str) -> Tier:
    place = subject.system.removeprefix("cluster:")
    if kind not in ground.enforced:
        why = (
            f"{kind} is served, but nothing says that it is enforced; when it is, add it to "
            f"`enforced` of [clusters.{place}]"
        )
        return Tier(level="admin", kind=kind, refusal=why)
    if why := ground.refused.get(kind) or ground.unread.get(kind, ""):
        return Tier(level="admin", kind=kind, refusal=f"{kind} cannot be used: {why}")
    free = [one for one in PRIORITIES if one not in _taken(ground, subject, kind)]
    if not free:
        why = f"{kind} cannot be used: priorities 0 to {PRIORITIES[-1]} are taken by others"
        return Tier(level="admin", kind=kind, refusal=why)
    made = {
        "apiVersion": f"policy.networking.k8s.io/{_VERSIONS[kind]}",
        "kind": kind,
        "metadata": metadata(subject),
        "spec": spec(kind, subject.namespace, subject.label, free[0]),
    }
    ref = ObjectRef(kind=kind, name=subject.name, system=subject.system)
    return Tier(
        level="admin",
        kind=kind,
        changes=(Change(verb="create", ref=ref, after=made),),
        memory={
            "level": "admin",
            "kind": kind,
            "name": subject.name,
            "namespace": "",
            "priority": str(free[0]),
        },
    )


def _taken(ground: Ground, subject: Subject, kind: str) -> set[int]:
    """Numbers that policies of others have; ours speak of different pods each, and may share."""
    key, _ = subject.label
    others = [
        item
        for item in ground.listed.get(kind, ())
        if key not in (item["metadata"].get("labels") or {})
    ]
    read = [policy_admin.read(item, kind) for item in others]
    return {policy.priority for policy in read if not policy.baseline}


def spec(kind: str, namespace: str, label: tuple[str, str], priority: int) -> Json:
    """What denies every pod and every address, both ways, for one label of one namespace.

    Raises `KeyError` for a kind that is not of administrators.
    """
    key, value = label
    home = {"kubernetes.io/metadata.name": namespace}
    chosen = {
        "namespaceSelector": {"matchLabels": home},
        "podSelector": {"matchLabels": {key: value}},
    }
    everybody: Json = {"namespaces": {}}
    outward = [everybody, {"networks": list(_EVERYWHERE)}]
    tier = {"AdminNetworkPolicy": {}, "ClusterNetworkPolicy": {"tier": "Admin"}}[kind]
    return {
        **tier,
        "priority": priority,
        "subject": {"pods": chosen},
        "ingress": [{"name": "quarantine", "action": "Deny", "from": [everybody]}],
        "egress": [{"name": "quarantine", "action": "Deny", "to": outward}],
    }
