"""Who may reach a pod, and what it may reach, over everything listed and everywhere outside. Pure.

Ports and outside addresses are cut where some policy could change its mind, and one of each piece
is asked, so the result speaks of every port and every address. It is what the policies say; see
`policy_evaluator` for what that does not prove.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from typing import Any

from integrations.kubernetes import policy_admin, policy_v1
from integrations.kubernetes.policy_evaluator import Answer, evaluate
from integrations.kubernetes.policy_model import (
    PROTOCOLS,
    Action,
    Address,
    AdminPolicy,
    AdminRule,
    Block,
    Direction,
    End,
    NamedPort,
    Network,
    Node,
    Outside,
    Pod,
    PolicyWorld,
    PortSpan,
    Rule,
)
from integrations.kubernetes.policy_truth import Truth

__all__ = ["Exposure", "Reach", "exposure", "openings", "shut"]

_LAST_PORT = 65535
_SHOWN = 4  # blocks of addresses named in one text
_OTHER = {Direction.INGRESS: Direction.EGRESS, Direction.EGRESS: Direction.INGRESS}


@dataclass(frozen=True, slots=True)
class Reach:
    """One peer and the ports on which the answer is the same: yes or unknown, never no."""

    peer: str
    ports: str
    answer: Answer

    @property
    def text(self) -> str:
        """A line for people."""
        doubt = "" if self.answer.allowed == "yes" else " (cannot tell)"
        return f"{self.peer} on {self.ports}{doubt}: {'; '.join(self.answer.reasons)}"


@dataclass(frozen=True, slots=True)
class Exposure:
    """What gets to a pod and from it. `always` is what NetworkPolicy can never block."""

    reached_by: tuple[Reach, ...]
    reaches: tuple[Reach, ...]
    always: tuple[str, ...]

    @property
    def closed(self) -> bool:
        """Whether nothing is left but what can never be blocked; a doubt counts as open."""
        return not self.reached_by and not self.reaches


def exposure(world: PolicyWorld, pod: Pod) -> Exposure:
    """Everybody who may open a connection to the pod, and whom it may open one to.

    It takes a while in a big cluster (about 5 ms for each kind of replica): keep it off the event
    loop there. A pod that is shut on its own side costs next to nothing.
    """
    own = world.nodes.get(pod.node) or Node(pod.node)
    always = [f"{pod.text} reaches itself"]
    if pod.host_network:
        always.append(f"{pod.text} is on the network of {own.text}: no policy applies to it")
    elif pod.node:
        always.append(f"{own.text}, its own, reaches it")
        if not evaluate(world, pod, own, 1).blocked:
            always.append(f"it reaches {own.text}, its own")
    return Exposure(
        reached_by=tuple(_reaches(world, pod, Direction.INGRESS)),
        reaches=tuple(_reaches(world, pod, Direction.EGRESS)),
        always=tuple(always),
    )


def shut(world: PolicyWorld, pod: Pod, direction: Direction) -> bool:
    """Whether the pod's own side lets nothing through, whoever the other end is (own node apart).

    A quick answer from the pod's own policies; False means only that a closer look is needed.
    """
    return not openings(world, pod, direction)


def openings(world: PolicyWorld, pod: Pod, direction: Direction) -> tuple[str, ...]:
    """What on the pod's own side may let something through, whoever the other end is.

    Needs only the pod and the policies. It says too much rather than too little: a rule counts
    though nobody may be there to use it, or another tier may deny it.
    """
    if pod.host_network:
        return (f"{pod.text} is on its node's network: no policy applies to it",)
    found = [
        f"{policy.label} {direction} rule {index} still lets something through"
        for policy in _admin(world, pod, baseline=False)
        for index, rule in enumerate(policy.rules[direction])
        if rule.action in {Action.ACCEPT, Action.UNREADABLE}
    ]
    selecting = [
        (policy, match)
        for policy, match in policy_v1.selecting(world, pod)
        if direction in policy.directions
    ]
    found += [
        f"{policy.label} {direction} rule {index} still lets something through"
        for policy, _ in selecting
        for index, _ in enumerate(policy.rules[direction])
    ]
    if not any(match.truth is Truth.YES for _, match in selecting):
        found.append(f"no NetworkPolicy surely isolates {pod.text} for {direction}")
    return tuple(found)


def _admin(world: PolicyWorld, pod: Pod, *, baseline: bool) -> Iterator[AdminPolicy]:
    for policy in world.admin:
        selects = policy_admin.subject_is(policy, world, pod).truth is not Truth.NO
        if policy.baseline is baseline and selects:
            yield policy


def _rules(world: PolicyWorld, end: End, direction: Direction) -> Iterator[Rule | AdminRule]:
    """Every rule that may speak at this end."""
    if not isinstance(end, Pod) or end.host_network:
        return
    for policy, _ in policy_v1.selecting(world, end):
        yield from policy.rules[direction]
    for tier in (False, True):
        for admin in _admin(world, end, baseline=tier):
            yield from admin.rules[direction]


def _reaches(world: PolicyWorld, pod: Pod, direction: Direction) -> Iterator[Reach]:
    if not pod.host_network and shut(world, pod, direction):
        return
    blocks = _blocks(_rules(world, pod, direction))
    asked: dict[Any, list[tuple[Answer, str]]] = {}
    peers: list[End] = [*_others(world, pod), *_nodes(world, pod)]
    for peer in peers:
        key = _alike(peer, blocks)
        if key not in asked:
            asked[key] = list(_by_answer(world, pod, peer, direction))
        for answer, ports in asked[key]:
            yield Reach(peer.text, ports, answer)
    yield from _outside(world, pod, direction)


def _alike(peer: End, blocks: list[Network]) -> Any:
    """All that policies can see of a peer: replicas are alike, so that one answer does for all."""
    inside = tuple(tuple(a in network for network in blocks) for a in peer.addresses)
    if isinstance(peer, Pod):
        return (peer.namespace, frozenset(peer.labels.items()), peer.ports, inside)
    return peer.text


def _blocks(rules: Iterable[Rule | AdminRule]) -> list[Network]:
    return [
        network
        for rule in rules
        for peer in rule.peers
        if isinstance(peer, Block)
        for network in (peer.network, *peer.excepts)
    ]


def _others(world: PolicyWorld, pod: Pod) -> Iterator[Pod]:
    for other in world.pods:
        if not other.ended and not other.host_network and other.place != pod.place:
            yield other


def _nodes(world: PolicyWorld, pod: Pod) -> Iterator[Node]:
    """All nodes but the pod's own, those included that are known only through a pod."""
    names = {name: world.nodes.get(name) or Node(name) for name in world.nodes}
    for other in world.pods:
        if other.node and other.node not in names:
            names[other.node] = Node(
                other.node, None, other.addresses if other.host_network else ()
            )
    names.pop(pod.node, None)
    yield from names.values()


