"""A probe that does not work proves nothing, and leaves nothing; what a network does is remembered.

On a real node. The verdict is *applied* with the reason, never *proven*, and no probe pod stays.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from integrations.kubernetes import INFOS, setup
from integrations.kubernetes.client import Connection
from integrations.kubernetes.enforcement import Enforcement
from integrations.kubernetes.enforcement_class import Class
from integrations.kubernetes.settings import read
from responder.clock import SECOND, SystemClock, World
from responder.errors import StepFailed
from responder.model import Verdict, VerdictLevel
from responder.ports import Integration, Kit
from tests.adapters.kubernetes import accounts, stage
from tests.real.cluster import Node
from tests.real.pods import is_ready, pod
from tests.real.toolbox import load_toolbox
from tests.real.waiting import eventually, wait_until

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(240)]

MARK = "responder.dev%2Fprobe"
ACTIONS = ("quarantine_pod", "cut_flows", "probe_network")


class Tomorrow(SystemClock):
    """A clock that is a day ahead."""

    def now(self) -> int:
        """The same moment tomorrow."""
        return super().now() + 86_400 * SECOND


@pytest.fixture(scope="module")
def toolbox(node: Node) -> str:
    """The image with the probes' tools."""
    return load_toolbox(node)


@pytest.fixture
def victim(node: Node, node_namespace: str) -> str:
    """A pod that listens; its place."""
    path = f"/api/v1/namespaces/{node_namespace}/pods"
    body = pod("victim", ["serve"])
    body["spec"]["containers"][0]["ports"] = [{"containerPort": 7000}]
    node.must("POST", path, body)
    wait_until(lambda: is_ready(node, node_namespace, "victim"), "the victim to be Ready", 40)
    return f"{node_namespace}/victim"


@pytest.fixture
def token(node: Node, node_namespace: str) -> str:
    """The product's account, whose home is the victim's namespace."""
    return accounts.token(node, node_namespace, *ACTIONS)


def table(node: Node, home: str, token: str, **probe: Any) -> dict[str, Any]:
    """The settings of the one cluster."""
    common = {"settle": 6, "seconds": 12, "inside": "off"}
    where = {"api": node.api, "ca": str(node.ca), "token": token, "home": home}
    return {**where, "probe": {**common, **probe}}


@asynccontextmanager
async def product(
    settings: dict[str, Any], world: World | None = None
) -> AsyncIterator[Integration]:
    """The integration for it; closed at the end."""
    made = setup({"prod": settings}, world or World(), Kit(evidence=stage.Shelf()))
    try:
        yield made
    finally:
        assert made.close
        await made.close()


async def isolated(made: Integration, victim: str, key: str = "run_1/isolate") -> Verdict:
    """Quarantine the pod and prove it."""
    request = stage.call("quarantine_pod", key=key, pod=victim)
    plan, result = await stage.perform(made, request)
    return await stage.action(made, "quarantine_pod").verify(request, plan, result)


def probes(node: Node, home: str) -> list[str]:
    """The probe pods that are there."""
    items = node.must("GET", f"/api/v1/namespaces/{home}/pods?labelSelector={MARK}")["items"]
    return [item["metadata"]["name"] for item in items]


def must_prove_nothing(verdict: Verdict, reason: str) -> None:
    """Applied at most, and the reason is said."""
    assert verdict.level is VerdictLevel.APPLIED, verdict
    [line] = [text for text in verdict.residual if text.startswith("no packet proves it")]
    assert reason in line
    assert "no answer" in verdict.checks["packets"]


async def test_a_broken_canary_is_never_contained(
    node: Node, node_namespace: str, victim: str, toolbox: str, token: str
) -> None:
    """The canary is denied to everybody: the isolated pod's silence says nothing."""
    node.policy("strict")
    selector = {"matchLabels": {"responder.dev/probe-role": "canary"}}
    spec = {"podSelector": selector, "policyTypes": ["Ingress"]}
    path = f"/apis/networking.k8s.io/v1/namespaces/{node_namespace}/networkpolicies"
    node.must("POST", path, {"metadata": {"name": "no-canary"}, "spec": spec})
    try:
        settings = table(node, node_namespace, token, image=toolbox)
        async with product(settings) as made:
            verdict = await isolated(made, victim)
        must_prove_nothing(verdict, "did not reach the canary")
        assert probes(node, node_namespace) == []
    finally:
        node.policy("none")


