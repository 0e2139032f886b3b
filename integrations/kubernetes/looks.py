"""What was seen of a pod a moment ago, so that a plan right after a check need not ask again.

Safe to be a moment old: a plan is applied only to the very UID with the very labels it was made
for, and a conflict makes the next plan read afresh, because each look is handed out once. In a
storm the pods of one namespace share what stands around them.

A look may also be begun before anybody asks: while an alert is being stored, say. Each is given
out once, and bounded in number, because the one who would ask may never come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.surroundings import Around, glance
from responder.clock import Clock
from responder.errors import ResponderError

__all__ = ["Look", "Looks"]

_FRESH = 2.0  # seconds
_MOST = 512
_TOGETHER = 0.25  # seconds
_AHEAD = 1.0  # seconds after which a look that was begun ahead is too old to be given out
_WASTED, _MINUTE = 32, 60.0  # so many looks ahead that nobody asked for, in so many seconds


@dataclass(frozen=True, slots=True)
class Look:
    """A pod, its owners up to the root, and what stands around it, if that could be read."""

    pod: Json
    owners: list[Json]
    around: Around | None = None


class Looks:
    """The latest look at a pod and its owners, each for one use."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, Look]] = {}
        self._near: dict[str, tuple[float, asyncio.Task[Around | None]]] = {}
        self._ahead: dict[tuple[str, str], tuple[float, asyncio.Task[Look]]] = {}

    def begin(
        self, namespace: str, name: str, look: Callable[[], Coroutine[Any, Any, Look]]
    ) -> None:
        """Look at a pod before somebody asks, unless many such looks were in vain of late."""
        now = self._clock.monotonic()
        kept = {one: held for one, held in self._ahead.items() if now - held[0] < _MINUTE}
        self._ahead = kept
        if len(kept) < _WASTED and (namespace, name) not in kept:
            task = asyncio.create_task(look())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            kept[namespace, name] = (now, task)

    async def ahead(self, namespace: str, name: str) -> Look | None:
        """The look at this pod that was begun a moment ago; nothing when there is none.

        Nor when it failed: the one who asks looks again then, and hears the reason.
        """
        begun, task = self._ahead.pop((namespace, name), (0.0, None))
        if task is None or self._clock.monotonic() - begun >= _AHEAD:
            return None
        try:
            return await task
        except ResponderError:
            return None

    async def near(self, api: Api, namespace: str) -> Around | None:
        """What stands around in a namespace, not to be changed; nothing when it cannot be had.

        Who comes within a quarter of a second gets the same.
        """
        now = self._clock.monotonic()
        begun, task = self._near.get(namespace, (-_TOGETHER, None))
        if task is None or now - begun >= _TOGETHER:
            task = asyncio.create_task(glance(api, namespace))
            task.add_done_callback(lambda done: self._looked(namespace, done))
            fresh = {one: kept for one, kept in self._near.items() if now - kept[0] < _TOGETHER}
            self._near = {**fresh, namespace: (now, task)}
        return await asyncio.shield(task)  # one who no longer waits must not end it for the others

    def _looked(self, namespace: str, task: asyncio.Task[Around | None]) -> None:
        """Forget a look in vain; nobody may be there any more to hear why."""
        vain = task.cancelled() or task.exception() or task.result() is None
        if vain and self._near.get(namespace, (0.0, None))[1] is task:
            del self._near[namespace]

    def keep(self, look: Look) -> None:
        """Remember a look; the oldest one goes when there are many."""
        metadata = look.pod["metadata"]
        key = (metadata["namespace"], metadata["name"])
        self._seen.pop(key, None)
        if len(self._seen) >= _MOST:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = (self._clock.monotonic(), look)

    def take(self, namespace: str, name: str) -> Look | None:
        """The look at this pod, if it is fresh; it is not given out twice."""
        found = self._seen.pop((namespace, name), None)
        if found is None or self._clock.monotonic() - found[0] >= _FRESH:
            return None
        return found[1]
