"""Looking around in a cluster: asked seldom, never in the way, and honest about what it missed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from integrations.kubernetes import landscape
from integrations.kubernetes.landscape import Landscape, Scout
from responder.playbook.loading import load_text
from responder.ports import needed
from responder.wiring.known import catalogue
from responder.wiring.rbac import manifests, uses
from tests.adapters.kubernetes.stage import serving
from tests.adapters.kubernetes.test_client import client
from tests.core.engine.bench import HandClock

CRDS = {
    "/apis": {
        "groups": [
            {"versions": [{"groupVersion": "apps/v1"}]},
            {"versions": [{"groupVersion": "policy.networking.k8s.io/v1alpha2"}]},
            {"versions": [{"groupVersion": "cilium.io/v2"}, {"groupVersion": "cilium.io/v3"}]},
        ]
    },
    "/apis/policy.networking.k8s.io/v1alpha2": {"resources": [{"name": "clusternetworkpolicies"}]},
    "/apis/cilium.io/v2": {"resources": [{"name": "ciliumnodes"}]},
}
HOOKS = "/apis/admissionregistration.k8s.io/v1/"


class Server:
    """An API server that answers discovery and counts what it is asked."""

    def __init__(self, answers: dict[str, Any], hooks: int = 200) -> None:
        self.answers, self.hooks = answers, hooks
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The answer to one question, once the gate is open."""
        self.asked.append(request.path)
        await self.gate.wait()
        if request.path.startswith(HOOKS):
            return web.json_response({"items": []}, status=self.hooks)
        found = self.answers.get(request.path)
        return web.json_response(found or {}, status=200 if found is not None else 404)


async def test_only_what_is_served_and_could_matter_is_found() -> None:
    """The group alone is not enough: another kind of it may be all there is."""
    server = Server(CRDS)
    async with serving(server.answer) as url, client(url) as api:
        found = await Scout(HandClock()).look(api)
    assert found.served == {"ClusterNetworkPolicy"}
    assert found.unread == ""
    assert set(found.hooks or {}) == set(landscape.HOOKS)


async def test_a_server_without_the_list_has_no_further_kinds() -> None:
    """As a rehearsal's: nothing is doubted then."""
    server = Server({})
    async with serving(server.answer) as url, client(url) as api:
        found = await Scout(HandClock()).look(api)
    assert found == Landscape(frozenset(), dict.fromkeys(landscape.HOOKS, ()))


async def test_it_asks_once_in_a_while_however_many_come() -> None:
    """A storm of isolations asks no more than one; who comes later hears the last answer."""
    server = Server(CRDS)
    server.gate.clear()
    clock = HandClock()
    async with serving(server.answer) as url, client(url) as api:
        scout = Scout(clock)
        crowd = [asyncio.create_task(scout.look(api)) for _ in range(20)]
        while not server.asked:
            await asyncio.sleep(0)
        server.gate.set()
        assert len({found.served for found in await asyncio.gather(*crowd)}) == 1
        first = len(server.asked)
        await scout.look(api)
        assert len(server.asked) == first
        clock.jump(301)
        await scout.look(api)
    assert server.asked.count("/apis") == 2


async def test_a_denied_listing_is_no_failure_and_not_repeated_for_an_hour() -> None:
    """The account need not have that right, and every attempt is a line in an audit log."""
    server = Server(CRDS, hooks=403)
    clock = HandClock()
    async with serving(server.answer) as url, client(url) as api:
        scout = Scout(clock)
        found = await scout.look(api)
        before = sum(path.startswith(HOOKS) for path in server.asked)
        clock.jump(301)
        await scout.look(api)
        again = sum(path.startswith(HOOKS) for path in server.asked)
        clock.jump(3601)
        await scout.look(api)
    assert found.hooks is None
    assert found.served == {"ClusterNetworkPolicy"}
    assert before == again
    assert sum(path.startswith(HOOKS) for path in server.asked) == 2 * before


