"""Fetch bounded bodies over aiohttp: no silent redirects, no default executor, no body in errors.

Used by what speaks plain HTTP to outside systems. Policy (deadline, retry, failure classes) is
`_calling`'s; here are the session, the size bound, and what an HTTP failure means.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLContext

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from integrations._calling import Caller, Fault, FaultKind, retry_after
from responder.clock import World
from responder.errors import StepFailed

__all__ = ["Answer", "HttpError", "fetch", "new_session", "own_classifier"]

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, its body bounded; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpError(Exception):
    """An answer whose status says no; keeps status and headers, never the body."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = dict(headers)


class _PoolResolver(AbstractResolver):
    """Looks names up in the pool of the system that asks, so that slow DNS stalls only that one."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host; raises `OSError` as `socket.getaddrinfo` does."""
        found = await self._caller.in_pool(
            lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing of its own to close."""


def new_session(
    caller: Caller, *, timeout: float, ssl: SSLContext | bool = True
) -> aiohttp.ClientSession:
    """A session for one outside system: own name look-up, no cookies, no proxy from outside.

    Call it inside a running loop; the caller closes it.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_PoolResolver(caller), ssl=ssl, limit=16),
        timeout=aiohttp.ClientTimeout(total=timeout, connect=timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "runtime-responder"},
        auto_decompress=False,  # a small body must not become a great one
    )


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    limit: int,
    headers: Mapping[str, str] | None = None,
    data: bytes | None = None,
) -> Answer:
    """Ask once and return the answer whatever its status; redirects are answers, not followed.

    Raises `StepFailed` when the body is longer than `limit` bytes, and aiohttp's own errors.
    """
    asked = {"Accept-Encoding": "identity", **(headers or {})}
    async with session.request(
        method, url, headers=asked, data=data, allow_redirects=False
    ) as response:
        names = {name.lower(): value for name, value in response.headers.items()}
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > limit:
                raise StepFailed(f"answer of {response.url.host} is longer than {limit} bytes")
        return Answer(response.status, names, bytes(body))


def own_classifier(world: World) -> _Classifier:
    """A classifier for `HttpError` and aiohttp's errors."""
    return _Classifier(world)


@dataclass(frozen=True, slots=True)
class _Classifier:
    world: World

    def __call__(self, error: Exception) -> Fault:
        if isinstance(error, HttpError):
            return self._status(error)
        if isinstance(error, aiohttp.ClientConnectorError):
            return Fault(FaultKind.REFUSED, "cannot connect")
        if isinstance(error, aiohttp.InvalidURL):
            return Fault(FaultKind.FINAL, "not a usable address")
        if isinstance(error, aiohttp.ClientError | OSError | asyncio.TimeoutError):
            return Fault(FaultKind.AMBIGUOUS, f"connection failed ({type(error).__name__})")
        return Fault(FaultKind.FINAL, f"unexpected {type(error).__name__}")

    def _status(self, error: HttpError) -> Fault:
        after = retry_after(error.headers, self.world.clock.now())
        text = f"HTTP {error.status}"
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            return Fault(FaultKind.REFUSED, f"{text}, too many requests", after or 60.0)
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Fault(FaultKind.AMBIGUOUS, text, after)
        if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return Fault(FaultKind.NOT_FOUND, f"{text}, not there")
        if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return Fault(FaultKind.FINAL, f"{text}, check the credentials and their rights")
        return Fault(FaultKind.FINAL, text)
