"""Webhooks of GitHub: proved by signature, read as hints, never believed."""

import asyncio
import hashlib
import hmac
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from integrations.github.runs import correlation_id, hint_of
from integrations.github.webhook import GitHubHints, hint
from responder.clock import World
from responder.errors import Unauthorized
from responder.model import Secret
from responder.ports import HookInfo
from tests.adapters.github.world import KEY, a_call, bench
from tests.doubles.corpus import corpus
from tests.doubles.hooks import Hook
from tests.real.waiting import eventually

SECRETS = [Secret("old-secret"), Secret("new-secret")]
HOOK = HookInfo(
    name="github",
    source="github",
    auth={"hmac": {"header": "X-Hub-Signature-256", "prefix": "sha256=", "secret": SECRETS}},
)
EVENT = {"x-github-event": "workflow_run"}


def delivery(**run: Any) -> bytes:
    """Return a workflow_run delivery with the fields that are read."""
    return json.dumps(
        {
            "action": "completed",
            "workflow_run": {"id": 4711, "display_title": f"x {correlation_id(KEY, 1)}", **run},
            "repository": {"full_name": "Acme/Shop"},
        }
    ).encode()


def signed(body: bytes, secret: str) -> dict[str, str]:
    """Return the headers of a delivery signed with a secret."""
    mark = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {**EVENT, "x-hub-signature-256": f"sha256={mark}"}


@pytest.mark.parametrize("secret", ["old-secret", "new-secret"])
def test_either_of_two_secrets_proves_a_delivery(secret: str) -> None:
    """Both hold while a secret is being changed."""
    GitHubHints(World()).verify(signed(delivery(), secret), delivery(), HOOK)


@pytest.mark.parametrize("headers", [signed(delivery(), "wrong"), EVENT, {}])
def test_an_unsigned_or_wrongly_signed_delivery_is_refused(headers: dict[str, str]) -> None:
    """Nothing is read from a stranger."""
    with pytest.raises(Unauthorized):
        GitHubHints(World()).verify(headers, delivery(), HOOK)


def test_a_delivery_names_the_run_and_its_correlation_id() -> None:
    """Both may be waited for; GitHub's names have no case."""
    assert hint(EVENT, delivery()) == [
        "github:acme/shop:4711",
        hint_of("acme/shop", correlation_id(KEY, 1)),
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"workflow_run": 7}', b'{"repository": {"full_name": null}}', b"[" * 9999],
)
def test_an_unreadable_delivery_is_no_hint(body: bytes) -> None:
    """The slow look finds out anyway."""
    assert hint(EVENT, body) == []


def test_another_event_is_no_hint_and_no_delivery_is_an_alert() -> None:
    """A push starts nothing and wakes nobody."""
    assert hint({"x-github-event": "push"}, delivery()) == []
    assert GitHubHints(World()).parse(EVENT, delivery(), HOOK) == []


async def test_what_a_step_waits_for_is_what_the_webhook_says() -> None:
    """The two sides agree on the text, with and without a known run id."""
    async with bench() as b:
        pending = await b.apply(a_call())
        assert pending.correlation in hint(EVENT, delivery())
        b.double.faults.without_details = True
        unknown = await b.apply(a_call(attempt=1))
        assert unknown.correlation in hint(EVENT, delivery())


async def test_a_delivery_over_http_is_proved_and_wakes_the_step_that_waits() -> None:
    """The forge's double signs and sends it, twice; both are authentic and say the same."""
    source, heard = GitHubHints(World()), []

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        source.verify(headers, body, HOOK)
        heard.append(source.hints(headers, body, HOOK))
        return web.Response(status=source.accepts_status)

    app = web.Application()
    app.router.add_post("/v1/hooks/github", receive)
    async with TestServer(app) as server:
        hook = Hook(str(server.make_url("/v1/hooks/github")), "new-secret", times=2)
        async with bench(double={"hook": hook}) as b:
            pending = await b.apply(a_call())
            await eventually(lambda: asyncio.sleep(0, len(hook.answers) == 2), "two deliveries")
        assert hook.answers == [202, 202]
        assert heard[0] == heard[1]
        assert pending.correlation in heard[0]


def test_recorded_deliveries_of_github_name_their_run() -> None:
    """The vendor's own examples are understood."""
    folder = corpus()
    if folder is None:
        pytest.skip("no shared corpus")
    recorded = json.loads((folder / "openapi" / "github-webhook-examples.json").read_text())
    events = recorded if isinstance(recorded, list) else recorded.get("events", [])
    found = [
        example
        for event in events
        if event.get("name") == "workflow_run"
        for example in event["examples"]
    ]
    if not found and isinstance(recorded, dict):
        found = list(recorded.get("workflow_run", []))
    assert found
    for example in found:
        marks = hint(EVENT, json.dumps(example).encode())
        assert marks[0].endswith(f":{example['workflow_run']['id']}")
