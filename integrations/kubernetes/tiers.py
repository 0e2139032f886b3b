"""How much further than NetworkPolicy an isolation may go, and what could be done beyond. Pure.

NetworkPolicies add up, so a deny-all isolates nothing that another policy allows. The way out, in
this order: a deny of the Admin tier, one of the network plug-in's own, a change of the policies of
others, a cut on the node. The first that leaves nothing open is taken, else the one that leaves
least. What is left is part of the plan, before anybody says yes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from integrations.kubernetes import tier_admin, tier_foreign, tier_native
from integrations.kubernetes.client import Json
from integrations.kubernetes.ground import Ground
from integrations.kubernetes.policy import remaining
from integrations.kubernetes.tier_model import LEVELS, Subject, Tier

__all__ = ["Choice", "choose", "left_open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is taken, what stays open then, and which ways are left to a person."""

    tier: Tier | None = None
    still: tuple[str, ...] = ()
    offer: str = ""


def left_open(
    ground: Ground, subject: Subject, memory: Mapping[str, str], policies: Sequence[Json]
) -> tuple[str, ...]:
    """What gets through to a pod that was isolated so; the same question in plan and proof.

    `memory` is that of the tier in force, empty for none; the policies are NetworkPolicies.
    """
    level, kind = memory.get("level", ""), memory.get("kind", "")
    found = list(remaining(policies, subject.labels, subject.name, level))
    if level == "native":
        found += tier_native.before_ours(ground, kind, subject.label[0])
    if kind != "CiliumNetworkPolicy":  # its deny comes before every allow, whoever's
        ours = (kind, int(memory["priority"])) if level == "admin" else None
        found += tier_admin.admitted(ground, subject.namespace, subject.labels, ours)
    return tuple(found)


def choose(ground: Ground, subject: Subject, level: str, now: Mapping[str, Json]) -> Choice:
    """The way to take up to a level; without one what NetworkPolicy alone leaves open.

    `now` are the policies as they were read, by name, for their versions.
    """
    bare = left_open(ground, subject, {}, subject.policies)
    if not bare:
        return Choice()
    ways = list(_ways(ground, subject, now))
    allowed = LEVELS[: LEVELS.index(level) + 1]
    best, still = None, bare
    for way in ways:
        if way.level in allowed and not way.refusal:
            left = left_open(ground, subject, way.memory, _policies_under(subject, way))
            if len(left) < len(still):
                best, still = way, left
    return Choice(tier=best, still=still, offer=_offer(ground, ways, level) if still else "")


def _policies_under(subject: Subject, way: Tier) -> list[Json]:
    """The policies that may select the pod once the way is taken."""
    gone = way.memory["names"].split() if way.level == "foreign" else ()
    return [item for item in subject.policies if item["metadata"]["name"] not in gone]


def _ways(ground: Ground, subject: Subject, now: Mapping[str, Json]) -> Iterator[Tier]:
    """All ways in their order, those that cannot be taken included."""
    yield from tier_admin.tiers(ground, subject)
    yield from tier_native.tiers(ground, subject)
    if "NetworkPolicy" in ground.refused:
        why = f"the policies of others cannot be changed: {ground.refused['NetworkPolicy']}"
        yield Tier(level="foreign", kind="NetworkPolicy", refusal=why)
    elif found := tier_foreign.tier(subject, now):
        yield found


def _offer(ground: Ground, ways: list[Tier], level: str) -> str:
    """One line: what a person can still do."""
    beyond = [way for way in ways if LEVELS.index(way.level) > LEVELS.index(level)]
    found = [f"escalate: {way.level} ({way.kind})" for way in beyond if not way.refusal]
    found += [way.refusal for way in ways if way.refusal]
    if "EgressFirewall" in ground.served:
        found.append("an EgressFirewall, which closes egress of its whole namespace, by hand")
    found.append("a cut on its node (kubernetes.cut_flows)")
    found.append("without any of these it cannot be isolated: capture, then kubernetes.evict_pod")
    return f"to close what is open: {'; '.join(found)}"
