"""`deployment.record`: the forge shows what was rolled out here, once for every run and digest.

It only tells: nothing is deployed by it. One run that rolls a digest out into an environment has
one deployment on the forge, whichever steps speak of it and whatever answer was lost; a step says
`running`, `success` or `failure` of it, and each of these is said once.

What a forge must find again differs, so `Deployments` is what a forge implements: GitHub keeps our
mark in the deployment's payload; GitLab keeps nothing of ours, so there the newest one made from
outside, of this commit and after the plan, is the one.

It never merges (`auto_merge` is off), never demands checks that nobody asked for, and never calls
a rollout done that the playbook did not say so of. The image map alone chooses the project.
"""

# ruff: noqa: ARG002 - the ports give these methods their parameters

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

from integrations._forge import correlation_base
from integrations._images import ImageName, parse_image
from responder.clock import SECOND, World
from responder.errors import Conflict, NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, ImageRoute, Param, Pending, Permission

__all__ = ["STATES", "DeploymentRecord", "Deployments", "Found", "Wanted"]

STATES = ("running", "success", "failure")
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
# GitLab's rule for names of environments, the stricter of the two:
# https://docs.gitlab.com/ci/yaml/#environmentname
_ENVIRONMENT = re.compile(r"[A-Za-z0-9_.{}$ /-]{1,255}", re.ASCII)
_ONLY_TOLD = "the forge is told what was rolled out; it checks nothing and deploys nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The deployment that a run speaks of, as a forge is told it."""

    environment: str
    commit: str
    ref: str
    image: str
    digest: str
    mark: str  # the same for every step of the run
    words: str  # for a person, on the forge's page
    contexts: tuple[str, ...] = ()  # checks that must have passed; GitHub only
    after: int = 0  # the newest deployment that was there when it was planned

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "contexts": list(self.contexts)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One deployment as the forge has it; `said` are those of our states it has been in."""

    id: int
    commit: str
    url: str
    now: str  # the forge's own word for its state now
    said: frozenset[str]


class Deployments(Protocol):
    """One forge as `deployment.record` sees it. Only `create` and `say` change anything."""

    kind: str  # "GitHub deployment"
    settle: float  # seconds that a new one may take to show up in lists
    residual: tuple[str, ...]  # what a plan must say about this forge

    async def commit(self, route: ImageRoute, asked: str, run: int) -> str:
        """The commit: the one asked for, else the run's, else the route's newest.

        Raises `StepFailed` when the forge shows none.
        """
        ...

    async def newest(self, repo: str, environment: str) -> int:
        """What `Wanted.after` is to be: the newest deployment of an environment, 0 without one."""
        ...

    async def open(self, repo: str, wanted: Wanted) -> Found | None:
        """The deployment that an earlier step of this run has made, if it has."""
        ...

    async def look(self, repo: str, number: int) -> Found:
        """One deployment as it is now; raises `NotFound`."""
        ...

    async def lost(self, repo: str, wanted: Wanted) -> Found | None:
        """The deployment that a request of ours whose answer was lost has made, if it has."""
        ...

    async def create(self, repo: str, wanted: Wanted, state: str) -> Found:
        """Make it by one request; `said` tells whether the state is told already."""
        ...

    async def say(self, repo: str, number: int, wanted: Wanted, state: str) -> None:
        """Tell one state of it by one request."""
        ...


INFO = ActionInfo(
    name="deployment.record",
    summary="Tell the forge what is being rolled out, as a deployment with its state",
    effect=Effect.CHANGE,
    params={
        "image": Param(type="image", summary="the new image, repository@sha256:…", required=True),
        "state": Param(type="string", summary="running, success or failure", required=True),
        "environment": Param(
            type="string", summary="environment of the forge", default="production"
        ),
        "commit": Param(type="string", summary="commit that was built; left out: the run's"),
        "run": Param(type="int", summary="the forge's run that built it; left out: the ref's tip"),
        "contexts": Param(
            type="list", summary="status checks GitHub must have seen pass; none when left out"
        ),
    },
    results={
        "deployment": Param(type="int", summary="its number on the forge"),
        "commit": Param(type="string", summary="the commit it is of"),
        "state": Param(type="string", summary="what was told: running, success or failure"),
        "url": Param(type="string", summary="where it is seen"),
    },
    permissions=(
        Permission(
            system="github",
            resource="deployments",
            verbs=("read", "write"),
            scope="repository",
            why="to make the deployment and tell its states",
        ),
        Permission(
            system="github",
            resource="contents",
            verbs=("read",),
            scope="repository",
            why="to find the commit that is deployed",
        ),
        Permission(
            system="gitlab",
            resource="api",
            verbs=("read", "write"),
            scope="project",
            why="to make the deployment and tell its states; role Developer or above",
        ),
    ),
    undoable=False,
    looks_up=True,
    timeout=120.0,
    example={
        "image": "${{ steps.rebuild.image }}",
        "run": "${{ steps.rebuild.run }}",
        "state": "running",
    },
)


class DeploymentRecord:
    """The action; see the module for what it promises."""

    info = INFO

    def __init__(
        self, forges: Mapping[str, Deployments], routes: Sequence[ImageRoute], world: World
    ) -> None:
        self.forges = dict(forges)
        self._routes = tuple(routes)
        self._world = world

    async def plan(self, call: Call) -> Plan:
        """Which deployment would be made or go on, of which commit; reads only.

        Raises `StepFailed` for parameters that cannot be, or a commit that the forge does not have.
        """
        image, route, state = self._asked(call)
        forge = self.forges[route.forge]
        wanted = await self._wanted(call, image, route)
        found = await forge.open(route.repo, wanted)
        name = f"{route.repo}/{wanted.environment}"
        ref = ObjectRef(kind=forge.kind, name=name, system=f"{route.forge}:{route.repo}")
        told = {"state": state, "commit": wanted.commit, "image": f"{image.name}@{image.digest}"}
        done = found is not None and state in found.said
        change = Change(
            verb="patch" if found else "create",
            ref=ref,
            before={"deployment": found.id, "state": found.now} if found else None,
            after=told,
        )
        number = found.id if found else 0
        return Plan(
            action=INFO.name,
            summary=f"tell {route.repo} that {wanted.environment} is at {state} of {image.name}",
            changes=() if done else (change,),
            residual=(_ONLY_TOLD, *forge.residual),
            params={"environment": wanted.environment, **told},
            data={"deployment": number, "wanted": wanted.to_json()},
        )

    def _asked(self, call: Call) -> tuple[ImageName, ImageRoute, str]:
        """Image, route and state; only the image map chooses the route."""
        image = parse_image(str(call.params.get("image") or ""))
        if not image.digest:
            raise StepFailed("image: expected repository@sha256:…: a tag does not say what runs")
        state = str(call.params.get("state") or "")
        if state not in STATES:
            raise StepFailed(f"state: expected one of {', '.join(STATES)}")
        for route in self._routes:
            if fnmatchcase(image.name, route.match) and route.forge in self.forges:
                return image, route, state
        raise StepFailed(f"no route in [[images]] matches {image.name}; no forge is told of it")

    async def _wanted(self, call: Call, image: ImageName, route: ImageRoute) -> Wanted:
        environment = str(call.params.get("environment") or "production")
        if not _ENVIRONMENT.fullmatch(environment):
            raise StepFailed("environment: expected letters, digits, spaces and _ . - / only")
        commit = str(call.params.get("commit") or "")
        if commit and not _COMMIT.fullmatch(commit):
            raise StepFailed("commit: expected forty hex digits")
        forge = self.forges[route.forge]
        run = int(call.params.get("run") or 0)
        contexts = call.params.get("contexts") or ()
        return Wanted(
            environment=environment,
            commit=await forge.commit(route, commit, run),
            ref=route.ref,
            image=image.name,
            digest=image.digest,
            mark=correlation_base(f"{call.run}/deployment/{environment}/{image.digest}"),
            words=f"responder, incident {call.incident}: {image.name}@{image.digest[:19]}"[:140],
            contexts=tuple(str(one) for one in contexts),
            after=await forge.newest(route.repo, environment),
        )

    # ------------------------------------------------------------------ apply

    async def apply(self, call: Call, plan: Plan) -> Done:
        """Make it where it is not there yet, and tell its state; each by one request, once.

        Raises `StepRetry` when an answer was lost and nothing shows up: the next try looks first.
        """
        _, route, state = self._asked(call)
        forge = self.forges[route.forge]
        kept = dict(plan.data["wanted"])
        wanted = Wanted(**(kept | {"contexts": tuple(kept["contexts"])}))
        found = await self._there(call, forge, route, wanted, int(plan.data["deployment"]))
        if found is None:
            found = await self._created(forge, route, wanted, state)
        if state not in found.said:
            await self._said(forge, route, wanted, found.id, state)
        return Done(
            result={
                "deployment": found.id,
                "commit": found.commit,
                "state": state,
                "url": found.url,
            }
        )

    async def _there(
        self, call: Call, forge: Deployments, route: ImageRoute, wanted: Wanted, number: int
    ) -> Found | None:
        """The deployment of the plan, or what an earlier try of this step may have made."""
        if number:
            return await forge.look(route.repo, number)
        if call.resumed or call.attempt > 1:
            return await self._settled(forge, route, wanted, since=call.started)
        return await forge.open(route.repo, wanted)

    async def _created(
        self, forge: Deployments, route: ImageRoute, wanted: Wanted, state: str
    ) -> Found:
        try:
            return await forge.create(route.repo, wanted, state)
        except Uncertain as lost:
            found = await self._settled(forge, route, wanted, since=self._world.clock.now())
            if found is None:
                raise StepRetry(f"{lost}; no deployment of it showed up") from lost
            return found
        except Conflict as error:
            raise StepFailed(f"{error}; a status check that was asked for has not passed") from None

    async def _settled(
        self, forge: Deployments, route: ImageRoute, wanted: Wanted, *, since: int
    ) -> Found | None:
        """What may have been made, or nothing once it had time to show up.

        Raises `Uncertain` when nobody answers: it is not made twice in the dark.
        """
        ends = since + int(forge.settle * SECOND)
        while True:
            try:
                found = await forge.lost(route.repo, wanted)
            except (StepRetry, StepFailed, NotFound) as error:
                raise Uncertain(f"a deployment may have been made: {error}") from error
            if found or self._world.clock.now() >= ends:
                return found
            await self._world.clock.sleep(max(0.1, forge.settle / 15))

    async def _said(
        self, forge: Deployments, route: ImageRoute, wanted: Wanted, number: int, state: str
    ) -> None:
        try:
            await forge.say(route.repo, number, wanted, state)
        except (Uncertain, Conflict) as lost:
            ends = self._world.clock.now() + int(forge.settle * SECOND)
            while state not in (await forge.look(route.repo, number)).said:
                if self._world.clock.now() >= ends:
                    raise StepRetry(f"{lost}; {state} is not told yet") from lost
                await self._world.clock.sleep(max(0.1, forge.settle / 15))

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: `apply` ends it."""
        raise StepFailed("deployment.record waits for nothing")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The forge has it, of this commit, and was told this state; raises `StepFailed`."""
        _, route, state = self._asked(call)
        forge = self.forges[route.forge]
        found = await forge.look(route.repo, int(result["deployment"]))
        if found.commit != result["commit"] or state not in found.said:
            raise StepFailed(
                f"{forge.kind} {found.id}: expected {state} of {result['commit']}, is "
                f"{found.now} of {found.commit}"
            )
        checks = {"deployment": str(found.id), "state": found.now}
        return Verdict(level=VerdictLevel.APPLIED, residual=(_ONLY_TOLD,), checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Not possible: what was told is told; raises `StepFailed` that says what to do instead."""
        raise StepFailed("what was told is not taken back; record the failure instead")
