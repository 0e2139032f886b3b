"""What a journey needs around the product: a server to talk to, an account, and a story to follow.

The server is the product's own (`build` and the aiohttp application) on a loop of its own thread,
so that a test may wait, dial and exec without holding the server up. What the test asks of it goes
over HTTP with a token, as anybody else's questions do.
"""

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from integrations.kubernetes import guarding
from integrations.kubernetes.paths import collection
from responder.model import Role
from responder.ports import ActionInfo, Permission
from responder.service import Who
from responder.settings import Settings
from responder.store.interface import Store
from responder.web.app import listening, make_app
from responder.wiring import App, build
from responder.wiring.rbac import uses
from tests.real.api import Api
from tests.real.waiting import wait_until

T = TypeVar("T")
R = TypeVar("R")
GROUP = "rbac.authorization.k8s.io"


# --------------------------------------------------------------------------- a loop of its own


@dataclass(frozen=True)
class Hosted(Generic[T]):
    """Something asynchronous that lives on a loop in another thread."""

    value: T
    loop: asyncio.AbstractEventLoop

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine over there and return what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def look(self, ask: Callable[[T], R]) -> R:
        """Ask the thing itself over there, where nothing changes meanwhile."""

        async def asked() -> R:
            return ask(self.value)

        return self.call(asked())


