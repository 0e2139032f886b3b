"""`argocd.sync`: bring one commit into the cluster by Argo CD, once, and see it through.

How it never begins two syncs: the order carries a correlation id in the operation's `info`, which
Argo CD keeps with the operation and its state. When an answer is lost the application is looked at
for as long as an operation may take to show; found, it is followed; surely not there, it may be
asked for again. Argo CD itself refuses a second operation while one goes on.

It never prunes, never forces, never overrides what an application says: one that syncs by itself
is waited for where the step says so, and refused otherwise, because Argo CD takes no pinned
revision there (https://argo-cd.readthedocs.io/en/stable/user-guide/auto_sync/).
"""

# ruff: noqa: ARG002 - the port fixes what every method takes

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from integrations._forge import correlation_base, correlation_id
from integrations._images import is_digest
from integrations._scans.model import at
from integrations.argocd import planning, reading
from integrations.argocd.client import Client
from integrations.argocd.reading import Source, Stage, Wanted
from responder.clock import SECOND, World
from responder.errors import NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending, Permission
from responder.text import for_terminal, suggestion

__all__ = ["INFO", "Sync"]

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHART = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*")
_NOBODY = "no [argocd.NAME] is configured: its own sync has to bring the change"
INFO = ActionInfo(
    name="argocd.sync",
    summary="Sync an Argo CD application to one commit, or wait for its own sync, until healthy",
    effect=Effect.CHANGE,
    stage="rolled-out",
    params={
        "application": Param(type="string", summary="name of the application", required=True),
        "server": Param(type="string", summary="the [argocd.NAME] table; the only one by default"),
        "revision": Param(
            type="string", summary="commit in full, or a chart's version: what is synced"
        ),
        "repo": Param(type="string", summary="the repository it must come from, as a URL"),
        "workload": Param(type="string", summary="Kind/name that the application must manage"),
        "namespace": Param(type="string", summary="the workload's; the target's when left out"),
        "image": Param(type="image", summary="repository@sha256:… that the workload must end with"),
        "wait_if_automated": Param(
            type="bool",
            summary="where Argo CD syncs by itself, wait for it and change nothing",
            default=False,
        ),
        "optional": Param(
            type="bool", summary="without any [argocd] table ask nobody, and say so", default=False
        ),
        "project": Param(type="string", summary="the application's project, where rights need it"),
        "app_namespace": Param(type="string", summary="the application's own namespace"),
    },
    results={
        "application": Param(type="string", summary="the application"),
        "revision": Param(type="string", summary="the revision that it runs"),
        "url": Param(type="string", summary="its page"),
    },
    permissions=(
        Permission(
            system="argocd",
            resource="applications",
            verbs=("get", "sync"),
            scope="project",
            why="to see whose workload it is, sync it and follow the sync",
        ),
    ),
    concern="deployer",
    timeout=120.0,
    example={"application": "shop", "revision": "c" * 40, "workload": "Deployment/cart"},
)


