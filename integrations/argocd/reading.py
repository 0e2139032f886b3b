"""What an Argo CD application says of itself: may it be synced, is an operation ours, is it well.

Pure. The words for phases, sync and health are Argo CD's own:
https://argo-cd.readthedocs.io/en/stable/operator-manual/health/ and
https://argo-cd.readthedocs.io/en/stable/core_concepts/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Self

from integrations._scans.model import at, objects
from responder.text import for_terminal, veiled

__all__ = [
    "MARK",
    "Look",
    "Source",
    "Stage",
    "Wanted",
    "automated",
    "busy",
    "condition",
    "images_of",
    "judge",
    "manages",
    "names",
    "others",
    "ours",
    "refusal",
    "repository",
    "source_of",
]

MARK = "responder"  # the name of the operation's info item that bears our correlation id
_CLOCK_MARGIN = 120  # seconds its clock may be off ours
_GOING = {"", "Running", "Terminating"}
_ILL = {
    "Degraded": "is degraded",
    "Missing": "lacks objects that its source has",
    "Suspended": "is suspended: somebody has to resume it",
}


class Stage(Enum):
    """What one look at an application means for a sync."""

    GOING = "going"
    ILL = "ill"  # it may pass; for how long, the caller says
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"  # no operation of ours is there


@dataclass(frozen=True, slots=True)
class Look:
    """A stage with one sentence for a person."""

    stage: Stage
    words: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where an application's manifests come from; `position` counts from 1, 0: there is but one."""

    position: int
    repo: str
    target: str
    chart: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a step waits for; plain JSON in the journal."""

    server: str
    application: str
    base: str  # correlation of the step
    revision: str = ""
    image: str = ""
    position: int = 0
    automated: bool = False  # Argo CD syncs by itself: nothing of ours is looked for
    since: int = 0  # microseconds: when the sync was asked for
    ill: int = 0  # since when it is not well, 0 when it is
    project: str = ""
    namespace: str = ""  # of the application itself, where it is not the server's

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        return cls(**{name: data[name] for name in cls.__slots__})

    @property
    def label(self) -> str:
        """The application as a person reads it."""
        return f"application {self.application} of argocd {self.server}"

    @property
    def scope(self) -> dict[str, str]:
        """What narrows a question down to this application."""
        named = {"project": self.project, "appNamespace": self.namespace}
        return {key: value for key, value in named.items() if value}


def repository(url: str) -> str:
    """A repository's address in one form: host and path, without scheme, user and `.git`."""
    text = url.strip().rstrip("/").removesuffix(".git")
    scheme, separator, rest = text.partition("://")
    rest = rest if separator else scheme
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    if not separator and ":" in host:  # git@host:path
        host, _, first = host.partition(":")
        path = f"{first}{slash}{path}"
    return f"{host.lower()}/{path.strip('/')}"


def source_of(app: Mapping[str, Any], repo: str) -> Source | None:
    """The source that a revision is meant for; nothing when there is none, or not just one."""
    many = list(objects(at(app, "spec/sources")))
    listed = many or [at(app, "spec/source") or {}]
    found = [
        _source(n if many else 0, item)
        for n, item in enumerate(listed, 1)
        if not repo or repository(str(item.get("repoURL", ""))) == repository(repo)
    ]
    return found[0] if len(found) == 1 else None


def _source(position: int, item: Mapping[str, Any]) -> Source:
    return Source(
        position,
        str(item.get("repoURL") or ""),
        str(item.get("targetRevision") or "HEAD"),
        str(item.get("chart") or ""),
    )


def automated(app: Mapping[str, Any]) -> str:
    """How Argo CD syncs it by itself, in words; nothing when it does not.

    https://argo-cd.readthedocs.io/en/stable/user-guide/auto_sync/
    """
    policy = at(app, "spec/syncPolicy/automated")
    if not isinstance(policy, dict) or policy.get("enabled") is False:
        return ""
    return "auto-sync with self-heal" if policy.get("selfHeal") else "auto-sync"


