"""A reverse shell is open while its pod is isolated: what the verdict says is what packets do.

Real: API server, kubelet, containers, packets, the enforcer in its three behaviours. The product
acts as a service account with the generated roles and the generated guard of three actions, and
lives in a namespace of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integrations.kubernetes import setup
from responder.clock import World
from responder.model import Plan, Role, Verdict, VerdictLevel
from responder.ports import Integration, Kit
from responder.wiring import load_settings
from tests.adapters.kubernetes import accounts, stage
from tests.journeys.real import Door, Story, serving
from tests.journeys.shop import falco_event
from tests.real.cluster import Node
from tests.real.pods import is_ready, pod
from tests.real.toolbox import load_toolbox
from tests.real.waiting import eventually, wait_until

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(300)]

ACTIONS = ("quarantine_pod", "cut_flows", "probe_network")
SETTLE = 8  # seconds; this enforcer works at once
CLASSES = {"none": "none", "survive": "survives", "strict": "cuts"}
FORETOLD = {
    "none": "this cluster enforces no NetworkPolicy",
    "survive": "open connections live on with this network plug-in; kubernetes.cut_flows ends them",
    "strict": "open connections are cut by this network plug-in",
}


@dataclass(frozen=True)
class Scene:
    """A pod with a shell to an attacker outside, and the product in front of its cluster."""

    node: Node
    namespace: str
    home: str
    made: Integration
    shelf: stage.Shelf

    @property
    def address(self) -> str:
        """The attacker's end of the connection."""
        return f"{self.node.outside_ip}:7000"

    async def said(self) -> int:
        """How many words have come back from the attacker so far."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/victim/log?container=shell"
        status, text = await self.node.arequest("GET", path)
        assert status == 200, text
        return sum(line.endswith(" ok") for line in text.splitlines())

    async def goes_on(self) -> bool:
        """Whether bytes still come back, given some seconds to show it."""
        before = await self.said()
        try:
            await eventually(lambda: self._more_than(before + 3), "more words", 4)
        except TimeoutError:
            return False
        return True

    async def _more_than(self, count: int) -> bool:
        return await self.said() > count

    async def class_of_network(self) -> str:
        """What `kubernetes.probe_network` finds."""
        request = stage.call("probe_network", key="run_0/probe")
        _, result = await stage.perform(self.made, request)
        return str(result["class"])

    async def isolate(self) -> tuple[Plan, Verdict]:
        """Quarantine the pod and prove it."""
        request = stage.call("quarantine_pod", key="run_1/isolate", pod=self.place)
        plan, result = await stage.perform(self.made, request)
        return plan, await self.prove(plan, result)

    async def prove(self, plan: Plan, result: Any) -> Verdict:
        """The quarantine's verdict, now."""
        request = stage.call("quarantine_pod", key="run_1/isolate", pod=self.place)
        return await stage.action(self.made, "quarantine_pod").verify(request, plan, result)

    async def cut(self) -> tuple[Any, Verdict]:
        """Cut its connections and look what is left."""
        request = stage.call("cut_flows", key="run_1/cut", pod=self.place)
        plan, result = await stage.perform(self.made, request)
        return result, await stage.action(self.made, "cut_flows").verify(request, plan, result)

    @property
    def place(self) -> str:
        """The pod's name for people."""
        return f"{self.namespace}/victim"

    def leftovers(self) -> list[str]:
        """Probe pods and policies that are still there."""
        found = []
        for path in ("api/v1", "apis/networking.k8s.io/v1"):
            plural = "pods" if path == "api/v1" else "networkpolicies"
            query = "labelSelector=responder.dev%2Fprobe"
            items = self.node.must("GET", f"/{path}/namespaces/{self.home}/{plural}?{query}")[
                "items"
            ]
            found += [item["metadata"]["name"] for item in items]
        return found


@pytest.fixture(scope="module")
def toolbox(node: Node) -> str:
    """The image with the probes' tools."""
    return load_toolbox(node)