class Sync:
    """The action; see the module for what it promises."""

    def __init__(self, clients: Mapping[str, Client], world: World) -> None:
        self.info = INFO
        self._clients = dict(clients)
        self._world = world

    # ------------------------------------------------------------------ plan

    async def plan(self, call: Call) -> Plan:
        """Read the application. Raises `StepFailed` with the reason when it must not be synced.

        Raises `StepRetry` while an operation of somebody else goes on.
        """
        if self._nobody(call):
            name = planning.valid(call.params["application"], "application")
            summary = f"nobody is asked to sync {name}"
            return Plan(action=call.action, summary=summary, residual=(_NOBODY,))
        client, wanted = self._wanted(call)
        app = await client.application(wanted.application, **wanted.scope)
        if why := reading.refusal(app):
            raise StepFailed(f"{wanted.label} is not synced: {why}")
        source = planning.source(app, call, wanted)
        place = planning.workload(call)
        if place and not reading.manages(app, *place):
            raise StepFailed(f"{wanted.label} does not manage {'/'.join(place)}")
        itself = reading.automated(app)
        if itself and not call.params.get("wait_if_automated"):
            raise StepFailed(
                f"{wanted.label} has {itself}: Argo CD brings {source.target} by itself and "
                "takes no pinned revision; let the step wait_if_automated"
            )
        if not itself:
            await self._must_be_open(client, wanted, source)
            if other := reading.busy(app, wanted.base):
                raise StepRetry(f"{wanted.label}: {other} goes on", after=client.settings.poll)
        return planning.design(call, wanted, source, app, place, itself)

    def _nobody(self, call: Call) -> bool:
        return not self._clients and call.params.get("optional") is True

    async def _must_be_open(self, client: Client, wanted: Wanted, source: Source) -> None:
        shape = _CHART if source.chart else _COMMIT
        if not shape.fullmatch(wanted.revision):
            raise StepFailed(
                f"revision {for_terminal(wanted.revision, 80)!r}: expected "
                f"{'a version of the chart' if source.chart else 'a commit in full'}: "
                "what a branch or tag means may change before it is synced"
            )
        if not await client.may_sync(wanted.application, **wanted.scope):
            raise StepFailed(f"{wanted.label} is not synced: a sync window of its project is shut")

    def _wanted(self, call: Call) -> tuple[Client, Wanted]:
        given = call.params
        names = tuple(self._clients)
        if not names:
            raise StepFailed("no [argocd.NAME] is configured: nobody can be asked for a sync")
        server = str(given.get("server") or (names[0] if len(names) == 1 else ""))
        if server not in self._clients:
            raise StepFailed(f"server: there is no [argocd.{server}]; {suggestion(server, names)}")
        client = self._clients[server]
        name = planning.valid(given["application"], "application")
        if not any(fnmatchcase(name, glob) for glob in client.settings.applications):
            raise StepFailed(f"application {name} is not among those of [argocd.{server}]")
        scoped = (str(given.get(key) or "") for key in ("project", "app_namespace"))
        project, namespace = (planning.valid(text, "project") if text else "" for text in scoped)
        revision, image = str(given.get("revision") or ""), str(given.get("image") or "")
        if image and not is_digest(image.rpartition("@")[2]):
            raise StepFailed(f"image {for_terminal(image, 120)!r}: expected repository@sha256:…")
        if not revision and not (image and given.get("wait_if_automated")):
            raise StepFailed("revision: expected a commit in full")
        return client, Wanted(
            server=server,
            application=name,
            base=correlation_base(call.key),
            revision=revision,
            image=image,
            project=project,
            namespace=namespace,
        )

    # ------------------------------------------------------------------ apply

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Ask for the sync, once; an earlier one of this step is followed.

        Raises `StepRetry` (certainly not begun), `Uncertain` (cannot know), `StepFailed`.
        """
        if self._nobody(call):
            return Done(result={"application": str(call.params["application"])})
        client, _ = self._wanted(call)
        now = self._world.clock.now()
        wanted = replace(Wanted.from_json(plan.data), since=call.started or now)
        if wanted.automated:
            await client.application(wanted.application, "normal", **wanted.scope)
            return self._pending(client, wanted, "waits for Argo CD's own sync")
        mark = correlation_id(call.key, call.attempt)
        if (call.resumed or call.attempt > 1) and await self._adopts(client, wanted, mark):
            return self._pending(client, wanted, "sync found")
        wanted = replace(wanted, since=now)
        try:
            await client.sync(wanted.application, planning.order(wanted, mark))
        except Uncertain as lost:
            if not await self._adopts(client, wanted, mark):
                raise StepRetry(f"{lost}; no sync of it showed up, so it was not begun") from lost
        except NotFound as error:
            raise StepFailed(str(error)) from error
        return self._pending(client, wanted, "sync asked for")

    async def _adopts(self, client: Client, wanted: Wanted, mark: str) -> bool:
        """Whether a sync of this step is there to be followed, once it has had time to show.

        One of an earlier attempt that ended badly is none. Raises `Uncertain` when nobody answers.
        """
        ends = wanted.since + int(client.settings.settle * SECOND)
        while True:
            try:
                app = await client.application(wanted.application, **wanted.scope)
            except (StepRetry, StepFailed, NotFound) as error:
                raise Uncertain(
                    f"{wanted.label} may be synced, and it cannot be looked at: {error}"
                ) from error
            found = reading.ours(app, wanted.base)
            if found and (found[0] == mark or found[1].get("phase") not in {"Failed", "Error"}):
                return True
            if found or self._world.clock.now() >= ends:
                return False
            await self._world.clock.sleep(max(0.1, client.settings.settle / 15))

    # ------------------------------------------------------------------ poll

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look at the application; it never begins a sync.

        A server that does not answer is no end. Raises `StepFailed` when the sync failed, when the
        application stays ill, or when the time is over; `Uncertain` when our sync is not there.
        """
        wanted = Wanted.from_json(state)
        client = self._of(wanted.server)
        try:
            app = await client.application(wanted.application, **wanted.scope)
        except StepRetry as silent:
            return self._pending(client, self._in_time(client, wanted, str(silent)), str(silent))
        look = reading.judge(app, wanted)
        now = self._world.clock.now()
        if look.stage is Stage.DONE:
            return Done(
                result={
                    "application": wanted.application,
                    "revision": wanted.revision or str(at(app, "status/sync/revision")),
                    "url": f"{client.settings.url}/applications/{wanted.application}",
                }
            )
        if look.stage is Stage.FAILED:
            raise StepFailed(f"{wanted.label}: {look.words}")
        if look.stage is Stage.LOST and now > wanted.since + int(client.settings.settle * SECOND):
            raise Uncertain(f"{wanted.label} was asked to sync, and {look.words}; look at it")
        ill = look.stage is Stage.ILL
        wanted = replace(wanted, ill=(wanted.ill or now) if ill else 0)
        if ill and now > wanted.ill + int(client.settings.settle * SECOND):
            raise StepFailed(f"{wanted.label} {look.words}")
        return self._pending(client, self._in_time(client, wanted, look.words), look.words)

    def _of(self, server: str) -> Client:
        try:
            return self._clients[server]
        except KeyError:
            raise StepFailed(f"[argocd.{server}] is no longer in the configuration") from None

    def _in_time(self, client: Client, wanted: Wanted, words: str) -> Wanted:
        within = client.settings.within
        if self._world.clock.now() > wanted.since + int(within * SECOND):
            raise StepFailed(f"{wanted.label} was not well within {within:g} s: {words}")
        return wanted

    def _pending(self, client: Client, wanted: Wanted, words: str) -> Pending:
        return Pending(
            state=wanted.to_json(),
            after=client.settings.poll,
            waiting_for=f"{wanted.label}: {words}",
        )

    # ------------------------------------------------------------------ afterwards

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read the live object. Raises `StepFailed` when it does not name the image.

        What its pods run, the cluster alone can say: `kubernetes.await_image` asks it.
        """
        if self._nobody(call):
            return Verdict(level=VerdictLevel.APPLIED, residual=(_NOBODY,))
        client, wanted = self._wanted(call)
        app = await client.application(wanted.application, **wanted.scope)
        checks = {
            "sync": str(at(app, "status/sync/status")),
            "health": str(at(app, "status/health/status")),
        }
        left = () if checks["sync"] == "Synced" else ("its source has moved on since the sync",)
        place = planning.workload(call)
        if not place or not wanted.image:
            open_ = ("which image runs was not asked",)
            return Verdict(level=VerdictLevel.APPLIED, residual=(*left, *open_), checks=checks)
        record = reading.manages(app, *place)
        found = reading.images_of(
            await client.live(wanted.application, **planning.asked(record, place))
        )
        if not reading.names(found, wanted.image):
            shown = for_terminal(", ".join(found), 300)
            raise StepFailed(f"{'/'.join(place)}: expected {wanted.image}, got {shown or 'none'}")
        checks["live object"] = f"{'/'.join(place)} names {wanted.image}"
        return Verdict(level=VerdictLevel.APPLIED, residual=left, checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """There is none: a sync back would be undone by the next one. Raises `StepFailed`."""
        raise StepFailed("a sync has no undo: revert the commit in its source, and sync that")
