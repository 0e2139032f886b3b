"""The scenarios: every plan and static verdict, and what connections do in three behaviours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations.kubernetes.quarantine import LABEL, Request, Scene, design
from responder.errors import StepFailed
from responder.ports import Integration
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.policy.bench import NETWORKING, PORTS, Bench, Dial, server
from tests.cluster.scenarios.reading import OWNERS, WAYS, Scenario, scenarios
from tests.real.cluster import Node
from tests.real.pods import is_ready
from tests.real.waiting import wait_until
from tests.real.workshop import end_family

Json = dict[str, Any]
ALL = scenarios()
SLOTS = 12  # scenarios at a time, each in a namespace with a target and a friend
FEWEST = 60
VERSIONS = {"ReplicationController": "v1", "ConfigMap": "v1", "Job": "batch/v1"}
ADDRESSES = {"OUTSIDE": "192.0.2.7", "SOURCE": "192.0.2.8"}


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
    assert Counter(one.open for one in ALL if one.packets)[True] >= 15


# --------------------------------------------------------------------------- packets


class Slots(Bench):
    """Namespaces with a target and a friend each, used again and again."""

    def set_up(self) -> None:
        """Start the pods; the fence tells when all that was written has arrived."""
        wanted = [(space, name) for space in self.spaces for name in ("target", "friend")]
        wanted.append((self.fence, "fence"))
        for space, name in wanted:
            self.node.must("POST", f"/api/v1/namespaces/{space}/pods", server(name))
        for space, name in wanted:
            wait_until(lambda s=space, n=name: is_ready(self.node, s, n), f"{name} Ready", 90)
            found = self.node.must("GET", f"/api/v1/namespaces/{space}/pods/{name}")
            self.pods[f"{space}/{name}"] = found["status"]["podIP"]
        self.relabel({f"{space}/friend": {"role": "friend"} for space in self.spaces})
        self.networks = self._network_namespaces()
        self.outside_source = self._source()
        self._fence_policies()

    def _source(self) -> str:
        some = next(iter(self.pods.values()))
        route = self.node.exec(["ip", "route", "get", some], outside=True).stdout.split()
        return route[route.index("src") + 1]

    def prepare(self, space: str, one: Scenario, policies: list[Json]) -> None:
        """The target with its labels and owner, and the policies of others alone."""
        path = f"/api/v1/namespaces/{space}/pods/target"
        now = self.node.must("GET", path)["metadata"]
        gone = {k: None for k in now.get("annotations") or {} if k.startswith("responder.dev/")}
        owners = [self._owner(space)] if one.owner == "custom" else []
        body = {"metadata": {"annotations": gone, "ownerReferences": owners}}
        self.node.must("PATCH", path, body)
        self.relabel({f"{space}/target": dict(one.labels)})
        self.node.must("DELETE", f"{NETWORKING}/{space}/networkpolicies")
        self.add(space, policies)

    def add(self, space: str, policies: list[Json]) -> None:
        """Policies of others."""
        for spec in policies:
            body = {"metadata": {"generateName": "other-"}, "spec": spec}
            self.node.must("POST", f"{NETWORKING}/{space}/networkpolicies", body)

    def _owner(self, space: str) -> Json:
        path = f"/api/v1/namespaces/{space}/configmaps/kube-root-ca.crt"
        found = wait_until(lambda: self.node.request("GET", path)[1].get("metadata"), "an owner")
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": found["name"],
            "uid": found["uid"],
            "controller": True,
        }

    def tries(self, space: str) -> dict[str, list[Dial]]:
        """The new connections of each way, on both ports."""
        mine, friend = f"{space}/target", f"{space}/friend"
        ends = {
            "in friend": (friend, mine),
            "in outside": ("outside", mine),
            "out friend": (mine, friend),
            "out outside": (mine, "outside"),
        }
        return {way: [Dial(*ends[way], port) for port in PORTS.values()] for way in WAYS}

    @contextlib.contextmanager
    def holding(self, spaces: list[str], folder: Path) -> Iterator[dict[str, Path]]:
        """One connection from each friend to its target, open for the length of a block."""
        files = {space: folder / f"{space}-{self.round}.txt" for space in spaces}
        with contextlib.ExitStack() as stack:
            for space, file in files.items():
                network = self.networks[self.pods[f"{space}/friend"]]
                address = f"{self.pods[f'{space}/target']}:{PORTS['echo']}"
                held = [str(self.node.probe_program), "hold", address]
                call = ["nsenter", f"--net={network}", *held, "-every", "100ms", "-t", "800ms"]
                out = stack.enter_context(file.open("wb"))
                child = subprocess.Popen(
                    self.node._inside(call, outside=False),
                    env={**os.environ, "CLUSTER_STATE": str(self.node.state)},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
                stack.callback(end_family, child)
            for file in files.values():
                seen = _until_first(file)
                assert " ok" in seen, f"{file.name}: {seen}"
            yield files


def _until_first(file: Path) -> str:
    """What a held connection has told once it has had its first round trip."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: " ok" in file.read_text(), "a round trip")
    return file.read_text()


@pytest.fixture(scope="module")
def slots(node: Node) -> Iterator[Slots]:
    """The pods, made once for all three behaviours."""
    serve = [str(node.probe_program), "serve"]
    with contextlib.ExitStack() as stack:
        spaces = tuple(node.namespace("s") for _ in range(SLOTS))
        fence = node.namespace("fence")
        for space in (*spaces, fence):
            stack.callback(node.drop_namespace, space)
        for port in PORTS.values():
            call = [*serve, "-tcp", f":{port}", "-http", f":{port + 1000}"]
            stack.enter_context(node.running(call, outside=True))
        made = Slots(node, spaces, fence)
        made.set_up()
        yield made
        node.policy("none")