@pytest.fixture
def listening(node: Node) -> Iterator[None]:
    """The attacker beyond the node's uplink, who echoes what the shell says."""
    with node.running([str(node.probe_program), "serve"], outside=True):
        yield


def victim(node: Node, namespace: str) -> dict[str, Any]:
    """A pod that listens, with a second container in which the shell calls home."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("victim", ["serve"])
    shell = pod("shell", ["hold", f"{node.outside_ip}:7000", "-every", "200ms", "-t", "600s"])
    [container] = shell["spec"]["containers"]
    body["spec"]["containers"].append(container | {"name": "shell"})
    body["spec"]["containers"][0]["ports"] = [{"containerPort": 7000}]
    node.must("POST", path, body)
    wait_until(lambda: is_ready(node, namespace, "victim"), "the victim to be Ready", 40)
    return dict(node.must("GET", f"{path}/victim"))


@asynccontextmanager
async def staged(node: Node, namespace: str, toolbox: str) -> AsyncIterator[Scene]:
    """The victim with its open connection, and the product with its declared rights."""
    victim(node, namespace)
    home = node.namespace("home")
    token = accounts.generated(node, home, [namespace], *ACTIONS)
    shelf = stage.Shelf()
    probe = {"image": toolbox, "settle": SETTLE, "seconds": 20, "cut_flows": True}
    table = {"api": node.api, "ca": str(node.ca), "token": token, "home": home}
    made = setup({"prod": {**table, "probe": probe}}, World(), Kit(evidence=shelf))
    scene = Scene(node, namespace, home, made, shelf)
    try:
        await eventually(lambda: scene._more_than(2), "the shell to be open", 30)
        yield scene
    finally:
        assert made.close
        await made.close()
        accounts.forget(node, home)


@pytest.mark.parametrize("mode", ["none", "survive", "strict"])
async def test_the_verdict_on_an_open_reverse_shell_is_what_packets_do(
    node: Node, node_namespace: str, toolbox: str, listening: None, mode: str
) -> None:
    """Never isolated where nothing enforces; residual while it lives; proven once it is dead."""
    node.policy(mode)
    try:
        async with staged(node, node_namespace, toolbox) as scene:
            kind = await scene.class_of_network()
            plan, first = await scene.isolate()
            lives = await scene.goes_on()
            result, after_cut = await scene.cut()
            lives_after = await scene.goes_on()
            last = await scene.prove(plan, {})
            _print(mode, kind, [first, after_cut, last], lives=lives, after=lives_after)
            assert kind == CLASSES[mode]
            assert any(FORETOLD[mode] in text for text in plan.residual)
            assert scene.leftovers() == []
            {"none": _unenforced, "survive": _survived, "strict": _dead}[mode](
                scene, first, last, after_cut
            )
            assert (lives, lives_after) == (mode != "strict", mode == "none")
            assert scene.shelf.files[_list_of(scene)].count(scene.node.outside_ip.encode()) >= 1
            assert result["evidence"] in {row["sha256"] for row in scene.shelf.rows}
    finally:
        node.policy("none")


PLAYBOOK = """
playbook: isolate-and-cut
description: Take a pod off the network, and end what is open.
on:
  - alert:
      source: [falco]
      rule: [Terminal shell in container]
      when: alert.target.pod != ""
mode: enforce
steps:
  isolate:
    use: kubernetes.quarantine_pod
    with: {pod: "${{ target.pod }}"}
  cut:
    use: kubernetes.cut_flows
    needs: [isolate]
    with: {pod: "${{ target.pod }}"}
