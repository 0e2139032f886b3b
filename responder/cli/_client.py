"""Talk to a server over its API, with nothing but the standard library.

The token goes into one header of requests to the one configured server: redirects are not
followed, proxies are not used.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from responder.cli._errors import (
    DENIED,
    FAILED,
    MISSING,
    UNREACHABLE,
    USAGE,
    WAITING,
    CliError,
)

if TYPE_CHECKING:
    import http.client

__all__ = ["DEFAULT_SERVER", "Client", "Event", "quoted"]

DEFAULT_SERVER = "http://127.0.0.1:8080"
_TIMEOUT = 30.0
_STREAM_TIMEOUT = 45.0  # three missed heartbeats
_RETRIES = 5
_CODES = {400: USAGE, 401: DENIED, 403: DENIED, 404: MISSING, 413: USAGE, 415: USAGE, 422: USAGE}
_OK = 300


@dataclass(frozen=True, slots=True)
class Event:
    """One line of an incident's story."""

    id: int
    entry: Mapping[str, Any]


class Client:
    """One server, one token."""

    def __init__(self, server: str, token_file: str = "", ca: str = "") -> None:
        from urllib.parse import urlsplit

        place = urlsplit(server)
        if place.scheme not in {"http", "https"} or not place.hostname:
            raise CliError(
                f"{server} is no address of a server", code=USAGE, fix=f"like {DEFAULT_SERVER}"
            )
        self.server = server.rstrip("/")
        self._secure = place.scheme == "https"
        self._host = place.hostname
        self._port = place.port
        self._prefix = place.path.rstrip("/")
        self._token = _token(token_file)
        self._ca = ca

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path."""
        return json.loads(self.raw("GET", path + _query(query)))

    def post(self, path: str, body: Mapping[str, Any], **headers: str) -> Any:
        """Call a verb."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return json.loads(self.raw("POST", path, json.dumps(body).encode(), given) or b"{}")

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """One request; raises `CliError` with the server's own reason."""
        connection = self._connection(_TIMEOUT)
        try:
            response = self._send(connection, method, path, body, headers or {})
            data = response.read()
        except OSError as failure:
            raise self._unreachable(failure) from None
        finally:
            connection.close()
        if response.status >= _OK:
            raise self._refusal(response.status, data)
        return data

    def events(self, path: str, after: int = 0, seconds: float | None = None) -> Iterator[Event]:
        """The story, live; comes back by itself where it was cut, until the server ends it.

        Raises `CliError` with the code for waiting when it goes on after `seconds`.
        """
        import time

        failures = 0
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                for event in self._stream(path, after, until):
                    if event is None:
                        return
                    after, failures = event.id, 0
                    yield event
            except OSError as failure:
                _not_later_than(until)
                if failures >= _RETRIES:
                    raise self._unreachable(failure) from None
            failures += 1
            if failures > _RETRIES:
                raise CliError("the server keeps ending the stream", code=UNREACHABLE)
            time.sleep(min(failures, 3) * 0.5)

    def _stream(self, path: str, after: int, until: float | None) -> Iterator[Event | None]:
        connection = self._connection(min(_STREAM_TIMEOUT, _not_later_than(until)))
        try:
            response = self._send(connection, "GET", path, None, {"Last-Event-ID": str(after)})
            if response.status >= _OK:
                raise self._refusal(response.status, response.read())
            kind = ""
            for raw in response:
                _not_later_than(until)
                line = raw.decode("utf-8").rstrip("\n")
                if line.startswith("event: "):
                    kind = line[7:]
                if line.startswith("data: ") and kind == "end":
                    yield None
                elif line.startswith("data: "):
                    entry = json.loads(line[6:])
                    yield Event(int(entry["id"]), entry)
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        import http.client

        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            context = ssl.create_default_context(cafile=self._ca or None)
        except OSError:
            raise CliError(f"cannot read the CA file {self._ca}", code=USAGE) from None
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        from http.client import HTTPException

        sent = {"User-Agent": "responder-cli/1", "Accept": "*/*"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, self._prefix + path, body, {**sent, **headers})
            return connection.getresponse()
        except HTTPException as failure:
            raise OSError(f"no HTTP answer ({type(failure).__name__})") from None

    def _refusal(self, status: int, data: bytes) -> CliError:
        try:
            document = json.loads(data)
            detail = str(document["detail"])
            faults = "; ".join(
                f"{fault.get('pointer', '')} {fault.get('detail', '')}".strip()
                for fault in document.get("errors", [])
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            detail, faults = f"the server answered {status}", ""
        fix = {
            401: "set RESPONDER_TOKEN or --token-file; `responder token create` makes one",
            403: "ask somebody whose token has the role",
            409: "look again, then decide again",
            503: "try again in a few seconds",
        }.get(status, "")
        return CliError(detail, code=_CODES.get(status, FAILED), why=faults, fix=fix)

    def _unreachable(self, failure: OSError) -> CliError:
        return CliError(
            f"no answer from {self.server}",
            code=UNREACHABLE,
            why=failure.strerror or str(failure),
            fix="start it with `responder serve`, or set --server or RESPONDER_SERVER",
        )


def _not_later_than(until: float | None) -> float:
    """Seconds that are left; raises `CliError` when none is."""
    import time

    if until is None:
        return _STREAM_TIMEOUT
    left = until - time.monotonic()
    if left <= 0:
        raise CliError("it goes on; the time to wait is over", code=WAITING)
    return left


def quoted(part: str) -> str:
    """One part of a path."""
    from urllib.parse import quote

    return quote(part, safe="@")


def _query(query: Mapping[str, Any]) -> str:
    from urllib.parse import urlencode

    given = {name: value for name, value in query.items() if value not in ("", None)}
    return "?" + urlencode(given) if given else ""


def _token(file: str) -> str:
    file = file or os.environ.get("RESPONDER_TOKEN_FILE", "")
    if not file:
        return os.environ.get("RESPONDER_TOKEN", "")
    try:
        text = Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise CliError(f"cannot read the token file {file}", code=USAGE) from None
    if not text.isprintable() or " " in text:
        raise CliError(f"{file} does not hold one token", code=USAGE)
    return text
