"""Policies of administrators: AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy.

Pure. Two API versions are read: v1alpha1 with two kinds, actions Allow, Deny, Pass and `ports`, and
v1alpha2 with one kind, two tiers, Accept, Deny, Pass and `protocols`
(https://network-policy-api.sigs.k8s.io/api-overview/). Rules are read in order, policies by
priority, the lower number first; Accept and Deny are final, Pass goes to the next tier. Two
policies of equal priority that match one flow leave it undefined, and so does this module.

A peer that cannot be read is "cannot tell", never "no match": the API's text wants a program to
fail closed then, but which program runs here, and of which version, is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from integrations.kubernetes.client import Json
from integrations.kubernetes.policy_model import (
    PROTOCOLS,
    Action,
    AdminPolicy,
    AdminRule,
    Block,
    Direction,
    Domains,
    Flow,
    NamedPort,
    NodeSet,
    Outcome,
    Peer,
    Pod,
    PodSet,
    PolicyWorld,
    Port,
    PortSpan,
    Ruling,
    Unreadable,
)
from integrations.kubernetes.policy_selectors import (
    EVERYTHING,
    odd_fields,
    peers_match,
    ports_match,
    read_network,
    read_selector,
    set_has,
)
from integrations.kubernetes.policy_truth import NO, Match, Truth, every, maybe

__all__ = ["judge", "read", "rule_matches", "subject_is"]

_ACTIONS = {
    "Allow": Action.ACCEPT,
    "Accept": Action.ACCEPT,
    "Deny": Action.DENY,
    "Pass": Action.PASS,
}
_ONE_KIND = "ClusterNetworkPolicy"  # v1alpha2 has no other
_PEERS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_SETS = ("namespaces", "pods")
_OUTWARD = (*_SETS, "nodes", "networks", "domainNames")
_PORTS = ("portNumber", "portRange", "namedPort")
_PROTOCOL_FIELDS = (*(name.lower() for name in PROTOCOLS), "destinationNamedPort")


def read(policy: Json, kind: str = "") -> AdminPolicy:
    """A listed policy of one of the three kinds; lists leave the kind out, so it may be given."""
    spec = policy.get("spec") or {}
    kind = kind or policy.get("kind") or _ONE_KIND
    tier = {"AdminNetworkPolicy": "Admin", "BaselineAdminNetworkPolicy": "Baseline"}.get(
        kind, spec.get("tier")
    )
    subject = _subject(spec.get("subject") or {})
    if tier not in {"Admin", "Baseline"}:
        subject = Unreadable(f"tier {tier!r} is not known")
    return AdminPolicy(
        kind=kind,
        name=policy["metadata"]["name"],
        baseline=tier == "Baseline",
        priority=spec.get("priority") or 0,
        subject=subject,
        rules={way: tuple(_rule(rule, way) for rule in spec.get(way) or []) for way in Direction},
    )


def _subject(subject: Json) -> PodSet | Unreadable:
    if why := odd_fields(subject, _SETS):
        return Unreadable(f"subject: {why}")
    return _set(subject)


def _set(given: Json) -> PodSet:
    if "pods" not in given:
        return PodSet(pods=EVERYTHING, namespaces=read_selector(given["namespaces"]))
    pods = given["pods"]
    return PodSet(
        pods=read_selector(pods.get("podSelector")),
        namespaces=read_selector(pods.get("namespaceSelector")),
    )


def _rule(rule: Json, way: Direction) -> AdminRule:
    ports = [_port(port) for port in rule.get("ports") or []]
    ports += [_protocol(port) for port in rule.get("protocols") or []]
    known = _SETS if way is Direction.INGRESS else _OUTWARD
    return AdminRule(
        action=_ACTIONS.get(rule.get("action", ""), Action.UNREADABLE),
        peers=tuple(p for peer in rule.get(_PEERS[way]) or [] for p in _peers(peer, known)),
        ports=tuple(ports),
        name=rule.get("name") or "",
    )


def _peers(peer: Json, known: tuple[str, ...]) -> Iterable[Peer]:
    if why := odd_fields(peer, known):
        yield Unreadable(f"peer: {why}")
    elif "nodes" in peer:
        yield NodeSet(read_selector(peer["nodes"]))
    elif "domainNames" in peer:
        yield Domains(tuple(peer["domainNames"]))
    elif "networks" in peer:
        for text in peer["networks"]:
            network = read_network(text)
            yield network if isinstance(network, Unreadable) else Block(network)
    else:
        yield _set(peer)


def _port(port: Json) -> Port:
    """A port of v1alpha1."""
    if why := odd_fields(port, _PORTS):
        return Unreadable(f"port: {why}")
    if "namedPort" in port:
        return NamedPort(port["namedPort"])
    if "portRange" in port:
        span = port["portRange"]
        return PortSpan(span.get("protocol") or "TCP", span["start"], span["end"])
    number = port["portNumber"]
    return PortSpan(number.get("protocol") or "TCP", number["port"], number["port"])


def _protocol(given: Json) -> Port:
    """A protocol of v1alpha2; without a destination port all of the protocol's."""
    if why := odd_fields(given, _PROTOCOL_FIELDS):
        return Unreadable(f"protocol: {why}")
    if "destinationNamedPort" in given:
        return NamedPort(given["destinationNamedPort"])
    ((name, detail),) = given.items()
    port: Mapping[str, Any] = detail.get("destinationPort") or {}
    if not port:
        return PortSpan(name.upper()) if not detail else Unreadable(f"{name} match: {detail}")
    if why := odd_fields(dict(port), ("number", "range")):
        return Unreadable(f"port: {why}")
    if "number" in port:
        return PortSpan(name.upper(), port["number"], port["number"])
    return PortSpan(name.upper(), port["range"]["start"], port["range"]["end"])


