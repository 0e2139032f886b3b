"""The actions behind a line to the real API server that loses the answer of chosen writes."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from responder.clock import World
from tests.adapters.kubernetes import accounts, stage
from tests.real.cluster import ControlPlane

pytestmark = pytest.mark.control_plane


class Line:
    """A line to the real API server that does the call and loses the answer of chosen writes."""

    def __init__(self, plane: ControlPlane, *, lose: int, before: bool) -> None:
        self.lose, self.before = lose, before
        self.writes: list[str] = []
        self.reads: list[str] = []
        self._plane = plane
        self._trust = ssl.create_default_context(cafile=str(plane.ca))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward one request."""
        real = request.method != "GET" and "reviews" not in request.path
        real = real and "dryRun" not in request.query  # a rehearsal leaves no trace
        number = len(self.writes)
        lost = real and number == self.lose
        if real:
            self.writes.append(request.method)
        elif request.method == "GET":
            self.reads.append(request.path)
        if not (lost and self.before):
            answer = await self._forward(request)
        if lost:
            assert request.transport
            request.transport.abort()
            return web.Response()
        return answer

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        kept = {k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type")}
        link = aiohttp.TCPConnector(ssl=self._trust, force_close=True)
        async with (
            aiohttp.ClientSession(connector=link) as session,
            session.request(
                request.method,
                f"{self._plane.api}{request.path_qs}",
                data=await request.read(),
                headers=kept,
            ) as answer,
        ):
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                content_type=answer.content_type,
            )


@asynccontextmanager
async def lossy(
    plane: ControlPlane, namespace: str, lose: int, *, before: bool
) -> AsyncIterator[tuple[Any, Line]]:
    """The product behind a line that loses one write's answer (or the write itself)."""
    token = accounts.token(plane, namespace, "quarantine_pod", "redeploy")
    line = Line(plane, lose=lose, before=before)
    async with stage.serving(line.handle) as url:
        made = stage.setup(
            {"prod": {"api": url, "token": token, "home": namespace, "dry_run_plans": False}},
            World(),
            stage.Kit(evidence=stage.Shelf()),
        )
        try:
            yield made, line
        finally:
            assert made.close
            await made.close()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("lose", [0, 1, 2, 3])
async def test_a_lost_answer_changes_nothing_about_the_end(
    control_plane: ControlPlane, namespace: str, lose: int, before: bool
) -> None:
    """Create, label, restore, delete: each lost once, before or after it took effect."""
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    rules = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    origin = stage.read(control_plane, path)[1]
    async with lossy(control_plane, namespace, lose, before=before) as (made, line):
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        doer = stage.action(made, "quarantine_pod")
        verdict = await doer.verify(request, plan, result)
        assert verdict.level.value == "applied"
        assert len(stage.read(control_plane, rules)[1]["items"]) == 1
        await doer.undo(request, plan, result)
    assert len(line.writes) >= 4
    assert stage.plain(stage.read(control_plane, path)[1]) == stage.plain(origin)
    assert stage.read(control_plane, rules)[1]["items"] == []


@pytest.mark.parametrize("before", [True, False])
async def test_a_rollout_whose_answer_is_lost_is_begun_once(
    control_plane: ControlPlane, namespace: str, before: bool
) -> None:
    """The generation moves by exactly one."""
    stage.workload(control_plane, namespace, "Deployment", replicas=0)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/cart"
    first = stage.read(control_plane, path)[1]["metadata"]["generation"]
    async with lossy(control_plane, namespace, 0, before=before) as (made, _):
        request = stage.call(
            "redeploy",
            stage.Target(namespace=namespace),
            workload="Deployment/cart",
            image=stage.NEW,
        )
        await stage.perform(made, request)
    assert stage.read(control_plane, path)[1]["metadata"]["generation"] == first + 1


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("lose", range(6))
async def test_a_lost_answer_changes_nothing_about_the_end_of_an_escalation(
    control_plane: ControlPlane, namespace: str, lose: int, before: bool
) -> None:
    """Create, exclude, label, restore, delete, include: each lost once, before or after."""
    stage.bare(control_plane, namespace)
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}
    stage.policy(control_plane, namespace, "others", spec)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    rules = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    origin = stage.read(control_plane, path)[1]
    async with lossy(control_plane, namespace, lose, before=before) as (made, line):
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="foreign")
        plan = await doer.plan(request)
        result = await stage.finish(doer, request, plan)
        middle = stage.read(control_plane, path)[1]["metadata"]["labels"]
        assert middle == plan.data["labels"]
        await doer.undo(request, plan, result)
        assert len(line.writes) >= 6
    [left] = stage.read(control_plane, rules)[1]["items"]
    assert left["spec"] == spec
    assert stage.plain(stage.read(control_plane, path)[1]) == stage.plain(origin)


async def test_an_isolation_asks_for_no_more_than_it_needs_once_the_cluster_is_known(
    control_plane: ControlPlane, namespace: str
) -> None:
    """What else a cluster has is asked beside the first; every later one reads five things."""
    for name in ("solo", "twin"):
        stage.bare(control_plane, namespace, name)
    async with lossy(control_plane, namespace, -1, before=False) as (made, line):
        for name in ("solo", "twin"):
            line.reads.clear()
            request = stage.call("quarantine_pod", key=f"run_{name}/s", pod=f"{namespace}/{name}")
            await stage.perform(made, request)
    core = f"/api/v1/namespaces/{namespace}"
    assert sorted(line.reads) == sorted(
        [
            f"{core}/pods/twin",
            f"{core}/services",
            f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
        ]
    )
