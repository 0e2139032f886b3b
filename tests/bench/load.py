"""A sender: keep-alive connections that post one alert after the other, in one process.

Written on bare sockets, so that the sender costs less than what it measures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

__all__ = ["Answers", "Body", "alerts", "blast", "falco", "ordinary"]

Body = Callable[[], bytes]
_MARK = "@@@@@@@@"


@dataclass
class Answers:
    """What came back, and when."""

    codes: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    took: float = 0.0

    @property
    def rate(self) -> float:
        """Accepted answers a second."""
        return self.codes[202] / self.took


class _Connection(asyncio.Protocol):
    """Sends a request as soon as the last answer is whole; ends when there is no more to send."""

    def __init__(self, following: Callable[[], bytes | None], answers: Answers, keep: bool) -> None:
        self._following, self._answers, self._keep = following, answers, keep
        self._buffer = b""
        self._sent = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = self._following()
        if request is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        low = self._buffer[:head].lower()
        at = low.index(b"content-length:") + 15
        end = low.find(b"\r", at)
        size = int(low[at : end if end > 0 else head])
        if len(self._buffer) < head + 4 + size:
            return
        self._answers.seconds.append(time.perf_counter() - self._sent)
        self._answers.codes[int(self._buffer[9:12])] += 1
        if self._keep:
            self._answers.bodies.append(self._buffer[head + 4 :])
        self._buffer = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def blast(
    url: str,
    body: Body,
    *,
    token: str = "",
    connections: int = 16,
    seconds: float = 0.0,
    count: int = 0,
    pace: float = 0.0,
    keep: bool = False,
) -> Answers:
    """Post for so many seconds, or so many alerts; `pace` alerts a second at most."""
    where = urlsplit(url)
    head = f"POST {where.path or '/'} HTTP/1.1\r\nHost: {where.netloc}\r\n"
    head += "Content-Type: application/json\r\n"
    head += f"Authorization: Bearer {token}\r\n" if token else ""
    start = time.perf_counter()
    sent = itertools.count()

    def following() -> bytes | None:
        over = next(sent) >= count if count else time.perf_counter() - start >= seconds
        if over:
            return None
        text = body()
        return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text

    answers = Answers()
    if pace:
        await _paced(where.port or 80, following, answers, connections, pace, keep=keep)
    else:
        await _open(where.port or 80, following, answers, connections, keep=keep)
    answers.took = time.perf_counter() - start
    return answers


async def _open(
    port: int,
    following: Callable[[], bytes | None],
    answers: Answers,
    connections: int,
    *,
    keep: bool,
) -> None:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda: _Connection(following, answers, keep), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.ended for _, protocol in made))


async def _paced(
    port: int,
    following: Callable[[], bytes | None],
    answers: Answers,
    connections: int,
    pace: float,
    *,
    keep: bool,
) -> None:
    """In slices of a tenth of a second, so that a slow answer does not slow the sender down."""
    share = max(1, int(pace / 10))
    end = False

    def sliced(left: list[int]) -> Callable[[], bytes | None]:
        def take() -> bytes | None:
            nonlocal end
            if left[0] <= 0:
                return None
            left[0] -= 1
            request = following()
            end = end or request is None
            return request

        return take

    start, number = time.perf_counter(), 0
    while not end:
        await _open(port, sliced([share]), answers, connections, keep=keep)
        number += 1
        await asyncio.sleep(max(0.0, start + number / 10 - time.perf_counter()))


async def ordinary(
    url: str, body: Body, *, token: str, connections: int, seconds: float
) -> Answers:
    """The same with aiohttp's client, which costs as much as what it measures.

    Two cores are then shared by a sender and a receiver as they are in a real house.
    """
    answers = Answers()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    start = time.perf_counter()

    async def worker(session: aiohttp.ClientSession) -> None:
        while (sent := time.perf_counter()) - start < seconds:
            async with session.post(url, data=body(), headers=headers) as answer:
                await answer.read()
            answers.codes[answer.status] += 1
            answers.seconds.append(time.perf_counter() - sent)

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(worker(session) for _ in range(connections)))
    answers.took = time.perf_counter() - start
    return answers


def falco(rule: str, namespace: str, pod: str, *, priority: str = "Notice", **more: str) -> str:
    """One alert as Falco sends it, about a kilobyte."""
    text = (
        f"12:00:00.000000000: {priority} A shell was spawned in a container with an attached "
        f"terminal (evt_type=execve user=root user_uid=0 user_loginuid=-1 process=bash "
        f"proc_exepath=/bin/bash parent=runc command=bash terminal=34816 container_name=c "
        f"k8s_ns={namespace} k8s_pod={pod})"
    )
    fields = {
        "container.image.repository": "registry.example/shop/cart",
        "container.name": "c",
        "evt.time": 1780000000000000000,
        "evt.type": "execve",
        "k8s.ns.name": namespace,
        "k8s.pod.name": pod,
        "proc.cmdline": "bash",
        "proc.name": "bash",
        "proc.pname": "runc",
        "proc.tty": 34816,
        "user.name": "root",
        "user.uid": 0,
        **more,
    }
    return json.dumps(
        {
            "hostname": "bench-node",
            "output": text,
            "priority": priority,
            "rule": rule,
            "source": "syscall",
            "tags": ["T1059", "container", "maturity_stable", "mitre_execution", "shell"],
            "time": "2026-05-28T12:00:00.000000000Z",
            "output_fields": fields,
        }
    )


def alerts(rule: str = "Bench rule") -> Body:
    """Bodies that each speak of another pod."""
    before, *between = falco(rule, "shop", f"web-{_MARK}").encode().split(_MARK.encode())
    numbers = itertools.count()

    def body() -> bytes:
        number = b"%08d" % next(numbers)
        return before + b"".join(number + part for part in between)

    return body
