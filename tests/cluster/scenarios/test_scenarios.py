"""The scenarios: every plan and static verdict, and what connections do in three behaviours."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integrations.kubernetes.quarantine import LABEL, Request, Scene, design
from responder.errors import StepFailed
from responder.model import Plan, Verdict
from responder.ports import Call, Integration
from tests.adapters.kubernetes import accounts, stage
from tests.cluster.scenarios.judging import Played
from tests.cluster.scenarios.reading import MODES, OWNERS, WORDS, Scenario, scenarios
from tests.cluster.scenarios.slots import SLOTS, Slots, lives, slots
from tests.real.cluster import Node
from tests.real.toolbox import load_toolbox

Json = dict[str, Any]
ALL = scenarios()
PLAYED = [one for one in ALL if one.packets]
FEWEST = 60
VERSIONS = {"ReplicationController": "v1", "ConfigMap": "v1", "Job": "batch/v1"}
ADDRESSES = {"OUTSIDE": "192.0.2.7", "SOURCE": "192.0.2.8"}
ACTIONS = ("quarantine_pod", "probe_network", "cut_flows")
CLASSES = {"none": "none", "survive": "survives", "strict": "cuts"}
SETTLE = 6  # seconds; this enforcer works at once
AT_ONCE = 2  # pods that one server tries at the same time
UNTRIED = "no packet proves it: "


# --------------------------------------------------------------------------- pure


def target_of(one: Scenario) -> Json:
    """The scenario's target as the API server would show it."""
    metadata: Json = {"name": "target", "namespace": "n", "uid": "1" * 36, "resourceVersion": "1"}
    metadata["labels"] = dict(one.labels)
    spec: Json = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
    status: Json = {"phase": "Running", "podIP": "10.0.0.4"}
    if one.owner == "static":
        metadata["annotations"] = {"kubernetes.io/config.mirror": "x"}
    elif one.owner == "host network":
        spec["hostNetwork"] = True
    elif one.owner == "ended":
        status["phase"] = "Succeeded"
    elif one.owner != "none":
        kind = OWNERS.get(one.owner, one.owner)
        version = VERSIONS.get(kind, "apps/v1")
        metadata["ownerReferences"] = [
            {"apiVersion": version, "kind": kind, "name": "o", "uid": "u", "controller": True}
        ]
    return {"metadata": metadata, "spec": spec, "status": status}


@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
def test_the_plan_is_what_the_scenario_says(one: Scenario) -> None:
    """Labels taken off or kept, refused or not, and whether something stays open."""
    before, later = one.written(**ADDRESSES)
    policies = [
        {"metadata": {"name": f"other-{number}", "namespace": "n"}, "spec": spec}
        for number, spec in enumerate([*before, *later])
    ]
    scene = Scene(pod=target_of(one), policies=policies)
    request = Request(action="a", cluster="c", incident=1, key="run_1/s")
    if one.plan == "refuse":
        with pytest.raises(StepFailed, match="cannot be isolated"):
            design(scene, request)
        return
    plan = design(scene, request)
    labels = plan.data["labels"]
    assert LABEL in labels
    assert set(labels) - {LABEL} == (set() if one.plan == "strip" else set(one.labels))
    assert bool(plan.data["still"]) is one.open, plan.data["still"]


def test_there_are_enough_scenarios() -> None:
    """Sixty at least, no name twice, every treatment and both endings among them."""
    assert len(ALL) >= FEWEST
    assert len({one.name for one in ALL}) == len(ALL)
    assert {one.plan for one in ALL} == {"strip", "add", "refuse"}
    assert Counter(one.open for one in PLAYED)[True] >= 15
    assert {one.word(mode) for one in PLAYED for mode in MODES} == set(WORDS)


# --------------------------------------------------------------------------- packets


@dataclass(frozen=True)
class Team:
    """The product's servers in one behaviour.

    Both try packets. Where something enforces, the second reads the node's table too; where nothing
    does, it has too little time for a try, and the class alone must tell.
    """

    mode: str
    plain: Integration
    second: Integration
    free: Mapping[int, asyncio.Semaphore]

    def of(self, one: Scenario) -> Integration:
        """Who has isolated this scenario's target."""
        word = one.word("survive")
        if self.mode == "survive":
            return self.second if word in {"proven", "open flow"} else self.plain
        return self.second if word in {"proven", "enforced"} else self.plain

    async def isolate(self, space: str, one: Scenario, key: str) -> tuple[Call, Plan, Any]:
        """Isolate a target."""
        request = stage.call("quarantine_pod", key=key, pod=f"{space}/target")
        plan, result = await stage.perform(self.of(one), request)
        return request, plan, result

    async def judge(self, one: Scenario, call: Call, plan: Plan, result: Any) -> Verdict:
        """The verdict with packets; where policies are open, that of a later look, without."""
        made = self.of(one)
        doer = stage.action(made, "quarantine_pod")
        if one.open:
            return await doer.verify(dataclasses.replace(call, recheck=True), plan, result)
        async with self.free[id(made)]:
            verdict = await doer.verify(call, plan, result)
            for _ in range(2):  # what a busy machine could not try in time is tried again
                if self.mode != "none" and any(UNTRIED in line for line in verdict.residual):
                    verdict = await doer.verify(call, plan, result)
            return verdict


