"""Pods on the real node whose connections the evaluator must foretell."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.real.api import Api
from tests.real.cluster import Node
from tests.real.pods import PROBE_IMAGE, is_ready
from tests.real.waiting import wait_until

Json = dict[str, Any]

PORTS = {"echo": 7000, "extra": 7001}
GROUP = "policy.networking.k8s.io"
KINDS = {
    "AdminNetworkPolicy": "adminnetworkpolicies",
    "BaselineAdminNetworkPolicy": "baselineadminnetworkpolicies",
}
NETWORKING = "/apis/networking.k8s.io/v1/namespaces"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ADMIN = f"/apis/{GROUP}/v1alpha1"


@dataclass(frozen=True)
class Dial:
    """One connection to try: `source` is a pod, `node` or `outside`."""

    source: str
    destination: str
    port: int


@dataclass
class Bench:
    """A few pods in namespaces of their own, and the means to know when a policy has arrived."""

    node: Node
    spaces: tuple[str, ...]
    fence: str
    pods: dict[str, str] = field(default_factory=dict)  # namespace/name -> address
    networks: dict[str, str] = field(default_factory=dict)  # address -> network namespace
    node_address: str = ""
    outside_source: str = ""
    round: int = 0

    @property
    def places(self) -> dict[str, str]:
        """The addresses of all ends."""
        return {
            **self.pods,
            "node": self.node_address,
            "outside": self.node.outside_ip,
        }

    @property
    def sources(self) -> dict[str, str]:
        """The addresses that connections come from: the outside host has two of them."""
        return {**self.places, "outside": self.outside_source}

    def set_up(self) -> None:
        """Start the pods and learn their addresses."""
        wanted = [*((space, f"p{n}") for n, space in enumerate((*self.spaces, self.spaces[0])))]
        for space, name in [*wanted, (self.fence, "fence")]:
            self.node.must("POST", f"/api/v1/namespaces/{space}/pods", server(name))
        for space, name in [*wanted, (self.fence, "fence")]:
            wait_until(lambda s=space, n=name: is_ready(self.node, s, n), f"{name} Ready", 40)
            found = self.node.must("GET", f"/api/v1/namespaces/{space}/pods/{name}")
            self.pods[f"{space}/{name}"] = found["status"]["podIP"]
        for number, space in enumerate(self.spaces):
            team = {"metadata": {"labels": {"team": "ab"[number % 2]}}}
            self.node.must("PATCH", f"/api/v1/namespaces/{space}", team)
        self.networks = self._network_namespaces()
        status = self.node.must("GET", f"/api/v1/nodes/{self.node.name}")["status"]
        own = [a["address"] for a in status["addresses"] if a["type"] == "InternalIP"]
        self.node_address = own[0]
        some = next(iter(self.pods.values()))
        route = self.node.exec(["ip", "-j", "route", "get", some], outside=True).stdout
        self.outside_source = json.loads(route)[0]["prefsrc"]
        self._fence_policies()

    def _network_namespaces(self) -> dict[str, str]:
        script = "for n in /run/netns/*; do echo $n $(nsenter --net=$n ip -4 -j addr); done"
        found = {}
        for line in self.node.exec(["sh", "-c", script]).stdout.splitlines():
            name, _, text = line.partition(" ")
            for link in json.loads(text):
                for address in link["addr_info"]:
                    found[address["local"]] = name
        return found

    def _fence_policies(self) -> None:
        """Isolated, and opened for one value of a label: open only when pod and policy agree."""
        self._label_fence(0)
        base = f"{NETWORKING}/{self.fence}/networkpolicies"
        closed = {"podSelector": {}, "policyTypes": ["Ingress"]}
        self.node.must("POST", base, {"metadata": {"name": "closed"}, "spec": closed})
        opened = {"podSelector": {"matchLabels": {"round": "0"}}, "ingress": [{}]}
        self.node.must("POST", base, {"metadata": {"name": "open"}, "spec": opened})

    def _label_fence(self, number: int) -> None:
        labels = {"metadata": {"labels": {"round": str(number)}}}
        self.node.must("PATCH", f"/api/v1/namespaces/{self.fence}/pods/fence", labels)

    def settle(self, *, admin: bool = False) -> None:
        """Wait until the enforcer knows all that was written before; its watches keep the order.

        The label closes the fence when the pods have arrived; the policy opens it again when the
        policies have.
        """
        self.round += 1
        wait_until(lambda: self._fence_is("ok"), "the fence to be open")
        self._label_fence(self.round)
        wait_until(lambda: self._fence_is("timeout"), "the pods to arrive")
        selector = {"spec": {"podSelector": {"matchLabels": {"round": str(self.round)}}}}
        self.node.must("PATCH", f"{NETWORKING}/{self.fence}/networkpolicies/open", selector)
        wait_until(lambda: self._fence_is("ok"), "the policies to arrive")
        if admin:
            self._settle_admin()

    def _settle_admin(self) -> None:
        """Let the fence out, keep it in, let it out again, above whatever else is there.

        When it gets out after it was kept in, the first of the three writes has arrived at least,
        and so has all that was written before.
        """
        away = Dial(f"{self.fence}/fence", "outside", 7000)
        path = f"{ADMIN}/adminnetworkpolicies"
        self.node.must("POST", path, self._admin_fence("Allow"))
        for action, answer in (("", "ok"), ("Deny", "timeout"), ("Allow", "ok")):
            if action:
                self.node.must("PATCH", f"{path}/fence", self._admin_fence(action))
            wait_until(
                lambda a=answer: self.dial([away])[away] == a, "the admin policies to arrive"
            )

    def _admin_fence(self, action: str) -> Json:
        place = {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": self.fence}}}
        rule = {"action": action, "to": [{"networks": ["0.0.0.0/0"]}]}
        return {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "AdminNetworkPolicy",
            "metadata": {"name": "fence"},
            "spec": {"priority": 0, "subject": place, "egress": [rule]},
        }

    def _fence_is(self, answer: str) -> bool:
        knock = Dial("outside", f"{self.fence}/fence", 7000)
        return self.dial([knock], "300ms")[knock] == answer

    def relabel(self, labels: dict[str, dict[str, str]]) -> None:
        """Give pods exactly these labels."""
        for place, wanted in labels.items():
            space, name = place.split("/")
            path = f"/api/v1/namespaces/{space}/pods/{name}"
            now = self.node.must("GET", path)["metadata"].get("labels") or {}
            gone = {key: None for key in now if key not in wanted}
            self.node.must("PATCH", path, {"metadata": {"labels": {**gone, **wanted}}})

    def replace_policies(self, policies: list[Json], admin: list[Json]) -> None:
        """Delete the policies of the round before and create these."""
        for space in self.spaces:
            self.node.must("DELETE", f"{NETWORKING}/{space}/networkpolicies")
        for policy in policies:
            space = policy["metadata"]["namespace"]
            self.node.must("POST", f"{NETWORKING}/{space}/networkpolicies", policy)
        if admin:
            self.node.must("DELETE", f"{ADMIN}/adminnetworkpolicies")
        for policy in admin:
            body = {"apiVersion": f"{GROUP}/v1alpha1", **policy}
            self.node.must("POST", f"{ADMIN}/{KINDS[policy['kind']]}", body)

    def listed(self, *, admin: bool = False) -> Json:
        """Everything as the API server lists it now."""
        one = self.node
        found: Json = {
            "namespaces": one.must("GET", "/api/v1/namespaces")["items"],
            "nodes": one.must("GET", "/api/v1/nodes")["items"],
            "pods": [],
            "policies": [],
            "admin": [],
        }
        for space in self.spaces:
            found["pods"] += one.must("GET", f"/api/v1/namespaces/{space}/pods")["items"]
            listed = one.must("GET", f"{NETWORKING}/{space}/networkpolicies")["items"]
            found["policies"] += listed
        for kind, plural in KINDS.items() if admin else ():
            items = one.must("GET", f"{ADMIN}/{plural}")["items"]
            found["admin"] += [{**item, "kind": kind} for item in items]
        return found

    def dial(self, dials: list[Dial], limit: str = "500ms") -> dict[Dial, str]:
        """Try connections, all at once: `ok`, `timeout` or what else happened."""
        results: dict[Dial, str] = {}
        for outside in (False, True):
            mine = [d for d in dials if (d.source == "outside") is outside]
            if mine:
                lines = [self._line(number, d, limit) for number, d in enumerate(mine)]
                done = self.node.exec(["sh", "-c", "\n".join([*lines, "wait"])], outside=outside)
                for line in done.stdout.splitlines():
                    number, _, word = line.partition(" ")
                    results[mine[int(number)]] = word
        assert len(results) == len(dials), "a dial gave no answer"
        return results

    def _line(self, number: int, dial: Dial, limit: str) -> str:
        enter = ""
        if dial.source in self.pods:
            enter = f"nsenter --net={self.networks[self.pods[dial.source]]} "
        target = f"{self.places[dial.destination]}:{dial.port}"
        call = f"{enter}{self.node.probe_program} dial {target} -t {limit}"
        return f"(echo {number} $({call})) &"


def server(name: str) -> Json:
    """A pod with two echo servers, whose ports have names."""
    containers = [
        {
            "name": port,
            "image": PROBE_IMAGE,
            "imagePullPolicy": "Never",
            "args": ["serve", "-tcp", f":{number}", "-http", f":{number + 1000}"],
            "ports": [{"name": port, "containerPort": number}],
        }
        for port, number in PORTS.items()
    ]
    spec = {
        "containers": containers,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
    }
    return {"metadata": {"name": name}, "spec": spec}


@contextlib.contextmanager
def bench(node: Node) -> Iterator[Bench]:
    """Pods for the length of a block, with servers on the node and on the host beyond it."""
    spaces = tuple(node.namespace(prefix) for prefix in ("red", "blue", "green"))
    fence = node.namespace("fence")
    serve = [str(node.probe_program), "serve"]
    calls = [[*serve, "-tcp", f":{n}", "-http", f":{n + 1000}"] for n in PORTS.values()]
    with contextlib.ExitStack() as stack:
        for space in (*spaces, fence):
            stack.callback(node.drop_namespace, space)
        for call in calls:
            stack.enter_context(node.running(call, outside=True))
            stack.enter_context(node.running(call))
        made = Bench(node, spaces, fence)
        made.set_up()
        yield made


def install_admin_kinds(api: Api) -> None:
    """The two kinds of v1alpha1, with no more of a schema than the enforcer needs."""
    for kind, plural in KINDS.items():
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {
            "name": "v1alpha1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": schema},
        }
        names = {
            "kind": kind,
            "plural": plural,
            "singular": kind.lower(),
            "listKind": f"{kind}List",
        }
        body = {
            "metadata": {
                "name": f"{plural}.{GROUP}",
                "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
            },
            "spec": {"group": GROUP, "scope": "Cluster", "names": names, "versions": [version]},
        }
        status, answer = api.request("POST", DEFINITIONS, body)
        assert status in {201, 409}, answer
        wait_until(lambda p=plural: api.request("GET", f"{ADMIN}/{p}")[0] == 200, f"{kind} served")


def remove_admin_kinds(api: Api) -> None:
    """Take the two kinds away again, with all objects of them."""
    for plural in KINDS.values():
        api.request("DELETE", f"{DEFINITIONS}/{plural}.{GROUP}")
