"""The short way of a delivery: the same as the ordinary way, or not taken at all."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser

from responder.web.lane import read
from responder.web.limits import Limits
from tests.adapters.web.client import dial, read_all
from tests.adapters.web.fakes import FakeService, running

MIB = 1 << 20
BODY = b'{"rule":"Terminal shell"}'


def request(*lines: str, body: bytes = BODY, line: str = "POST /v1/hooks/falco HTTP/1.1") -> bytes:
    """A plain delivery, with these lines more."""
    head = [
        line,
        "Host: responder.example",
        "Authorization: Bearer s3cret",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


PLAIN = request("User-Agent: falco/0.39", "Accept: */*")


def answered(connection: socket.socket) -> bytes:
    """One whole answer."""
    said = b""
    while b"\r\n\r\n" not in said:
        part = connection.recv(65536)
        assert part, said
        said += part
    head, _, rest = said.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(rest) < size:
        rest += connection.recv(65536)
    assert len(rest) == size
    return head + b"\r\n\r\n" + rest


def fields(answer: bytes) -> dict[str, str]:
    """The header of an answer, without the moment it was made."""
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    found = dict(line.split(": ", 1) for line in lines)
    assert found.pop("Date").endswith(" GMT")
    return found


# --------------------------------------------------------------------------- reading


def test_a_plain_delivery_is_read_whole() -> None:
    """Hook, headers by lower-case name, and the body byte for byte."""
    found = read(PLAIN, MIB)
    assert found is not None
    assert found.hook == "falco"
    assert found.body == BODY
    assert found.headers["authorization"] == "Bearer s3cret"
    assert found.headers["user-agent"] == "falco/0.39"


LEFT = {
    "another method": request(line="PUT /v1/hooks/falco HTTP/1.1"),
    "another path": request(line="POST /v1/hooks/falco/test HTTP/1.1"),
    "a query": request(line="POST /v1/hooks/falco?token=x HTTP/1.1"),
    "an escape": request(line="POST /v1/hooks/f%61lco HTTP/1.1"),
    "a dot": request(line="POST /v1/hooks/.. HTTP/1.1"),
    "an old version": request(line="POST /v1/hooks/falco HTTP/1.0"),
    "two blanks": request(line="POST  /v1/hooks/falco HTTP/1.1"),
    "a whole address": request(line="POST http://x/v1/hooks/falco HTTP/1.1"),
    "half a body": PLAIN[:-1],
    "half a header": PLAIN[: PLAIN.index(b"Accept")],
    "more than a body": PLAIN + b"x",
    "two requests": PLAIN + PLAIN,
    "a chunked body": request("Transfer-Encoding: chunked"),
    "a packed body": request("Content-Encoding: gzip"),
    "an expectation": request("Expect: 100-continue"),
    "an upgrade": request("Upgrade: websocket"),
    "a last request": request("Connection: close"),
    "named hops": request("Connection: keep-alive, X-Token"),
    "a length twice": request("Content-Length: 25"),
    "a length in another case": request("content-length: 25"),
    "a name twice": request("X-A: 1", "x-a: 2"),
    "a blank before the colon": request("X-A : 1"),
    "no blank after the colon": request("X-A:1"),
    "a tab": request("X-A:\t1"),
    "an empty value": request("X-A: "),
    "a folded line": request("X-A: 1\r\n more"),
    "a bare line feed": request("X-A: 1\nX-B: 2"),
    "a bare carriage return": request("X-A: 1\rX-B: 2"),
    "a control character": request("X-A: 1\x00"),
    "a letter beyond ASCII": request("X-A: \xe9"),
    "a name with an underscore": request("X_A: 1"),
    "no name": request(": 1"),
    "another type": PLAIN.replace(b"application/json", b"text/plain"),
    "another character set": PLAIN.replace(b"/json", b"/json; charset=utf-16"),
    "no host": PLAIN.replace(b"Host", b"Hast"),
    "no length": PLAIN.replace(b"Content-Length", b"Content-Strength"),
    "an empty body": request(body=b""),
    "a signed length": PLAIN.replace(b"Length: 25", b"Length: +25"),
    "a length with a nought": PLAIN.replace(b"Length: 25", b"Length: 025"),
    "a header that is too large": request("X-A: " + "a" * 9000),
    "nothing": b"",
    "only the first line": b"POST /v1/hooks/falco HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", LEFT.values(), ids=LEFT)
def test_whatever_is_not_plain_is_left_to_aiohttp(data: bytes) -> None:
    """However slightly other: the lane reads one shape only."""
    assert read(PLAIN, MIB) is not None
    assert read(data, MIB) is None


def test_a_body_beyond_the_limit_is_left_to_aiohttp() -> None:
    """The ordinary way has the words to refuse it."""
    assert read(PLAIN, len(BODY)) is not None
    assert read(PLAIN, len(BODY) - 1) is None


def test_what_the_lane_reads_aiohttp_reads_the_same() -> None:
    """20,000 broken requests: what is taken has one meaning, with every reader of HTTP.

    Headers, body, and that nothing follows: else a sender could hide one delivery in another.
    """
    loop = asyncio.new_event_loop()
    chance = random.Random(20_000)
    taken = 0
    try:
        for _ in range(20_000):
            data = _broken(chance)
            found = read(data, MIB)
            if found is None:
                continue
            taken += 1
            parser = HttpRequestParser(BaseProtocol(loop), loop, 65536)
            [(message, payload)], upgraded, tail = parser.feed_data(data)
            assert (message.method, message.path) == ("POST", f"/v1/hooks/{found.hook}")
            assert {name.lower(): value for name, value in message.headers.items()} == found.headers
            assert payload.is_eof()
            assert payload.read_nowait() == found.body
            assert (upgraded, tail, message.should_close, message.chunked) == (
                False,
                b"",
                False,
                False,
            )
    finally:
        loop.close()
    assert 1000 < taken < 19_000, "neither all nor none of them"


_PIECES = (
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b": ",
    b"0",
    b"9",
    b"\t",
    b"\x00",
    b"A",
    b"\xff",
    b"-",
)


def _broken(chance: random.Random) -> bytes:
    """A plain request with up to three pieces put in, left out, doubled or moved."""
    data = bytearray(request("User-Agent: falco", "X-A: 1", body=b"{}" * chance.randint(1, 5)))
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(data))
        size = chance.randint(0, 3)
        change = chance.randrange(4)
        if change == 0:
            data[at:at] = chance.choice(_PIECES)
        elif change == 1:
            del data[at : at + size]
        elif change == 2:
            data[at : at + size] = chance.choice(_PIECES)
        else:
            lines = bytes(data).split(b"\r\n")
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            data = bytearray(b"\r\n".join(lines))
    return bytes(data)


# --------------------------------------------------------------------------- answering


def in_two(connection: socket.socket, data: bytes, url: str) -> bytes:
    """The same request by the ordinary way: aiohttp gets it because it comes in two pieces."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(data[:20])
    with dial(url) as other:  # when this one is answered, the first piece was read before
        other.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        answered(other)
    connection.sendall(data[20:])
    return answered(connection)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (PLAIN, b"202"),
        (PLAIN.replace(b"s3cret", b"secret"), b"401"),
        (PLAIN.replace(b"hooks/falco", b"hooks/other"), b"404"),
        (request(body=b"[" * 70 + b"]" * 70), b"400"),
    ],
    ids=["taken", "not believed", "no such hook", "too deep"],
)
def test_both_ways_give_one_answer(
    url: str, service: FakeService, data: bytes, status: bytes
) -> None:
    """Status, header fields and body are the same, byte for byte."""
    with dial(url) as short, dial(url) as ordinary:
        short.sendall(data)
        said = answered(short)
        same = in_two(ordinary, data, url)
    assert said.split()[1] == status
    assert said.splitlines()[0] == same.splitlines()[0]
    assert fields(said) == fields(same)
    assert said.partition(b"\r\n\r\n")[2] == same.partition(b"\r\n\r\n")[2]
    assert len(service.bodies) == (2 if status == b"202" else 0)


