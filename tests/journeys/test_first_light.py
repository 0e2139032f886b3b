"""The whole journey on real parts: one alert, all the way to a patched redeploy.

Real: API server, kubelet, containers, packets, Docker engine, registry, the workflow file run by
act, the product's HTTP door, store, engine and integrations. Double: GitHub's REST API in front of
act, which checks every request and its own answers with the published description.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from responder.model import Role
from responder.wiring import load_settings
from tests.journeys.forging import Forging, by_github
from tests.journeys.real import Door, Server, Story, grant, hosted, serving, stage_seconds
from tests.journeys.shop import Json, Shop, falco_event, running_images
from tests.real.cluster import Node
from tests.real.engine import Engine
from tests.real.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HOOK_SECRET = "falco-says-so"
LABEL = "responder.dev/quarantine"
PLAYBOOK = Path(__file__).parent / "playbooks/review-and-release.yaml"
OPEN = dict.fromkeys(
    ("outside -> pod", "neighbour -> pod", "pod -> outside", "pod -> neighbour"), "ok"
)
CUT = dict.fromkeys(OPEN, "timeout")
CONFIG = """
[server]
listen = "127.0.0.1:0"
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
{playbooks}
[clusters.prod]
kubeconfig = "{kubeconfig}"
[hooks.falco-prod]
source = "falco"
cluster = "prod"
auth = {{bearer = {{env = "FALCO_SECRET"}}}}
[forges.{kind}]
kind = "{kind}"
base_url = "{forge}"
token = {{env = "FORGE_TOKEN"}}
poll = 0.5
settle = 5
[registries."{registry}"]
insecure = true
[[images]]
match = "{image}"
forge = "{kind}"
repo = "acme/shop"
workflow = "{workflow}"
inputs = {{base = "{base}"}}
[guards]
mode = "enforce"
"""


@dataclass(frozen=True)
class World:
    """Everything that one journey runs through."""

    shop: Shop
    forging: Forging
    forge: Any  # its double
    server: Server
    approver: Door

    def attack(self, name: str) -> Story:
        """Report the pod's shell as Falco does and return the incident's story."""
        pod = self.shop.pod(name)
        assert pod
        event = falco_event(pod)
        door = Door(self.server.url)
        assert door.ask("POST", "/v1/hooks/falco-prod", event)[0] == 401
        status, answer, _ = door.ask("POST", "/v1/hooks/falco-prod", event, HOOK_SECRET)
        assert status == 202, answer
        [alert] = answer["alerts"]
        assert not alert["duplicate"]
        assert len(alert["runs"]) == 1
        return Story(self.server.door("vic", Role.RESPONDER), alert["incident"])


@contextlib.contextmanager
def world(shop: Shop, forging: Forging, playbooks: str) -> Iterator[World]:
    """Open the shop, and the product as a service account with the declared rights alone."""
    shop.node.bridge_registry(shop.engine.port)
    shop.push_base("vulnerable")
    shop.push_app("1.0")
    shop.open("1.0")
    shop.push_base("patched")
    home = shop.node.namespace("responder")
    token = shop.node.token_for(home, "responder")
    with hosted(lambda: forging.serve(shop.engine, shop.folder)) as forge:
        text = CONFIG.format(
            kind=forging.kind,
            workflow=forging.workflow,
            folder=shop.folder,
            playbooks=playbooks,
            kubeconfig=shop.node.kubeconfig(token),
            forge=forge.value.base_url,
            registry=shop.engine.registry,
            image=shop.image,
            base=shop.base,
        )
        file = shop.folder / "config.toml"
        file.write_text(text)
        secrets = {"FALCO_SECRET": HOOK_SECRET, "FORGE_TOKEN": forge.value.token}
        with serving(load_settings(file, environ=secrets)) as server:
            grant(shop.node, (home, "responder"), shop.namespace, server.app)
            must_be_a_stranger(shop.node, token, shop.namespace)
            yield World(shop, forging, forge.value, server, server.door("ann", Role.APPROVER))
    shop.node.drop_namespace(home)
    assert (forge.value.wrong_requests, forge.value.wrong_answers, forge.value.leaked) == ([],) * 3


def must_be_a_stranger(node: Node, token: str, namespace: str) -> None:
    """The product's account may not do what no action declares."""
    for method, path in (
        ("GET", f"/api/v1/namespaces/{namespace}/secrets"),
        ("GET", f"/api/v1/namespaces/{namespace}/configmaps"),
        ("GET", "/api/v1/pods"),
        ("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments/cart"),
    ):
        status, _ = node.request(method, path, token=token)
        assert status == 403, f"{method} {path}"


