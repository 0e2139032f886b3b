"""Whether selectors, peers and ports of a policy match one end of a flow. Pure.

Every answer is yes, no or "cannot tell, because": a selector with an operator of tomorrow, a peer
of an unknown kind, an address or a namespace that is not known. Absent keys satisfy `NotIn` and
`DoesNotExist` (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_network
from typing import Any

from integrations.kubernetes.client import Json
from integrations.kubernetes.policy_model import (
    Address,
    Block,
    Domains,
    End,
    Flow,
    NamedPort,
    Network,
    Node,
    NodeSet,
    Peer,
    Pod,
    PodSet,
    PolicyWorld,
    Port,
    PortSpan,
    Requirement,
    Selector,
    Unreadable,
)
from integrations.kubernetes.policy_truth import NO, YES, Match, any_of, every, maybe

__all__ = [
    "EVERYTHING",
    "matches",
    "odd_fields",
    "peers_match",
    "ports_match",
    "read_network",
    "read_selector",
    "set_has",
]

EVERYTHING = Selector()


def read_selector(selector: Mapping[str, Any] | None) -> Selector:
    """A label selector of the API; an absent one is read as empty and selects everything."""
    given = selector or {}
    plain = [
        Requirement(key, "In", frozenset({value}))
        for key, value in (given.get("matchLabels") or {}).items()
    ]
    rules = [
        Requirement(
            rule.get("key", ""), rule.get("operator", ""), frozenset(rule.get("values") or [])
        )
        for rule in given.get("matchExpressions") or []
    ]
    return Selector((*plain, *rules))


def read_network(text: Any) -> Network | Unreadable:
    """A block of addresses; host bits are forgiven, as the API server forgives them."""
    try:
        return ip_network(str(text), strict=False)
    except ValueError:
        return Unreadable(f"{text!r} is no block of addresses")


def matches(selector: Selector, labels: Mapping[str, str]) -> Match:
    """Whether labels meet every requirement."""
    return every(_holds(rule, labels) for rule in selector.requirements)


def _holds(rule: Requirement, labels: Mapping[str, str]) -> Match:
    there = rule.key in labels
    among = there and labels[rule.key] in rule.values
    match rule.operator:
        case "In":
            return YES if among else NO
        case "NotIn":
            return NO if among else YES
        case "Exists":
            return YES if there else NO
        case "DoesNotExist":
            return NO if there else YES
    return maybe(f"operator {rule.operator!r} on label {rule.key} is not known")


def set_has(pods: PodSet, world: PolicyWorld, end: End) -> Match:
    """Whether a set of pods has this end; pods on the host's network are in no set."""
    if not isinstance(end, Pod) or end.host_network:
        return NO
    if pods.namespaces is None:
        return matches(pods.pods, end.labels) if end.namespace == pods.home else NO
    return every([_in_namespaces(pods.namespaces, world, end), matches(pods.pods, end.labels)])


def _in_namespaces(selector: Selector, world: PolicyWorld, pod: Pod) -> Match:
    if not selector.requirements:
        return YES
    labels = world.namespaces.get(pod.namespace)
    if labels is None:
        return maybe(f"namespace {pod.namespace} is not listed")
    return matches(selector, labels)


def peers_match(
    peers: tuple[Peer, ...], world: PolicyWorld, end: End, address: Address | None
) -> Match:
    """Whether one of the peers is this end; it has this address in this flow."""
    return any_of(_peer_is(peer, world, end, address) for peer in peers)


def _peer_is(peer: Peer, world: PolicyWorld, end: End, address: Address | None) -> Match:
    match peer:
        case PodSet():
            return set_has(peer, world, end)
        case NodeSet():
            return _node_in(peer, end)
        case Block():
            return _block_has(peer, end, address)
        case Domains():
            return maybe(f"which addresses {', '.join(peer.names)} has is not known")
        case Unreadable():
            return maybe(peer.why)


def _node_in(peer: NodeSet, end: End) -> Match:
    if not isinstance(end, Node):
        return NO
    if end.labels is None:
        return YES if not peer.nodes.requirements else maybe(f"{end.text} is not listed")
    return matches(peer.nodes, end.labels)


def _block_has(peer: Block, end: End, address: Address | None) -> Match:
    if address is None:
        return maybe(f"the address of {end.text} is not known")
    inside = address in peer.network and not any(address in net for net in peer.excepts)
    return YES if inside else NO


def ports_match(ports: tuple[Port, ...], flow: Flow) -> Match:
    """Whether one of the ports is the flow's; no ports at all means every port."""
    return any_of(_port_is(port, flow) for port in ports) if ports else YES


def _port_is(port: Port, flow: Flow) -> Match:
    match port:
        case PortSpan():
            inside = port.first <= flow.port <= port.last
            return YES if inside and port.protocol == flow.protocol else NO
        case NamedPort():
            return YES if _is_named(port, flow) else NO
        case Unreadable():
            return maybe(port.why)


def _is_named(port: NamedPort, flow: Flow) -> bool:
    """Names are those of the destination pod, whichever end the policy selects."""
    if port.protocol not in {"", flow.protocol} or not isinstance(flow.destination, Pod):
        return False
    return any(
        declared.name == port.name
        and declared.number == flow.port
        and declared.protocol == flow.protocol
        for declared in flow.destination.ports
    )


def odd_fields(given: Json, known: Collection[str]) -> str:
    """Why an object that must set exactly one of the known fields cannot be read; else empty."""
    there = [key for key in given if given[key] is not None]
    if len(there) == 1 and there[0] in known:
        return ""
    return f"it sets {', '.join(sorted(there)) or 'no field'}, not one of {', '.join(known)}"