@contextlib.contextmanager
def hosted(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[Hosted[T]]:
    """Enter an asynchronous context on a loop of its own thread; leave it with the block.

    One task enters and leaves, as time-outs and task groups want it. Its errors are raised here.
    """
    begun: Future[tuple[Hosted[T], asyncio.Event]] = Future()
    ended: Future[None] = Future()

    async def live() -> None:
        end = asyncio.Event()
        async with make() as value:
            begun.set_result((Hosted(value, asyncio.get_running_loop()), end))
            await end.wait()

    def run() -> None:
        try:
            asyncio.run(live())
            ended.set_result(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            (ended if begun.done() else begun).set_exception(error)

    thread = threading.Thread(target=run, name="hosted", daemon=True)
    thread.start()
    host, end = begun.result(60)
    try:
        yield host
    finally:
        host.loop.call_soon_threadsafe(end.set)
        ended.result(60)
        thread.join(10)


# --------------------------------------------------------------------------- the server


@dataclass(frozen=True)
class Door:
    """The HTTP door as one caller uses it: an address and a token."""

    url: str
    token: str = ""

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str | None = None,
        kind: str = "application/json",
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Send one request; status, decoded body (bytes when it is no JSON), headers."""
        secret = self.token if token is None else token
        headers = {"Content-Type": kind} if body is not None else {}
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        link = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            link.request(method, path, None if body is None else json.dumps(body), headers)
            answer = link.getresponse()
            raw = answer.read()
        finally:
            link.close()
        is_json = "json" in answer.headers.get_content_type()
        return answer.status, json.loads(raw) if is_json else raw, dict(answer.headers)

    def get(self, path: str) -> Any:
        """What a path holds; AssertionError when it is refused."""
        status, body, _ = self.ask("GET", path)
        assert status == 200, f"GET {path}: {status} {body}"
        return body

    def post(self, path: str, body: object) -> Any:
        """The answer to a change; AssertionError when it is refused."""
        status, answer, _ = self.ask("POST", path, body)
        assert status < 300, f"POST {path}: {status} {answer}"
        return answer


@dataclass(frozen=True)
class Server:
    """A running server: its parts, its address, and tokens for people."""

    app: App
    url: str
    host: Hosted[tuple[App, str]]

    def door(self, person: str, role: Role) -> Door:
        """The door for a person, with a token that the machine's administrator made."""
        root = Who(person="root", role=Role.ADMIN, door="cli")
        made = self.host.call(self.app.service.token_create(root, person, role.value, 1))
        return Door(self.url, made["secret"])


@contextlib.contextmanager
def serving(settings: Settings, store: Store | None = None) -> Iterator[Server]:
    """Run the product's server for the length of a block."""

    @contextlib.asynccontextmanager
    async def both() -> AsyncIterator[tuple[App, str]]:
        async with (
            build(settings, store=store) as app,
            listening(make_app(app.service), "127.0.0.1", 0) as url,
        ):
            yield app, url

    with hosted(both) as host:
        yield Server(*host.value, host)


# --------------------------------------------------------------------------- one incident's story


@dataclass(frozen=True)
class Story:
    """One incident as somebody with a token follows it."""

    door: Door
    number: int

    def incident(self) -> Any:
        """The incident with its runs."""
        return self.door.get(f"/v1/incidents/{self.number}")

    def run(self) -> Any:
        """Its only run."""
        [run] = self.incident()["runs"]
        return run

    def step(self, name: str) -> Any:
        """One step of its run."""
        return next(step for step in self.run()["steps"] if step["id"] == name)

    def until(self, step: str, status: str, seconds: float = 60) -> Any:
        """Wait until a step has a status and return the step; fails early when the run ends."""

        def look() -> Any:
            run = self.run()
            found = next(item for item in run["steps"] if item["id"] == step)
            if found["status"] != status:
                assert not run["outcome"], self.told()
                return None
            return found

        try:
            return wait_until(look, f"{step} to be {status}", seconds)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.told()}") from error

    def approve(self, step: str, approver: Door, seconds: float = 60) -> None:
        """Wait until a step asks, and say yes to exactly the plan it shows."""
        plan = self.until(step, "waiting-approval", seconds)["plan_hash"]
        path = f"/v1/runs/{self.run()['id']}/steps/{step}"
        assert approver.get(f"{path}/plan")["hash"] == plan
        approver.post(f"{path}/approve", {"plan": plan, "reason": "seen"})

    def ended(self, seconds: float = 60) -> Any:
        """Wait until the run has ended and return the incident; it must have ended well."""
        wait_until(lambda: self.run()["outcome"], "the end of the run", seconds)
        incident = self.incident()
        assert incident["runs"][0]["outcome"] == "succeeded", self.told()
        return incident

    def told(self) -> str:
        """The timeline as text, for a failure and for the reader of a passing test."""
        lines = self.door.get(f"/v1/incidents/{self.number}/timeline")["items"]
        return "\n".join(f"{line['at'][11:]} {line['kind']:9} {line['text']}" for line in lines)


def stage_seconds(incident: Mapping[str, Any]) -> dict[str, float]:
    """Seconds from the incident's opening to each stage, in the order they were reached."""
    opened = datetime.fromisoformat(incident["opened"])
    return {
        name: round((datetime.fromisoformat(at) - opened).total_seconds(), 2)
        for name, at in incident["stages"].items()
    }


# --------------------------------------------------------------------------- the server's account


def grant(
    cluster: Api, account: tuple[str, str], namespace: str, app: App, *more: Permission
) -> None:
    """Give a service account, in one namespace, exactly what the playbooks in force need.

    Rights that an action declares for the whole cluster go into a ClusterRole of the same making.
    """
    playbooks = app.service.core.live.by_name.values()
    named = {name for playbook in playbooks for name in uses(playbook)}
    used = [info for name, info in app.catalogue.items() if name in named]
    declared = [right for info in used for right in info.permissions]
    needed = [right for made in app.integrations for right in made.permissions]
    rights = [right for right in (*declared, *needed, *more) if right.system == "kubernetes"]
    for scope, base, kind in (
        ("namespace", f"/apis/{GROUP}/v1/namespaces/{namespace}", "Role"),
        ("cluster", f"/apis/{GROUP}/v1", "ClusterRole"),
    ):
        rules = [
            {"apiGroups": [r.group], "resources": [r.resource], "verbs": list(r.verbs)}
            for r in rights
            if r.scope == scope
        ]
        name = f"{account[0]}-{namespace}"
        plural = f"{kind.lower()}s"
        cluster.must("POST", f"{base}/{plural}", {"metadata": {"name": name}, "rules": rules})
        subject = {"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
            "subjects": [subject],
        }
        cluster.must("POST", f"{base}/{kind.lower()}bindings", binding)
    _set_guard(cluster, account, namespace, used, named, more)


def _set_guard(
    cluster: Api,
    account: tuple[str, str],
    namespace: str,
    used: Sequence[ActionInfo],
    words: set[str],
    more: Sequence[Permission],
) -> None:
    """The admission policy that keeps the account to what those playbooks do."""
    both = (
        (namespace,) if account[0] == namespace else ()
    )  # a test's account may live where it acts
    scope = guarding.Scope(home=account[0], account=account[1], unprotected=both)
    for item in guarding.guard(scope, guarding.need_of(scope, used, words, more)):
        cluster.must("POST", collection(item["kind"]), item)
