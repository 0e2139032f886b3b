"""NetworkPolicy v1 as tables, one line for each sentence of the API's text."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.kubernetes.policy_evaluator import Allowed, Answer, evaluate
from integrations.kubernetes.policy_model import PodSet
from integrations.kubernetes.policy_selectors import EVERYTHING, set_has
from integrations.kubernetes.policy_truth import Truth
from integrations.kubernetes.policy_v1 import read
from tests.adapters.kubernetes.policy.build import end_of, world_from
from tests.adapters.kubernetes.policy.generate import host, space

Json = dict[str, Any]
WEB, DB, OUT = "pod shop/web", "pod shop/db", "ip 192.0.2.7"


def a_pod(name: str, address: str, namespace: str = "shop", **spec: Any) -> Json:
    """A running pod labelled with its name, with a named port."""
    ports = [
        {"name": "http", "containerPort": 80},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
    ]
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}], **spec},
        "status": {"podIP": address, "phase": "Running"},
    }


PODS = [
    a_pod("web", "10.0.0.1"),
    a_pod("db", "10.0.0.2"),
    a_pod("far", "10.0.0.3", nodeName="n2"),
    a_pod("web", "10.0.0.4", "other"),
    a_pod("agent", "10.1.0.2", nodeName="n2", hostNetwork=True),
]
NODES = [host("n1", "10.1.0.1", {}), host("n2", "10.1.0.2", {})]
SPACES = [space("shop", "a"), space("other", "b")]


def a_policy(name: str = "p", namespace: str = "shop", **spec: Any) -> Json:
    """A policy that selects the pod db, unless told otherwise."""
    selector = {"matchLabels": {"app": "db"}}
    spec = {"podSelector": selector, **spec}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def asked(
    policies: list[Json], source: str, destination: str, port: int = 80, protocol: str = "TCP"
) -> Answer:
    """The answer for one flow in the small cluster above."""
    world = world_from({"pods": PODS, "nodes": NODES, "namespaces": SPACES, "policies": policies})
    return evaluate(world, end_of(world, source), end_of(world, destination), port, protocol)


def allowed(*args: Any, **kwargs: Any) -> str:
    """The answer in one word."""
    return str(asked(*args, **kwargs).allowed)


@pytest.mark.parametrize(
    ("spec", "into", "out"),
    [
        ({}, "no", "yes"),
        ({"ingress": [{}]}, "yes", "yes"),
        ({"ingress": []}, "no", "yes"),
        ({"egress": [{}]}, "no", "yes"),
        ({"egress": []}, "no", "yes"),
        ({"policyTypes": ["Ingress"]}, "no", "yes"),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, "no", "yes"),
        ({"policyTypes": ["Egress"]}, "yes", "no"),
        ({"policyTypes": ["Egress"], "egress": [{}]}, "yes", "yes"),
        ({"policyTypes": ["Ingress", "Egress"]}, "no", "no"),
        ({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, "no", "no"),
        ({"podSelector": {"matchLabels": {"app": "x"}}}, "yes", "yes"),
    ],
)
def test_isolation_is_one_direction_at_a_time(spec: Json, into: str, out: str) -> None:
    """Left out, policyTypes is Ingress, and Egress only where egress rules are."""
    policies = [a_policy(**spec)]
    assert allowed(policies, OUT, DB) == into
    assert allowed(policies, DB, OUT) == out


@pytest.mark.parametrize(
    ("expression", "db", "bare"),
    [
        ({"operator": "In", "values": ["db", "x"]}, "no", "yes"),
        ({"operator": "In", "values": ["x"]}, "yes", "yes"),
        ({"operator": "NotIn", "values": ["db"]}, "yes", "no"),
        ({"operator": "NotIn", "values": ["x"]}, "no", "no"),
        ({"operator": "Exists"}, "no", "yes"),
        ({"operator": "DoesNotExist"}, "yes", "no"),
        ({"operator": "Tomorrow"}, "unknown", "unknown"),
    ],
)
def test_an_absent_key_satisfies_not_in_and_does_not_exist(
    expression: Json, db: str, bare: str
) -> None:
    """A pod without any label is selected by both, and by an unknown operator perhaps."""
    stripped = a_pod("bare", "10.0.0.9")
    del stripped["metadata"]["labels"]
    selector = {"matchExpressions": [{"key": "app", **expression}]}
    cluster = {"pods": [*PODS, stripped], "policies": [a_policy(podSelector=selector)]}
    world = world_from(cluster)
    outside = world.at("192.0.2.7")
    assert evaluate(world, outside, end_of(world, DB), 80).allowed == db
    assert evaluate(world, outside, end_of(world, "pod shop/bare"), 80).allowed == bare


@pytest.mark.parametrize(
    ("peer", "web", "other_web", "outside"),
    [
        ({"podSelector": {}}, "yes", "no", "no"),
        ({"podSelector": {"matchLabels": {"app": "web"}}}, "yes", "no", "no"),
        ({"podSelector": {"matchLabels": {"app": "x"}}}, "no", "no", "no"),
        ({"namespaceSelector": {}}, "yes", "yes", "no"),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, "no", "yes", "no"),
        (
            {
                "namespaceSelector": {"matchLabels": {"team": "b"}},
                "podSelector": {"matchLabels": {"app": "db"}},
            },
            "no",
            "no",
            "no",
        ),
        (
            {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}},
            "yes",
            "yes",
            "no",
        ),
        ({"ipBlock": {"cidr": "0.0.0.0/0"}}, "yes", "yes", "yes"),
        ({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["192.0.2.0/24"]}}, "yes", "yes", "no"),
        ({"ipBlock": {"cidr": "10.0.0.0/30", "except": ["10.0.0.1/32"]}}, "no", "no", "no"),
        ({"ipBlock": {"cidr": "192.0.2.7/32"}}, "no", "no", "yes"),
        ({"ipBlock": {"cidr": "2001:db8::/32"}}, "no", "no", "no"),
        ({"ipBlock": {"cidr": "tomorrow"}}, "unknown", "unknown", "unknown"),
        ({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["?"]}}, "unknown", "unknown", "unknown"),
        ({}, "unknown", "unknown", "unknown"),
        ({"serviceSelector": {}}, "unknown", "unknown", "unknown"),
    ],
)
def test_a_peer_is_a_block_or_pods_by_one_or_both_selectors(
    peer: Json, web: str, other_web: str, outside: str
) -> None:
    """A pod selector alone stays in the policy's namespace; both together must both match."""
    policies = [a_policy(ingress=[{"from": [peer]}])]
    assert allowed(policies, WEB, DB) == web
    assert allowed(policies, "pod other/web", DB) == other_web
    assert allowed(policies, OUT, DB) == outside
    outward = [a_policy(policyTypes=["Egress"], egress=[{"to": [peer]}])]
    assert allowed(outward, DB, WEB) == web
    assert allowed(outward, DB, "pod other/web") == other_web
    assert allowed(outward, DB, OUT) == outside


