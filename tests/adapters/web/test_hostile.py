"""Callers that only want to cost: they are cut, and everybody else goes on."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import statistics
import threading
import time

import pytest

from responder.web.limits import Limits
from tests.adapters.web.client import ask, dial, read_all
from tests.adapters.web.fakes import FakeService, entry_of, running
from tests.adapters.web.test_hooks import BAD, bomb, send

HOOK = (
    b"POST /v1/hooks/falco HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\n"
    b"Content-Type: application/json\r\n"
)


def seconds_until_closed(connection: socket.socket) -> tuple[float, bytes]:
    """How long the server let it live, and what it said."""
    started = time.monotonic()
    try:
        said = read_all(connection)
    except ConnectionResetError:
        said = b""
    return time.monotonic() - started, said


def test_a_body_that_trickles_is_answered_408(url: str, service: FakeService) -> None:
    """The deadline is for the whole body, so a byte now and then does not move it."""
    with dial(url) as connection:
        connection.sendall(HOOK + b"Content-Length: 1000\r\n\r\n{")
        started = time.monotonic()
        connection.settimeout(0.2)
        said = b""
        while not said and time.monotonic() - started < 5:
            try:
                said = connection.recv(1000)
            except TimeoutError:
                connection.sendall(b" ")
        assert said.split()[1] == b"408"
        assert 0.5 < time.monotonic() - started < 5
    assert service.bodies == []


def test_a_header_that_trickles_is_cut(url: str) -> None:
    """No request, no connection: the first byte starts the clock, later ones do not stop it."""
    with dial(url) as connection:
        connection.sendall(b"POST /v1/hooks/falco HTTP/1.1\r\nA: ")
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.1):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        worker = threading.Thread(target=trickle)
        worker.start()
        lived, _ = seconds_until_closed(connection)
        stop.set()
        worker.join()
    assert 0.4 < lived < 2


def test_a_kept_connection_is_not_taken_for_a_slow_one(url: str) -> None:
    """Idle between requests is what keep-alive is for."""
    with dial(url) as connection:
        for _ in range(2):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in connection.recv(2000)
            time.sleep(1.0)  # longer than the header's deadline in this server
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(2000)


def test_a_reader_that_takes_nothing_is_cut() -> None:
    """A listener that stops reading costs one buffer for a short while."""
    big = entry_of(1, "x" * 20_000)
    service = FakeService(entries=[{**big, "id": number} for number in range(1, 1500)])
    limits = Limits(write_seconds=0.5, grace_seconds=1)
    with running(service, limits) as url, dial(url) as connection:
        connection.sendall(
            b"GET /v1/incidents/42/events HTTP/1.1\r\nHost: x\r\n"
            b"Authorization: Bearer rsp_viewer\r\n\r\n"
        )
        time.sleep(2.5)  # not reading is the attack
        _, taken = seconds_until_closed(connection)
    assert len(taken) < 20_000 * 1400
    assert b"event: end" not in taken


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"a%d: b\r\n" % n for n in range(500))
        + b"\r\n",
        HOOK + b"Content-Length: -5\r\n\r\n",
        HOOK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        HOOK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        HOOK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n",
    ],
    ids=range(10),
)
def test_what_is_not_http_gets_a_document_and_one_log_line(
    garbage: bytes, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """4xx, a problem document, the connection ends; no traceback anywhere."""
    caplog.set_level(logging.DEBUG)
    with dial(url) as connection:
        connection.sendall(garbage)
        lived, said = seconds_until_closed(connection)
    assert said.split()[1].startswith(b"4"), said[:200]
    assert b"application/problem+json" in said
    assert b"Traceback" not in said
    assert lived < 5
    assert not [record for record in caplog.records if record.exc_info]
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) <= 1


def test_a_storm_of_tiny_chunks_is_cut_before_it_costs(url: str, service: FakeService) -> None:
    """Two hundred thousand chunks of one byte would keep the parser from everybody else."""
    with dial(url) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(HOOK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n[\r\n" * 200_000)
        assert read_all(connection) == b""
    assert service.bodies == []
    assert ask(url, "GET", "/livez").status == 200


def test_a_flood_of_broken_requests_is_a_few_log_lines(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a second at most, with the number of those left out."""
    for _ in range(200):
        with dial(url) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            read_all(connection)
    assert len(caplog.records) <= 5


