"""The short ways of reading policies say what the long ones say, on thousands of random ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

from integrations.kubernetes import policy_v1
from integrations.kubernetes.policy import remaining, selects
from integrations.kubernetes.policy_selectors import matches, read_selector
from integrations.kubernetes.policy_truth import Truth
from tests.adapters.kubernetes.policy.generate import Json, Maker

SEEDS = 3_000


def test_a_selector_that_fails_at_a_plain_label_selects_nothing_whatever_else_it_says() -> None:
    """The same answer as for the whole selector, unreadable expressions included."""
    counts: Counter[bool] = Counter()
    for seed in range(SEEDS):
        maker = Maker(random.Random(seed), odd=0.1)
        selector = {**maker.selector(), **maker.selector()}
        labels = maker.labels()
        whole = matches(read_selector(selector), labels).truth is not Truth.NO
        assert selects(selector, labels) is whole, (seed, selector, labels)
        counts[whole] += 1
    assert not selects(None, {})
    assert selects({}, {})
    assert min(counts.values()) > SEEDS / 10


def test_what_is_left_open_is_the_same_when_every_policy_is_read_whole() -> None:
    """Policies without rules and policies of other pods are passed over unread."""
    found: Counter[bool] = Counter()
    for seed in range(SEEDS):
        maker = Maker(random.Random(seed), odd=0.1)
        policies = [maker.policy(f"np{number}", "red") for number in maker.some(0, 6)]
        labels = maker.labels()
        left = remaining(policies, labels, "np0")
        assert left == _slowly(policies, labels, "np0"), (seed, policies, labels)
        found[bool(left)] += 1
    assert min(found.values()) > SEEDS / 10


def _slowly(policies: list[Json], labels: Mapping[str, str], own: str) -> tuple[str, ...]:
    read = [policy_v1.read(one) for one in policies if one["metadata"]["name"] != own]
    return tuple(
        sorted(
            f"NetworkPolicy {one.name} still allows {way}"
            for one in read
            if matches(one.subject, labels).truth is not Truth.NO
            for way in one.directions
            if one.rules[way]
        )
    )
