"""The watch: what it tells of, that it goes on where it was, and what it does when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from integrations.kubernetes.client import Connection
from integrations.kubernetes.settings import read
from integrations.kubernetes.watching import ClusterWatch
from responder.clock import World
from responder.model import Effect
from responder.ports import ActionInfo
from responder.sandbox.world import SandboxWorld
from tests.adapters.kubernetes import accounts, stage
from tests.adapters.kubernetes.stage import serving
from tests.real.cluster import ControlPlane
from tests.real.waiting import eventually

LABEL = "responder.dev/quarantine"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies"
DENY = {"podSelector": {}, "policyTypes": ["Ingress"]}
Ask = Callable[[str, str, Any], Awaitable[Any]]


@dataclass
class Ear:
    """What a watch has told."""

    said: list[str] = field(default_factory=list)

    async def hear(self, place: str) -> None:
        self.said.append(place)

    async def until(self, place: str) -> None:
        """Wait until this was told, and forget everything."""

        async def heard() -> bool:
            return place in self.said

        await eventually(heard, f"{place} in {self.said}")
        self.said.clear()


@asynccontextmanager
async def watching(url: str, **settings: Any) -> AsyncIterator[tuple[Ear, ClusterWatch]]:
    """A watch at work on this API server."""
    table = read({"prod": {"api": url, **settings}})["prod"]
    link = Connection("prod", table, World())
    ear, watch = Ear(), ClusterWatch(link)
    work = asyncio.create_task(watch(ear.hear))
    try:
        yield ear, watch
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await link.close()


# --------------------------------------------------------------------------- both worlds


async def _tells(ear: Ear, namespace: str, ask: Ask, pod: str) -> None:
    """Policies, the pod's label and its loss, and the namespace itself are all told of."""
    policies = POLICIES.format(namespace)
    body: dict[str, Any] = {"metadata": {"name": "deny"}, "spec": DENY}
    place = f"cluster:prod/{namespace}"
    itself = f"{place}/{pod.rpartition('/')[2]}"

    async def noticed() -> bool:  # the watches begin by and by: what comes before is not told
        await ask("PATCH", f"{policies}/deny", {"metadata": {"annotations": {"n": next(count)}}})
        await ask("PATCH", pod, {"metadata": {"labels": {LABEL: next(count)}}})
        await ask("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {"n": "1"}}})
        await asyncio.sleep(0.05)
        return ear.said.count(place) >= 2 and {"cluster:prod", itself} <= {*ear.said}

    count = map(str, range(1000))
    await ask("POST", policies, body)
    await eventually(noticed, "everything to be watched")
    await asyncio.sleep(0.2)
    ear.said.clear()

    await ask("PATCH", f"{policies}/deny", {"spec": {"ingress": [{}]}})
    await ear.until(place)
    await ask("PATCH", pod, {"metadata": {"labels": {LABEL: None}}})
    await ear.until(itself)
    await ask("DELETE", f"{policies}/deny", None)
    await ear.until(place)
    await ask("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": {"n": "2"}}})
    await ear.until("cluster:prod")  # policies of other namespaces may mean its labels
    await ask("PATCH", pod, {"metadata": {"labels": {"other": "label"}}})
    await asyncio.sleep(0.2)
    assert {place, itself}.isdisjoint(
        ear.said
    )  # a pod without our label is let in by policies alone


