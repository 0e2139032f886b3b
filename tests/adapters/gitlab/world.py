"""A small world for the GitLab adapter: a double, a registry's word, the action between them."""

import contextlib
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from integrations._forges import setup
from responder.clock import World
from responder.model import Secret
from responder.ports import Action, Call, Done, EvidenceSink, ImageRoute, Integration, Kit, Pending
from tests.adapters.github.world import IMAGE, KEY, OLD_DIGEST, NoEvidence, a_call, agreeing
from tests.doubles.gitlab import GitLabDouble, running
from tests.doubles.lab_contract import description

__all__ = ["IMAGE", "KEY", "OLD_DIGEST", "Bench", "NoEvidence", "a_call", "bench", "route_to"]


def route_to(match: str = "registry.example/shop/*", **changes: Any) -> ImageRoute:
    """Return the image map's line that leads to the double."""
    values: dict[str, Any] = {
        "match": match,
        "forge": "lab",
        "repo": "acme/shop",
        "workflow": ".gitlab-ci.yml",
    }
    return ImageRoute(**{**values, **changes})


@dataclass
class Bench:
    """The action with what surrounds it."""

    double: GitLabDouble
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

    def started(self) -> int:
        """Return how many starts have acted."""
        return self.double.dispatches.total()


@contextlib.asynccontextmanager
async def bench(
    *,
    double: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    digest_of: Callable[[str], Awaitable[str]] | None = agreeing,
    route: ImageRoute | None = None,
    evidence: EvidenceSink | None = None,
) -> AsyncIterator[Bench]:
    """Serve a double and set the forges up against it; checks the double's own answers."""
    # loaded before the clock of any call runs: for the first one it would cost more than its time
    importlib.import_module("gitlab")
    description()
    async with running(**(double or {})) as forge:
        table = {
            "kind": "gitlab",
            "base_url": forge.base_url,
            "token": Secret(forge.token),
            "poll": 1,
            "settle": 0.3,
            "timeout": 2,
            **(settings or {}),
        }
        kit = Kit(
            evidence=evidence or NoEvidence(), images=(route or route_to(),), digest_of=digest_of
        )
        integration = setup({"lab": table}, World(clock=forge.clock), kit)
        try:
            yield Bench(forge, integration.actions[0], integration)
        finally:
            assert integration.close
            await integration.close()
        assert not forge.wrong_answers, forge.wrong_answers
        assert not forge.wrong_requests, forge.wrong_requests
        assert forge.leaked == []
