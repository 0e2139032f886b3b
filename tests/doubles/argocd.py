"""Argo CD's applications API on loopback: get, sync windows, live objects, sync; with faults.

Every request is held against Argo CD's own description (400 when it is wrong), and so is every
answer (``wrong_answers``, which tests assert to be empty). What its controller would do with an
operation is a script: one scene after another, each shown by one look at the application.

It refuses as Argo CD does: a second operation while one goes on, a pinned revision where it syncs
by itself, a shut sync window, and 403 for what is not there.
"""

import asyncio
import contextlib
import datetime as dt
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.doubles.argo_contract import HOST, answer_fault, request_fault
from tests.doubles.contract import Answered, Asked
from tests.doubles.faults import ACTING, LIMITS, Fault, Faults

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Json = dict[str, Any]
SLOW = 30.0  # longer than any time-out of a test
TOKEN = "argo-token-of-the-double"
OLD_COMMIT = "a" * 40
COMMIT = "c" * 40
REPO = "https://git.example/acme/deploy.git"
# scenes that a controller plays after it has been asked
GOOD = ("Running", "Succeeded/OutOfSync/Progressing", "Succeeded/Synced/Healthy")


@dataclass
class App:
    """One application; what the API shows of it is made from these."""

    name: str
    script: tuple[str, ...] = GOOD  # PHASE or PHASE/SYNC/HEALTH, one a look, the last stays
    automated: Json | None = None
    repo: str = REPO
    target: str = "main"
    sources: list[Json] = field(default_factory=list)
    revision: str = OLD_COMMIT  # what it runs
    sync: str = "OutOfSync"
    health: str = "Healthy"
    objects: list[tuple[str, str, str, str]] = field(
        default_factory=lambda: [("apps", "Deployment", "shop", "cart")]
    )
    images: dict[str, str] = field(default_factory=dict)  # revision -> image of its objects
    conditions: list[Json] = field(default_factory=list)
    can_sync: bool = True
    syncs_to: str = ""  # the revision that a sync really takes, where it is not the asked one
    message: str = ""
    operation: Json | None = None
    state: Json | None = None
    history: list[Json] = field(default_factory=list)
    compared: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    playing: list[str] = field(default_factory=list)
    more: Json = field(default_factory=dict)  # further parts of `spec` or `metadata`

    def ask(self, operation: Json) -> None:
        """Take an operation, as `SetAppOperation` does: the last one's state goes."""
        self.operation, self.state = operation, None
        self.playing = list(self.script)

    def look(self) -> None:
        """Play the next scene of the controller."""
        if not self.playing:
            return
        phase, _, rest = self.playing.pop(0).partition("/")
        if self.operation is not None:
            self.state = {"operation": self.operation, "startedAt": stamp(), "phase": phase}
        assert self.state is not None
        self.state["phase"] = phase
        if phase in {"Running", "Terminating"}:
            return
        done = self.operation
        self.operation = None
        if done is not None:
            self._finish(done, phase)
        if rest:
            self.sync, self.health = rest.split("/")
            self.compared = dt.datetime.now(dt.UTC)

    def _finish(self, operation: Json, phase: str) -> None:
        assert self.state is not None
        self.state["finishedAt"] = stamp()
        self.state["message"] = self.message or f"sync {phase.lower()}"
        asked = operation["sync"]
        at = self.syncs_to or asked.get("revision") or ""
        many = list(asked.get("revisions") or [])
        self.state["syncResult"] = {"revisions": many} if many else {"revision": at}
        if phase == "Succeeded":
            self.revision = next((one for one in many if one), at)
            entry = {"revisions": many} if many else {"revision": at}
            self.history.append({"id": len(self.history), "deployedAt": stamp(), **entry})

    def image(self) -> str:
        """The image of its objects at the revision that it runs."""
        return self.images.get(self.revision, "registry.example/shop/cart:1")

    def shown(self) -> Json:
        """The application as the API shows it."""
        source = {"repoURL": self.repo, "path": "shop", "targetRevision": self.target}
        spec: Json = {
            "project": "shop",
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
            **({"sources": self.sources} if self.sources else {"source": source}),
            **({"syncPolicy": {"automated": self.automated}} if self.automated is not None else {}),
            **self.more.get("spec", {}),
        }
        at = {"revisions": [self.revision]} if self.sources else {"revision": self.revision}
        status: Json = {
            "sync": {"status": self.sync, **at},
            "health": {"status": self.health},
            "reconciledAt": stamp(self.compared),
            "history": self.history,
            "conditions": self.conditions,
            "summary": {"images": [self.image()]},
            "resources": [self._object(*one) for one in self.objects],
            **({"operationState": self.state} if self.state else {}),
        }
        metadata = {"name": self.name, "namespace": "argocd", "uid": f"uid-{self.name}"}
        return {
            "metadata": {**metadata, **self.more.get("metadata", {})},
            "spec": spec,
            "status": status,
            **({"operation": self.operation} if self.operation else {}),
        }

    def _object(self, group: str, kind: str, namespace: str, name: str) -> Json:
        return {
            "group": group,
            "version": "v1",
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "status": self.sync,
            "health": {"status": self.health},
        }


