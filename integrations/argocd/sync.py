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
from integrations.argocd import reading
from integrations.argocd.client import Client
from integrations.argocd.reading import Source, Stage, Wanted
from responder.clock import SECOND, World
from responder.errors import NotFound, StepFailed, StepRetry, Uncertain
from responder.model import Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending, Permission
from responder.text import for_terminal, suggestion

__all__ = ["INFO", "Sync"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHART = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*")
_GROUPS = {"CronJob": "batch", "Rollout": "argoproj.io"}
_VERSIONS = {"Rollout": "v1alpha1"}
_SHOWN = 10
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
        client, wanted = self._wanted(call)
        app = await client.application(wanted.application, **wanted.scope)
        if why := reading.refusal(app):
            raise StepFailed(f"{_label(wanted)} is not synced: {why}")
        source = _source(app, call, wanted)
        place = _workload(call)
        if place and not reading.manages(app, *place):
            raise StepFailed(f"{_label(wanted)} does not manage {'/'.join(place)}")
        itself = reading.automated(app)
        if itself and not call.params.get("wait_if_automated"):
            raise StepFailed(
                f"{_label(wanted)} has {itself}: Argo CD brings {source.target} by itself and "
                "takes no pinned revision; let the step wait_if_automated"
            )
        if not itself:
            await self._must_be_open(client, wanted, source)
            if other := reading.busy(app, wanted.base):
                raise StepRetry(f"{_label(wanted)}: {other} goes on", after=client.settings.poll)
        return _design(call, wanted, source, app, place, itself)

    async def _must_be_open(self, client: Client, wanted: Wanted, source: Source) -> None:
        shape = _CHART if source.chart else _COMMIT
        if not shape.fullmatch(wanted.revision):
            raise StepFailed(
                f"revision {for_terminal(wanted.revision, 80)!r}: expected "
                f"{'a version of the chart' if source.chart else 'a commit in full'}: "
                "what a branch or tag means may change before it is synced"
            )
        if not await client.may_sync(wanted.application, **wanted.scope):
            raise StepFailed(
                f"{_label(wanted)} is not synced: a sync window of its project is shut"
            )

    def _wanted(self, call: Call) -> tuple[Client, Wanted]:
        given = call.params
        names = tuple(self._clients)
        if not names:
            raise StepFailed("no [argocd.NAME] is configured: nobody can be asked for a sync")
        server = str(given.get("server") or (names[0] if len(names) == 1 else ""))
        if server not in self._clients:
            raise StepFailed(f"server: there is no [argocd.{server}]; {suggestion(server, names)}")
        client = self._clients[server]
        name = _valid(given["application"], "application")
        if not any(fnmatchcase(name, glob) for glob in client.settings.applications):
            raise StepFailed(f"application {name} is not among those of [argocd.{server}]")
        scoped = (str(given.get(key) or "") for key in ("project", "app_namespace"))
        project, namespace = (_valid(text, "project") if text else "" for text in scoped)
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
            await client.sync(wanted.application, _order(wanted, mark))
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
                    f"{_label(wanted)} may be synced, and it cannot be looked at: {error}"
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
            raise StepFailed(f"{_label(wanted)}: {look.words}")
        if look.stage is Stage.LOST and now > wanted.since + int(client.settings.settle * SECOND):
            raise Uncertain(f"{_label(wanted)} was asked to sync, and {look.words}; look at it")
        ill = look.stage is Stage.ILL
        wanted = replace(wanted, ill=(wanted.ill or now) if ill else 0)
        if ill and now > wanted.ill + int(client.settings.settle * SECOND):
            raise StepFailed(f"{_label(wanted)} {look.words}")
        return self._pending(client, self._in_time(client, wanted, look.words), look.words)

    def _of(self, server: str) -> Client:
        try:
            return self._clients[server]
        except KeyError:
            raise StepFailed(f"[argocd.{server}] is no longer in the configuration") from None

    def _in_time(self, client: Client, wanted: Wanted, words: str) -> Wanted:
        within = client.settings.within
        if self._world.clock.now() > wanted.since + int(within * SECOND):
            raise StepFailed(f"{_label(wanted)} was not well within {within:g} s: {words}")
        return wanted

    def _pending(self, client: Client, wanted: Wanted, words: str) -> Pending:
        return Pending(
            state=wanted.to_json(),
            after=client.settings.poll,
            waiting_for=f"{_label(wanted)}: {words}",
        )

    # ------------------------------------------------------------------ afterwards

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read the live object. Raises `StepFailed` when it does not name the image.

        What its pods run, the cluster alone can say: `kubernetes.await_image` asks it.
        """
        client, wanted = self._wanted(call)
        app = await client.application(wanted.application, **wanted.scope)
        checks = {
            "sync": str(at(app, "status/sync/status")),
            "health": str(at(app, "status/health/status")),
        }
        left = () if checks["sync"] == "Synced" else ("its source has moved on since the sync",)
        place = _workload(call)
        if not place or not wanted.image:
            open_ = ("which image runs was not asked",)
            return Verdict(level=VerdictLevel.APPLIED, residual=(*left, *open_), checks=checks)
        record = reading.manages(app, *place)
        found = reading.images_of(await client.live(wanted.application, **_asked(record, place)))
        if not reading.names(found, wanted.image):
            shown = for_terminal(", ".join(found), 300)
            raise StepFailed(f"{'/'.join(place)}: expected {wanted.image}, got {shown or 'none'}")
        checks["live object"] = f"{'/'.join(place)} names {wanted.image}"
        return Verdict(level=VerdictLevel.APPLIED, residual=left, checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """There is none: a sync back would be undone by the next one. Raises `StepFailed`."""
        raise StepFailed("a sync has no undo: revert the commit in its source, and sync that")


def _design(
    call: Call,
    wanted: Wanted,
    source: Source,
    app: Mapping[str, Any],
    place: tuple[str, str, str] | None,
    itself: str,
) -> Plan:
    wanted = replace(wanted, position=source.position, automated=bool(itself))
    ref = ObjectRef(
        kind="Application",
        name=wanted.application,
        namespace=wanted.namespace,
        uid=str(at(app, "metadata/uid") or ""),
        system=f"argocd:{wanted.server}",
    )
    change = Change(
        verb="sync",
        ref=ref,
        before={"target": source.target},
        after={"revision": wanted.revision, "prune": False},
    )
    what = f"wait for {itself} of" if itself else f"sync to {wanted.revision[:12]}"
    return Plan(
        action=call.action,
        summary=f"{what} application {wanted.application}",
        changes=() if itself else (change,),
        residual=() if itself else _too(app, place),
        params={
            "application": wanted.application,
            "repo": reading.repository(source.repo),
            "revision": wanted.revision,
            **({"workload": "/".join(place)} if place else {}),
            **({"image": wanted.image} if wanted.image else {}),
        },
        data=wanted.to_json(),
    )


def _too(app: Mapping[str, Any], place: tuple[str, str, str] | None) -> tuple[str, ...]:
    """What else differs from the source: a sync of the whole application changes it too."""
    found = reading.others(app, *(place or ("", "", "")))
    told = [f"the sync changes {for_terminal(one, 120)} too" for one in sorted(found)[:_SHOWN]]
    more = len(found) - _SHOWN
    return (*told, *((f"and {more} more objects",) if more > 0 else ()))


def _source(app: Mapping[str, Any], call: Call, wanted: Wanted) -> Source:
    repo = str(call.params.get("repo") or "")
    found = reading.source_of(app, repo)
    if found is None:
        asked = f"not from {for_terminal(reading.repository(repo), 120)} alone" if repo else ""
        why = asked or "from several sources: say which repo is meant"
        raise StepFailed(f"{_label(wanted)} comes {why}")
    return found


def _order(wanted: Wanted, mark: str) -> dict[str, Any]:
    """The request: one revision, nothing pruned, nothing forced, and our mark.

    https://cd.apps.argoproj.io/swagger-ui (ApplicationService_Sync)
    """
    pinned: dict[str, Any] = {"revision": wanted.revision}
    if wanted.position:
        pinned = {"revisions": [wanted.revision], "sourcePositions": [str(wanted.position)]}
    return {
        **pinned,
        "prune": False,
        "dryRun": False,
        "infos": [{"name": reading.MARK, "value": mark}],
        **wanted.scope,
    }


def _workload(call: Call) -> tuple[str, str, str] | None:
    """Kind, namespace and name of the workload; nothing when the step names none."""
    text = str(call.params.get("workload") or "")
    if not text:
        return None
    kind, _, name = text.partition("/")
    namespace = str(call.params.get("namespace") or call.target.namespace)
    if not (kind.isascii() and kind.isalpha()):
        raise StepFailed(f"workload {for_terminal(text, 80)!r}: expected Kind/name")
    return kind, _valid(namespace, "namespace"), _valid(name, "workload")


def _asked(record: Mapping[str, Any], place: tuple[str, str, str]) -> dict[str, str]:
    kind, namespace, name = place
    return {
        "namespace": namespace,
        "resourceName": name,
        "kind": kind,
        "group": str(record.get("group") or _GROUPS.get(kind, "apps")),
        "version": str(record.get("version") or _VERSIONS.get(kind, "v1")),
    }


def _valid(text: Any, what: str) -> str:
    if not _NAME.fullmatch(str(text)):
        shown = for_terminal(str(text), 80)
        raise StepFailed(f"{what}: {shown!r} is no name that a Kubernetes object can have")
    return str(text)


def _label(wanted: Wanted) -> str:
    return f"application {wanted.application} of argocd {wanted.server}"
