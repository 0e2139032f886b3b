"""From the alert to the policy and the label at a real API server, beside a bare script.

The bare script makes the calls of one correct isolation and nothing else: it reads the pod, its
owner, and (at once, from the API server's cache) what selects it, creates the policy, and patches
the pod. Both are seen by the same watch. The product runs with `dry_run_plans = false`: with it
the API server is asked for each write twice, which no bare script does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.bench.load import blast, falco
from tests.bench.processes import TOKEN, Process, folder, responder, write_config
from tests.bench.report import Report, median, percentile
from tests.real.cluster import ControlPlane, control_plane
from tests.real.kubelet import ensure_node, pod_status
from tests.real.pods import deployment

__all__ = [
    "BARE",
    "LABEL",
    "Client",
    "Pod",
    "Seen",
    "alert",
    "bare",
    "client",
    "config",
    "contain",
    "gather",
    "running_pods",
    "seeing",
]

LABEL = "responder.dev/quarantine"
BARE = "bench/quarantine"
IDLE, STORM, ROUNDS = 30, 200, 2
WORKLOADS, REPLICAS = 25, 20
MERGE = "application/merge-patch+json"
RULE = "Bench isolation"
PLAYBOOK = f"""playbook: isolate
on:
  - alert: {{source: [falco], rule: [{RULE}]}}
mode: enforce
steps:
  isolate:
    use: kubernetes.quarantine_pod
    with: {{pod: "${{{{ target.pod }}}}"}}
