"""Containment that stays true: what others change after a run has ended is said, and put back.

A real API server, the product's own server as an account with the declared rights alone, and
somebody else with an administrator's rights.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from responder.model import Role
from responder.service import Who
from responder.settings import Settings
from responder.wiring import load_settings
from tests.adapters.kubernetes import stage
from tests.journeys.real import Server, Story, grant, serving
from tests.real.cluster import ControlPlane
from tests.real.waiting import wait_until

LABEL = "responder.dev/quarantine"
BEN = Who(person="ben", role=Role.ADMIN, door="test")
PLAYBOOK = """
playbook: isolate
on:
  - manual:
      inputs:
        pod: {type: kubernetes.pod, required: true, summary: which}
mode: enforce
steps:
  isolate:
    use: kubernetes.quarantine_pod
    with: {pod: "${{ inputs.pod }}"}
"""
CONFIG = """
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
[clusters.prod]
kubeconfig = "{kubeconfig}"
namespaces = ["{namespace}"]
[guards]
mode = "enforce"
ready_share = 1.0
"""
BOUND = 30.0  # seconds; the look by time comes after five minutes, so the watch has brought it
ALLOW_ALL = {
    "podSelector": {},
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [{}],
    "egress": [{}],
}


@dataclass(frozen=True)
class Place:
    """One namespace, the pod `solo` in it, and the settings of the product for it."""

    plane: ControlPlane
    namespace: str
    settings: Settings

    @property
    def pod(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/solo"

    @property
    def policies(self) -> str:
        return f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies"

    def label(self) -> str:
        """The quarantine label the pod has now."""
        found = self.plane.must("GET", self.pod)["metadata"].get("labels") or {}
        return str(found.get(LABEL, ""))

    def unlabel(self) -> None:
        """Somebody takes the label away."""
        self.plane.must("PATCH", self.pod, {"metadata": {"labels": {LABEL: None}}})


@pytest.fixture
def place(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Place:
    """The stage, with the product's account and its rights, made before anything is started."""
    stage.bare(control_plane, namespace)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/isolate.yaml").write_text(PLAYBOOK)
    token = control_plane.token_for(namespace, "responder")
    text = CONFIG.format(
        folder=tmp_path, kubeconfig=control_plane.kubeconfig(token), namespace=namespace
    )
    (tmp_path / "config.toml").write_text(text)
    settings = load_settings(tmp_path / "config.toml", environ={})
    with serving(settings) as server:
        grant(control_plane, (namespace, "responder"), namespace, server.app)
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["watch"]}
    wait_until(lambda: stage._may(control_plane, token, namespace, rule), "the rights")
    return Place(control_plane, namespace, settings)


@contextmanager
def isolated(place: Place) -> Iterator[tuple[Server, Story]]:
    """The server at work, and the incident in which it has isolated the pod."""
    with serving(place.settings) as server:
        started = server.host.call(
            server.app.service.start(BEN, "isolate", {"pod": f"{place.namespace}/solo"}, "test")
        )
        story = Story(server.door("vic", Role.VIEWER), started["incident"])
        story.ended()
        assert story.step("isolate")["verdict"] == "applied"
        yield server, story


def flips(story: Story, level: str) -> Any:
    """Wait until the step's verdict is this one; prints how long it took."""
    begun = time.monotonic()
    try:
        wait_until(lambda: story.step("isolate")["verdict"] == level, level, BOUND)
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{story.told()}") from error
    print(f"\n{level} after {time.monotonic() - begun:.2f} s")
    return story.step("isolate")


def alarms(story: Story) -> list[str]:
    """What a person was called for."""
    lines = story.door.get(f"/v1/incidents/{story.number}/timeline")["items"]
    return [line["text"] for line in lines if line["kind"] == "alarm"]


