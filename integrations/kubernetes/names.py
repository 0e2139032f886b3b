"""Look up an API server's name in threads of our own.

aiohttp's resolver uses the event loop's default executor, whose few threads everybody shares: a
DNS server that does not answer would stall all of them.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["Names"]

_THREADS = 2


class Names(AbstractResolver):
    """A resolver with two threads for one cluster; they start with the first look-up."""

    def __init__(self, cluster: str) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, f"names-{cluster}")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises `OSError`, which the client reads as "not sent"."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, _look_up, host, port, family)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Take no more look-ups; one that hangs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


Found = list[
    tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[int, bytes]]
]


def _look_up(host: str, port: int, family: int) -> Found:
    found = socket.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [
        (kind, how, proto, name, (str(at[0]), int(at[1]))) for kind, how, proto, name, at in found
    ]
