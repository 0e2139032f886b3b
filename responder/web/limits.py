"""What a caller may cost: bytes, depth, time, and how a body is read under those limits.

aiohttp alone holds a stalled body for ever and answers 500 to concatenated empty gzip members,
so bodies are read and unpacked here. Nothing here trusts Content-Length.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from aiohttp import web

from responder.web.problems import Refused

__all__ = ["Budget", "Limits", "check_hook_json", "load_json", "read_body", "require_json"]

MIB = 1 << 20
_GZIP = 31  # zlib window bits that accept the gzip header and nothing else
_INT_DIGITS = 20  # enough for every 64-bit number with its sign
_INT_MAX = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The numbers of this door; the defaults are what a small server can carry."""

    hook_bytes: int = MIB
    api_bytes: int = 256 * 1024
    depth: int = 64
    body_seconds: float = 15.0  # for the whole body, however it trickles
    header_seconds: float = 10.0  # from the first byte of a request to its empty line
    write_seconds: float = 10.0  # how long a reader may take nothing of what waits for it
    keepalive_seconds: float = 95.0  # Go's HTTP client keeps idle connections for 90 s
    connections: int = 768  # leaves room below the usual 1,024 open files
    connections_per_address: int = 0  # 0: three quarters of what fits
    buffered_bytes: int = 32 * MIB  # bodies being read at one moment, all callers together
    grace_seconds: float = 10.0  # for requests in flight when the server is told to stop


class Budget:
    """Counts the bytes of all bodies being read; says no before memory does."""

    __slots__ = ("_limit", "used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Room for one body; given back whatever happens."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            self.used -= lease.size

    def take(self, size: int) -> None:
        """Raise a 503 refusal when the bytes do not fit now."""
        if self.used + size > self._limit:
            raise Refused(503, "too many large bodies at this moment", close=True)
        self.used += size


class Lease:
    """One body's share of the budget."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def grow(self, size: int) -> None:
        """Take more; raises a 503 refusal when there is none."""
        self._budget.take(size)
        self.size += size


def require_json(request: web.Request) -> None:
    """Raise 415 unless the caller says that it sends JSON in UTF-8."""
    kind = request.content_type
    subtype = kind.partition("/")[2]
    if "Content-Type" not in request.headers or not (
        kind == "application/json" or subtype.endswith("+json")
    ):
        raise Refused(415, 'the body must come with "Content-Type: application/json"', close=True)
    if (request.charset or "utf-8").lower().replace("_", "-") not in {"utf-8", "utf8"}:
        raise Refused(415, "the body must be in UTF-8", close=True)


async def read_body(
    request: web.Request, limit: int, seconds: float, budget: Budget, *, gzip: bool = False
) -> bytes:
    """The whole body within size and time; raises 408, 413, 415, 400 or 503 refusals.

    `gzip` says whether the path takes a packed body. Its output is capped like a plain body, and
    it must be exactly one complete member.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ({"identity", "gzip"} if gzip else {"identity"}):
        raise Refused(415, "this Content-Encoding is not taken here", close=True)
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    await _continue(request)
    if request.content.is_eof():  # the ordinary case: it came with its header, no clock is needed
        data = _at_once(request, limit)
    else:
        with budget.lease() as lease:
            try:
                async with asyncio.timeout(seconds):
                    data = await _gather(request, limit, lease)
            except TimeoutError:
                text = f"the body took longer than {seconds:g} s"
                raise Refused(408, text, close=True) from None
    return _unpack(data, limit) if encoding == "gzip" else data


def _at_once(request: web.Request, limit: int) -> bytes:
    try:
        data = request.content.read_nowait()
    except web.RequestPayloadError:
        raise _badly_framed() from None
    if len(data) > limit:
        raise _too_large(limit)
    return data


async def _gather(request: web.Request, limit: int, lease: Lease) -> bytes:
    data = bytearray()
    try:
        async for chunk in request.content.iter_any():
            if len(data) + len(chunk) > limit:
                raise _too_large(limit)
            lease.grow(len(chunk))
            data += chunk
    except web.RequestPayloadError:
        raise _badly_framed() from None
    return bytes(data)


async def _continue(request: web.Request) -> None:
    """Tell a caller that waits before it sends (curl does) to go on, now that it may."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _unpack(data: bytes, limit: int) -> bytes:
    member = zlib.decompressobj(_GZIP)
    try:
        out = member.decompress(data, limit + 1)
    except zlib.error:
        raise Refused(400, "the body is not what gzip writes") from None
    if len(out) > limit:
        raise _too_large(limit)
    if not member.eof or member.unused_data:
        raise Refused(400, "the body must be exactly one complete gzip member")
    return out


def _badly_framed() -> Refused:
    return Refused(400, "the body ends early or is badly framed", close=True)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit} bytes", close=True)


# --------------------------------------------------------------------------- JSON

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# every escape up to the end, high and low halves only as pairs; possessive, so linear
_PAIRED = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+",
    re.DOTALL,
)


def check_hook_json(body: bytes, depth: int) -> None:
    """Raise 400 for what would hurt later: nested too deep, half a character.

    Cheap for the ordinary body: nothing is parsed here, the source does that. Bytes that are not
    UTF-8 pass, and the source replaces them: a file's or process's name may hold any byte, and an
    intruder who chose such a name must not make the alert about it vanish.
    """
    if body.count(b"[") + body.count(b"{") > depth and _deeper(body, depth):
        raise Refused(
            400, f"the body nests deeper than {depth} levels, or its brackets do not pair"
        )
    if _SURROGATE.search(body):
        whole = _PAIRED.match(body)
        if whole is None or whole.end() != len(body):
            raise Refused(400, "the body holds half of a surrogate pair")


def _deeper(body: bytes, depth: int) -> bool:
    """Whether brackets outside of strings nest deeper than `depth`, or do not pair.

    Works on the whole text with a few passes in C: a loop over a megabyte of brackets would keep
    everybody else waiting. Each pass takes the innermost level away.
    """
    outside = b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    rest = outside.translate(None, _NOT_BRACKETS)
    for _ in range(depth):
        if rest[: depth + 1].strip(b"[{") == b"" and len(rest) > depth:
            return True
        before = len(rest)
        rest = rest.replace(b"[]", b"").replace(b"{}", b"")
        if len(rest) == before:
            break
    return bool(rest)


def load_json(body: bytes, depth: int) -> Any:
    """Parse strictly: raises 400 for everything that a later layer might read differently.

    Refused: not UTF-8, deep nesting, NaN and infinities, integers beyond 64 bits, a key twice,
    NUL, half of a surrogate pair.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    check_hook_json(body, depth)
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_small_int,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except ValueError as failure:
        where = f" at character {failure.pos}" if isinstance(failure, json.JSONDecodeError) else ""
        raise Refused(400, f"the body is not JSON{where}") from None
    except RecursionError:
        raise Refused(400, f"the body nests deeper than {depth} levels") from None
    if b"\\u0000" in body and _has_nul(value):
        raise Refused(400, "the body holds a NUL character")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Refused(400, f"{name} is not JSON")


def _small_int(digits: str) -> int:
    if len(digits) > _INT_DIGITS or not -_INT_MAX <= (number := int(digits)) < _INT_MAX:
        raise Refused(400, "a number in the body does not fit 64 bits")
    return number


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise Refused(400, "a number in the body is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Refused(400, "an object in the body has the same key twice")
    return value


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)