def test_held_connections_make_room_for_a_new_caller() -> None:
    """At the cap, the connection that has been idle for longest ends; a request is still served."""
    limits = Limits(connections=20, header_seconds=30, grace_seconds=1)
    with running(FakeService(), limits) as url:
        held = [dial(url) for _ in range(60)]
        try:
            assert ask(url, "GET", "/livez").status == 200
        finally:
            for connection in held:
                connection.close()


def test_one_address_cannot_take_every_place() -> None:
    """Some places are left for others, even when all of one caller's requests are at work."""
    limits = Limits(connections=20, connections_per_address=6, body_seconds=5, grace_seconds=1)
    with running(FakeService(), limits) as url:
        held = [dial(url) for _ in range(6)]
        try:
            for connection in held:
                connection.sendall(HOOK + b"Content-Length: 10\r\n\r\n{")
            time.sleep(0.3)  # until all six wait for their bodies
            with dial(url) as late:
                _, said = seconds_until_closed(late)
            assert said.startswith(b"HTTP/1.1 503")
        finally:
            for connection in held:
                connection.close()


def test_callers_at_work_are_not_pushed_out() -> None:
    """When every connection is at work, a new one hears 503 and when to come back."""
    limits = Limits(connections=8, body_seconds=5, grace_seconds=1)
    with running(FakeService(), limits) as url:
        held = [dial(url) for _ in range(8)]
        try:
            for connection in held:
                connection.sendall(HOOK + b"Content-Length: 10\r\n\r\n{")
            time.sleep(0.3)  # until all eight wait for their bodies
            with dial(url) as late:
                _, said = seconds_until_closed(late)
            assert said.startswith(b"HTTP/1.1 503")
            assert b"Retry-After" in said
        finally:
            for connection in held:
                connection.close()


def test_bodies_together_have_a_limit_too() -> None:
    """Many half-sent bodies cannot fill the memory: the next one is told to come back."""
    limits = Limits(buffered_bytes=1_500_000, body_seconds=5, grace_seconds=1)
    with running(FakeService(), limits) as url, dial(url) as first:
        first.sendall(HOOK + b"Content-Length: 1000000\r\n\r\n" + b" " * 900_000)
        time.sleep(0.3)  # until it is buffered
        assert send(url, b" " * 700_000).status == 503
        assert send(url, b"{}").status == 202


def test_a_healthy_sender_is_served_while_others_attack() -> None:
    """Every bad input at once: the healthy one's p99 stays below 50 ms, memory below +64 MiB."""
    limits = Limits(body_seconds=1, header_seconds=1, grace_seconds=1)
    packed = bomb()[: (1 << 20) - 1]
    with running(FakeService(), limits) as url:
        stop = threading.Event()

        def attack() -> None:
            while not stop.is_set():
                for status, body, headers in BAD.values():
                    assert send(url, body, **headers).status == status
                    stop.wait(0.01)
                assert send(url, packed, Content_Encoding="gzip").status == 413

        slow = [dial(url) for _ in range(100)]
        for connection in slow:
            connection.sendall(HOOK + b"Content-Length: 1000\r\n\r\n{")
        send(url, b"{}")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        attacker = threading.Thread(target=attack)
        attacker.start()
        took = []
        for _ in range(150):
            started = time.perf_counter()
            assert send(url, b'{"rule":"x"}').status == 202
            took.append(time.perf_counter() - started)
        stop.set()
        attacker.join()
        for connection in slow:
            connection.close()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    p99 = statistics.quantiles(took, n=100)[98] * 1000
    print(f"healthy p99 {p99:.1f} ms, memory +{grown:.1f} MiB")
    assert grown < 64
    assert p99 < 50
