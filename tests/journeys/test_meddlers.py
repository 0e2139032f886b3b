"""Two hundred isolations, and somebody who changes labels, policies and pods all the while (B8).

A real API server, the product's own server as its generated account, and a meddler with an
administrator's rights who does at random what GitOps, operators, people and intruders do. When they
stop, each isolation is as it was planned or a person was called; and whatever they did, none is
called isolated that is not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from responder.model import Role
from responder.wiring import load_settings
from tests.adapters.kubernetes import accounts, stage
from tests.journeys.real import Server, serving
from tests.journeys.test_standing import ALLOW_ALL, BEN, LABEL, PLAYBOOK
from tests.real.cluster import ControlPlane
from tests.real.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NAMESPACES, PODS = 8, 25
DEEDS = 150
CONFIG = """
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
[clusters.prod]
kubeconfig = "{kubeconfig}"
home = "{home}"
namespaces = {spaces}
[guards]
mode = "enforce"
ready_share = 1.0
storm = 100000
pods_per_window = 100000
"""
Key = tuple[str, str]


@dataclass
class Meddler:
    """Somebody else in the cluster; `rng` says what they do next."""

    plane: ControlPlane
    spaces: list[str]
    rng: random.Random = field(default_factory=lambda: random.Random(8))
    deeds: list[str] = field(default_factory=list)

    def act(self) -> None:
        """One change; what is not there any more is nobody's fault."""
        takes, opens = (self._unlabel, self._relabel, self._drop), (self._open, self._allow)
        deed = self.rng.choice([*takes, *opens, self._unlabel, self._disallow, self._replace])
        space, pod = self.rng.choice(self.spaces), f"pod-{self.rng.randrange(PODS)}"
        self.deeds.append(deed.__name__)
        deed(space, f"/api/v1/namespaces/{space}/pods/{pod}")

    def policies(self, space: str) -> str:
        return f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies"

    def _ours(self, space: str) -> str:
        """One of the product's policies."""
        items = self.plane.must("GET", self.policies(space))["items"]
        names = [i["metadata"]["name"] for i in items if i["metadata"]["name"] != "allow-all"]
        return f"{self.policies(space)}/{self.rng.choice(names)}" if names else ""

    def _unlabel(self, _space: str, pod: str) -> None:
        self.plane.request("PATCH", pod, {"metadata": {"labels": {LABEL: None}}})

    def _relabel(self, _space: str, pod: str) -> None:
        self.plane.request("PATCH", pod, {"metadata": {"labels": {"app": "mine", "tier": "web"}}})

    def _drop(self, space: str, _pod: str) -> None:
        if path := self._ours(space):
            self.plane.request("DELETE", path)

    def _open(self, space: str, _pod: str) -> None:
        if path := self._ours(space):
            self.plane.request("PATCH", path, {"spec": {"ingress": [{}]}})

    def _allow(self, space: str, _pod: str) -> None:
        body = {"metadata": {"name": "allow-all"}, "spec": ALLOW_ALL}
        self.plane.request("POST", self.policies(space), body)

    def _disallow(self, space: str, _pod: str) -> None:
        self.plane.request("DELETE", f"{self.policies(space)}/allow-all")

    def _replace(self, space: str, pod: str) -> None:
        """Deleted, and made again under the same name."""
        self.plane.request("DELETE", f"{pod}?gracePeriodSeconds=0")
        wait_until(lambda: self.plane.request("GET", pod)[0] == 404, "the end of a pod")
        stage.bare(self.plane, space, pod.rpartition("/")[2])


@pytest.fixture
def spaces(control_plane: ControlPlane) -> Iterator[list[str]]:
    """Namespaces full of pods."""
    names = [control_plane.namespace() for _ in range(NAMESPACES)]
    for name in names:
        for number in range(PODS):
            stage.bare(control_plane, name, f"pod-{number}")
    yield names
    for name in names:
        control_plane.drop_namespace(name)


