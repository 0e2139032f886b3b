"""Webhooks of GitLab: proved by the secret token, read as hints, never believed."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from integrations._forge import correlation_id
from integrations.gitlab.webhook import GitLabHints, hint
from responder.clock import World
from responder.errors import Unauthorized
from responder.model import Secret
from responder.ports import HookInfo
from tests.adapters.gitlab.world import KEY, a_call, bench
from tests.doubles.corpus import corpus
from tests.doubles.gitlab import Hook
from tests.real.waiting import eventually

HOOK = HookInfo(
    name="gitlab",
    source="gitlab",
    auth={"header": {"name": "X-Gitlab-Token", "value": [Secret("old"), Secret("new")]}},
)
NAME = correlation_id(KEY, 1)


def delivery(kind: str, attributes: Any = None, **more: Any) -> bytes:
    """Return a delivery with the fields that are read."""
    project = {"path_with_namespace": "Acme/Shop"}
    body = {"object_kind": kind, "object_attributes": attributes, "project": project, **more}
    return json.dumps(body).encode()


@pytest.mark.parametrize("shown", ["old", "new"])
def test_either_of_two_secret_tokens_proves_a_delivery(shown: str) -> None:
    """Both hold while a token is being changed."""
    GitLabHints(World()).verify({"x-gitlab-token": shown}, b"{}", HOOK)


@pytest.mark.parametrize("headers", [{"x-gitlab-token": "wrong"}, {"x-gitlab-token": ""}, {}])
def test_a_wrong_or_missing_secret_token_is_refused(headers: dict[str, str]) -> None:
    """Nothing is read from a stranger, and the body not even received."""
    with pytest.raises(Unauthorized):
        GitLabHints(World()).verify(headers, b"{}", HOOK)
    with pytest.raises(Unauthorized):
        GitLabHints(World()).preverify(headers, HOOK)


@pytest.mark.parametrize(
    ("body", "marks"),
    [
        (delivery("pipeline", {"id": 31, "name": f"x {NAME}"}), ["31", NAME]),
        (
            delivery("pipeline", {"id": 31, "variables": [{"key": "C", "value": NAME}]}),
            ["31", NAME],
        ),
        (delivery("build", pipeline_id=31, commit={"name": f"x {NAME}"}), ["31", NAME]),
        (delivery("merge_request", {"iid": 7}), ["!7"]),
        (delivery("deployment", deployment_id=5), ["deployment-5"]),
        (delivery("push"), []),
        (delivery("a_new_kind", {"id": 31}), []),
    ],
)
def test_a_delivery_names_what_it_is_about(body: bytes, marks: list[str]) -> None:
    """Pipelines by number and correlation id; paths have no case; other events name nothing."""
    assert hint(body) == [f"gitlab:acme/shop:{mark}" for mark in marks]


def test_a_downstream_pipeline_names_the_one_that_started_it() -> None:
    """The step waits for the parent, and the child's end is news of it."""
    above = {"project": {"path_with_namespace": "acme/top"}, "pipeline_id": 30}
    body = delivery("pipeline", {"id": 31}, source_pipeline=above)
    assert hint(body) == ["gitlab:acme/shop:31", "gitlab:acme/top:30"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"project": 7}', b"[" * 9999])
def test_an_unreadable_delivery_is_no_hint_and_no_error(body: bytes) -> None:
    """A 4xx would switch the hook off for good; the slow look finds out anyway."""
    source = GitLabHints(World())
    assert source.hints({}, body, HOOK) == []
    assert source.parse({}, body, HOOK) == []


def test_recorded_deliveries_of_gitlab_are_understood() -> None:
    """The vendor's own examples name their pipeline."""
    folder = corpus()
    if folder is None:
        pytest.skip("no shared corpus")
    recorded = json.loads((folder / "openapi" / "gitlab-webhook-examples.json").read_text())
    found = {one["header"]: hint(json.dumps(one["payload"]).encode()) for one in recorded["events"]}
    assert "gitlab:gitlab-org/gitlab-test:31" in found["Pipeline Hook"]
    assert found.keys() >= {"Pipeline Hook", "Job Hook"}


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_deliveries_never_once_or_twice_lead_to_the_same_end(times: int) -> None:
    """Sent over HTTP with the token; the step ends well whatever arrives."""
    source, heard = GitLabHints(World()), []

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        source.verify(headers, body, HOOK)
        heard.append(source.hints(headers, body, HOOK))
        return web.Response(status=source.accepts_status)

    app = web.Application()
    app.router.add_post("/v1/hooks/gitlab", receive)
    async with TestServer(app) as server:
        hook = Hook(str(server.make_url("/v1/hooks/gitlab")), "new", times=times)
        async with bench(double={"hook": hook}) as b:
            pending = await b.apply(a_call())
            await eventually(lambda: asyncio.sleep(0, len(hook.answers) == times), "deliveries")
            await b.action.poll(a_call(), pending.state)
        assert hook.answers == [202] * times
        assert all(pending.correlation in one for one in heard)
        assert b.started() == 1
