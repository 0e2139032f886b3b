"""NetworkPolicy of networking.k8s.io/v1: reading it, and what its tier says about one flow. Pure.

A pod is isolated in a direction once any policy that selects it names that direction; allowed is
then what any rule of any of those policies allows, so nothing is ever denied by a single rule
(https://kubernetes.io/docs/concepts/services-networking/network-policies/). What this kind can
never block, traffic between a pod and its own node, is allowed here whatever the rules say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from integrations.kubernetes.client import Json
from integrations.kubernetes.policy_model import (
    Block,
    Direction,
    End,
    Flow,
    NamedPort,
    Network,
    Node,
    Outcome,
    Peer,
    Pod,
    PodSet,
    PolicyWorld,
    Port,
    PortSpan,
    Rule,
    Ruling,
    Unreadable,
    V1Policy,
)
from integrations.kubernetes.policy_selectors import (
    EVERYTHING,
    matches,
    odd_fields,
    peers_match,
    ports_match,
    read_network,
    read_selector,
)
from integrations.kubernetes.policy_truth import YES, Match, Truth, any_of, every

__all__ = ["is_own_node", "judge", "read", "rule_matches", "selecting"]

_PEERS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


def read(policy: Json) -> V1Policy:
    """A listed NetworkPolicy."""
    metadata, spec = policy["metadata"], policy.get("spec") or {}
    namespace = metadata.get("namespace") or ""
    return V1Policy(
        namespace=namespace,
        name=metadata["name"],
        subject=read_selector(spec.get("podSelector")),
        directions=_directions(spec),
        rules={
            way: tuple(_rule(rule, key, namespace) for rule in spec.get(way) or [])
            for way, key in _PEERS.items()
        },
    )


def _directions(spec: Json) -> frozenset[Direction]:
    """Left out, a policy speaks of ingress, and of egress when it has such rules."""
    named = spec.get("policyTypes")
    if named:
        return frozenset(way for way in Direction if way.capitalize() in named)
    if spec.get("egress"):
        return frozenset(Direction)
    return frozenset({Direction.INGRESS})


def _rule(rule: Json, key: str, namespace: str) -> Rule:
    return Rule(
        tuple(_peer(peer, namespace) for peer in rule.get(key) or []),
        tuple(_port(port) for port in rule.get("ports") or []),
    )


def _peer(peer: Json, namespace: str) -> Peer:
    block, namespaces = peer.get("ipBlock"), peer.get("namespaceSelector")
    pods = peer.get("podSelector")
    if block is not None:
        return _block(block)
    if set(peer) - {"podSelector", "namespaceSelector"} or (pods is None and namespaces is None):
        return Unreadable(f"peer: {odd_fields(peer, ('podSelector', 'namespaceSelector'))}")
    return PodSet(
        pods=EVERYTHING if pods is None else read_selector(pods),
        namespaces=None if namespaces is None else read_selector(namespaces),
        home=namespace,
    )


def _block(block: Json) -> Peer:
    network = read_network(block.get("cidr"))
    excepts = [read_network(text) for text in block.get("except") or []]
    if isinstance(network, Unreadable):
        return network
    holes: list[Network] = []
    for hole in excepts:
        if isinstance(hole, Unreadable):
            return hole
        holes.append(hole)
    return Block(network, tuple(holes))


def _port(port: Json) -> Port:
    protocol, number = port.get("protocol") or "TCP", port.get("port")
    if number is None:
        return PortSpan(protocol)
    if isinstance(number, str):
        return NamedPort(number, protocol)
    return PortSpan(protocol, number, port.get("endPort") or number)


def is_own_node(pod: Pod, other: End) -> bool:
    """Whether the other end is the node that the pod runs on: never blocked, never a peer."""
    return isinstance(other, Node) and bool(pod.node) and other.name == pod.node


def selecting(world: PolicyWorld, pod: Pod) -> Iterator[tuple[V1Policy, Match]]:
    """The policies that select a pod, or may; each with the match."""
    for policy in world.policies.get(pod.namespace, ()):
        match = matches(policy.subject, pod.labels)
        if match.truth is not Truth.NO:
            yield policy, match


def judge(world: PolicyWorld, flow: Flow, pod: Pod, direction: Direction) -> Ruling:
    """What the policies that select this pod say about the flow, in one direction."""
    found = list(selecting(world, pod))
    isolating = [(policy, match) for policy, match in found if direction in policy.directions]
    others = [policy for policy, _ in found if direction not in policy.directions]
    if not isolating:
        return _untouched(others, direction)
    if is_own_node(pod, flow.far(direction)[0]):
        text = f"NetworkPolicy never blocks traffic between the {direction.end} and its own node"
        ruling = Ruling(frozenset({Outcome.ALLOW}), (text,))
    else:
        votes = [_vote(world, flow, policy, match, direction) for policy, match in isolating]
        ruling = _union(votes)
    if any(match.truth is Truth.YES for _, match in isolating):
        return ruling
    alone = _untouched(others, direction)
    return Ruling(ruling.outcomes | alone.outcomes, (*ruling.reasons, *alone.reasons))


def _untouched(others: list[V1Policy], direction: Direction) -> Ruling:
    if not others:
        text = f"no NetworkPolicy selects the {direction.end} for {direction}"
        return Ruling(frozenset({Outcome.NEXT}), (text,))
    names = ", ".join(policy.label for policy in others)
    text = f"{names} selects the {direction.end}, but not for {direction}"
    return Ruling(frozenset({Outcome.ELSEWHERE}), (text,))


@dataclass(frozen=True, slots=True)
class _Vote:
    """One policy's word: whether it selects, whether it allows, and why."""

    selected: Truth
    allows: Truth
    reasons: tuple[str, ...]


