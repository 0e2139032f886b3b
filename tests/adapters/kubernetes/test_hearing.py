"""What is heard of changes: nothing that may open an isolation is missed, nothing else is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from integrations.kubernetes.hearing import Hearing, only_denies
from integrations.kubernetes.policy import deny_all, remaining
from integrations.kubernetes.policy_evaluator import evaluate
from integrations.kubernetes.policy_model import End, Pod
from integrations.kubernetes.underway import Underway
from responder.ports import Call, Integration
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.accounts import responder
from tests.adapters.kubernetes.policy.build import end_of, world_from
from tests.adapters.kubernetes.policy.generate import SPACES, Json, Maker
from tests.real.cluster import ControlPlane
from tests.real.waiting import eventually

LABEL = "responder.dev/quarantine"
OWNER: Json = {"metadata": {"name": "b", "uid": "0000"}}
CLUSTERS, FLOWS = 600, 12
RANK = ("yes", "unknown", "no")  # ever less open


def quarantine(value: str, name: str = "np-ours", namespace: str = "red") -> Json:
    """The policy of one isolation, as the product makes it."""
    return deny_all(
        name=name, namespace=namespace, label=(LABEL, value), annotations={}, owner=OWNER
    )


# --------------------------------------------------------------------------- the proof


def test_a_quarantine_policy_that_comes_or_goes_changes_nothing_for_pods_with_another_label() -> (
    None
):
    """Over random clusters, isolated pods among them: same answer for every flow with and without.

    And for the pod that it speaks of nothing gets through that did not before.
    """
    counts: Counter[str] = Counter()
    for seed in range(CLUSTERS):
        maker = Maker(random.Random(seed), odd=0.05)
        cluster = _with_isolated(maker)
        ours = quarantine("mine", namespace=maker.rng.choice(SPACES))
        assert only_denies(ours)
        without = world_from(cluster)
        there = world_from({**cluster, "policies": [*cluster["policies"], ours]})
        for _ in range(FLOWS):
            source, target, port, protocol = maker.flow(cluster)
            one, other = (
                evaluate(world, end_of(world, source), end_of(world, target), port, protocol)
                for world in (without, there)
            )
            if _is_spoken_of([end_of(without, source), end_of(without, target)], ours):
                counts["spoken of"] += 1
                assert RANK.index(other.allowed) >= RANK.index(one.allowed), (seed, source, target)
            else:
                counts[one.allowed] += 1
                assert one.allowed == other.allowed, (seed, source, target, one, other)
                assert one.reasons == other.reasons, (seed, source, target)
    print(f"\n{CLUSTERS} clusters: {dict(counts)}")
    assert min(counts["yes"], counts["no"], counts["spoken of"]) > 200


def test_what_the_policies_leave_open_is_the_same_with_and_without_those_of_other_isolations() -> (
    None
):
    """The question of every proof, for pods isolated beside many others."""
    opened = 0
    for seed in range(CLUSTERS):
        maker = Maker(random.Random(seed), odd=0.05)
        others = [maker.policy(f"np{number}", "red") for number in maker.some(0, 5)]
        mine, labels = quarantine("mine", "np-mine"), {**maker.labels(), LABEL: "mine"}
        more = [quarantine(f"other-{number}", f"np-{number}") for number in maker.some(1, 3)]
        for level in ("", "admin", "native"):
            alone = remaining([*others, mine], labels, "np-mine", level)
            assert remaining([*more, *others, mine], labels, "np-mine", level) == alone
            opened += bool(alone)
    assert opened > CLUSTERS / 4


def _with_isolated(maker: Maker) -> Json:
    """A cluster in which one pod carries our label's value, and some another value."""
    cluster = maker.cluster()
    for number, pod in enumerate(cluster["pods"]):
        labels = pod["metadata"]["labels"]
        pod["metadata"]["labels"] = {**labels, LABEL: "mine" if not number else f"other-{number}"}
        if number == 1:
            space = pod["metadata"]["namespace"]
            cluster["policies"].append(quarantine("other-1", "np-other", space))
    return cluster


