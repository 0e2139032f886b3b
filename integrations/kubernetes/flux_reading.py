"""What Flux's objects say of themselves: asked for, picked up, fetched, applied, or why not. Pure.

Facts: https://fluxcd.io/flux/components/kustomize/kustomizations/#kustomization-status,
https://fluxcd.io/flux/components/helm/helmreleases/#helmrelease-status. A condition counts only
for the generation that it was made for: a suspended HelmRelease keeps an old "ready".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from integrations._scans.model import at, objects
from responder.text import for_terminal, veiled

__all__ = [
    "REQUESTED",
    "Link",
    "Look",
    "Stage",
    "judge",
    "moved_on",
    "parent",
    "revision_of",
    "source",
    "suspended",
]

REQUESTED = "reconcile.fluxcd.io/requestedAt"
_LABELS = "kustomize.toolkit.fluxcd.io"
_WAITS = {"DependencyNotReady", "Progressing", "ProgressingWithRetry"}


class Stage(Enum):
    """What one look at a chain of objects means."""

    GOING = "going"
    ILL = "ill"  # it may pass; for how long, the caller says
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Look:
    """A stage with one sentence for a person."""

    stage: Stage
    words: str


@dataclass(frozen=True, slots=True)
class Link:
    """One object on the way from a repository to a workload."""

    kind: str
    namespace: str
    name: str

    @property
    def label(self) -> str:
        """`Kustomization flux-system/shop`."""
        return f"{self.kind} {self.namespace}/{self.name}"


def source(item: Mapping[str, Any]) -> Link | None:
    """The GitRepository that a Kustomization takes from; other sources are not asked to fetch."""
    ref = at(item, "spec/sourceRef")
    if not isinstance(ref, dict) or ref.get("kind") != "GitRepository":
        return None
    namespace = str(ref.get("namespace") or item["metadata"]["namespace"])
    return Link("GitRepository", namespace, str(ref.get("name") or ""))


def parent(item: Mapping[str, Any]) -> Link | None:
    """The Kustomization that applies a HelmRelease: what was merged gets there first."""
    labels = item["metadata"].get("labels") or {}
    name = str(labels.get(f"{_LABELS}/name") or "")
    namespace = str(labels.get(f"{_LABELS}/namespace") or item["metadata"]["namespace"])
    return Link("Kustomization", namespace, name) if name else None


def suspended(item: Mapping[str, Any]) -> bool:
    """Whether its owner has stopped it on purpose."""
    return at(item, "spec/suspend") is True


def judge(
    chain: Sequence[tuple[Link, Mapping[str, Any]]],
    token: str,
    revision: str = "",
    before: str = "",
) -> Look:
    """What a chain shows, the repository's end first; the first that is not done decides.

    `token` is what was asked with, empty when nobody was asked. A revision is looked for where
    there is one: in what was fetched, or a chart's version. What was fetched since `before` and is
    not the revision came after it, since a branch only goes on; it is what must be applied then.
    """
    fetched = _fetched(chain)
    for link, item in chain:
        look = _one(link, item, token)
        if look.stage is Stage.DONE:
            look = _at(link, item, fetched, revision, before)
        if look.stage is not Stage.DONE:
            return look
    return Look(Stage.DONE, "applied and ready")


def moved_on(chain: Sequence[tuple[Link, Mapping[str, Any]]], revision: str) -> str:
    """That another revision than the asked one was fetched, in words; nothing when it is that."""
    fetched = _fetched(chain)
    if not revision or not fetched or _names(fetched, revision):
        return ""
    return (
        f"{chain[0][0].label} is at {for_terminal(fetched, 80)}, fetched after {revision[:12]} was "
        "there: the branch has moved on"
    )


def _fetched(chain: Sequence[tuple[Link, Mapping[str, Any]]]) -> str:
    link, item = chain[0]
    return revision_of(link, item) if link.kind == "GitRepository" else ""


def _at(link: Link, item: Mapping[str, Any], fetched: str, revision: str, before: str) -> Look:
    """Whether an object that is ready is so at what it has to be at."""
    found = revision_of(link, item)
    wanted = revision
    if link.kind == "GitRepository":
        fine = not revision or _names(found, revision) or found != before
    elif link.kind == "Kustomization":
        wanted = fetched
        fine = not fetched or found == fetched
    else:
        fine = bool(fetched) or not revision or _names(found, revision)
    if fine:
        return Look(Stage.DONE, f"{link.label} is ready")
    shown = for_terminal(found, 80) or "nothing"
    return Look(Stage.GOING, f"{link.label} is at {shown}, not yet at {for_terminal(wanted, 60)}")


def _one(link: Link, item: Mapping[str, Any], token: str) -> Look:
    status = item.get("status") or {}
    if suspended(item):
        return Look(Stage.FAILED, f"{link.label} is suspended: its owner has to resume it")
    if token and status.get("lastHandledReconcileAt") != token:
        return Look(Stage.GOING, f"{link.label} has not picked it up yet")
    generation = int(at(item, "metadata/generation") or 0)
    if int(status.get("observedGeneration") or 0) < generation:
        return Look(Stage.GOING, f"{link.label} has not seen its newest form yet")
    stalled = _condition(status, "Stalled", generation)
    if stalled.get("status") == "True":
        return Look(Stage.FAILED, f"{link.label} is stalled: {_said(stalled)}")
    ready = _condition(status, "Ready", generation)
    if ready.get("status") == "False" and ready.get("reason") not in _WAITS:
        return Look(Stage.ILL, f"{link.label} is not ready: {_said(ready)}")
    if ready.get("status") != "True":
        return Look(Stage.GOING, f"{link.label}: {_said(ready) if ready else 'not judged yet'}")
    return Look(Stage.DONE, f"{link.label} is ready")


def _condition(status: Mapping[str, Any], kind: str, generation: int) -> Mapping[str, Any]:
    """A condition that was made for this generation; an older one says nothing."""
    for one in objects(status.get("conditions")):
        if one.get("type") == kind and int(one.get("observedGeneration") or generation) >= (
            generation
        ):
            return one
    return {}


def revision_of(link: Link, item: Mapping[str, Any]) -> str:
    """What an object has fetched, applied or tried last, in Flux's words."""
    status = item.get("status") or {}
    if link.kind == "GitRepository":
        return str(at(status, "artifact/revision") or "")
    key = "lastAppliedRevision" if link.kind == "Kustomization" else "lastAttemptedRevision"
    return str(status.get(key) or "")


def _names(found: str, revision: str) -> bool:
    """Whether `main@sha1:COMMIT`, `main/COMMIT` or `1.2.3+digest` is this revision."""
    return found.endswith(revision) or found.partition("+")[0] == revision


def _said(condition: Mapping[str, Any]) -> str:
    reason = for_terminal(str(condition.get("reason") or "no reason"), 60)
    message = for_terminal(veiled(str(condition.get("message") or "")), 200)
    return f"{reason}: {message}" if message else reason
