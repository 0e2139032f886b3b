"""Change a few values of one object and nothing else: planned, repeated safely, taken back.

A `Lens` says which values. They are compared before every write: what is as wanted is done, what
is as planned is changed, and anything else is somebody's work and is shown, not overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist, reference
from integrations.kubernetes.paths import named
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Change, Effect, Plan

__all__ = ["Lens", "apply", "change", "must_hold", "place_of", "read", "rehearse", "undo"]

_TRIES = 6
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lens:
    """Which values of an object an action owns: how they are read, and the patch that sets them."""

    read: Callable[[Json], dict[str, Any]]
    write: Callable[[Values], Json]


def change(
    api: Api, item: Json, kind: str, lens: Lens, after: Values, effect: Effect = Effect.CHANGE
) -> tuple[Change, ...]:
    """The one change of a plan, or none when everything is as wanted."""
    before = lens.read(item)
    if before == dict(after):
        return ()
    ref = reference(api, kind, item)
    version = {"resourceVersion": item["metadata"]["resourceVersion"]}
    return (
        Change(
            verb="patch",
            ref=ref,
            before=before,
            after=dict(after),
            effect=effect,
            precondition=version,
        ),
    )


def place_of(item: Json, kind: str, lens: Lens, after: Values) -> dict[str, Any]:
    """What applying, verifying and undoing need, as plain data of a plan."""
    metadata = item["metadata"]
    return {
        "kind": kind,
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata["uid"],
        "before": lens.read(item),
        "after": dict(after),
    }


async def rehearse(fleet: Fleet, api: Api, plan: Plan, lens: Lens) -> None:
    """Ask the API server what it would say: rights, admission rules, validity."""
    if plan.changes and fleet.dry_runs(api):
        data = plan.data
        body = _body(lens.write(data["after"]), data["uid"])
        await api.patch(named(data["kind"], data["namespace"], data["name"]), body, dry_run=True)


async def apply(api: Api, plan: Plan, lens: Lens) -> None:
    """Set the values. Raises `Conflict` when the object is another one or was changed since."""
    if plan.changes:
        data = plan.data
        await insist(api, lambda: _set(api, data, lens, data["before"], data["after"]))


async def undo(api: Api, plan: Plan, lens: Lens) -> None:
    """Put the values back; what is gone is fine. Raises `Conflict` with the difference."""
    if plan.changes:
        data = plan.data
        try:
            await insist(api, lambda: _set(api, data, lens, data["after"], data["before"]))
        except NotFound:
            return


async def read(api: Api, data: Mapping[str, Any]) -> Json:
    """The object afresh. Raises `StepFailed` when it is gone or another one."""
    path = named(data["kind"], data["namespace"], data["name"])
    try:
        item = await api.get(path)
    except NotFound:
        raise StepFailed(f"{_label(data)} is gone") from None
    if item["metadata"]["uid"] != data["uid"]:
        raise StepFailed(f"{_label(data)} is another one now")
    return item


def must_hold(item: Json, data: Mapping[str, Any], lens: Lens) -> None:
    """Raise `StepFailed` with the difference unless the values are as wanted."""
    found = lens.read(item)
    if found != data["after"]:
        raise StepFailed(f"{_label(data)} was changed since: {_difference(data['after'], found)}")


async def _set(
    api: Api, data: Mapping[str, Any], lens: Lens, before: Values, after: Values
) -> None:
    path = named(data["kind"], data["namespace"], data["name"])
    for _ in range(_TRIES):
        item = await api.get(path)
        if item["metadata"]["uid"] != data["uid"]:
            raise Conflict(f"{_label(data)} is another one now: UID {item['metadata']['uid']}")
        found = lens.read(item)
        if found == dict(after):
            return
        if found != dict(before):
            raise Conflict(f"{_label(data)} was changed since: {_difference(before, found)}")
        body = _body(lens.write(after), data["uid"], item["metadata"]["resourceVersion"])
        try:
            await api.patch(path, body)
        except Conflict:
            continue  # its status moved between look and patch
        return
    raise Conflict(f"{_label(data)} changes faster than it can be patched")


def _body(patch: Json, uid: str, version: str | None = None) -> Json:
    guard = {"uid": uid, **({"resourceVersion": version} if version else {})}
    return {**patch, "metadata": {**patch.get("metadata", {}), **guard}}


def _difference(expected: Values, found: Values) -> str:
    parts = [
        f"{key}: expected {expected.get(key)}, got {found.get(key)}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
    return "; ".join(parts)


def _label(data: Mapping[str, Any]) -> str:
    place = f"{data['namespace']}/{data['name']}" if data["namespace"] else data["name"]
    return f"{data['kind']} {place}"
