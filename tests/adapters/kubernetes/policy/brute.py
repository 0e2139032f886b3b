"""A second reading of the policy APIs, to judge the evaluator by; it shares no code with it.

It works on the raw objects and knows only yes and no. Whatever the text leaves open (a field it
does not know, equal priorities, an address that is not there) is a question with two or more
answers: all combinations are tried, and the answer is "unknown" exactly when they disagree.

Written from the comments of networking.k8s.io/v1 and of policy.networking.k8s.io/v1alpha1 and
v1alpha2; slow on purpose, with one literal sentence of the text per function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Json = dict[str, Any]
WHOLE = range(1, 65536)


@dataclass
class Question:
    """Answers to open questions: a given beginning, then always the first option."""

    script: list[int]
    asked: dict[Hashable, int] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def pick(self, what: Hashable, options: list[Any]) -> Any:
        """One of the options; the same for the same question."""
        if what not in self.asked:
            place = len(self.sizes)
            self.sizes.append(len(options))
            self.asked[what] = self.script[place] if place < len(self.script) else 0
        return options[self.asked[what]]


@dataclass(frozen=True)
class Party:
    """One end: a pod's object, a node's name or a mere address."""

    pod: Json | None
    node: str | None
    ip: str | None


def brute(cluster: Json, source: str, destination: str, port: int, protocol: str) -> str:
    """The answer in one word: yes, no or unknown."""
    results, scripts = set(), [[]]
    while scripts:
        script = scripts.pop()
        question = Question(script)
        results.add(_passes(cluster, source, destination, port, protocol, question))
        taken = script + [0] * (len(question.sizes) - len(script))
        for place in range(len(script), len(taken)):
            for other in range(1, question.sizes[place]):
                scripts.append([*taken[:place], other])
    return "unknown" if len(results) == 2 else ("yes" if results.pop() else "no")


def _passes(cluster, source, destination, port, protocol, question) -> bool:
    if source == destination and source.startswith("pod "):
        return True
    one, two = _party(cluster, source), _party(cluster, destination)
    reading = Reading(cluster, two, port, protocol, question)
    out = one.pod is None or reading.lets(one.pod, two, "egress")
    into = two.pod is None or reading.lets(two.pod, one, "ingress")
    return out and into


def _party(cluster: Json, text: str) -> Party:
    kind, name = text.split(" ", 1)
    if kind == "ip":
        return Party(None, None, name)
    if kind == "node":
        node = next(n for n in cluster["nodes"] if n["metadata"]["name"] == name)
        return Party(None, name, node["status"]["addresses"][0]["address"])
    pod = next(
        p
        for p in cluster["pods"]
        if f"{p['metadata']['namespace']}/{p['metadata']['name']}" == name
    )
    if pod["spec"].get("hostNetwork"):
        return _party(cluster, f"node {pod['spec']['nodeName']}")
    return Party(pod, None, pod["status"].get("podIP"))


@dataclass
class Reading:
    """One flow under one set of answers to the open questions."""

    cluster: Json
    target: Party
    port: int
    protocol: str
    question: Question

    def lets(self, subject: Json, other: Party, way: str) -> bool:
        """Whether the policies of one pod let the flow through in one direction."""
        verdict = self.table(subject, other, way, baseline=False)
        if verdict in {"Accept", "Deny"}:
            return verdict == "Accept"
        mine = [
            p
            for p in self.cluster["policies"]
            if p["metadata"]["namespace"] == subject["metadata"]["namespace"]
            and self.selected(p["spec"].get("podSelector", {}), subject, (id(p), way))
        ]
        isolating = [p for p in mine if way.capitalize() in _types(p["spec"])]
        if isolating:
            local = other.node is not None and other.node == subject["spec"].get("nodeName")
            return local or any(self.granted(p, other, way) for p in isolating)
        if mine and not self.question.pick(("selected for the other way", way), [True, False]):
            return True
        return self.table(subject, other, way, baseline=True) != "Deny"

    def granted(self, policy: Json, other: Party, way: str) -> bool:
        """Whether one rule has both the peer and the port."""
        for rule in policy["spec"].get(way) or []:
            peers = rule.get("from" if way == "ingress" else "to") or []
            ports = rule.get("ports") or []
            who = not peers or [1 for p in peers if self.v1_peer(p, other, policy, way)]
            what = not ports or [1 for p in ports if self.v1_port(p)]
            if who and what:
                return True
        return False

    def v1_peer(self, peer: Json, other: Party, policy: Json, way: str) -> bool:
        """An ipBlock by address, else pods by one or both selectors."""
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            return self.inside(block["cidr"], block.get("except", []), other, (id(peer), way))
        if not set(peer) <= {"podSelector", "namespaceSelector"} or not peer:
            return self.question.pick((id(peer), way), [True, False])
        if other.pod is None:
            return False
        place = other.pod["metadata"]["namespace"]
        if "namespaceSelector" in peer:
            wanted = peer["namespaceSelector"]
            if not self.selected(wanted, self.namespace(place), (id(peer), way, "ns")):
                return False
        elif place != policy["metadata"]["namespace"]:
            return False
        return self.selected(peer.get("podSelector", {}), other.pod, (id(peer), way))

    def v1_port(self, port: Json) -> bool:
        """A number, a range or a name, always with a protocol."""
        if port.get("protocol", "TCP") != self.protocol:
            return False
        wanted = port.get("port")
        if wanted is None:
            return True
        if isinstance(wanted, str):
            return (wanted, self.port, self.protocol) in self.named()
        return self.port in range(wanted, port.get("endPort", wanted) + 1)

    def named(self) -> set[tuple[str, int, str]]:
        """The named ports of the destination."""
        if self.target.pod is None:
            return set()
        return {
            (p.get("name", ""), p["containerPort"], p.get("protocol", "TCP"))
            for c in self.target.pod["spec"]["containers"]
            for p in c.get("ports", [])
        }

    def inside(self, cidr: str, holes: list[str], other: Party, what: Hashable) -> bool:
        """Whether an address is in a block and in none of its holes."""
        if other.ip is None:
            return self.question.pick(what, [True, False])
        address = ip_address(other.ip)
        return address in ip_network(cidr) and all(address not in ip_network(h) for h in holes)

    def namespace(self, name: str) -> Json:
        """A namespace's object."""
        return next(n for n in self.cluster["namespaces"] if n["metadata"]["name"] == name)

    def selected(self, selector: Json, thing: Json, what: Hashable) -> bool:
        """Labels against matchLabels and matchExpressions, all of them."""
        labels = thing["metadata"].get("labels", {})
        if not set(selector.get("matchLabels", {}).items()) <= set(labels.items()):
            return False
        tests: dict[str, Callable[[str, list[str]], bool]] = {
            "In": lambda key, values: labels.get(key) in values,
            "NotIn": lambda key, values: labels.get(key) not in values,
            "Exists": lambda key, values: labels.get(key) is not None,
            "DoesNotExist": lambda key, values: labels.get(key) is None,
        }
        for number, rule in enumerate(selector.get("matchExpressions", [])):
            test = tests.get(rule["operator"])
            if test is None:
                if not self.question.pick((what, number), [True, False]):
                    return False
            elif not test(rule["key"], rule.get("values", [])):
                return False
        return True

    # --- administrators' policies: one flat table, looked up from the top -------------------

    def table(self, subject: Json, other: Party, way: str, *, baseline: bool) -> str:
        """The first line of the tier's table that covers the flow."""
        lines = []
        groups: dict[int, list[Json]] = {}
        for policy in self.cluster["admin"]:
            wanted = {
                "AdminNetworkPolicy": False,
                "BaselineAdminNetworkPolicy": True,
                "ClusterNetworkPolicy": policy["spec"].get("tier") == "Baseline",
            }[policy["kind"]]
            if wanted is baseline and self.is_subject(policy, subject, way):
                groups.setdefault(policy["spec"].get("priority", 0), []).append(policy)
        for priority, policies in groups.items():
            orders = list(itertools.permutations(range(len(policies))))
            order = self.question.pick(("order", priority, baseline, way), orders)
            for rank, place in enumerate(order):
                for index, rule in enumerate(policies[place]["spec"].get(way, [])):
                    lines.append((priority, rank, index, rule))
        for _, _, _, rule in sorted(lines, key=lambda line: line[:3]):
            verdict = self.line(rule, other, way)
            if verdict:
                return verdict
        return "nothing"

    def is_subject(self, policy: Json, pod: Json, way: str) -> bool:
        """Namespaces, or pods of namespaces; anything else is an open question."""
        subject, tier = policy["spec"]["subject"], policy["spec"].get("tier")
        odd = policy["kind"] == "ClusterNetworkPolicy" and tier not in {"Admin", "Baseline"}
        if odd or set(subject) not in ({"namespaces"}, {"pods"}):
            return self.question.pick((id(subject), way), [True, False])
        return self.in_set(subject, pod, (id(subject), way))

    def in_set(self, given: Json, pod: Json, what: Hashable) -> bool:
        """Whether a pod is in `namespaces` or in `pods`."""
        space = self.namespace(pod["metadata"]["namespace"])
        if "namespaces" in given:
            return self.selected(given["namespaces"], space, (what, "ns"))
        pods = given["pods"]
        return self.selected(pods["namespaceSelector"], space, (what, "ns")) and self.selected(
            pods["podSelector"], pod, what
        )

    def line(self, rule: Json, other: Party, way: str) -> str:
        """What one rule says: Accept, Deny, Pass, or nothing."""
        peers = rule["from" if way == "ingress" else "to"]
        known = {"namespaces", "pods"}
        if way == "egress":
            known |= {"nodes", "networks", "domainNames"}
        action = {"Allow": "Accept"}.get(rule["action"], rule["action"])
        if action not in {"Accept", "Deny", "Pass"}:
            action = self.question.pick((id(rule), way), ["Accept", "Deny", "Pass"])
        odd = [p for p in peers if len(p) != 1 or not set(p) <= known]
        treat = "skip"
        if odd:
            treat = self.question.pick((id(peers), way), ["fail closed", "skip", "match"])
        if treat == "fail closed":
            return "" if action == "Accept" else "Deny"
        hit = treat == "match"
        for peer in peers:
            if not hit and not any(peer is other_peer for other_peer in odd):
                hit = self.admin_peer(peer, other, way)
        ports = rule.get("ports", []) + rule.get("protocols", [])
        fits = not ports or any(self.admin_port(p, way) for p in ports)
        return action if hit and fits else ""

    def admin_peer(self, peer: Json, other: Party, way: str) -> bool:
        """One readable peer."""
        ((kind, value),) = peer.items()
        if kind == "networks":
            return any(self.inside(c, [], other, (id(value), c, way)) for c in value)
        if kind == "domainNames":
            return self.question.pick((id(value), way), [True, False])
        if kind == "nodes":
            named = [n for n in self.cluster["nodes"] if n["metadata"]["name"] == other.node]
            return bool(named) and self.selected(value, named[0], (id(value), way))
        return other.pod is not None and self.in_set(peer, other.pod, (id(peer), way))

    def admin_port(self, given: Json, way: str) -> bool:
        """A port of v1alpha1 or a protocol of v1alpha2, as sets of protocol and number."""
        here = (self.protocol, self.port)
        if len(given) != 1:
            return self.question.pick((id(given), way), [True, False])
        ((kind, value),) = given.items()
        if kind in {"namedPort", "destinationNamedPort"}:
            return (value, self.port, self.protocol) in self.named()
        if kind == "portNumber":
            return here == (value.get("protocol", "TCP"), value["port"])
        if kind == "portRange":
            inside = self.port in range(value["start"], value["end"] + 1)
            return inside and here[0] == value.get("protocol", "TCP")
        if kind in {"tcp", "udp", "sctp"}:
            wanted = value.get("destinationPort")
            numbers = WHOLE
            if wanted and "number" in wanted:
                numbers = range(wanted["number"], wanted["number"] + 1)
            elif wanted:
                numbers = range(wanted["range"]["start"], wanted["range"]["end"] + 1)
            return kind == self.protocol.lower() and self.port in numbers
        return self.question.pick((id(given), way), [True, False])


def _types(spec: Json) -> set[str]:
    """Named, or: always Ingress, and Egress when there are egress rules."""
    return set(
        spec.get("policyTypes") or {"Ingress"} | ({"Egress"} if spec.get("egress") else set())
    )
