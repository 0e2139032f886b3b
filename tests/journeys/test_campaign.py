"""A campaign over forty workloads on a real API server: order, limits, stop, and who is left alone.

The shipped playbook with a quarantine before it and a release after it; the product's own server as
an account with the declared rights. One workload's rollout fails.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from responder.model import Role
from responder.playbook.shipped import shipped_texts
from responder.service import Who
from responder.settings import Settings
from responder.store.interface import Event
from responder.wiring import load_settings
from tests.adapters.flux.cluster import Flux
from tests.adapters.kubernetes import stage
from tests.doubles.github_pulls import Pulls
from tests.journeys.gitops import FILES, Outside, hands, outside
from tests.journeys.real import Hosted, Server, Story, grant, hosted, serving
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import wait_until

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(420)]

BEN = Who(person="ben", role=Role.ADMIN, door="test")
LABEL = "responder.dev/quarantine"
KEY = "responder.dev/redeploy-key"
OLD_DIGEST = stage.OLD.rpartition("@")[2]
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "CronJob")
SICK = "deployment-12"
NAMES = (
    *(("Deployment", f"deployment-{n:02}") for n in range(24)),
    *(("StatefulSet", f"statefulset-{n}") for n in range(6)),
    *(("DaemonSet", f"daemonset-{n}") for n in range(4)),
    *(("CronJob", f"cronjob-{n}") for n in range(6)),
)
TRACKED = "argocd.argoproj.io/tracking-id"
FLUX = "kustomize.toolkit.fluxcd.io"
# each but the last is in the image map: what others own is mended in the file that it comes from
GITOPS: Mapping[str, Mapping[str, Any]] = {
    "argo": {"annotations": {TRACKED: "argo:apps/Deployment:NAMESPACE/argo"}},
    "auto": {"annotations": {TRACKED: "auto:apps/Deployment:NAMESPACE/auto"}},
    "flux": {"labels": {f"{FLUX}/name": "shop", f"{FLUX}/namespace": "NAMESPACE"}},
    "helm": {"annotations": {"meta.helm.sh/release-name": "shop"}},
    "lost": {"annotations": {"meta.helm.sh/release-name": "lost"}},
}
MENDED = ("argo", "auto", "flux", "helm")
ISOLATE = """steps:
  isolate:
    use: kubernetes.quarantine_pod
    with: {pod: "${{ inputs.pod }}"}
"""
RELEASE = """  release:
    use: kubernetes.release_pod
    needs: [rest]
    with: {pod: "${{ inputs.pod }}"}
finally:
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
{outside}
"""


def playbook() -> str:
    """The shipped one, between a quarantine and its release."""
    text = shipped_texts()["roll-out-everywhere"]
    inputs = "        pod: {type: kubernetes.pod, required: true, summary: the suspect}\n"
    text = text.replace("      inputs:\n", f"      inputs:\n{inputs}", 1)
    text = text.replace("steps:\n", ISOLATE, 1).replace("finally:\n", RELEASE, 1)
    return text.replace("    use: kubernetes.find_workloads\n    with: {digest", _FIRST, 1)


_FIRST = "    use: kubernetes.find_workloads\n    needs: [isolate]\n    with: {digest"


@dataclass(frozen=True)
class Place:
    """One namespace with everything in it, and the settings of the product for it."""

    plane: ControlPlane
    namespace: str
    settings: Settings
    host: Hosted[Outside]

    @property
    def pulls(self) -> Pulls:
        """What was committed and proposed."""
        return self.host.value.pulls

    def path(self, kind: str, name: str = "") -> str:
        """Where an object lives."""
        group = "batch" if kind == "CronJob" else "apps"
        base = f"/apis/{group}/v1/namespaces/{self.namespace}/{kind.lower()}s"
        return f"{base}/{name}" if name else base

    def all(self) -> dict[str, Any]:
        """Every workload by name."""
        lists = [self.plane.must("GET", self.path(kind))["items"] for kind in KINDS]
        return {item["metadata"]["name"]: item for items in lists for item in items}

    def lift(self) -> None:
        """Somebody takes the suspect's label away while the campaign goes on."""
        assert self.isolated()
        path = f"/api/v1/namespaces/{self.namespace}/pods/solo"
        self.plane.must("PATCH", path, {"metadata": {"labels": {LABEL: None}}})

    def isolated(self) -> bool:
        """Whether the suspect is still in quarantine: its label, and a policy for it."""
        pod = self.plane.must("GET", f"/api/v1/namespaces/{self.namespace}/pods/solo")
        group = f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies"
        return LABEL in pod["metadata"].get("labels", {}) and bool(
            self.plane.must("GET", group)["items"]
        )


