"""The client against a server that misbehaves, and the actions behind a line that loses answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from integrations.kubernetes.client import Api, Connection
from integrations.kubernetes.settings import read
from responder.clock import World
from responder.errors import (
    ConfigError,
    Conflict,
    NotFound,
    ResponderError,
    StepFailed,
    StepRetry,
    Uncertain,
)
from responder.model import Secret
from tests.adapters.kubernetes.stage import Handler, serving
from tests.real.cluster import ControlPlane

CANARY = "canary-7c1f"


@asynccontextmanager
async def client(url: str, lane: str = "bulk", **settings: Any) -> AsyncIterator[Api]:
    """The client for a URL."""
    table = {"api": url, "token": Secret("tok-1"), **settings}
    connection = Connection("prod", read({"prod": table})["prod"], World())
    try:
        yield connection.api(lane)
    finally:
        await connection.close()


def answering(status: int, message: str = "", headers: dict[str, str] | None = None) -> Handler:
    """A handler that always gives one Status."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        body = {"kind": "Status", "message": message, "code": status}
        return web.json_response(body, status=status, headers=headers)

    return handler


@pytest.mark.parametrize(
    ("status", "reading", "writing"),
    [
        (400, StepFailed, StepFailed),
        (401, StepFailed, StepFailed),
        (403, StepFailed, StepFailed),
        (404, NotFound, NotFound),
        (409, Conflict, Conflict),
        (422, StepFailed, StepFailed),
        (429, StepRetry, StepRetry),
        (500, StepRetry, Uncertain),
        (503, StepRetry, Uncertain),
    ],
)
async def test_a_status_becomes_a_failure_class(
    status: int, reading: type[ResponderError], writing: type[ResponderError]
) -> None:
    """A write that a 5xx answered may have happened; a read never did."""
    async with serving(answering(status, "reason")) as url, client(url) as api:
        with pytest.raises(reading, match=f"GET /x: HTTP {status}: reason"):
            await api.get("/x")
        with pytest.raises(writing, match=f"POST /x: HTTP {status}: reason"):
            await api.create("/x", {})


async def test_a_question_that_is_posted_leaves_no_doubt() -> None:
    """An access review changes nothing: a lost answer is asked for again."""
    async with serving(answering(503)) as url, client(url) as api:
        with pytest.raises(StepRetry):
            await api.ask("/x", {})


async def test_retry_after_is_obeyed() -> None:
    """The seconds that the server asks for are the seconds we wait."""
    handler = answering(429, headers={"Retry-After": "17"})
    async with serving(handler) as url, client(url) as api:
        with pytest.raises(StepRetry) as caught:
            await api.get("/x")
    assert caught.value.after == 17


async def test_a_message_is_cut_and_made_harmless() -> None:
    """An admission webhook's words go to a terminal."""
    message = "\x1b[2J" + "x" * 5000
    async with serving(answering(403, message)) as url, client(url) as api:
        with pytest.raises(StepFailed) as caught:
            await api.get("/x")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 700


async def test_a_body_that_is_no_status_stays_out_of_the_error() -> None:
    """A proxy's page may hold anything."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text=f"<html>{CANARY}</html>")

    async with serving(handler) as url, client(url) as api:
        with pytest.raises(StepRetry) as caught:
            await api.get("/x")
    assert CANARY not in str(caught.value)


async def test_a_silent_server_costs_one_deadline() -> None:
    """A read is retried later; a write may have happened."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(handler) as url, client(url, request_timeout=0.1) as api:
        with pytest.raises(StepRetry, match=r"no answer within 0\.1 s"):
            await api.get("/x")
        with pytest.raises(Uncertain, match="it may have happened"):
            await api.create("/x", {})


async def test_a_cut_line_makes_a_write_uncertain() -> None:
    """The request was sent; the answer never came."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.abort()
        return web.Response()

    async with serving(handler) as url, client(url) as api:
        with pytest.raises(StepRetry):
            await api.get("/x")
        with pytest.raises(Uncertain):
            await api.patch("/x", {})


async def test_nobody_listening_is_no_doubt() -> None:
    """A refused connection carried nothing: a write has certainly not happened."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with client(url) as api:
            with pytest.raises(StepRetry, match="cannot connect"):
                await api.create("/x", {})