def _union(votes: list[_Vote]) -> Ruling:
    """One clear yes allows; without one, everything that may be is an outcome."""
    clear = [v for v in votes if v.selected is Truth.YES and v.allows is Truth.YES]
    if clear:
        reasons = tuple(text for vote in clear for text in vote.reasons)
        return Ruling(frozenset({Outcome.ALLOW}), reasons)
    outcomes = {Outcome.ALLOW for vote in votes if vote.allows is not Truth.NO}
    if any(vote.allows is not Truth.YES for vote in votes):
        outcomes.add(Outcome.DENY)  # that one alone may be the one that isolates
    return Ruling(frozenset(outcomes), tuple(text for vote in votes for text in vote.reasons))


def _vote(
    world: PolicyWorld, flow: Flow, policy: V1Policy, selected: Match, direction: Direction
) -> _Vote:
    found = [
        (f"{policy.label} {direction} rule {index}", rule_matches(world, flow, rule, direction))
        for index, rule in enumerate(policy.rules[direction])
    ]
    allows = any_of(match for _, match in found).truth
    reasons = [_reason(place, match) for place, match in found if match.truth is allows]
    if allows is Truth.NO:
        reasons = [_closing(policy, direction)]
    if selected.truth is Truth.MAYBE:
        reasons.append(f"{policy.label} may select it, cannot tell: {selected.why}")
    return _Vote(selected.truth, allows, tuple(reasons))


def rule_matches(world: PolicyWorld, flow: Flow, rule: Rule, direction: Direction) -> Match:
    """Whether one rule allows the flow: everybody without peers, every port without ports."""
    end, address = flow.far(direction)
    who = peers_match(rule.peers, world, end, address) if rule.peers else YES
    return every([who, ports_match(rule.ports, flow)])


def _reason(place: str, match: Match) -> str:
    if match.truth is Truth.YES:
        return f"{place} allows it"
    return f"{place} may allow it, cannot tell: {match.why}"


def _closing(policy: V1Policy, direction: Direction) -> str:
    what = f"none of its {direction} rules allows it"
    if not policy.rules[direction]:
        what = f"has no {direction} rule"
    return f"{policy.label} isolates for {direction} and {what}"
