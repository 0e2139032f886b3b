"""A real Alertmanager at the real door: what fires is stored and acted on, once; what ends is kept.

The cluster behind the server is the sandbox, so that "acted on" can be counted.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from responder.errors import StoreUnavailable
from responder.model import Role
from responder.sandbox.world import SandboxWorld
from responder.store.interface import Accept, Receipt
from responder.store.sqlite import SqliteStore
from responder.wiring.sandboxed import sandbox_settings
from tests.journeys.real import Door, Hosted, Story, hosted, serving
from tests.real.alertmanager import AlertmanagerFactory
from tests.real.prometheus import Figures, prometheus
from tests.real.waiting import wait_until

SECRET = "alertmanager-says-so"
PLAYBOOK = Path(__file__).parent / "playbooks/isolate-on-alert.yaml"


class FullStore(SqliteStore):
    """A store whose disk is full for new alerts until somebody makes room."""

    full = True
    refused = 0

    async def accept(self, items: Sequence[Accept]) -> list[Receipt]:
        """Refuse while full, as the writer does when the disk takes nothing."""
        if self.full:
            self.refused += 1
            raise StoreUnavailable("the disk is full")
        return await super().accept(items)


@pytest.fixture
def sandbox() -> Iterator[Hosted[SandboxWorld]]:
    """A rehearsal world with three pods of a shop."""
    with hosted(SandboxWorld) as host:
        yield host


def settings(sandbox: Hosted[SandboxWorld], folder: Path) -> Any:
    """A server beside the sandbox with a hook for Alertmanager."""
    (folder / "secret").write_text(SECRET)
    hook = {
        "source": "alertmanager",
        "cluster": "sandbox",
        "auth": {"bearer": {"file": str(folder / "secret")}},
    }
    return sandbox_settings(
        json.loads(sandbox.value.addresses()),
        folder,
        hooks__alertmanager=hook,
        playbooks__folders=[str(PLAYBOOK)],
        playbooks__shipped=[],
    )


def labels_of(sandbox: Hosted[SandboxWorld]) -> dict[str, str]:
    """The labels of a critical alert about a pod that runs."""
    name = sandbox.look(lambda world: world.pod()["metadata"]["name"])
    return {
        "alertname": "ShellInContainer",
        "severity": "critical",
        "namespace": "shop",
        "pod": str(name),
    }


def kinds(door: Door, number: int) -> list[str]:
    """The kinds of an incident's alerts, the oldest first."""
    items = door.get(f"/v1/incidents/{number}/alerts")["items"]
    return [item["alert"]["kind"] for item in reversed(items)]


def test_what_fires_is_acted_on_once_and_what_ends_starts_nothing(
    sandbox: Hosted[SandboxWorld], alertmanager: AlertmanagerFactory, tmp_path: Path
) -> None:
    """Firing: one incident, one run, one isolation. Resolved: one more line, nothing else."""
    labels = labels_of(sandbox)
    with serving(settings(sandbox, tmp_path)) as server:
        door = server.door("vic", Role.VIEWER)
        sender = alertmanager(f"{server.url}/v1/hooks/alertmanager", token=SECRET)
        sender.fire(labels, {"summary": "a shell"})
        wait_until(lambda: door.get("/v1/incidents")["items"], "the incident")
        story = Story(door, 1)
        story.ended()
        assert kinds(door, 1) == ["detection"]
        done = sandbox.look(SandboxWorld.effects)
        assert done["relabels"] == {f"shop/{labels['pod']}": 1}
        sender.resolve(labels)
        wait_until(lambda: len(kinds(door, 1)) > 1, "the end of the alert")
        assert kinds(door, 1) == ["detection", "resolved"]
        [incident] = door.get("/v1/incidents")["items"]
        assert incident["status"] == "contained"
        assert story.run()["outcome"] == "succeeded"
        assert sandbox.look(SandboxWorld.effects) == done
        print(f"\n{story.told()}")


def test_an_alert_that_could_not_be_stored_comes_again_and_is_stored_once(
    sandbox: Hosted[SandboxWorld], alertmanager: AlertmanagerFactory, tmp_path: Path
) -> None:
    """503 while the store is full; Alertmanager tries again by itself, and nothing is lost."""
    labels = labels_of(sandbox)
    store = FullStore(tmp_path / "responder.db")
    with serving(settings(sandbox, tmp_path), store) as server:
        door = server.door("vic", Role.VIEWER)
        sender = alertmanager(f"{server.url}/v1/hooks/alertmanager", token=SECRET)
        sender.fire(labels)
        wait_until(lambda: store.refused >= 2, "Alertmanager to try again")
        hook = "/v1/hooks/alertmanager"
        status, problem, headers = door.ask("POST", hook, [{"labels": labels}], SECRET)
        assert (status, problem["status"]) == (503, 503)
        assert int(headers["Retry-After"]) > 0
        assert door.get("/v1/incidents")["items"] == []
        assert sandbox.look(SandboxWorld.effects) == {}
        store.full = False
        wait_until(lambda: door.get("/v1/incidents")["items"], "the alert to be stored")
        Story(door, 1).ended()
        assert kinds(door, 1) == ["detection"]
        assert sandbox.look(SandboxWorld.effects)["relabels"] == {f"shop/{labels['pod']}": 1}
        sender.resolve(labels)  # the next delivery: had the first one come twice, it would be here
        wait_until(lambda: "resolved" in kinds(door, 1), "the end of the alert")
        assert kinds(door, 1) == ["detection", "resolved"]
        assert len(door.get("/v1/incidents")["items"]) == 1


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_what_prometheus_sees_comes_through_a_full_store_once_and_ends_as_it_began(
    sandbox: Hosted[SandboxWorld], alertmanager: AlertmanagerFactory, tmp_path: Path
) -> None:
    """It rises: 503 until there is room, then one isolation. It falls: one line, nothing else."""
    labels = labels_of(sandbox)
    place = {key: labels[key] for key in ("namespace", "pod")}
    figures = Figures()
    figures.set(place, 0)
    store = FullStore(tmp_path / "responder.db")
    with serving(settings(sandbox, tmp_path), store) as server:
        door = server.door("vic", Role.VIEWER)
        sender = alertmanager(f"{server.url}/v1/hooks/alertmanager", token=SECRET)
        with prometheus(sender.url, figures, labels["severity"]):
            assert store.refused == 0
            figures.set(place, 1)
            wait_until(lambda: store.refused >= 2, "Alertmanager to try again", 40)
            assert door.get("/v1/incidents")["items"] == []
            assert sandbox.look(SandboxWorld.effects) == {}
            store.full = False
            wait_until(lambda: door.get("/v1/incidents")["items"], "the alert to be stored")
            story = Story(door, 1)
            story.ended()
            assert kinds(door, 1) == ["detection"]
            figures.set(place, 0)
            wait_until(lambda: "resolved" in kinds(door, 1), "the end of the alert", 40)
        assert kinds(door, 1) == ["detection", "resolved"]
        assert len(door.get("/v1/incidents")["items"]) == 1
        assert sandbox.look(SandboxWorld.effects)["relabels"] == {f"shop/{labels['pod']}": 1}
        print(f"\n{story.told()}\nrefused with 503: {store.refused}")
