"""Argo CD's REST API as far as a sync needs it. Its callers decide what is sent; no write repeats.

The API is a gateway in front of gRPC: a refusal carries gRPC's code and one sentence of Argo CD
(https://github.com/grpc-ecosystem/grpc-gateway/blob/main/runtime/errors.go). That sentence is shown
shortened and veiled; nothing else of an answer gets into a text. Redirects are not followed, so
the token never goes to another place.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from integrations._calling import Caller, Fault, FaultKind
from integrations._fetch import Answer, HttpError, fetch, new_session, own_classifier
from integrations._scans.model import at
from integrations.argocd.settings import ServerSettings
from responder.clock import World
from responder.errors import StepFailed, Uncertain
from responder.text import for_terminal, veiled

__all__ = ["Client"]

Json = dict[str, Any]

_ANSWER_MAX = 16 << 20  # an application's status names every object of it
_BUSY = "another operation is already in progress"
_BUSY_WAIT = 15.0
_WRONG = {
    HTTPStatus.UNAUTHORIZED: "the token is not accepted: renew it",
    # Argo CD answers so for what it does not have as well, so that names cannot be guessed
    HTTPStatus.FORBIDDEN: "not there, or the token has no right to it",
}


class _Refused(HttpError):
    """An answer that says no, with Argo CD's sentence; never the rest of its body."""

    def __init__(self, answer: Answer, sentence: str) -> None:
        super().__init__(answer.status, answer.headers)
        self.sentence = sentence


class Client:
    """One Argo CD with one credential. Never repeats a write that may have happened."""

    def __init__(self, name: str, settings: ServerSettings, world: World) -> None:
        self.name = name
        self.settings = settings
        self._common = own_classifier(world)
        self._caller = Caller(
            f"argocd {name}", world, classify=self._classify, deadline=settings.timeout, threads=2
        )
        self._session: aiohttp.ClientSession | None = None

    async def application(self, name: str, refresh: str = "", **scope: str) -> Json:
        """One application; `refresh` ("normal") has Argo CD compare it afresh first.

        `scope` is `project` and `appNamespace` where they are known. Raises `NotFound`.
        """
        asked = {**scope, **({"refresh": refresh} if refresh else {})}
        return await self._get(f"read application {name}", _path(name), **asked)

    async def may_sync(self, name: str, **scope: str) -> bool:
        """Whether the sync windows of its project let a person sync it now."""
        path = f"{_path(name)}/syncwindows"
        found = await self._get(f"read the sync windows of {name}", path, **scope)
        return found.get("canSync") is True

    async def live(self, name: str, **asked: str) -> Json:
        """One live object of an application, as the cluster has it. Raises `NotFound`."""
        found = await self._get(f"read an object of {name}", f"{_path(name)}/resource", **asked)
        manifest = found.get("manifest")
        return _object(manifest.encode() if isinstance(manifest, str) else b"", self.name)

    async def sync(self, name: str, order: Mapping[str, Any]) -> None:
        """Ask for a sync, once. What came of it is seen by looking, never by the answer.

        Raises `Uncertain` when it may have begun, `StepRetry` when it certainly has not.
        """
        what = f"sync application {name}"
        answer = await self._send(what, "POST", f"{_path(name)}/sync", order)
        try:
            _object(answer.body, self.name)
        except StepFailed as error:  # a proxy's page: who knows what stands behind it
            raise Uncertain(f"argocd {self.name}: {what}: {error}") from error

    async def check(self) -> str:
        """`ok` when the credential holds; for the doctor."""
        found = await self._get("check the credential", "/api/v1/session/userinfo")
        return "ok" if found.get("loggedIn") is True else "its token is not accepted: renew it"

    async def close(self) -> None:
        """Close connections and pool."""
        if self._session:
            await self._session.close()
        self._caller.close()

    async def _get(self, what: str, path: str, **query: str) -> Json:
        tail = f"?{urlencode(query)}" if query else ""
        return _object((await self._send(what, "GET", f"{path}{tail}")).body, self.name)

    async def _send(
        self, what: str, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Answer:
        headers = {"Authorization": f"Bearer {self.settings.token.reveal()}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()

        async def once() -> Answer:
            answer = await fetch(
                self._open(),
                method,
                f"{self.settings.url}{path}",
                limit=_ANSWER_MAX,
                headers=headers,
                data=data,
            )
            if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise _Refused(answer, self._sentence(answer.body))
            return answer

        return await self._caller.awaiting(what, once, write=body is not None)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context: ssl.SSLContext | bool = True
            if self.settings.ca:
                context = ssl.create_default_context(cafile=self.settings.ca)
            self._session = new_session(self._caller, timeout=self.settings.timeout, ssl=context)
        return self._session

    def _sentence(self, body: bytes) -> str:
        try:
            said = at(json.loads(body), "message")
        except (ValueError, RecursionError):
            return ""
        text = veiled(str(said), self.settings.token.reveal()) if isinstance(said, str) else ""
        return for_terminal(text, 200)

    def _classify(self, error: Exception) -> Fault:
        if not isinstance(error, _Refused):
            return self._common(error)
        if _BUSY in error.sentence:
            return Fault(FaultKind.REFUSED, _BUSY, _BUSY_WAIT)
        fault = self._common(error)
        said = f" ({error.sentence})" if error.sentence else ""
        if error.status == HTTPStatus.CONFLICT:
            return Fault(FaultKind.CONFLICT, f"HTTP {error.status}{said}")
        if error.status < HTTPStatus.BAD_REQUEST:
            return Fault(FaultKind.FINAL, f"HTTP {error.status}: sent elsewhere; check url")
        if wrong := _WRONG.get(HTTPStatus(error.status)) if error.status in _WRONG else None:
            return Fault(FaultKind.FINAL, f"HTTP {error.status}: {wrong}{said}")
        return Fault(fault.kind, f"{fault.text}{said}", fault.after)


def _path(name: str) -> str:
    return f"/api/v1/applications/{quote(name, safe='')}"


def _object(body: bytes, server: str) -> Json:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StepFailed(f"argocd {server}: its answer is no JSON object")
    return value
