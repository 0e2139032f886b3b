"""What an isolation of ours writes: what is heard of it is our own doing, and no news.

Two ways to know it. From the first write to the beginning of the proof nothing that is heard of
these objects counts, because the proof sees it, whoever did it. Later a word is ours only when it
tells of the very version that our write made. Never more, or the deed of somebody else would be
taken for ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from responder.clock import Clock

__all__ = ["Underway"]

Json = dict[str, Any]
_LONGEST = 60.0  # seconds: longer than any isolation takes from its first write to its proof
_MOST = 2048  # versions that are remembered


class Underway:
    """The objects of one cluster, each "namespace/name", that are being written now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._written: dict[tuple[str, str], None] = {}

    def begin(self, places: Iterable[str]) -> None:
        """What is heard of these from now on is our own doing."""
        self._until |= dict.fromkeys(places, self._clock.monotonic() + _LONGEST)

    def wrote(self, item: Json) -> None:
        """What a write of ours has made, as the API server answered."""
        metadata = item.get("metadata") or {}
        if len(self._written) >= _MOST:
            del self._written[next(iter(self._written))]
        self._written[_place(metadata), metadata.get("resourceVersion", "")] = None

    def end(self, places: Iterable[str]) -> None:
        """A proof begins, or none will come: from now on every word of others counts."""
        for place in places:
            self._until.pop(place, None)

    def knows(self, item: Json) -> bool:
        """Whether a word about an object tells of nothing but our own doing."""
        metadata = item["metadata"]
        place = _place(metadata)
        if (place, metadata.get("resourceVersion", "")) in self._written:
            return True
        return self._clock.monotonic() < self._until.get(place, 0.0)


def _place(metadata: Json) -> str:
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
