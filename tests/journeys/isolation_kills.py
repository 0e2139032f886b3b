"""Drives alerts about pods of a real API server into a server that dies, until every run has ended.

The driver is as patient as a real sender: an alert is sent again until it was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.adapters.kubernetes import stage
from tests.journeys.kill_driver import Child, Death, Nursery
from tests.real.cluster import ControlPlane
from tests.real.history import Findings, happened, judge, listed, revision
from tests.real.kubelet import NODE, ensure_node, pod_status

__all__ = ["PLAYBOOKS", "Ending", "Scene", "travel", "write_playbooks"]

Json = dict[str, Any]
ONE, TWO = "Terminal shell in container", "Drop and execute new binary in container"
PODS = ("cart-0", "cart-1")
_LONGEST = 90.0  # seconds until every run must have ended, restarts included
_PAUSE = 0.04
# name -> the rule that starts it, and what its alerts share in an incident
PLAYBOOKS = {"first": (ONE, "pod"), "second": (ONE, "pod"), "third": (TWO, "workload")}
_TEXT = """playbook: {name}
description: Isolate the pod that the alert names.
on:
  - alert: {{source: [falco], rule: [{rule}]}}
incident: {{key: [cluster, namespace, {share}], window: 30m}}
mode: enforce
steps:
  isolate:
    use: kubernetes.quarantine_pod
    with: {{pod: "${{{{ target.pod }}}}"}}
"""


def write_playbooks(folder: Path) -> Path:
    """Two playbooks for one rule, and a third for another rule with incidents of its own."""
    folder.mkdir()
    for name, (rule, share) in PLAYBOOKS.items():
        (folder / f"{name}.yaml").write_text(_TEXT.format(name=name, rule=rule, share=share))
    return folder


@dataclass(frozen=True)
class Scene:
    """A ReplicaSet with two pods in a namespace of its own, and what it takes to start a server."""

    plane: ControlPlane
    home: str  # of the product's account
    token: str
    namespace: str
    folder: Path
    playbooks: Path

    def open(self) -> list[Json]:
        """Make the workload; its pods are Running and Ready, as a kubelet would report them."""
        ensure_node(self.plane)
        base = f"/api/v1/namespaces/{self.namespace}/pods"
        found = []
        for name in PODS:
            body = stage.template(app="cart", tier="web")
            body["metadata"]["name"] = name
            body["spec"]["nodeName"] = NODE
            made = self.plane.must("POST", base, body)
            status = {"metadata": {"uid": made["metadata"]["uid"]}, "status": pod_status(made)}
            found.append(self.plane.must("PATCH", f"{base}/{name}/status", status))
        stage.workload(self.plane, self.namespace, "ReplicaSet", replicas=len(PODS))
        return found

    def flags(self) -> Json:
        """The server's configuration: one cluster, two doors, brakes that do not matter here."""
        door = {"source": "falco", "cluster": "prod", "auth": {"none": True}}
        return {
            "server.listen": "127.0.0.1:0",
            "store.url": f"sqlite:///{self.folder / 'responder.db'}",
            "clusters": {
                "prod": {
                    "api": self.plane.api,
                    "ca": str(self.plane.ca),
                    "token": self.token,
                    "home": self.home,
                    "watch": False,  # it hears when it hears: moments of its own would differ
                }
            },
            "hooks": {"one": door, "two": door},
            "playbooks.folders": [str(self.playbooks)],
            "playbooks.shipped": [],
            "guards.mode": "enforce",
            "guards.ready_share": 1.0,
            "guards.pods_per_window": 1000,
        }

    def alerts(self, pods: Sequence[Json]) -> list[tuple[str, Json]]:
        """Two for the first pod, by two doors and of two rules, and one for its sister."""
        first, other = pods
        return [
            ("one", _falco(first, ONE)),
            ("two", _falco(first, TWO)),
            ("two", _falco(other, TWO)),
        ]


@dataclass
class Ending:
    """How one journey ended."""

    findings: Findings
    runs: list[Json] = field(default_factory=list)
    kills: int = 0
    passed: list[str] = field(default_factory=list)
    policies: list[Json] = field(default_factory=list)
    pods: list[Json] = field(default_factory=list)


def _falco(pod: Json, rule: str) -> Json:
    meta, state = pod["metadata"], pod["status"]["containerStatuses"][0]
    return {
        "hostname": pod["spec"]["nodeName"],
        "output": f"Critical {rule} (pod={meta['name']})",
        "priority": "Critical",
        "rule": rule,
        "source": "syscall",
        "tags": ["container"],
        "time": meta["creationTimestamp"][:-1] + ".000000000Z",
        "output_fields": {
            "container.id": state["containerID"].removeprefix("containerd://")[:12],
            "container.name": state["name"],
            "k8s.ns.name": meta["namespace"],
            "k8s.pod.name": meta["name"],
            "k8s.pod.uid": meta["uid"],
            "proc.name": "sh",
        },
    }