@pytest.mark.parametrize("ending", ["removed", "released"])
@pytest.mark.parametrize("mode", ["survive", "strict"])
def test_an_alert_leads_all_the_way_to_a_patched_redeploy(
    node: Node, node_namespace: str, engine: Engine, act_path: Path, tmp_path: Path,
    mode: str, ending: str,
) -> None:  # fmt: skip
    """Contained, evidenced, rebuilt, rolled out, and the pod removed or released."""
    go_through(Shop(node, engine, node_namespace, tmp_path), by_github(act_path), mode, ending)


def go_through(shop: Shop, forging: Forging, mode: str, ending: str) -> None:
    """One journey on the node tier, by whichever forge."""
    playbooks = {
        "removed": 'shipped = ["contain-and-rebuild"]',
        "released": f'folders = ["{PLAYBOOK}"]',
    }[ending]
    shop.node.policy(mode)
    try:
        with shop.world_listens(), world(shop, forging, playbooks) as everything:
            {"removed": _removed, "released": _released}[ending](everything, mode)
    finally:
        shop.node.policy("none")


def _removed(all_: World, mode: str) -> None:
    """The shipped contain-and-rebuild: a yes for each change, the pod deleted at the end."""
    shop, ann = all_.shop, all_.approver
    victim = shop.ready()[0]
    name = victim["metadata"]["name"]
    old = running_images(shop.ready())
    with intruded(shop, name) as (mark, talk):
        story = all_.attack(name)
        story.approve("isolate", ann)
        story.until("rebuild", "waiting-approval")
        check_isolated(shop, story, victim)
        check_open_connection(talk, mode)
        check_evidence(story, victim, mark)
        story.approve("rebuild", ann)
        story.approve("redeploy", ann)
        story.approve("remove", ann, 120)
        incident = story.ended()
    check_redeployed(all_, story, old)
    assert shop.pod(name) is None
    wait_until(lambda: shop.policies() == [], "the policy to go after its pod")
    check_told(all_, story, incident, ["evidenced", "contained", "built", "rolled-out", "removed"])


def _released(all_: World, mode: str) -> None:
    """Contained without asking; after the review the pod talks again, and the fix goes out."""
    shop, ann = all_.shop, all_.approver
    victim = shop.ready()[0]
    name, labels = victim["metadata"]["name"], victim["metadata"]["labels"]
    old = running_images(shop.ready())
    shop.keep(name)
    with intruded(shop, name) as (mark, talk):
        story = all_.attack(name)
        story.until("release", "waiting-approval", 120)
        check_isolated(shop, story, victim)
        check_open_connection(talk, mode)
        check_evidence(story, victim, mark)
    story.approve("release", ann)
    story.until("redeploy", "waiting-approval")
    shop.until_reach(name, OPEN)
    pod = shop.pod(name)
    assert pod
    assert (pod["metadata"]["uid"], pod["metadata"]["labels"]) == (
        victim["metadata"]["uid"],
        labels,
    )
    assert shop.policies() == []
    story.approve("redeploy", ann)
    incident = story.ended(120)
    check_redeployed(all_, story, old)
    wait_until(lambda: shop.pod(name) is None, "the rollout to replace the released pod")
    check_told(all_, story, incident, ["evidenced", "contained", "built", "released", "rolled-out"])


@contextlib.contextmanager
def intruded(shop: Shop, name: str) -> Iterator[tuple[str, Path]]:
    """A pod that talks to everybody, with an intruder in it and one long connection to it."""
    shop.until_reach(name, OPEN)
    assert name in shop.endpoints()
    mark = shop.intrude(name)
    with shop.talking("neighbour", name) as talk:
        yield mark, talk


