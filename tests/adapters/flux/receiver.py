"""Flux's notification-controller as far as a Receiver needs it: path, signature, answers.

The path and the signature are made as Flux documents them:
https://fluxcd.io/flux/components/notification/receivers/
"""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from aiohttp import web

from tests.doubles.faults import ACTING, LIMITS, Fault, Faults

SLOW = 30.0
TOKEN = "receiver-token-of-the-double"


@dataclass
class Receivers:
    """One Receiver called flux-system/deploy. ``heard`` is what it has acted on."""

    hmac: bool = True
    ready: bool = True
    moved: str = ""
    faults: Faults = field(default_factory=Faults)
    heard: list[bytes] = field(default_factory=list)
    asked: int = 0
    then: Callable[[], None] = lambda: None  # what a notice makes Flux do
    url: str = ""

    @property
    def path(self) -> str:
        """Where it listens."""
        digest = hashlib.sha256(f"{TOKEN}deployflux-system".encode()).hexdigest()
        return f"/hook/{digest}"

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request as the controller does."""
        self.asked += 1
        body = await request.read()
        if self.moved:
            return web.Response(status=307, headers={"Location": self.moved})
        fault = self.faults.take("notify")
        if fault in LIMITS:
            return web.Response(status=429)
        if fault is None or fault in ACTING:
            answer = self._act(request, body)
            if fault is None:
                return answer
        if fault in {Fault.SLOW_AFTER, Fault.SLOW_BEFORE}:
            await asyncio.sleep(SLOW)
        if fault in {Fault.RESET_AFTER, Fault.RESET_BEFORE} and request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)

    def _act(self, request: web.Request, body: bytes) -> web.Response:
        if request.path != self.path:
            return web.Response(status=404)
        if not self.ready:
            return web.Response(status=503)
        if self.hmac:
            kind, _, mark = request.headers.get("X-Signature", "").partition("=")
            wanted = hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
            if kind != "sha256" or not hmac.compare_digest(mark, wanted):
                return web.Response(status=400)
        self.heard.append(body)
        self.then()
        return web.Response(status=200)


@contextlib.asynccontextmanager
async def running(**changes: object) -> AsyncIterator[Receivers]:
    """Serve the Receiver for the length of a block."""
    made = Receivers(**changes)  # type: ignore[arg-type]
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
