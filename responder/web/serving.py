"""Put the application on a socket, with the limits that aiohttp lacks.

Added: a deadline for headers, a cap on connections, a deadline for readers that take nothing,
one short log line instead of a traceback for each broken request, problem documents for requests
that cannot even be parsed, and a stop that lets requests in flight end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from ssl import SSLContext
from typing import Any

from aiohttp import StreamReader, web

from responder.text import for_terminal
from responder.web.lane import Delivery, Lane
from responder.web.limits import Limits
from responder.web.problems import problem

__all__ = ["LANE", "Door", "Guard", "listening", "serve"]

LANE: web.AppKey[Lane] = web.AppKey("lane")  # who answers plain deliveries, where there is one

log = logging.getLogger(__name__)

_READ_BUFFER = 64 * 1024  # bytes aiohttp reads ahead of a handler, per connection
_BITE = 16 * 1024  # bytes taken from a socket at once: 200,000 chunks of one byte cost 0.1 s
_FRAMING = 32 * 1024  # bytes that are no body, beyond a quarter of it, before a request is cut
_LINGER = 2.0  # seconds to swallow the rest of a refused body, so that the answer gets through
_SPARE_FILES = 128  # for store, clusters, forges
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class Guard:
    """Knows every open connection of one listener, and cuts those that only cost."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.loop = loop
        self.doors: dict[Door, str] = {}
        self.per_address: Counter[str] = Counter()
        self.answering: set[asyncio.Task[None]] = set()  # deliveries, of lost connections too
        self.refused = 0
        self._said = -1.0
        self._unsaid = 0
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.cap = max(8, min(limits.connections, files - _SPARE_FILES))
        self.share = limits.connections_per_address or max(8, self.cap * 3 // 4)

    def admit(self, door: Door, address: str) -> bool:
        """Whether one more connection fits; the one idle for longest makes room when not."""
        if self.per_address[address] >= self.share:
            self._make_room(address)
        elif len(self.doors) >= self.cap:
            self._make_room("")
        if self.per_address[address] >= self.share or len(self.doors) >= self.cap:
            self.refused += 1
            self.say(f"connection refused: {len(self.doors)} are open")
            return False
        self.doors[door] = address
        self.per_address[address] += 1
        return True

    def _make_room(self, address: str) -> None:
        """Cut the connection (of this address) that has done nothing for longest, if any."""
        idle = [
            door for door, of in self.doors.items() if door.idle and (not address or of == address)
        ]
        if idle:
            min(idle, key=lambda door: door.idle_since).cut("room for a new one")

    def forget(self, door: Door) -> None:
        """The connection is gone."""
        address = self.doors.pop(door, None)
        if address is not None:
            self.per_address[address] -= 1
            if not self.per_address[address]:
                del self.per_address[address]

    async def sweep(self) -> None:
        """Look at every connection about once a second, for ever."""
        pause = min(1.0, self.limits.header_seconds / 4, self.limits.write_seconds / 4)
        while True:
            await asyncio.sleep(pause)
            now = self.loop.time()
            for door in list(self.doors):
                door.check(now, self.limits)

    def say(self, text: str) -> None:
        """One log line a second at most, with the number left out: a flood is no news."""
        now = self.loop.time()
        if now - self._said < 1.0:
            self._unsaid += 1
            return
        more = f" (and {self._unsaid} more like it)" if self._unsaid else ""
        self._said, self._unsaid = now, 0
        log.warning("%s%s", for_terminal(text), more)


class Door(web.RequestHandler):
    """aiohttp's connection, watched by the guard."""

    __slots__ = (
        "_answering", "_body", "_ending", "_guard", "_heard", "_held", "_lane", "_raw", "_stuck_at",
        "_stuck_since", "_working", "idle_since"
    )  # fmt: skip

    def __init__(
        self, guard: Guard, manager: web.Server, lane: Lane | None = None, **options: Any
    ) -> None:
        super().__init__(manager, loop=guard.loop, **options)
        self._guard = guard
        self._lane = lane  # none once aiohttp has been given a byte: the two never take turns
        self._answering: asyncio.Task[None] | None = None  # of the lane
        self._held = b""  # came while the lane was at work
        self._ending = False
        self._working = False
        self._heard: float | None = None  # when the first byte of the next request came
        self._body: StreamReader | None = None
        self._raw = 0  # bytes that came while the body was being read
        self._stuck_at = 0
        self._stuck_since = 0.0
        self.idle_since = guard.loop.time()

    @property
    def idle(self) -> bool:
        """No request is at work and nothing waits to be read by the caller."""
        return not self._working and not self._waiting_bytes()

    def begins(self, body: StreamReader) -> None:
        """A whole header has arrived and its handler starts."""
        self._working = True
        self._body, self._raw = body, 0
        self._heard = None

    def ends(self) -> None:
        """The handler has made its answer."""
        self._working = False
        self.idle_since = self._guard.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say at once that there is no room."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        if self._guard.admit(self, address):
            if hasattr(transport, "max_size"):  # asyncio's own; what one turn of the loop parses
                transport.max_size = _BITE
            super().connection_made(transport)
            return
        self.close()
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(_FULL)
        transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it, whatever the reason."""
        self._guard.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer a plain delivery; for anything else note when a request begins to arrive."""
        if self._lane is not None and self._by_lane(self._lane, data):
            return
        if not self._working and self._heard is None:
            self._heard = self._guard.loop.time()
        super().data_received(data)
        if self._working and self._body is not None and not self._body.is_eof():
            self._raw += len(data)
            # chunks of a byte or two cost the parser far more than they carry
            if self._raw > _FRAMING + self._body.total_bytes * 5 // 4:
                self.cut("its body is mostly framing")

    def _by_lane(self, lane: Lane, data: bytes) -> bool:
        """Whether the lane takes these bytes; if not, it takes none of this connection any more."""
        if self._answering is not None:  # in order: what comes now waits
            self._held += data
            if self.transport is not None:
                self.transport.pause_reading()
            return True
        transport = self.transport
        if transport is None or self._ending or self._waiting_bytes():
            delivery = None
        else:
            delivery = lane.read(data)
        if transport is None or delivery is None:
            self._lane = None
            return False
        self._working = True
        self._answering = self._guard.loop.create_task(self._answer(lane, delivery, transport))
        self._guard.answering.add(self._answering)
        self._answering.add_done_callback(self._guard.answering.discard)
        return True

    async def _answer(self, lane: Lane, delivery: Delivery, transport: asyncio.Transport) -> None:
        """One delivery, from its bytes to its answer's; stored even when its sender has gone."""
        address = self._guard.doors.get(self, "")
        answer, stays = await lane.answer(delivery, address, transport)
        self._answering = None
        self.ends()
        if transport.is_closing():
            return
        transport.write(answer)
        if not stays or self._ending:
            transport.close()
        elif self._held:
            held, self._held = self._held, b""
            transport.resume_reading()
            self.data_received(held)

    def close(self) -> None:
        """Take no more requests; the one at work gets its answer."""
        self._ending = True
        super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """End the connection after the delivery at work, or when the time is over."""
        answering = self._answering
        if answering is not None and not (await asyncio.wait([answering], timeout=timeout))[0]:
            answering.cancel()
        await super().shutdown(timeout)

    def check(self, now: float, limits: Limits) -> None:
        """Cut the connection when its header or its reader takes too long; end an idle one."""
        if not self._working and self._heard is not None:
            if now - self._heard > limits.header_seconds:
                self.cut("its header took too long")
            return
        if self._lane is not None and self.idle:  # aiohttp has a clock of its own, the lane none
            if self.transport is not None and now - self.idle_since > limits.keepalive_seconds:
                self.transport.close()
            return
        waiting = self._waiting_bytes()
        if not waiting or waiting < self._stuck_at or not self._stuck_at:
            self._stuck_since = now
        elif now - self._stuck_since > limits.write_seconds:
            self.cut("its reader takes nothing")
        self._stuck_at = waiting

    def cut(self, reason: str) -> None:
        """End the connection now; what it waits for is lost."""
        self._guard.forget(self)
        self._guard.say(f"connection cut: {reason}")
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's; it repeats what was sent
    ) -> web.StreamResponse:
        """A request that could not be parsed: one line for us, a document for the caller."""
        self._guard.say(f"broken request answered with {status}: {type(exc).__name__}")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; no other one can follow")
        return problem(
            status, f"not a request this server reads: {HTTPStatus(status).phrase}", close=True
        )

    def _waiting_bytes(self) -> int:
        return self.transport.get_write_buffer_size() if self.transport is not None else 0