async def test_containment_is_not_queued_behind_listings() -> None:
    """The bulk lane is full of silent calls; a call in the other lane is answered at once."""
    waiting = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/slow":
            await waiting.wait()
        return web.json_response({"ok": True})

    async with serving(handler) as url, client(url, max_in_flight=2) as bulk:
        urgent = bulk.connection.api("containment")
        slow = [asyncio.create_task(bulk.get("/slow")) for _ in range(6)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(urgent.get("/fast"), 2) == {"ok": True}
        waiting.set()
        await asyncio.gather(*slow)


async def test_a_log_is_cut_and_a_list_that_is_too_long_refused() -> None:
    """Nothing from outside has a free size."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/log":
            return web.Response(text="x" * 100_000)
        return web.json_response({"items": ["x" * 100_000]})

    async with serving(handler) as url, client(url) as api:
        assert await api.text("/log", 1000) == b"x" * 1000
        with pytest.raises(StepFailed, match="more than 1000 bytes"):
            await api.text("/list", 1000)


async def test_a_redirect_is_not_followed_with_our_token() -> None:
    """Credentials go to the configured server and nowhere else."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        raise web.HTTPFound("/elsewhere")

    async with serving(handler) as url, client(url) as api:
        with pytest.raises(ResponderError):
            await api.get("/x")
    assert seen == ["/x"]


# --------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (
            {"kubeconfg": "x"},
            r"clusters\.prod\.kubeconfg: unknown key; did you mean \"kubeconfig\"",
        ),
        ({}, "exactly one of kubeconfig"),
        ({"api": "https://a", "in_cluster": True}, "exactly one of kubeconfig"),
        ({"api": "ftp://a"}, "must begin with"),
        ({"in_cluster": True, "token": "x"}, "belong to api"),
        ({"api": "https://a", "context": "x"}, "belongs to kubeconfig"),
        ({"api": "https://a", "pause": "x"}, "namespace/configmap"),
        ({"api": "https://a", "request_timeout": 0}, r"clusters\.prod\.request_timeout"),
        ({"api": "https://a", "token": 5}, r"clusters\.prod\.token"),
    ],
)
def test_a_wrong_table_is_refused_by_its_key(table: dict[str, Any], text: str) -> None:
    """Every error names the key; none shows a value."""
    with pytest.raises(ConfigError, match=text):
        read({"prod": table})


def test_a_mistyped_secret_is_not_shown() -> None:
    """A token under the wrong key stays unseen."""
    with pytest.raises(ConfigError) as caught:
        read({"prod": {"api": "https://a", "tokn": CANARY}})
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("way", ["exec", "auth-provider"])
async def test_a_kubeconfig_that_starts_programs_is_refused(tmp_path: Any, way: str) -> None:
    """Foreign code runs only where somebody asked for it."""
    marker = tmp_path / "ran"
    user = {way: {"command": "touch", "args": [str(marker)], "name": "gcp"}}
    path = tmp_path / "config"
    path.write_text(json.dumps(_kubeconfig("http://127.0.0.1:1", user)))
    connection = Connection("prod", read({"prod": {"kubeconfig": str(path)}})["prod"], World())
    with pytest.raises(ConfigError, match=f"logs in through {way}"):
        await connection.api().get("/x")
    assert not marker.exists()


def _kubeconfig(server: str, user: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


@pytest.mark.control_plane
async def test_a_kubeconfig_with_token_and_authority_works(
    control_plane: ControlPlane, namespace: str
) -> None:
    """TLS is verified against the kubeconfig's own authority."""
    token = control_plane.token_for(namespace, "nobody")
    table = {"kubeconfig": str(control_plane.kubeconfig(token))}
    connection = Connection("prod", read({"prod": table})["prod"], World())
    try:
        assert (await connection.api().get("/version"))["major"] == "1"
    finally:
        await connection.close()


@pytest.mark.control_plane
async def test_a_token_file_that_ends_in_a_line_break_works(
    control_plane: ControlPlane, namespace: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mounted into a pod, or written there by a person."""
    token = tmp_path / "token"
    token.write_text(control_plane.token_for(namespace, "nobody") + "\n")
    where = control_plane.api.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", where[0])
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", where[2])
    loader = "kubernetes.aio.config.incluster_config"
    monkeypatch.setattr(f"{loader}.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{loader}.SERVICE_CERT_FILENAME", str(control_plane.ca))
    connection = Connection("prod", read({"prod": {"in_cluster": True}})["prod"], World())
    try:
        assert (await connection.api().get("/version"))["major"] == "1"
    finally:
        await connection.close()


async def test_credentials_that_are_missing_are_a_clear_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outside of a cluster there is nothing to find; the text says where to look."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    connection = Connection("prod", read({"prod": {"in_cluster": True}})["prod"], World())
    with pytest.raises(StepFailed, match=r"\[clusters\.prod\]"):
        await connection.api().get("/x")


async def test_a_name_is_looked_up_without_the_shared_executor() -> None:
    """The default executor is poisoned: a look-up through it would fail."""

    class Poison(ThreadPoolExecutor):
        def submit(self, *_args: Any, **_kwargs: Any) -> Any:
            raise AssertionError("the default executor was used")

    asyncio.get_running_loop().set_default_executor(Poison(1))
    async with (
        serving(answering(404)) as url,
        client(url.replace("127.0.0.1", "localhost")) as api,
    ):
        with pytest.raises(NotFound):
            await api.get("/x")


@pytest.mark.control_plane
async def test_an_authority_that_did_not_sign_is_not_trusted(control_plane: ControlPlane) -> None:
    """Without the CA the connection fails before anything is sent."""
    async with client(control_plane.api) as api:
        with pytest.raises(StepRetry, match="Certificate"):
            await api.get("/version")
