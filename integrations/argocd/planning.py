"""What a sync would be, made from what was read and asked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from integrations._scans.model import at
from integrations.argocd import reading
from integrations.argocd.reading import Source, Wanted
from responder.errors import StepFailed
from responder.model import Change, ObjectRef, Plan
from responder.ports import Call
from responder.text import for_terminal

__all__ = ["asked", "design", "order", "source", "valid", "workload"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_GROUPS = {"CronJob": "batch", "Rollout": "argoproj.io"}
_VERSIONS = {"Rollout": "v1alpha1"}
_SHOWN = 10


def design(
    call: Call,
    wanted: Wanted,
    source: Source,
    app: Mapping[str, Any],
    place: tuple[str, str, str] | None,
    itself: str,
) -> Plan:
    """The plan: one sync, or only a wait where Argo CD syncs by itself."""
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


def source(app: Mapping[str, Any], call: Call, wanted: Wanted) -> Source:
    """The one source that a revision is meant for. Raises `StepFailed` for none or several."""
    repo = str(call.params.get("repo") or "")
    found = reading.source_of(app, repo)
    if found is None:
        asked = f"not from {for_terminal(reading.repository(repo), 120)} alone" if repo else ""
        why = asked or "from several sources: say which repo is meant"
        raise StepFailed(f"{wanted.label} comes {why}")
    return found


def order(wanted: Wanted, mark: str) -> dict[str, Any]:
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


def workload(call: Call) -> tuple[str, str, str] | None:
    """Kind, namespace and name of the workload; nothing when the step names none."""
    text = str(call.params.get("workload") or "")
    if not text:
        return None
    kind, _, name = text.partition("/")
    namespace = str(call.params.get("namespace") or call.target.namespace)
    if not (kind.isascii() and kind.isalpha()):
        raise StepFailed(f"workload {for_terminal(text, 80)!r}: expected Kind/name")
    return kind, valid(namespace, "namespace"), valid(name, "workload")


def asked(record: Mapping[str, Any], place: tuple[str, str, str]) -> dict[str, str]:
    """The question for a live object, by the application's own record of it."""
    kind, namespace, name = place
    return {
        "namespace": namespace,
        "resourceName": name,
        "kind": kind,
        "group": str(record.get("group") or _GROUPS.get(kind, "apps")),
        "version": str(record.get("version") or _VERSIONS.get(kind, "v1")),
    }


def valid(text: Any, what: str) -> str:
    """The name itself. Raises `StepFailed` when no object can be called so."""
    if not _NAME.fullmatch(str(text)):
        shown = for_terminal(str(text), 80)
        raise StepFailed(f"{what}: {shown!r} is no name that a Kubernetes object can have")
    return str(text)
