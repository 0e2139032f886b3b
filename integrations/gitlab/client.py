"""GitLab's REST API by python-gitlab, the only file that imports it.

What python-gitlab does by itself and we do not want (measured with 8.6):

* `retry_transient_errors` sends POST again after a 5xx, a reset or a time-out: two pipelines for
  one call. It is off; `_calling` is the one retry layer.
* `obey_rate_limit` sleeps `Retry-After` without an upper bound and fails on its date form. It is
  off in every call.
* It follows redirects with the token in its header, to any host. Here a redirect is an answer.
* It has no time-out of its own, and its errors do not carry the headers that say how long to wait.

Every thread of the pool has its own object, and all of them keep the forge's one brake.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import gitlab
import requests
from urllib3.exceptions import NewConnectionError

from integrations._braking import Brake, Refused
from integrations._calling import Caller, Fault, FaultKind, retry_after
from integrations.gitlab.settings import ForgeSettings
from responder.clock import SECOND, World
from responder.errors import StepFailed
from responder.text import for_terminal, veiled

__all__ = ["Client", "Elsewhere", "project_path"]

T = TypeVar("T")
_PAGE = 100
_CHUNK = 64 << 10
_LONGEST_LIMIT = 3600.0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where an artifact lies: another host, which must not see the token."""

    url: str