def subject_is(policy: AdminPolicy, world: PolicyWorld, pod: Pod) -> Match:
    """Whether a policy applies to a pod."""
    if isinstance(policy.subject, Unreadable):
        return NO if pod.host_network else maybe(policy.subject.why)
    return set_has(policy.subject, world, pod)


def rule_matches(world: PolicyWorld, flow: Flow, rule: AdminRule, direction: Direction) -> Match:
    """Whether one rule speaks of the flow."""
    end, address = flow.far(direction)
    return every([peers_match(rule.peers, world, end, address), ports_match(rule.ports, flow)])


def judge(
    world: PolicyWorld, flow: Flow, pod: Pod, direction: Direction, *, baseline: bool
) -> Ruling:
    """What one tier says about the flow for this pod, in one direction."""
    tier = [policy for policy in world.admin if policy.baseline is baseline]
    versions = [[p for p in tier if (p.kind == _ONE_KIND) is one] for one in (True, False)]
    found = [_in_order(world, flow, pod, policies, direction) for policies in versions]
    speaking = [ruling for ruling in found if ruling.reasons]
    if len(speaking) < len(found):
        return speaking[0] if speaking else Ruling(frozenset({Outcome.NEXT}))
    outcomes = frozenset().union(*(ruling.outcomes for ruling in found))
    reasons = [text for ruling in found for text in ruling.reasons]
    if len(outcomes) > 1:
        reasons.append("which of two API versions is asked first is not defined")
    return Ruling(outcomes, tuple(reasons))


def _in_order(
    world: PolicyWorld, flow: Flow, pod: Pod, policies: list[AdminPolicy], direction: Direction
) -> Ruling:
    """What the policies of one API version say, by priority."""
    outcomes: set[Outcome] = set()
    reasons: list[str] = []
    for _, equals in groupby(sorted(policies, key=_precedence), key=_precedence):
        found = [_walk(world, flow, pod, policy, direction) for policy in equals]
        for ruling in found:
            outcomes |= ruling.outcomes - {Outcome.ELSEWHERE}
            reasons += ruling.reasons
        if len({ruling.outcomes for ruling in found if ruling.reasons}) > 1:
            reasons.append("their priority is equal: which is asked first is not defined")
        # ELSEWHERE is a policy's "no rule of mine matches"; when all may say so, the next is asked
        if any(Outcome.ELSEWHERE not in ruling.outcomes for ruling in found):
            return Ruling(frozenset(outcomes), tuple(reasons))
    return Ruling(frozenset(outcomes | {Outcome.NEXT}), tuple(reasons))


def _precedence(policy: AdminPolicy) -> int:
    return policy.priority


def _walk(
    world: PolicyWorld, flow: Flow, pod: Pod, policy: AdminPolicy, direction: Direction
) -> Ruling:
    """One policy's rules in order, up to the first that surely matches."""
    selected = subject_is(policy, world, pod)
    outcomes: set[Outcome] = set()
    reasons: list[str] = []
    rules = policy.rules[direction] if selected.truth is not Truth.NO else ()
    for index, rule in enumerate(rules):
        match = rule_matches(world, flow, rule, direction)
        effects, sure = _effects(rule, match)
        if not effects:
            continue
        outcomes |= effects
        place = f"{policy.label} {direction} rule {index}"
        reasons.append(_reason(place, rule, every([selected, sure])))
        if sure.truth is Truth.YES:
            break
    else:
        outcomes.add(Outcome.ELSEWHERE)
    if selected.truth is Truth.MAYBE:
        outcomes.add(Outcome.ELSEWHERE)
    return Ruling(frozenset(outcomes), tuple(reasons))


_EFFECTS = {
    Action.ACCEPT: {Outcome.ALLOW},
    Action.DENY: {Outcome.DENY},
    Action.PASS: {Outcome.NEXT},
    Action.UNREADABLE: {Outcome.ALLOW, Outcome.DENY, Outcome.NEXT},
}


def _effects(rule: AdminRule, match: Match) -> tuple[set[Outcome], Match]:
    """What a rule may lead to, and whether it surely leads to one of these.

    A rule with a peer that cannot be read is, by the API's text, to be taken as matching nothing
    when it accepts and as "deny all" otherwise; another program may just skip the peer.
    """
    plain = _EFFECTS[rule.action] if match.truth is not Truth.NO else set()
    why = next((peer.why for peer in rule.peers if isinstance(peer, Unreadable)), "")
    if not why:
        return plain, match
    if rule.action is Action.ACCEPT:
        return plain, maybe(why)
    if rule.action is Action.UNREADABLE or match.truth is not Truth.YES:
        return plain | {Outcome.DENY}, maybe(why)
    return plain | {Outcome.DENY}, match


def _reason(place: str, rule: AdminRule, sure: Match) -> str:
    name = f" ({rule.name})" if rule.name else ""
    verb = {
        Action.ACCEPT: "accepts it",
        Action.DENY: "denies it",
        Action.PASS: "passes it on",
        Action.UNREADABLE: "does something this version does not know",
    }[rule.action]
    if sure.truth is Truth.YES:
        return f"{place}{name} {verb}"
    return f"{place}{name} may match, then {verb}; cannot tell: {sure.why}"
