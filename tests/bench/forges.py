"""GitHub, GitLab and a registry for the bench, in one process: slow, rate-limited, and counting.

    python -m tests.bench.forges PORT_FILE

Every answer takes a second. GitHub counts points by the minute, a write five and a read one; GitLab
takes so many new pipelines a minute
(https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api,
https://docs.gitlab.com/administration/settings/rate_limit_on_pipelines_creation). Past a limit
they answer 429 and `Retry-After`; a call that comes all the same before that time is counted: it
is what a client must never do. A build takes `build` seconds and ends with a webhook.

`GET /told` on the control port says what was counted; `POST /settings` sets webhooks and pace.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.doubles import executors, gitlab, hooks, lab_executors
from tests.doubles.github import GitHubDouble
from tests.doubles.gitlab import GitLabDouble
from tests.doubles.lab_shapes import DoublePipeline
from tests.doubles.registry import RegistryDouble, running_registry
from tests.doubles.shapes import DoubleRun

__all__ = ["Limit", "Pace", "main"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_WRITE_POINTS = 5
_LOOKS = {"run", "list", "jobs", "pipeline", "bridges"}  # what a client asks while it waits
_GRACE = 0.05  # seconds that an answer may be on its way to the client


@dataclass
class Pace:
    """How fast things are outside; set from the control port."""

    answer: float = 1.0
    build: float = 40.0
    window: float = 60.0
    points: int = 900  # of GitHub
    pipelines: int = 25  # of GitLab


@dataclass
class Limit:
    """One sliding window of points, and who came while it was closed."""

    most: str  # which of the pace's
    pace: Pace
    used: deque[tuple[float, int]] = field(default_factory=deque)
    closed: float = 0.0  # until then nobody may come
    told: float = 0.0  # when that was said: what was on its way before is no offence
    refused: int = 0
    offences: int = 0

    def take(self, points: int) -> float:
        """Seconds to wait, 0 when the call may act."""
        now = time.monotonic()
        if self.told and self.told + _GRACE < now < self.closed:
            self.offences += 1
        while self.used and self.used[0][0] <= now - self.pace.window:
            self.used.popleft()
        most = getattr(self.pace, self.most)
        if now >= self.closed and sum(one for _, one in self.used) + points <= most:
            self.used.append((now, points))
            return 0.0
        if now >= self.closed:
            self.closed, self.told = self.used[0][0] + self.pace.window, 0.0
        self.refused += 1
        return self.closed - now

    def said(self) -> None:
        """The refusal is on its way: from now on the client knows."""
        self.told = self.told or time.monotonic()


@dataclass
class Watch:
    """What every call of one forge goes through."""

    limit: Limit
    pace: Pace
    points: Callable[[str], int]
    refusal: dict[str, Any]  # what it says past its limit
    asked: Counter[str] = field(default_factory=Counter)
    looks: dict[str, list[float]] = field(default_factory=dict)  # by run, when it was looked at
    listed: list[float] = field(default_factory=list)
    now: int = 0
    most: int = 0  # calls at once

    async def through(self, name: str, request: web.Request, act: Handler) -> web.StreamResponse:
        """Count it, wait, and let it act unless a limit is reached."""
        self.asked[name] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            wait = self.limit.take(points) if (points := self.points(name)) else 0.0
            if name in _LOOKS:
                run = request.match_info.get("run") or request.match_info.get("pipeline")
                self.looks.setdefault(run, []).append(time.monotonic()) if run else (
                    self.listed.append(time.monotonic())
                )
            await asyncio.sleep(self.pace.answer)
            if not wait:
                return await act(request)
            self.limit.said()
            after = {"Retry-After": str(int(wait) + 1)}
            return web.json_response(self.refusal, status=429, headers=after)
        finally:
            self.now -= 1

    def report(self, built: dict[str, tuple[float, float]]) -> dict[str, Any]:
        """What the bench asks for. `built` is each run's begin and end."""
        waiting, looks, worst = 0.0, 0, 0.0
        for run, (begun, ended) in built.items():
            during = sum(begun <= at < ended for at in self.looks.get(run, ()))
            waiting, looks = waiting + ended - begun, looks + during
            worst = max(worst, during * 15 / (ended - begun))
        looks += len(self.listed)
        return {
            "asked": dict(self.asked),
            "at_once": self.most,
            "refused": self.limit.refused,
            "offences": self.limit.offences,
            "ended": len(built),
            "waiting": waiting,
            "looks": looks,
            "worst": worst,
        }


