"""What the engine does with one step of `pipeline.run`, on a clock that leaps instead of waiting.

Retry after `StepRetry` in the phase that raised it, begin again where a look says so, look at once
when a webhook is heard, ask a person after `Uncertain`. Counted: looks, and requests while braked.
"""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from integrations._forge import correlation_id
from integrations.github.webhook import GitHubHints
from integrations.gitlab.webhook import GitLabHints
from responder.clock import World
from responder.errors import Conflict, StepFailed, StepRetry, Uncertain
from responder.model import Secret
from responder.ports import Done, HookInfo, ImageRoute, Pending
from tests.adapters.github.world import KEY, a_call
from tests.adapters.github.world import bench as github_bench
from tests.adapters.gitlab.world import bench as gitlab_bench
from tests.doubles import lab_shapes, shapes

__all__ = ["FORGES", "Delivery", "Walk", "bench", "deliveries"]

FORGES = ("github", "event", "gitlab")
SPEED = {"timeout": 1, "poll": 1, "settle": 0.6}
SECRET = "whsec"
NAME = f"rebuild {correlation_id(KEY, 1)}"  # of the first attempt's run
EVENT = ImageRoute(
    match="registry.example/shop/*",
    forge="github",
    repo="acme/shop",
    workflow="rebuild.yml",
    event="rebuild-image",
)
HOOKS: Mapping[str, Any] = {
    "github": {
        "hmac": {
            "header": "X-Hub-Signature-256",
            "prefix": "sha256=",
            "secret": Secret(SECRET),
        }
    },
    "gitlab": {"header": {"name": "X-Gitlab-Token", "value": Secret(SECRET)}},
}
Delivery = tuple[dict[str, str], bytes]


@asynccontextmanager
async def bench(forge: str, **settings: Any) -> AsyncIterator[Any]:
    """The bench of one forge, quick enough for a table; `event` is GitHub's second way to start."""
    made: Any = gitlab_bench if forge == "gitlab" else github_bench
    more = {"route": EVENT} if forge == "event" else {}
    async with made(settings={**SPEED, **settings}, **more) as b:
        yield b


def kind_of(b: Any) -> str:
    """Which kind of forge a bench has."""
    return "gitlab" if hasattr(b.double, "pipelines") else "github"


@dataclass
class Walk:
    """One step on its way; `post` are the deliveries that arrive while it waits, in their order."""

    b: Any
    post: list[Delivery] = field(default_factory=list)
    looks: int = 0
    heard: int = 0  # deliveries that woke it
    persons: int = 0  # looks after which a person was waited for
    said: list[str] = field(default_factory=list)  # what the incident shows while it waits

    def __post_init__(self) -> None:
        """Open the door for webhooks."""
        kind = kind_of(self.b)
        world = World(clock=self.b.double.clock)
        self._source: Any = GitHubHints(world) if kind == "github" else GitLabHints(world)
        self._hook = HookInfo(name=kind, source=kind, auth=HOOKS[kind])

    async def end(self, most: int = 40) -> Done | Exception:
        """The end of the step: done, or what a person is told."""
        phase, attempt, plan, state, started = "plan", 1, None, {}, 0
        last: Exception = AssertionError("nothing happened")
        for _ in range(most):
            call = a_call(attempt=attempt, resumed=attempt > 1, started=started)
            try:
                if phase == "plan":
                    plan, phase = await self.b.action.plan(call), "apply"
                    continue
                if phase == "apply":
                    started = started or self.b.double.clock.now()
                    now = await self.b.action.apply(call, plan)
                else:
                    self.looks += 1
                    now = await self.b.action.poll(call, state)
                if isinstance(now, Done):
                    return now
                phase, state = "poll", now.state
                await self._wait(now)
            except StepRetry as error:
                last = error
                self.b.double.clock.leap(error.after)
                if phase == "apply" or error.anew:
                    phase, attempt = "apply", attempt + 1
            except (StepFailed, Uncertain, Conflict) as error:
                return error
        return last

    async def _wait(self, now: Pending) -> None:
        """Until a delivery speaks of what is waited for, else the whole pause."""
        assert now.waiting_for
        self.said.append(now.waiting_for)
        self.persons += now.person
        while self.post:
            headers, body = self.post.pop(0)
            if now.correlation in await self.hear(headers, body):
                self.heard += 1
                return
        self.b.double.clock.leap(now.after)

    async def hear(self, headers: dict[str, str], body: bytes) -> list[str]:
        """What the door does with a delivery: prove it, pass its hints on, remember it."""
        self._source.verify(headers, body, self._hook)
        found: list[str] = self._source.hints(headers, body, self._hook)
        if follow := getattr(self._source, "follow", None):
            await follow(headers, body, self._hook)
        return found


def deliveries(b: Any, *words: str) -> list[Delivery]:
    """The forge's webhooks about the first run that the step starts, one for each word."""
    return [_gitlab(b, word) if kind_of(b) == "gitlab" else _github(b, word) for word in words]


def _github(b: Any, action: str) -> Delivery:
    run: Any = shapes.DoubleRun(
        4711, "acme/shop", "rebuild.yml", "main", NAME, {}, b.double.clock.date()
    )
    told = shapes.run(b.double.base_url, run)
    value = {"action": action, "workflow_run": told, "repository": told["repository"]}
    body = json.dumps(value).encode()
    mark = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "x-github-event": "workflow_run",
        "x-github-delivery": f"4711-1-{action}",
        "x-hub-signature-256": f"sha256={mark}",
    }, body


def _gitlab(b: Any, status: str) -> Delivery:
    one: Any = lab_shapes.DoublePipeline(
        id=31, project="acme/shop", ref="main", name=NAME, inputs={}, created=b.double.clock.date()
    )
    one.status = status
    body = json.dumps(lab_shapes.hook_event(b.double.base_url, one)).encode()
    return {"x-gitlab-token": SECRET}, body
