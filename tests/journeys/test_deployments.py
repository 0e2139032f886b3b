"""Deployments on a GitHub, through the whole product: recorded as they go, and answered.

The product's own server, store and engine; forge and registry are doubles whose requests and
answers are checked. The deliveries are signed as GitHub signs and sent to the product's door.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from responder.cli.root import cli
from responder.model import Role
from responder.wiring import load_settings
from tests.doubles import github
from tests.doubles.github_deployments import Deployed
from tests.doubles.registry import running_registry
from tests.doubles.shapes import DoubleRun
from tests.journeys.real import Hosted, Server, Story, hosted, serving
from tests.journeys.test_patch_everywhere import CVE, KEPT, Builder
from tests.real.waiting import wait_until

SCANNER, FORGE = "trivy-says-so", "github-says-so"
CONFIG = """
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
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
[hooks.forge]
source = "github"
auth = {{hmac = {{header = "X-Hub-Signature-256", prefix = "sha256=", secret = {{env = "HUB"}}}}}}
options = {{deployments = true}}
[guards]
mode = "enforce"
"""
MEND = """
playbook: mend
description: Rebuild an image, gate it, and tell the forge what is rolled out.
on:
  - alert: {source: [trivy], when: alert.kind == "vulnerability"}
incident: {key: [image, digest], window: 12h}
mode: enforce
steps:
  rebuild:
    use: pipeline.run
    with: {image: "${{ target.image }}"}
  gate:
    use: image.gate
    needs: [rebuild]
    with: {image: "${{ steps.rebuild.image }}", digest: "${{ steps.rebuild.digest }}"}
  record:
    use: deployment.record
    needs: [rebuild, gate]
    with: {image: "${{ steps.gate.image }}", run: "${{ steps.rebuild.run }}", state: running}
finally:
  - use: deployment.record
    if: steps.gate.status == "succeeded"
    with:
      image: ${{ steps.gate.image }}
      run: ${{ steps.rebuild.run }}
      state: '${{ run.outcome == "succeeded" ? "success" : "failure" }}'
"""


@dataclass(frozen=True)
class Outside:
    """Forge and registry as they run for the length of a test."""

    forge: github.GitHubDouble
    deployed: Deployed
    builder: Builder


@contextlib.asynccontextmanager
async def outside() -> AsyncIterator[Outside]:
    """Serve a registry that holds the old image, and a forge that builds and deploys."""
    part = Deployed()
    async with running_registry(referring={}) as registry:
        builder = Builder(registry)
        builder.old = registry.put_image("1.4", {})
        async with github.running(executor=builder, parts=(part,)) as forge:
            yield Outside(forge, part, builder)
            assert forge.wrong_requests == []
            assert forge.wrong_answers == []


@dataclass(frozen=True)
class Shop:
    """The server with what is outside it."""

    host: Hosted[Outside]
    server: Server

    @property
    def world(self) -> Outside:
        """Forge and registry."""
        return self.host.value

    def mended(self) -> Story:
        """The scanner reports the old image; the incident, once its run has ended well."""
        report = self.world.builder.scan(self.world.builder.old, CVE, KEPT)
        door = self.server.door("vic", Role.VIEWER)
        status, answer, _ = door.ask("POST", "/v1/hooks/trivy", report, SCANNER)
        assert status < 300, answer
        story = Story(door, answer["alerts"][0]["incident"])
        story.ended()
        return story

    def foreign(self) -> DoubleRun:
        """A run that somebody else has started."""
        builder = self.world.forge.executor
        self.world.forge.executor = _Nothing()
        made: DoubleRun = self.host.call(self._begun())
        self.world.forge.executor = builder
        return made

    async def _begun(self) -> DoubleRun:
        return self.world.forge._new_run("acme/shop", "deploy.yml", "main", {})

    def waits(self, run: DoubleRun, payload: Any = None) -> dict[str, Any]:
        """Let a run wait for production; the delivery about it."""
        return self.world.deployed.waits(run, "production", payload)

    def deliver(self, data: dict[str, Any], secret: str = FORGE) -> tuple[int, Any]:
        """Send a delivery to the product's door; status and decoded answer."""
        body = json.dumps(data).encode()
        mark = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "deployment_protection_rule",
            "X-GitHub-Delivery": hashlib.sha256(body).hexdigest()[:32],
            "X-Hub-Signature-256": f"sha256={mark}",
        }
        link = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=30)
        link.request("POST", "/v1/hooks/forge", body, headers)
        answer = link.getresponse()
        told = json.loads(answer.read())
        link.close()
        return answer.status, told

    def answered(self, data: dict[str, Any]) -> Story:
        """Deliver a question; its story, once its run has ended."""
        status, told = self.deliver(data)
        assert status == 202, told
        story = Story(self.server.door("vic", Role.VIEWER), told["alerts"][0]["incident"])
        wait_until(lambda: story.run()["outcome"], "the answer", 60)
        return story


