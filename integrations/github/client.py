"""GitHub's REST API by PyGithub, the only file that imports it.

What PyGithub does by itself and we do not want (measured with 2.10):

* Its retry sends POST again after a 5xx, a reset or a time-out, which dispatches twice. `retry` is
  off here; `_calling` is the one retry layer.
* One `Github` object used by several threads can send another thread's request, because the shared
  connection keeps verb and URL between two calls
  (https://github.com/PyGithub/PyGithub/issues/183). Every thread of the pool has its own.
* It sleeps between requests; both pauses are set to none, limits are obeyed by `_calling`.
* `create_dispatch` answers False without a reason unless told to raise.
* An answer that names another host than the base URL is an AssertionError.

Redirects to other hosts are never followed with the token: `archive_url` returns the address.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any

import github
import requests
from github.WorkflowRun import WorkflowRun
from urllib3.exceptions import NewConnectionError

from integrations._calling import Caller, Fault, FaultKind, retry_after
from integrations._forge import Run
from integrations.github.runs import judge
from integrations.github.settings import ForgeSettings
from responder.clock import SECOND, World, iso
from responder.errors import NotFound, StepFailed
from responder.text import for_terminal, veiled

__all__ = ["Artifact", "Forge"]

_NEWEST = 100  # runs looked through for a correlation id: one page
_USUAL_RIGHT = "it needs actions: write"
_SECONDARY_WAIT = 60.0  # GitHub: wait at least a minute when no header says how long


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact of a run, not yet fetched."""

    id: int
    name: str
    size: int
    expired: bool


class Forge:
    """One GitHub, with one credential. Reads and dispatches; never changes a repository."""

    def __init__(self, name: str, settings: ForgeSettings, world: World) -> None:
        self.name = name
        self.settings = settings
        self.caller = Caller(
            name,
            world,
            classify=lambda error: _classify(error, world.clock.now()),
            threads=settings.threads,
            deadline=settings.timeout,
        )
        self._own = threading.local()
        self._all: list[github.Github] = []
        self._lock = threading.Lock()

    async def workflow_state(self, repo: str, workflow: str) -> str:
        """`active`, or why the workflow cannot be dispatched; raises `NotFound`."""

        def call() -> str:
            found = self._api().get_repo(repo).get_workflow(workflow)
            found.complete()
            return str(found.state)

        return await self.caller.blocking(f"look at {workflow} of {repo}", call)

    async def dispatch(self, repo: str, workflow: str, ref: str, inputs: Mapping[str, str]) -> int:
        """Start one run and return its id, 0 when the server does not tell it.

        Sends one POST that may act, ever. Raises `StepRetry` when GitHub refused it before acting,
        `Uncertain` when it may have acted, `StepFailed` when it never will.

        GitHub Enterprise Server up to 3.19 knows no `return_run_details`: it answers 204, or 422
        that names the parameter, and then it has not acted and is asked without.
        """

        def call() -> int:
            found = self._api().get_repo(repo).get_workflow(workflow)
            run: WorkflowRun | bool
            try:
                run = found.create_dispatch(ref, dict(inputs), throw=True, return_run_details=True)
            except github.GithubException as error:
                if not _knows_no_details(error):
                    raise
                run = found.create_dispatch(ref, dict(inputs), throw=True)
            return run.id if isinstance(run, WorkflowRun) else 0

        return await self.caller.blocking(f"dispatch {workflow} of {repo}", call, write=True)

    async def recent_runs(self, repo: str, workflow: str, since: int) -> list[Run]:
        """The newest dispatched runs of a workflow made since a moment (microseconds UTC)."""
        created = f">={iso(since)[:19]}Z"

        def call() -> list[Run]:
            found = self._api().get_repo(repo).get_workflow(workflow)
            pages = found.get_runs(event="workflow_dispatch", created=created)
            return [_run(run) for run in islice(pages, _NEWEST)]

        return await self.caller.blocking(f"list runs of {workflow} of {repo}", call)

    async def run(self, repo: str, run_id: int) -> Run:
        """One run as it is now; raises `NotFound`."""

        def call() -> Run:
            found = self._api().get_repo(repo).get_workflow_run(run_id)
            found.complete()
            return _run(found)

        return await self.caller.blocking(f"look at run {run_id} of {repo}", call)

    async def artifacts(self, repo: str, run_id: int, name: str) -> list[Artifact]:
        """The artifacts of that name, the newest first."""

        path = f"/repos/{repo}/actions/runs/{run_id}/artifacts"

        def call() -> list[Artifact]:
            # Not WorkflowRun.get_artifacts: that fetches the run first, to learn this address.
            _, body = self._api().requester.requestJsonAndCheck(
                "GET", path, parameters={"name": name, "per_page": str(_NEWEST)}
            )
            listed = [
                Artifact(
                    int(item["id"]),
                    str(item["name"]),
                    int(item["size_in_bytes"]),
                    bool(item["expired"]),
                )
                for item in body["artifacts"]
                if item["name"] == name
            ]
            return sorted(listed, key=lambda item: item.id, reverse=True)

        return await self.caller.blocking(f"list artifacts of run {run_id} of {repo}", call)

    async def archive_url(self, repo: str, artifact: int) -> str:
        """Where an artifact's zip lies for a minute: another host, which must not see the token.

        Raises `NotFound` when it is gone (410).
        """

        def call() -> str:
            api = self._api()
            path = f"/repos/{repo}/actions/artifacts/{artifact}/zip"
            status, headers, _ = api.requester.requestJson("GET", path)
            if status == HTTPStatus.GONE:
                raise NotFound(f"{self.name}: artifact {artifact} of {repo} is gone (410)")
            if status != HTTPStatus.FOUND:
                raise github.GithubException(status, None, headers)
            return str(headers.get("location", ""))

        return await self.caller.blocking(f"find artifact {artifact} of {repo}", call)

    async def ask(
        self,
        what: str,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        right: str = "actions: read",
    ) -> Any:
        """The decoded answer to one request that PyGithub has no method for.

        Anything but GET is a write: sent once, `Uncertain` when it may have acted. `right` is what
        a refused credential is told to need. Raises as `Caller.blocking` does.
        """

        def call() -> Any:
            asked = self._api().requester.requestJsonAndCheck
            return asked(verb, path, parameters=dict(query or {}), input=body and dict(body))[1]

        try:
            return await self.caller.blocking(what, call, write=verb != "GET")
        except StepFailed as error:
            raise StepFailed(str(error).replace(_USUAL_RIGHT, f"it needs {right}")) from error

    async def check(self) -> str:
        """`ok` when the credential holds; for the doctor."""

        def call() -> str:
            self._api().get_rate_limit()
            return "ok"

        return await self.caller.blocking("check the credential", call)

    def close(self) -> None:
        """Close the pool and every thread's connections."""
        self.caller.close()
        with self._lock:
            for api in self._all:
                api.close()
            self._all.clear()

    def _api(self) -> github.Github:
        """This thread's own `Github`; it must never be handed to another thread."""
        api: github.Github | None = getattr(self._own, "api", None)
        if api is None:
            api = github.Github(
                auth=_auth(self.settings),
                base_url=self.settings.base_url,
                timeout=math.ceil(self.settings.timeout),
                user_agent="runtime-responder",
                per_page=_NEWEST,
                retry=None,
                seconds_between_requests=None,
                seconds_between_writes=None,
                lazy=True,
            )
            self._own.api = api
            with self._lock:
                self._all.append(api)
        return api


