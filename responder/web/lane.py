"""The short way of a delivery: from the bytes of a plain request to the bytes of its answer.

Parsing into objects, router, middleware and headers cost twice what the product does with an
alert. Nearly every delivery is a request of one plain shape that arrives in one piece, so that
shape is read here: `POST /v1/hooks/NAME HTTP/1.1`, well-formed header lines, each name once, JSON,
a length that is exactly what follows. Anything else, however slightly other, is left to aiohttp
untouched, and with it all that this connection ever sends (`serving.Door`): two readers that took
turns could disagree where a request begins.

Never: decides who may deliver (the service does, before the body is looked at), answers before
the service has, or reads what is not wholly there.
"""

from __future__ import annotations

import re
from asyncio import BaseTransport
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from responder.clock import SECOND
from responder.text import compact
from responder.web.hooks import PLAIN_JSON, certified, take
from responder.web.problems import SECURITY_HEADERS, problem_of
from responder.web.routing import Desk

__all__ = ["Delivery", "Lane", "read"]

_LINE = re.compile(rb"POST /v1/hooks/([A-Za-z0-9][A-Za-z0-9_-]{0,62}) HTTP/1\.1\r\n")
# a field by the book: no blank before the colon, one after it, none at the ends, no odd character
_FIELD = re.compile(r"^([A-Za-z][A-Za-z0-9-]*): ([!-~]+(?: [!-~]+)*)\r$", re.ASCII | re.MULTILINE)
_LENGTH = re.compile(r"[1-9][0-9]{0,6}", re.ASCII)
_HEAD_MAX = 8000  # what aiohttp's parser takes in one line
# what makes a request more than its header and so many bytes
_MORE = frozenset(
    {
        "transfer-encoding",
        "content-encoding",
        "expect",
        "upgrade",
        "trailer",
        "te",
        "http2-settings",
    }
)
_STAYS = {"keep-alive", "Keep-Alive"}


class Delivery(NamedTuple):
    """One plain request, whole."""

    hook: str
    headers: dict[str, str]  # by lower-case name
    body: bytes


def read(data: bytes, most: int) -> Delivery | None:
    """The one plain request that `data` is, with a body of at most `most` bytes; else None."""
    line = _LINE.match(data)
    if line is None:
        return None
    end = data.find(b"\r\n\r\n", line.end())
    if not 0 < end < _HEAD_MAX:
        return None
    head = data[line.end() : end + 1]  # with the last line's \r: a field ends there
    if not head.isascii():
        return None
    fields = _FIELD.findall(head.decode("ascii"))
    headers = {name.lower(): value for name, value in fields}
    if len(headers) != head.count(b"\n") + 1 or not _MORE.isdisjoint(headers):
        return None
    length = headers.get("content-length", "")
    body = data[end + 4 :]
    if (
        not _LENGTH.fullmatch(length)
        or int(length) != len(body)
        or len(body) > most
        or "host" not in headers
        or headers.get("content-type") not in PLAIN_JSON
        or headers.get("connection", "keep-alive") not in _STAYS
    ):
        return None
    return Delivery(line[1].decode("ascii"), headers, body)


class Lane:
    """Answers plain deliveries of all connections of one server."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._heads: dict[int, bytes] = {}  # of this second, by status
        self._second = 0

    def read(self, data: bytes) -> Delivery | None:
        """The plain request that `data` is; None: it goes the ordinary way."""
        return read(data, self._desk.limits.hook_bytes)

    async def answer(
        self, delivery: Delivery, address: str, transport: BaseTransport
    ) -> tuple[bytes, bool]:
        """The whole answer, and whether the connection stays. Raises only a cancellation."""
        headers = delivery.headers
        if names := certified(transport):
            headers["tls:names"] = "\n".join(names)
        service = self._desk.service
        try:
            await service.hook(delivery.hook)
            await service.preauthorize(delivery.hook, headers)
            status, told = await take(self._desk, delivery.hook, headers, delivery.body, address)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it becomes a problem document
            return self._refused(failure)
        body = compact(told).encode()
        return b"%b%d\r\n\r\n%b" % (self._head(status), len(body), body), True

    def _refused(self, failure: Exception) -> tuple[bytes, bool]:
        """The document as it goes over the wire."""
        made = problem_of(failure, self._desk.world)
        body = made.body if isinstance(made.body, bytes) else b""
        stays = made.keep_alive is not False
        lines = [f"HTTP/1.1 {made.status} {made.reason}"]
        lines += [f"{name}: {value}" for name, value in made.headers.items()]
        lines += [self._date(self._now()), f"Content-Length: {len(body)}"]
        lines += [] if stays else ["Connection: close"]
        return "\r\n".join([*lines, "", ""]).encode() + body, stays

    def _head(self, status: int) -> bytes:
        """Everything before the number of the body's bytes; made once a second."""
        second = self._now()
        if second != self._second:
            self._heads, self._second = {}, second
        head = self._heads.get(status)
        if head is None:
            lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
            lines += [f"{name}: {value}" for name, value in SECURITY_HEADERS.items()]
            lines += [self._date(second), "Content-Type: application/json", "Content-Length: "]
            head = self._heads[status] = "\r\n".join(lines).encode()
        return head

    def _now(self) -> int:
        return self._desk.world.clock.now() // SECOND

    def _date(self, second: int) -> str:
        return f"Date: {formatdate(second, usegmt=True)}"