async def test_what_could_not_be_read_is_said_and_tried_again_for_a_proof() -> None:
    """A server in trouble holds up nothing; a proof does not trust the memory of a failure."""
    server = Server({})

    async def broken(request: web.Request) -> web.StreamResponse:
        if request.path == "/apis" and len(server.asked) < 8:
            server.asked.append(request.path)
            return web.json_response({"message": "down"}, status=500)
        return await server.answer(request)

    async with serving(broken) as url, client(url) as api:
        scout = Scout(HandClock())
        found = await scout.look(api)
        assert "is not known: cluster prod: GET /apis: HTTP 500" in found.unread
        assert (await scout.look(api)) is found
        asked = len(server.asked)
        await scout.look(api, again=True)
    assert len(server.asked) > asked


async def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An isolation goes on without the answer, and says that it has none."""
    monkeypatch.setattr(landscape, "_LIMIT", 0.05)
    server = Server(CRDS)
    server.gate.clear()
    async with serving(server.answer) as url, client(url) as api:
        found = await Scout(HandClock()).look(api)
        server.gate.set()
    assert "no answer within" in found.unread


WORDS = [
    (set(), False, False),
    ({"kubernetes.quarantine_pod"}, False, False),
    ({"kubernetes.quarantine_pod", "kubernetes.quarantine_pod escalate=none"}, False, False),
    ({"kubernetes.quarantine_pod", "kubernetes.quarantine_pod escalate=admin"}, True, False),
    ({"kubernetes.quarantine_pod", "kubernetes.quarantine_pod escalate=native"}, True, False),
    ({"kubernetes.quarantine_pod", "kubernetes.quarantine_pod escalate=foreign"}, True, True),
    ({"kubernetes.quarantine_pod", "kubernetes.quarantine_pod escalate=*"}, True, True),
    ({"kubernetes.quarantine_pod", "kubernetes.quarantine_pod expires=*"}, False, False),
]


@pytest.mark.parametrize(("used", "admin", "foreign"), WORDS)
def test_rights_beyond_networkpolicy_are_asked_for_only_where_a_playbook_may_use_them(
    used: set[str], admin: bool, foreign: bool
) -> None:
    """The ordinary installation needs none of them; its roles have none of them."""
    for name in ("kubernetes.quarantine_pod", "kubernetes.release_pod"):
        info = catalogue()[name]
        given = needed(info.permissions, used)
        writes = {
            (right.resource, verb) for right in given for verb in right.verbs if not right.optional
        }
        assert (("clusternetworkpolicies", "delete") in writes) is admin
        assert (("networkpolicies", "patch") in writes) is foreign
    roles = manifests([info], account_namespace="r", namespaces=["shop"], used=used)
    granted = {
        (resource, verb)
        for role in roles
        for rule in role.get("rules", [])
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert (("clusternetworkpolicies", "delete") in granted) is admin


PLAYBOOK = """
playbook: p
description: Isolate.
on:
  - manual:
      inputs:
        pod: {type: kubernetes.pod, required: true, summary: The pod}
        far: {type: string, required: true, summary: How far}
mode: approve
steps:
  plain:
    use: kubernetes.quarantine_pod
    with: {pod: "${{ inputs.pod }}", escalate: admin, suspend_cronjob: true}
  open:
    use: kubernetes.quarantine_pod
    with: {pod: "${{ inputs.pod }}", escalate: "${{ inputs.far }}"}
"""


def test_a_playbook_says_which_values_it_gives() -> None:
    """As written, or as open where only the run knows it."""
    found = uses(load_text(PLAYBOOK, "p.yaml", catalogue()))
    use = "kubernetes.quarantine_pod"
    assert found == {
        use,
        f"{use} pod=*",
        f"{use} escalate=admin",
        f"{use} escalate=*",
        f"{use} suspend_cronjob=true",
    }