def _auth(settings: ForgeSettings) -> github.Auth.Auth:
    if settings.token is not None:
        return github.Auth.Token(settings.token.reveal())
    if settings.app_id and settings.private_key and settings.installation_id:
        app = github.Auth.AppAuth(settings.app_id, settings.private_key.reveal())
        return app.get_installation_auth(settings.installation_id)
    raise StepFailed("no credential for GitHub")  # the settings never let this through


def _run(run: WorkflowRun) -> Run:
    """Read attributes that every listed run has: `raw_data` would fetch each run once more."""
    return Run(
        id=run.id,
        attempt=run.run_attempt or 1,
        title=run.display_title or "",
        state=judge(run.status or "", run.conclusion or ""),
        url=run.html_url or "",
        created=int(run.created_at.timestamp() * SECOND),
    )


def _knows_no_details(error: github.GithubException) -> bool:
    """Whether a server refused the dispatch only because it knows no `return_run_details`."""
    return error.status == HTTPStatus.UNPROCESSABLE_ENTITY and "return_run_details" in str(
        error.data
    )


# --------------------------------------------------------------------------- failures


def _classify(error: Exception, now: int) -> Fault:
    """What an error of PyGithub or of requests below it means; no body gets into the text."""
    if isinstance(error, github.GithubException) and error.status:
        return _of_status(error, now)
    if isinstance(error, requests.exceptions.ConnectTimeout) or _never_connected(error):
        return Fault(FaultKind.REFUSED, "cannot connect")
    if isinstance(error, requests.exceptions.RequestException | OSError):
        return Fault(FaultKind.AMBIGUOUS, f"connection failed ({type(error).__name__})")
    if isinstance(error, AssertionError):
        return Fault(
            FaultKind.FINAL,
            "the answer names another host than base_url; set base_url to the server's own name",
        )
    if isinstance(error, RuntimeError):
        return Fault(FaultKind.FINAL, "redirected to another server; correct base_url")
    return Fault(FaultKind.FINAL, f"unexpected {type(error).__name__}")


def _of_status(error: github.GithubException, now: int) -> Fault:
    headers = {str(k): str(v) for k, v in (error.headers or {}).items()}
    after = retry_after(headers, now)
    text = f"HTTP {error.status}"
    limited = isinstance(error, github.RateLimitExceededException) or after is not None
    if error.status == HTTPStatus.TOO_MANY_REQUESTS or (
        error.status == HTTPStatus.FORBIDDEN and limited
    ):
        wait = _SECONDARY_WAIT if after is None else after
        return Fault(FaultKind.REFUSED, f"{text}, rate limit", wait)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Fault(FaultKind.AMBIGUOUS, text, after)
    kind, words = _ANSWERS.get(error.status, (FaultKind.FINAL, ""))
    if error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        words = _message(error)
    return Fault(kind, f"{text}{', ' if words else ''}{words}")


_ANSWERS: Mapping[int, tuple[FaultKind, str]] = {
    401: (FaultKind.FINAL, "the credential does not hold"),
    403: (FaultKind.FINAL, f"the credential has no right to do this; {_USUAL_RIGHT}"),
    404: (FaultKind.NOT_FOUND, "not there, or not visible to this credential"),
    409: (FaultKind.CONFLICT, "another state than expected"),
    410: (FaultKind.NOT_FOUND, "gone"),
}


def _message(error: github.GithubException) -> str:
    """GitHub's own sentence on a refused request; a known-safe field, shortened and defused."""
    data = error.data
    message = data.get("message") if isinstance(data, dict) else None
    return for_terminal(veiled(message), 200) if isinstance(message, str) else "refused as invalid"


def _never_connected(error: BaseException) -> bool:
    """Whether no byte was sent: refused, no route, unknown name."""
    if not isinstance(error, requests.exceptions.ConnectionError):
        return False
    reasons = [getattr(item, "reason", item) for item in error.args]
    return any(isinstance(reason, NewConnectionError) for reason in reasons)