def _is_spoken_of(ends: list[End], policy: Json) -> bool:
    return any(
        isinstance(end, Pod)
        and end.namespace == policy["metadata"]["namespace"]
        and end.labels[LABEL] == "mine"
        for end in ends
    )


SPEC = quarantine("x")["spec"]


@pytest.mark.parametrize(
    "spec",
    [
        {**SPEC, "ingress": [{}]},
        {**SPEC, "egress": [{"to": [{"podSelector": {}}]}]},
        {**SPEC, "ingress": []},
        {**SPEC, "tomorrow": {"allow": "all"}},
        {**SPEC, "podSelector": {}},
        {**SPEC, "podSelector": {"matchLabels": {}}},
        {**SPEC, "podSelector": {"matchLabels": {"app": "a"}}},
        {**SPEC, "podSelector": {"matchLabels": {LABEL: "x", "app": "a"}}},
        {**SPEC, "podSelector": {"matchExpressions": [{"key": LABEL, "operator": "Exists"}]}},
        {},
    ],
)
def test_every_other_policy_has_its_whole_namespace_looked_at(spec: Mapping[str, Any]) -> None:
    """Whatever its name and its labels claim to be."""
    policy = {**quarantine("x"), "spec": spec}
    hearing = Hearing(Underway(stage.World().clock))
    assert not only_denies(policy)
    for verb in ("ADDED", "MODIFIED", "DELETED"):
        assert hearing.places("NetworkPolicy", verb, policy) == ["red"]


# --------------------------------------------------------------------------- events


def pod(**metadata: Any) -> Json:
    """A pod as a watch tells of it."""
    return {
        "metadata": {
            "name": "a",
            "namespace": "red",
            "uid": "1",
            "labels": {LABEL: "x"},
            "annotations": {"k": "v"},
            **metadata,
        }
    }


def test_a_pod_is_told_of_when_what_an_isolation_stands_on_is_new_and_not_for_its_status() -> None:
    """Version, owners and managers of fields move all the time; they open nothing."""
    hearing = Hearing(Underway(stage.World().clock))

    def heard(verb: str, **metadata: Any) -> bool:
        found = hearing.places("Pod", verb, pod(**metadata))
        assert found in ([], ["red/a"])
        return bool(found)

    assert heard("ADDED")
    assert not heard("MODIFIED", resourceVersion="7", ownerReferences=[], managedFields=[{}])
    assert heard("MODIFIED", annotations={})
    assert heard("MODIFIED", labels={LABEL: "y"})
    assert heard("MODIFIED", deletionTimestamp="2026-09-24T08:14:55Z")
    assert heard("DELETED")
    assert heard("ADDED")
    assert heard("MODIFIED", uid="2")
    assert not heard("MODIFIED", uid="2")


def test_a_quarantine_policy_is_told_of_by_its_name_and_a_changed_one_to_its_namespace() -> None:
    """Before the change it may have said anything."""
    hearing = Hearing(Underway(stage.World().clock))
    told = [
        hearing.places("NetworkPolicy", verb, quarantine("x"))
        for verb in ("ADDED", "MODIFIED", "DELETED")
    ]
    assert told == [["red/np-ours"], ["red"], ["red/np-ours"]]


def test_only_what_is_being_written_is_kept_quiet_about_and_not_for_ever() -> None:
    """Policies that could allow something are told of meanwhile, other objects too."""
    clock = HandClock()
    underway = Underway(clock)
    hearing = Hearing(underway)
    allow = {**quarantine("x"), "spec": {**SPEC, "ingress": [{}]}}

    def heard() -> list[list[str]]:
        other = quarantine("y", "np-other")
        return [
            hearing.places("Pod", "DELETED", pod()),
            hearing.places("NetworkPolicy", "DELETED", quarantine("x")),
            hearing.places("NetworkPolicy", "DELETED", other),
            hearing.places("NetworkPolicy", "ADDED", allow),
        ]

    everything = [["red/a"], ["red/np-ours"], ["red/np-other"], ["red"]]
    assert heard() == everything
    underway.begin(["red/a", "red/np-ours"])
    assert heard() == [[], [], ["red/np-other"], ["red"]]
    underway.end(["red/a", "red/np-ours"])
    assert heard() == everything
    underway.begin(["red/a"])
    clock.now_ = 61.0
    assert heard() == everything


