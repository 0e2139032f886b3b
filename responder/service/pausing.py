"""The stop button: three ways to pause that share nothing, read without I/O where it matters.

API or command line write a switch in the store; a file named `PAUSE` beside the store does the
same without the server; each integration may bring a way of its own (a ConfigMap key). Any one of
them holds every new change within a second. Reads and undo go on. A way that cannot be read says
nothing: an unreachable cluster must not stop the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from responder.clock import World

__all__ = ["Pause"]

log = logging.getLogger(__name__)
_LOOK = 0.3  # seconds between two looks


class Pause:
    """Why changes must wait, kept fresh by `watch`."""

    def __init__(
        self, file: Path | None, others: Sequence[Callable[[], Awaitable[str]]], world: World
    ) -> None:
        self._file = file
        self._others = others
        self._world = world
        self._switch = ""
        self._reasons: dict[str, str] = {}

    @property
    def reason(self) -> str:
        """Empty when changes may go on."""
        return self._switch or next((r for r in self._reasons.values() if r), "")

    def set_switch(self, value: Mapping[str, Any] | None) -> None:
        """What API or command line said last."""
        self._switch = f"paused by {value['person']}: {value['reason']}" if value else ""

    async def watch(self, changed: Callable[[], None]) -> None:
        """Look at the file and the integrations' ways for ever; call `changed` on each turn."""
        watchers = [self._poll(str(n), other, changed) for n, other in enumerate(self._others)]
        await asyncio.gather(self._poll("file", self._look_file, changed), *watchers)

    async def look(self) -> None:
        """One look at every way, for the moment before the first change after a start."""
        await self._once("file", self._look_file)
        await asyncio.gather(*(self._once(str(n), o) for n, o in enumerate(self._others)))

    async def _poll(
        self, name: str, look: Callable[[], Awaitable[str]], changed: Callable[[], None]
    ) -> None:
        while True:
            before = self.reason
            await self._once(name, look)
            if self.reason != before:
                log.warning(
                    "pause changed", extra={"event": "pause", "reason": self.reason or "over"}
                )
                changed()
            await self._world.clock.sleep(_LOOK)

    async def _once(self, name: str, look: Callable[[], Awaitable[str]]) -> None:
        try:
            async with asyncio.timeout(5):
                self._reasons[name] = await look()
        except Exception as error:  # noqa: BLE001 - a way that cannot be read keeps its last word
            log.debug("pause look failed: %s", type(error).__name__)

    async def _look_file(self) -> str:
        if self._file is None:
            return ""
        try:
            text = self._file.read_bytes()[:200]
        except FileNotFoundError:
            return ""
        except OSError:
            return f"file {self._file} exists but cannot be read"
        words = text.decode("utf-8", "replace").strip()
        return f"file {self._file.name}: {words}" if words else f"file {self._file.name}"
