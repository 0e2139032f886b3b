"""The evaluator equals a second reading of the API on thousands of random small clusters."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from integrations.kubernetes.policy_evaluator import evaluate
from integrations.kubernetes.policy_model import End, PolicyWorld
from tests.adapters.kubernetes.policy.brute import Json, brute
from tests.adapters.kubernetes.policy.build import end_of, world_from
from tests.adapters.kubernetes.policy.generate import Maker

CLUSTERS = 2_500
FLOWS = 12


@pytest.mark.parametrize(("first", "odd"), [(0, 0.0), (10_000, 0.08)])
def test_the_evaluator_equals_the_brute_reading(first: int, odd: float) -> None:
    """Half of the clusters hold only readable objects; equal priorities leave doubts there too."""
    counts: Counter[str] = Counter()
    clusters = 0
    for seed in range(first, first + CLUSTERS // 2):
        maker = Maker(random.Random(seed), odd=odd)
        cluster = maker.cluster()
        world = world_from(cluster)
        clusters += 1
        for _ in range(FLOWS):
            counts[_agreed(cluster, world, maker.flow(cluster), seed)] += 1
    print(f"\n{clusters} clusters, {sum(counts.values())} flows: {dict(counts)}")
    assert min(counts["yes"], counts["no"]) > 2_000
    assert counts["unknown"] > (500 if odd else 20)


def _agreed(cluster: Json, world: PolicyWorld, flow: tuple[str, str, int, str], seed: int) -> str:
    source, destination, port, protocol = flow
    one: End = end_of(world, source)
    answer = evaluate(world, one, end_of(world, destination), port, protocol)
    expected = brute(cluster, source, destination, port, protocol)
    assert answer.allowed == expected, f"seed {seed}, {flow}: {answer}, brute says {expected}"
    assert answer.reasons
    return expected