@dataclass
class ArgoDouble:
    """One Argo CD. ``url`` and ``token`` are what a client needs."""

    apps: dict[str, App] = field(default_factory=dict)
    token: str = TOKEN
    faults: Faults = field(default_factory=Faults)
    forbidden: set[str] = field(default_factory=set)  # operations that the token may not do
    moved: str = ""  # where it sends everybody, when it does
    page: str = ""  # what a proxy in front of it answers to a sync, with 200
    syncs: Counter[str] = field(default_factory=Counter)  # acted, by the mark in `infos`
    asked: Counter[str] = field(default_factory=Counter)  # requests, by operation
    orders: list[Json] = field(default_factory=list)
    wrong_requests: list[str] = field(default_factory=list)
    wrong_answers: list[str] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> "ArgoDouble":
        """Listen on a port of 127.0.0.1."""
        api = web.Application(middlewares=[self._guard])
        one = "/api/v1/applications/{name}"
        api.router.add_get(one, self._application, name="application")
        api.router.add_get(f"{one}/syncwindows", self._windows, name="windows")
        api.router.add_get(f"{one}/resource", self._live, name="live")
        api.router.add_post(f"{one}/sync", self._sync, name="sync")
        api.router.add_get("/api/v1/session/userinfo", self._user, name="user")
        self._runner = web.AppRunner(api, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        """Close the port."""
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.match_info.route.name or "other"
        self.asked[name] += 1
        body = await request.read()
        asked = Asked(
            request.method,
            request.rel_url.raw_path,
            list(request.query.items()),
            request.headers,
            body or None,
            HOST,
        )
        if name == "other" or (fault := request_fault(asked)):
            self.wrong_requests.append(f"{request.method} {request.path}: {fault or 'no path'}")
            return _no(400, 3, "is invalid")
        answer = await self._answer(name, request, handler)
        if isinstance(answer, web.Response) and answer.content_type == "application/json":
            data = answer.body if isinstance(answer.body, bytes) else b""
            seen = Answered(answer.status, data, dict(answer.headers))
            if fault := answer_fault(asked, seen):
                self.wrong_answers.append(f"{asked.method} {asked.path}: {fault}")
        return answer

    async def _answer(
        self, name: str, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        if self.moved:
            return web.Response(status=302, headers={"Location": self.moved})
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _no(401, 16, "invalid session: token is expired")
        if name in self.forbidden or request.match_info.get("name", "") not in {*self.apps, ""}:
            return _no(403, 7, "permission denied")
        if self.page and name == "sync":
            return web.Response(text=self.page, content_type="text/html")
        fault = self.faults.take(name)
        if fault is None:
            return await handler(request)
        if fault in LIMITS:
            return web.json_response({"code": 8, "message": "busy"}, status=429)
        if fault in ACTING:
            await handler(request)
        if fault in {Fault.SLOW_AFTER, Fault.SLOW_BEFORE}:
            await asyncio.sleep(SLOW)
        if fault in {Fault.RESET_AFTER, Fault.RESET_BEFORE} and request.transport is not None:
            request.transport.abort()
        return _no(502 if fault is Fault.ERROR_AFTER else 503, 14, "unavailable")

    def _app(self, request: web.Request) -> App:
        return self.apps[request.match_info["name"]]

    async def _user(self, request: web.Request) -> web.Response:
        return web.json_response({"loggedIn": True, "username": "responder", "iss": "argocd"})

    async def _application(self, request: web.Request) -> web.Response:
        app = self._app(request)
        app.look()
        return web.json_response(app.shown())

    async def _windows(self, request: web.Request) -> web.Response:
        return web.json_response({"canSync": self._app(request).can_sync, "activeWindows": []})

    async def _live(self, request: web.Request) -> web.Response:
        app, query = self._app(request), request.query
        place = (query["group"], query["kind"], query["namespace"], query["resourceName"])
        if place not in app.objects:
            return _no(400, 3, "not found as part of application")
        pod = {"spec": {"containers": [{"name": "main", "image": app.image()}]}}
        spec: Json = {"template": pod}
        if place[1] == "CronJob":
            spec = {"jobTemplate": {"spec": spec}}
        manifest = {"kind": place[1], "spec": spec}
        return web.json_response({"manifest": json.dumps(manifest)})

    async def _sync(self, request: web.Request) -> web.Response:
        app, order = self._app(request), await request.json()
        self.orders.append(order)
        if not app.can_sync:
            return _no(403, 7, "cannot sync: blocked by sync window")
        pinned = order.get("revision") or next(iter(order.get("revisions") or []), "")
        if app.automated is not None and app.automated.get("enabled") is not False:
            said = f"Cannot sync to {pinned}: auto-sync currently set to {app.target}"
            return _no(400, 9, said)
        if app.operation is not None:
            return _no(400, 9, "another operation is already in progress")
        for item in order.get("infos") or []:
            self.syncs[item["value"]] += 1
        app.ask(_operation(app, order))
        return web.json_response(app.shown())


def _operation(app: App, order: Json) -> Json:
    sync: Json = {"prune": order["prune"], "dryRun": order["dryRun"]}
    if app.sources:
        sync["revisions"] = [
            dict(zip(map(int, order["sourcePositions"]), order["revisions"], strict=True)).get(
                n, ""
            )
            for n in range(1, len(app.sources) + 1)
        ]
    else:
        sync["revision"] = order["revision"]
    return {"sync": sync, "info": order["infos"], "initiatedBy": {"username": "responder"}}


def _no(status: int, code: int, message: str) -> web.Response:
    return web.json_response({"error": message, "code": code, "message": message}, status=status)


def stamp(at: dt.datetime | None = None) -> str:
    """A time as the API writes it: whole seconds, UTC."""
    return (at or dt.datetime.now(dt.UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.asynccontextmanager
async def running(*apps: App, **changes: Any) -> AsyncIterator[ArgoDouble]:
    """Serve a double with these applications for the length of a block."""
    double = await ArgoDouble(apps={app.name: app for app in apps}, **changes).start()
    try:
        yield double
    finally:
        await double.stop()