def image_of(item: Mapping[str, Any]) -> str:
    """The image in a template."""
    spec = item["spec"].get("jobTemplate", {}).get("spec", item["spec"])
    return str(spec["template"]["spec"]["containers"][0]["image"])


@pytest.fixture
def place(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Place]:
    """Forty workloads, five that others own, one suspect, and the product's account."""
    with hosted(lambda: outside(OLD_DIGEST)) as host:
        host.value.app("argo", namespace)
        host.value.app("auto", namespace, automated={"selfHeal": True})
        Flux(control_plane, namespace).make()
        yield set_up(control_plane, namespace, tmp_path, host)


def set_up(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, host: Hosted[Outside]
) -> Place:
    """The stage of one campaign."""
    stage.bare(control_plane, namespace, bound=True)
    for kind, name in NAMES:
        if kind == "CronJob":
            stage.cron_job(control_plane, namespace, name)
        else:
            stage.workload(control_plane, namespace, kind, name, replicas=1)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/roll-out-everywhere.yaml").write_text(playbook())
    token = control_plane.token_for(namespace, "responder")
    kubeconfig = control_plane.kubeconfig(token)
    world = host.value
    text = CONFIG.format(
        folder=tmp_path, kubeconfig=kubeconfig, namespace=namespace, outside=world.config()
    )
    (tmp_path / "config.toml").write_text(text)
    settings = load_settings(tmp_path / "config.toml", environ=world.secrets())
    made = Place(control_plane, namespace, settings, host)
    for name, marks in GITOPS.items():
        stage.workload(control_plane, namespace, "Deployment", name, replicas=1)
        mine = json.loads(json.dumps(marks).replace("NAMESPACE", namespace))
        control_plane.must("PATCH", made.path("Deployment", name), {"metadata": mine})
    with serving(settings) as server:
        grant(control_plane, (namespace, "responder"), namespace, server.app)
    rule = {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["patch"]}
    wait_until(lambda: stage._may(control_plane, token, namespace, rule), "the rights")
    return made


def running(place: Place, ahead: int = 0) -> bool:
    """Whether all have their one pod, so many of them with the new image, and no other is left."""
    found = place.plane.must("GET", f"/api/v1/namespaces/{place.namespace}/pods")["items"]
    ready = [pod for pod in found if stage.is_ready(pod)]
    new = [pod for pod in ready if stage.NEW in str(pod["spec"])]
    return len(found) == len(ready) == 24 + 6 + 4 + len(GITOPS) + 1 and len(new) == ahead


def started(place: Place, server: Server) -> Story:
    """The campaign, begun by hand; a person says yes to the isolation and to the canary's plan."""
    inputs = {"pod": f"{place.namespace}/solo", "old": OLD_DIGEST, "image": stage.NEW}
    begun = server.host.call(
        server.app.service.start(BEN, "roll-out-everywhere", inputs, "campaign")
    )
    story = Story(server.door("vic", Role.VIEWER), begun["incident"])
    ann = server.door("ann", Role.APPROVER)
    story.approve("isolate", ann)  # nobody else serves what the suspect serves

    def asked() -> bool:
        run = story.run()
        assert not run["outcome"], story.told()
        return any(one["id"] == "canary[0]" for one in run["steps"])

    wait_until(asked, "a canary")
    story.approve("canary[0]", ann)
    return story