@pytest.mark.parametrize(
    ("port", "open_", "closed"),
    [
        ({}, ["80/TCP", "1/TCP", "65535/TCP"], ["80/UDP", "53/UDP", "80/SCTP"]),
        ({"protocol": "UDP"}, ["53/UDP", "80/UDP"], ["80/TCP"]),
        ({"port": 80}, ["80/TCP"], ["81/TCP", "79/TCP", "80/UDP"]),
        ({"port": 80, "protocol": "SCTP"}, ["80/SCTP"], ["80/TCP"]),
        ({"port": 80, "endPort": 82}, ["80/TCP", "81/TCP", "82/TCP"], ["79/TCP", "83/TCP"]),
        ({"port": 80, "endPort": 80}, ["80/TCP"], ["81/TCP"]),
        ({"port": "http"}, ["80/TCP"], ["81/TCP", "80/UDP"]),
        ({"port": "dns", "protocol": "UDP"}, ["53/UDP"], ["53/TCP", "80/UDP"]),
        ({"port": "dns"}, [], ["53/TCP", "53/UDP"]),
        ({"port": "nobody"}, [], ["80/TCP"]),
    ],
)
def test_a_port_is_a_number_a_range_or_a_name_of_the_destination(
    port: Json, open_: list[str], closed: list[str]
) -> None:
    """A name is that of the destination pod in both directions; the protocol is TCP unless said."""
    into = [a_policy(ingress=[{"ports": [port]}])]
    out = [a_policy(policyTypes=["Egress"], egress=[{"ports": [port]}])]
    for wanted, texts in (("yes", open_), ("no", closed)):
        for text in texts:
            number, protocol = text.split("/")
            assert allowed(into, WEB, DB, int(number), protocol) == wanted, text
            assert allowed(out, DB, WEB, int(number), protocol) == wanted, text


