"""A thousand pods in ten namespaces at once, beside a bare script that makes the same calls.

The script reads the pod, its owner and what selects it, creates the policy, relabels the pod, and
then proves it as the product does: the pod and the policies by a consistent listing, and the owner
again. It keeps no journal and survives nothing. Both have sixteen pods in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.bench.containing import (
    BARE,
    LABEL,
    Client,
    Pod,
    Seen,
    alert,
    bare,
    client,
    config,
    gather,
    running_pods,
    seeing,
)
from tests.bench.load import blast
from tests.bench.processes import TOKEN, Process, folder, responder
from tests.bench.report import Report
from tests.real.cluster import ControlPlane, control_plane
from tests.real.kubelet import ensure_node

__all__ = ["flood"]

NAMESPACES, MANY, FEW = 10, 100, 20  # pods of a namespace in the flood, and in the burst before it
IN_FLIGHT = 16


@dataclass
class _Side:
    """One of the two: its namespaces, what is seen of them, and its way to isolate."""

    seen: dict[str, Seen]
    begin: Callable[[Sequence[Pod]], Awaitable[None]]
    ended: Callable[[], Awaitable[None]]
    pods: dict[str, list[Pod]] = field(default_factory=dict)

    async def isolate(self, each: int) -> float:
        """Isolate so many pods of every namespace: seconds until all are, and are proven."""
        rows = [[pods.pop() for _ in range(each)] for pods in self.pods.values()]
        pods = [pod for row in zip(*rows, strict=True) for pod in row]
        begun = time.perf_counter()
        await self.begin(pods)
        for pod in pods:
            place = pod["metadata"]
            await self.seen[place["namespace"]].wait([place["name"]], 300)
        await self.ended()
        return time.perf_counter() - begun


def flood(report: Report) -> None:
    """200 and 1,000 at once; skipped with the reason where no control plane can be built."""
    try:
        with control_plane() as plane, folder() as place:
            ensure_node(plane)
            environ = {"CLUSTER_TOKEN": plane.admin_token}
            with responder(config(plane, place), environ=environ) as process:
                asyncio.run(_measure(report, plane, process, place / "responder.db"))
    except pytest.skip.Exception as reason:
        report.skip("1,000 pods at once", str(reason))


async def _measure(report: Report, plane: ControlPlane, process: Process, store: Path) -> None:
    async with client(plane) as api, client(plane) as script, contextlib.AsyncExitStack() as stack:

        async def post(pods: Sequence[Pod]) -> None:
            bodies = iter([alert(pod) for pod in pods])
            url = f"{process.url}/v1/hooks/falco"
            answers = await blast(
                url, lambda: next(bodies), token=TOKEN, connections=IN_FLIGHT, count=len(pods)
            )
            assert answers.codes[202] == len(pods), answers.codes

        async def run(pods: Sequence[Pod]) -> None:
            await gather(IN_FLIGHT, [_whole(script, pod) for pod in pods])

        ours = await _side(stack, plane, api, LABEL, post, lambda: _idle(store))
        floor = await _side(stack, plane, api, BARE, run, _nothing)
        for side in (floor, ours):
            await side.isolate(1)  # warm: connections, rights
        for name, each, bound in (("200", FEW, 1.5), ("1,000", MANY, 1.3)):
            bare_took, took = await floor.isolate(each), await ours.isolate(each)
            ratio = took / bare_took
            report.line(
                f"{name} pods at once, isolated and proven",
                f"{took:.2f} s",
                f"{bare_took:.2f} s",
                f"{ratio:.2f}, <= {bound}",
                ok=ratio <= bound,
            )
        report.note("memory", f"{process.rss:.0f} MiB")


async def _side(
    stack: contextlib.AsyncExitStack,
    plane: ControlPlane,
    api: Client,
    label: str,
    begin: Callable[[Sequence[Pod]], Awaitable[None]],
    ended: Callable[[], Awaitable[None]],
) -> _Side:
    side = _Side({}, begin, ended)
    for _ in range(NAMESPACES):
        name = plane.namespace("flood")
        stack.callback(plane.drop_namespace, name)
        side.pods[name] = await running_pods(api, name, 1 + FEW + MANY, spare=1.15)
        side.seen[name] = await stack.enter_async_context(seeing(api, name, label))
    return side


async def _whole(api: Client, pod: Pod) -> None:
    """One isolation and its proof."""
    metadata = pod["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    await bare(api, namespace, name)
    owner = metadata["ownerReferences"][0]["name"]
    await api.ask("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
    await api.ask("GET", f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
    await api.ask("GET", f"/apis/apps/v1/namespaces/{namespace}/replicasets/{owner}")


async def _nothing() -> None:
    """The script has proven everything when it returns."""


async def _idle(store: Path) -> None:
    """Until every run has ended, as the product's own journal says."""
    async with asyncio.timeout(300):
        while _open_runs(store):
            await asyncio.sleep(0.05)


def _open_runs(store: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM runs WHERE outcome=''").fetchone()[0])
