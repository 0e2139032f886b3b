"""Public keys over a real socket: bounded, never redirected, and closed at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from integrations._keys import KeyRing
from responder.clock import World
from responder.errors import StoreUnavailable


class Place(BaseHTTPRequestHandler):
    """A place where keys stand, with everything that can be wrong of one."""

    asked: list[str]

    def do_GET(self) -> None:
        """Answer by the path."""
        type(self).asked.append(self.path)
        status = {"/moved": 302, "/gone": 404, "/broken": 500}.get(self.path, 200)
        body = b"x" * (70_000 if self.path == "/great" else 3)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/keys")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def place() -> Iterator[str]:
    """The address of such a place."""
    Place.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Place)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_keys_are_fetched_once_and_the_connection_is_closed(place: str) -> None:
    """What is there is kept; closing an unused ring is no mistake."""
    await KeyRing(World()).close()
    ring = KeyRing(World())
    for _ in range(3):
        await ring.refresh(f"{place}/keys")
    assert ring.held(f"{place}/keys") == b"xxx"
    assert Place.asked == ["/keys"]
    await ring.open(f"{place}/confirm")
    assert ring.held(f"{place}/confirm") == b""
    await ring.close()


@pytest.mark.parametrize("path", ["/moved", "/gone", "/broken", "/great"])
async def test_what_is_no_key_is_not_kept(path: str, place: str) -> None:
    """A redirect is not followed, an error is none, a great body is cut off: asked once each."""
    ring = KeyRing(World())
    with pytest.raises(StoreUnavailable):
        await ring.refresh(place + path)
    assert ring.held(place + path) == b""
    assert Place.asked == [path]
    with pytest.raises(StoreUnavailable):
        await ring.open(place + path)
    await ring.close()


async def test_a_place_that_does_not_listen_is_no_failure_of_ours() -> None:
    """Nobody at the port: the sender is asked to come back."""
    ring = KeyRing(World())
    with pytest.raises(StoreUnavailable):
        await ring.refresh("http://127.0.0.1:9/keys")
    await ring.close()
