"""A vulnerable image is rebuilt, gated by its scan, and rolled out everywhere, or not at all.

A real API server and the product's own server; forge and registry are doubles whose requests and
answers are checked. The alert is the scanner's own report, sent to its door.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from responder.model import Role
from responder.playbook.shipped import shipped_texts
from responder.wiring import load_settings
from tests.adapters.kubernetes import stage
from tests.adapters.scans.reports import FORMS, Seen, Weak
from tests.doubles import github
from tests.doubles.executors import build_json, zipped
from tests.doubles.registry import RegistryDouble, running_registry
from tests.doubles.shapes import DoubleRun
from tests.journeys.real import Hosted, Server, Story, grant, hosted, serving
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import wait_until

pytestmark = pytest.mark.control_plane

SECRET = "trivy-says-so"
CVE = Weak(id="CVE-2026-1000", severity="critical")
KEPT = Weak(id="CVE-2026-2000", package="zlib1g", fixed="", severity="low")
NAMES = ("app-0", "app-1", "app-2", "app-3")
SOURCE = "https://github.com/acme/shop"
CONFIG = """
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
[clusters.prod]
kubeconfig = "{kubeconfig}"
namespaces = ["{namespace}"]
[registries."{registry}"]
insecure = true
[forges.github]
base_url = "{forge}"
token = {{env = "FORGE_TOKEN"}}
poll = 0.5
settle = 1
reports = "reports"
[[images]]
match = "{registry}/shop/*"
forge = "github"
repo = "acme/shop"
workflow = "rebuild.yml"
[hooks.trivy]
source = "trivy"
auth = {{bearer = {{env = "TRIVY_SECRET"}}}}
[guards]
mode = "enforce"
"""


@dataclass
class Builder:
    """Builds by pushing another manifest, and leaves the reports of both images."""

    registry: RegistryDouble
    old: str = ""
    stays: tuple[Weak, ...] = ()  # what the new image still has
    new: str = ""

    async def execute(self, run: DoubleRun) -> None:
        """Push, scan, and end well."""
        self.new = self.registry.put_image("patched", {"run": str(run.id)})
        run.archive = zipped({"build.json": build_json(run, digest=self.new)})
        scans = {
            "scan-old.json": self.scan(self.old, CVE, KEPT),
            "scan-new.json": self.scan(self.new, *self.stays, KEPT),
        }
        run.reports = zipped({name: json.dumps(value).encode() for name, value in scans.items()})
        run.script = [("completed", "success")]

    def scan(self, digest: str, *weak: Weak) -> dict[str, Any]:
        """What Trivy reports on an image in this registry."""
        found: dict[str, Any] = FORMS["trivy"](Seen(digest=digest, weak=weak))
        found["Metadata"]["RepoDigests"] = [f"{self.registry.host}/shop/cart@{digest}"]
        return found


@dataclass(frozen=True)
class Outside:
    """Forge and registry as they run for the length of a test."""

    forge: github.GitHubDouble
    builder: Builder

    @property
    def image(self) -> str:
        """The image without tag and digest."""
        return f"{self.builder.registry.host}/shop/cart"


@contextlib.asynccontextmanager
async def outside() -> AsyncIterator[Outside]:
    """Serve a registry that holds the old image, and a forge that builds into it."""
    async with running_registry(referring={}) as registry:
        builder = Builder(registry)
        labels = {"org.opencontainers.image.source": SOURCE}
        builder.old = registry.put_image("1.4", labels)
        async with github.running(executor=builder) as forge:
            yield Outside(forge, builder)
            assert forge.wrong_requests == []
            assert forge.wrong_answers == []


@dataclass(frozen=True)
class Place:
    """Where the image runs, and what happens outside."""

    plane: ControlPlane
    namespace: str
    host: Hosted[Outside]
    folder: Path

    @property
    def world(self) -> Outside:
        """Forge and registry."""
        return self.host.value

    def path(self, name: str = "") -> str:
        """Where the Deployments live."""
        base = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        return f"{base}/{name}" if name else base

    def images(self) -> set[str]:
        """Every image in a template."""
        found = self.plane.must("GET", self.path())["items"]
        return {str(one["spec"]["template"]["spec"]["containers"][0]["image"]) for one in found}

    def deploy(self) -> None:
        """Roll the old image out under every name."""
        image = f"{self.world.image}@{self.world.builder.old}"
        for name in NAMES:
            spec = {
                "replicas": 1,
                "selector": {"matchLabels": {"app": name}},
                "template": stage.template(image, app=name),
            }
            self.plane.must("POST", self.path(), {"metadata": {"name": name}, "spec": spec})

    def running(self) -> bool:
        """Whether every pod is ready."""
        found = self.plane.must("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return sum(1 for pod in found if stage.is_ready(pod)) == len(NAMES)

    @contextlib.contextmanager
    def server(self) -> Any:
        """The product at work with the shipped playbook and its declared rights."""
        (self.folder / "playbooks").mkdir()
        text = shipped_texts()["patch-everywhere"]
        (self.folder / "playbooks/patch-everywhere.yaml").write_text(text)
        token = self.plane.token_for(self.namespace, "responder")
        config = CONFIG.format(
            folder=self.folder,
            kubeconfig=self.plane.kubeconfig(token),
            namespace=self.namespace,
            registry=self.world.builder.registry.host,
            forge=self.world.forge.base_url,
        )
        (self.folder / "config.toml").write_text(config)
        secrets = {"FORGE_TOKEN": self.world.forge.token, "TRIVY_SECRET": SECRET}
        settings = load_settings(self.folder / "config.toml", environ=secrets)
        with serving(settings) as server:
            grant(self.plane, (self.namespace, "responder"), self.namespace, server.app)
            rule = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]}
            wait_until(lambda: stage._may(self.plane, token, self.namespace, rule), "the rights")
            yield server

    def alert(self, server: Server) -> Story:
        """The scanner posts its report; the incident that follows."""
        report = self.world.builder.scan(self.world.builder.old, CVE, KEPT)
        door = server.door("vic", Role.VIEWER)
        status, answer, _ = door.ask("POST", "/v1/hooks/trivy", report, SECRET)
        assert status < 300, answer
        return Story(door, answer["alerts"][0]["incident"])


@pytest.fixture
def place(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Any:
    """The stage, with four Deployments of the vulnerable image."""
    with hosted(outside) as host:
        made = Place(control_plane, namespace, host, tmp_path)
        made.deploy()
        with FakeKubelet(control_plane, namespace):
            wait_until(made.running, "every pod to run", 60)
            yield made


def test_a_repaired_image_goes_everywhere_after_one_yes(place: Place) -> None:
    """Alert, trace, one build, the gate's proof, canary after a yes, all others, nothing left."""
    with place.server() as server:
        story = place.alert(server)
        wait_until(lambda: _asks(story), "the canary to ask", 60)
        assert len(place.images()) == 1
        story.approve("canary[0]", server.door("ann", Role.APPROVER))
        story.ended(120)
        gate, left = story.step("gate"), story.step("left")

    assert gate["result"]["repaired"] == ["CVE-2026-1000 in openssl"]
    assert gate["verdict"] == "proven"
    assert left["verdict"] == "proven"
    assert place.images() == {f"{place.world.image}@{place.world.builder.new}"}
    assert len(place.world.forge.runs) == 1


def test_an_image_that_is_not_repaired_goes_nowhere(place: Place) -> None:
    """The gate refuses by name, nobody is asked, and no template is touched."""
    place.world.builder.stays = (CVE,)
    with place.server() as server:
        story = place.alert(server)
        wait_until(lambda: story.run()["outcome"], "the end of the run", 60)
        assert story.run()["outcome"] == "failed", story.told()
        error = story.step("gate")["error"]
        assert story.step("canary")["status"] == "skipped"

    assert "CVE-2026-1000 in openssl is not repaired: expected 3.0.11-1~deb12u2 or later" in error
    assert place.images() == {f"{place.world.image}@{place.world.builder.old}"}
    assert len(place.world.forge.runs) == 1


def _asks(story: Story) -> bool:
    run = story.run()
    assert not run["outcome"], story.told()
    return any(one["id"] == "canary[0]" for one in run["steps"])
