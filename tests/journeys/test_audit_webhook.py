"""A real API server tells the hook of its requests, set up as the sender's page says.

What it lets through into a pod is an alert about that pod; what it refuses is shown and no more.
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from responder.model import Role
from responder.web.app import make_app
from responder.web.serving import listening
from responder.wiring import load_settings
from tests.journeys.real import Door, Server, serving
from tests.journeys.test_certificates import authority
from tests.real.cluster import ControlPlane, control_plane
from tests.real.kubelet import FakeKubelet
from tests.real.pods import is_ready, pod
from tests.real.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SECRET = "the-api-server-says-so"
PAGE = Path(__file__).resolve().parents[2] / "docs/senders/kubernetes-audit.md"
CONFIG = """
[server]
listen = "127.0.0.1:0"
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
[clusters.prod]
api = "https://cluster.invalid"
[hooks.audit]
source = "kubernetes-audit"
cluster = "prod"
auth = {{bearer = {{env = "HOOK_SECRET"}}}}
options = {{own = ["system:apiserver"]}} # its first start grants cluster-admin
"""
PLAYBOOK = """
playbook: look
on:
  - alert:
      source: [kubernetes-audit]
      rule: [Command in a pod]
      when: alert.target.pod != ""
mode: observe
steps:
  snapshot:
    use: kubernetes.snapshot
    with: {pod: "${{ target.pod }}"}
"""


def flags(url: str, folder: Path) -> list[str]:
    """The API server's flags with the two files of the sender's page, for this address."""
    policy, target = re.findall(r"```yaml\n(# --audit-.*?)```", PAGE.read_text(), re.DOTALL)
    (folder / "token").write_text(SECRET)
    (folder / "policy.yaml").write_text(policy)
    target = re.sub(r"https://responder\.example/v1/hooks/audit", f"{url}/v1/hooks/audit", target)
    target = re.sub(r"authority: [^}]*", f"authority: {folder / 'ca.pem'}", target)
    target = re.sub(r"tokenFile: [^}]*", f"tokenFile: {folder / 'token'}", target)
    (folder / "target.yaml").write_text(target)
    return [
        f"--audit-policy-file={folder / 'policy.yaml'}",
        f"--audit-webhook-config-file={folder / 'target.yaml'}",
        "--audit-webhook-mode=batch",
        "--audit-webhook-batch-max-wait=1s",  # an alert within a second or so
    ]


@contextlib.contextmanager
def secured(server: Server, folder: Path) -> Iterator[str]:
    """The same server behind TLS: the API server sends its token over nothing else."""
    authority(folder, "ca of the hook", "ca").sign(folder, "localhost", "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    door = listening(make_app(server.app.service), "127.0.0.1", 0, ssl=context)
    url = server.host.call(door.__aenter__())
    try:
        yield f"https://localhost:{urlsplit(url).port}"
    finally:
        server.host.call(door.__aexit__(None, None, None))


@contextlib.contextmanager
def answering_kubelet(cluster: ControlPlane) -> Iterator[None]:
    """A kubelet's door on the hand-made node: it says yes to every stream and hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pki = cluster.state / "pki"
    context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
    yes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    yes += b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"

    def answer(listener: socket.socket) -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:  # the listener was closed: the end
                return
            with contextlib.suppress(OSError), context.wrap_socket(link, server_side=True) as safe:
                safe.recv(65536)
                safe.sendall(yes)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        port = {"kubeletEndpoint": {"Port": listener.getsockname()[1]}}
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": port,
        }
        cluster.must("PATCH", "/api/v1/nodes/bench-node/status", {"status": status})
        yield
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def exec_into(cluster: ControlPlane, path: str, token: str) -> int:
    """Ask for a stream into a pod as `kubectl exec` does; the status of the answer."""
    trust = ssl.create_default_context(cafile=str(cluster.ca))
    link = http.client.HTTPSConnection(urlsplit(cluster.api).netloc, timeout=30, context=trust)
    headers = {
        "Authorization": f"Bearer {token}",
        "Connection": "Upgrade",
        "Upgrade": "SPDY/3.1",
        "X-Stream-Protocol-Version": "v4.channel.k8s.io",
    }
    with contextlib.closing(link):
        link.request("POST", f"{path}/exec?command=id&container=c&stdout=true", headers=headers)
        return link.getresponse().status


Said = dict[tuple[str, str, str], dict[str, Any]]


def by_pod(alerts: list[dict[str, Any]]) -> Said:
    """Alerts by kind, rule and pod."""
    return {(one["kind"], one["rule"], one["target"].get("pod", "")): one for one in alerts}


def stored(server: Server) -> Said:
    """Every alert of the hook that is stored, with an incident or without."""
    rows = server.host.call(server.app.store.alerts(hook="audit", limit=500))
    return by_pod([dict(row["alert"]) for row in rows])


def opened(door: Door) -> tuple[Said, list[tuple[str, str]]]:
    """The alerts that opened or joined an incident, and the runs with the pods they are about."""
    alerts, runs = [], []
    for item in door.get("/v1/incidents?limit=200")["items"]:
        held = door.get(f"/v1/incidents/{item['number']}")
        alerts += [
            one["alert"] for one in door.get(f"/v1/incidents/{item['number']}/alerts")["items"]
        ]
        runs += [(run["playbook"], held["target"]["pod"]) for run in held["runs"]]
    return by_pod(alerts), runs


def test_what_the_api_server_lets_through_is_an_alert_and_what_it_refuses_is_none(
    tmp_path: Path,
) -> None:
    """One exec by the administrator, one by a stranger, one privileged pod; each with its pod."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/look.yaml").write_text(PLAYBOOK)
    (tmp_path / "config.toml").write_text(CONFIG.format(folder=tmp_path))
    settings = load_settings(tmp_path / "config.toml", environ={"HOOK_SECRET": SECRET})
    with (
        serving(settings) as server,
        secured(server, tmp_path) as url,
        control_plane(*flags(url, tmp_path)) as cluster,
    ):
        door = server.door("vic", Role.VIEWER)
        name = cluster.namespace("shop")
        pods = f"/api/v1/namespaces/{name}/pods"
        with FakeKubelet(cluster, name), answering_kubelet(cluster):
            for one in ("open", "closed"):
                cluster.must("POST", pods, pod(one))
                wait_until(lambda one=one: is_ready(cluster, name, one), one)  # type: ignore[misc]
            bad = pod("bad")
            bad["spec"]["containers"][0]["securityContext"] = {"privileged": True}
            cluster.must("POST", pods, bad)
            stranger = cluster.token_for(name, "nobody")
            assert exec_into(cluster, f"{pods}/closed", stranger) == 403
            assert exec_into(cluster, f"{pods}/open", cluster.admin_token) == 101
            let_through = {
                ("detection", "Command in a pod", "open"),
                ("detection", "Privileged pod asked for", "bad"),
            }
            wanted = {*let_through, ("note", "Command in a pod", "closed")}
            wait_until(lambda: wanted <= stored(server).keys(), "the three requests", 60)
        for key in sorted(wanted):
            target = stored(server)[key]["target"]
            print(*key, target)
            assert (target["cluster"], target["namespace"]) == ("prod", name)
        alerts, runs = opened(door)
        assert alerts.keys() == let_through
        assert runs == [("look", "open")]