@pytest.mark.control_plane
async def test_a_real_api_server_tells_of_all_that_may_matter(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Heard from the real stream."""
    stage.bare(control_plane, namespace)

    async def ask(method: str, path: str, body: Any) -> Any:
        status, answer = await control_plane.arequest(method, path, body)
        assert status < 300, answer
        return answer

    token = accounts.token(control_plane, namespace, "quarantine_pod")
    settings = {"token": token, "ca": str(control_plane.ca), "namespaces": [namespace]}
    async with watching(control_plane.api, **settings) as (ear, watch):
        await _tells(ear, namespace, ask, f"/api/v1/namespaces/{namespace}/pods/solo")
        assert await watch.told() == "ok"


async def test_the_sandbox_tells_of_all_that_may_matter() -> None:
    """The rehearsal world answers the same watches."""
    async with SandboxWorld(pods=3) as world, aiohttp.ClientSession() as session:
        url = json.loads(world.addresses())["cluster"]

        async def ask(method: str, path: str, body: Any) -> Any:
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": kind}
            async with session.request(method, url + path, data=data, headers=headers) as answer:
                assert answer.status < 300, await answer.text()
                return await answer.json()

        pods = await ask("GET", "/api/v1/pods", None)
        metadata = pods["items"][0]["metadata"]
        pod = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        async with watching(url) as (ear, _):
            await _tells(ear, metadata["namespace"], ask, pod)


@pytest.mark.control_plane
async def test_without_the_right_doctor_says_what_is_lost_and_which_rule_gives_it(
    control_plane: ControlPlane, namespace: str
) -> None:
    """An account that may do nothing is told so; the watch goes on asking and harms nobody."""
    info = ActionInfo(name="nothing", summary="", effect=Effect.READ)
    token = stage.account_for(control_plane, namespace, [info])
    settings = {"token": token, "ca": str(control_plane.ca), "namespaces": [namespace]}
    async with watching(control_plane.api, **settings) as (ear, watch):
        said = await watch.told()
        assert "by time only, not at once" in said
        assert "watch networkpolicies" in said
        assert "watch namespaces (add to its ClusterRole" in said
        assert ear.said == []


# --------------------------------------------------------------------------- a server of our own


@dataclass
class Script:
    """An API server of which only NetworkPolicies can be watched, by a script."""

    watches: list[list[Any]]  # one list of events for each request; a number is a status
    asked: list[str] = field(default_factory=list)  # the versions that were asked for
    lists: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What the script says to this request."""
        if "networkpolicies" not in request.path or "policy.networking" in request.path:
            return web.json_response({"kind": "Status"}, status=404)
        if "watch" not in request.query:
            self.lists += 1
            assert request.query["limit"] == "1"
            return web.json_response({"metadata": {"resourceVersion": str(100 * self.lists)}})
        self.asked.append(request.query["resourceVersion"])
        if not self.watches:
            await asyncio.sleep(60)
        events = self.watches.pop(0)
        if isinstance(events[0], int):
            return web.json_response({"kind": "Status"}, status=events[0])
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        for one in events:
            await stream.write(json.dumps(one).encode() + b"\n")
        return stream


def event(kind: str, version: int, namespace: str = "shop") -> dict[str, Any]:
    """One line of a watch."""
    metadata = {"name": "x", "namespace": namespace, "resourceVersion": str(version)}
    return {"type": kind, "object": {"metadata": metadata}}


EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}


@pytest.mark.parametrize(
    ("watches", "asked", "said"),
    [
        ([[event("ADDED", 101)]], ["100", "101"], ["cluster:prod/shop"]),
        ([[event("BOOKMARK", 170)]], ["100", "170"], []),
        ([[event("ADDED", 101), EXPIRED]], ["100", "200"], ["cluster:prod/shop", "cluster:prod"]),
        ([[410]], ["100", "200"], ["cluster:prod"]),
        ([[500], [event("DELETED", 120)]], ["100", "100", "120"], ["cluster:prod/shop"]),
        ([[event("ADDED", 101), EXPIRED], [EXPIRED]], ["100", "200", "300"], ["cluster:prod/shop"]),
    ],
    ids=["goes on", "bookmark", "expired in the stream", "expired", "server error", "twice"],
)
async def test_a_watch_goes_on_where_it_was_and_after_410_everything_is_looked_at(
    watches: list[list[Any]], asked: list[str], said: list[str]
) -> None:
    """The version of the last event or bookmark is asked for; only a gap costs a look at all."""
    script = Script([list(one) for one in watches])
    async with serving(script.answer) as url, watching(url) as (ear, _):

        async def done() -> bool:
            return len(script.asked) >= len(asked)

        await eventually(done, f"{asked}, got {script.asked}")

        assert script.asked == asked
        assert list(dict.fromkeys(ear.said))[: len(said)] == said
