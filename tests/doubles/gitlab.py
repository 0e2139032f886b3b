"""GitLab's pipelines API on loopback: start, list, look, bridges, jobs, artifacts; with faults.

Every request is held against GitLab's own description (400 when it is wrong), and every answer of
the double against it and against the schemas of GitLab's own tests (``wrong_answers``, which tests
assert to be empty). What runs behind it is an executor: a stand-in, or the pipeline file for real.
With ``object_store`` artifacts lie on a second port, as on another host.
"""

import asyncio
import contextlib
import datetime as dt
import email.utils
import io
import json
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.doubles import lab_shapes as shapes
from tests.doubles.contract import Answered, Asked
from tests.doubles.faults import ACTING, LIMITS, Fault, Faults
from tests.doubles.lab_contract import answer_fault, request_fault
from tests.doubles.lab_executors import Executor, Straight
from tests.doubles.lab_requests import Repository
from tests.doubles.lab_shapes import DoublePipeline
from tests.doubles.leaping import Leaping

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SLOW = 30.0  # longer than any time-out of a test
TOKEN = "token-of-the-double"
TRIGGER_TOKEN = "trigger-of-the-double"
HOST = "http://gitlab.example"


@dataclass
class Hook:
    """Where the double sends `Pipeline Hook` to. ``times`` 0 loses every delivery."""

    url: str
    secret: str
    times: int = 1
    answers: list[int] = field(default_factory=list)