class _Refused(Exception):
    """An answer that says no, with what python-gitlab leaves out: its headers. Never its body."""

    def __init__(self, status: int, headers: Mapping[str, str], message: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.message = status, dict(headers), message


class _Session(requests.Session):
    """Follows no redirect, and keeps the headers of the last answer."""

    last: Mapping[str, str]

    def __init__(self) -> None:
        super().__init__()
        self.last = {}

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Every answer is the last one."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send as requests does and note the headers."""
        self.last = {}
        answer = super().send(request, **options)
        self.last = dict(answer.headers)
        return answer


@dataclass(frozen=True, slots=True)
class _Api:
    """One thread's own library object with its session."""

    lab: gitlab.Gitlab
    session: _Session


def project_path(project: str) -> str:
    """The API's path of a project, by its number or its full path."""
    return f"/projects/{quote(project, safe='')}"


class Client:
    """One GitLab, with one credential. What it sends, its callers decide; it repeats no write."""

    def __init__(self, name: str, settings: ForgeSettings, world: World) -> None:
        self.name = name
        self.settings = settings
        self.brake = Brake(name, world)
        self._now = world.clock.now
        self.caller = Caller(
            name,
            world,
            classify=self._meaning,
            threads=settings.threads,
            deadline=settings.timeout,
        )
        self._own = threading.local()
        self._all: list[_Session] = []
        self._lock = threading.Lock()

    async def get(self, what: str, path: str, **query: object) -> Any:
        """The decoded answer to a look; `what` names it for a person."""
        return await self._ask(what, lambda lab: lab.http_get(path, query, obey_rate_limit=False))

    async def pages(self, what: str, path: str, most: int = 3, **query: object) -> list[Any]:
        """The items of a list, at most so many pages of a hundred.

        Raises `StepFailed` when there are more: what is not seen is not guessed.
        """
        found: list[Any] = []
        for page in range(1, most + 1):
            part = await self.get(what, path, per_page=_PAGE, page=page, **query)
            found += part
            if len(part) < _PAGE:
                return found
        raise StepFailed(f"{self.name}: {what}: more than {most * _PAGE}")

    async def post(self, what: str, path: str, body: Mapping[str, Any]) -> Any:
        """The decoded answer to one write, sent once; raises `Uncertain` when it may have acted."""
        send = partial(self._sent, path=path, body=dict(body), verb="post")
        return await self._ask(what, send, write=True)

    async def put(self, what: str, path: str, body: Mapping[str, Any]) -> Any:
        """As `post`, by PUT."""
        send = partial(self._sent, path=path, body=dict(body), verb="put")
        return await self._ask(what, send, write=True)

    async def file(self, what: str, path: str, most: int) -> bytes | Elsewhere:
        """A file of at most so many bytes, or where it lies; raises `StepFailed` when larger."""
        return await self._ask(what, lambda lab: _bounded(lab, path, most))

    async def check(self) -> str:
        """`ok` when the credential holds; for the doctor."""
        await self.get("check the credential", "/version")
        return "ok"

    def close(self) -> None:
        """Close the pool and every thread's connections."""
        self.caller.close()
        with self._lock:
            for session in self._all:
                session.close()
            self._all.clear()

    @staticmethod
    def _sent(lab: gitlab.Gitlab, *, path: str, body: dict[str, Any], verb: str) -> Any:
        send = lab.http_post if verb == "post" else lab.http_put
        return send(path, post_data=body, obey_rate_limit=False, retry_transient_errors=False)

    async def _ask(self, what: str, ask: Callable[[gitlab.Gitlab], T], *, write: bool = False) -> T:
        def call() -> T:
            left_at, api = self.brake.passing(what), self._api()
            try:
                answer = ask(api.lab)
            except gitlab.GitlabError as error:
                if error.response_code is None:
                    raise
                status, text = error.response_code, _message(error)
                said = _Refused(status, api.session.last, text)
                raise Refused(self._meaning(said)) from None
            self.brake.answered(left_at)
            return answer

        return await self.caller.blocking(what, call, write=write)

    def _meaning(self, error: Exception) -> Fault:
        """What an error means for a caller, with the brake's wait on it."""
        if isinstance(error, Refused):
            return error.fault
        fault = _classify(error, self._now())
        if not isinstance(error, _Refused):
            return fault
        if error.status == HTTPStatus.UNAUTHORIZED:
            text = f"{fault.text}: it has expired or was revoked; renew [forges.{self.name}] token"
            return Fault(fault.kind, text)
        return self.brake.heard(fault, limit=fault.kind is FaultKind.REFUSED)

    def _api(self) -> _Api:
        """This thread's own object; it must never be handed to another thread."""
        api: _Api | None = getattr(self._own, "api", None)
        if api is None:
            session = _Session()
            lab = gitlab.Gitlab(
                self.settings.base_url,
                private_token=self.settings.token.reveal(),
                timeout=self.settings.timeout,
                ssl_verify=self.settings.ca or True,
                user_agent="runtime-responder",
                retry_transient_errors=False,
                keep_base_url=True,
                session=session,
            )
            api = self._own.api = _Api(lab, session)
            with self._lock:
                self._all.append(session)
        return api


def _bounded(lab: gitlab.Gitlab, path: str, most: int) -> bytes | Elsewhere:
    try:
        answer = lab.http_get(path, streamed=True, raw=True, obey_rate_limit=False)
    except gitlab.GitlabHttpError as error:
        if error.response_code not in _MOVED:
            raise
        return Elsewhere(str(lab.session.last.get("Location", "")))  # type: ignore[attr-defined]
    if not isinstance(answer, requests.Response):
        raise StepFailed("the artifact is no file")
    with answer:
        found = bytearray()
        for chunk in answer.iter_content(_CHUNK):
            found += chunk
            if len(found) > most:
                raise StepFailed(f"the artifact is longer than {most} bytes")
        return bytes(found)


_MOVED = {HTTPStatus.FOUND, HTTPStatus.SEE_OTHER, HTTPStatus.TEMPORARY_REDIRECT}

# --------------------------------------------------------------------------- failures


def _classify(error: Exception, now: int) -> Fault:
    """What an error of python-gitlab or of requests below it means; no body gets into the text."""
    if isinstance(error, _Refused):
        return _of_status(error, now)
    if isinstance(error, requests.exceptions.ConnectTimeout) or _never_connected(error):
        return Fault(FaultKind.REFUSED, "cannot connect")
    if isinstance(error, requests.exceptions.RequestException | OSError):
        return Fault(FaultKind.AMBIGUOUS, f"connection failed ({type(error).__name__})")
    if isinstance(error, gitlab.GitlabParsingError):
        return Fault(FaultKind.AMBIGUOUS, "the answer is not JSON")
    return Fault(FaultKind.FINAL, f"unexpected {type(error).__name__}")


def _of_status(error: _Refused, now: int) -> Fault:
    after, text = _wait(error.headers, now), f"HTTP {error.status}"
    said = error.message.lower()  # refused with 400 or 403, before acting
    crowded = "too many pipelines" in said or "requested too many times" in said
    if error.status == HTTPStatus.TOO_MANY_REQUESTS or crowded:
        return Fault(FaultKind.REFUSED, f"{text}, rate limit", after)
    if error.status == HTTPStatus.FORBIDDEN and after is not None:
        return Fault(FaultKind.REFUSED, f"{text}, rate limit", after)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Fault(FaultKind.AMBIGUOUS, text, after)
    kind, words = _ANSWERS.get(error.status, (FaultKind.FINAL, ""))
    if error.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        words = error.message or "refused as invalid"
    if HTTPStatus.MULTIPLE_CHOICES <= error.status < HTTPStatus.BAD_REQUEST:
        words = "redirected; set base_url to the server's own address"
    return Fault(kind, f"{text}{', ' if words else ''}{words}")


_ANSWERS: Mapping[int, tuple[FaultKind, str]] = {
    401: (FaultKind.FINAL, "the credential does not hold"),
    403: (FaultKind.FINAL, "the credential has no right to do this; it needs the scope api"),
    404: (FaultKind.NOT_FOUND, "not there, or not visible to this credential"),
    405: (FaultKind.CONFLICT, "not possible now"),
    406: (FaultKind.CONFLICT, "cannot be merged"),
    409: (FaultKind.CONFLICT, "another state than expected"),
    410: (FaultKind.NOT_FOUND, "gone"),
}


def _wait(headers: Mapping[str, str], now: int) -> float | None:
    """Seconds to wait: `Retry-After` in both forms, else `RateLimit-Reset` when none remain.

    https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#response-headers
    """
    if (after := retry_after(headers, now)) is not None:
        return after
    known = {name.lower(): value.strip() for name, value in headers.items()}
    reset = known.get("ratelimit-reset", "")
    if known.get("ratelimit-remaining") != "0" or not reset.isdecimal():
        return None
    return min(max(int(reset) - now / SECOND + 1, 0.0), _LONGEST_LIMIT)


def _message(error: gitlab.GitlabError) -> str:
    """GitLab's own sentence on a refusal; a known-safe field, shortened and made harmless."""
    said: Any = error.error_message
    if isinstance(said, Mapping):
        said = said.get("base") or [f"{key}: {value}" for key, value in said.items()]
    if isinstance(said, list):
        said = "; ".join(str(one) for one in said[:3])
    if not isinstance(said, str) or said.lstrip().startswith(("<", "{")):
        return ""  # a page of a proxy, not a sentence of GitLab
    return for_terminal(veiled(said), 200)


def _never_connected(error: BaseException) -> bool:
    """Whether no byte was sent: refused, no route, unknown name."""
    if not isinstance(error, requests.exceptions.ConnectionError):
        return False
    reasons = [getattr(item, "reason", item) for item in error.args]
    return any(isinstance(reason, NewConnectionError) for reason in reasons)