async def test_a_refused_probe_pod_proves_nothing(node: Node, victim: str, toolbox: str) -> None:
    """A quota lets no pod into our home: the API server's reason is in the verdict."""
    home = node.namespace("home")
    place = victim.partition("/")[0]
    token = accounts.generated(node, home, [place], "quarantine_pod", "probe_network")
    path = f"/api/v1/namespaces/{home}/resourcequotas"
    node.must("POST", path, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    quota = f"{path}/none"
    wait_until(lambda: "hard" in node.must("GET", quota)["status"], "the quota to be in force")
    async with product(table(node, home, token, image=toolbox)) as made:
        verdict = await isolated(made, victim)
    must_prove_nothing(verdict, "exceeded quota")
    accounts.forget(node, home)


async def test_without_the_right_to_start_pods_nothing_is_proven(
    node: Node, node_namespace: str, victim: str, toolbox: str
) -> None:
    """An account that may isolate and no more isolates, and says that it could not try."""
    wanted = [info for info in INFOS if info.name == "kubernetes.quarantine_pod"]
    token = stage.account_for(node, node_namespace, wanted)
    async with product(table(node, node_namespace, token, image=toolbox)) as made:
        verdict = await isolated(made, victim)
    must_prove_nothing(verdict, "give our account that right")


async def test_a_missing_image_proves_nothing_and_leaves_nothing(
    node: Node, node_namespace: str, victim: str, token: str
) -> None:
    """The pods cannot start; they are taken away again."""
    settings = table(node, node_namespace, token, image="localhost/nowhere:1")
    async with product(settings) as made:
        verdict = await isolated(made, victim)
    must_prove_nothing(verdict, "its image cannot be had")
    assert probes(node, node_namespace) == []


async def test_without_a_look_from_inside_the_way_out_is_named_as_not_tried(
    node: Node, node_namespace: str, victim: str, toolbox: str, token: str
) -> None:
    """Denied on the way in is enforced, not proven; the pod's object was not touched."""
    node.policy("strict")
    try:
        settings = table(node, node_namespace, token, image=toolbox)
        async with product(settings) as made:
            verdict = await isolated(made, victim)
    finally:
        node.policy("none")
    assert verdict.level is VerdictLevel.ENFORCED, verdict
    assert any("was not tried: switched off" in text for text in verdict.residual)
    found = node.must("GET", f"/api/v1/namespaces/{node_namespace}/pods/victim")
    assert "ephemeralContainers" not in found["spec"]


async def test_a_later_look_tries_nothing_again_and_sees_a_new_policy_at_once(
    node: Node, node_namespace: str, victim: str, toolbox: str, token: str
) -> None:
    """The answer of the first proof counts; what a policy opens is residual without any probe."""
    node.policy("strict")
    pod_path = f"/api/v1/namespaces/{node_namespace}/pods/victim"
    path = f"/apis/networking.k8s.io/v1/namespaces/{node_namespace}/networkpolicies"
    try:
        settings = table(node, node_namespace, token, image=toolbox, inside="ephemeral")
        settings["probe"]["seconds"] = 20
        async with product(settings) as made:
            await stage.perform(made, stage.call("probe_network"))
            request = stage.call("quarantine_pod", key="run_1/isolate", pod=victim)
            plan, result = await stage.perform(made, request)
            doer = stage.action(made, "quarantine_pod")
            first = await doer.verify(request, plan, result)
            assert first.level is VerdictLevel.PROVEN, first
            later = dataclasses.replace(request, recheck=True)
            assert await doer.verify(later, plan, result) == first
            spec = {"podSelector": {}, "ingress": [{}]}
            node.must("POST", path, {"metadata": {"name": "open"}, "spec": spec})
            opened = await doer.verify(later, plan, result)
            assert opened.level is VerdictLevel.RESIDUAL
            assert opened.residual[0] == "NetworkPolicy open still allows ingress"
            node.must("DELETE", f"{path}/open")
            assert await doer.verify(later, plan, result) == first
            added = node.must("GET", pod_path)["spec"]["ephemeralContainers"]
            assert len(added) == 1
            assert await doer.verify(request, plan, result) == first
            assert len(node.must("GET", pod_path)["spec"]["ephemeralContainers"]) == 2
    finally:
        node.policy("none")


CRASHING = """
import asyncio, json, sys
from tests.cluster.test_probes import isolated, product
settings, victim = json.loads(sys.argv[1])
async def main():
    async with product(settings) as made:
        await isolated(made, victim, key=sys.argv[2])
asyncio.run(main())
"""


async def test_a_crash_between_creating_and_deleting_leaves_no_pod(
    node: Node, node_namespace: str, victim: str, toolbox: str, token: str
) -> None:
    """Killed while its pods run: the same step clears them, and another step the old ones."""
    settings = table(node, node_namespace, token, image=toolbox)
    await _crash(node, node_namespace, settings, victim, "run_1/isolate")
    async with product(settings) as made:
        await isolated(made, victim)
    assert probes(node, node_namespace) == []
    await _crash(node, node_namespace, settings, victim, "run_2/isolate")
    async with product(settings, World(clock=Tomorrow())) as made:
        await isolated(made, victim, key="run_3/isolate")
    assert probes(node, node_namespace) == []


async def _crash(node: Node, home: str, settings: dict[str, Any], victim: str, key: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CRASHING, json.dumps([settings, victim]), key],
        stdin=subprocess.DEVNULL,
    )
    try:

        async def there() -> bool:
            assert child.poll() is None, "it ended before it could be killed"
            return len(probes(node, home)) >= 2

        await eventually(there, "probe pods", 30)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    assert probes(node, home) != []


