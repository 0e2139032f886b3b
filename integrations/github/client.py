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

Every call goes through `Forge.calling`: it keeps the forge's one brake, and renews an App's token
once when it does not hold any more.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar

import github
import requests
from github.WorkflowRun import WorkflowRun

from integrations._braking import Brake, Refused
from integrations._calling import Caller, Fault, FaultKind
from integrations._forge import Run
from integrations.github.answers import NO_TOKEN, USUAL_RIGHT, fault_below, fault_of
from integrations.github.runs import judge
from integrations.github.settings import ForgeSettings
from responder.clock import SECOND, World, iso
from responder.errors import NotFound, StepFailed, StepRetry
from responder.text import for_terminal

__all__ = ["Artifact", "Forge"]

_NEWEST = 100  # runs looked through for a correlation id: one page
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact of a run, not yet fetched."""

    id: int
    name: str
    size: int
    expired: bool
    made: int = 0  # microseconds UTC


class Forge:
    """One GitHub, with one credential. Reads and dispatches; never changes a repository."""

    def __init__(self, name: str, settings: ForgeSettings, world: World) -> None:
        self.name = name
        self.settings = settings
        self.brake = Brake(name, world)
        self.caller = Caller(
            name,
            world,
            classify=self._meaning,
            threads=settings.threads,
            deadline=settings.timeout,
        )
        self._now = world.clock.now
        self._own = threading.local()
        self._all: list[github.Github] = []
        self._lock = threading.Lock()

    async def calling(
        self, what: str, call: Callable[[github.Github], T], *, write: bool = False
    ) -> T:
        """Call with this thread's `Github` and return what the call returns; see `_calling`.

        `call` makes one request that changes something at most, and is made once more with a new
        token where an App's token is refused (401: nothing was done). It never leaves while the
        brake is on: then this raises `StepRetry` with the seconds that are left.
        """

        def held() -> T:
            left_at = self.brake.passing(what)
            try:
                answer = self._with_credential(call)
            except github.GithubException as error:
                raise Refused(self._meaning(error)) from error
            self.brake.answered(left_at)
            return answer

        return await self.caller.blocking(what, held, write=write)

    async def workflow_state(self, repo: str, workflow: str) -> str:
        """`active`, or why the workflow cannot be dispatched; raises `NotFound`."""

        def call(api: github.Github) -> str:
            found = api.get_repo(repo).get_workflow(workflow)
            found.complete()
            return str(found.state)

        return await self.calling(f"look at {workflow} of {repo}", call)

    async def dispatch(self, repo: str, workflow: str, ref: str, inputs: Mapping[str, str]) -> int:
        """Start one run and return its id, 0 when the server does not tell it.

        Sends one POST that may act, ever. Raises `StepRetry` when GitHub refused it before acting,
        `Uncertain` when it may have acted, `StepFailed` when it never will.

        GitHub Enterprise Server up to 3.19 knows no `return_run_details`: it answers 204, or 422
        that names the parameter, and then it has not acted and is asked without.
        """

        def call(api: github.Github) -> int:
            found = api.get_repo(repo).get_workflow(workflow)
            run: WorkflowRun | bool
            try:
                run = found.create_dispatch(ref, dict(inputs), throw=True, return_run_details=True)
            except github.GithubException as error:
                if not _knows_no_details(error):
                    raise
                run = found.create_dispatch(ref, dict(inputs), throw=True)
            return run.id if isinstance(run, WorkflowRun) else 0

        return await self.calling(f"dispatch {workflow} of {repo}", call, write=True)

    async def dispatch_event(self, repo: str, event: str, inputs: Mapping[str, str]) -> None:
        """Start whatever listens for a `repository_dispatch` of this type; no run id is told.

        It runs on the default branch. Raises as `dispatch` does.
        https://docs.github.com/en/rest/repos/repos#create-a-repository-dispatch-event
        """
        body = {"event_type": event, "client_payload": dict(inputs)}
        path, right = f"/repos/{repo}/dispatches", "contents: write"
        await self.ask(f"dispatch {event} of {repo}", "POST", path, body=body, right=right)

    async def recent_runs(self, repo: str, workflow: str, since: int, event: str) -> list[Run]:
        """The newest runs of a workflow by one event, made since a moment (microseconds UTC)."""
        created = f">={iso(since)[:19]}Z"

        def call(api: github.Github) -> list[Run]:
            found = api.get_repo(repo).get_workflow(workflow)
            pages = found.get_runs(event=event, created=created)
            return [_run(run) for run in islice(pages, _NEWEST)]

        return await self.calling(f"list runs of {workflow} of {repo}", call)

    async def run(self, repo: str, run_id: int) -> Run:
        """One run as it is now; raises `NotFound`."""

        def call(api: github.Github) -> Run:
            found = api.get_repo(repo).get_workflow_run(run_id)
            found.complete()
            return replace(_run(found), by=_login(found))

        return await self.calling(f"look at run {run_id} of {repo}", call)

    async def artifacts(self, repo: str, run_id: int, name: str) -> list[Artifact]:
        """The artifacts of that name, the newest first."""

        path = f"/repos/{repo}/actions/runs/{run_id}/artifacts"

        def call(api: github.Github) -> list[Artifact]:
            # Not WorkflowRun.get_artifacts: that fetches the run first, to learn this address.
            _, body = api.requester.requestJsonAndCheck(
                "GET", path, parameters={"name": name, "per_page": str(_NEWEST)}
            )
            listed = [
                Artifact(
                    int(item["id"]),
                    str(item["name"]),
                    int(item["size_in_bytes"]),
                    bool(item["expired"]),
                    _micros(item.get("created_at")),
                )
                for item in body["artifacts"]
                if item["name"] == name
            ]
            return sorted(listed, key=lambda item: item.id, reverse=True)

        return await self.calling(f"list artifacts of run {run_id} of {repo}", call)

    async def kept_jobs(self, repo: str, run_id: int, attempt: int) -> list[tuple[int, int]]:
        """When the jobs ran that an attempt has taken over from earlier ones as successful."""
        path = f"/repos/{repo}/actions/runs/{run_id}/attempts/{attempt}/jobs"
        what = f"list jobs of attempt {attempt} of run {run_id} of {repo}"
        told = await self.ask(what, "GET", path, query={"per_page": str(_NEWEST)})
        return [
            (_micros(job["started_at"]), _micros(job["completed_at"]))
            for job in told["jobs"]
            if job["conclusion"] == "success" and job.get("run_attempt", attempt) < attempt
        ]

    async def archive_url(self, repo: str, artifact: int) -> str:
        """Where an artifact's zip lies for a minute: another host, which must not see the token.

        Raises `NotFound` when it is gone (410).
        """

        def call(api: github.Github) -> str:
            path = f"/repos/{repo}/actions/artifacts/{artifact}/zip"
            status, headers, said = api.requester.requestJson("GET", path)
            if status == HTTPStatus.GONE:
                raise NotFound(f"{self.name}: artifact {artifact} of {repo} is gone (410)")
            if status != HTTPStatus.FOUND:
                raise api.requester.createException(status, headers, _problem(said))
            return str(headers.get("location", ""))

        return await self.calling(f"find artifact {artifact} of {repo}", call)

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
        a refused credential is told to need. Raises as `calling` does.
        """

        def call(api: github.Github) -> Any:
            asked = api.requester.requestJsonAndCheck
            return asked(verb, path, parameters=dict(query or {}), input=body and dict(body))[1]

        try:
            return await self.calling(what, call, write=verb != "GET")
        except StepFailed as error:
            raise StepFailed(str(error).replace(USUAL_RIGHT, f"it needs {right}")) from error

    async def check(self) -> str:
        """`ok` when the credential holds; for the doctor."""

        def call(api: github.Github) -> str:
            api.get_rate_limit()
            return "ok"

        return await self.calling("check the credential", call)

    def close(self) -> None:
        """Close the pool and every thread's connections."""
        self.caller.close()
        with self._lock:
            for api in self._all:
                api.close()
            self._all.clear()

    def _with_credential(self, call: Callable[[github.Github], T]) -> T:
        """Call, and once more with a new token where this thread's has run out."""
        try:
            return call(self._api())
        except github.GithubException as error:
            if error.status != HTTPStatus.UNAUTHORIZED or self.settings.token is not None:
                raise
        self._own.api = None
        return call(self._api())

    def _api(self) -> github.Github:
        """This thread's own `Github`; it must never be handed to another thread."""
        api: github.Github | None = getattr(self._own, "api", None)
        if api is None:
            auth = self._own.auth = _auth(self.settings)
            api = github.Github(
                auth=auth,
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
        self._ready(self._own.auth)
        return api

    def _ready(self, auth: github.Auth.Auth) -> None:
        """Have an App's token before anything is sent: what fails here has not acted."""
        if self.settings.token is not None:
            return
        try:
            auth.token  # noqa: B018 - fetched where it is missing or about to run out
        except github.GithubException as error:
            if error.status in NO_TOKEN and not isinstance(
                error, github.RateLimitExceededException
            ):
                raise StepFailed(
                    f"{self.name}: HTTP {error.status}, GitHub gives the App no token; check "
                    f"app_id, private_key and installation_id of [forges.{self.name}]"
                ) from None
            if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise StepRetry(f"{self.name}: HTTP {error.status}, no token of the App") from None
            raise
        except requests.exceptions.RequestException as error:
            raise StepRetry(f"{self.name}: no token of the App ({type(error).__name__})") from None

    def _meaning(self, error: Exception) -> Fault:
        """What an error means for a caller, with the brake's wait on it."""
        if isinstance(error, Refused):
            return error.fault
        fault = _classify(error, self._now())
        if isinstance(error, github.GithubException):
            if error.status == HTTPStatus.UNAUTHORIZED:
                return Fault(fault.kind, f"{fault.text}; {self._way_out()}")
            limit = fault.kind is FaultKind.REFUSED
            return self.brake.heard(fault, limit=limit)
        return fault

    def _way_out(self) -> str:
        if self.settings.token is not None:
            return f"it has expired or was revoked: renew [forges.{self.name}] token"
        return (
            "nor does one that was just made: check installation_id and the App's rights in "
            f"[forges.{self.name}]"
        )


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
        began=_at(run.run_started_at),
        ended=_at(run.updated_at),
    )


