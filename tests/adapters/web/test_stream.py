"""The live story: in order, resumable, ended when it should be."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.adapters.web.client import ask, dial
from tests.adapters.web.fakes import FakeService, entry_of, running

EVENTS = "/v1/incidents/42/events"


def ids(body: bytes) -> list[int]:
    """The ids of the events in a stream."""
    return [int(line[4:]) for line in body.decode().splitlines() if line.startswith("id: ")]


def test_the_story_is_told_in_order_and_ends(url: str) -> None:
    """Retry first, each entry with its id, an end when the incident is closed."""
    answer = ask(url, "GET", EVENTS, token="rsp_viewer")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.body.startswith(b"retry: ")
    assert ids(answer.body) == [1, 2]
    assert answer.body.endswith(b"event: end\ndata: {}\n\n")


def test_a_listener_that_comes_back_gets_what_it_missed(url: str) -> None:
    """After Last-Event-ID 1 comes 2, and nothing twice."""
    for headers, path in (({"Last-Event-ID": "1"}, EVENTS), ({}, EVENTS + "?after=1")):
        assert ids(ask(url, "GET", path, token="rsp_viewer", headers=headers).body) == [2]


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 30, "\u0663".encode().decode("latin-1")])
def test_an_odd_last_event_id_is_refused(given: str, url: str) -> None:
    """A guess would repeat or lose entries."""
    answer = ask(url, "GET", EVENTS, token="rsp_viewer", headers={"Last-Event-ID": given})
    assert answer.status == 400


def test_a_hostile_text_stays_inside_its_event(url: str, service: FakeService) -> None:
    """Line breaks in an alert do not make events of their own."""
    text = "x\n\nid: 99\nevent: end\ndata: {}\n\n\u2028\r\n"
    service.entries = [entry_of(1, text)]
    body = ask(url, "GET", EVENTS, token="rsp_viewer").body
    assert ids(body) == [1]
    data = next(line for line in body.decode().split("\n") if line.startswith("data: "))
    assert json.loads(data[6:])["text"] == text


def test_an_unknown_incident_is_refused_before_the_stream(url: str) -> None:
    """404 with a document, not an empty stream."""
    answer = ask(url, "GET", "/v1/incidents/43/events", token="rsp_viewer")
    assert answer.json["code"] == "not-found"


def test_a_revoked_token_ends_the_stream(service: FakeService) -> None:
    """At the next heartbeat, not at the end of the incident."""
    service.live = asyncio.Event()
    with running(service) as url, dial(url, timeout=5) as connection:
        connection.sendall(
            f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer rsp_viewer\r\n\r\n".encode()
        )
        taken = b""
        while b": still here" not in taken:
            taken += connection.recv(65536)
        service.revoked.add("rsp_viewer")
        while part := connection.recv(65536):
            taken += part
            if part.endswith(b"0\r\n\r\n"):
                break
        assert b"event: end" not in taken


def test_a_server_that_stops_lets_its_listeners_go(service: FakeService) -> None:
    """An open stream does not hold the stop back."""
    service.live = asyncio.Event()
    with running(service) as url:
        connection = dial(url, timeout=5)
        connection.sendall(
            f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer rsp_viewer\r\n\r\n".encode()
        )
        assert connection.recv(100)
    with connection:
        while connection.recv(65536):
            pass