def journal(server: Server, *types: str) -> list[tuple[str, str]]:
    """What happened to the elements of the waves, in order: type and step."""
    found: list[Event] = []
    for kind in types:
        found += server.host.call(server.app.store.recent_events(kind, 0))
    ordered = sorted(found, key=lambda event: event.seq)
    return [(event.type, str(event.data["step"])) for event in ordered if "[" in str(event.data)]


def test_a_campaign_stops_at_the_first_failure_and_nothing_goes_back(place: Place) -> None:
    """C6: canary, waves, at most so many at once, stop, quarantine restored, GitOps left alone."""
    ill = threading.Event()
    ill.set()

    def sick(pod: dict[str, Any]) -> bool:
        mine = pod["metadata"].get("labels", {}).get("app") == SICK
        return ill.is_set() and mine and stage.NEW in str(pod["spec"])

    with FakeKubelet(place.plane, place.namespace, sick):
        wait_until(lambda: running(place), "every pod to run", 120)
        before = place.all()
        with serving(place.settings) as server:
            story = started(place, server)
            place.lift()
            wait_until(lambda: story.run()["outcome"], "the end of the campaign", 240)
            assert story.run()["outcome"] == "failed", story.told()
            said = journal(server, "apply_started", "step_done", "step_failed")
            check_order(said)
            check_stop(said, story, place.all(), before)
            check_gitops(place, story, before)
            wait_until(place.isolated, "the quarantine to be restored", 60)
            assert story.step("release")["status"] == "skipped"
        ill.clear()


def check_order(said: list[tuple[str, str]]) -> None:
    """One canary first and alone, then four, two at once, then the others, five at once."""
    begun = [step for kind, step in said if kind == "apply_started" and step.startswith(WAVES)]
    assert begun[0] == "canary[0]"
    assert {step.partition("[")[0] for step in begun[1:5]} == {"early"}
    ends = {step: n for n, (kind, step) in enumerate(said) if kind != "apply_started"}
    starts = {step: n for n, (kind, step) in enumerate(said) if kind == "apply_started"}
    assert ends["canary[0]"] < starts["early[0]"]
    assert max(ends[f"early[{n}]"] for n in range(4)) < starts["rest[0]"]
    for wave, most in (("early", 2), ("rest", 5)):
        going = highest = 0
        for kind, step in said:
            if step.startswith(f"{wave}["):
                going += 1 if kind == "apply_started" else -1
                highest = max(highest, going)
        assert highest == most, (wave, highest)


WAVES = ("canary[", "early[", "rest[")


def check_stop(
    said: list[tuple[str, str]], story: Story, now: dict[str, Any], before: dict[str, Any]
) -> None:
    """After the failure nothing is begun; no template was written twice, so nothing went back."""
    [failure] = [n for n, (kind, step) in enumerate(said) if kind == "step_failed" and "[" in step]
    assert not [step for kind, step in said[failure:] if kind == "apply_started"]
    [failed] = [
        one for one in story.run()["steps"] if one["status"] == "failed" and "[" in one["id"]
    ]
    assert SICK in failed["error"], failed
    assert "does not come back by itself: roll a third image out" in failed["error"]
    done = {name for kind, name in NAMES if image_of(now[name]) == stage.NEW}
    left = {name for kind, name in NAMES if image_of(now[name]) == stage.OLD}
    assert len(done) + len(left) == 40
    assert SICK in done
    assert "deployment-00" in done
    assert len(left) > 10, left
    for name in left:
        assert now[name]["metadata"]["generation"] == before[name]["metadata"]["generation"]
    for name in done:
        assert now[name]["metadata"]["generation"] == before[name]["metadata"]["generation"] + 1