@contextlib.asynccontextmanager
async def team(node: Node, home: str, token: str, image: str, mode: str) -> AsyncIterator[Team]:
    """Two servers that know what the network does, one by trying it, the other from memory."""
    probe = {"image": image, "settle": SETTLE, "seconds": 20}
    other = {**probe, "seconds": 5} if mode == "none" else {**probe, "cut_flows": True}
    common: Json = {"home": home, "dry_run_plans": False}
    async with stage.product(node, token, **common, probe=probe) as plain:
        _, result = await stage.perform(plain, stage.call("probe_network", key=f"run_{mode}/probe"))
        assert result["class"] == CLASSES[mode], result
        async with stage.product(node, token, **common, probe=other) as second:
            assert result["text"] == await second.checks["kubernetes:prod network"]()
            free = {id(one): asyncio.Semaphore(AT_ONCE) for one in (plain, second)}
            yield Team(mode, plain, second, free)


def batches(cases: list[Scenario]) -> list[list[Scenario]]:
    """As many as there are places, with about as many to be tried in each."""
    count = -(-len(cases) // SLOTS)
    ordered = sorted(cases, key=lambda one: (one.open, not one.later, one.word("survive")))
    return [ordered[number::count] for number in range(count)]


async def play(place: Slots, crew: Team, batch: list[Scenario], folder: Path) -> list[Played]:
    """One batch in one behaviour."""
    mode = crew.mode
    place.round += 1
    begin = place.round * 5 % SLOTS  # other targets are tried each time: each keeps what was added
    spaces = [*place.spaces[begin:], *place.spaces[:begin]]
    wanted = dict(zip(spaces, batch, strict=False))
    words = {"OUTSIDE": place.node.outside_ip, "SOURCE": place.outside_source}
    place.clear(wanted)  # nothing denied yet: a connection can be opened
    arrive(place, mode)
    with place.holding([space for space, one in wanted.items() if one.holds(mode)], folder) as held:
        place.prepare(wanted, words)
        key = f"run_{mode}-{place.round}"
        done = await asyncio.gather(
            *(crew.isolate(space, one, f"{key}/{space}") for space, one in wanted.items())
        )
        place.change(wanted, words)
        arrive(place, mode)
        with ThreadPoolExecutor(1) as beside:  # the truth is found out at the same time
            truth = beside.submit(lambda: (place.seen(wanted, mode), lives(held)))
            verdicts = await asyncio.gather(
                *(crew.judge(one, *how) for one, how in zip(wanted.values(), done, strict=True))
            )
            seen, living = truth.result()
    return [
        Played(one, mode, verdict, seen[space], living.get(space))
        for (space, one), verdict in zip(wanted.items(), verdicts, strict=True)
    ]


def arrive(place: Slots, mode: str) -> None:
    """Wait until all that was written has arrived, where anything enforces."""
    if mode != "none":
        place.settle()


@pytest.fixture(scope="module")
def place(node: Node) -> Iterator[Slots]:
    """The pods, made once for all three behaviours."""
    with slots(node) as made:
        yield made


@pytest.fixture(scope="module")
def account(place: Slots) -> Iterator[tuple[str, str]]:
    """The product's own namespace, and its token: generated roles, generated guard."""
    home = place.node.namespace("home")
    yield home, accounts.generated(place.node, home, place.spaces, *ACTIONS)
    accounts.forget(place.node, home)


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("mode", MODES)
async def test_connections_do_what_plan_and_verdict_say(
    place: Slots,
    account: tuple[str, str],
    tmp_path: Path,
    mode: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """New connections in and out, and one held open across the isolation: none judged wrong."""
    image = load_toolbox(place.node)
    place.node.policy(mode)
    played: list[Played] = []
    async with team(place.node, *account, image, mode) as crew:
        for batch in batches(PLAYED):
            played += await play(place, crew, batch, tmp_path)
    wrong = [one for one in played if one.faults]
    with capsys.disabled():
        print("\n" + "\n".join(one.line for one in played))
        print("".join(f"{one.one.name}: {one.verdict}\n" for one in wrong), end="")
        tried = sum(one.tried for one in played)
        levels = Counter(one.verdict.level.value for one in played)
        print(
            f"{mode}: {len(played)} with packets, {tried} tried, {dict(levels)}, {len(wrong)} wrong"
        )
    assert len(played) == len(PLAYED)
    assert not wrong, [one.line for one in wrong]
