"""The rehearsal in one process: the demo's own server and world, asked over HTTP as a person asks.

Also the stop button that lies in the cluster: a ConfigMap's key, which works without our doors.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from responder.model import Role
from responder.sandbox.world import SandboxWorld
from responder.wiring.demo import Demo, demo
from responder.wiring.sandboxed import HOOK, sandbox_settings
from tests.journeys.real import Door, Hosted, Server, Story, hosted, serving, stage_seconds
from tests.real.waiting import wait_until

MERGE = "application/merge-patch+json"
SWITCH = "/api/v1/namespaces/default/configmaps"


def test_the_demo_tells_the_whole_story_and_does_each_thing_once() -> None:
    """One yes over HTTP leads from a shell in a pod to a repaired shop; every effect counted."""
    with hosted(demo) as host:
        name = host.look(lambda it: it.sandbox.pod()["metadata"]["name"])
        image = host.look(lambda it: it.sandbox.pod()["spec"]["containers"][0]["image"])
        me = Door(host.value.url)
        story = Story(me, host.call(host.value.attack()))
        story.approve("redeploy", me)
        incident = story.ended()
        check_incident(incident)
        check_effects(host, story, name)
        check_shop(host, image, story.step("rebuild")["result"]["image"])
        check_words(story, name)
        assert me.get("/v1/audit/verification")["ok"]
        assert me.get(f"/v1/incidents/{story.number}/evidence/verification")["ok"]
        print(f"\n{story.told()}\nseconds from the alert: {stage_seconds(incident)}")


def check_incident(incident: Any) -> None:
    """Resolved, every stage reached once and in order; each step says what was verified."""
    assert incident["status"] == "resolved"
    stages = ["evidenced", "contained", "built", "rolled-out", "removed", "ended"]
    assert list(incident["stages"]) == ["detected", *stages]
    assert sorted(incident["stages"].values()) == list(incident["stages"].values())
    verdicts = {step["id"]: step["verdict"] for step in incident["runs"][0]["steps"]}
    assert verdicts == {
        "snapshot": "enforced",
        "isolate": "applied",
        "rebuild": "enforced",
        "redeploy": "enforced",
        "remove": "enforced",
    }


def check_effects(host: Hosted[Demo], story: Story, name: str) -> None:
    """Exactly these effects, each once, and no other."""
    isolated, rebuilt = story.step("isolate")["result"], story.step("rebuild")["result"]
    effects = host.look(lambda it: it.sandbox.effects())
    [correlation] = effects["dispatches"]
    assert correlation.startswith("rr-")
    assert effects == {
        "dispatches": {correlation: 1},
        "networkpolicies_created": {f"shop/{isolated['policy']}": 1},
        "pods_deleted": {f"shop/{name}": 1},
        "pushes": {f"shop/cart@{rebuilt['digest']}": 1},
        "relabels": {f"shop/{name}": 1},
        "rollouts": {"shop/cart": 1},
    }


def check_shop(host: Hosted[Demo], old: str, new: str) -> None:
    """Three pods run the image that was built and nothing else."""
    assert new != old
    pods = host.look(lambda it: [it.sandbox.pod(place) for place in range(3)])
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {new}
    assert {pod["status"]["containerStatuses"][0]["imageID"] for pod in pods} == {new}


def check_words(story: Story, name: str) -> None:
    """The timeline names the pod, says what stays open and claims no more than was verified."""
    told = story.told()
    assert f"isolate pod shop/{name}: applied" in told
    assert "stays open: open connections may live on" in told
    assert "the new image was not scanned" in told
    assert told.count("decision  approved") == 1


# --------------------------------------------------------------------------- the stop button


@contextmanager
def beside_a_sandbox(folder: Path) -> Iterator[tuple[Server, Hosted[SandboxWorld]]]:
    """A server that enforces by itself and looks for its switch in the sandbox's cluster."""
    with hosted(SandboxWorld) as sandbox:
        places = json.loads(sandbox.value.addresses())
        playbook = str(Path(__file__).parent / "playbooks/review-and-release.yaml")
        settings = sandbox_settings(
            places,
            folder,
            clusters__sandbox__pause="default/responder-switch",
            playbooks__folders=[playbook],
            playbooks__shipped=[],
        )
        with serving(settings) as server:
            yield server, sandbox


def test_a_key_of_a_configmap_stops_changes_and_lets_them_go_on(tmp_path: Path) -> None:
    """While it says pause, evidence is kept and nothing is changed; without it the run goes on."""
    with beside_a_sandbox(tmp_path) as (server, sandbox):
        door = server.door("vic", Role.RESPONDER)
        cluster = Door(sandbox.value.cluster_url)
        assert door.get("/v1/status")["paused"] == ""
        switch = {"metadata": {"name": "responder-switch"}, "data": {"pause": "drill until noon"}}
        cluster.post(SWITCH, switch)
        thrown = time.monotonic()
        reason = wait_until(lambda: door.get("/v1/status")["paused"], "the pause", 5)
        heard = time.monotonic() - thrown
        assert reason.endswith("says pause: drill until noon")
        assert "default/responder-switch" in reason
        event = sandbox.look(SandboxWorld.falco_alert)
        [alert] = door.post(f"/v1/hooks/{HOOK}", event)["alerts"]
        story = Story(door, alert["incident"])
        wait_until(lambda: story.run()["status"] == "paused", "the run to be held")
        assert story.step("snapshot")["status"] == "succeeded"
        assert story.step("isolate")["status"] not in {"succeeded", "applying"}
        assert set(sandbox.look(SandboxWorld.effects)) == {"configmaps_created"}
        _switch(cluster, "off")
        story.until("release", "waiting-approval")
        pod = event["output_fields"]["k8s.pod.name"]
        assert sandbox.look(SandboxWorld.effects)["relabels"] == {f"shop/{pod}": 1}
        assert door.get("/v1/status")["paused"] == ""
        print(f"\nthe pause was heard after {heard:.2f} s\n{story.told()}")


def _switch(cluster: Door, word: str) -> None:
    path, body = f"{SWITCH}/responder-switch", {"data": {"pause": word}}
    status, answer, _ = cluster.ask("PATCH", path, body, kind=MERGE)
    assert status == 200, answer