def check_isolated(shop: Shop, story: Story, victim: Json) -> None:
    """Cut off in both directions, kept alive, replaced; everybody else talks on."""
    name, uid = victim["metadata"]["name"], victim["metadata"]["uid"]
    shop.until_reach(name, CUT)
    pod = shop.pod(name)
    assert pod
    assert pod["metadata"]["uid"] == uid
    [[key, value]] = pod["metadata"]["labels"].items()
    assert (key, value.rpartition("-")[2]) == (LABEL, uid[:8])
    assert pod["status"]["containerStatuses"][0]["state"].keys() == {"running"}
    [policy] = shop.policies()
    assert policy["spec"]["podSelector"] == {"matchLabels": {LABEL: value}}
    wait_until(lambda: len(shop.ready()) == 3, "the replacement to be Ready")
    wait_until(lambda: len(shop.endpoints() - {name}) == 3, "the Service to know the replacement")
    assert name not in shop.endpoints()
    others = [item["metadata"]["name"] for item in shop.ready()]
    assert name not in others
    assert {shop.dial("neighbour", other) for other in [*others, "bystander"]} == {"ok"}
    assert shop.dial(others[0], "outside") == "ok"
    step = story.step("isolate")
    assert (step["status"], step["verdict"]) == ("succeeded", "applied")
    assert any("open connections may live on" in text for text in step["residual"])
    assert story.incident()["status"] in {"contained", "remediating"}


def check_open_connection(talk: Path, mode: str) -> None:
    """The residual is true: what was open lives on or is cut, as the enforcer does it."""
    if mode == "strict":
        wait_until(lambda: "timeout" in talk.read_text(), "the open connection to be cut")
        return
    seen = talk.read_text().count(" ok")
    wait_until(lambda: talk.read_text().count(" ok") > seen + 5, "the open connection to live on")


def check_evidence(story: Story, victim: Json, mark: str) -> None:
    """Every file has its hash, the manifest names them all, and the log has the intruder's line."""
    base = f"/v1/incidents/{story.number}/evidence"
    assert story.door.get(f"{base}/verification")["ok"]
    kept = {row["name"].rpartition("/")[2]: row for row in story.door.get(base)["items"]}
    files: dict[str, bytes] = {}
    for name, row in kept.items():
        status, body, _ = story.door.ask("GET", f"{base}/{row['sha256']}")
        assert status == 200
        assert hashlib.sha256(body).hexdigest() == row["sha256"], name
        files[name] = body
    manifest = json.loads(files["manifest.json"])
    listed = {entry["name"]: entry["sha256"] for entry in manifest["files"]}
    assert listed == {name: row["sha256"] for name, row in kept.items() if name != "manifest.json"}
    assert (manifest["uid"], manifest["gaps"]) == (victim["metadata"]["uid"], [])
    assert json.loads(files["pod.json"])["metadata"]["labels"] == victim["metadata"]["labels"]
    log = files["log-cart.txt"].decode()
    assert "serving on base vulnerable" in log
    assert mark in log
    assert {"owner-Deployment-cart.json", "node.json", "events.json"} <= kept.keys()


def check_redeployed(all_: World, story: Story, old: set[str]) -> None:
    """The pushed digest runs in every pod, on the patched base; it was dispatched once."""
    built = story.step("rebuild")["result"]
    assert built["image"] == f"{all_.shop.image}@{built['digest']}"
    assert {built["image"]} != old
    wait_until(lambda: len(all_.shop.ready()) == 3, "three pods after the rollout")
    assert running_images(all_.shop.ready()) == {built["image"]}
    assert all_.shop.bases() == {"patched"}
    assert story.step("redeploy")["verdict"] == "enforced"
    assert list(all_.forge.dispatches.values()) == [1]
    assert all_.forging.ends(all_.forge) == ["success"]


def check_told(all_: World, story: Story, incident: Json, stages: list[str]) -> None:
    """The incident is resolved, each stage has its time, and the audit says who said yes."""
    assert incident["status"] == "resolved"
    assert list(incident["stages"]) == ["detected", *stages, "ended"]
    assert all_.approver.get("/v1/audit/verification")["ok"]
    lines = all_.approver.get("/v1/audit?limit=200")["items"]
    asked = [line for line in lines if line["verb"] == "approved"]
    assert {line["person"] for line in asked} == {"ann"}
    steps = incident["runs"][0]["steps"]
    assert len(asked) == sum(bool(step["approvals"]) for step in steps) >= 2
    print(f"\n{story.told()}\nseconds from the alert: {stage_seconds(incident)}")
    _must_keep_secrets(story, lines)


def _must_keep_secrets(story: Story, lines: list[Any]) -> None:
    said = json.dumps([story.incident(), lines]) + story.told()
    assert HOOK_SECRET not in said
    assert "token-of-the-double" not in said
