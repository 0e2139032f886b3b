"""The client against a server that misbehaves, and the actions behind a line that loses answers."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
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
from tests.adapters.kubernetes import stage
from tests.real.cluster import ControlPlane

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CANARY = "canary-7c1f"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A loopback server that answers everything with one handler; its URL."""
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


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
async def test_a_kubeconfig_with_token_and_authority_works(control_plane: ControlPlane) -> None:
    """TLS is verified against the kubeconfig's own authority."""
    table = {"kubeconfig": str(control_plane.kubeconfig())}
    connection = Connection("prod", read({"prod": table})["prod"], World())
    try:
        assert (await connection.api().get("/version"))["major"] == "1"
    finally:
        await connection.close()


@pytest.mark.control_plane
async def test_a_token_file_that_ends_in_a_line_break_works(
    control_plane: ControlPlane, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mounted into a pod, or written there by a person."""
    token = tmp_path / "token"
    token.write_text(control_plane.admin_token + "\n")
    where = control_plane.api.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", where[0])
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", where[2])
    loader = "kubernetes.aio.config.incluster_config"
    monkeypatch.setattr(f"{loader}.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{loader}.SERVICE_CERT_FILENAME", str(control_plane.ca))
    connection = Connection("prod", read({"prod": {"in_cluster": True}})["prod"], World())
    try:
        assert await connection.api().items("/api/v1/namespaces")
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


# --------------------------------------------------------------------------- lost answers


class Line:
    """A line to the real API server that does the call and loses the answer of chosen writes."""

    def __init__(self, plane: ControlPlane, *, lose: int, before: bool) -> None:
        self.lose, self.before = lose, before
        self.writes: list[str] = []
        self._plane = plane
        self._trust = ssl.create_default_context(cafile=str(plane.ca))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward one request."""
        real = request.method != "GET" and "reviews" not in request.path
        number = len(self.writes)
        lost = real and number == self.lose
        if real:
            self.writes.append(request.method)
        if not (lost and self.before):
            answer = await self._forward(request)
        if lost:
            assert request.transport
            request.transport.abort()
            return web.Response()
        return answer

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        kept = {k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type")}
        link = aiohttp.TCPConnector(ssl=self._trust, force_close=True)
        async with (
            aiohttp.ClientSession(connector=link) as session,
            session.request(
                request.method,
                f"{self._plane.api}{request.path_qs}",
                data=await request.read(),
                headers=kept,
            ) as answer,
        ):
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                content_type=answer.content_type,
            )


@asynccontextmanager
async def lossy(plane: ControlPlane, lose: int, *, before: bool) -> AsyncIterator[tuple[Any, Line]]:
    """The product behind a line that loses one write's answer (or the write itself)."""
    line = Line(plane, lose=lose, before=before)
    async with serving(line.handle) as url:
        made = stage.setup(
            {"prod": {"api": url, "token": plane.admin_token, "dry_run_plans": False}},
            World(),
            stage.Kit(evidence=stage.Shelf()),
        )
        try:
            yield made, line
        finally:
            assert made.close
            await made.close()


@pytest.mark.control_plane
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("lose", [0, 1, 2, 3])
async def test_a_lost_answer_changes_nothing_about_the_end(
    control_plane: ControlPlane, namespace: str, lose: int, before: bool
) -> None:
    """Create, label, restore, delete: each lost once, before or after it took effect."""
    stage.bare(control_plane, namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    rules = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    origin = stage.read(control_plane, path)[1]
    async with lossy(control_plane, lose, before=before) as (made, line):
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        doer = stage.action(made, "quarantine_pod")
        verdict = await doer.verify(request, plan, result)
        assert verdict.level.value == "applied"
        assert len(stage.read(control_plane, rules)[1]["items"]) == 1
        await doer.undo(request, plan, result)
    assert len(line.writes) >= 4
    assert stage.plain(stage.read(control_plane, path)[1]) == stage.plain(origin)
    assert stage.read(control_plane, rules)[1]["items"] == []


@pytest.mark.control_plane
@pytest.mark.parametrize("before", [True, False])
async def test_a_rollout_whose_answer_is_lost_is_begun_once(
    control_plane: ControlPlane, namespace: str, before: bool
) -> None:
    """The generation moves by exactly one."""
    stage.workload(control_plane, namespace, "Deployment", replicas=0)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/cart"
    first = stage.read(control_plane, path)[1]["metadata"]["generation"]
    async with lossy(control_plane, 0, before=before) as (made, _):
        request = stage.call(
            "redeploy",
            stage.Target(namespace=namespace),
            workload="Deployment/cart",
            image=stage.NEW,
        )
        await stage.perform(made, request)
    assert stage.read(control_plane, path)[1]["metadata"]["generation"] == first + 1