@dataclass
class GitLabDouble:
    """One forge. ``base_url`` and ``token`` are what a client needs."""

    executor: Executor = field(default_factory=Straight)
    token: str = TOKEN
    prefix: str = ""  # "/gitlab" as on a server under a path
    hook: Hook | None = None
    refs: tuple[str, ...] = ("main",)
    required: tuple[str, ...] = ("image", "correlation_id")
    faults: Faults = field(default_factory=Faults)
    clock: Leaping = field(default_factory=Leaping)
    repository: Repository = field(default_factory=Repository)
    refuses: str = ""  # said with 400 to every start
    shows_names: bool = True  # False: the project has no workflow:name
    object_store: bool = False
    pipelines: dict[int, DoublePipeline] = field(default_factory=dict)
    dispatches: Counter[str] = field(default_factory=Counter)  # acted, by correlation id
    asked: Counter[str] = field(default_factory=Counter)  # requests, by operation
    wrong_requests: list[str] = field(default_factory=list)
    wrong_answers: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)  # credentials seen by the artifact host
    parts: tuple[Any, ...] = ()  # more operations: each has `routes(double, router, base)`
    base_url: str = ""
    store_url: str = ""
    _runners: list[web.AppRunner] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def runs(self) -> list[DoublePipeline]:
        """The pipelines that were started from outside."""
        return [one for one in self.pipelines.values() if one.source in {"api", "trigger"}]

    # -------------------------------------------------------------- life

    async def start(self, port: int = 0) -> "GitLabDouble":
        """Listen on two ports of 127.0.0.1."""
        api = web.Application(middlewares=[self._guard])
        top = f"{self.prefix}/api/v4"
        base = f"{top}/projects/{{project}}"
        api.router.add_get(f"{top}/version", self._version, name="version")
        api.router.add_get(f"{base}/repository/commits/{{ref}}", self._commit, name="commit")
        api.router.add_post(f"{base}/pipeline", self._create, name="create")
        api.router.add_post(f"{base}/trigger/pipeline", self._trigger, name="trigger")
        api.router.add_get(f"{base}/pipelines", self._list, name="list")
        one = f"{base}/pipelines/{{pipeline}}"
        api.router.add_get(one, self._pipeline, name="pipeline")
        api.router.add_get(f"{one}/jobs", self._jobs, name="jobs")
        api.router.add_get(f"{one}/bridges", self._bridges, name="bridges")
        api.router.add_post(f"{one}/cancel", self._cancel, name="cancel")
        job = f"{base}/jobs/{{job}}/artifacts"
        api.router.add_get(job, self._archive, name="archive")
        api.router.add_get(f"{job}/{{path:.+}}", self._file, name="file")
        self.repository.routes(api.router, base)
        for part in self.parts:
            part.routes(self, api.router, base)
        store = web.Application()
        store.router.add_get("/kept/{job}/{path}", self._kept)
        self.base_url = await self._listen(api, port) + self.prefix
        self.store_url = await self._listen(store, 0)
        return self

    async def stop(self) -> None:
        """End running pipelines and close both ports."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for runner in self._runners:
            await runner.cleanup()

    async def _listen(self, app: web.Application, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self._runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    # -------------------------------------------------------------- every request

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.match_info.route.name or "other"
        self.asked[name] += 1
        shown = request.headers.get("PRIVATE-TOKEN", "")
        if shown != self.token and name != "trigger":
            return _problem(401, "401 Unauthorized")
        asked = await self._asked(request)
        if name != "other" and (fault := request_fault(asked)):
            self.wrong_requests.append(f"{request.method} {request.path}: {fault}")
            return _problem(400, "is invalid")
        answer = await self._with_fault(name, request, handler)
        if name not in {"other", "file", "archive"} and answer.status < 300:
            data = answer.body if isinstance(answer, web.Response) else None
            seen = Answered(
                answer.status, data if isinstance(data, bytes) else b"", dict(answer.headers)
            )
            if fault := answer_fault(name, asked, seen):
                self.wrong_answers.append(f"{asked.method} {asked.path}: {fault}")
        return answer

    async def _asked(self, request: web.Request) -> Asked:
        """The request as the description writes it: one path segment a parameter."""
        path = request.rel_url.raw_path.removeprefix(self.prefix)
        kept, mark, rest = path.partition("/artifacts/")
        path = kept + mark + rest.replace("/", "%2F")
        body = await request.read()
        query = list(request.query.items())
        return Asked(request.method, path, query, request.headers, body or None, HOST)

    async def _with_fault(
        self, name: str, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        fault = self.faults.take(name)
        if fault is None:
            return await handler(request)
        if fault in LIMITS:
            return _limited(fault, self.clock.date())
        if fault in ACTING:
            await handler(request)
        if fault in {Fault.SLOW_AFTER, Fault.SLOW_BEFORE}:
            await asyncio.sleep(SLOW)
        if fault in {Fault.RESET_AFTER, Fault.RESET_BEFORE} and request.transport is not None:
            request.transport.abort()
        return _problem(502 if fault is Fault.ERROR_AFTER else 503, "unavailable")

    # -------------------------------------------------------------- operations

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "18.5.0", "revision": "abc"})

    async def _commit(self, request: web.Request) -> web.Response:
        _project(request)
        if request.match_info["ref"] not in self.refs:
            return _problem(404, "404 Commit Not Found")
        return web.json_response({"id": shapes.SHA, "short_id": shapes.SHA[:8], "title": "x"})

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        given = asked.get("variables", [])
        named = {one["key"].lower(): one["value"] for one in given}
        return self._begun(request, asked["ref"], asked.get("inputs") or named, "api")

    async def _trigger(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["token"] != TRIGGER_TOKEN:  # a personal token is unknown here
            return _problem(404, "404 Not Found")
        named = {key.lower(): value for key, value in (asked.get("variables") or {}).items()}
        return self._begun(request, asked["ref"], asked.get("inputs") or named, "trigger")

    def _begun(
        self, request: web.Request, ref: str, inputs: dict[str, str], source: str
    ) -> web.Response:
        if ref not in self.refs:
            return _problem(400, {"base": ["Reference not found"]})
        if self.refuses:
            return _problem(400, {"base": [self.refuses]})
        for name in self.required:
            if not inputs.get(name):
                said = f"`{name}` input: required value has not been provided"
                return _problem(400, {"base": [said]})
        one = self.new(_project(request), ref, inputs, source)
        return web.json_response(shapes.pipeline(self.base_url, one), status=201)

    def new(self, project: str, ref: str, inputs: dict[str, str], source: str) -> DoublePipeline:
        """Make a pipeline and let it run."""
        correlation = inputs.get("correlation_id", "")
        if source in {"api", "trigger"}:
            self.dispatches[correlation] += 1
        one = DoublePipeline(
            id=31 + len(self.pipelines),
            project=project,
            ref=ref,
            name=f"rebuild {correlation}" if self.shows_names else "",
            inputs=inputs,
            created=self.clock.date(),
            source=source,
            hidden_looks=self.faults.hide_runs_for,
        )
        self.pipelines[one.id] = one
        task = asyncio.get_running_loop().create_task(self._to_end(one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return one

    async def _to_end(self, one: DoublePipeline) -> None:
        await self.executor.execute(one)
        if self.hook is None:
            return
        body = json.dumps(shapes.hook_event(self.base_url, one)).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Gitlab-Event": "Pipeline Hook",
            "X-Gitlab-Token": self.hook.secret,
            "Idempotency-Key": f"{one.id}-{one.status}",
        }
        async with aiohttp.ClientSession() as session:
            for _ in range(self.hook.times):
                async with session.post(self.hook.url, data=body, headers=headers) as answer:
                    self.hook.answers.append(answer.status)

    async def _list(self, request: web.Request) -> web.Response:
        shown = []
        since = request.query.get("updated_after", "")
        for one in sorted(self.pipelines.values(), key=lambda it: -it.id):
            if one.project != _project(request) or one.source != request.query.get("source"):
                continue
            if one.hidden_looks > 0:
                one.hidden_looks -= 1
            elif shapes.stamp(one.created) >= since:
                names = self.shows_names
                shown.append(shapes.pipeline(self.base_url, one, shows_name=names))
        size, page = int(request.query.get("per_page", 20)), int(request.query.get("page", 1))
        return web.json_response(shown[(page - 1) * size : page * size])

    async def _pipeline(self, request: web.Request) -> web.Response:
        one = self._find(request)
        if one.script:
            one.status = one.script.pop(0)
        return web.json_response(shapes.pipeline(self.base_url, one))

    async def _jobs(self, request: web.Request) -> web.Response:
        one = self._find(request)
        jobs = [
            shapes.job(self.base_url, one, one.id * 100 + at, name)
            for at, name in enumerate(one.job_names)
        ]
        return web.json_response(jobs)

    async def _bridges(self, request: web.Request) -> web.Response:
        one = self._find(request)
        for _, below, _ in one.started:
            if below is not None and below.script:
                below.status = below.script.pop(0)
        found = [shapes.bridge(self.base_url, one, at) for at in range(len(one.started))]
        return web.json_response(found)

    async def _cancel(self, request: web.Request) -> web.Response:
        one = self._find(request)
        one.script, one.status = [], "canceled"
        return web.json_response(shapes.pipeline(self.base_url, one), status=201)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        job, path = request.match_info["job"], request.match_info["path"]
        return self._handed(job, path)

    async def _archive(self, request: web.Request) -> web.StreamResponse:
        return self._handed(request.match_info["job"], "")

    def _handed(self, job: str, path: str) -> web.Response:
        if self.faults.archive_gone:
            return _problem(404, "404 Not Found")
        if self.object_store:
            place = f"{self.store_url}/kept/{job}/{path or '-'}"
            return web.Response(status=302, headers={"Location": place})
        data = self._bytes(job, path)
        if data is None:
            return _problem(404, "404 Not Found")
        return web.Response(body=data, content_type="application/octet-stream")

    async def _kept(self, request: web.Request) -> web.Response:
        if {"PRIVATE-TOKEN", "Authorization"} & set(request.headers):
            self.leaked.append(request.path)
        if self.faults.archive_late > 0:
            self.faults.archive_late -= 1
            return web.Response(status=410)
        path = request.match_info["path"]
        data = self._bytes(request.match_info["job"], "" if path == "-" else path)
        return web.Response(body=data, status=200 if data is not None else 404)

    def _bytes(self, job: str, path: str) -> bytes | None:
        files = self.pipelines[int(job) // 100].files
        if files is None or path:
            return (files or {}).get(path)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return buffer.getvalue()

    def _find(self, request: web.Request) -> DoublePipeline:
        one = self.pipelines.get(int(request.match_info["pipeline"]))
        if one is None or one.project != _project(request):
            raise web.HTTPNotFound(
                text='{"message": "404 Not found"}', content_type="application/json"
            )
        return one


def _project(request: web.Request) -> str:
    asked = request.match_info["project"]
    for path, number in shapes.PROJECTS.items():
        if asked in {path, str(number)}:
            return path
    raise web.HTTPNotFound(
        text='{"message": "404 Project Not Found"}', content_type="application/json"
    )


def _problem(
    status: int, message: object, headers: Mapping[str, str] | None = None
) -> web.Response:
    body = json.dumps({"message": message})
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)


def _limited(fault: Fault, now: dt.datetime) -> web.Response:
    said = "This endpoint has been requested too many times. Try again later."
    headers: dict[Fault, dict[str, Any]] = {
        Fault.FORBIDDEN_LIMIT: {"Retry-After": "7"},
        Fault.TOO_MANY: {"Retry-After": "7"},
        Fault.TOO_MANY_DATE: {
            "Retry-After": email.utils.format_datetime(now + dt.timedelta(seconds=40), usegmt=True)
        },
        Fault.PRIMARY_LIMIT: {
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(int(now.timestamp()) + 90),
        },
    }
    forbidden = fault in {Fault.FORBIDDEN_LIMIT, Fault.FORBIDDEN_LIMIT_BODY}
    return _problem(403 if forbidden else 429, {"error": said}, headers.get(fault))


@contextlib.asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[GitLabDouble]:
    """Serve a double in this event loop."""
    double = await GitLabDouble(**settings).start()
    try:
        yield double
    finally:
        await double.stop()
