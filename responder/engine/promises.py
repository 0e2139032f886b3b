"""Pods that a plan was allowed to touch and that no apply has counted yet.

Plans are judged at one moment and begun at a later one. Without this, all plans of one moment
would see the same free place under the ceiling of the window.
"""

from __future__ import annotations

from collections.abc import Callable

from responder.clock import World

__all__ = ["Promises"]


class Promises:
    """What is counted for the window: begun applies, and allowed plans that are still to begin."""

    def __init__(self, begun: Callable[[], int], window: int, world: World) -> None:
        self._begun = begun
        self._window = window
        self._world = world
        self._made: dict[str, tuple[int, int]] = {}  # run and step -> (when, pods)

    def others(self, key: str) -> int:
        """Pods of the window, this one's own promise apart."""
        oldest = self._world.clock.now() - self._window
        self._made = {k: made for k, made in self._made.items() if made[0] >= oldest}
        return self._begun() + sum(pods for k, (_, pods) in self._made.items() if k != key)

    def make(self, key: str, pods: int) -> None:
        """A plan was allowed: its pods are counted from now on."""
        if pods:
            self._made[key] = (self._world.clock.now(), pods)

    def kept(self, key: str) -> None:
        """Its apply has begun, and counts by itself."""
        self._made.pop(key, None)