def test_an_allow_all_policy_added_later_by_somebody_else_flips_the_verdict_and_back(
    place: Place,
) -> None:
    """B11: heard by the watch, said in the incident, called a person for; and taken back again."""
    with isolated(place) as (_, story):
        body = {"metadata": {"name": "allow-all"}, "spec": ALLOW_ALL}
        place.plane.must("POST", place.policies, body)

        step = flips(story, "residual")
        assert any("allow-all" in text for text in step["residual"])
        assert story.incident()["status"] == "open"
        [alarm] = alarms(story)
        assert "is residual now, was applied" in alarm
        assert "allow-all" in alarm

        place.plane.must("DELETE", f"{place.policies}/allow-all")
        step = flips(story, "applied")
        assert not any("allow-all" in text for text in step["residual"])
        assert story.incident()["status"] == "contained"
        assert len(alarms(story)) == 1


def test_a_change_made_while_the_server_was_down_is_found_after_its_start(place: Place) -> None:
    """What is held follows from the store: nobody has to tell the next server."""
    with isolated(place) as (_, story):
        number = story.number
    body = {"metadata": {"name": "allow-all"}, "spec": ALLOW_ALL}
    place.plane.must("POST", place.policies, body)

    with serving(place.settings) as server:
        flips(Story(server.door("vic", Role.VIEWER), number), "residual")


def test_a_label_taken_away_is_put_back_and_then_a_person_is_asked(place: Place) -> None:
    """Put back three times, with growing pauses; from the fourth time on it is a person's."""
    with isolated(place) as (_, story):
        value = place.label()
        for _ in range(3):
            place.unlabel()
            wait_until(lambda: place.label() == value, "the label to be put back", 90)
            flips(story, "applied")
        place.unlabel()
        wait_until(lambda: "not put back any more" in story.told(), "a person to be asked", 90)

        step = story.step("isolate")
        assert place.label() == ""
        assert step["verdict"] == "residual"
        assert any("lost its label" in text for text in step["residual"])
        assert any("a person must look" in text for text in step["residual"])
        assert story.told().count("put back, time") == 3
        assert story.incident()["status"] == "open"


def test_another_pod_of_the_same_name_is_never_touched(place: Place) -> None:
    """The isolated pod is gone: that is said once, and its successor stays as it is."""
    with isolated(place) as (_, story):
        place.plane.must("DELETE", f"{place.pod}?gracePeriodSeconds=0")
        stage.bare(place.plane, place.namespace)
        wait_until(lambda: "has ended" in story.told(), "the end to be said", BOUND)
        wait_until(lambda: story.step("isolate")["verdict"] == "residual", "the verdict", BOUND)

        assert place.label() == ""
        assert "put back, time" not in story.told()


def test_a_release_by_the_product_itself_is_no_loss(place: Place) -> None:
    """An undo ends the looks: nothing is put back, nobody is called."""
    with isolated(place) as (server, story):
        run = story.run()["id"]
        server.host.call(server.app.service.undo(BEN, run, "isolate", "false alarm"))
        wait_until(lambda: story.step("isolate")["status"] == "undone", "the undo", BOUND)
        body = {"metadata": {"name": "any"}, "spec": ALLOW_ALL}
        place.plane.must("POST", place.policies, body)
        server.host.call(server.app.looker.heard(f"cluster:prod/{place.namespace}"))

        assert place.label() == ""
        assert alarms(story) == []
        assert "put back" not in story.told()


def test_the_deletion_of_the_namespace_is_an_alarm_that_says_what_opens_when(
    place: Place,
) -> None:
    """Said at once, with the policy that goes and the pod that is open meanwhile."""
    finalizer = {"metadata": {"finalizers": ["test.example/stays"]}}
    with isolated(place) as (_, story):
        # a policy that stays for a while, as a held one would
        name = place.plane.must("GET", place.policies)["items"][0]["metadata"]["name"]
        place.plane.must("PATCH", f"{place.policies}/{name}", finalizer)
        place.plane.must("DELETE", f"/api/v1/namespaces/{place.namespace}")
        wait_until(lambda: any("ALARM" in text for text in alarms(story)), "the alarm", BOUND)

        [text] = [text for text in alarms(story) if "ALARM" in text][:1]
        assert f"namespace {place.namespace} is being deleted" in text
        assert "is not held" in text
        assert name in text
        assert story.step("isolate")["verdict"] == "residual"
        free = {"metadata": {"finalizers": None}}
        place.plane.must("PATCH", f"{place.policies}/{name}", free)
