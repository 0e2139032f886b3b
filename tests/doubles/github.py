"""GitHub's Actions API on loopback: dispatch, runs, jobs, artifacts; with faults on demand.

Every request is held against GitHub's own description (422 when it is wrong), and so is every
answer of the double itself (recorded in ``wrong_answers``, which tests assert to be empty). What
runs behind it is an executor: a stand-in, or the workflow file for real. Artifacts lie on a second
port, as GitHub keeps them on another host.

As a process: ``python -m tests.doubles.github PORT TOKEN`` (stand-in executor).
"""

import asyncio
import contextlib
import datetime as dt
import email.utils
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web

from tests.doubles import shapes
from tests.doubles.contract import Answered, Asked, answer_fault, description, request_fault
from tests.doubles.executors import Executor, Immediate
from tests.doubles.faults import ACTING, LIMITS, Fault, Faults
from tests.doubles.github_parts import UNDESCRIBED, Handler, Part, described_path
from tests.doubles.github_parts import problem as _problem
from tests.doubles.github_parts import repo_of as _repo
from tests.doubles.github_runs import Runs
from tests.doubles.hooks import Hook
from tests.doubles.leaping import Leaping
from tests.doubles.shapes import DoubleRun

SLOW = 30.0  # longer than any time-out of a test
TOKEN = "token-of-the-double"
REQUIRED = ("image", "correlation_id")