def test_a_store_that_cannot_write_and_a_fault_of_ours_are_told(
    url: str, service: FakeService
) -> None:
    """503 with Retry-After, and 500 with an id only; the connection goes on."""
    with dial(url) as connection:
        service.full = True
        connection.sendall(PLAIN)
        full = answered(connection)
        service.full, service.broken = False, ValueError("inner words")
        connection.sendall(PLAIN)
        fault = answered(connection)
        service.broken = None
        connection.sendall(PLAIN)
        assert answered(connection).split()[1] == b"202"
    assert full.split()[1] == b"503"
    assert int(fields(full)["Retry-After"]) > 0
    assert fault.split()[1] == b"500"
    assert b"inner words" not in fault
    assert b"trace_id" in fault


def test_once_aiohttp_had_a_byte_the_connection_is_its_own(url: str, service: FakeService) -> None:
    """Short, ordinary, short-looking: each gets its answer, and none is taken twice."""
    with dial(url) as connection:
        connection.sendall(PLAIN)
        assert answered(connection).split()[1] == b"202"
        assert in_two(connection, PLAIN, url).split()[1] == b"202"
        connection.sendall(PLAIN)
        assert answered(connection).split()[1] == b"202"
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answered(connection).split()[1] == b"200"
    assert service.bodies == [BODY] * 3


