"""The sandbox's forge: GitHub's REST for one repository with one workflow that really builds.

A dispatch makes a run; the run is queued, then works, then is completed, and what it says follows
from what the pipeline did. Artifacts are fetched from a second address that takes no credentials,
as with GitHub. It never calls anything but its registry.
https://docs.github.com/en/rest/actions/workflows?apiVersion=2022-11-28#create-a-workflow-dispatch-event
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from responder.clock import SECOND, World
from responder.errors import ResponderError, StepFailed
from responder.sandbox.effects import Effects
from responder.sandbox.forge_answers import Answers, zipped
from responder.sandbox.forge_deployments import Deployments, head_of
from responder.sandbox.forge_words import Artifact, Job, Run, when
from responder.sandbox.pipeline import Order, rebuild

__all__ = ["Forge", "Input", "Manner", "Workflow"]

_INPUTS_MAX = 25
_MINUTE = 60 * SECOND
_Answer = web.StreamResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One declared input of the workflow."""

    required: bool = False
    default: str = ""


def _inputs() -> dict[str, Input]:
    optional = ("base", "cve", "digest", "incident", "package", "reason", "revision")
    wanted = {"image": Input(required=True), "correlation_id": Input(required=True)}
    return wanted | dict.fromkeys(optional, Input())


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """The workflow file as far as dispatching looks at it."""

    file: str = "rebuild.yml"
    name: str = "rebuild"
    run_name: str = "rebuild {correlation_id}"
    inputs: Mapping[str, Input] = field(default_factory=_inputs)
    branches: Sequence[str] = ("main",)
    source_tag: str = "1.0"  # the image whose own layers stand for the checked-out source
    fix: Mapping[str, bytes] = field(
        default_factory=lambda: {"usr/lib/libshop.so.1": b"libshop 1.0.1, fixed\n"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the forge behaves where real ones differ."""

    workflow: Workflow = field(default_factory=Workflow)
    token: str = ""  # empty: everybody may
    queue: float = 0.02  # seconds before a run begins
    run_details: bool = True  # servers of one's own before 3.20 answer a dispatch with nothing
    appears_after: float = 0.0  # seconds until lists show a new run


class _Refused(ResponderError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Forge:
    """One repository. `app` answers the API, `storage` the downloads."""

    def __init__(
        self,
        world: World,
        *,
        repo: str = "acme/shop",
        manner: Manner | None = None,
        effects: Effects | None = None,
    ) -> None:
        self._world, self.repo = world, repo
        self.manner = manner or Manner()
        self.workflow = self.manner.workflow
        self._effects = effects or Effects()
        self.registry = ""  # host:port, set by whoever serves it
        self.storage_url = ""
        self.session: aiohttp.ClientSession | None = None
        self.runs: dict[int, Run] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._links: dict[str, tuple[int, bytes]] = {}
        self._last = 1000
        self._answers = Answers(repo, self.workflow.file, self.workflow.name, world.clock.now())
        branches = self.workflow.branches
        self._deployments = Deployments(world, repo, self._number, branches, self._effects)
        self.app = web.Application()
        self._routes()
        self.storage = web.Application()
        self.storage.router.add_get("/{key}", self._download)

    async def close(self) -> None:
        """Stop what runs."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _routes(self) -> None:
        flow = "/actions/workflows/{workflow}"
        run = "/actions/runs/{run:[0-9]+}"
        table: list[tuple[str, str, Any]] = [
            ("GET", "", self._repo),
            ("GET", "/actions/workflows", self._workflows),
            ("GET", flow, self._workflow),
            ("POST", f"{flow}/dispatches", self._dispatch),
            ("GET", f"{flow}/runs", self._list),
            ("GET", "/actions/runs", self._list),
            ("GET", run, self._run),
            ("GET", f"{run}/jobs", self._jobs),
            ("GET", f"{run}/artifacts", self._artifacts),
            ("POST", f"{run}/cancel", self._cancel),
            ("POST", f"{run}/rerun", self._rerun),
            ("POST", f"{run}/rerun-failed-jobs", self._rerun),
            ("GET", "/actions/artifacts/{artifact:[0-9]+}/zip", self._zip),
            ("GET", "/actions/jobs/{job:[0-9]+}/logs", self._log),
            *self._deployments.routes(_root),
        ]
        for prefix in ("", "/api/v3"):  # github.com's form, and the one of a server of one's own
            for method, path, handler in table:
                where = f"{prefix}/repos/{{owner}}/{{name}}{path}"
                self.app.router.add_route(method, where, self._guarded(handler))
        self.app.router.add_route("*", "/{path:.*}", self._guarded(self._nothing))

    def _guarded(self, handler: Any) -> Any:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                self._check(request)
                answer: web.StreamResponse = await handler(request)
            except _Refused as refused:
                body = {
                    "message": refused.message,
                    "documentation_url": "https://docs.github.com/rest",
                    "status": str(refused.status),
                }
                answer = web.json_response(body, status=refused.status)
            answer.headers["X-GitHub-Request-Id"] = f"{self._world.rng.getrandbits(64):016X}"
            return answer

        return guarded

    def _check(self, request: web.Request) -> None:
        if self.manner.token:
            secret = request.headers.get("Authorization", "").partition(" ")[2]
            if not hmac.compare_digest(secret.encode(), self.manner.token.encode()):
                raise _Refused(401, "Bad credentials")
        info = request.match_info
        if "owner" in info and f"{info['owner']}/{info['name']}" != self.repo:
            raise _Refused(404, "Not Found")
        if info.get("workflow", self.workflow.file) not in {self.workflow.file, "1"}:
            raise _Refused(404, "Not Found")

    async def _nothing(self, _: web.Request) -> _Answer:
        raise _Refused(404, "Not Found")

    async def _repo(self, request: web.Request) -> _Answer:
        return web.json_response(self._answers.repo(_root(request)))

    async def _workflow(self, request: web.Request) -> _Answer:
        return web.json_response(self._answers.workflow(_root(request)))

    async def _workflows(self, request: web.Request) -> _Answer:
        found = [self._answers.workflow(_root(request))]
        return web.json_response({"total_count": 1, "workflows": found})

    async def _dispatch(self, request: web.Request) -> _Answer:
        try:
            body = await request.json()
        except ValueError as error:
            raise _Refused(400, "Problems parsing JSON") from error
        if not isinstance(body, dict) or not isinstance(body.get("ref"), str):
            raise _Refused(422, 'Invalid request.\n\n"ref" wasn\'t supplied.')
        branch = body["ref"].removeprefix("refs/heads/")
        if branch not in self.workflow.branches:
            raise _Refused(422, f"No ref found for: {body['ref']}")
        run = self._begin(branch, self._inputs(body.get("inputs") or {}))
        if not (self.manner.run_details and body.get("return_run_details")):
            return web.Response(status=204)
        return web.json_response(self._answers.dispatched(_root(request), run))

    def _inputs(self, given: dict[str, Any]) -> dict[str, str]:
        declared = self.workflow.inputs
        if len(given) > _INPUTS_MAX:
            raise _Refused(
                422, f"Invalid request. No more than {_INPUTS_MAX} properties are allowed"
            )
        unknown = sorted(set(given) - set(declared))
        if unknown:
            raise _Refused(422, f"Unexpected inputs provided: {json.dumps(unknown)}")
        for name, rule in declared.items():
            if rule.required and not given.get(name):
                raise _Refused(422, f"Required input '{name}' not provided")
        return {name: str(given.get(name, rule.default)) for name, rule in declared.items()}

    def _begin(self, branch: str, inputs: dict[str, str]) -> Run:
        now = self._world.clock.now()
        number = len(self.runs) + 1
        run = Run(
            id=self._number(),
            number=number,
            title=self.workflow.run_name.format_map(inputs),
            branch=branch,
            sha=head_of(self.repo, branch),
            inputs=inputs,
            created=now,
            updated=now,
            visible=now + int(self.manner.appears_after * SECOND),
        )
        self.runs[run.id] = run
        self._effects.count("dispatches", inputs["correlation_id"])
        self._start(run)
        return run

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _start(self, run: Run) -> None:
        now = self._world.clock.now()
        job = Job(id=self._number(), name="build", attempt=run.attempt, created=now)
        run.jobs.append(job)
        run.status, run.conclusion, run.updated = "queued", None, now
        task = asyncio.get_running_loop().create_task(self._work(run, job))
        self._tasks[run.id] = task

    async def _work(self, run: Run, job: Job) -> None:
        outcome = "cancelled"
        try:
            await self._world.clock.sleep(self.manner.queue)
            run.status = job.status = "in_progress"
            run.updated = job.started = self._world.clock.now()
            outcome = await self._build(run, job)
        except aiohttp.ClientError as error:
            job.log.append(f"registry not reached: {type(error).__name__}")
            outcome = "failure"
        finally:
            now = self._world.clock.now()
            job.status = run.status = "completed"
            job.conclusion = run.conclusion = outcome
            job.started = job.started or now
            job.completed = run.updated = now

    async def _build(self, run: Run, job: Job) -> str:
        if self.session is None:
            raise StepFailed("the forge has no session, expected one before its first run")
        inputs, now = run.inputs, self._world.clock.now()
        revision = inputs.get("revision") or run.sha
        order = Order(
            registry=self.registry,
            image=inputs["image"],
            source_tag=self.workflow.source_tag,
            tag=inputs["correlation_id"],
            revision=revision,
            source=f"https://github.invalid/{self.repo}",
            created=when(now),
            base=inputs.get("base", ""),
            fix=self.workflow.fix,
        )
        try:
            image, digest, log = await rebuild(self.session, order)
        except StepFailed as failed:
            job.log.append(str(failed))
            return "failure"
        job.log.extend(log)
        note = {
            "image": image,
            "digest": digest,
            "revision": revision,
            "correlation_id": inputs["correlation_id"],
            "tag": order.tag,
        }
        data = zipped({"build.json": json.dumps(note, indent=1).encode()})
        number = "sha256:" + hashlib.sha256(data).hexdigest()
        made = self._world.clock.now()
        run.artifacts.append(
            Artifact(id=self._number(), name="build", data=data, created=made, digest=number)
        )
        return "success"

    async def _list(self, request: web.Request) -> _Answer:
        now = self._world.clock.now()
        runs = [run for run in reversed(self.runs.values()) if run.visible <= now]
        return web.json_response(self._answers.runs(_root(request), runs, request.query))

    async def _run(self, request: web.Request) -> _Answer:
        return web.json_response(self._answers.run(_root(request), self._found(request)))

    async def _jobs(self, request: web.Request) -> _Answer:
        run = self._found(request)
        return web.json_response(self._answers.jobs(_root(request), run, request.query))

    async def _artifacts(self, request: web.Request) -> _Answer:
        run = self._found(request)
        return web.json_response(self._answers.artifacts(_root(request), run, request.query))

    def _found(self, request: web.Request) -> Run:
        run = self.runs.get(int(request.match_info["run"]))
        if run is None:
            raise _Refused(404, "Not Found")
        return run

    async def _cancel(self, request: web.Request) -> _Answer:
        run = self._found(request)
        if run.status == "completed":
            raise _Refused(409, "Cannot cancel a workflow run that is completed.")
        self._effects.count("cancels", str(run.id))
        self._tasks[run.id].cancel()
        return web.json_response({}, status=202)

    async def _rerun(self, request: web.Request) -> _Answer:
        run = self._found(request)
        if run.status != "completed":
            raise _Refused(403, "The workflow run is still in progress")
        run.attempt += 1
        self._effects.count("reruns", str(run.id))
        self._start(run)
        return web.json_response({}, status=201)

    async def _zip(self, request: web.Request) -> _Answer:
        wanted = int(request.match_info["artifact"])
        for run in self.runs.values():
            for artifact in run.artifacts:
                if artifact.id == wanted:
                    return self._redirect(artifact.data)
        raise _Refused(404, "Not Found")

    async def _log(self, request: web.Request) -> _Answer:
        wanted = int(request.match_info["job"])
        for run in self.runs.values():
            for job in run.jobs:
                if job.id == wanted:
                    return self._redirect("".join(f"{line}\n" for line in job.log).encode())
        raise _Refused(404, "Not Found")

    def _redirect(self, data: bytes) -> web.Response:
        key = self._world.ids.secret()
        self._links[key] = (self._world.clock.now() + _MINUTE, data)
        return web.Response(status=302, headers={"Location": f"{self.storage_url}/{key}"})

    async def _download(self, request: web.Request) -> web.Response:
        """Give the bytes once the link is known; credentials of the API have no place here."""
        until, data = self._links.get(request.match_info["key"], (0, b""))
        if until < self._world.clock.now():
            return web.Response(status=403, text="AuthenticationFailed")
        if "Authorization" in request.headers:
            return web.Response(status=400, text="InvalidAuthenticationInfo")
        return web.Response(body=data, content_type="application/zip")


def _root(request: web.Request) -> str:
    """The address this API was called by, so that its links lead back to it."""
    prefix = "/api/v3" if request.path.startswith("/api/v3/") else ""
    return f"http://{request.host}{prefix}"