@dataclass
class GitHubDouble:
    """One forge. ``base_url`` and ``token`` are what a client needs."""

    executor: Executor = field(default_factory=Immediate)
    token: str = TOKEN
    prefix: str = ""  # "/api/v3" as on an Enterprise Server
    app_key: Any = None  # public key of an App: its tokens are handed out, then only they hold
    refuses_all: bool = False  # no token holds, the newest neither
    app_refused: int = 0  # what the App is told instead of a token: 401, 403, 404
    hook: Hook | None = None  # where deliveries go to
    workflows: Mapping[str, str] = field(default_factory=lambda: {"rebuild.yml": "active"})
    required: tuple[str, ...] = REQUIRED
    faults: Faults = field(default_factory=Faults)
    clock: Leaping = field(default_factory=Leaping)
    shows_names: bool = True  # False: the workflow has no run-name
    runs: dict[int, DoubleRun] = field(default_factory=dict)
    dispatches: Counter[str] = field(default_factory=Counter)  # acted, by correlation id
    asked: Counter[str] = field(default_factory=Counter)  # requests, by operation
    wrong_requests: list[str] = field(default_factory=list)
    wrong_answers: list[str] = field(default_factory=list)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)  # done at its next call
    leaked: list[str] = field(default_factory=list)  # credentials seen by the artifact host
    more: Runs = field(default_factory=Runs)  # what runs wait for, attempts, the second start
    parts: tuple[Part, ...] = ()  # more operations; see `github_parts`
    base_url: str = ""
    store_url: str = ""
    _runners: list[web.AppRunner] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    # -------------------------------------------------------------- life

    async def start(self, port: int = 0) -> "GitHubDouble":
        """Listen on two ports of 127.0.0.1."""
        description()  # takes seconds on a busy machine: not while a call's clock runs
        api = web.Application(middlewares=[self._guard])
        base = f"{self.prefix}/repos/{{owner}}/{{repo}}/actions"
        api.router.add_get(f"{self.prefix}/rate_limit", self._rate_limit)
        token = f"{self.prefix}/app/installations/{{installation}}/access_tokens"
        api.router.add_post(token, self._app_token, name="app-token")
        api.router.add_get(f"{base}/workflows/{{workflow}}", self._workflow, name="workflow")
        api.router.add_post(
            f"{base}/workflows/{{workflow}}/dispatches", self._dispatch, name="dispatch"
        )
        api.router.add_get(f"{base}/workflows/{{workflow}}/runs", self._list, name="list")
        api.router.add_get(f"{base}/runs/{{run}}", self._run, name="run")
        api.router.add_get(f"{base}/runs/{{run}}/jobs", self._jobs, name="jobs")
        api.router.add_get(f"{base}/runs/{{run}}/artifacts", self._artifacts, name="artifacts")
        api.router.add_post(f"{base}/runs/{{run}}/cancel", self._cancel, name="cancel")
        api.router.add_post(f"{base}/runs/{{run}}/rerun", self._rerun, name="rerun")
        api.router.add_get(f"{base}/artifacts/{{artifact}}/zip", self._zip, name="zip")
        for one in (route for part in (*self.parts, self.more) for route in part.routes(self)):
            api.router.add_route(one.method, self.prefix + one.path, one.handler, name=one.name)
        store = web.Application()
        store.router.add_get("/kept/{run}", self._kept)
        self.base_url = await self._listen(api, port) + self.prefix
        self.store_url = await self._listen(store, 0)
        return self

    async def settled(self) -> None:
        """Return when nothing is being executed."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """End running workflows and close both ports."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for runner in self._runners:
            await runner.cleanup()

    async def _listen(self, app: web.Application, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self._runners.append(runner)
        bound = runner.addresses[0][1]
        return f"http://127.0.0.1:{bound}"

    # -------------------------------------------------------------- every request

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.match_info.route.name or "other"
        self.asked[name] += 1
        if not self._lets_in(name, request.headers.get("Authorization", "")):
            return _problem(401, "Bad credentials")
        body = await request.read()
        asked = Asked(
            request.method,
            described_path(request, self.prefix),
            list(request.query.items()),
            request.headers,
            body or None,
        )
        if name not in UNDESCRIBED and (fault := request_fault(asked)):
            self.wrong_requests.append(f"{request.method} {request.path}: {fault}")
            return _problem(422, "Invalid request.")
        answer = await self._with_fault(name, request, handler)
        if name not in UNDESCRIBED and answer.status < 400:
            self._check_own(asked, answer)
        return answer

    def _lets_in(self, name: str, shown: str) -> bool:
        if name != "app-token":
            return shown == f"token {self.token}" and not self.refuses_all
        claims = jwt.decode(shown.removeprefix("Bearer "), self.app_key, algorithms=["RS256"])
        return claims["iss"] in {"7", 7}

    def _check_own(self, asked: Asked, answer: web.StreamResponse) -> None:
        data = answer.body if isinstance(answer, web.Response) else None
        seen = Answered(
            answer.status, data if isinstance(data, bytes) else b"", dict(answer.headers)
        )
        if fault := answer_fault(asked, seen):
            self.wrong_answers.append(f"{asked.method} {asked.path} {answer.status}: {fault}")

    async def _with_fault(
        self, name: str, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        if name in self.before:
            self.before.pop(name)()
        fault = self.faults.take(name)
        if fault is None:
            return await handler(request)
        if fault in LIMITS:
            return _limited(fault, self.clock.date())
        if fault in ACTING:
            await handler(request)
        if fault in {Fault.SLOW_AFTER, Fault.SLOW_BEFORE}:
            await asyncio.sleep(SLOW)
        if fault in {Fault.RESET_AFTER, Fault.RESET_BEFORE}:
            _reset(request)
        return _problem(502 if fault is Fault.ERROR_AFTER else 503, "Server Error")

    # -------------------------------------------------------------- operations

    async def _app_token(self, request: web.Request) -> web.Response:
        if self.app_refused:
            return _problem(self.app_refused, "This installation has been suspended")
        ends = shapes.stamp(self.clock.date() + dt.timedelta(hours=1))
        told = {"token": self.token, "expires_at": ends, "permissions": {"actions": "write"}}
        return web.json_response({**told, "repository_selection": "all"}, status=201)

    async def _rate_limit(self, request: web.Request) -> web.Response:
        one = {"limit": 5000, "remaining": 4999, "reset": 1, "used": 1}
        return web.json_response({"resources": {"core": one, "search": one}, "rate": one})

    async def _workflow(self, request: web.Request) -> web.Response:
        file = request.match_info["workflow"]
        if file not in self.workflows:
            return _problem(404, "Not Found")
        repo = _repo(request)
        return web.json_response(shapes.workflow(self.base_url, repo, file, self.workflows[file]))

    async def _dispatch(self, request: web.Request) -> web.Response:
        asked = await request.json()
        file, inputs = request.match_info["workflow"], asked.get("inputs", {})
        details = asked.get("return_run_details", False)
        if file not in self.workflows:
            return _problem(404, "Not Found")
        if details and self.faults.refuse_details:
            return _problem(422, 'Invalid request. "return_run_details" is not a permitted key.')
        for name in self.required:
            if not inputs.get(name):
                return _problem(422, f"Required input '{name}' not provided")
        run = self.new_run(_repo(request), file, asked["ref"], inputs)
        if not details or self.faults.without_details:
            return web.Response(status=204)
        told = {
            "workflow_run_id": run.id,
            "run_url": f"{self.base_url}/repos/{run.repo}/actions/runs/{run.id}",
            "html_url": f"{self.base_url}/{run.repo}/actions/runs/{run.id}",
        }
        return web.json_response(told)

    def new_run(self, repo: str, file: str, ref: str, inputs: dict[str, str]) -> DoubleRun:
        """Make a run and let the executor have it."""
        correlation = inputs.get("correlation_id", "")
        self.dispatches[correlation] += 1
        run = DoubleRun(
            id=4711 + len(self.runs),
            repo=repo,
            workflow=file,
            ref=ref,
            title=f"rebuild {correlation}" if self.shows_names else "rebuild",
            inputs=inputs,
            created=self.clock.date(),
            hidden_looks=self.faults.hide_runs_for,
        )
        self.runs[run.id] = run
        self.execute(run)
        return run

    _new_run = new_run

    def execute(self, run: DoubleRun) -> None:
        """Let the executor bring a run, or another attempt of it, to its end."""
        task = asyncio.get_running_loop().create_task(self._to_end(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _to_end(self, run: DoubleRun) -> None:
        await self.executor.execute(run)
        run.changed = self.clock.date()
        if self.hook:
            await self.hook.deliver("completed", shapes.run(self.base_url, run))

    async def _list(self, request: web.Request) -> web.Response:
        shown = []
        since = request.query.get("created", "").removeprefix(">=")
        for run in sorted(self.runs.values(), key=lambda one: -one.id):
            if run.repo != _repo(request) or run.workflow != request.match_info["workflow"]:
                continue
            if run.hidden_looks > 0:
                run.hidden_looks -= 1
                continue
            if request.query.get("event", run.event) != run.event:
                continue
            if not since or shapes.stamp(run.created) >= since:
                shown.append(shapes.run(self.base_url, run))
        size, page = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        part = shown[(page - 1) * size : page * size]
        return web.json_response({"total_count": len(shown), "workflow_runs": part})

    async def _run(self, request: web.Request) -> web.Response:
        run = self.find(request)
        run.polls += 1
        if run.script:
            run.status, run.conclusion = run.script.pop(0)
        return web.json_response(shapes.run(self.base_url, run))

    async def _jobs(self, request: web.Request) -> web.Response:
        jobs = [shapes.job(self.base_url, self.find(request))]
        return web.json_response({"total_count": 1, "jobs": jobs})

    async def _artifacts(self, request: web.Request) -> web.Response:
        run = self.find(request)
        items: list[dict[str, Any]] = []
        about: dict[str, Any]
        if run.archive is not None:
            size = 1 if self.faults.lies_about_size else len(run.archive)
            size = self.faults.says_size or size
            items = [shapes.artifact(self.base_url, run, expired=False, size=size)]
        for attempt, old in run.earlier.items():
            about = {"size": len(old.archive), "attempt": attempt, "made": old.made}
            items.append(shapes.artifact(self.base_url, run, expired=False, **about))
        if run.reports is not None:
            about = {"size": len(run.reports), "name": "reports"}
            items.append(shapes.artifact(self.base_url, run, expired=False, **about))
        return web.json_response({"total_count": len(items), "artifacts": items})

    async def _cancel(self, request: web.Request) -> web.Response:
        run = self.find(request)
        if run.status == "completed":
            return _problem(409, "Cannot cancel a workflow run that is completed.")
        run.script, run.status, run.conclusion = [], "completed", "cancelled"
        return web.json_response({}, status=202)

    async def _rerun(self, request: web.Request) -> web.Response:
        self.more.again(self.find(request))
        return web.json_response({}, status=201)

    async def _zip(self, request: web.Request) -> web.Response:
        if self.faults.archive_gone:
            return _problem(410, "Artifact has expired")
        run, which = divmod(int(request.match_info["artifact"]), 10)
        of = "reports" if which >= 5 else str(which)
        place = f"{self.store_url}/kept/{run}?of={of}"
        return web.Response(status=302, headers={"Location": place})

    async def _kept(self, request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            self.leaked.append(request.path)
        if self.faults.archive_late > 0:
            self.faults.archive_late -= 1
            return web.Response(status=410)
        run = self.runs[int(request.match_info["run"])]
        of = request.query.get("of", "")
        kept = run.earlier.get(int(of)) if of.isdecimal() else None
        archive = run.reports if of == "reports" else kept.archive if kept else run.archive
        return web.Response(body=archive, content_type="application/zip")

    def find(self, request: web.Request) -> DoubleRun:
        """Return the run that a path names."""
        run = self.runs.get(int(request.match_info["run"]))
        if run is None or run.repo != _repo(request):
            raise web.HTTPNotFound(text='{"message": "Not Found"}', content_type="application/json")
        return run


def _limited(fault: Fault, now: dt.datetime) -> web.Response:
    secondary = "You have exceeded a secondary rate limit."
    match fault:
        case Fault.FORBIDDEN_LIMIT:
            return _problem(403, secondary, {"Retry-After": "7"})
        case Fault.FORBIDDEN_LIMIT_BODY:
            return _problem(403, secondary)
        case Fault.TOO_MANY:
            return _problem(429, secondary, {"Retry-After": "7"})
        case Fault.TOO_MANY_DATE:
            date = email.utils.format_datetime(now + dt.timedelta(seconds=40), usegmt=True)
            return _problem(429, secondary, {"Retry-After": date})
        case Fault.PRIMARY_LIMIT:
            reset = str(int(now.timestamp()) + 90)
            headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
            return _problem(403, "API rate limit exceeded for user ID 1.", headers)
    return _problem(429, "slow down")


def _reset(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextlib.asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[GitHubDouble]:
    """Serve a double in this event loop."""
    double = await GitHubDouble(**settings).start()
    try:
        yield double
    finally:
        await double.stop()


@contextlib.contextmanager
def in_thread(port: int = 0, **settings: Any) -> Iterator[GitHubDouble]:
    """Serve a double in a thread with an event loop of its own."""
    double, loop = GitHubDouble(**settings), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="github-double", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(double.start(port), loop).result(20)
        yield double
    finally:
        asyncio.run_coroutine_threadsafe(double.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


async def _serve(port: int, token: str) -> None:
    double = await GitHubDouble(token=token).start(port)
    print(double.base_url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