def _by_answer(
    world: PolicyWorld, pod: Pod, peer: End, direction: Direction
) -> Iterator[tuple[Answer, str]]:
    """The answers other than no, each with the ports that have it."""
    source, destination = (pod, peer) if direction is Direction.EGRESS else (peer, pod)
    rules = [*_rules(world, pod, direction), *_rules(world, peer, _OTHER[direction])]
    found: dict[Answer, dict[str, list[tuple[int, int]]]] = {}
    for protocol in PROTOCOLS:
        for first, last in _pieces(rules, destination, protocol):
            answer = evaluate(world, source, destination, first, protocol)
            if not answer.blocked:
                found.setdefault(answer, {}).setdefault(protocol, []).append((first, last))
    for answer, spans in found.items():
        yield answer, _port_text(spans)


def _pieces(
    rules: Iterable[Rule | AdminRule], destination: End, protocol: str
) -> Iterator[tuple[int, int]]:
    """The ports of one protocol, cut wherever one of the rules begins or ends to match."""
    cuts = {1}
    for port in (port for rule in rules for port in rule.ports):
        if isinstance(port, PortSpan) and port.protocol == protocol:
            cuts |= {port.first, port.last + 1}
        elif isinstance(port, NamedPort) and isinstance(destination, Pod):
            for declared in destination.ports:
                if declared.name == port.name:
                    cuts |= {declared.number, declared.number + 1}
    starts = sorted(cut for cut in cuts if 1 <= cut <= _LAST_PORT)
    yield from zip(starts, [*(start - 1 for start in starts[1:]), _LAST_PORT], strict=True)


def _port_text(spans: dict[str, list[tuple[int, int]]]) -> str:
    texts = {protocol: _ranges(found) for protocol, found in spans.items()}
    if list(texts.values()) == ["all"] * len(PROTOCOLS):
        return "every port"
    return ", ".join(f"{protocol} {text}" for protocol, text in texts.items())


def _ranges(spans: list[tuple[int, int]]) -> str:
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and joined[-1][1] == first - 1:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    if joined == [(1, _LAST_PORT)]:
        return "all"
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in joined)


def _outside(world: PolicyWorld, pod: Pod, direction: Direction) -> Iterator[Reach]:
    """Addresses of nobody listed, as blocks, joined where the answers are the same."""
    found: dict[tuple[Answer, str], list[tuple[Address, Address]]] = {}
    blocks = _blocks(_rules(world, pod, direction))
    for kind in sorted({type(a) for a in pod.addresses} or {IPv4Address}, key=str):
        bounds = [(int(n[0]), int(n[-1])) for n in blocks if isinstance(n[0], kind)]
        for first, last in _stretches(kind, bounds):
            for key in _by_answer(world, pod, Outside(first), direction):
                found.setdefault(key, []).append((first, last))
    for (answer, ports), stretches in found.items():
        yield Reach(f"addresses outside in {_block_text(stretches)}", ports, answer)


def _stretches(
    kind: type[IPv4Address | IPv6Address], bounds: list[tuple[int, int]]
) -> Iterator[tuple[Address, Address]]:
    end = 2 ** (32 if kind is IPv4Address else 128) - 1
    cuts = {0} | {cut for first, last in bounds for cut in (first, last + 1) if cut <= end}
    starts = sorted(cuts)
    for first, last in zip(starts, [*(start - 1 for start in starts[1:]), end], strict=True):
        yield kind(first), kind(last)


def _block_text(stretches: list[tuple[Address, Address]]) -> str:
    joined: list[tuple[Address, Address]] = []
    for first, last in stretches:
        if joined and type(first) is type(joined[-1][1]) and int(joined[-1][1]) + 1 == int(first):
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    texts = [_stretch_text(first, last) for first, last in joined]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _stretch_text(first: Address, last: Address) -> str:
    """One block, or where it is not one block, its first and last address."""
    blocks: list[Network] = list(summarize_address_range(first, last))
    return str(blocks[0]) if len(blocks) == 1 else f"{first}-{last}"