"""
CONFIG = """
[server]
listen = "127.0.0.1:0"
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
[clusters.prod]
kubeconfig = "{kubeconfig}"
home = "{home}"
[clusters.prod.probe]
image = "{image}"
seconds = 20
settle = {settle}
cut_flows = true
[hooks.falco]
source = "falco"
cluster = "prod"
auth = {{bearer = {{env = "FALCO_SECRET"}}}}
[guards]
mode = "enforce"
"""


def test_an_alert_ends_the_shell_and_the_incident_says_what_is_true(
    node: Node, node_namespace: str, toolbox: str, listening: None, tmp_path: Path
) -> None:
    """The whole server: the isolation is residual by name, the cut is enforced, its list kept."""
    node.policy("survive")
    found = victim(node, node_namespace)
    home = node.namespace("home")
    try:
        (tmp_path / "playbooks").mkdir()
        (tmp_path / "playbooks/cut.yaml").write_text(PLAYBOOK)
        token = accounts.generated(node, home, [node_namespace], *ACTIONS)
        text = CONFIG.format(
            folder=tmp_path,
            kubeconfig=node.kubeconfig(token),
            home=home,
            image=toolbox,
            settle=SETTLE,
        )
        file = tmp_path / "config.toml"
        file.write_text(text)
        with serving(load_settings(file, environ={"FALCO_SECRET": "secret"})) as server:
            event = falco_event({**found, "status": _one_container(found)})
            status, answer, _ = Door(server.url).ask("POST", "/v1/hooks/falco", event, "secret")
            assert status == 202, answer
            door = server.door("vic", Role.RESPONDER)
            story = Story(door, answer["alerts"][0]["incident"])
            # the last ready replica of something is never taken without a person
            story.approve("isolate", server.door("ann", Role.APPROVER))
            try:
                story.ended(120)
            except TimeoutError:
                pytest.fail(story.told())
            isolated, cut = story.step("isolate"), story.step("cut")
            kept = door.get(f"/v1/incidents/{story.number}/evidence")["items"]
            print(f"\n{story.told()}")
    finally:
        node.policy("none")
        accounts.forget(node, home)
    assert isolated["verdict"] == "residual"
    assert any("open flow" in line and "bytes still move" in line for line in isolated["residual"])
    assert cut["verdict"] == "enforced"
    assert cut["result"]["flows"] >= 1
    assert cut["result"]["evidence"] in {row["sha256"] for row in kept}


def _one_container(found: dict[str, Any]) -> dict[str, Any]:
    """The pod's status with the container that Falco speaks of."""
    status = found["status"]
    return {**status, "containerStatuses": status["containerStatuses"][:1]}


def _list_of(scene: Scene) -> str:
    return next(name for name in scene.shelf.files if name.endswith("/connections.txt"))


def _unenforced(scene: Scene, first: Verdict, last: Verdict, after_cut: Verdict) -> None:
    for verdict in (first, last):
        assert verdict.level is VerdictLevel.RESIDUAL
        assert verdict.residual[0].startswith("not enforced: ")
        assert "the pod is not isolated" in verdict.residual[0]
    assert after_cut.level is VerdictLevel.RESIDUAL
    assert any("it is there again" in text for text in after_cut.residual)


def _survived(scene: Scene, first: Verdict, last: Verdict, after_cut: Verdict) -> None:
    assert first.level is VerdictLevel.RESIDUAL
    [line] = [text for text in first.residual if text.startswith("open flow ")]
    assert scene.address in line
    assert "bytes still move" in line
    assert after_cut.level is VerdictLevel.ENFORCED
    assert last.level is VerdictLevel.PROVEN, last


def _dead(scene: Scene, first: Verdict, last: Verdict, after_cut: Verdict) -> None:
    assert first.level is VerdictLevel.PROVEN, first
    assert last.level is VerdictLevel.PROVEN, last
    assert after_cut.level is VerdictLevel.ENFORCED


def _print(mode: str, kind: str, verdicts: list[Verdict], *, lives: bool, after: bool) -> None:
    """The table of this mode, for whoever reads the run."""
    rows = zip(
        ("isolated", "flows cut", "proved again"), verdicts, (lives, after, after), strict=True
    )
    print(f"\n{mode}: the network plug-in {kind}")
    for name, verdict, alive in rows:
        said = next((t for t in verdict.residual if t.startswith(("not enf", "open flow"))), "")
        shell = "talks" if alive else "silent"
        print(f"  {name:13} {verdict.level.value:9} shell {shell:7} {said}")
