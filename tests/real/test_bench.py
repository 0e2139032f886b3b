"""The real parts answer: few and fast checks of the bench itself, not of the product."""

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest
from aiohttp import web as web_server
from aiohttp.test_utils import TestServer

from tests.real.act import act_command, act_environment
from tests.real.alertmanager import AlertmanagerFactory
from tests.real.cluster import ControlPlane, Node
from tests.real.engine import Engine
from tests.real.kubelet import FakeKubelet
from tests.real.missing import unavailable
from tests.real.pods import deployment, image_ids, is_ready, pod
from tests.real.waiting import wait_until
from tests.real.workshop import Workshop, clear, leftovers


def test_the_control_plane_answers_its_administrator_and_refuses_a_stranger(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The administrator sees the version; a token without rights may not list pods."""
    assert control_plane.must("GET", "/version")["gitVersion"].startswith("v1.")
    nobody = control_plane.token_for(namespace, "nobody")
    pods = f"/api/v1/namespaces/{namespace}/pods"
    assert control_plane.request("GET", pods, token=nobody)[0] == 403
    assert control_plane.request("GET", pods)[0] == 200


async def test_the_control_plane_can_be_asked_without_blocking_the_loop(
    control_plane: ControlPlane,
) -> None:
    """The awaited request gives the same answer as the plain one."""
    path = "/apis/apps/v1"
    assert await control_plane.arequest("GET", path) == control_plane.request("GET", path)


@pytest.mark.parametrize(("mode", "answer"), [("none", "ok"), ("strict", "timeout")])
def test_packets_on_the_node_obey_a_policy_only_when_one_is_enforced(
    node: Node, node_namespace: str, mode: str, answer: str
) -> None:
    """A running pod is reached from outside; a deny-all stops it exactly when one enforces it."""
    pods = f"/api/v1/namespaces/{node_namespace}/pods"
    policies = f"/apis/networking.k8s.io/v1/namespaces/{node_namespace}/networkpolicies"
    node.must("POST", pods, pod("server", ["serve"]))
    wait_until(lambda: is_ready(node, node_namespace, "server"), "the server to be Ready")
    address = f"{node.must('GET', f'{pods}/server')['status']['podIP']}:7000"
    node.policy(mode)
    try:
        wait_until(lambda: dial(node, address) == "ok", "the server's answer")
        deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        node.must("POST", policies, {"metadata": {"name": "deny"}, "spec": deny})
        wait_until(lambda: dial(node, address) == answer, f"the answer {answer!r}")
    finally:
        node.policy("none")


def dial(node: Node, address: str) -> str:
    """Open one new connection from the host beyond the node's uplink and return the outcome."""
    return node.exec(
        [str(node.probe_program), "dial", address, "-t", "500ms"], outside=True
    ).stdout.strip()


def test_a_rollout_ends_under_the_hand_made_kubelet_and_hangs_on_a_sick_image(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Good pods replace each other; with a sick image the old pods stay."""
    apps = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    good, bad = ("shop/web@sha256:" + letter * 64 for letter in "ab")

    def counted() -> tuple[int, int]:
        status = control_plane.must("GET", f"{apps}/web")["status"]
        return status.get("updatedReplicas", 0), status.get("readyReplicas", 0)

    with FakeKubelet(control_plane, namespace, lambda pod: bad in str(pod["spec"])):
        control_plane.must("POST", apps, deployment("web", "shop/web:1"))
        wait_until(lambda: counted() == (2, 2), "the first rollout")
        control_plane.must("PATCH", f"{apps}/web", deployment("web", good))
        wait_until(lambda: image_ids(control_plane, namespace) == {good}, "the second rollout")
        control_plane.must("PATCH", f"{apps}/web", deployment("web", bad))
        wait_until(lambda: image_ids(control_plane, namespace) == {good, bad}, "the third rollout")
        assert counted() == (1, 2)


def test_an_image_that_the_engine_pushes_runs_on_the_node_under_the_same_name(
    engine: Engine, node: Node, node_namespace: str, tmp_path: Path
) -> None:
    """Build, push, pull by digest: the node reports the digest that was pushed."""
    (tmp_path / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tmp_path / "busybox").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/busybox\nENTRYPOINT ["/bin/busybox", "sleep"]\n'
    )
    name = f"{engine.registry}/bench/app:1"
    engine.docker("build", "--network", "none", "-t", name, str(tmp_path))
    engine.docker("push", name)
    digest = engine.docker("inspect", "--format", '{{join .RepoDigests " "}}', name).stdout.strip()
    node.bridge_registry(engine.port)
    node.bridge_registry(engine.port)
    pods = f"/api/v1/namespaces/{node_namespace}/pods"
    node.must("POST", pods, pod("app", ["600"], image=digest, pull="Always"))
    wait_until(lambda: is_ready(node, node_namespace, "app"), "the pulled image to run")
    assert image_ids(node, node_namespace) == {digest}


def test_the_engine_has_a_network_of_its_own(engine: Engine) -> None:
    """The engine's bridge exists in its namespace and not on the host."""
    assert engine.inside(["ip", "link", "show", "docker0"]).returncode == 0
    assert "docker0" not in Path("/proc/net/dev").read_text()


def test_act_runs_a_workflow_and_reports_its_output(act_path: Path, tmp_path: Path) -> None:
    """An input reaches a step, and what the step sets comes back as a JSON line."""
    repository, home = tmp_path / "repository", tmp_path / "home"
    home.mkdir()
    workflow = repository / ".github/workflows/echo.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(WORKFLOW)
    for command in (["init", "-q"], ["add", "."], [*AS_SOMEBODY, "commit", "-qm", "Begin"]):
        subprocess.run(["git", *command], cwd=repository, check=True, capture_output=True)
    done = subprocess.run(
        act_command(act_path, {"word": "hello"}, {}),
        cwd=repository,
        env=act_environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    outputs = [line for line in lines if line.get("command") == "set-output"]
    assert [(line["name"], line["arg"]) for line in outputs] == [("said", "hello")]


AS_SOMEBODY = ["-c", "user.name=bench", "-c", "user.email=bench@example.test"]
WORKFLOW = """
on:
  workflow_dispatch:
    inputs:
      word: {required: true, type: string}
jobs:
  echo:
    runs-on: ubuntu-latest
    steps:
      - id: say
        run: echo "said=${{ inputs.word }}" >> "$GITHUB_OUTPUT"
"""


async def test_alertmanager_calls_the_hook_when_an_alert_fires_and_when_it_is_over(
    alertmanager: AlertmanagerFactory,
) -> None:
    """Both notifications arrive, with the bearer token."""
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def hook(request: web_server.Request) -> web_server.Response:
        body = await request.json()
        await heard.put((body["status"], request.headers["Authorization"]))
        return web_server.Response()

    app = web_server.Application()
    app.router.add_post("/hook", hook)
    async with TestServer(app) as server:
        sender = alertmanager(str(server.make_url("/hook")), token="secret")
        labels = {"alertname": "ShellInContainer", "pod": "web-1"}
        sender.fire(labels, {"summary": "a shell"})
        assert await asyncio.wait_for(heard.get(), 10) == ("firing", "Bearer secret")
        sender.resolve(labels)
        assert await asyncio.wait_for(heard.get(), 10) == ("resolved", "Bearer secret")


def test_what_a_killed_session_left_is_found_and_cleared() -> None:
    """A folder whose owner is gone is swept with the process that ran in it; ours stays."""
    ours, orphan = Workshop("t"), Workshop("t")
    try:
        child = orphan.start("sleeper", ["sleep", "600"])
        (orphan.path / "owner").write_text("1 0\n")
        assert orphan.path in leftovers()
        assert ours.path not in leftovers()
        clear(orphan.path)
        assert child.wait(5) == -signal.SIGKILL
        assert not orphan.path.exists()
    finally:
        ours.close()
        orphan.close()


def test_a_missing_part_skips_on_a_desk_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable CI decides."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such part"):
        unavailable("no such part")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such part"):
        unavailable("no such part")