async def test_a_networks_class_is_remembered_and_tried_again_when_something_changed(
    node: Node, node_namespace: str, toolbox: str, token: str
) -> None:
    """A restart reads it; a switch that nobody can see is not; a new DaemonSet makes it tried."""
    settings = read({"prod": table(node, node_namespace, token, image=toolbox)})["prod"]
    link, later = (Connection("prod", settings, World()) for _ in range(2))
    try:
        node.policy("strict")
        assert (await Enforcement(link).refresh()).kind is Class.CUTS
        node.policy("none")
        restarted = Enforcement(later)
        assert restarted.known.kind is Class.UNKNOWN
        assert "open connections are cut" in await restarted.told()
        assert (await restarted.refresh()).kind is Class.CUTS
        _daemon_set(node, node_namespace)
        assert (await restarted.refresh()).kind is Class.NONE
        assert "enforces no NetworkPolicy" in await Enforcement(link).told()
        assert probes(node, node_namespace) == []
    finally:
        node.policy("none")
        await link.close()
        await later.close()


async def test_a_try_that_does_not_work_changes_nothing_that_is_known(
    node: Node, node_namespace: str, toolbox: str, token: str
) -> None:
    """The class stays, and the fault is told beside it."""
    good = table(node, node_namespace, token, image=toolbox)
    bad = table(node, node_namespace, token, image="localhost/nowhere:1")
    links = [Connection("prod", read({"prod": one})["prod"], World()) for one in (good, bad)]
    try:
        assert (await Enforcement(links[0]).refresh()).kind is Class.NONE
        known = await Enforcement(links[1]).refresh(again=True)
        assert known.kind is Class.NONE
        assert "its image cannot be had" in known.text
    finally:
        for link in links:
            await link.close()


async def test_without_the_switch_nothing_is_cut(
    node: Node, node_namespace: str, victim: str, toolbox: str, token: str
) -> None:
    """A probe image alone does not allow a pod with NET_ADMIN; the refusal names the key."""
    settings = table(node, node_namespace, token, image=toolbox)
    async with product(settings) as made:
        with pytest.raises(StepFailed, match="cut_flows = true"):
            await stage.perform(made, stage.call("cut_flows", pod=victim))
    assert probes(node, node_namespace) == []


def _daemon_set(node: Node, namespace: str) -> None:
    """A DaemonSet that runs nowhere; that it is there is enough."""
    template = pod("plugin")
    template["metadata"] = {"labels": {"app": "plugin"}}
    template["spec"] |= {"nodeSelector": {"nowhere": "true"}}
    spec = {"selector": {"matchLabels": {"app": "plugin"}}, "template": template}
    path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets"
    node.must("POST", path, {"metadata": {"name": "plugin"}, "spec": spec})
