"""What the controllers of ReplicaSets and Deployments do, as functions over the objects.

Each call looks at one object and makes the world a step more like it; calling again when nothing
changed does nothing. Releasing, adopting and surplus follow the real controllers:
https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#non-template-pod-acquisitions
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

from responder.clock import SECOND
from responder.model import canonical
from responder.sandbox.kinds import Kind, kind_named
from responder.sandbox.objects import Item, Objects, controller_of, stamp
from responder.sandbox.selectors import matches

__all__ = [
    "claim",
    "ending_pod",
    "is_active",
    "is_ready",
    "new_pod",
    "owner_reference",
    "replica_set",
]

POD, REPLICA_SET = kind_named("Pod"), kind_named("ReplicaSet")


def is_active(pod: Item) -> bool:
    """Whether a controller counts this pod."""
    over = pod["status"].get("phase") in {"Succeeded", "Failed"}
    return not over and not pod["metadata"].get("deletionTimestamp")


def is_ready(pod: Item) -> bool:
    """Whether its Ready condition is true."""
    found = pod["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found)


def owner_reference(kind: Kind, owner: Item) -> dict[str, Any]:
    """The reference that makes `owner` the controller."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def claim(objects: Objects, kind: Kind, owner: Item, child: Kind = POD) -> list[Item]:
    """The children of a controller, after releasing strangers and adopting orphans."""
    meta, mine = owner["metadata"], []
    for item in objects.items(child, meta["namespace"]):
        holder = controller_of(item)
        fits = matches(owner["spec"]["selector"], item)
        if holder is None and fits and not item["metadata"].get("deletionTimestamp"):
            if not meta.get("deletionTimestamp"):
                mine.append(_adopt(objects, kind, owner, child, item))
        elif holder and holder["uid"] == meta["uid"]:
            if fits:
                mine.append(item)
            elif not item["metadata"].get("deletionTimestamp"):
                _release(objects, child, item, meta["uid"])
    return mine


def _adopt(objects: Objects, kind: Kind, owner: Item, child: Kind, item: Item) -> Item:
    owners = [*(item["metadata"].get("ownerReferences") or ()), owner_reference(kind, owner)]
    meta = {**item["metadata"], "ownerReferences": owners}
    return objects.update(child, {**item, "metadata": meta})


def _release(objects: Objects, child: Kind, item: Item, uid: str) -> None:
    meta = dict(item["metadata"])
    meta["ownerReferences"] = [o for o in meta["ownerReferences"] if o["uid"] != uid]
    if not meta["ownerReferences"]:
        del meta["ownerReferences"]
    objects.update(child, {**item, "metadata": meta})


def new_pod(objects: Objects, kind: Kind, owner: Item, **meta: Any) -> Item:
    """Create a pod from the owner's template."""
    template = owner["spec"]["template"]
    space = owner["metadata"]["namespace"]
    name = {} if "name" in meta else {"generateName": owner["metadata"]["name"] + "-"}
    labels = {**(template.get("metadata", {}).get("labels") or {}), **meta.pop("labels", {})}
    inner = template.get("metadata", {})
    spec = {"serviceAccountName": "default", **template["spec"], **meta.pop("spec", {})}
    metadata: dict[str, Any] = {
        **name,
        "namespace": space,
        "labels": labels,
        "ownerReferences": [owner_reference(kind, owner)],
        **meta,
    }
    if inner.get("annotations"):
        metadata["annotations"] = dict(inner["annotations"])
    return objects.create(POD, {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})


def remove_pod(objects: Objects, pod: Item) -> None:
    """Ask for the deletion of a pod, with its own grace."""
    if not pod["spec"].get("nodeName") and not pod["metadata"].get("finalizers"):
        objects.delete(POD, pod)
        return
    objects.update(
        POD, ending_pod(objects, pod, pod["spec"].get("terminationGracePeriodSeconds", 30))
    )


def ending_pod(objects: Objects, pod: Item, grace: int) -> Item:
    """The pod marked as ending; the mark is the time at which its grace is over."""
    until = stamp(objects.world.clock.now() + grace * SECOND)
    ending = {"deletionTimestamp": until, "deletionGracePeriodSeconds": grace}
    return {**pod, "metadata": {**pod["metadata"], **ending}}


def _expendable_first(pod: Item) -> tuple[bool, bool, bool, int]:
    """Not placed before placed, pending before running, not ready before ready, new before old."""
    running = pod["status"].get("phase") == "Running"
    born = int("".join(c for c in pod["metadata"]["creationTimestamp"] if c.isdigit()))
    return bool(pod["spec"].get("nodeName")), running, is_ready(pod), -born


def replica_set(objects: Objects, item: Item) -> None:
    """Claim pods, make the missing ones, remove the surplus, count."""
    if item["metadata"].get("deletionTimestamp"):
        return
    active = [pod for pod in claim(objects, REPLICA_SET, item) if is_active(pod)]
    missing = item["spec"].get("replicas", 1) - len(active)
    active.extend(new_pod(objects, REPLICA_SET, item) for _ in range(missing))
    if missing < 0:
        newest_last = sorted(active, key=_expendable_first)
        for pod in newest_last[:-missing]:
            remove_pod(objects, pod)
        active = newest_last[-missing:]
    ready = sum(map(is_ready, active))
    current = objects.get(REPLICA_SET, item["metadata"]["namespace"], item["metadata"]["name"])
    objects.set_status(
        REPLICA_SET,
        current,
        replicas=len(active),
        fullyLabeledReplicas=len(active),
        readyReplicas=ready or None,
        availableReplicas=ready or None,
        observedGeneration=current["metadata"]["generation"],
    )


def template_hash(template: dict[str, Any]) -> str:
    """Short name of a template: equal templates, equal names."""
    digest = hashlib.sha256(canonical(template).encode()).digest()
    letters = "bcdfghjklmnpqrstvwxz2456789"
    return "".join(letters[byte % len(letters)] for byte in digest[:10])


def share(value: Any, whole: int, *, up: bool) -> int:
    """`25%` or a number, of `whole`."""
    if isinstance(value, int):
        return value
    part = int(str(value).rstrip("%")) * whole / 100
    return math.ceil(part) if up else math.floor(part)
