"""A sender's door: taken after the commit, refused with 4xx, never an error of ours."""

from __future__ import annotations

import functools
import gzip
import time
import zlib

import pytest

from tests.adapters.web.client import Answer, ask, dial, read_all
from tests.adapters.web.fakes import FakeService

MIB = 1 << 20


def send(url: str, body: bytes, secret: str = "s3cret", **headers: str) -> Answer:
    """One delivery."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(url, "POST", "/v1/hooks/falco", body, token=secret, headers=more)


def test_a_delivery_is_answered_with_what_became_of_it(url: str, service: FakeService) -> None:
    """The service's own words and status, the body byte for byte."""
    answer = send(url, b'{"rule":"Terminal shell"}')
    assert answer.status == 202
    assert answer.json["alerts"][0]["incident"] == 42
    assert service.bodies == [b'{"rule":"Terminal shell"}']


def test_a_sender_of_cloudevents_is_told_whether_it_may_deliver(
    url: str, service: FakeService
) -> None:
    """Yes to a named origin with the hook's secret; no to every other, and nothing is called."""

    def handshake(secret: str, **headers: str) -> Answer:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(url, "OPTIONS", "/v1/hooks/falco", token=secret, headers=more)

    yes = handshake("s3cret", WebHook_Request_Origin="events.example", WebHook_Request_Rate="120")
    assert yes.status == 200
    assert yes.headers["WebHook-Allowed-Origin"] == "events.example"
    assert yes.headers["WebHook-Allowed-Rate"] == "*"
    for origin in ("evil.example", "events.example, events.example", "*", ""):
        no = handshake("s3cret", WebHook_Request_Origin=origin)
        assert no.status == 403
        assert "WebHook-Allowed-Origin" not in no.headers
    assert handshake("s3cret").status == 403
    assert handshake("wrong", WebHook_Request_Origin="events.example").status == 401
    assert ask(url, "OPTIONS", "/v1/hooks/nope", token="s3cret").status == 404
    assert service.calls == []


def test_a_packed_delivery_arrives_unpacked(url: str, service: FakeService) -> None:
    """One complete gzip member is taken."""
    assert send(url, gzip.compress(b'{"a":1}'), Content_Encoding="gzip").status == 202
    assert service.bodies == [b'{"a":1}']


def test_a_store_that_cannot_write_makes_the_sender_come_back(
    url: str, service: FakeService
) -> None:
    """503 with Retry-After, and nothing acknowledged."""
    service.full = True
    answer = send(url, b"{}")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0


def test_an_unknown_hook_and_a_wrong_secret_are_refused_before_the_body(
    url: str, service: FakeService
) -> None:
    """The answer is there although not one byte of the promised body was sent."""
    for path, secret, status in (("nope", "s3cret", b"404"), ("falco", "wrong", b"401")):
        with dial(url) as connection:
            connection.sendall(
                f"POST /v1/hooks/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
                "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".encode()
            )
            assert connection.recv(100).split()[1] == status  # 408 had it waited for the body
    assert service.bodies == []


