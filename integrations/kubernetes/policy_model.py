"""What the policy evaluator knows, as frozen data: pods, namespaces, nodes, policies of all kinds.

Pure; nothing here asks a cluster. Objects come as the API lists them and are read leniently: what
cannot be read becomes an `Unreadable` that says why, and never silently "no". An answer that
depends on such a part is "unknown", so that nobody calls a pod isolated who could not tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)

from integrations.kubernetes.client import Json

__all__ = [
    "PROTOCOLS",
    "Action",
    "Address",
    "AdminPolicy",
    "AdminRule",
    "Block",
    "ContainerPort",
    "Direction",
    "Domains",
    "End",
    "Flow",
    "NamedPort",
    "Network",
    "Node",
    "NodeSet",
    "Outcome",
    "Outside",
    "Peer",
    "Pod",
    "PodSet",
    "PolicyWorld",
    "Port",
    "PortSpan",
    "Requirement",
    "Rule",
    "Ruling",
    "Selector",
    "Unreadable",
    "V1Policy",
    "read_namespace",
    "read_node",
    "read_pod",
]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
PROTOCOLS = ("TCP", "UDP", "SCTP")


class Direction(StrEnum):
    """Seen from the pod that a policy selects."""

    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def end(self) -> str:
        """Which end of a flow a policy selects for this direction, as a word for reasons."""
        return "destination" if self is Direction.INGRESS else "source"


class Action(StrEnum):
    """What a rule of an Admin or Baseline policy does; v1alpha1 calls accepting `Allow`."""

    ACCEPT = "accept"
    DENY = "deny"
    PASS = "pass"  # noqa: S105 - no password
    UNREADABLE = "unreadable"


class Outcome(Enum):
    """What one tier decides. `ELSEWHERE`: selected, but for the other direction only."""

    ALLOW = "allow"
    DENY = "deny"
    NEXT = "next"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Ruling:
    """All outcomes that a tier may have for one end of a flow; more than one means doubt."""

    outcomes: frozenset[Outcome]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A part of a policy that this version does not understand, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `operator` is In, NotIn, Exists, DoesNotExist or unknown."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector; without requirements it selects everything."""

    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class PodSet:
    """Pods of one namespace (`home`) or, where `namespaces` is given, of the selected ones."""

    pods: Selector
    namespaces: Selector | None = None
    home: str = ""


@dataclass(frozen=True, slots=True)
class NodeSet:
    """Nodes by their labels: their addresses, and so the pods on the host's network."""

    nodes: Selector


@dataclass(frozen=True, slots=True)
class Block:
    """A block of addresses without some smaller ones; pods' addresses count as well."""

    network: Network
    excepts: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Domains:
    """Domain names: which addresses they stand for is not to be known from listed objects."""

    names: tuple[str, ...]


Peer = PodSet | NodeSet | Block | Domains | Unreadable


