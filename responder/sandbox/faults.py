"""Faults on order: an answer that is refused, late, lost after acting, or never sent.

With them a test makes the sandbox behave as outside systems do on bad days. A fault never changes
what the request itself did: after `fail-after` and `reset-after` the effect is there and counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from responder.clock import World

__all__ = ["KINDS", "Fault", "Faults"]

KINDS = ("refuse", "fail-after", "reset-before", "reset-after", "slow")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, with which requests, and how often."""

    kind: str
    system: str = "*"  # cluster | forge | registry
    method: str = "*"
    path: str = "*"  # glob on the whole path
    times: int = 1
    skip: int = 0  # requests that still go well before
    status: int = 503  # of refuse and fail-after
    retry_after: str = ""
    seconds: float = 0.0  # of slow

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'kind is "{self.kind}", expected one of {", ".join(KINDS)}')


class Faults:
    """The orders that are still open. The first that fits a request is used up by it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: list[list[Any]] = []  # fault, requests to skip, times left

    def order(self, fault: Fault) -> None:
        """Let this go wrong from now on."""
        self._open.append([fault, fault.skip, fault.times])

    def order_json(self, data: Mapping[str, Any]) -> None:
        """The same from JSON; raises `TypeError` or `ValueError` for what is no fault."""
        self.order(Fault(**data))

    def clear(self) -> None:
        """Let all go well again."""
        self._open.clear()

    def _next(self, system: str, request: web.Request) -> Fault | None:
        for entry in self._open:
            fault: Fault = entry[0]
            words = ((system, fault.system), (request.method, fault.method))
            if not all(fnmatchcase(*pair) for pair in (*words, (request.path, fault.path))):
                continue
            if entry[1]:
                entry[1] -= 1
                continue
            entry[2] -= 1
            if not entry[2]:
                self._open.remove(entry)
            return fault
        return None

    def middleware(self, system: str) -> Middleware:
        """The place in an app's chain where its faults happen."""

        @web.middleware
        async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
            asking = request.path.startswith("/_sandbox/")
            fault = None if asking else self._next(system, request)
            return (
                await handler(request) if fault is None else await self._do(fault, request, handler)
            )

        return faulty

    async def _do(self, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        if fault.kind == "slow":
            await self._world.clock.sleep(fault.seconds)
            return await handler(request)
        if fault.kind in {"fail-after", "reset-after"}:
            await request.read()
            await handler(request)
        if fault.kind.startswith("reset") and request.transport is not None:
            request.transport.abort()
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        return web.json_response({"message": "fault"}, status=fault.status, headers=headers)
