"""Keep the watchers of the integrations at work, and pass on what they hear.

A watcher that ends is started again, ever more slowly and never all at the same moment. What they
hear in one breath is passed on once. Losing a watcher loses no truth: everything that is held is
looked at by time as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from responder.clock import World
from responder.errors import ResponderError, StoreUnavailable
from responder.ports import Heard, Watcher

__all__ = ["Watching"]

log = logging.getLogger(__name__)
_BREATH = 0.5  # seconds: what is heard within it is one; a storm of changes asks the store seldom
_FIRST, _LONGEST = 1.0, 60.0  # seconds between two starts of one watcher
_HEALTHY = 30.0  # seconds at work after which the next start is a first one again


class Watching:
    """All watchers of one server."""

    def __init__(self, watchers: Sequence[Watcher], heard: Heard, world: World) -> None:
        self._watchers = watchers
        self._heard = heard
        self._world = world
        self._pending: dict[str, None] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled; without watchers there is nothing to do."""
        if not self._watchers:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on())
            for watcher in self._watchers:
                group.create_task(self._keep(watcher))

    async def _keep(self, watcher: Watcher) -> None:
        clock, tries = self._world.clock, 0
        while True:
            begun = clock.monotonic()
            try:
                await watcher(self._hear)
            except ResponderError as error:
                log.warning("a watcher ended", extra={"event": "watch_ended", "why": str(error)})
            except Exception:
                log.exception("a watcher failed", extra={"event": "watch_bug"})
            tries = 0 if clock.monotonic() - begun > _HEALTHY else tries + 1
            pause = min(_FIRST * 2.0 ** min(tries, 10), _LONGEST)
            await clock.sleep(pause * (0.5 + self._world.rng.random() / 2))

    async def _hear(self, correlation: str) -> None:
        self._pending[correlation] = None
        self._wake.set()

    async def _pass_on(self) -> None:
        while True:
            await self._wake.wait()
            await self._world.clock.sleep(_BREATH)
            self._wake.clear()
            heard, self._pending = list(self._pending), {}
            for correlation in heard:
                try:
                    await self._heard(correlation)
                except StoreUnavailable:
                    await self._hear(correlation)
                    await self._world.clock.sleep(1.0)
                except Exception:
                    log.exception("what was heard got lost", extra={"event": "heard_bug"})
