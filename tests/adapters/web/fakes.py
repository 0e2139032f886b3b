"""A service for the doors to stand on: it remembers what it was asked and answers from memory."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from responder.errors import Conflict, NotFound, StoreUnavailable, Unauthorized
from responder.model import Role
from responder.ports import HookInfo
from responder.web.app import listening, make_app
from responder.web.limits import Limits

TOKENS = {f"rsp_{role.value}": role for role in Role}
RUN = "run_01abc"
PLAN = "3f9a1c5d7e8f9012"
SHA = "ab" * 32


@dataclass(frozen=True)
class Who:
    """A caller, as the real service describes one."""

    person: str
    role: Role
    door: str
    address: str = ""
    token: str = ""


def step(name: str, status: str, **more: Any) -> dict[str, Any]:
    """One step as the service shows it."""
    return {
        "id": name,
        "use": "kubernetes.quarantine_pod",
        "status": status,
        "verdict": None,
        "residual": [],
        "error": "",
        "waiting_for": "",
        "until": None,
        "otherwise": "",
        "plan_hash": "",
        "attempt": 1,
        "summary": "isolate pod shop/cart-7f9c",
        "undoable": True,
        **more,
    }


def run_of(status: str = "waiting-approval") -> dict[str, Any]:
    """One run with a step that waits for a person."""
    return {
        "id": RUN,
        "incident": 42,
        "playbook": "contain-and-rebuild",
        "mode": "approve",
        "status": status,
        "outcome": "",
        "reason": "",
        "waiting_for": "an approver",
        "created": "2026-01-31T12:04:01.000Z",
        "finished": None,
        "steps": [
            step("evidence", "succeeded", verdict="proven", undoable=False),
            step(
                "isolate",
                status,
                plan_hash=PLAN,
                waiting_for="approver",
                until="2026-01-31T12:19:01.000Z",
                otherwise="stop",
            ),
        ],
    }


def incident_of(number: int = 42, status: str = "open") -> dict[str, Any]:
    """One incident as the service shows it."""
    return {
        "number": number,
        "title": "Terminal shell in container",
        "severity": 4,
        "severity_name": "high",
        "status": status,
        "opened": "2026-01-31T12:04:01.000Z",
        "updated": "2026-01-31T12:05:01.000Z",
        "alerts": 7,
        "target": "shop/cart-7f9c",
        "stages": {"detected": "2026-01-31T12:04:01.000Z"},
        "runs": [run_of()],
    }


def entry_of(number: int, text: str = "first alert", kind: str = "alert") -> dict[str, Any]:
    """One line of a story."""
    return {
        "id": number,
        "incident": 42,
        "at": "2026-01-31T12:04:01.000Z",
        "kind": kind,
        "text": text,
        "door": "auto",
        "person": "",
        "data": {},
    }


@dataclass
class FakeService:
    """Every verb of the real one, over a few values in memory."""

    open_on_loopback: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    entries: list[dict[str, Any] | None] = field(
        default_factory=lambda: [entry_of(1), entry_of(2, "pod isolated", "step")]
    )
    incident_row: dict[str, Any] = field(default_factory=incident_of)
    hook_secret: str = "s3cret"
    full: bool = False
    broken: Exception | None = None
    paused: str = ""
    revoked: set[str] = field(default_factory=set)
    live: asyncio.Event | None = None  # the story goes on until it is set

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.broken is not None:
            raise self.broken

    async def authenticate(self, secret: str, door: str, address: str) -> Who:
        if secret not in TOKENS or secret in self.revoked:
            raise Unauthorized("the token is not known, has ended, or was revoked")
        return Who(f"{TOKENS[secret].value}-person", TOKENS[secret], door, address, secret)

    def anonymous(self, door: str, address: str) -> Who | None:
        return Who("demo", Role.ADMIN, door, address) if self.open_on_loopback else None

    async def hook(self, name: str) -> HookInfo:
        if name != "falco":
            raise NotFound("there is no such hook")
        return HookInfo(name=name, source="falco", options={"origins": ["events.example"]})

    async def hook_test(self, who: Who, name: str) -> dict[str, Any]:
        self._note("hook_test", who.person, name)
        return {"alerts": []}

    async def preauthorize(self, name: str, headers: dict[str, str]) -> None:
        if headers.get("authorization") != f"Bearer {self.hook_secret}":
            raise Unauthorized("the hook's credential does not hold")

    async def receive(
        self, name: str, headers: dict[str, str], body: bytes, address: str
    ) -> tuple[int, dict[str, Any]]:
        if self.full:
            raise StoreUnavailable("the store cannot write now")
        self._note("receive", name)
        self.bodies.append(body)
        alert = {"id": "alr_1", "incident": 42, "duplicate": False, "runs": [RUN]}
        return 202, {"alerts": [alert]}

    async def number(self, reference: str | int) -> int:
        if reference == "@latest":
            return int(self.incident_row["number"])
        if not str(reference).isdecimal() or not str(reference).isascii():
            raise NotFound("that is no incident number; try @latest")
        return int(reference)

    async def alerts(self, who: Who, number: int | str = "", hook: str = "") -> dict[str, Any]:
        self._note("alerts", number)
        return {"items": [{"id": "alr_1", "rule": "Terminal shell"}], "next_cursor": None}

    async def incidents(
        self,
        who: Who,
        *,
        status: str = "",
        since: int = 0,
        limit: int = 50,
        before: int | None = None,
    ) -> dict[str, Any]:
        self._note("incidents", status, since, limit, before)
        return {"items": [self.incident_row], "next_cursor": None}

    async def incident(self, who: Who, number: int) -> dict[str, Any]:
        self._note("incident", number)
        if number != self.incident_row["number"]:
            raise NotFound(f"there is no incident {number}")
        return self.incident_row

    async def timeline(self, who: Who, number: int, after: int = 0) -> dict[str, Any]:
        await self.incident(who, number)
        return {"items": [e for e in self.entries if e is not None and e["id"] > after]}

    async def watch(
        self, who: Who, number: int, after: int
    ) -> AsyncIterator[dict[str, Any] | None]:
        for entry in list(self.entries):
            if entry is None or entry["id"] > after:
                yield entry
        while self.live is not None and not self.live.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.live.wait(), 0.05)
            yield None

    async def note(self, who: Who, number: int, text: str) -> dict[str, Any]:
        self._note("note", number, text)
        return {"id": 3}

    async def start(self, who: Who, playbook: str, inputs: Any, reason: str, **more: Any) -> Any:
        self._note("start", playbook, inputs, reason, more)
        return {"run": RUN, "incident": 42}

    async def run(self, who: Who, run: str) -> dict[str, Any]:
        self._note("run", run)
        if run != RUN:
            raise NotFound("there is no such run")
        return run_of()

    async def plan(self, who: Who, run: str, step: str) -> dict[str, Any]:
        self._note("plan", run, step)
        diff = "+ NetworkPolicy shop/responder-42\n~ Pod shop/cart-7f9c\n"
        return {"plan": {"summary": "isolate pod shop/cart-7f9c"}, "diff": diff, "hash": PLAN}

    async def decide(
        self, who: Who, run: str, step: str, yes: bool, plan: str, reason: str
    ) -> dict[str, Any]:
        self._note("decide", run, step, yes, plan, reason)
        if plan != PLAN:
            raise Conflict("the plan has changed since: look at it again")
        return {"run": run, "step": step, "status": "running" if yes else "denied"}

    async def cancel(self, who: Who, run: str, reason: str) -> dict[str, Any]:
        self._note("cancel", run, reason)
        return {"run": run, "status": "cancelled"}

    async def undo(self, who: Who, run: str, step: str, reason: str) -> dict[str, Any]:
        self._note("undo", run, step, reason)
        return {"run": run, "step": step, "status": "undone"}

    async def extend(
        self, who: Who, run: str, step: str, seconds: int, reason: str
    ) -> dict[str, Any]:
        self._note("extend", run, step, seconds, reason)
        return {"run": run, "step": step, "until": "2026-01-31T14:19:01.000Z"}

    async def preview(self, who: Who, playbook: str, inputs: Any) -> dict[str, Any]:
        self._note("preview", playbook, inputs)
        plan = {"summary": "isolate pod shop/cart-7f9c", "changes": [{"verb": "create"}]}
        steps = [{"step": "isolate", "plan": plan, "hash": PLAN, "reason": ""}]
        return {"run": RUN, "incident": 42, "steps": steps, "outcome": "succeeded", "reason": ""}

    async def pause(self, who: Who, reason: str) -> dict[str, Any]:
        self._note("pause", reason)
        self.paused = reason
        return {"paused": reason}

    async def resume(self, who: Who, reason: str) -> dict[str, Any]:
        self._note("resume", reason)
        self.paused = ""
        return {"paused": ""}

    async def status(self, who: Who) -> dict[str, Any]:
        self._note("status")
        return {"paused": self.paused, "degraded": [], "draining": False, "version": "0.1.0"}

    async def playbooks(self, who: Who) -> list[dict[str, Any]]:
        self._note("playbooks")
        return [{"name": "contain-and-rebuild", "mode": "approve", "description": "the main one"}]

    async def playbook(self, who: Who, name: str) -> dict[str, Any]:
        self._note("playbook", name)
        return {"name": name, "text": f"name: {name}\n"}

    async def explain(self, who: Who, hook: str, payload: bytes | None, alert: Any) -> Any:
        self._note("explain", hook, payload, alert)
        why = {"playbook": "contain-and-rebuild", "starts": True, "reason": "rule matches"}
        return [{"alert": {"rule": "x"}, "playbooks": [{**why, "triggers": []}]}]

    async def audit(self, who: Who, after: int, limit: int) -> dict[str, Any]:
        self._note("audit", after, limit)
        return {"items": [], "next_cursor": None}

    async def audit_verify(self, who: Who) -> dict[str, Any]:
        self._note("audit_verify")
        return {"ok": True, "detail": "ok"}

    async def evidence(self, who: Who, number: int) -> dict[str, Any]:
        self._note("evidence", number)
        return {"items": [{"name": "pod.json", "sha256": SHA, "size": 3, "origin": {}}]}

    async def evidence_bytes(self, who: Who, number: int, sha256: str) -> bytes:
        self._note("evidence_bytes", number, sha256)
        if sha256 != SHA:
            raise NotFound("there is no such evidence")
        return b"{}\n"

    async def evidence_verify(self, who: Who, number: int) -> dict[str, Any]:
        self._note("evidence_verify", number)
        return {"ok": True, "items": [{"name": "pod.json", "ok": True}]}

    async def token_create(self, who: Who, person: str, role: Role, days: int) -> dict[str, str]:
        self._note("token_create", person, role, days)
        return {"id": "tok_1", "secret": "rsp_new"}

    async def token_list(self, who: Who) -> dict[str, Any]:
        self._note("token_list")
        return {"items": [{"id": "tok_1", "person": "anna", "role": "approver"}]}

    async def token_revoke(self, who: Who, token: str) -> dict[str, Any]:
        self._note("token_revoke", token)
        return {"id": token}

    async def heard(self, correlation: str) -> None:
        self._note("heard", correlation)

    async def ready(self) -> dict[str, str]:
        return {"store": "cannot write" if self.full else "ok", "playbooks": "ok"}

    def alive(self) -> bool:
        return True

    async def metrics_text(self) -> bytes:
        return b"# TYPE responder_paused gauge\nresponder_paused 0\n"


@contextlib.contextmanager
def running(service: FakeService, limits: Limits | None = None) -> Iterator[str]:
    """The real application on a loopback port, in a thread with its own loop; yields its URL."""
    loop = asyncio.new_event_loop()
    started: threading.Event = threading.Event()
    stop = asyncio.Event()
    found: list[str] = []

    async def main() -> None:
        app = make_app(service, limits=limits)  # type: ignore[arg-type]
        async with listening(app, "127.0.0.1", 0, limits=limits) as url:
            found.append(url)
            started.set()
            await stop.wait()

    def work() -> None:
        try:
            loop.run_until_complete(main())
        finally:
            started.set()
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(10)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