async def isolated(made: Integration, space: str, key: str) -> tuple[Any, Any, Any]:
    """Isolate a namespace's target; what judges it again."""
    doer = stage.action(made, "quarantine_pod")
    request = stage.call("quarantine_pod", key=key, pod=f"{space}/target")
    plan = await doer.plan(request)
    result = await stage.finish(doer, request, plan)
    return request, plan, result


def lives(file: Path) -> bool:
    """Whether a held connection goes on: two round trips more, or its end in the file."""
    seen = file.read_text().count(" ok")

    def look() -> str:
        text = file.read_text()
        if "timeout" in text or "error" in text:
            return "cut"
        return "lives" if text.count(" ok") > seen + 12 else ""

    return wait_until(look, "the held connection to go on or end", 30) == "lives"


def arrive(slots: Slots, mode: str) -> None:
    """Wait until all that was written has arrived, where anything enforces."""
    if mode != "none":
        slots.settle()


def play(
    slots: Slots, made: Integration, mode: str, batch: list[Scenario], folder: Path
) -> list[str]:
    """One batch in one behaviour; a line each, `WRONG` where truth and verdict part."""
    spaces = dict(zip(slots.spaces, batch, strict=False))
    words = {"OUTSIDE": slots.node.outside_ip, "SOURCE": slots.outside_source}
    slots.round += 1
    for space in spaces:  # nothing denied yet: a connection can be opened
        slots.node.must("DELETE", f"{NETWORKING}/{space}/networkpolicies")
    arrive(slots, mode)
    with slots.holding([*spaces], folder) as files:
        for space, one in spaces.items():
            slots.prepare(space, one, one.written(**words)[0])
        found = asyncio_run(_all(made, [*spaces], f"{mode}-{slots.round}"))
        for space, one in spaces.items():
            slots.add(space, one.written(**words)[1])
        arrive(slots, mode)
        verdicts = asyncio_run(_verdicts(made, found))
        tries = {space: slots.tries(space) for space in spaces}
        dials = [dial for ways in tries.values() for way in ways.values() for dial in way]
        answers = slots.dial(dials, "900ms")
        late = [  # a busy machine may be slow: a yes that did not come is asked for again
            dial
            for space, one in spaces.items()
            for way, mine in tries[space].items()
            if (mode == "none" or one.packets[way] == "open")
            and not any(answers[dial] == "ok" for dial in mine)
            for dial in mine
        ]
        answers |= slots.dial(late, "4s") if late else {}
        held = {space: lives(file) for space, file in files.items()}
    return [
        _line(mode, one, verdicts[space], _seen(tries[space], answers), held[space])
        for space, one in spaces.items()
    ]


def _seen(tries: dict[str, list[Dial]], answers: dict[Dial, str]) -> dict[str, str]:
    got = {way: {answers[dial] for dial in dials} for way, dials in tries.items()}
    return {way: "open" if "ok" in words else "cut" for way, words in got.items()}


def _line(mode: str, one: Scenario, verdict: Any, seen: dict[str, str], held: bool) -> str:
    """Judge one scenario: packets as expected, and the verdict never better than they are."""
    wanted = dict.fromkeys(WAYS, "open") if mode == "none" else one.packets
    flow = mode != "strict" or (one.held or one.packets["in friend"]) == "open"
    level = "residual" if one.open else "applied"
    right = (
        seen == wanted
        and held is flow
        and verdict.level.value == level
        and (level == "residual" or bool(verdict.residual))  # no packet was tried: it is said
    )
    told = " ".join(seen[way] for way in WAYS)
    state = "ok   " if right else "WRONG"
    return f"{state} {mode:8} {one.name:62} {verdict.level.value:9} {told}, held {held}"


def asyncio_run(work: Any) -> Any:
    """Run on a loop that stays, as the product's clients do."""
    return _LOOP.run_until_complete(work)


_LOOP = asyncio.new_event_loop()


async def _all(made: Integration, spaces: list[str], key: str) -> dict[str, Any]:
    found = await asyncio.gather(*(isolated(made, s, f"run_{key}/{s}") for s in spaces))
    return dict(zip(spaces, found, strict=True))


async def _verdicts(made: Integration, found: dict[str, Any]) -> dict[str, Any]:
    doer = stage.action(made, "quarantine_pod")
    told = await asyncio.gather(*(doer.verify(*one) for one in found.values()))
    return dict(zip(found, told, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["none", "survive", "strict"])
def test_connections_do_what_plan_and_verdict_say(
    slots: Slots, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """New connections in and out, and one held open across the isolation: none judged wrong."""
    slots.node.policy("none")
    if mode != "none":
        slots.node.policy(mode)
    cases = [one for one in ALL if one.packets]
    lines: list[str] = []

    async def go() -> tuple[Any, Integration]:
        context = stage.product(slots.node, slots.node.admin_token, dry_run_plans=False)
        return context, await context.__aenter__()

    context, made = asyncio_run(go())
    try:
        for start in range(0, len(cases), SLOTS):
            lines += play(slots, made, mode, cases[start : start + SLOTS], tmp_path)
    finally:
        asyncio_run(context.__aexit__(None, None, None))
    wrong = [line for line in lines if line.startswith("WRONG")]
    with capsys.disabled():
        print("\n" + "\n".join(lines))
        print(f"{mode}: {len(lines)} scenarios with packets, {len(wrong)} wrong")
    assert not wrong
