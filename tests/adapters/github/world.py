"""A small world for the GitHub adapter: a double, a registry's word, the action between them."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from integrations.github import setup
from responder.clock import World
from responder.model import Secret, Target
from responder.ports import Action, Call, Done, EvidenceSink, ImageRoute, Integration, Kit, Pending
from tests.doubles.github import GitHubDouble, running

IMAGE = "registry.example/shop/cart"
OLD_DIGEST = f"sha256:{'0' * 64}"
KEY = "run_01j9/rebuild"


class NoEvidence:
    """A sink that nobody may need: a pipeline leaves its evidence with the forge."""

    async def put(self, call: Call, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        """Refuse."""
        raise AssertionError("pipeline.run stores no evidence")

    async def list(self, incident: int) -> list[Mapping[str, Any]]:
        """Return nothing."""
        return []


async def agreeing(reference: str) -> str:
    """Say the digest that the reference itself names, as a registry that has it does."""
    return reference.rpartition("@")[2]


def a_call(**changes: Any) -> Call:
    """Return the call of one step."""
    values: dict[str, Any] = {
        "action": "pipeline.run",
        "key": KEY,
        "incident": 42,
        "run": "run_01j9",
        "step": "rebuild",
        "params": {"image": f"{IMAGE}:1.4"},
        "target": Target(image=f"{IMAGE}:1.4", digest=OLD_DIGEST),
    }
    return Call(**{**values, **changes})


@dataclass
class Bench:
    """The action with what surrounds it."""

    double: GitHubDouble
    action: Action
    integration: Integration

    async def apply(self, call: Call) -> Pending:
        """Plan and apply; the result is always something to wait for."""
        pending = await self.action.apply(call, await self.action.plan(call))
        assert isinstance(pending, Pending)
        return pending

    async def to_end(self, call: Call, looks: int = 20) -> Done:
        """Plan, apply and poll until done."""
        now: Done | Pending = await self.apply(call)
        for _ in range(looks):
            if isinstance(now, Done):
                return now
            now = await self.action.poll(call, now.state)
        raise AssertionError(f"not done after {looks} looks: {now}")

    def dispatched(self) -> int:
        """Return how many dispatches have acted."""
        return self.double.dispatches.total()


@contextlib.asynccontextmanager
async def bench(
    *,
    double: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    digest_of: Callable[[str], Awaitable[str]] | None = agreeing,
    world: World | None = None,
    route: ImageRoute | None = None,
    evidence: EvidenceSink | None = None,
) -> AsyncIterator[Bench]:
    """Serve a double and set the integration up against it; checks the double's own answers."""
    async with running(**(double or {})) as forge:
        table = {
            "kind": "github",
            "base_url": forge.base_url,
            "token": Secret(forge.token),
            "poll": 1,
            "settle": 0.3,
            "timeout": 2,
            **(settings or {}),
        }
        chosen = route or ImageRoute(
            match="registry.example/shop/*",
            forge="github",
            repo="acme/shop",
            workflow="rebuild.yml",
        )
        sink = evidence or NoEvidence()
        kit = Kit(evidence=sink, images=(chosen,), digest_of=digest_of)
        integration = setup({"github": table}, world or World(clock=forge.clock), kit)
        try:
            yield Bench(forge, integration.actions[0], integration)
        finally:
            assert integration.close
            await integration.close()
        assert not forge.wrong_answers, forge.wrong_answers
        assert not forge.wrong_requests, forge.wrong_requests
        assert forge.leaked == []
