"""Small random clusters, the same for the same seed: few labels, few ports, many collisions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

Json = dict[str, Any]

SPACES = ("red", "blue", "green")
KEYS = ("app", "tier")
VALUES = ("a", "b")
PORTS = (80, 81, 443, 8080)
PROTOCOLS = ("TCP", "UDP", "SCTP")
OUTSIDE = ("192.0.2.7", "198.51.100.9")
BLOCKS = (
    "0.0.0.0/0",
    "10.0.0.0/24",
    "10.0.0.0/29",
    "192.0.2.0/24",
    "10.1.0.0/24",
    "2001:db8::/32",
)


@dataclass
class Maker:
    """Makes objects of the API. `odd` is how often something unreadable is put in."""

    rng: random.Random
    odd: float = 0.0
    blocks: tuple[str, ...] = BLOCKS
    ports: tuple[int, ...] = PORTS
    names: tuple[str, ...] = ("web", "dns")
    protocols: tuple[str, ...] = PROTOCOLS
    spaces: tuple[str, ...] = SPACES

    def chance(self, share: float) -> bool:
        """True so often."""
        return self.rng.random() < share

    def some(self, low: int, high: int) -> range:
        """A range of random length."""
        return range(self.rng.randint(low, high))

    def labels(self) -> dict[str, str]:
        """Labels; keys are often absent."""
        return {key: self.rng.choice(VALUES) for key in KEYS if self.chance(0.65)}

    def selector(self, keys: tuple[str, ...] = KEYS) -> Json:
        """Empty, by label, or by one or two expressions."""
        if self.chance(0.35):
            return {}
        if self.chance(0.45):
            return {"matchLabels": {self.rng.choice(keys): self.rng.choice(VALUES)}}
        return {
            "matchExpressions": [self.expression(keys) for _ in range(self.rng.choice((1, 1, 2)))]
        }

    def expression(self, keys: tuple[str, ...]) -> Json:
        """One requirement with an operator of the API, or one of tomorrow."""
        if self.chance(self.odd):
            return {"key": self.rng.choice(keys), "operator": "Tomorrow"}
        operator = self.rng.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        found: Json = {"key": self.rng.choice(keys), "operator": operator}
        if operator in {"In", "NotIn"}:
            found["values"] = self.rng.sample(VALUES, self.rng.choice((1, 1, 2)))
        return found

    def space_selector(self) -> Json:
        """By team, or by the name that every namespace has as a label."""
        if self.chance(0.3):
            name = "kubernetes.io/metadata.name"
            return {"matchLabels": {name: self.rng.choice(self.spaces)}}
        return self.selector(("team",))

    # --- NetworkPolicy ----------------------------------------------------------------------

    def policy(self, name: str, namespace: str | None = None) -> Json:
        """A NetworkPolicy; policyTypes are often left out."""
        spec: Json = {"podSelector": self.selector()}
        if self.chance(0.6):
            spec["policyTypes"] = self.rng.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
        for way, key in (("ingress", "from"), ("egress", "to")):
            if self.chance(0.65) and way.capitalize() in spec.get(
                "policyTypes", ("Ingress", "Egress")
            ):
                spec[way] = [self.rule(key) for _ in self.some(0, 2)]
        place = namespace or self.rng.choice(self.spaces)
        return {"metadata": {"name": name, "namespace": place}, "spec": spec}

    def rule(self, key: str) -> Json:
        """A rule: peers and ports, each often absent."""
        found: Json = {}
        if self.chance(0.75):
            found[key] = [self.peer() for _ in self.some(1, 2)]
        if self.chance(0.5):
            found["ports"] = [self.port() for _ in self.some(1, 2)]
        return found

    def peer(self) -> Json:
        """A block with holes, or pods by one or both selectors."""
        if self.chance(self.odd):
            return self.rng.choice(({}, {"serviceSelector": {}}))
        if self.chance(0.25):
            block: Json = {"cidr": self.rng.choice(self.blocks)}
            holes = [hole for hole in self.blocks if _is_inside(hole, block["cidr"])]
            if holes and self.chance(0.5):
                block["except"] = [self.rng.choice(holes)]
            return {"ipBlock": block}
        if self.chance(0.35):
            return {"podSelector": self.selector()}
        if self.chance(0.5):
            return {"namespaceSelector": self.space_selector()}
        return {"namespaceSelector": self.space_selector(), "podSelector": self.selector()}

    def port(self) -> Json:
        """Every port of a protocol, a number, a range or a name."""
        found: Json = {}
        if self.chance(0.6):
            found["protocol"] = self.rng.choice(self.protocols)
        if self.chance(0.15):
            return found
        if self.names and self.chance(0.25):
            return {**found, "port": self.rng.choice(self.names)}
        found["port"] = self.rng.choice(self.ports)
        if self.chance(0.4):
            found["endPort"] = found["port"] + self.rng.choice((0, 1, 400))
        return found

    # --- administrators' policies -----------------------------------------------------------

    def admin_v1alpha1(self, name: str, *, baseline: bool = False) -> Json:
        """An AdminNetworkPolicy, or the one BaselineAdminNetworkPolicy."""
        spec: Json = {"subject": self.subject()}
        if not baseline:
            spec["priority"] = self.rng.randint(1, 5)
        actions = ("Allow", "Deny") if baseline else ("Allow", "Deny", "Pass")
        for way, key in (("ingress", "from"), ("egress", "to")):
            spec[way] = [self.admin_rule(key, actions, "ports") for _ in self.some(0, 2)]
        kind = "BaselineAdminNetworkPolicy" if baseline else "AdminNetworkPolicy"
        return {"kind": kind, "metadata": {"name": "default" if baseline else name}, "spec": spec}

    def admin_v1alpha2(self, name: str) -> Json:
        """A ClusterNetworkPolicy of either tier."""
        tier = self.rng.choice(("Admin", "Admin", "Baseline"))
        if self.chance(self.odd):
            tier = "Tomorrow"
        spec: Json = {"tier": tier, "priority": self.rng.randint(1, 5), "subject": self.subject()}
        for way, key in (("ingress", "from"), ("egress", "to")):
            actions = ("Accept", "Deny", "Pass")
            spec[way] = [self.admin_rule(key, actions, "protocols") for _ in self.some(0, 2)]
        return {"kind": "ClusterNetworkPolicy", "metadata": {"name": name}, "spec": spec}

    def subject(self) -> Json:
        """All pods of namespaces, or some of them."""
        if self.chance(self.odd):
            return {"serviceAccounts": {}}
        return self.pod_set()

    def pod_set(self) -> Json:
        """`namespaces` or `pods`."""
        if self.chance(0.5):
            return {"namespaces": self.space_selector()}
        both = {"namespaceSelector": self.space_selector(), "podSelector": self.selector()}
        return {"pods": both}

    def admin_rule(self, key: str, actions: tuple[str, ...], ports: str) -> Json:
        """A rule with an action."""
        action = "Tomorrow" if self.chance(self.odd / 2) else self.rng.choice(actions)
        found: Json = {"action": action, key: [self.admin_peer(key) for _ in self.some(1, 2)]}
        if self.chance(0.4):
            made = self.admin_port if ports == "ports" else self.protocol
            found[ports] = [made() for _ in self.some(1, 2)]
        return found

    def admin_peer(self, key: str) -> Json:
        """Outwards there are more kinds than inwards."""
        if self.chance(self.odd):
            return self.rng.choice(({}, {"serviceAccounts": {}}, {"namespaces": {}, "pods": {}}))
        if key == "from" or self.chance(0.55):
            return self.pod_set()
        if self.odd and self.chance(0.1):
            return {"domainNames": ["*.example.org"]}
        if self.odd and self.chance(0.3):
            return {"nodes": self.selector(("zone",))}
        return {"networks": self.rng.sample(self.blocks, self.rng.choice((1, 2)))}

    def admin_port(self) -> Json:
        """A port of v1alpha1; the protocol is often left out."""
        if self.chance(self.odd):
            return {}
        if self.odd and self.chance(0.25):
            return {"namedPort": self.rng.choice(self.names)}
        protocol = {"protocol": self.rng.choice(self.protocols)}
        first = self.rng.choice(self.ports)
        if self.chance(0.5):
            return {"portNumber": {**protocol, "port": first}}
        return {"portRange": {**protocol, "start": first, "end": first + 400}}

    def protocol(self) -> Json:
        """A protocol of v1alpha2."""
        if self.chance(self.odd):
            return self.rng.choice(({}, {"icmp": {}}))
        if self.chance(0.25):
            return {"destinationNamedPort": self.rng.choice(self.names)}
        name = self.rng.choice(self.protocols).lower()
        first = self.rng.choice(self.ports)
        port: Json = {"number": first}
        if self.chance(0.4):
            port = {"range": {"start": first, "end": first + 400}}
        return {name: {} if self.chance(0.2) else {"destinationPort": port}}

    # --- everything -------------------------------------------------------------------------

    def pod(self, number: int) -> Json:
        """A pod with an address, named ports, sometimes on the host's network."""
        ports = [
            {"name": name, "containerPort": port, "protocol": self.rng.choice(self.protocols)}
            for name, port in zip(self.names, self.rng.sample(self.ports, 2), strict=False)
            if self.chance(0.7)
        ]
        node = self.rng.choice(("n1", "n2"))
        spec: Json = {"nodeName": node, "containers": [{"name": "c", "ports": ports}]}
        status = {"podIP": f"10.0.0.{number + 4}"}
        if self.chance(0.1):
            spec["hostNetwork"] = True
            status = {"podIP": {"n1": "10.1.0.1", "n2": "10.1.0.2"}[node]}
        elif self.chance(self.odd):
            status = {}
        place = {"name": f"p{number}", "namespace": self.rng.choice(self.spaces)}
        return {"metadata": {**place, "labels": self.labels()}, "spec": spec, "status": status}

    def cluster(self) -> Json:
        """Three namespaces, two nodes, a few pods and up to seven policies."""
        new = self.chance(0.5)
        admin = [
            self.admin_v1alpha2(f"c{n}") if new else self.admin_v1alpha1(f"a{n}")
            for n in self.some(0, 3)
        ]
        if not new and self.chance(0.5):
            admin.append(self.admin_v1alpha1("default", baseline=True))
        return {
            "pods": [self.pod(number) for number in self.some(2, 5)],
            "namespaces": [space(name, self.rng.choice(VALUES)) for name in self.spaces],
            "nodes": [host("n1", "10.1.0.1", {"zone": "a"}), host("n2", "10.1.0.2", {})],
            "policies": [self.policy(f"np{n}") for n in self.some(1, 6)],
            "admin": admin if self.chance(0.6) else [],
        }

    def flow(self, cluster: Json) -> tuple[str, str, int, str]:
        """Two ends, a port and a protocol; at least one end is a pod."""
        pods = [
            f"pod {p['metadata']['namespace']}/{p['metadata']['name']}" for p in cluster["pods"]
        ]
        others = [*pods, *pods, "node n1", "node n2", *(f"ip {ip}" for ip in OUTSIDE)]
        ends = [self.rng.choice(pods), self.rng.choice(others)]
        self.rng.shuffle(ends)
        port = self.rng.choice((*self.ports, 82, 479, 9999))
        return ends[0], ends[1], port, self.rng.choice(self.protocols)


def _is_inside(hole: str, block: str) -> bool:
    """The API server takes only holes that are smaller than their block."""
    one, other = ip_network(hole), ip_network(block)
    return one.version == other.version and one != other and one.subnet_of(other)  # type: ignore[arg-type]


def space(name: str, team: str) -> Json:
    """A namespace with its team, and its name as the API server labels it."""
    return {
        "metadata": {"name": name, "labels": {"team": team, "kubernetes.io/metadata.name": name}}
    }


def host(name: str, address: str, labels: dict[str, str]) -> Json:
    """A node."""
    addresses = [{"type": "InternalIP", "address": address}]
    return {"metadata": {"name": name, "labels": labels}, "status": {"addresses": addresses}}