def test_a_delivery_inside_a_refused_body_is_no_delivery(url: str, service: FakeService) -> None:
    """The rest of a request that was refused unread is never taken for the next request."""
    outer = PLAIN.replace(b"s3cret", b"stolen").replace(b"Length: 25", b"Length: %d" % len(PLAIN))
    head = outer[: -len(BODY)]
    with dial(url) as connection:
        connection.sendall(head)
        assert answered(connection).split()[1] == b"401"
        connection.sendall(PLAIN)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    assert service.bodies == []


@dataclass
class Gated(FakeService):
    """A service that stores nothing until its gate is open."""

    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    async def receive(
        self, name: str, headers: dict[str, str], body: bytes, address: str
    ) -> tuple[int, dict[str, Any]]:
        self.entered.set()
        while not self.gate.is_set():
            await asyncio.sleep(0.002)
        return await super().receive(name, headers, body, address)


def test_what_comes_while_a_delivery_is_at_work_is_answered_after_it() -> None:
    """A sender that does not wait gets its answers in the order it asked."""
    service = Gated()
    with running(service) as url, dial(url) as connection:
        connection.sendall(PLAIN)
        assert service.entered.wait(20)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.sendall(request(body=b'{"rule":"second"}'))
        service.gate.set()
        said = b""
        while said.count(b"HTTP/1.1 ") < 3:
            said += connection.recv(65536)
    codes = [part.split()[0] for part in said.split(b"HTTP/1.1 ")[1:]]
    assert codes == [b"202", b"200", b"202"]
    assert service.bodies == [BODY, b'{"rule":"second"}']


def test_a_delivery_at_work_gets_its_answer_when_the_server_stops() -> None:
    """The drain waits for it, and it is stored even when its sender has gone."""
    service = Gated()
    with running(service, Limits(grace_seconds=20)) as url:
        connection, gone = dial(url), dial(url)
        for one in (connection, gone):
            service.entered.clear()
            one.sendall(PLAIN)
            assert service.entered.wait(20)
        gone.close()
        threading.Timer(0.3, service.gate.set).start()
    with connection:
        assert answered(connection).split()[1] == b"202"
        assert connection.recv(1) == b""
    assert service.bodies == [BODY, BODY]


def test_a_connection_that_has_nothing_more_to_say_is_ended() -> None:
    """After the keep-alive time, as aiohttp does with those that it serves."""
    limits = Limits(keepalive_seconds=0.2, header_seconds=0.4, grace_seconds=1)
    with running(FakeService(), limits) as url, dial(url) as connection:
        connection.sendall(PLAIN)
        answered(connection)
        assert connection.recv(1) == b""
