"""A whole engine over a real store and a fake world, on a clock that the test turns."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from responder import wiring
from responder.clock import SECOND, SystemIds, World
from responder.model import Role
from responder.ports import Integration
from responder.service import Who
from responder.settings import load
from responder.store.sqlite import SqliteStore
from tests.fakes import Things, fake_integration

START = 1_800_000_000 * SECOND
ANNA = Who(person="anna", role=Role.APPROVER, door="test")
BEN = Who(person="ben", role=Role.ADMIN, door="test")


class HandClock:
    """A wall clock that moves only when the test says so, or a little at each yield."""

    def __init__(self) -> None:
        self._now = START
        self._moved = asyncio.Event()

    def now(self) -> int:
        self._now += 1  # two events never share a time
        return self._now

    def monotonic(self) -> float:
        return self._now / SECOND

    def jump(self, seconds: float) -> None:
        """Let this much time pass at once."""
        self._now += int(seconds * SECOND)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def sleep(self, seconds: float) -> None:
        until = self._now + int(seconds * SECOND)
        while self._now < until:
            moved = self._moved
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await moved.wait()
                    continue
            if seconds <= 1:
                return  # a short wait is a real one, so that polling loops go on


@dataclass
class Bench:
    """One server under test."""

    app: wiring.App
    clock: HandClock
    things: Things
    folder: Path
    extra: dict[str, Any] = field(default_factory=dict)

    async def start(self, playbook: str, who: Who = BEN, **inputs: Any) -> str:
        """A run by hand."""
        answer = await self.app.service.start(who, playbook, inputs, "test")
        return str(answer["run"])

    async def run(self, run_id: str) -> dict[str, Any]:
        return await self.app.service.run(ANNA, run_id)

    async def step(self, run_id: str, step: str) -> dict[str, Any]:
        run = await self.run(run_id)
        return next(s for s in run["steps"] if s["id"] == step)

    async def until(self, run_id: str, *words: str, looks: int = 400) -> dict[str, Any]:
        """The run once its status or outcome is one of these words; time moves on meanwhile."""
        for _ in range(looks):
            run = await self.run(run_id)
            if run["status"] in words or run["outcome"] in words:
                return run
            await asyncio.sleep(0.005)
            if run["status"] == "waiting-external" or _retries(run):
                self.clock.jump(16)
                self.app.driver.wake()
        steps = [(s["id"], s["status"], s["error"]) for s in run["steps"]]
        raise AssertionError(f"still {run['status']}, wanted {words}: {steps}")

    async def approve(self, run_id: str, step: str, who: Who = ANNA) -> dict[str, Any]:
        state = await self.step(run_id, step)
        return await self.app.service.decide(who, run_id, step, True, state["plan_hash"], "ok")

    async def story(self, incident: int = 1) -> list[str]:
        page = await self.app.service.timeline(ANNA, incident)
        return [entry["text"] for entry in page["items"]]


def _retries(run: dict[str, Any]) -> bool:
    return any(step["status"] == "retrying" for step in run["steps"])


@asynccontextmanager
async def bench(
    folder: Path,
    playbooks: Sequence[str],
    *,
    things: Things | None = None,
    pods: dict[str, str] | None = None,
    store: SqliteStore | None = None,
    extra: Sequence[Integration] = (),
    clock: HandClock | None = None,
    **flags: Any,
) -> AsyncIterator[Bench]:
    """Start a server with these playbook texts."""
    texts = folder / "playbooks"
    texts.mkdir(exist_ok=True)
    for number, text in enumerate(playbooks):
        (texts / f"{number}.yaml").write_text(text, encoding="utf-8")
    things = things or Things()
    clock = clock or HandClock()
    settings = load(
        None,
        environ={},
        flags={
            "store.url": f"sqlite:///{folder / 'r.db'}",
            "playbooks.folders": [str(texts)],
            "guards.mode": "enforce",
            "server.drain": "1s",
            "hooks": {"falco": {"source": "falco", "auth": {"none": True}}},
            **{key.replace("__", "."): value for key, value in flags.items()},
        },
    )
    world = World(clock=clock, ids=SystemIds(), rng=random.Random(1))
    made = fake_integration(things, pods=pods)
    async with wiring.build(settings, world=world, store=store, extra=[made, *extra]) as app:
        yield Bench(app=app, clock=clock, things=things, folder=folder)
