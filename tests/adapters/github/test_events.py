"""Which of GitHub's events say what, and how often a delivery is heard."""

import json
from typing import Any

import pytest

from integrations.github.webhook import EVENTS, GitHubHints, hint
from responder.clock import SECOND, World
from responder.ports import HookInfo
from tests.doubles.corpus import corpus

HOOK = HookInfo(name="github", source="github")
OTHER = HookInfo(name="other", source="github")
REPO = {"repository": {"full_name": "Acme/Shop"}}
CALLBACK = "https://api.github.com/repos/acme/shop/actions/runs/4711/deployment_protection_rule"
WORKFLOW_RUN = {"workflow_run": {"id": 4711, "display_title": ""}}


def told(event: str, **data: Any) -> list[str]:
    """Return the hints of one event."""
    return hint({"x-github-event": event}, json.dumps({**REPO, **data}).encode())


@pytest.mark.parametrize(
    ("event", "data", "marks"),
    [
        ("workflow_run", WORKFLOW_RUN, ["4711"]),
        ("workflow_run", {"workflow_run": {"id": True}}, []),
        ("workflow_job", {"action": "waiting", "workflow_job": {"run_id": 4711}}, ["4711"]),
        ("workflow_job", {"action": "completed", "workflow_job": {"run_id": 4711}}, ["4711"]),
        ("workflow_job", {"action": "queued", "workflow_job": {"run_id": 4711}}, []),
        ("workflow_job", {"action": "in_progress", "workflow_job": {"run_id": 4711}}, []),
        ("workflow_job", {"action": ["x"], "workflow_job": {"run_id": 4711}}, []),
        ("deployment_status", {"deployment": {"id": 9}}, ["deployment-9"]),
        (
            "deployment_status",
            {"deployment": {"id": 9}, **WORKFLOW_RUN},
            ["deployment-9", "4711"],
        ),
        ("deployment_status", {"deployment": None, "workflow_run": None}, []),
        ("deployment_protection_rule", {"deployment_callback_url": CALLBACK}, ["4711"]),
        (
            "deployment_protection_rule",
            {"deployment_callback_url": CALLBACK, "deployment": {"id": 9}},
            ["4711", "deployment-9"],
        ),
        ("deployment_protection_rule", {"deployment_callback_url": f"{CALLBACK}/../x"}, []),
        ("deployment_protection_rule", {"deployment_callback_url": 7}, []),
        ("push", WORKFLOW_RUN, []),
        ("ping", {}, []),
        ("", WORKFLOW_RUN, []),
    ],
)
def test_each_event_names_what_a_step_can_wait_for(
    event: str, data: dict[str, Any], marks: list[str]
) -> None:
    """Runs by number, deployments as `deployment-9`; every other event wakes nobody."""
    assert told(event, **data) == [f"github:acme/shop:{mark}" for mark in marks]


def test_recorded_deliveries_of_every_event_are_understood() -> None:
    """The vendor's own examples: each with a run or deployment names it, the others are silent."""
    folder = corpus()
    if folder is None:
        pytest.skip("no shared corpus")
    recorded = json.loads((folder / "openapi" / "github-webhook-examples.json").read_text())
    wanted = {"workflow_run": 4, "workflow_job": 2, "deployment_status": 4, "pull_request": 1}
    for event in recorded:
        said = [
            hint({"x-github-event": event["name"]}, json.dumps(one).encode())
            for one in event["examples"]
        ]
        assert sum(map(bool, said)) == wanted.get(event["name"], 0), event["name"]
    assert {"deployment_protection_rule", *wanted} == set(EVENTS)


def delivery(number: int, event: str = "workflow_run", guid: str = "g-1") -> tuple[Any, bytes]:
    """Return headers and body of a delivery about one run."""
    about = {"workflow_run": {"id": number}, "workflow_job": {"run_id": number}}[event]
    body = json.dumps({**REPO, "action": "completed", event: about, "n": guid}).encode()
    return {"x-github-event": event, "x-github-delivery": guid}, body


async def test_a_redelivery_wakes_nobody_again() -> None:
    """The id stays the same on redelivery; the other hook's deliveries are its own."""
    source, (headers, body) = GitHubHints(World()), delivery(4711)
    assert source.hints(headers, body, HOOK) == ["github:acme/shop:4711"]
    await source.follow(headers, body, HOOK)
    assert source.hints(headers, body, HOOK) == []
    assert source.hints(headers, body, OTHER) != []


async def test_the_same_signed_bytes_under_a_new_id_wake_nobody() -> None:
    """Nobody signs the id: a replay with another one is still the same delivery."""
    source, (headers, body) = GitHubHints(World()), delivery(4711)
    await source.follow(headers, body, HOOK)
    assert source.hints({**headers, "x-github-delivery": "g-2"}, body, HOOK) == []


async def test_a_delivery_that_could_not_be_stored_is_heard_when_it_is_sent_again() -> None:
    """Only `follow` makes it heard, and that comes after the hints are on disk."""
    source, (headers, body) = GitHubHints(World()), delivery(4711)
    assert source.hints(headers, body, HOOK)
    assert source.hints(headers, body, HOOK)


async def test_no_sender_can_make_the_memory_grow() -> None:
    """The oldest are forgotten; that costs a look at most."""
    source = GitHubHints(World())
    for number in range(5000):
        await source.follow(*delivery(number, guid=f"g-{number}"), HOOK)
    first, last = delivery(0, guid="g-0"), delivery(4999, guid="g-4999")
    assert source.hints(*first, HOOK)
    assert source.hints(*last, HOOK) == []


class Stepping:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        """Microseconds."""
        return self.time

    def monotonic(self) -> float:
        """Seconds."""
        return self.time / SECOND

    async def sleep(self, seconds: float) -> None:
        """Move."""
        self.time += int(seconds * SECOND)


async def test_a_run_of_many_jobs_wakes_its_step_every_fifteen_seconds_at_most() -> None:
    """Fifty jobs that end together are one look; the end of the run itself is always heard."""
    clock = Stepping()
    source, woken = GitHubHints(World(clock=clock)), 0
    for number in range(50):
        sent = delivery(4711, "workflow_job", f"g-{number}")
        woken += len(source.hints(*sent, HOOK))
        await source.follow(*sent, HOOK)
        await clock.sleep(0.1)
    assert woken == 1
    assert source.hints(*delivery(4711, guid="end"), HOOK)
    assert source.hints(*delivery(4712, "workflow_job", "another"), HOOK)
    await clock.sleep(15)
    assert source.hints(*delivery(4711, "workflow_job", "later"), HOOK)
