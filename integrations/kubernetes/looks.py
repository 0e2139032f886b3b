"""What was seen of a pod a moment ago, so that a plan right after a check need not ask again.

Safe to be a moment old: a plan is applied only to the very UID with the very labels it was made
for, and a conflict makes the next plan read afresh, because each look is handed out once.
"""

from __future__ import annotations

from dataclasses import dataclass

from integrations.kubernetes.client import Json
from integrations.kubernetes.surroundings import Around
from responder.clock import Clock

__all__ = ["Look", "Looks"]

_FRESH = 2.0  # seconds
_MOST = 512


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