def check_gitops(place: Place, story: Story, before: dict[str, Any]) -> None:
    """Not one byte of theirs is ours: each has a pull request, and nothing was merged."""
    now = place.all()
    for name in GITOPS:
        assert now[name]["spec"] == before[name]["spec"]
        assert KEY not in now[name]["metadata"].get("annotations", {})
    assert place.pulls.git.made == Counter(fork=4, push=4, open=4)
    proposed = {commit: place.pulls.git.commits[commit] for commit in branches(place)}
    base = place.pulls.git.commits[place.host.value.head]
    told = [{f for f, text in files.items() if text != base[f]} for files in proposed.values()]
    assert sorted(map(tuple, told)) == sorted((FILES[name],) for name in MENDED)
    assert all(stage.NEW.rpartition("@")[2] in str(files) for files in proposed.values())
    assert story.step("merge")["status"] == "skipped"
    assert place.host.value.argo.syncs.total() == 0
    text = "\n".join(story.step("find")["residual"])
    for name, owner in (("argo", "Argo CD"), ("flux", "Flux"), ("helm", "Helm")):
        assert f"Deployment/{name} in {place.namespace}" in text
        assert f'({owner}) still runs the image: the change "{name}" of the image map' in text
    assert "(Helm) still runs the image: open a pull request to the values of release lost" in text
    assert "Pod/solo" not in text  # in quarantine: evidence, no place to roll out
    last = "\n".join(story.step("finally_1")["residual"])
    assert "still runs the image" in last


def branches(place: Place) -> list[str]:
    """The newest commit of every branch that was made."""
    git = place.pulls.git
    return [git.branches[name] for name in git.own()]


def test_a_second_campaign_takes_what_the_first_one_left(place: Place) -> None:
    """All forty by digest, what others own by its own tool, and then the quarantine ends."""
    with (
        FakeKubelet(place.plane, place.namespace),
        hands(place.plane, place.namespace, place.host.value),
    ):
        wait_until(lambda: running(place), "every pod to run", 120)
        for name in ("deployment-00", "deployment-01"):  # as an earlier campaign left them
            item = place.plane.must("GET", place.path("Deployment", name))
            item["spec"]["template"]["spec"]["containers"][0]["image"] = stage.NEW
            place.plane.must("PUT", place.path("Deployment", name), item)
        wait_until(lambda: running(place, ahead=2), "the first two to run the new image", 120)
        with serving(place.settings) as server:
            story = started(place, server)
            merged(story, server, len(MENDED))
            story.ended(300)
            now = place.all()
            assert {image_of(now[name]) for _, name in NAMES} == {stage.NEW}
            assert KEY not in now["deployment-00"]["metadata"].get("annotations", {})
            waves = [step for _, step in journal(server, "apply_started") if step.startswith(WAVES)]
            assert len(waves) == 38
            assert not place.isolated()
            check_arrival(place, story, now)


def merged(story: Story, server: Server, count: int) -> None:
    """A person says yes to each pull request, once every wave has ended."""
    ben = server.door("ann", Role.APPROVER)

    def asked() -> bool:
        run = story.run()
        assert not run["outcome"], story.told()
        asks = [one for one in run["steps"] if one["id"].startswith("merge[")]
        return len(asks) == count

    wait_until(asked, "every pull request to be asked about", 240)
    for number in range(count):
        story.approve(f"merge[{number}]", ben)


def check_arrival(place: Place, story: Story, now: dict[str, Any]) -> None:
    """Each mended by one merge, brought by its tool, proven by its pods; the fifth stays open."""
    world = place.host.value
    for name in MENDED:
        assert image_of(now[name]) == stage.NEW
        assert KEY not in now[name]["metadata"].get("annotations", {})
    assert image_of(now["lost"]) == stage.OLD
    assert world.pulls.git.made == Counter(fork=4, push=4, open=4, merge=4)
    [mark] = world.argo.syncs  # one sync of one application; the other one syncs by itself
    assert world.argo.syncs[mark] == 1
    assert [order["revision"] in world.pulls.git.commits for order in world.argo.orders] == [True]
    arrived = [one for one in story.run()["steps"] if one["id"].startswith("arrive[")]
    assert [one["verdict"] for one in arrived] == ["enforced"] * 4
    last = "\n".join(story.step("finally_1")["residual"])
    assert "Deployment/lost" in last
    assert "Deployment/argo" not in last