def refusal(app: Mapping[str, Any]) -> str:
    """Why it cannot be synced as it is, whoever asks; nothing when it can."""
    if at(app, "metadata/deletionTimestamp"):
        return "it is being deleted"
    if at(app, "spec/sourceHydrator"):
        return "its source is hydrated by Argo CD: what was merged is not what is synced"
    return condition(app)


def condition(app: Mapping[str, Any]) -> str:
    """The first condition that is an error, as Argo CD puts it: a project's rule, a bad source."""
    for one in objects(at(app, "status/conditions")):
        kind = str(one.get("type") or "")
        if kind.endswith("Error") and kind != "SyncError":  # that one tells of the last sync only
            return f"{for_terminal(kind, 60)}: {_said(one.get('message'))}"
    return ""


def busy(app: Mapping[str, Any], base: str) -> str:
    """The operation of somebody else that goes on, in words; nothing when there is none."""
    for operation, state in _operations(app):
        going = str(state.get("phase") or "") in _GOING
        if going and not _bears(operation, base):
            name = at(operation, "initiatedBy/username") or "Argo CD itself"
            to = str(at(operation, "sync/revision") or "its target")
            return f"a sync to {for_terminal(to, 60)} by {for_terminal(str(name), 60)}"
    return ""


def ours(app: Mapping[str, Any], base: str) -> tuple[str, Mapping[str, Any]] | None:
    """The correlation id and state of a sync of ours that is asked for, goes on, or was the last.

    One that has just been asked for has an empty state.
    """
    for operation, state in _operations(app):
        if mark := _bears(operation, base):
            return mark, state
    return None