"""
CONFIG = """
[playbooks]
folders = ["{texts}"]
[clusters.bench]
api = "{api}"
ca = "{ca}"
token = {{env = "CLUSTER_TOKEN"}}
dry_run_plans = false
[hooks.falco]
source = "falco"
auth = {{bearer = {{env = "BENCH_TOKEN"}}}}
[guards]
mode = "enforce"
storm = 100000
pods_per_window = 100000
ready_share = 1.0
"""
Pod = dict[str, Any]


class Client:
    """Raw JSON over one session: what a script would do."""

    def __init__(self, session: aiohttp.ClientSession, plane: ControlPlane) -> None:
        self._session, self._plane = session, plane
        self._headers = {"Authorization": f"Bearer {plane.admin_token}"}

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """One call; AssertionError when it is refused."""
        kind = MERGE if method == "PATCH" else "application/json"
        async with self._session.request(
            method,
            self._plane.api + path,
            data=None if body is None else json.dumps(body),
            headers={**self._headers, "Content-Type": kind},
        ) as answer:
            found = await answer.json()
            assert answer.status < 300, f"{method} {path}: {answer.status} {found}"
            return found

    async def watch(self, path: str, version: str) -> AsyncIterator[Any]:
        """Lines of a watch, for ever."""
        url = f"{self._plane.api}{path}?watch=1&resourceVersion={version}"
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(
            url, headers=self._headers, timeout=timeout, read_bufsize=1 << 22
        ) as answer:
            async for line in answer.content:
                yield json.loads(line)


@contextlib.asynccontextmanager
async def client(plane: ControlPlane) -> AsyncIterator[Client]:
    """A client with its own connections."""
    trust = ssl.create_default_context(cafile=str(plane.ca))
    connector = aiohttp.TCPConnector(ssl=trust, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(session, plane)


# --------------------------------------------------------------------------- pods


async def running_pods(api: Client, namespace: str, count: int, spare: float = 2) -> list[Pod]:
    """Pods that run as far as the API server can tell; neighbours have different owners."""
    workloads = math.ceil(count * spare / REPLICAS)
    base = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    for number in range(workloads):
        await api.ask("POST", base, deployment(f"web-{number}", "shop/web:1", REPLICAS))
    path = f"/api/v1/namespaces/{namespace}/pods"
    while True:
        found = (await api.ask("GET", path))["items"]
        if len(found) == workloads * REPLICAS and all(p["spec"].get("nodeName") for p in found):
            break
        await asyncio.sleep(0.2)
    await gather(16, [_mark(api, pod) for pod in found])
    replicas = f"/apis/apps/v1/namespaces/{namespace}/replicasets"
    while True:
        sets = (await api.ask("GET", replicas))["items"]
        if all(item["status"].get("readyReplicas") == REPLICAS for item in sets):
            break
        await asyncio.sleep(0.2)
    rows: dict[str, list[Pod]] = {}
    for pod in found:
        rows.setdefault(pod["metadata"]["ownerReferences"][0]["name"], []).append(pod)
    mixed = itertools.chain.from_iterable(zip(*rows.values(), strict=True))
    return list(itertools.islice(mixed, count))


async def _mark(api: Client, pod: Pod) -> None:
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
    await api.ask("PATCH", f"{path}/status", {"status": pod_status(pod)})


async def gather(places: int, work: Sequence[Awaitable[None]]) -> None:
    """Do all of it, so many at a time."""
    gate = asyncio.Semaphore(places)

    async def one(item: Awaitable[None]) -> None:
        async with gate:
            await item

    await asyncio.gather(*(one(item) for item in work))


# --------------------------------------------------------------------------- what is seen


@dataclass
class Seen:
    """When pods were first seen with the label and its policy: name -> time."""

    label: str
    at: dict[str, float] = field(default_factory=dict)
    labelled: dict[str, str] = field(default_factory=dict)  # value -> pod
    policies: set[str] = field(default_factory=set)  # values
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def pod(self, item: Pod) -> None:
        """A pod as the watch told it."""
        value = (item["metadata"].get("labels") or {}).get(self.label)
        if value:
            self.labelled[value] = item["metadata"]["name"]
            self._both(value)

    def policy(self, item: Pod) -> None:
        """A policy as the watch told it."""
        value = item["spec"]["podSelector"].get("matchLabels", {}).get(self.label)
        if value:
            self.policies.add(value)
            self._both(value)

    def _both(self, value: str) -> None:
        if value in self.policies and value in self.labelled:
            self.at.setdefault(self.labelled[value], time.perf_counter())
            self.changed.set()

    async def wait(self, names: Sequence[str], seconds: float = 120) -> None:
        """Until all of these are isolated."""
        async with asyncio.timeout(seconds):
            while not all(name in self.at for name in names):
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def seeing(api: Client, namespace: str, label: str) -> AsyncIterator[Seen]:
    """Watch one namespace while the block runs."""
    seen = Seen(label)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"

    async def follow(path: str, tell: Callable[[Pod], None], version: str) -> None:
        async for line in api.watch(path, version):
            if line["type"] in {"ADDED", "MODIFIED"}:
                tell(line["object"])

    tasks = []
    for path, tell in ((pods, seen.pod), (policies, seen.policy)):
        version = (await api.ask("GET", path))["metadata"]["resourceVersion"]
        tasks.append(asyncio.create_task(follow(path, tell, version)))
    await asyncio.sleep(0.3)
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --------------------------------------------------------------------------- the bare script


async def bare(api: Client, namespace: str, name: str) -> None:
    """The calls of one isolation, without a proof."""
    pods = f"/api/v1/namespaces/{namespace}/pods/{name}"
    network = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    lists = (
        network,
        f"/api/v1/namespaces/{namespace}/services",
        f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
        f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    )
    pod = await api.ask("GET", pods)
    owner = pod["metadata"]["ownerReferences"][0]["name"]
    await asyncio.gather(
        api.ask("GET", f"/apis/apps/v1/namespaces/{namespace}/replicasets/{owner}"),
        *(api.ask("GET", f"{path}?resourceVersion=0") for path in lists),
    )
    value = pod["metadata"]["uid"][:13]
    policy = {
        "metadata": {"name": f"bare-{value}"},
        "spec": {
            "podSelector": {"matchLabels": {BARE: value}},
            "policyTypes": ["Ingress", "Egress"],
        },
    }
    await api.ask("POST", network, policy)
    gone = dict.fromkeys(pod["metadata"]["labels"])
    version = pod["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version, "labels": {**gone, BARE: value}}}
    await api.ask("PATCH", pods, patch)


# --------------------------------------------------------------------------- figures


@dataclass
class _Side:
    """One of the two: its way to isolate, and what it took."""

    namespace: str
    seen: Seen
    begin: Callable[[Sequence[Pod]], Awaitable[None]]
    idle: list[float] = field(default_factory=list)
    storms: list[float] = field(default_factory=list)
    each: list[float] = field(default_factory=list)
    pods: Iterator[Pod] = field(default_factory=lambda: iter(()))

    def take(self, count: int) -> list[Pod]:
        """Pods that nothing was done to yet."""
        return list(itertools.islice(self.pods, count))

    async def one(self) -> None:
        """One pod while all is quiet."""
        [pod] = self.take(1)
        name = pod["metadata"]["name"]
        begun = time.perf_counter()
        await self.begin([pod])
        await self.seen.wait([name])
        self.idle.append((self.seen.at[name] - begun) * 1000)
        await asyncio.sleep(0.15)

    async def storm(self) -> None:
        """Many pods at once: seconds until the last is isolated."""
        pods = self.take(STORM)
        names = [pod["metadata"]["name"] for pod in pods]
        begun = time.perf_counter()
        await self.begin(pods)
        await self.seen.wait(names)
        self.storms.append(max(self.seen.at[name] for name in names) - begun)
        self.each += [(self.seen.at[name] - begun) * 1000 for name in names]
        await asyncio.sleep(3)


def contain(report: Report) -> None:
    """Idle and 200 at once; skipped with the reason where no control plane can be built."""
    try:
        with control_plane() as plane, folder() as place:
            ensure_node(plane)
            with responder(
                config(plane, place), environ={"CLUSTER_TOKEN": plane.admin_token}
            ) as process:
                asyncio.run(_measure(report, plane, process))
    except pytest.skip.Exception as reason:
        report.skip("alert to isolated", str(reason))


def config(plane: ControlPlane, place: Path) -> Path:
    """A server that isolates every pod it hears of."""
    texts = place / "playbooks"
    texts.mkdir()
    (texts / "isolate.yaml").write_text(PLAYBOOK)
    return write_config(place, CONFIG.format(texts=texts, api=plane.api, ca=plane.ca))


async def _measure(report: Report, plane: ControlPlane, process: Process) -> None:
    wanted = IDLE + 3 + STORM * ROUNDS
    mine, theirs = plane.namespace("ours"), plane.namespace("bare")
    async with client(plane) as api, client(plane) as script, contextlib.AsyncExitStack() as stack:
        for name in (mine, theirs):
            stack.callback(plane.drop_namespace, name)
        pods = [await running_pods(api, namespace, wanted) for namespace in (mine, theirs)]
        watches = [
            await stack.enter_async_context(seeing(api, namespace, label))
            for namespace, label in ((mine, LABEL), (theirs, BARE))
        ]

        async def post(items: Sequence[Pod]) -> None:
            bodies = iter([alert(pod) for pod in items])
            url = f"{process.url}/v1/hooks/falco"
            wide = min(len(items), 16)
            answers = await blast(
                url, lambda: next(bodies), token=TOKEN, connections=wide, count=len(items)
            )
            assert answers.codes[202] == len(items), answers.codes

        async def run(items: Sequence[Pod]) -> None:
            names = [pod["metadata"]["name"] for pod in items]
            await gather(16, [bare(script, theirs, name) for name in names])

        ours = _Side(mine, watches[0], post, pods=iter(pods[0]))
        floor = _Side(theirs, watches[1], run, pods=iter(pods[1]))
        await _rounds(ours, floor)
        _tell(report, ours, floor, process)


async def _rounds(ours: _Side, floor: _Side) -> None:
    for side in (floor, ours) * 3:
        await side.one()  # warm: connections, rights
    ours.idle.clear()
    floor.idle.clear()
    for _ in range(IDLE):
        for side in (floor, ours):
            await side.one()
    for _ in range(ROUNDS):
        for side in (floor, ours):
            await side.storm()


def _tell(report: Report, ours: _Side, floor: _Side, process: Process) -> None:
    ratio = median(ours.idle) / median(floor.idle)
    report.line(
        "alert to policy and label, idle p50",
        f"{median(ours.idle):.1f} ms",
        f"{median(floor.idle):.1f} ms",
        f"{ratio:.2f}, <= 1.5",
        ok=ratio <= 1.5,
    )
    report.note("p99", *(f"{percentile(side.idle, 0.99):.1f} ms" for side in (ours, floor)))
    ratio = median(ours.storms) / median(floor.storms)
    report.line(
        f"{STORM} at once, the last (floor: 16 in flight)",
        f"{median(ours.storms):.2f} s",
        f"{median(floor.storms):.2f} s",
        f"{ratio:.2f}, <= 2",
        ok=ratio <= 2,
    )
    report.note("p50 of each", *(f"{median(side.each):.0f} ms" for side in (ours, floor)))
    report.note(
        "our CPU a pod (all runs)", f"{process.cpu / (IDLE + STORM * ROUNDS) * 1000:.1f} ms"
    )


def alert(pod: Pod) -> bytes:
    """What a detector says of this pod."""
    metadata = pod["metadata"]
    return falco(RULE, metadata["namespace"], metadata["name"], priority="Critical").encode()