class _Nothing:
    async def execute(self, run: DoubleRun) -> None:
        """Leave the run as it is."""


def answering() -> str:
    """The playbook that the documentation shows."""
    page = (Path(__file__).parents[2] / "docs" / "deployments.md").read_text(encoding="utf-8")
    return page.split("```yaml\n# answer-deployments.yaml\n", 1)[1].split("```", 1)[0]


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    """The product at work with two playbooks."""
    with hosted(outside) as host:
        (tmp_path / "playbooks").mkdir()
        (tmp_path / "playbooks" / "mend.yaml").write_text(MEND)
        (tmp_path / "playbooks" / "answer-deployments.yaml").write_text(answering())
        config = CONFIG.format(
            folder=tmp_path,
            registry=host.value.builder.registry.host,
            forge=host.value.forge.base_url,
        )
        (tmp_path / "config.toml").write_text(config)
        secrets = {"FORGE_TOKEN": host.value.forge.token, "TRIVY_SECRET": SCANNER, "HUB": FORGE}
        settings = load_settings(tmp_path / "config.toml", environ=secrets)
        with serving(settings) as server:
            yield Shop(host, server)


def test_a_rollout_is_recorded_with_its_states_and_its_deploy_job_is_approved(shop: Shop) -> None:
    """One deployment, running then success; the run that we started may deploy, once."""
    story = shop.mended()
    deployed, builder = shop.world.deployed, shop.world.builder
    [record] = deployed.deployments
    assert record["payload"]["digest"] == builder.new
    assert [one["state"] for one in deployed.states[record["id"]]] == ["in_progress", "success"]

    [run] = shop.world.forge.runs.values()
    delivery = shop.waits(run)
    verdict = shop.answered(delivery)
    assert verdict.step("answer")["result"]["answer"] == "approved", verdict.told()
    [review] = deployed.reviews[run.id]
    assert f"the gate of incident {story.number} let {builder.new} through" in review["comment"]

    assert verdict.incident()["status"] == "resolved"
    status, told = shop.deliver(delivery)
    assert (status, told) == (202, {"alerts": []})
    assert dict(deployed.verdicts) == {f"{run.id} production approved": 1}
    print(f"deployments {dict(deployed.made)} states {dict(deployed.told)}")
    print(f"verdicts {dict(deployed.verdicts)}")
    print(verdict.told())


def test_others_deployments_are_rejected_on_a_blocked_digest_and_else_left_alone(
    shop: Shop,
) -> None:
    """The image that is being replaced is rejected; another is not ours, and that is said."""
    story = shop.mended()
    deployed, builder = shop.world.deployed, shop.world.builder
    old, new, other = shop.foreign(), shop.foreign(), shop.foreign()
    rejected = shop.answered(shop.waits(old, {"image": f"shop@{builder.old}"}))
    claimed = shop.answered(shop.waits(new, {"digest": builder.new}))
    unknown = shop.answered(shop.waits(other))

    assert rejected.step("answer")["result"]["answer"] == "rejected", rejected.told()
    assert f"replaced by incident {story.number}" in deployed.reviews[old.id][0]["comment"]
    for left, run in ((claimed, new), (unknown, other)):
        step = left.step("answer")
        assert step["result"]["answer"] == "none", left.told()
        assert "not ours to answer" in step["result"]["why"]
        assert (run.status, left.incident()["status"]) == ("waiting", "open")
    assert dict(deployed.verdicts) == {f"{old.id} production rejected": 1}


def test_a_delivery_signed_for_another_hook_is_refused(shop: Shop) -> None:
    """Nothing is stored and nothing starts."""
    run = shop.foreign()
    status, _ = shop.deliver(shop.waits(run), secret="of another hook")
    assert status == 401
    assert shop.server.door("vic", Role.VIEWER).get("/v1/incidents")["items"] == []


def test_the_playbook_of_the_documentation_passes_the_lint(tmp_path: Path) -> None:
    """A trigger may name a forge, although a forge makes no alerts of its own accord."""
    file = tmp_path / "answer-deployments.yaml"
    file.write_text(answering())
    seen = CliRunner().invoke(cli, ["playbook", "lint", str(file)])
    assert (seen.exit_code, "no problem" in seen.output) == (0, True), seen.output