def _operations(app: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """What was asked for and not begun, then what goes on or was the last.

    While one goes on both are there, and speak of the same one.
    """
    state = at(app, "status/operationState")
    state = state if isinstance(state, dict) else {}
    asked, begun = app.get("operation"), state.get("operation")
    going = state.get("phase") in _GOING and bool(state)
    if isinstance(asked, dict) and asked and not going:
        yield asked, {}
    if isinstance(begun, dict):
        yield begun, state


def _bears(operation: Mapping[str, Any], base: str) -> str:
    for item in objects(operation.get("info")):
        value = str(item.get("value") or "")
        if item.get("name") == MARK and value.rpartition("-")[0] == base:
            return value
    return ""


def manages(app: Mapping[str, Any], kind: str, namespace: str, name: str) -> Mapping[str, Any]:
    """The application's own record of an object; empty when it is not one of its objects."""
    for one in objects(at(app, "status/resources")):
        if (one.get("kind"), one.get("namespace"), one.get("name")) == (kind, namespace, name):
            return one
    return {}


def others(app: Mapping[str, Any], kind: str, namespace: str, name: str) -> list[str]:
    """Objects that differ from their source now and are not this one: a sync changes them too."""
    return [
        f"{one.get('kind')} {one.get('namespace') or ''}/{one.get('name')}".replace(" /", " ")
        for one in objects(at(app, "status/resources"))
        if one.get("status") == "OutOfSync"
        and (one.get("kind"), one.get("namespace"), one.get("name")) != (kind, namespace, name)
    ]


def images_of(manifest: Mapping[str, Any]) -> list[str]:
    """The images in an object's pod template, a CronJob's included."""
    spec = manifest.get("spec")
    inner = at(spec, "jobTemplate/spec/template/spec") or at(spec, "template/spec") or spec
    return [str(one.get("image") or "") for one in objects(at(inner, "containers"))]


def names(found: Iterable[Any], image: str) -> bool:
    """Whether one of these images is this one by its digest; a tag beside it says nothing."""
    repo, _, digest = image.rpartition("@")
    heads = (str(one).partition("@")[0] for one in found if str(one).endswith(f"@{digest}"))
    return any(head == repo or head.rpartition(":")[0] == repo for head in heads)


# --------------------------------------------------------------------------- judging


def judge(app: Mapping[str, Any], wanted: Wanted) -> Look:
    """What an application shows of a sync, asked for by us or begun by Argo CD itself."""
    look = _settled_by_itself(app, wanted) if wanted.automated else _our_operation(app, wanted)
    return look or _health(app)


def _our_operation(app: Mapping[str, Any], wanted: Wanted) -> Look | None:
    found = ours(app, wanted.base)
    if found is None:
        if _deployed(app, wanted):
            return None
        return Look(Stage.LOST, "no sync of ours is there")
    _, state = found
    phase = str(state.get("phase") or "")
    if phase in _GOING:
        return Look(Stage.GOING, f"sync {phase.lower() or 'asked for'}")
    if phase != "Succeeded":
        return Look(Stage.FAILED, f"the sync ended {phase}: {_said(state.get('message'))}")
    got = _revision(at(state, "syncResult") or {}, wanted.position)
    if got != wanted.revision:
        return Look(Stage.FAILED, f"the sync was of {got or 'nothing'}, not {wanted.revision}")
    if not _compared_since(app, state):
        return Look(Stage.GOING, "synced, not compared afresh yet")
    return None


def _settled_by_itself(app: Mapping[str, Any], wanted: Wanted) -> Look | None:
    """Whether Argo CD's own sync has brought it; an image decides, since its target moves on."""
    if why := condition(app):
        return Look(Stage.ILL, why)
    state = at(app, "status/operationState") or {}
    at_revision = _revision(at(app, "status/sync") or {}, wanted.position)
    asked = str(at(state, "operation/sync/revision") or "")
    if state.get("phase") in {"Failed", "Error"} and asked in {wanted.revision, at_revision}:
        return Look(Stage.ILL, f"its own sync {state['phase']}: {_said(state.get('message'))}")
    if state.get("phase") == "Running":
        return Look(Stage.GOING, "Argo CD syncs it")
    if at(app, "status/sync/status") != "Synced":
        return Look(Stage.GOING, f"waits for Argo CD: {at(app, 'status/sync/status') or 'Unknown'}")
    if wanted.image:
        shown = at(app, "status/summary/images")
        there = isinstance(shown, list) and names(shown, wanted.image)
        return None if there else Look(Stage.GOING, "waits for Argo CD to see the image")
    if at_revision != wanted.revision:
        return Look(Stage.GOING, f"waits for Argo CD: it is at {for_terminal(at_revision, 60)}")
    return None


def _health(app: Mapping[str, Any]) -> Look:
    status = str(at(app, "status/health/status") or "Unknown")
    if status == "Healthy":
        return Look(Stage.DONE, "synced and healthy")
    if status not in _ILL:
        return Look(Stage.GOING, f"synced, health {for_terminal(status, 40)}")
    sick = [
        f"{one.get('kind')} {one.get('name')}"
        for one in objects(at(app, "status/resources"))
        if at(one, "health/status") == status
    ]
    named = f" ({for_terminal(', '.join(sick[:5]), 200)})" if sick else ""
    return Look(Stage.ILL, f"{_ILL[status]}{named}")


def _deployed(app: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether its history has our revision since we asked: a later sync has taken our place."""
    since = wanted.since / 1_000_000 - _CLOCK_MARGIN
    return any(
        _revision(one, wanted.position) == wanted.revision and _time(one.get("deployedAt")) >= since
        for one in objects(at(app, "status/history"))
    )


def _compared_since(app: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Health is as old as the last comparison: one from before the end of the sync says nothing."""
    return _time(at(app, "status/reconciledAt")) >= _time(state.get("finishedAt")) > 0


def _revision(item: Mapping[str, Any], position: int) -> str:
    if not position:
        return str(item.get("revision") or "")
    return str(at(item, f"revisions/{position - 1}") or "")


def _time(text: Any) -> float:
    """Seconds since 1970 of RFC 3339, 0 for what is no time."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def _said(text: Any) -> str:
    """Argo CD's own sentence, shortened and made harmless."""
    return for_terminal(veiled(str(text or "no reason given")), 200)