async def travel(hand: Nursery, scene: Scene, *deaths: Death) -> Ending:
    """All alerts at once, to the end of every run; the server dies once for each of `deaths`."""
    loop = asyncio.get_running_loop()
    scene.folder.mkdir(parents=True)
    pods = await loop.run_in_executor(scene.plane._pool, scene.open)
    since = revision(scene.plane, scene.namespace)
    before = listed(scene.plane, scene.namespace)
    trip = _Trip(hand, scene, scene.alerts(pods))
    try:
        async with asyncio.timeout(_LONGEST):
            runs = await trip.go([*deaths, Death("")])
    except TimeoutError as error:
        raise AssertionError(f"did not end: {json.dumps(trip.seen)}\n{trip.said()}") from error
    changes = await loop.run_in_executor(
        scene.plane._pool, happened, scene.plane, scene.namespace, since
    )
    now = listed(scene.plane, scene.namespace)
    found = judge(before, changes)
    _must_be_whole(found, now)
    return Ending(
        found,
        runs,
        trip.kills,
        trip.passed,
        [one.item for one in now if one.kind == "NetworkPolicy"],
        [one.item for one in now if one.kind == "Pod" and one.item["metadata"]["name"] in PODS],
    )


def _must_be_whole(found: Findings, now: Sequence[Any]) -> None:
    """The history ends in what is there: nothing was missed."""
    wanted = {(one.kind, one.item["metadata"]["name"]): one.item["metadata"] for one in now}
    got = {key: item["metadata"] for key, item in found.last.items()}
    for key, metadata in wanted.items():
        assert got[key]["labels"] == metadata["labels"], key
    assert got.keys() == wanted.keys()


class _Trip:
    """The lives of one server."""

    def __init__(self, hand: Nursery, scene: Scene, alerts: list[tuple[str, Json]]) -> None:
        self._hand, self._scene = hand, scene
        self._left = list(alerts)
        self.kills = 0
        self.seen: list[Json] = []
        self.passed: list[str] = []

    async def go(self, deaths: Sequence[Death]) -> list[Json]:
        """Live until the end; returns the runs."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client:
            for death in deaths:
                server, url = await self._start(death)
                try:
                    runs = await self._to_the_end(client, server, url) if url else None
                finally:
                    await server.end(signal.SIGKILL)
                killed = self._note()
                if runs is not None:
                    return runs
                assert killed, self.said()
                self.kills += 1
        raise AssertionError(f"the last life was to stay\n{self.said()}")

    async def _start(self, death: Death) -> tuple[Child, str]:
        folder = self._scene.folder
        file = folder / "server.json"
        file.unlink(missing_ok=True)
        order = {
            "do": "serve",
            "flags": self._scene.flags(),
            "folder": str(folder),
            "port_file": str(file),
            "log": str(folder / "server.log"),
            "notes": str(folder / "notes"),
            "target": death.target,
            "delay": death.delay,
        }
        server = await self._hand.fork(order)
        while not file.exists() and server.alive:
            await asyncio.sleep(0.01)
        return server, json.loads(file.read_text()) if file.exists() else ""

    def _note(self) -> bool:
        notes = self._scene.folder / "notes"
        passed = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        self.passed += [one for one in passed if one != "killed"]
        return "killed" in passed

    async def _to_the_end(
        self, client: aiohttp.ClientSession, server: Child, url: str
    ) -> list[Json] | None:
        while server.alive:
            with contextlib.suppress(aiohttp.ClientError):
                await asyncio.gather(*(self._send(client, url, one) for one in [*self._left]))
                self.seen = runs = await self._runs(client, url)
                await self._approve(client, url, runs)
                if not self._left and all(run["outcome"] for run in runs):
                    return runs
            await asyncio.sleep(_PAUSE)
        return None

    async def _send(self, client: aiohttp.ClientSession, url: str, one: tuple[str, Json]) -> None:
        async with client.post(f"{url}/v1/hooks/{one[0]}", json=one[1]) as answer:
            assert answer.status in {200, 202}, await answer.text()
        self._left.remove(one)

    async def _approve(self, client: aiohttp.ClientSession, url: str, runs: list[Json]) -> None:
        """Say yes: whoever plans while the sister is isolated is asked about the last ready pod."""
        for run in runs:
            for step in run["steps"]:
                if step["status"] == "waiting-approval":
                    path = f"{url}/v1/runs/{run['id']}/steps/{step['id']}/approve"
                    async with client.post(
                        path, json={"plan": step["plan_hash"], "reason": "seen"}
                    ) as answer:
                        assert answer.status in {200, 409}, await answer.text()  # 409: decided

    async def _runs(self, client: aiohttp.ClientSession, url: str) -> list[Json]:
        runs = []
        async with client.get(f"{url}/v1/incidents") as answer:
            numbers = [one["number"] for one in (await answer.json())["items"]]
        for number in numbers:
            async with client.get(f"{url}/v1/incidents/{number}") as answer:
                runs += (await answer.json())["runs"]
        return runs

    def said(self) -> str:
        """The last moments, and what the server complained about."""
        log = self._scene.folder / "server.log"
        return "\n".join([*self.passed[-5:], log.read_text()[-3000:] if log.exists() else ""])
