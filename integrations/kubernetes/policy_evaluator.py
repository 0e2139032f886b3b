"""Who may talk to whom on which port, by policy, and why. Pure.

For each end that is a pod, the Admin tier is asked first, then NetworkPolicy, then Baseline; where
none decides, Kubernetes lets everything through. A flow passes when both ends let it through. A
pod on the host's network is its node: neither subject nor peer of a policy. A pod always reaches
itself.

This is what the listed objects say, not what packets do: whether anything enforces them, and
whether open connections are cut, must be probed. Addresses are those that the policy engine sees;
what a Service or a NAT on the way makes of them is not defined by the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from integrations.kubernetes import policy_admin, policy_v1
from integrations.kubernetes.client import Json
from integrations.kubernetes.policy_model import (
    PROTOCOLS,
    Address,
    Direction,
    End,
    Flow,
    Node,
    Outcome,
    Pod,
    PolicyWorld,
    Ruling,
    V1Policy,
    read_namespace,
    read_node,
    read_pod,
)

__all__ = ["Allowed", "Answer", "evaluate", "flows", "side", "world_of"]


_Pair = tuple[Address | None, Address | None]


class Allowed(StrEnum):
    """Whether a flow gets through. `UNKNOWN` must be treated as "may get through"."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer and the policies and rules (counted from 0) that make it."""

    allowed: Allowed
    reasons: tuple[str, ...]

    @property
    def blocked(self) -> bool:
        """Whether the flow is surely blocked; never true for "unknown"."""
        return self.allowed is Allowed.NO


def world_of(
    *,
    pods: Iterable[Json] = (),
    namespaces: Iterable[Json] = (),
    nodes: Iterable[Json] = (),
    policies: Iterable[Json] = (),
    admin: Mapping[str, Iterable[Json]] | None = None,
) -> PolicyWorld:
    """The world from listed objects; `admin` maps a kind to the objects of that kind.

    Give only the kinds that are enforced. How v1alpha1 and v1alpha2 add up is not defined: where
    both speak of a flow and differ, the answer is "unknown".
    """
    by_namespace: dict[str, list[V1Policy]] = {}
    for policy in policies:
        by_namespace.setdefault(policy["metadata"]["namespace"], []).append(policy_v1.read(policy))
    return PolicyWorld(
        pods=tuple(read_pod(pod) for pod in pods),
        namespaces=dict(read_namespace(namespace) for namespace in namespaces),
        nodes={node["metadata"]["name"]: read_node(node) for node in nodes},
        policies={name: tuple(found) for name, found in by_namespace.items()},
        admin=tuple(
            policy_admin.read(policy, kind)
            for kind, found in (admin or {}).items()
            for policy in found
        ),
    )


def evaluate(
    world: PolicyWorld, source: End, destination: End, port: int, protocol: str = "TCP"
) -> Answer:
    """Whether a new connection from source to the destination's port gets through, and why.

    Ends with several addresses may use any pair of one family: one pair that passes is enough.
    Raises `ValueError` for a protocol that policies do not speak of (ICMP and others).
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    pods = isinstance(source, Pod) and isinstance(destination, Pod)
    if pods and source.text == destination.text:
        return Answer(Allowed.YES, (f"{source.text} always reaches itself",))
    found = [_evaluate(world, flow) for flow in flows(world, source, destination, port, protocol)]
    for wanted in (Allowed.YES, Allowed.UNKNOWN):
        for answer in found:
            if answer.allowed is wanted:
                return answer
    return found[0]


def flows(
    world: PolicyWorld, source: End, destination: End, port: int, protocol: str
) -> list[Flow]:
    """The flows that one question may mean: one for each pair of addresses of one family."""
    from_, to = _on_network(world, source), _on_network(world, destination)
    pairs = list(product(from_.addresses, to.addresses))
    same: list[_Pair] = [(a, b) for a, b in pairs if a.version == b.version]
    # an end without an address, or two families that only a translator joins: one guess for all
    pairs_used = same or [(_first(from_), _first(to))]
    return [Flow(from_, to, one, other, port, protocol) for one, other in pairs_used]


def _first(end: End) -> Address | None:
    return end.addresses[0] if end.addresses else None


def _on_network(world: PolicyWorld, end: End) -> End:
    """A pod on the host's network cannot be told from its node, so it is that node."""
    if not isinstance(end, Pod) or not end.host_network:
        return end
    return world.nodes.get(end.node) or Node(end.node, None, end.addresses)


def _evaluate(world: PolicyWorld, flow: Flow) -> Answer:
    ends = [side(world, flow, way) for way in (Direction.EGRESS, Direction.INGRESS)]
    for wanted in (Allowed.NO, Allowed.UNKNOWN):
        reasons = [text for end in ends if end.allowed is wanted for text in end.reasons]
        if reasons:
            return Answer(wanted, tuple(reasons))
    return Answer(Allowed.YES, (*ends[0].reasons, *ends[1].reasons))


def side(world: PolicyWorld, flow: Flow, direction: Direction) -> Answer:
    """What the policies of one end alone say: the source's egress, or the destination's ingress."""
    pod = flow.near(direction)
    if not isinstance(pod, Pod):
        return Answer(Allowed.YES, (f"the {direction.end} is no pod that policies apply to",))
    admin = policy_admin.judge(world, flow, pod, direction, baseline=False)
    reasons, outcomes = list(admin.reasons), set(admin.outcomes)
    if Outcome.NEXT in outcomes:
        later = _later_tiers(world, flow, pod, direction)
        outcomes = (outcomes - {Outcome.NEXT}) | later.outcomes
        reasons += later.reasons
    return Answer(_settled(outcomes), tuple(reasons))


def _later_tiers(world: PolicyWorld, flow: Flow, pod: Pod, direction: Direction) -> Ruling:
    """NetworkPolicy, then Baseline, then Kubernetes' own "everything is allowed"."""
    v1 = policy_v1.judge(world, flow, pod, direction)
    undecided = v1.outcomes & {Outcome.NEXT, Outcome.ELSEWHERE}
    if not undecided:
        return v1
    last = policy_admin.judge(world, flow, pod, direction, baseline=True)
    outcomes = {Outcome.ALLOW if o is Outcome.NEXT else o for o in last.outcomes}
    reasons = [*v1.reasons, *last.reasons]
    if Outcome.ELSEWHERE in undecided and outcomes != {Outcome.ALLOW}:
        # "selected pods never reach Baseline" and "isolated directions never do": both are built
        outcomes.add(Outcome.ALLOW)
        reasons.append("whether Baseline is asked then differs between implementations")
    return Ruling(frozenset((v1.outcomes - undecided) | outcomes), tuple(reasons))


def _settled(outcomes: set[Outcome]) -> Allowed:
    if len(outcomes) > 1:
        return Allowed.UNKNOWN
    return Allowed.YES if outcomes == {Outcome.ALLOW} else Allowed.NO