def test_the_very_version_that_we_have_written_is_no_news_and_any_other_is() -> None:
    """However late it is heard; a name that is used again is another matter."""
    underway = Underway(HandClock())
    underway.wrote(pod(resourceVersion="7"))
    versions = {
        version: Hearing(underway).places("Pod", "ADDED", pod(resourceVersion=version))
        for version in ("6", "7", "8")
    }
    assert versions == {"6": ["red/a"], "7": [], "8": ["red/a"]}
    other = pod(resourceVersion="7", namespace="blue")
    assert Hearing(underway).places("Pod", "ADDED", other) == ["blue/a"]


class HandClock:
    """Time that a test sets."""

    now_ = 0.0

    def monotonic(self) -> float:
        return self.now_


# --------------------------------------------------------------------------- the real thing


@asynccontextmanager
async def listening(made: Integration) -> AsyncIterator[list[str]]:
    """What the product's own watch tells."""
    said: list[str] = []

    async def hear(place: str) -> None:
        said.append(place)

    [watch] = made.watchers
    work = asyncio.create_task(watch(hear))
    try:
        yield said
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


@pytest.mark.control_plane
async def test_our_own_isolation_is_no_news_and_whatever_others_do_to_it_is(
    control_plane: ControlPlane, namespace: str
) -> None:
    """On a real API server: silent while we write, then each deed of somebody else by its place."""
    for name in ("solo", "twin"):
        stage.bare(control_plane, namespace, name)
    base = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    itself = f"/api/v1/namespaces/{namespace}/pods/solo"

    async def settled(said: list[str], *places: str) -> None:
        """These are told, in whatever order, and no others."""
        wanted = {f"cluster:{cluster}/{namespace}{place}" for place in places}

        async def told() -> bool:
            return wanted <= set(said)

        await eventually(told, f"{wanted} in {said}")
        assert set(said) <= wanted
        said.clear()

    places = {"namespaces": [namespace]}
    async with responder(control_plane, namespace, "quarantine_pod", **places) as made:
        [cluster] = made.resolvers
        async with listening(made) as said:
            await _awake(control_plane, namespace, said)
            step = stage.call("quarantine_pod", pod=f"{namespace}/solo")
            await _isolate(made, step)
            await _isolate(made, stage.call("quarantine_pod", pod=f"{namespace}/twin"))
            body = {"metadata": {"annotations": {"somebody": "was here"}}}
            control_plane.must("PATCH", itself, body)
            await settled(said, "/solo")

            policy = control_plane.must("GET", base)["items"][0]["metadata"]["name"]
            control_plane.must("DELETE", f"{base}/{policy}")
            await settled(said, f"/{policy}")
            control_plane.must("PATCH", itself, {"metadata": {"labels": {LABEL: None}}})
            await settled(said, "/solo")
            allow = {"podSelector": {}, "ingress": [{}]}
            control_plane.must("POST", base, {"metadata": {"name": "allow"}, "spec": allow})
            await settled(said, "")


async def _isolate(made: Integration, step: Call) -> None:
    plan, result = await stage.perform(made, step)
    await stage.action(made, "quarantine_pod").verify(step, plan, result)


async def _awake(plane: ControlPlane, namespace: str, said: list[str]) -> None:
    """Until the watches are at work: what came before their beginning is not told."""
    policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    stage.bare(plane, namespace, "knock")
    plane.must("POST", policies, {"metadata": {"name": "knock"}, "spec": {"podSelector": {}}})
    count = itertools.count()

    async def heard() -> bool:
        body = {"metadata": {"labels": {LABEL: str(next(count))}}}
        plane.must("PATCH", f"{policies}/knock", body)
        plane.must("PATCH", f"/api/v1/namespaces/{namespace}/pods/knock", body)
        await asyncio.sleep(0.1)
        return {one.rpartition("/")[2] for one in said} == {"knock", namespace}

    await eventually(heard, "the watches to be at work")
    plane.must("DELETE", f"{policies}/knock")
    await asyncio.sleep(0.3)
    said.clear()