def isolate_all(server: Server, plane: ControlPlane, spaces: list[str]) -> dict[Key, Any]:
    """A run for each pod, begun while the meddler is at work already; run and UID by pod."""
    meddler = Meddler(plane, spaces)
    runs: dict[Key, Any] = {}
    for number in range(PODS):
        for space in spaces:
            name = f"pod-{number}"
            uid = plane.must("GET", f"/api/v1/namespaces/{space}/pods/{name}")["metadata"]["uid"]
            start = server.app.service.start(BEN, "isolate", {"pod": f"{space}/{name}"}, "test")
            runs[space, name] = (server.host.call(start), uid)
        meddler.act()
    while len(meddler.deeds) < DEEDS:
        meddler.act()
    assert len(set(meddler.deeds)) == 7, meddler.deeds
    return runs


def truly_isolated(plane: ControlPlane, space: str, name: str, uid: str) -> bool:
    """An own, plain reading of the cluster: labelled, denied by its policy, let in by no other."""
    status, pod = plane.request("GET", f"/api/v1/namespaces/{space}/pods/{name}")
    if status != 200 or pod["metadata"]["uid"] != uid:
        return False
    labels = pod["metadata"].get("labels") or {}
    path = f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies"
    meant = []
    for policy in plane.must("GET", path)["items"]:
        wanted = (policy["spec"]["podSelector"] or {}).get("matchLabels") or {}
        if wanted.items() <= labels.items():
            meant.append(policy["spec"])
    denied = {way for spec in meant for way in spec["policyTypes"]} == {"Ingress", "Egress"}
    lets = any(spec.get("ingress") or spec.get("egress") for spec in meant)
    return LABEL in labels and denied and not lets


def test_after_two_hundred_isolations_under_a_meddler_none_is_called_isolated_that_is_not(
    control_plane: ControlPlane, spaces: list[str], tmp_path: Path
) -> None:
    """As planned, or a person was called; and the verdict of each is the truth."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/isolate.yaml").write_text(PLAYBOOK)
    home = control_plane.namespace("home")
    token = accounts.generated(control_plane, home, spaces, "quarantine_pod")
    config = control_plane.kubeconfig(token)
    text = CONFIG.format(folder=tmp_path, kubeconfig=config, home=home, spaces=json.dumps(spaces))
    (tmp_path / "config.toml").write_text(text)
    with serving(load_settings(tmp_path / "config.toml", environ={})) as server:
        door = server.door("vic", Role.VIEWER)
        runs = isolate_all(server, control_plane, spaces)

        def lies() -> list[str]:
            """What is said of each pod and is not so, or not yet."""
            found = []
            for (space, name), (run, uid) in runs.items():
                shown = door.get(f"/v1/runs/{run['run']}")
                [step] = shown["steps"]
                if not shown["outcome"]:
                    found.append(f"{space}/{name}: {step['status']}")
                elif step["status"] == "succeeded":
                    isolated = truly_isolated(control_plane, space, name, uid)
                    if isolated != (step["verdict"] == "applied"):
                        found.append(f"{space}/{name}: {step['verdict']}, isolated: {isolated}")
            return found

        # the third try comes half a minute after the second
        wait_until(lambda: not lies(), "every verdict to be the truth", 180)

        calm = {"applied": 0, "called": 0, "failed": 0}
        for run, _ in runs.values():
            [step] = door.get(f"/v1/runs/{run['run']}")["steps"]
            if step["status"] == "succeeded" and step["verdict"] == "applied":
                calm["applied"] += 1
                continue
            lines = door.get(f"/v1/incidents/{run['incident']}/timeline")["items"]
            ended_badly = step["status"] == "failed"  # told when the run ended
            called = any(line["kind"] == "alarm" for line in lines)
            known = any("stays open" in line["text"] for line in lines)  # from the very first look
            assert ended_badly or called or known, [line["text"] for line in lines]
            calm["failed" if ended_badly else "called"] += 1
        print(f"\nof {len(runs)} isolations under {DEEDS} changes: {calm}")
        assert calm["applied"] >= 1
        assert calm["called"] >= 1
    accounts.forget(control_plane, home)
