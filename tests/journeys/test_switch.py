"""The stop button in a real cluster: a ConfigMap's key, read by an account without other rights."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from responder.model import Role
from responder.ports import Permission
from responder.wiring import load_settings
from tests.journeys.real import Door, Server, Story, grant, serving
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.pods import deployment
from tests.real.waiting import wait_until

SECRET = "alertmanager-says-so"
LABEL = "responder.dev/quarantine"
READS_THE_SWITCH = Permission(resource="configmaps", verbs=("get",), why="read the pause switch")
CONFIG = """
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{playbook}"]
[clusters.prod]
kubeconfig = "{kubeconfig}"
pause = "{namespace}/stop"
[hooks.alerts]
source = "alertmanager"
cluster = "prod"
auth = {{bearer = {{env = "SECRET"}}}}
[guards]
mode = "enforce"
"""


@pytest.fixture
def victim(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """The path of a pod of a Deployment that runs as far as a control plane can tell."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    apps = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    with FakeKubelet(control_plane, namespace):
        control_plane.must("POST", apps, deployment("web", "shop/web:1"))
        wait_until(
            lambda: control_plane.must("GET", f"{apps}/web")["status"].get("readyReplicas") == 2,
            "two ready pods",
        )
        name = control_plane.must("GET", pods)["items"][0]["metadata"]["name"]
        yield f"{pods}/{name}"


@contextmanager
def product(
    plane: ControlPlane, namespace: str, folder: Path, *more: Permission
) -> Iterator[Server]:
    """The server as an account with the rights that the actions declare, and `more`."""
    token = plane.token_for(namespace, "responder")
    file = folder / "config.toml"
    text = CONFIG.format(
        folder=folder,
        playbook=Path(__file__).parent / "playbooks/isolate-on-alert.yaml",
        kubeconfig=plane.kubeconfig(token),
        namespace=namespace,
    )
    file.write_text(text)
    with serving(load_settings(file, environ={"SECRET": SECRET})) as server:
        grant(plane, (namespace, "responder"), namespace, server.app, *more)
        yield server


def alarm(server: Server, pod: str) -> Story:
    """Say that there is a shell in a pod; the incident's story."""
    namespace, name = pod.split("/")[4], pod.split("/")[6]
    labels = {"alertname": "ShellInContainer", "severity": "critical"}
    alert = {"status": "firing", "labels": {**labels, "namespace": namespace, "pod": name}}
    door = Door(server.url, SECRET)
    [stored] = door.post("/v1/hooks/alerts", [alert])["alerts"]
    return Story(server.door("vic", Role.VIEWER), stored["incident"])


def test_the_switch_holds_a_change_on_a_real_cluster_until_it_is_off(
    control_plane: ControlPlane, namespace: str, victim: str, tmp_path: Path
) -> None:
    """Thrown with kubectl's means alone: heard within two seconds, nothing changed until off."""
    switches = f"/api/v1/namespaces/{namespace}/configmaps"
    with product(control_plane, namespace, tmp_path, READS_THE_SWITCH) as server:
        door = server.door("vic", Role.VIEWER)
        wait_until(lambda: not door.get("/v1/status")["paused"], "the rights to be there")
        body = {"metadata": {"name": "stop"}, "data": {"pause": "drill until noon"}}
        control_plane.must("POST", switches, body)
        thrown = time.monotonic()
        reason = wait_until(lambda: door.get("/v1/status")["paused"], "the pause")
        heard = time.monotonic() - thrown
        print(f"\nheard after {heard:.2f} s: {reason}")
        assert reason.endswith("says pause: drill until noon")
        assert heard < 2  # 0.8 s at most by design; the rest is for a busy machine
        before = control_plane.must("GET", victim)["metadata"]
        story = alarm(server, victim)
        wait_until(lambda: story.run()["status"] == "paused", "the run to be held")
        assert story.step("isolate")["plan_hash"]
        assert control_plane.must("GET", victim)["metadata"]["labels"] == before["labels"]
        control_plane.must("PATCH", f"{switches}/stop", {"data": {"pause": None}})
        story.ended()
        assert LABEL in control_plane.must("GET", victim)["metadata"]["labels"]


def test_a_switch_that_may_not_be_read_counts_as_thrown_and_says_which_right_is_missing(
    control_plane: ControlPlane, namespace: str, victim: str, tmp_path: Path
) -> None:
    """Whoever configures a stop button wants it to work: without the right nothing is changed."""
    with product(control_plane, namespace, tmp_path) as server:
        door = server.door("vic", Role.VIEWER)
        story = alarm(server, victim)
        wait_until(lambda: story.run()["status"] == "paused", "the run to be held")
        reason = door.get("/v1/status")["paused"]
        assert reason.startswith("the pause switch cannot be read")
        assert 'cannot get resource "configmaps"' in reason
        assert LABEL not in control_plane.must("GET", victim)["metadata"]["labels"]