def test_a_credential_sent_twice_is_no_credential(url: str) -> None:
    """A right one beside a wrong one must not hide it."""
    with dial(url) as connection:
        connection.sendall(
            b"POST /v1/hooks/falco HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Authorization: Bearer s3cret\r\nauthorization: Bearer s3cret\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        assert read_all(connection).split()[1] in {b"400", b"401"}


def test_a_caller_that_asks_first_is_told_to_go_on(url: str, service: FakeService) -> None:
    """Expect: 100-continue is answered after the credential held, and refused before."""
    head = (
        "POST /v1/hooks/falco HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\n"
        "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    with dial(url) as connection:
        connection.sendall(head.format("s3cret").encode())
        assert b"100 Continue" in connection.recv(100)
        connection.sendall(b"{}")
        assert read_all(connection).split()[1] == b"202"
    with dial(url) as connection:
        connection.sendall(head.format("wrong").encode())
        assert connection.recv(100).split()[1] == b"401"


BAD: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "oversize": (413, b" " * (MIB + 1), {}),
    "no type": (415, b"{}", {"Content_Type": ""}),
    "text": (415, b"{}", {"Content_Type": "text/plain"}),
    "latin-1": (415, b"{}", {"Content_Type": "application/json; charset=latin-1"}),
    "odd encoding": (415, b"{}", {"Content_Encoding": "br"}),
    "two encodings": (415, b"{}", {"Content_Encoding": "gzip, gzip"}),
    "not gzip": (400, b"{}", {"Content_Encoding": "gzip"}),
    "empty gzip": (400, b"", {"Content_Encoding": "gzip"}),
    "cut gzip": (400, gzip.compress(b"{}" * 50)[:-9], {"Content_Encoding": "gzip"}),
    "two members": (400, gzip.compress(b"{") + gzip.compress(b"}"), {"Content_Encoding": "gzip"}),
    "empty members": (400, gzip.compress(b"") * 40_000, {"Content_Encoding": "gzip"}),
    "rubbish after": (400, gzip.compress(b"{}") + b"x", {"Content_Encoding": "gzip"}),
    "deep": (400, b"[" * 100_000 + b"]" * 100_000, {}),
    "deep objects": (400, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, {}),
    "never closed": (400, b"[" * MIB, {}),
    "half a pair": (400, b'{"a":"\\ud800"}', {}),
    "half a pair in a key": (400, b'{"\\udfff":1}', {}),
}


@functools.cache
def bomb() -> bytes:
    """One megabyte that unpacks to a gigabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"\0" * MIB
    return b"".join(packer.compress(block) for _ in range(1024)) + packer.flush()


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_4xx_and_reaches_nothing(name: str, url: str, service: FakeService) -> None:
    """A problem document each; the service never sees the body."""
    status, body, headers = BAD[name]
    answer = send(url, body, **headers)
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert b"Traceback" not in answer.body
    assert service.bodies == []


GOOD = {
    "64 deep": b"[" * 64 + b"]" * 64,
    "wide": b"[" + b"[]," * 200_000 + b"[]]",
    "brackets in text": b'["' + b"[{" * 100 + b'", "\\"' + b"[" * 100 + b'"]',
    "whole pair": b'{"a":"\\ud83d\\ude00"}',
    "escaped backslash": b'{"a":"\\\\ud800"}',
    "cloud event": b"{}",
    "not UTF-8": b'{"a":"\xff"}',
    "raw surrogate": b'{"a":"\xed\xa0\x80"}',
    "cut character": b'{"a":"\xe2"}',
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_but_honest_bodies_are_taken(name: str, url: str, service: FakeService) -> None:
    """What only looks dangerous is not refused."""
    kind = "application/cloudevents+json" if name == "cloud event" else "application/json"
    assert send(url, GOOD[name], Content_Type=kind).status == 202
    assert service.bodies == [GOOD[name]]


def test_a_bomb_costs_no_more_than_its_limit(url: str, service: FakeService) -> None:
    """A gigabyte in a megabyte is 413."""
    assert len(bomb()) < MIB + 50_000
    answer = send(url, bomb()[: MIB - 1], Content_Encoding="gzip")
    assert answer.status == 413
    assert service.bodies == []


def test_chunks_are_counted_as_they_come(url: str, service: FakeService) -> None:
    """A body without a length is refused at the limit, not at its end."""
    with dial(url) as connection:
        connection.sendall(
            b"POST /v1/hooks/falco HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(17):
            connection.sendall(chunk)
        assert connection.recv(100).split()[1] == b"413"


def test_many_small_chunks_are_one_body(url: str, service: FakeService) -> None:
    """Thousands of chunks of a line each are taken in reasonable time."""
    body = b'"' + b"x" * 100_000 + b'"'
    lines = [body[at : at + 40] for at in range(0, len(body), 40)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines) + b"0\r\n\r\n"
    started = time.monotonic()
    with dial(url) as connection:
        connection.sendall(
            b"POST /v1/hooks/falco HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n" + chunks
        )
        assert read_all(connection).split()[1] in {b"202", b"408"}
    assert time.monotonic() - started < 5
