"""Objects that move between look and patch: controllers write their status whenever they like.

A version that moved, with nothing changed that the action cares for, must never end a step.
"""

from __future__ import annotations

import json
import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from integrations.kubernetes import INFOS, setup
from responder.clock import World
from responder.model import VerdictLevel
from responder.ports import ActionInfo, Kit
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.asking import asked, setting, short
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet

pytestmark = pytest.mark.control_plane

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
# their containers must run; they create a pod of their own and patch nothing that is there
ON_A_NODE = frozenset({"kubernetes.cut_flows", "kubernetes.probe_network"})
# each ends with these patches that name the version they were meant for
GUARDED = {
    "quarantine_pod": 1,
    "release_pod": 1,
    "redeploy": 1,
    "scale_workload": 1,
    "suspend_job": 1,
    "cordon_node": 1,
    "label": 1,
    "annotate": 1,
}


class Restless:
    """A line to the real API server; what is to be patched at a version moves first, once."""

    def __init__(self, plane: ControlPlane) -> None:
        self.moved: list[str] = []
        self._plane = plane
        self._trust = ssl.create_default_context(cafile=str(plane.ca))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Move the object when it is to be patched for real, then forward the request."""
        body = await request.read()
        if request.method == "PATCH" and "dryRun" not in request.query:
            version = (json.loads(body).get("metadata") or {}).get("resourceVersion")
            if version and request.path not in self.moved:
                self.moved.append(request.path)
                news = {"metadata": {"annotations": {"team.example/seen": version}}}
                self._plane.must("PATCH", request.path, news)
        return await self._forward(request, body)

    async def _forward(self, request: web.Request, body: bytes) -> web.StreamResponse:
        kept = {k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type")}
        link = aiohttp.TCPConnector(ssl=self._trust, force_close=True)
        url = f"{self._plane.api}{request.path_qs}"
        async with (
            aiohttp.ClientSession(connector=link) as session,
            session.request(request.method, url, data=body, headers=kept) as answer,
        ):
            said = web.Response(status=answer.status, body=await answer.read())
            said.content_type = answer.content_type
            for warning in answer.headers.getall("Warning", ()):
                said.headers.add("Warning", warning)
            return said


async def _play(
    plane: ControlPlane, namespace: str, info: ActionInfo, moves: Restless
) -> VerdictLevel:
    """One action on the moving line, with its declared rights and under the guard."""
    token = stage.account_for(plane, namespace, [info])
    async with stage.serving(moves.handle) as url:
        table: dict[str, Any] = {"api": url, "token": token, "home": namespace}
        made = setup({"prod": table}, World(), Kit(evidence=stage.Shelf()))
        assert made.close
        try:
            request = asked(info, namespace)
            plan, result = await stage.perform(made, request)
            doer = stage.action(made, short(info))
            return (await doer.verify(request, plan, result)).level
        finally:
            await made.close()


@pytest.mark.parametrize(
    "info", [it for it in INFOS if it.name not in ON_A_NODE], ids=lambda info: info.name
)
async def test_what_only_moved_never_ends_a_step(
    control_plane: ControlPlane, namespace: str, info: ActionInfo
) -> None:
    """Every action; those that patch at a version are moved under, and are whole in the end."""
    await setting(control_plane, info, namespace)
    moves = Restless(control_plane)
    with FakeKubelet(control_plane, namespace) as kubelet:
        kubelet.paused = short(info) == "snapshot"  # without a node there is no log to read
        level = await _play(control_plane, namespace, info, moves)
    assert level is not VerdictLevel.RESIDUAL
    assert len(moves.moved) >= GUARDED.get(short(info), 0)


@pytest.mark.parametrize("what", ["policies", "policybindings"])
async def test_a_policy_that_only_moved_is_set_right(
    control_plane: ControlPlane, namespace: str, what: str
) -> None:
    """The API server notes what it thinks of a policy after each change: the version moves."""
    info = next(it for it in INFOS if it.name == "kubernetes.block_image")
    await _play(control_plane, namespace, info, Restless(control_plane))
    path = f"{ADMISSION}/validatingadmission{what}/{namespace}-blocked-images"
    spoilt = {
        "policies": {"matchConditions": None},
        "policybindings": {"validationActions": ["Audit"]},
    }
    control_plane.must("PATCH", path, {"spec": spoilt[what]})
    moves = Restless(control_plane)
    assert await _play(control_plane, namespace, info, moves) is VerdictLevel.ENFORCED
    assert path in moves.moved