@dataclass
class Hub(GitHubDouble):
    """GitHub as it answers in a bad hour."""

    watch: Watch | None = None

    async def _with_fault(
        self, name: str, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        assert self.watch
        return await self.watch.through(name, request, handler)


@dataclass
class Lab(GitLabDouble):
    """GitLab as it answers in a bad hour."""

    watch: Watch | None = None

    async def _with_fault(
        self, name: str, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        assert self.watch
        return await self.watch.through(name, request, handler)


@dataclass
class Builder:
    """Builds for a while, pushes what it built, and hands its name over."""

    registry: RegistryDouble
    pace: Pace
    built: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def _work(self, number: int) -> str:
        begun = time.monotonic()
        await asyncio.sleep(self.pace.build)
        self.built[str(number)] = (begun, time.monotonic())
        return self.registry.put_image(f"built-{number}", {"run": str(number)})


@dataclass
class HubBuilder(Builder):
    """An executor of the GitHub double."""

    async def execute(self, run: DoubleRun) -> None:
        """From queued to completed."""
        run.status = "in_progress"
        digest = await self._work(run.id)
        run.archive = executors.zipped({"build.json": executors.build_json(run, digest=digest)})
        run.status, run.conclusion = "completed", "success"


@dataclass
class LabBuilder(Builder):
    """An executor of the GitLab double."""

    async def execute(self, one: DoublePipeline) -> None:
        """From created to success."""
        one.status = "running"
        digest = await self._work(one.id)
        one.files = {"build.json": lab_executors.build_json(one, digest=digest)}
        one.status = "success"


async def _serve(port_file: Path) -> None:
    pace = Pace()
    hub_watch = Watch(Limit("points", pace), pace, _hub_points, _HUB_SAYS)
    lab_watch = Watch(Limit("pipelines", pace), pace, _lab_points, _LAB_SAYS)
    async with running_registry() as registry:
        builders = HubBuilder(registry, pace), LabBuilder(registry, pace)
        hub = Hub(executor=builders[0], watch=hub_watch)
        lab = Lab(executor=builders[1], watch=lab_watch)
        await hub.start()
        await lab.start()

        async def told(_: web.Request) -> web.Response:
            return web.json_response(
                {
                    "github": hub_watch.report(builders[0].built) | _facts(hub),
                    "gitlab": lab_watch.report(builders[1].built) | _facts(lab),
                }
            )

        async def settings(request: web.Request) -> web.Response:
            given = await request.json()
            for key in given.keys() & vars(pace).keys():
                setattr(pace, key, given[key])
            if url := given.get("hooks", ""):
                hub.hook = hooks.Hook(f"{url}/v1/hooks/github", given["secret"])
                lab.hook = gitlab.Hook(f"{url}/v1/hooks/gitlab", given["secret"])
            return web.json_response(
                {
                    "github": hub.base_url,
                    "gitlab": lab.base_url,
                    "registry": registry.host,
                    "token": hub.token,
                }
            )

        async def ready(_: web.Request) -> web.Response:
            return web.Response()

        app = web.Application()
        app.add_routes([web.get("/told", told), web.post("/settings", settings)])
        app.add_routes([web.get("/readyz", ready)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        part = port_file.with_suffix(".part")
        part.write_text(f"http://127.0.0.1:{runner.addresses[0][1]}")
        part.replace(port_file)
        await asyncio.Event().wait()


_HUB_SAYS = {"message": "You have exceeded a secondary rate limit."}
_LAB_SAYS = {
    "message": {"error": "This endpoint has been requested too many times. Try again later."}
}


def _lab_points(name: str) -> int:
    return int(name == "create")


def _hub_points(name: str) -> int:
    return _WRITE_POINTS if name in {"dispatch", "cancel", "rerun"} else 1


def _facts(double: GitHubDouble | GitLabDouble) -> dict[str, Any]:
    return {
        "dispatched": double.dispatches.total(),
        "twice": sum(count > 1 for count in double.dispatches.values()),
        "hooks": len(double.hook.answers) if double.hook else 0,
        "wrong": double.wrong_requests + double.wrong_answers,
    }


def main() -> None:
    """Serve until killed."""
    asyncio.run(_serve(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
