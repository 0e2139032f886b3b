"""The evaluator foretells what connections really do on the node."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from integrations.kubernetes.policy_evaluator import Answer, evaluate
from tests.adapters.kubernetes.policy.bench import (
    PORTS,
    Bench,
    Dial,
    bench,
    install_admin_kinds,
    remove_admin_kinds,
)
from tests.adapters.kubernetes.policy.build import world_from
from tests.adapters.kubernetes.policy.generate import Json, Maker
from tests.real.cluster import Node

ROUNDS = 10
WORDS = {"yes": "ok", "no": "timeout"}


@pytest.fixture(scope="module")
def stage(node: Node) -> Iterator[Bench]:
    """The pods, made once."""
    with bench(node) as made:
        yield made
        node.policy("none")


@pytest.fixture
def admin_kinds(stage: Bench) -> Iterator[None]:
    """The kinds of v1alpha1 for one test; the enforcer that watches them ends before they do."""
    install_admin_kinds(stage.node)
    yield
    stage.node.policy("none")
    remove_admin_kinds(stage.node)


def a_maker(stage: Bench, seed: int) -> Maker:
    """Random policies over the addresses, ports and namespaces that are really there."""
    some = sorted(stage.pods.values())[1]
    outside = {f"{address}/32" for address in (stage.outside_source, stage.node.outside_ip)}
    blocks = ("0.0.0.0/0", "10.77.0.0/24", "10.77.0.0/29", f"{some}/32", *sorted(outside))
    return Maker(
        random.Random(seed),
        blocks=blocks,
        ports=tuple(PORTS.values()),
        names=tuple(PORTS),
        protocols=("TCP", "TCP", "TCP", "UDP"),
        spaces=stage.spaces,
    )


def all_dials(stage: Bench, *, to_node: bool) -> list[Dial]:
    """Every pod with every pod, with the node and with the outside, on both ports."""
    pods = [place for place in stage.pods if not place.startswith(stage.fence)]
    ends = [*pods, "node", "outside"]
    return [
        Dial(source, destination, port)
        for source, destination, port in product(ends, ends, PORTS.values())
        if (source in pods or destination in pods) and (to_node or destination != "node")
    ]


def foretold(stage: Bench, cluster: Json, dials: list[Dial]) -> dict[Dial, Answer]:
    """The evaluator's answers, from what the API server lists."""
    world = world_from(cluster)
    sources = {name: world.at(address) for name, address in stage.sources.items()}
    places = {name: world.at(address) for name, address in stage.places.items()}
    return {d: evaluate(world, sources[d.source], places[d.destination], d.port) for d in dials}


def tried(stage: Bench, answers: dict[Dial, Answer]) -> dict[Dial, str]:
    """What connections did; a busy machine may be slow, so a late yes is asked for again."""
    found = stage.dial(list(answers))
    late = [d for d, word in found.items() if word == "timeout" and answers[d].allowed == "yes"]
    return found | (stage.dial(late, "3s") if late else {})


def play(stage: Bench, seed: int, *, admin: bool) -> Counter[str]:
    """One round: new labels, new policies, all connections, compared."""
    maker = a_maker(stage, seed)
    pods = [place for place in stage.pods if not place.startswith(stage.fence)]
    stage.relabel({place: maker.labels() for place in pods})
    policies = [maker.policy(f"np{n}") for n in maker.some(3, 8)]
    cluster_wide = [maker.admin_v1alpha1(f"a{n}") for n in maker.some(1, 3)] if admin else []
    stage.replace_policies(policies, cluster_wide)
    stage.settle(admin=admin)
    cluster = stage.listed(admin=admin)
    answers = foretold(stage, cluster, all_dials(stage, to_node=not admin))
    clear = {dial: answer for dial, answer in answers.items() if answer.allowed != "unknown"}
    words = tried(stage, clear)
    wrong = {d: (words[d], a) for d, a in clear.items() if words[d] != WORDS[a.allowed]}
    assert not wrong, f"seed {seed}: {wrong}\n{cluster['policies']}\n{cluster['admin']}"
    counts = Counter(answer.allowed.value for answer in answers.values())
    print(f"seed {seed}: {dict(counts)}")
    return counts


@pytest.mark.timeout(240)
def test_connections_do_what_the_evaluator_says(stage: Bench) -> None:
    """NetworkPolicy v1, every pair of pods, the node and the outside, on two ports."""
    stage.node.policy("none")
    stage.node.policy("strict")
    counts: Counter[str] = Counter()
    for seed in range(ROUNDS):
        counts += play(stage, seed, admin=False)
    print(f"{ROUNDS} sets of policies, {counts.total()} connections: {dict(counts)}")
    assert min(counts["yes"], counts["no"]) >= 100
    assert counts["unknown"] == 0


@pytest.mark.timeout(240)
def test_connections_obey_admin_and_baseline_as_the_evaluator_says(
    stage: Bench, admin_kinds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v1alpha1 beside NetworkPolicy. This enforcer does not see traffic from a pod to its node."""
    flags = "--admin-network-policy --baseline-admin-network-policy"
    monkeypatch.setenv("CLUSTER_POLICY_FLAGS", flags)
    baseline = a_maker(stage, 4).admin_v1alpha1("default", baseline=True)
    stage.replace_policies([], [baseline])
    stage.node.policy("none")
    stage.node.policy("strict")
    counts: Counter[str] = Counter()
    for seed in range(100, 100 + ROUNDS):
        counts += play(stage, seed, admin=True)
    print(f"{ROUNDS} sets of policies, {counts.total()} connections: {dict(counts)}")
    assert min(counts["yes"], counts["no"]) >= 60
