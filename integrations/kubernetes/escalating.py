"""Putting a further deny there, proving that it stands, and taking it back.

What it is, a pod's memory tells: level, kind, name. Everything is compared with what we make
before it is touched; what somebody changed since is shown and left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from integrations.kubernetes import tier_admin, tier_foreign, tier_native
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist
from integrations.kubernetes.ground import survey
from integrations.kubernetes.marks import ESCALATED, memory_of
from integrations.kubernetes.paths import named
from integrations.kubernetes.tier_model import Subject
from integrations.kubernetes.tiers import left_open
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Change

__all__ = ["as_wanted", "exclude", "inspect", "must_stand", "still_open", "suspend", "take_back"]

_TRIES = 4
Memory = Mapping[str, str]
Label = tuple[str, str]


def as_wanted(found: Json, spec: Mapping[str, Any]) -> bool:
    """Whether an object says everything that we want; defaults of its API may stand beside it."""
    there = found.get("spec") or {}
    return all(there.get(key) == value for key, value in spec.items())


def _spec(memory: Memory, namespace: str, label: Label) -> Json:
    """What our object of this memory must say. Raises `StepFailed` when the memory was spoilt."""
    kind = memory.get("kind", "")
    try:
        if memory["level"] == "admin":
            return tier_admin.spec(kind, namespace, label, int(memory["priority"]))
        return tier_native.spec(kind, label)
    except (KeyError, ValueError):
        raise StepFailed(f"the memory of what was denied cannot be read: {dict(memory)}") from None


async def _ours(api: Api, memory: Memory, label: Label) -> Json | None:
    """Our object, or nothing; never one that does not carry our label."""
    try:
        path = named(memory["kind"], memory["namespace"], memory["name"])
        found = await api.get(path)
    except NotFound:
        return None
    except KeyError:
        raise StepFailed(f"no kind {memory.get('kind')!r} is known that we deny with") from None
    key, value = label
    if (found["metadata"].get("labels") or {}).get(key) != value:
        raise Conflict(f"{memory['kind']} {memory['name']} is not ours: it has no {key}={value}")
    return found


async def still_open(
    fleet: Fleet, api: Api, pod: Json, policies: Sequence[Json], data: Mapping[str, Any], key: str
) -> tuple[str, ...]:
    """What gets through to an isolated pod, by a fresh listing of every policy kind there is.

    `data` is that of the plan. Raises `StepFailed` when our further deny is gone or changed.
    """
    memory = data.get("tier") or memory_of(pod, ESCALATED)  # of this step, or of one after it
    namespace = data["namespace"]
    label = (key, data["label"])
    await must_stand(api, memory, namespace, label)
    land = await fleet.landscape(api, again=True)
    native = memory.get("level") == "native"
    ground = await survey(api, land, namespace, cached=False, native=native)
    subject = Subject(
        pod=pod,
        labels=pod["metadata"].get("labels") or {},
        label=label,
        name=data["policy"],
        system="",
        marks={},
    )
    return left_open(ground, subject, memory, policies)


async def must_stand(api: Api, memory: Memory, namespace: str, label: Label) -> None:
    """Raise `StepFailed` when the object that denies is gone, or says something else."""
    if memory.get("level") not in {"admin", "native"}:
        return
    found = await _ours(api, memory, label)
    if found is None:
        raise StepFailed(f"{memory['kind']} {memory['name']} is gone: it denies nothing")
    if not as_wanted(found, _spec(memory, namespace, label)):
        raise StepFailed(f"{memory['kind']} {memory['name']} was changed by somebody")


async def exclude(api: Api, change: Change) -> None:
    """Leave our pod out of one policy. Raises `Conflict` when its selector has changed since."""
    await insist(api, lambda: _select(api, change, change.before, change.after))


async def _select(
    api: Api, change: Change, before: Mapping[str, Json], after: Mapping[str, Json]
) -> None:
    ref = change.ref
    path = named(ref.kind, ref.namespace, ref.name)
    for _ in range(_TRIES):
        found = await api.get(path)
        if found["metadata"]["uid"] != ref.uid:
            raise Conflict(f"{ref.label} is another one now: UID {found['metadata']['uid']}")
        selector = found["spec"].get("podSelector") or {}
        if selector == after["podSelector"]:
            return
        if selector != before["podSelector"]:
            raise Conflict(f"{ref.label}: {_selectors(before['podSelector'], selector)}")
        try:
            await api.patch(path, _selection(found, after["podSelector"]))
        except Conflict:
            continue  # something else of it moved between look and patch
        return
    raise Conflict(f"{ref.label} changes faster than it can be patched")


def _selection(found: Json, selector: Mapping[str, Any]) -> Json:
    """The patch that sets the conditions of a selector and nothing else."""
    metadata = found["metadata"]
    guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    rules = selector.get("matchExpressions")
    return {"metadata": guard, "spec": {"podSelector": {"matchExpressions": rules}}}


def _selectors(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return (
        f"its selector was changed since: expected {json.dumps(expected, sort_keys=True)}, got "
        f"{json.dumps(found, sort_keys=True)}"
    )


async def inspect(
    api: Api, memory: Memory, namespace: str, label: Label, before: Mapping[str, Json]
) -> None:
    """Raise `Conflict` with the difference where somebody has changed what is to be taken back.

    `before` are the selectors of others' policies as they were, where that is known.
    """
    if memory.get("level") == "foreign":
        for name in memory["names"].split():
            found = await _policy(api, namespace, name)
            selector = (found or {}).get("spec", {}).get("podSelector") or {}
            known = before.get(name, selector)
            ours = tier_foreign.is_excluded(selector, label)
            if ours and not tier_foreign.same_but_for_ours(known, selector, label[0]):
                expected = tier_foreign.excluding(known, label)
                raise Conflict(
                    f"NetworkPolicy {namespace}/{name}: {_selectors(expected, selector)}"
                )
        return
    found = await _ours(api, memory, label) if memory else None
    if found and not as_wanted(found, wanted := _spec(memory, namespace, label)):
        there = json.dumps(found["spec"], sort_keys=True)
        raise Conflict(
            f"{memory['kind']} {memory['name']} was changed since: expected "
            f"{json.dumps(wanted, sort_keys=True)}, got {there}; delete it by hand"
        )


async def take_back(api: Api, memory: Memory, namespace: str, label: Label) -> None:
    """Delete our deny, or put the selectors of others back; what is done already stays done."""
    if memory.get("level") == "foreign":
        for name in memory["names"].split():
            await insist(api, lambda name=name: _put_back(api, namespace, name, label))  # type: ignore[misc]
    elif memory:
        await insist(api, lambda: _remove(api, memory, label))


async def _put_back(api: Api, namespace: str, name: str, label: Label) -> None:
    for _ in range(_TRIES):
        found = await _policy(api, namespace, name)
        selector = (found or {}).get("spec", {}).get("podSelector") or {}
        if found is None or not tier_foreign.is_excluded(selector, label):
            return
        body = _selection(found, tier_foreign.restored(selector, label))
        try:
            await api.patch(named("NetworkPolicy", namespace, name), body)
        except NotFound:
            return
        except Conflict:
            continue
        return
    raise Conflict(f"NetworkPolicy {namespace}/{name} changes faster than it can be patched")


async def _policy(api: Api, namespace: str, name: str) -> Json | None:
    try:
        return await api.get(named("NetworkPolicy", namespace, name))
    except NotFound:
        return None


async def _remove(api: Api, memory: Memory, label: Label) -> None:
    found = await _ours(api, memory, label)
    if found is None:
        return
    try:
        path = named(memory["kind"], memory["namespace"], memory["name"])
        await api.delete(path, found["metadata"]["uid"])
    except NotFound:
        return


async def suspend(api: Api, namespace: str, name: str, uid: str, *, stop: bool) -> None:
    """Stop a CronJob from starting, or let it start again; one that is gone is fine."""

    async def once() -> None:
        path = named("CronJob", namespace, name)
        try:
            found = await api.get(path)
            if found["metadata"]["uid"] == uid and found["spec"].get("suspend") is not stop:
                await api.patch(path, {"metadata": {"uid": uid}, "spec": {"suspend": stop}})
        except NotFound:
            return

    await insist(api, once)
