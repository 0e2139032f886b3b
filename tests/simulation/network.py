"""Connections in memory: bytes arrive in order, late, or never again.

A link may be cut at any write; both ends then see the connection lost, and what was under way is
gone, as with a reset. Nothing is ever corrupted or reordered within one connection: TCP sees to
that. Every callback of an end runs in the context of the process that owns it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import ClientConnectorError, ClientRequest, TCPConnector

from tests.simulation.loop import PROCESS, SimLoop

__all__ = ["Links", "SimConnector"]


@dataclass
class Links:
    """How every connection behaves at this moment."""

    delay: float = 0.03  # seconds, at most, that bytes travel
    cut: float = 0.02  # chance that a write cuts its connection instead


class _End(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, loop: SimLoop, context: Context, name: str, port: int) -> None:
        super().__init__({"peername": (name, port), "sockname": (name, port)})
        self._loop = loop
        self._context = context
        self._arrives = 0.0  # when the last bytes sent will be there
        self.peer: _End
        self.protocol: Any = None
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; a link of chance may end here."""
        links = cast("Links", self._loop.links)
        if self.closed or self.peer.closed:
            return
        sender = self._context.get(PROCESS)
        if sender is not None and not sender.alive:
            return
        if self._loop.rng.random() < links.cut:
            self.abort()
            return
        wait = self._loop.rng.uniform(0, links.delay)
        self._arrives = max(self._arrives, self._loop.time() + wait)
        sent = bytes(data)
        self._loop.call_at(self._arrives, self.peer.receive, sent, context=self.peer._context)

    def receive(self, data: bytes) -> None:
        """Bytes of the other end are here."""
        if not self.closed:
            self._loop.note(f"bytes {data!r}")
            self.protocol.data_received(data)

    def writelines(self, list_of_data: Any) -> None:
        """Send several pieces as one."""
        self.write(b"".join(bytes(piece) for piece in list_of_data))

    def abort(self) -> None:
        """Cut the connection: both ends lose it, what travels is gone."""
        for end in (self, self.peer):
            end.lose(ConnectionResetError("the connection was cut"), 0.0)

    def close(self) -> None:
        """End it in order: what was sent still arrives."""
        if self.closed:
            return
        self.lose(None, 0.0)
        rest = max(self._arrives - self._loop.time(), 0.0)
        self._loop.call_later(rest, self.peer.lose, None, 0.0, context=self.peer._context)

    def lose(self, error: Exception | None, after: float) -> None:
        """Tell the protocol, once."""
        if not self.closed:
            self.closed = True
            lost: Callable[[Exception | None], None] = self.protocol.connection_lost
            self._loop.call_later(after, lost, error, context=self._context)

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the end to another protocol."""
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who reads this end."""
        return cast("asyncio.BaseProtocol", self.protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Links have room for everything."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits in an end."""
        return 0

    def pause_reading(self) -> None:
        """Bodies here are small; nobody needs to be slowed down."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""


class SimConnector(TCPConnector):
    """aiohttp's connector with the socket replaced by a link; `name` is the caller's address."""

    def __init__(self, loop: SimLoop, name: str) -> None:
        super().__init__(limit=0, force_close=False)
        self._sim, self._name, self._opened = loop, name, 0

    async def _create_direct_connection(
        self, req: ClientRequest, traces: Any, timeout: Any, *, client_error: Any = None
    ) -> tuple[asyncio.Transport, Any]:
        del traces, timeout, client_error
        loop, links = self._sim, cast("Links", self._sim.links)
        await asyncio.sleep(loop.rng.uniform(0, links.delay))
        door = loop.network.get((req.url.raw_host or "", req.port or 0))
        if door is None:
            raise ClientConnectorError(req.connection_key, ConnectionRefusedError("nobody listens"))
        self._opened += 1
        near = _End(loop, copy_context(), "server", 80)
        far = _End(loop, door.context.copy(), self._name, self._opened)
        near.peer, far.peer = far, near
        near.protocol, far.protocol = self._factory(), door.context.copy().run(door.factory)
        door.process.ends.append(far)
        near.protocol.connection_made(near)
        door.context.copy().run(far.protocol.connection_made, far)
        return near, near.protocol