def _login(run: WorkflowRun) -> str:
    """Who began this attempt; only of a run that was fetched whole, else it would be again."""
    return for_terminal(getattr(run.triggering_actor, "login", None) or "", 40)


def _problem(said: str) -> dict[str, Any]:
    """What a refusal says, for PyGithub to tell a rate limit from a missing right."""
    try:
        told = json.loads(said)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _at(moment: dt.datetime | None) -> int:
    return int(moment.timestamp() * SECOND) if moment else 0


def _micros(text: object) -> int:
    return _at(dt.datetime.fromisoformat(text)) if isinstance(text, str) else 0


def _knows_no_details(error: github.GithubException) -> bool:
    """Whether a server refused the dispatch only because it knows no `return_run_details`."""
    return error.status == HTTPStatus.UNPROCESSABLE_ENTITY and "return_run_details" in str(
        error.data
    )


def _classify(error: Exception, now: int) -> Fault:
    """What an error of PyGithub or of requests below it means; no body gets into the text."""
    if isinstance(error, github.GithubException) and error.status:
        headers = {str(k): str(v) for k, v in (error.headers or {}).items()}
        limited = isinstance(error, github.RateLimitExceededException)
        return fault_of(error.status, headers, error.data, limited=limited, now=now)
    return fault_below(error)
