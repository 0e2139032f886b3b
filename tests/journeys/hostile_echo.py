"""An outside system that refuses everything and repeats in its answer whatever it was sent.

It plays cluster, registry and forge at once: each gets the status and the form of body that the
real one would send, with the caller's credential and a workload's secret in every text.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(ThreadingHTTPServer):
    """The server, what it repeats besides, and how often each system was asked."""

    daemon_threads = True

    def __init__(self, gossip: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gossip = gossip
        self.asked: set[str] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Echo
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        credential = self.headers.get("Authorization", "")
        words = (
            f"denied: sent Authorization: {credential} with {sent}"
            f"; DB_PASSWORD={self.server.gossip}"
            f' and "password": "{self.server.gossip}" and postgres://u:{self.server.gossip}@db'
            f', value: Invalid value: "{self.server.gossip}"'
        )
        status, system = self._kind()
        self.server.asked.add(system)
        body = {"kind": "Status", "apiVersion": "v1", "message": words, "code": status}
        body |= {"errors": [{"message": words, "detail": words}], "details": {"causes": [words]}}
        raw = json.dumps(body).encode()
        self.send_response(status, words[:200])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("X-Echo", credential)
        if system == "registry":
            self.send_header("WWW-Authenticate", f'Basic realm="{credential}"')
        self.end_headers()
        self.wfile.write(raw)

    def _kind(self) -> tuple[int, str]:
        if self.path.startswith(("/api", "/apis", "/version", "/livez", "/readyz")):
            return 403, "cluster"
        if self.path.startswith("/v2"):
            return 401, "registry"
        return 422, "forge"

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing on the test's own terminal."""


@contextlib.contextmanager
def echoing(gossip: str) -> Iterator[Echo]:
    """Run one for the length of a block."""
    with Echo(gossip) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)
