"""How many pods were changed within the window: what the ceilings count against.

Rebuilt from the journal at the start, so that a restart does not open the ceiling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from responder.clock import World
from responder.store.interface import Event

__all__ = ["Usage"]


class Usage:
    """A sliding window over `apply_started` events."""

    def __init__(self, window: int, world: World) -> None:
        self._window = window
        self._world = world
        self._seen: deque[tuple[int, int]] = deque()
        self._sum = 0

    def note(self, events: Iterable[Event]) -> None:
        """Count what was begun now."""
        for event in events:
            pods = int(event.data.get("pods", 0)) if event.type == "apply_started" else 0
            if pods:
                self._seen.append((event.at, pods))
                self._sum += pods

    def pods(self) -> int:
        """Pods changed within the window."""
        oldest = self._world.clock.now() - self._window
        while self._seen and self._seen[0][0] < oldest:
            self._sum -= self._seen.popleft()[1]
        return self._sum
