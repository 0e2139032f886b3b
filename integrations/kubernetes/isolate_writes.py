"""The writes of an isolation: rehearsed, carried out in their order, and tidied when it fails.

Each looks before it acts, so that a lost answer or a killed process is no harm: what is there as
planned is done, and what is somebody else's is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from integrations.kubernetes import escalating
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import insist
from integrations.kubernetes.landscape import FURTHER
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.policy import is_for
from integrations.kubernetes.quarantine import KEY, LABEL
from integrations.kubernetes.release import difference
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Change

__all__ = ["carry_out", "is_further", "rehearse", "tidy"]

_TRIES = 4  # how often a mere status update may get between our look and our patch


def is_further(change: Change) -> bool:
    """Whether a change is one that goes beyond our own NetworkPolicy and the pod's label."""
    kind = change.ref.kind
    return kind in FURTHER or (kind == "NetworkPolicy" and change.verb == "patch")


async def rehearse(api: Api, change: Change) -> str:
    """Ask the API server what it would say: rights, admission rules, validity.

    Returns what an admission rule would make of the pod's labels, where that is not what we want.
    """
    ref = change.ref
    path = named(ref.kind, ref.namespace, ref.name)
    if change.verb == "create":
        with suppress(Conflict):  # it exists from an earlier try; applying looks whether it is ours
            await api.create(collection(ref.kind, ref.namespace), change.after, dry_run=True)
        return ""
    if ref.kind != "Pod":
        await api.patch(path, {"spec": change.after}, dry_run=True)
        return ""
    pod = await api.patch(path, _patch(change, None), dry_run=True)
    labels = (pod.get("metadata") or {}).get("labels") or {}
    if labels == change.after["labels"]:
        return ""
    return f"an admission rule changes its labels: {difference(change.after['labels'], labels)}"


async def carry_out(api: Api, change: Change) -> None:
    """Do one change of a plan; safe to repeat. Raises `Conflict` when its object has changed."""
    ref = change.ref
    if change.verb == "create":
        await insist(api, lambda: _create(api, change))
    elif ref.kind == "Pod":
        await insist(api, lambda: _relabel(api, change))
    elif ref.kind == "CronJob":
        await escalating.suspend(api, ref.namespace, ref.name, ref.uid, stop=True)
    else:
        await escalating.exclude(api, change)


async def _create(api: Api, change: Change) -> None:
    ref = change.ref
    try:
        made = await api.create(collection(ref.kind, ref.namespace), change.after)
        api.connection.underway.wrote(made)
    except Conflict:
        found = await api.get(named(ref.kind, ref.namespace, ref.name))
        if not _ours(found, change.after):
            if _is_anothers(found, change.after):
                raise Conflict(
                    f"{ref.label}: another incident has begun to isolate this pod"
                ) from None
            raise StepFailed(
                f"{ref.label} exists and is not the one this step makes; it was changed or is "
                "somebody else's: look at it and delete it"
            ) from None


async def tidy(api: Api, key: str, data: Mapping[str, Any]) -> None:
    """Take back the denies of this very step whose pod did not get the label; else leave all as is.

    A new plan may find that another incident has isolated the pod: then ours would stay behind.
    """
    path = named("NetworkPolicy", data["namespace"], data["policy"])
    try:
        policy = await api.get(path)
        pod = await api.get(named("Pod", data["namespace"], data["pod"]))
        labels = pod["metadata"].get("labels") or {}
        mine = (policy["metadata"].get("annotations") or {}).get(KEY) == key
        if mine and labels.get(LABEL) != data["label"]:
            label = (LABEL, data["label"])
            await escalating.take_back(api, data.get("tier") or {}, data["namespace"], label)
            await api.delete(path, policy["metadata"]["uid"])
    except (NotFound, Conflict):
        return  # it is gone, or another one by now


def _ours(found: Json, wanted: Json) -> bool:
    labels = found["metadata"].get("labels") or {}
    same = labels.get(LABEL) == wanted["metadata"]["labels"][LABEL]
    if wanted["apiVersion"] != "networking.k8s.io/v1":
        return bool(same and escalating.as_wanted(found, wanted["spec"]))
    return bool(same and found["spec"] == wanted["spec"])


def _is_anothers(found: Json, wanted: Json) -> bool:
    """Whether it is the isolation of the same pod that another incident has begun, unchanged."""
    value = (found["metadata"].get("labels") or {}).get(LABEL)
    owner = wanted["metadata"].get("ownerReferences") or []
    if not value or not owner or not is_for(found, owner[0]["uid"]):
        return False
    return bool(found["spec"] == {**wanted["spec"], "podSelector": {"matchLabels": {LABEL: value}}})


async def _relabel(api: Api, change: Change) -> None:
    """Patch the pod; where only its status moved since the plan, with its present version."""
    ref = change.ref
    path = named(ref.kind, ref.namespace, ref.name)
    version = change.precondition["resourceVersion"]
    for _ in range(_TRIES):
        try:
            api.connection.underway.wrote(await api.patch(path, _patch(change, version)))
        except Conflict:
            pod = await api.get(path)
            if _is_done(pod, change):
                return
            _must_be_planned(pod, change)
            version = pod["metadata"]["resourceVersion"]
        else:
            return
    raise Conflict(f"{ref.label} changes faster than it can be patched")


def _patch(change: Change, version: str | None) -> Json:
    """The merge patch; without a version (a null is no precondition) only for a dry run."""
    after = change.after["labels"]
    gone: dict[str, str | None] = {k: None for k in change.before["labels"] if k not in after}
    return {
        "metadata": {
            "uid": change.ref.uid,
            "resourceVersion": version,
            "labels": {**gone, **after},
            "annotations": change.after["annotations"],
        }
    }


def _is_done(pod: Json, change: Change) -> bool:
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    return bool(
        metadata["uid"] == change.ref.uid
        and (metadata.get("labels") or {}) == change.after["labels"]
        and all(annotations.get(key) == text for key, text in change.after["annotations"].items())
    )


def _must_be_planned(pod: Json, change: Change) -> None:
    metadata = pod["metadata"]
    if metadata["uid"] != change.ref.uid:
        raise Conflict(f"{change.ref.label} is another pod now: UID {metadata['uid']}")
    labels = metadata.get("labels") or {}
    if labels != change.before["labels"]:
        raise Conflict(
            f"{change.ref.label}: its labels changed since the plan: "
            f"{difference(change.before['labels'], labels)}"
        )
