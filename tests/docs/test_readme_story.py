"""The README's way to a real cluster, command by command, on a real API server.

Every `responder` and `kubectl` line of the README is run in its order; only paths, addresses and
numbers are put in place of the README's.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs.test_documents import commands
from tests.journeys.shop import falco_event
from tests.real.cluster import ControlPlane, programs
from tests.real.kubelet import FakeKubelet
from tests.real.pods import deployment
from tests.real.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NAMESPACE = "shop"
RULES = (
    "Read sensitive file untrusted",
    "Packet socket created in container",
    "Contact K8S API Server From Container",
)


@dataclass
class Reader:
    """Somebody who follows the README, with a folder instead of /etc."""

    folder: Path
    cluster: ControlPlane
    port: int
    environ: dict[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    incident: int = 0

    def here(self, line: str) -> list[str]:
        """The README's line with this machine's paths and this story's numbers."""
        line = line.replace("/etc/responder", str(self.folder / "etc"))
        line = line.replace("~/.kube/config", str(self.folder / "kubeconfig"))
        for file in ("rbac.yaml", "guard.yaml"):
            line = line.replace(f"deploy/{file}", str(ROOT / "deploy" / file))
        line = re.sub(r"\b42\b", str(self.incident), line)
        words = shlex.split(line.partition(">")[0])
        where = programs() if words[0] == "kubectl" else BIN
        return [str(where / words[0]), *words[1:]]

    def run(self, line: str, code: int = 0) -> str:
        """Run one line as it stands in the README; its standard output."""
        assert line in commands(), f"not in the README: {line}"
        self.ran.append(line)
        asks = ["--yes"] if line.split()[1] in {"approve", "deny", "undo"} else []  # no terminal
        made = subprocess.run(
            [*self.here(line), *asks],
            check=False,
            cwd=self.folder,
            env={**os.environ, **self.environ},
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert made.returncode == code, f"{line}\n{made.stdout}\n{made.stderr}"
        return made.stdout

    @contextmanager
    def serving(self, line: str, **environ: str) -> Iterator[None]:
        """The server of the README's line, until the block ends."""
        self.ran.append(line)
        process = subprocess.Popen(
            self.here(line),
            cwd=self.folder,
            env={**os.environ, **self.environ, **environ},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert "listening" in first, first + process.stderr.read()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)

    def post(self, body: object) -> int:
        """Send an alert as Falcosidekick would; the incident it joined."""
        secret = (self.folder / "etc" / "hook-falco.secret").read_text().strip()
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {secret}"}
        link.request("POST", "/v1/hooks/falco", json.dumps(body), headers)
        answer = link.getresponse()
        read = json.loads(answer.read())
        link.close()
        assert answer.status == 202, read
        return int(read["alerts"][0]["incident"])

    def shown(self, line: str, word: str) -> str:
        """The output of a command once it holds a word."""

        output = ""

        def look() -> str:
            nonlocal output
            output = self.run(line)
            return output if word in output else ""

        try:
            return str(wait_until(look, f"{word} in {line}"))
        except TimeoutError as error:
            raise AssertionError(f"{word} never came in:\n{output}") from error


@pytest.fixture
def reader(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Reader]:
    """A reader, a namespace `shop` with three pods, and what the README makes, cleared after."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    control_plane.must("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    with FakeKubelet(control_plane, NAMESPACE):
        made = deployment("web", "registry.example/shop/web:1", 3)
        control_plane.must("POST", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", made)
        admin = control_plane.kubeconfig().read_text()
        (tmp_path / "admin").write_text(admin)
        environ = {
            "KUBECONFIG": str(tmp_path / "admin"),
            "RESPONDER_SERVER": f"http://127.0.0.1:{port}",
            "RESPONDER_SERVER__LISTEN": f"127.0.0.1:{port}",
        }
        yield Reader(tmp_path, control_plane, port, environ)
    for name in (NAMESPACE, "responder"):
        control_plane.drop_namespace(name)
    for kind in ("clusterroles", "clusterrolebindings"):
        for name in ("responder", "responder-nodes"):
            path = f"/apis/rbac.authorization.k8s.io/v1/{kind}/{name}"
            control_plane.request("DELETE", path)


@pytest.mark.control_plane
@pytest.mark.timeout(240)  # some thirty commands, each a process of its own
def test_the_way_of_the_readme_leads_to_a_contained_pod(reader: Reader) -> None:
    """From the roles to observe, approve, pause and undo; no command of the README is left out."""
    lines = [c for c in commands() if c.startswith(("responder", "kubectl"))]
    install = [c for c in lines if c.startswith("kubectl")]
    for line in install:
        reader.run(line)
    token = reader.cluster.token_for("responder", "responder")
    (reader.folder / "kubeconfig").write_text(reader.cluster.kubeconfig(token).read_text())
    reader.run(_line(lines, "responder init"))
    reader.run(_line(lines, "responder doctor"))
    secret = reader.run(_line(lines, "responder token create"))
    reader.environ["RESPONDER_TOKEN"] = secret.strip()
    with reader.serving(_line(lines, "responder serve")):
        _watch(reader, lines)
        _own_playbook(reader, lines)
    with reader.serving(_line(lines, "responder serve"), RESPONDER_GUARDS__MODE="approve"):
        _act(reader, lines)

    assert set(lines) - set(reader.ran) == set()


def _line(lines: list[str], start: str) -> str:
    return next(line for line in lines if line.startswith(start))


def _event(reader: Reader, index: int) -> dict[str, object]:
    """What Falco says of the pod at this place: a new statement each time."""

    def find() -> dict[str, object] | None:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3Dweb"
        found = [
            item
            for item in reader.cluster.must("GET", path)["items"]
            if item["status"].get("containerStatuses")
        ]
        found.sort(key=lambda item: str(item["metadata"]["name"]))
        return dict(found[index]) if len(found) > 2 else None

    pod = wait_until(find, "three running pods")
    return {**falco_event(pod), "rule": RULES[index]}


def _watch(reader: Reader, lines: list[str]) -> None:
    """Step 4: an incident with a plan, and nothing changed."""
    event = _event(reader, 0)
    (reader.folder / "alert.json").write_text(json.dumps(event))
    reader.incident = reader.post(event)
    reader.shown(_line(lines, "responder incident list"), RULES[0])
    shown = reader.shown(_line(lines, "responder incident show"), "observe: planned")
    assert "isolate pod shop/web" in shown
    explained = reader.run(_line(lines, "responder alert explain"))
    assert "quarantine-pod" in explained
    policies = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
    assert reader.cluster.must("GET", policies)["items"] == []


def _own_playbook(reader: Reader, lines: list[str]) -> None:
    """Step 5: show, lint, test."""
    (reader.folder / "playbooks").mkdir()
    text = reader.run(_line(lines, "responder playbook show"))
    (reader.folder / "playbooks" / "my-quarantine.yaml").write_text(text)
    reader.run(_line(lines, "responder playbook lint"))
    reader.run(_line(lines, "responder playbook test"))


def _act(reader: Reader, lines: list[str]) -> None:
    """Steps 6 and 7: a yes, a no, a pause, an undo."""
    waiting = "waiting-approval"
    show = _line(lines, "responder incident show")
    reader.incident = reader.post(_event(reader, 1))
    reader.shown(show, waiting)
    reader.run(_line(lines, "responder approve"))
    reader.shown(show, "succeeded")
    policies = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
    assert len(reader.cluster.must("GET", policies)["items"]) == 1
    reader.run(_line(lines, "responder pause"))
    reader.run(_line(lines, "responder undo"))
    reader.shown(show, "undone")
    assert reader.cluster.must("GET", policies)["items"] == []
    reader.run(_line(lines, "responder resume"))
    reader.incident = reader.post(_event(reader, 2))
    reader.shown(show, waiting)
    reader.run(_line(lines, "responder deny"))
    reader.shown(show, "denied")
    assert reader.cluster.must("GET", policies)["items"] == []
