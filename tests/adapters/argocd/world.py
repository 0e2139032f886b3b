"""A small world for the Argo CD adapter: a double, the action, and a call of one step."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from integrations.argocd import setup
from responder.clock import World
from responder.errors import StepRetry
from responder.model import Plan, Secret, Target
from responder.ports import Action, Call, Done, Integration, Kit, Pending
from tests.adapters.github.world import NoEvidence
from tests.doubles.argo_contract import description
from tests.doubles.argocd import COMMIT, App, ArgoDouble, running
from tests.real.waiting import eventually

NEW = f"registry.example/shop/cart@sha256:{'b' * 64}"
KEY = "run_01j9/sync"


def shop(**changes: Any) -> App:
    """Return the application of the tests; the new commit brings the new image."""
    return App(**{"name": "shop", "images": {COMMIT: NEW}, **changes})


def a_call(*, attempt: int = 1, resumed: bool = False, started: int = 0, **changes: Any) -> Call:
    """Return the call of one step."""
    values: dict[str, Any] = {
        "application": "shop",
        "revision": COMMIT,
        "workload": "Deployment/cart",
        "namespace": "shop",
        "image": NEW,
        **changes,
    }
    return Call(
        action="argocd.sync",
        key=KEY,
        incident=42,
        run="run_01j9",
        step="sync",
        params={key: value for key, value in values.items() if value is not None},
        target=Target(),
        attempt=attempt,
        resumed=resumed,
        started=started,
    )


@dataclass
class Bench:
    """The action with what surrounds it."""

    double: ArgoDouble
    action: Action
    integration: Integration

    async def apply(self, call: Call, tries: int = 5) -> tuple[Plan, Pending]:
        """Plan and apply, again after `StepRetry`, as the engine does."""
        plan = await self.action.plan(call)
        for left in range(tries, 0, -1):
            try:
                pending = await self.action.apply(call, plan)
            except StepRetry:
                if left == 1:
                    raise
                continue
            assert isinstance(pending, Pending)
            return plan, pending
        raise AssertionError("unreachable")

    async def to_end(self, call: Call) -> tuple[Plan, Done]:
        """Plan, apply and poll until done."""
        plan, pending = await self.apply(call)
        return plan, await self.follow(call, pending)

    async def follow(self, call: Call, pending: Pending) -> Done:
        """Poll until it is done; what is kept goes through nothing but plain data."""
        now: list[Done | Pending] = [pending]

        async def look() -> bool:
            if isinstance(now[0], Pending):
                now[0] = await self.action.poll(call, now[0].state)
            return isinstance(now[0], Done)

        await eventually(look, "the end of the sync", seconds=30)
        assert isinstance(now[0], Done)
        return now[0]


@contextlib.asynccontextmanager
async def bench(*apps: App, settings: Mapping[str, Any] | None = None) -> AsyncIterator[Bench]:
    """Serve a double and set Argo CD up against it; checks its requests and answers."""
    description()  # before the clock of any call runs
    async with running(*(apps or (shop(),))) as double:
        table = {
            "url": double.url,
            "token": Secret(double.token),
            "poll": 0.05,
            "settle": 0.3,
            "timeout": 2,
            **(settings or {}),
        }
        integration = setup({"main": table}, World(), Kit(evidence=NoEvidence()))
        try:
            yield Bench(double, integration.actions[0], integration)
        finally:
            assert integration.close
            await integration.close()
        assert not double.wrong_answers, double.wrong_answers
        assert not double.wrong_requests, double.wrong_requests
