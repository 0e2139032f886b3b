"""Keep the public keys of senders in memory, and fetch them outside of every check.

A check is synchronous and does no I/O: it only asks `held`. What it will need is fetched before it
by `refresh`, which the service awaits. Fetched is only over https, without redirects, bounded, one
at a time, and only what the caller has found on its list of allowed addresses.

Never: fetches from an address that a message named and nobody allowed; keeps private keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from integrations._calling import Caller
from integrations._fetch import HttpError, fetch, new_session, own_classifier
from responder.clock import World
from responder.errors import ResponderError, StoreUnavailable

__all__ = ["Fetch", "KeyRing", "over_https"]

Fetch = Callable[[str], Awaitable[bytes]]

_KEYS_MAX = 16
_BYTES_MAX = 64 * 1024
_TIMEOUT = 5.0  # seconds; a sender waits meanwhile
_FRESH = 3600.0  # seconds until keys are asked for anew
_PAUSE = 30.0  # seconds after a failure in which the same address is not asked again


@dataclass(frozen=True, slots=True)
class _Held:
    body: bytes
    until: float


class KeyRing:
    """Documents with public keys, by address."""

    def __init__(self, world: World, ask: Fetch | None = None) -> None:
        self._world = world
        self._close: Callable[[], Awaitable[None]] | None = None
        self._ask = ask or self._over_https
        self._held: dict[str, _Held] = {}
        self._failed: dict[str, float] = {}
        self._lock = asyncio.Lock()

    def held(self, url: str) -> bytes:
        """What was fetched from there, however old; empty when nothing was."""
        found = self._held.get(url)
        return found.body if found else b""

    async def refresh(self, url: str) -> None:
        """Fetch what is missing or old. Raises `StoreUnavailable` when there is nothing at all.

        That error makes the sender come back later. Old keys stay in use while their place cannot
        be reached.
        """
        if self._fresh(url):
            return
        async with self._lock:
            if self._fresh(url):
                return
            now = self._world.clock.monotonic()
            if now >= self._failed.get(url, now):
                await self._fetch(url, now)
        if url not in self._held:
            raise StoreUnavailable("the sender's public keys cannot be fetched now")

    async def open(self, url: str) -> None:
        """Open an address for what it does and keep nothing. Raises `StoreUnavailable`."""
        async with self._lock:
            try:
                await self._ask(url)
            except ResponderError:
                raise StoreUnavailable("the sender's address cannot be opened now") from None

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._close is not None:
            await self._close()

    def _fresh(self, url: str) -> bool:
        found = self._held.get(url)
        return found is not None and self._world.clock.monotonic() < found.until

    async def _fetch(self, url: str, now: float) -> None:
        try:
            body = await self._ask(url)
        except ResponderError:
            self._failed = dict(list(self._failed.items())[-_KEYS_MAX:]) | {url: now + _PAUSE}
            return
        self._failed.pop(url, None)
        self._held.pop(url, None)
        self._held = dict(list(self._held.items())[1 - _KEYS_MAX :])
        self._held[url] = _Held(body, now + _FRESH)

    async def _over_https(self, url: str) -> bytes:
        self._ask, self._close = over_https(self._world)
        return await self._ask(url)


def over_https(world: World) -> tuple[Fetch, Callable[[], Awaitable[None]]]:
    """How keys are fetched, and how that is closed. Call it inside of a running loop."""
    caller = Caller(
        "keys", world, classify=own_classifier(world), threads=1, deadline=_TIMEOUT, attempts=1
    )
    session = new_session(caller, timeout=_TIMEOUT)

    async def ask(url: str) -> bytes:
        async def once() -> bytes:
            answer = await fetch(session, "GET", url, limit=_BYTES_MAX)
            if answer.status != HTTPStatus.OK:
                raise HttpError(answer.status, answer.headers)
            return answer.body

        return await caller.awaiting("fetch public keys", once)

    async def close() -> None:
        await session.close()
        caller.close()

    return ask, close