@contextlib.asynccontextmanager
async def listening(
    app: web.Application,
    host: str,
    port: int,
    *,
    ssl: SSLContext | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[str]:
    """Serve while the block runs; yields the base URL (port 0 finds a free one).

    Leaving the block closes the listener, lets requests in flight end within the grace time,
    and ends event streams. Raises `OSError` when the address cannot be had.
    """
    limits = limits or Limits()
    loop = asyncio.get_running_loop()
    guard = Guard(limits, loop)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=limits.grace_seconds)
    await runner.setup()
    sweeper = loop.create_task(guard.sweep())
    try:
        server = await loop.create_server(
            _factory(guard, runner, limits, app.get(LANE)),
            host,
            port,
            ssl=ssl,
            backlog=1024,
            ssl_handshake_timeout=limits.header_seconds if ssl else None,
        )
        try:
            bound = server.sockets[0].getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            yield f"{'https' if ssl else 'http'}://{shown}:{bound}"
        finally:
            server.close()
    finally:
        sweeper.cancel()
        await runner.cleanup()
        if guard.answering:
            await asyncio.wait(guard.answering, timeout=limits.grace_seconds)
        await asyncio.sleep(0)  # connections that were let go end in the next turn of the loop


def _factory(
    guard: Guard, runner: web.AppRunner, limits: Limits, lane: Lane | None
) -> Callable[[], Door]:
    manager = runner.server
    if manager is None:
        raise LookupError("the runner is set up before it listens")

    def make() -> Door:
        return Door(
            guard,
            manager,
            lane,
            access_log=None,  # 53-64 µs a request; metrics count, failures are logged
            keepalive_timeout=limits.keepalive_seconds,
            lingering_time=_LINGER,
            read_bufsize=_READ_BUFFER,
            auto_decompress=False,  # limits.read_body does it, with a cap
        )

    return make


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    ssl: SSLContext | None = None,
    limits: Limits | None = None,
    started: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; `started` hears the base URL."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with listening(app, host, port, ssl=ssl, limits=limits) as url:
            if started is not None:
                started(url)
            await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
