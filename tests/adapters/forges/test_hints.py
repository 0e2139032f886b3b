"""A webhook about the end of a request wakes the step that waits for it, on both forges."""

import json
from typing import Any

import pytest

from integrations.github.webhook import hint as hub_hint
from integrations.gitlab.webhook import hint as lab_hint
from responder.ports import Pending
from tests.adapters.forges.test_merge import proposed

WAITING: dict[str, dict[str, Any]] = {
    "github": {"state": "blocked", "checked_after": -9},
    "gitlab": {"status": "not_approved", "refuses_auto": True, "pipeline_after": 0},
}


def delivery(kind: str, number: int) -> list[str]:
    """Return what is heard in the forge's own delivery about a merged request."""
    if kind == "github":
        told = {
            "action": "closed",
            "number": number,
            "pull_request": {"number": number, "merged": True},
            "repository": {"full_name": "Acme/Shop"},
        }
        return hub_hint({"x-github-event": "pull_request"}, json.dumps(told).encode())
    told = {
        "object_kind": "merge_request",
        "project": {"id": 10, "path_with_namespace": "acme/shop"},
        "object_attributes": {"iid": number, "state": "merged", "action": "merge"},
    }
    return lab_hint(json.dumps(told).encode())


@pytest.mark.parametrize("kind", WAITING)
async def test_the_end_of_a_request_is_heard(kind: str) -> None:
    """The step listens for exactly what the delivery names."""
    async with proposed(kind, settled_after=0, **WAITING[kind]) as (f, call, _), f.life() as life:
        now = await life.merge.apply(call, await life.merge.plan(call))
        assert isinstance(now, Pending)
        assert now.person
        assert now.correlation in delivery(kind, 1)
        assert now.correlation not in delivery(kind, 2)


def test_what_happens_to_an_open_pull_request_wakes_nobody() -> None:
    """Labels, comments and pushes are no end; a bad number is none either."""
    for told in ({"action": "labeled", "number": 1}, {"action": "closed", "number": "1"}, {}):
        body = json.dumps({**told, "repository": {"full_name": "acme/shop"}}).encode()
        assert hub_hint({"x-github-event": "pull_request"}, body) == []
