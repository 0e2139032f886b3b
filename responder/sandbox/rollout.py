"""What the Deployment controller does: one ReplicaSet per template, moved over step by step.

https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from responder.clock import SECOND
from responder.sandbox.kinds import kind_named
from responder.sandbox.objects import Item, Objects, stamp
from responder.sandbox.workloads import claim, owner_reference, share, template_hash

__all__ = ["deployment"]

DEPLOYMENT, REPLICA_SET = kind_named("Deployment"), kind_named("ReplicaSet")
REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"


def deployment(objects: Objects, item: Item) -> float | None:
    """Move the Deployment one step on; seconds until its deadline when it waits for progress."""
    if item["metadata"].get("deletionTimestamp"):
        return None
    sets = claim(objects, DEPLOYMENT, item, REPLICA_SET)
    if not item["spec"].get("paused"):
        new = _current(objects, item, sets)
        others = [s for s in sets if s["metadata"]["uid"] != new["metadata"]["uid"]]
        _scale(objects, item, new, others)
    sets = list(objects.owned(REPLICA_SET, item["metadata"]["namespace"], item["metadata"]["uid"]))
    return _count(objects, item, sets)


def _newest(item: Item, sets: list[Item]) -> Item | None:
    """The ReplicaSet with the present template, whatever its hash: dumps bring their own."""

    def bare(template: Item) -> Item:
        meta = template.get("metadata") or {}
        labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH}
        kept = {k: v for k, v in meta.items() if k != "creationTimestamp" and v}
        return {**template, "metadata": {**kept, "labels": labels}}

    wanted = bare(item["spec"]["template"])
    return next((s for s in sets if bare(s["spec"]["template"]) == wanted), None)


def _revision(item: Item) -> int:
    return int((item["metadata"].get("annotations") or {}).get(REVISION, 0))


def _current(objects: Objects, item: Item, sets: list[Item]) -> Item:
    """The ReplicaSet of the present template, made or brought to the front."""
    new, code = _newest(item, sets), template_hash(item["spec"]["template"])
    others = [s for s in sets if s is not new]
    number = str(max((_revision(s) for s in others), default=0) + 1)
    if new is None:
        template, meta = item["spec"]["template"], item["metadata"]
        labels = {**template["metadata"]["labels"], HASH: code}
        selector = item["spec"]["selector"]
        plain = {**(selector.get("matchLabels") or {}), HASH: code}
        new = objects.create(
            REPLICA_SET,
            {
                "metadata": {
                    "name": f"{meta['name']}-{code}",
                    "namespace": meta["namespace"],
                    "labels": labels,
                    "annotations": {REVISION: number},
                    "ownerReferences": [owner_reference(DEPLOYMENT, item)],
                },
                "spec": {
                    "replicas": 0,
                    "selector": {**selector, "matchLabels": plain},
                    "template": {
                        **template,
                        "metadata": {**template["metadata"], "labels": labels},
                    },
                },
                "status": {"replicas": 0},
            },
        )
    elif _revision(new) < int(number):
        notes = {**(new["metadata"].get("annotations") or {}), REVISION: number}
        new = objects.update(
            REPLICA_SET, {**new, "metadata": {**new["metadata"], "annotations": notes}}
        )
    return new


def _size(item: Item) -> int:
    return int(item["spec"].get("replicas", 0))


def _resize(objects: Objects, item: Item, size: int) -> None:
    if size != _size(item):
        objects.update(REPLICA_SET, {**item, "spec": {**item["spec"], "replicas": size}})


def _scale(objects: Objects, item: Item, new: Item, olds: list[Item]) -> None:
    wanted = _size(item)
    if item["spec"]["strategy"]["type"] == "Recreate":
        for old in olds:
            _resize(objects, old, 0)
        if not any(old["status"].get("replicas") for old in olds):
            _resize(objects, new, wanted)
        return
    rolling = item["spec"]["strategy"].get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", "25%"), wanted, up=True)
    missing = share(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    if not surge and not missing:
        missing = 1
    total = _size(new) + sum(map(_size, olds))
    if _size(new) > wanted:
        _resize(objects, new, wanted)
    elif _size(new) < wanted:
        room = max(0, wanted + surge - total) if any(map(_size, olds)) else wanted
        _resize(objects, new, min(wanted, _size(new) + room))
    _shrink(objects, new, olds, wanted - missing)


def _shrink(objects: Objects, new: Item, olds: list[Item], least: int) -> None:
    """Take pods from the old sets, those that are not ready first, and keep `least` available."""
    for old in olds:  # what never became ready may always go
        sick = max(0, old["status"].get("replicas", 0) - old["status"].get("availableReplicas", 0))
        _resize(objects, old, max(0, _size(old) - sick))
    olds = [
        objects.get(REPLICA_SET, o["metadata"]["namespace"], o["metadata"]["name"]) for o in olds
    ]
    available = new["status"].get("availableReplicas", 0) + sum(
        min(_size(old), old["status"].get("availableReplicas", 0)) for old in olds
    )
    spare = max(0, available - least)
    for old in sorted(olds, key=_revision):
        take = min(spare, _size(old))
        _resize(objects, old, _size(old) - take)
        spare -= take


def _count(objects: Objects, item: Item, sets: list[Item]) -> float | None:
    meta = item["metadata"]
    item = objects.get(DEPLOYMENT, meta["namespace"], meta["name"])
    new = _newest(item, sets)
    if new is not None:
        notes = {**(item["metadata"].get("annotations") or {}), REVISION: str(_revision(new))}
        item = {**item, "metadata": {**item["metadata"], "annotations": notes}}

    def total(word: str, of: list[Item]) -> int:
        return sum(s["status"].get(word, 0) for s in of)

    counts = {
        "replicas": total("replicas", sets),
        "updatedReplicas": total("replicas", [new] if new else []),
        "readyReplicas": total("readyReplicas", sets),
        "availableReplicas": total("availableReplicas", sets),
    }
    counts["unavailableReplicas"] = max(
        0, max(_size(item), counts["replicas"]) - counts["availableReplicas"]
    )
    conditions, left = _conditions(objects, item, counts, new)
    objects.set_status(
        DEPLOYMENT,
        item,
        observedGeneration=item["metadata"]["generation"],
        conditions=conditions,
        **{word: number or None for word, number in counts.items()},
    )
    return left


def _conditions(
    objects: Objects, item: Item, counts: dict[str, int], new: Item | None
) -> tuple[list[dict[str, Any]], float | None]:
    now, wanted = objects.world.clock.now(), _size(item)
    status = item.get("status") or {}
    old = {c["type"]: c for c in status.get("conditions") or ()}
    moved = status.get("observedGeneration") != item["metadata"]["generation"] or any(
        status.get(word, 0) != number for word, number in counts.items()
    )
    done = counts["updatedReplicas"] == counts["replicas"] == wanted == counts["availableReplicas"]
    name = new["metadata"]["name"] if new else ""
    left: float | None = None
    if done:
        text = f'ReplicaSet "{name}" has successfully progressed.'
        progress = ("True", "NewReplicaSetAvailable", text)
    else:
        since = now if moved or "Progressing" not in old else _micros(old["Progressing"])
        left = int(item["spec"].get("progressDeadlineSeconds", 600)) - (now - since) / SECOND
        late = left <= 0 or (not moved and old.get("Progressing", {}).get("status") == "False")
        progress = (
            ("False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.')
            if late
            else ("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
        )
        left = None if late else left
    rolling = item["spec"]["strategy"].get("rollingUpdate") or {}
    least = wanted - share(rolling.get("maxUnavailable", 0), wanted, up=False)
    enough = counts["availableReplicas"] >= least
    available = (
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        if enough
        else (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    )
    return [
        _condition("Available", old.get("Available"), available, now, moved=False),
        _condition("Progressing", old.get("Progressing"), progress, now, moved=moved),
    ], left


def _micros(condition: dict[str, Any]) -> int:
    return int(dt.datetime.fromisoformat(condition["lastUpdateTime"]).timestamp()) * SECOND


def _condition(
    kind: str, old: dict[str, Any] | None, new: tuple[str, str, str], now: int, *, moved: bool
) -> dict[str, Any]:
    """The condition with its two times: when it was last written, and when its status turned."""
    status, reason, message = new
    same = old is not None and (old["status"], old["reason"], old["message"]) == new
    if old is not None and same and not moved:
        return old
    turned = old["lastTransitionTime"] if old and old["status"] == status else stamp(now)
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": stamp(now),
        "lastTransitionTime": turned,
        "reason": reason,
        "message": message,
    }
