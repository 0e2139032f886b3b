"""Who may reach a pod and what it may reach: every port, every peer, everywhere outside."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from integrations.kubernetes.policy_evaluator import evaluate
from integrations.kubernetes.policy_exposure import Exposure, Reach, exposure, openings, shut
from integrations.kubernetes.policy_model import Address, Direction, Outside, Pod, PolicyWorld
from tests.adapters.kubernetes.policy.build import end_of, world_from
from tests.adapters.kubernetes.policy.generate import OUTSIDE, Maker
from tests.adapters.kubernetes.policy.test_admin import into, new, out
from tests.adapters.kubernetes.policy.test_v1 import DB, NODES, PODS, SPACES, a_policy

Json = dict[str, Any]


def a_world(policies: list[Json], admin: list[Json] | None = None) -> PolicyWorld:
    """The small cluster of the v1 tables."""
    cluster = {"pods": PODS, "nodes": NODES, "namespaces": SPACES, "admin": admin or []}
    return world_from({**cluster, "policies": policies})


def of_db(policies: list[Json], admin: list[Json] | None = None) -> Exposure:
    """The exposure of the pod db."""
    world = a_world(policies, admin)
    return exposure(world, _pod(world, DB))


def _pod(world: PolicyWorld, text: str) -> Pod:
    found = end_of(world, text)
    assert isinstance(found, Pod)
    return found


def places(reaches: tuple[Reach, ...]) -> list[tuple[str, str]]:
    """Peers with their ports."""
    return [(reach.peer, reach.ports) for reach in reaches]


def test_without_policies_everybody_is_there_once() -> None:
    """Pods, other nodes (and the pods on their network with them), all addresses outside."""
    found = of_db([])
    everybody = [
        (peer, "every port")
        for peer in (
            "pod shop/web",
            "pod shop/far",
            "pod other/web",
            "node n2",
            "addresses outside in 0.0.0.0/0",
        )
    ]
    assert places(found.reached_by) == everybody
    assert places(found.reaches) == everybody
    assert not found.closed


def test_after_a_deny_all_only_what_can_never_be_blocked_is_left() -> None:
    """Its own node and itself."""
    found = of_db([a_policy(policyTypes=["Ingress", "Egress"])])
    assert found.closed
    assert found.always == (
        "pod shop/db reaches itself",
        "node n1, its own, reaches it",
        "it reaches node n1, its own",
    )


def test_a_policy_that_still_allows_is_named_with_its_ports_and_blocks() -> None:
    """Ports are cut where the answer changes, addresses likewise; neighbours are joined."""
    ports = [{"port": 80, "endPort": 81}, {"port": 82}, {"port": "http"}]
    block = {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}
    rule = {"from": [{"ipBlock": block}, {"podSelector": {}}], "ports": ports}
    deny = a_policy("deny", policyTypes=["Ingress", "Egress"])
    found = of_db([deny, a_policy("open", ingress=[rule])])
    assert places(found.reached_by) == [
        ("pod shop/web", "TCP 80-82"),
        ("pod shop/far", "TCP 80-82"),
        ("addresses outside in 192.0.2.0/25", "TCP 80-82"),
    ]
    assert found.reaches == ()
    assert found.reached_by[2].text == (
        "addresses outside in 192.0.2.0/25 on TCP 80-82: the source is no pod that "
        "policies apply to; NetworkPolicy shop/open ingress rule 0 allows it"
    )


def test_a_doubt_is_listed_as_a_doubt() -> None:
    """A quarantine by a policy that cannot be read is not closed."""
    deny = a_policy("deny", policyTypes=["Ingress"])
    found = of_db([deny, a_policy("odd", ingress=[{"from": [{}], "ports": [{"port": 1}]}])])
    assert ("pod shop/web", "TCP 1") in places(found.reached_by)
    assert all("(cannot tell)" in reach.text for reach in found.reached_by)
    assert not found.closed


def test_an_admin_quarantine_leaves_the_outside_and_other_nodes() -> None:
    """What ClusterNetworkPolicy cannot say on ingress shows as open."""
    admin = new(**into("Deny"), **out("Deny", {"networks": ["0.0.0.0/0", "::/0"]}))
    found = of_db([], [admin])
    assert [reach.peer for reach in found.reached_by] == [
        "node n2",
        "addresses outside in 0.0.0.0/0",
    ]
    assert found.reaches == ()
    assert found.always[1:] == ("node n1, its own, reaches it",)


def test_no_policy_helps_for_a_pod_on_the_hosts_network() -> None:
    """It is its node."""
    world = a_world([a_policy(podSelector={}, policyTypes=["Ingress", "Egress"])])
    found = exposure(world, _pod(world, "pod shop/agent"))
    assert ("addresses outside in 0.0.0.0/0", "every port") in places(found.reached_by)
    assert "no policy applies to it" in found.always[1]
    assert not shut(world, _pod(world, "pod shop/agent"), Direction.INGRESS)


@pytest.mark.parametrize(
    ("policies", "admin", "expected"),
    [
        ([], [], ("no NetworkPolicy surely isolates pod shop/db for ingress",)),
        ([a_policy()], [], ()),
        ([a_policy(), a_policy("x", podSelector={"matchLabels": {"app": "web"}})], [], ()),
        (
            [a_policy(), a_policy("open", podSelector={}, ingress=[{"from": [{}]}, {}])],
            [],
            (
                "NetworkPolicy shop/open ingress rule 0 still lets something through",
                "NetworkPolicy shop/open ingress rule 1 still lets something through",
            ),
        ),
        (
            [a_policy()],
            [new(**into("Accept")), new("p", **into("Pass")), new("d", **into("Deny"))],
            ("ClusterNetworkPolicy c ingress rule 0 still lets something through",),
        ),
        (
            [a_policy(podSelector={"matchExpressions": [{"key": "a", "operator": "Tomorrow"}]})],
            [],
            ("no NetworkPolicy surely isolates pod shop/db for ingress",),
        ),
    ],
)
def test_openings_of_the_pods_own_side(
    policies: list[Json], admin: list[Json], expected: tuple[str, ...]
) -> None:
    """They need no other pod, and say too much rather than too little."""
    world = a_world(policies, admin)
    assert openings(world, _pod(world, DB), Direction.INGRESS) == expected


@pytest.mark.parametrize("odd", [0.0, 0.06])
def test_exposure_says_what_the_evaluator_says_for_any_flow(odd: float) -> None:
    """In random clusters, on any port, each flow that is not surely blocked is listed, no other."""
    counts: Counter[bool] = Counter()
    for seed in range(150):
        maker = Maker(random.Random(seed), odd=odd)
        cluster = maker.cluster()
        world = world_from(cluster)
        pods = [pod for pod in world.pods if not pod.host_network]
        if not pods:
            continue
        pod = maker.rng.choice(pods)
        found = exposure(world, pod)
        for _ in range(10):
            counts[_agrees(world, pod, found, maker)] += 1
    assert min(counts[True], counts[False]) > 200


def _agrees(world: PolicyWorld, pod: Pod, found: Exposure, maker: Maker) -> bool:
    others = [p for p in world.pods if p.place != pod.place and not p.host_network]
    nodes = [node for node in world.nodes.values() if node.name != pod.node]
    outside = [Outside(ip_address(text)) for text in OUTSIDE]
    peer = maker.rng.choice([*others, *nodes, *outside])
    port, protocol = maker.rng.choice((*maker.ports, 82, 9999)), maker.rng.choice(maker.protocols)
    blocked = False
    for reaches, ends in ((found.reached_by, (peer, pod)), (found.reaches, (pod, peer))):
        blocked = evaluate(world, *ends, port, protocol).blocked
        listed = [r for r in reaches if _is_peer(r, peer) and _has_port(r.ports, port, protocol)]
        assert bool(listed) is not blocked, (world, pod, peer, port, protocol, reaches)
        assert len(listed) < 2
    return blocked


def _is_peer(reach: Reach, peer: Any) -> bool:
    if not isinstance(peer, Outside):
        return reach.peer == peer.text
    if not reach.peer.startswith("addresses"):
        return False
    assert "more" not in reach.peer
    blocks = reach.peer.removeprefix("addresses outside in ").split(", ")
    return any(_in_block(block, peer.address) for block in blocks)


def _in_block(text: str, address: Address) -> bool:
    first, dash, last = text.partition("-")
    if dash:
        return int(ip_address(first)) <= int(address) <= int(ip_address(last))
    return address in ip_network(first)


def _has_port(text: str, port: int, protocol: str) -> bool:
    if text == "every port":
        return True
    for part in text.split(", "):
        name, *spans = part.split(" ")
        if name == protocol:
            return spans == ["all"] or any(_in_span(span, port) for span in spans)
    return False


def _in_span(span: str, port: int) -> bool:
    first, _, last = span.partition("-")
    return int(first) <= port <= int(last or first)