@dataclass(frozen=True, slots=True)
class PortSpan:
    """Ports of one protocol, both ends included."""

    protocol: str
    first: int = 0
    last: int = 65535


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A port by its name on the destination pod; without a protocol that of the container port."""

    name: str
    protocol: str = ""


Port = PortSpan | NamedPort | Unreadable


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a NetworkPolicy. No peers means everybody, no ports means every port."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class V1Policy:
    """A NetworkPolicy of networking.k8s.io/v1."""

    namespace: str
    name: str
    subject: Selector
    directions: frozenset[Direction]
    rules: Mapping[Direction, tuple[Rule, ...]]

    @property
    def label(self) -> str:
        """How it is named in reasons."""
        return f"NetworkPolicy {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class AdminRule:
    """One rule of an Admin or Baseline policy."""

    action: Action
    peers: tuple[Peer, ...]
    ports: tuple[Port, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class AdminPolicy:
    """An AdminNetworkPolicy, BaselineAdminNetworkPolicy or ClusterNetworkPolicy."""

    kind: str
    name: str
    baseline: bool
    priority: int
    subject: PodSet | Unreadable
    rules: Mapping[Direction, tuple[AdminRule, ...]]

    @property
    def label(self) -> str:
        """How it is named in reasons."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A declared port; it matters only for its name, as undeclared ports are open too."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as policies see it. `addresses` is empty while it has none."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    node: str = ""
    host_network: bool = False
    ports: tuple[ContainerPort, ...] = ()
    ended: bool = False

    @property
    def place(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"

    @property
    def text(self) -> str:
        """How it is named in reasons."""
        return f"pod {self.place}"


@dataclass(frozen=True, slots=True)
class Node:
    """A node, and all that shares its network. `labels` is None for a node that is not listed."""

    name: str
    labels: Mapping[str, str] | None = None
    addresses: tuple[Address, ...] = ()

    @property
    def text(self) -> str:
        """How it is named in reasons."""
        return f"node {self.name or 'not known'}"


@dataclass(frozen=True, slots=True)
class Outside:
    """An address that belongs to no listed pod and no listed node."""

    address: Address

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The one address."""
        return (self.address,)

    @property
    def text(self) -> str:
        """How it is named in reasons."""
        return f"address {self.address}"


End = Pod | Node | Outside


@dataclass(frozen=True, slots=True)
class Flow:
    """A new connection: two ends (pods on the host's network are nodes here), one port."""

    source: Pod | Node | Outside
    destination: Pod | Node | Outside
    source_address: Address | None
    destination_address: Address | None
    port: int
    protocol: str

    def near(self, direction: Direction) -> End:
        """The end that policies of this direction may select."""
        return self.destination if direction is Direction.INGRESS else self.source

    def far(self, direction: Direction) -> tuple[End, Address | None]:
        """The other end, which peers describe, and its address."""
        if direction is Direction.INGRESS:
            return self.source, self.source_address
        return self.destination, self.destination_address


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWorld:
    """Everything listed. Give it only the kinds that something in the cluster enforces.

    A CRD without an implementation denies nothing: leave `admin` empty then. `namespaces` maps
    names to labels; a namespace that is missing makes its selectors undecidable.
    """

    pods: tuple[Pod, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    policies: Mapping[str, tuple[V1Policy, ...]] = field(default_factory=dict)
    admin: tuple[AdminPolicy, ...] = ()

    def at(self, address: str) -> End:
        """Who has an address: a running pod, a node, or somebody outside. Raises `ValueError`."""
        wanted = ip_address(address)
        for node in self.nodes.values():
            if wanted in node.addresses:
                return node
        for pod in self.pods:
            if wanted in pod.addresses and not pod.ended:
                return pod
        return Outside(wanted)


def read_pod(pod: Json) -> Pod:
    """A listed Pod. Fields that are not there count as absent, as the API says."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    listed = [item.get("ip") for item in status.get("podIPs") or []]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels=dict(metadata.get("labels") or {}),
        addresses=_addresses(listed or [status.get("podIP")]),
        node=spec.get("nodeName") or "",
        host_network=bool(spec.get("hostNetwork")),
        ports=tuple(_ports(spec)),
        ended=status.get("phase") in {"Succeeded", "Failed"},
    )


def _ports(spec: Json) -> Iterable[ContainerPort]:
    # an init container that restarts always is a sidecar: it runs beside the others
    sidecars = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or []), *sidecars]:
        for port in container.get("ports") or []:
            name, number = port.get("name") or "", port.get("containerPort") or 0
            yield ContainerPort(name, number, port.get("protocol") or "TCP")


def _addresses(texts: Iterable[str | None]) -> tuple[Address, ...]:
    found = []
    for text in texts:
        try:
            found.append(ip_address(text or ""))
        except ValueError:
            continue  # host names among a node's addresses, pods without one
    return tuple(found)


def read_namespace(namespace: Json) -> tuple[str, Mapping[str, str]]:
    """A listed Namespace: its name and labels."""
    metadata = namespace["metadata"]
    return metadata["name"], dict(metadata.get("labels") or {})


def read_node(node: Json) -> Node:
    """A listed Node; of its addresses those that are numbers."""
    metadata = node["metadata"]
    listed = (node.get("status") or {}).get("addresses") or []
    addresses = _addresses(item.get("address") for item in listed)
    return Node(metadata["name"], dict(metadata.get("labels") or {}), addresses)