def test_a_named_port_means_nothing_outside_of_pods() -> None:
    """Neither an address outside nor a node has names for its ports."""
    out = [a_policy(policyTypes=["Egress"], egress=[{"ports": [{"port": "http"}]}])]
    assert allowed(out, DB, OUT) == "no"
    assert allowed(out, DB, "node n2") == "no"


def test_the_named_port_of_a_sidecar_counts_and_that_of_an_ended_init_container_does_not() -> None:
    """An init container that restarts always runs beside the others."""
    containers = [
        {"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 9}]},
        {"ports": [{"name": "early", "containerPort": 8}]},
    ]
    pod = a_pod("db", "10.0.0.2", initContainers=containers)
    ports = [{"port": "side"}, {"port": "early"}]
    world = world_from({"pods": [pod], "policies": [a_policy(ingress=[{"ports": ports}])]})
    outside = world.at("192.0.2.7")
    assert evaluate(world, outside, world.pods[0], 9).allowed is Allowed.YES
    assert evaluate(world, outside, world.pods[0], 8).allowed is Allowed.NO


def test_policies_add_up_so_a_deny_all_denies_nothing_beside_another() -> None:
    """The union of all that select the pod is allowed."""
    deny = a_policy("deny", policyTypes=["Ingress", "Egress"])
    opens = a_policy("open", podSelector={}, ingress=[{"from": [{"podSelector": {}}]}])
    assert allowed([deny], WEB, DB) == "no"
    answer = asked([deny, opens], WEB, DB)
    assert answer.allowed is Allowed.YES
    assert "NetworkPolicy shop/open ingress rule 0 allows it" in answer.reasons


def test_rule_needs_both_peer_and_port() -> None:
    """A rule with the right peer and the wrong port does not lend its peer to the next rule."""
    peer, port = {"podSelector": {}}, {"port": 443}
    rules = [{"from": [peer], "ports": [port]}, {"from": [{"podSelector": {}}], "ports": [port]}]
    assert allowed([a_policy(ingress=rules)], WEB, DB, 80) == "no"
    assert allowed([a_policy(ingress=rules)], WEB, DB, 443) == "yes"


def test_both_ends_must_let_it_through() -> None:
    """The source's egress and the destination's ingress."""
    egress = a_policy("out", podSelector={"matchLabels": {"app": "web"}}, policyTypes=["Egress"])
    assert allowed([egress], WEB, DB) == "no"
    assert allowed([egress, a_policy("in", ingress=[{}])], WEB, DB) == "no"
    assert allowed([egress], DB, WEB) == "yes"


@pytest.mark.parametrize("kind", [["Ingress"], ["Egress"], ["Ingress", "Egress"]])
def test_what_can_never_be_blocked(kind: list[str]) -> None:
    """The pod itself, and its own node in both directions; another node can be."""
    deny = [a_policy(policyTypes=kind)]
    assert allowed(deny, DB, DB) == "yes"
    assert allowed(deny, "node n1", DB) == "yes"
    assert allowed(deny, DB, "node n1") == "yes"
    assert allowed(deny, "node n2", DB) == ("no" if "Ingress" in kind else "yes")
    assert allowed(deny, DB, "node n2") == ("no" if "Egress" in kind else "yes")


def test_pods_on_the_hosts_network_are_neither_subject_nor_peers() -> None:
    """They are their node: reached whatever selects them, and let in by a block only."""
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    agent = "pod shop/agent"
    assert allowed([a_policy(**everything)], OUT, agent) == "yes"
    assert allowed([a_policy(**everything)], agent, OUT) == "yes"
    pods = [a_policy(ingress=[{"from": [{"podSelector": {}}]}])]
    assert allowed(pods, agent, DB) == "no"
    block = [a_policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.1.0.2/32"}}]}])]
    assert allowed(block, agent, DB) == "yes"
    assert allowed([a_policy(podSelector={}, policyTypes=["Ingress"])], agent, "pod shop/far") == (
        "yes"
    )


def test_no_set_of_pods_has_one_on_the_hosts_network() -> None:
    """Asked directly too, before anybody has put the node in its place."""
    world = world_from({"pods": PODS, "namespaces": SPACES})
    agent = end_of(world, "pod shop/agent")
    assert set_has(PodSet(EVERYTHING, EVERYTHING), world, agent).truth is Truth.NO
    assert set_has(PodSet(EVERYTHING, EVERYTHING), world, end_of(world, DB)).truth is Truth.YES


def test_what_is_not_known_is_unknown_and_said() -> None:
    """A namespace that is not listed, and a pod without an address before a block."""
    pods = [a_pod("db", "10.0.0.2"), a_pod("new", "", "other")]
    by_team = {"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}
    by_block = {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    for rule, text in (
        (by_team, "namespace other is not listed"),
        (by_block, "the address of pod other/new is not known"),
    ):
        world = world_from({"pods": pods, "policies": [a_policy(ingress=[rule])]})
        answer = evaluate(world, world.pods[1], world.pods[0], 80)
        assert answer.allowed is Allowed.UNKNOWN
        assert not answer.blocked
        assert answer.reasons == (
            f"NetworkPolicy shop/p ingress rule 0 may allow it, cannot tell: {text}",
        )


def test_an_end_with_two_families_passes_when_one_pair_of_addresses_does() -> None:
    """A block of one family lets the pair of that family through."""
    pods = [a_pod("web", "10.0.0.1"), a_pod("db", "10.0.0.2")]
    for number, pod in enumerate(pods, 1):
        pod["status"]["podIPs"] = [{"ip": f"10.0.0.{number}"}, {"ip": f"fd00::{number}"}]
    rule = {"from": [{"ipBlock": {"cidr": "fd00::/64"}}]}
    world = world_from({"pods": pods, "policies": [a_policy(ingress=[rule])]})
    assert evaluate(world, world.pods[0], world.pods[1], 80).allowed is Allowed.YES
    assert evaluate(world, world.at("10.0.0.77"), world.pods[1], 80).allowed is Allowed.NO


def test_a_protocol_that_policies_do_not_speak_of_is_refused() -> None:
    """What happens to ICMP differs between plug-ins."""
    with pytest.raises(ValueError, match="ICMP"):
        asked([], WEB, DB, 0, "ICMP")


@pytest.mark.parametrize(
    ("policies", "source", "reasons"),
    [
        (
            [],
            WEB,
            (
                "no NetworkPolicy selects the source for egress",
                "no NetworkPolicy selects the destination for ingress",
            ),
        ),
        (
            [a_policy("a"), a_policy("b", ingress=[{"ports": [{"port": 1}]}])],
            OUT,
            (
                "NetworkPolicy shop/a isolates for ingress and has no ingress rule",
                "NetworkPolicy shop/b isolates for ingress and none of its ingress rules allows it",
            ),
        ),
        (
            [a_policy("a", ingress=[{"ports": [{"port": 1}]}, {}])],
            OUT,
            (
                "the source is no pod that policies apply to",
                "NetworkPolicy shop/a ingress rule 1 allows it",
            ),
        ),
    ],
)
def test_reasons_name_policy_and_rule(
    policies: list[Json], source: str, reasons: tuple[str, ...]
) -> None:
    """Rules are counted from 0; of a block only the blocking side speaks."""
    assert asked(policies, source, DB).reasons == reasons


def test_an_address_belongs_to_a_node_or_a_running_pod_or_to_nobody() -> None:
    """A pod that has ended gave its address back."""
    ended = a_pod("old", "10.0.0.50")
    ended["status"]["phase"] = "Succeeded"
    world = world_from({"pods": [*PODS, ended], "nodes": NODES})
    texts = [world.at(f"10.{rest}").text for rest in ("0.0.2", "1.0.2", "0.0.50")]
    assert texts == ["pod shop/db", "node n2", "address 10.0.0.50"]


def test_unknown_policy_types_select_no_direction() -> None:
    """Only the two of the API are read."""
    assert read(a_policy(policyTypes=["Tomorrow"])).directions == frozenset()
