"""What follows from pods without owning them: endpoints of services, budgets, garbage.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-budgets
https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

from typing import Any

from responder.sandbox.kinds import BY_KIND, Kind, kind_named
from responder.sandbox.objects import Item, Objects, controller_of
from responder.sandbox.selectors import matches
from responder.sandbox.workloads import is_active, is_ready, owner_reference, remove_pod, share

__all__ = ["budget", "collect", "endpoints"]

POD, SERVICE = kind_named("Pod"), kind_named("Service")
SLICE, BUDGET = kind_named("EndpointSlice"), kind_named("PodDisruptionBudget")


def endpoints(objects: Objects, service: Item) -> None:
    """Keep the service's EndpointSlice equal to the pods that it selects."""
    selector = (service.get("spec") or {}).get("selector")
    if not selector:
        return
    meta = service["metadata"]
    chosen = [
        _endpoint(pod)
        for pod in objects.items(POD, meta["namespace"])
        if pod["status"].get("podIP") and matches({"matchLabels": selector}, pod)
    ]
    ports = [
        {
            "name": port.get("name", ""),
            "port": _target(port),
            "protocol": port.get("protocol", "TCP"),
        }
        for port in service["spec"].get("ports") or ()
    ]
    known = next(objects.owned(SLICE, meta["namespace"], meta["uid"]), None)
    if known is not None:
        objects.update(SLICE, {**known, "endpoints": chosen, "ports": ports})
        return
    objects.create(
        SLICE,
        {
            "metadata": {
                "generateName": meta["name"] + "-",
                "namespace": meta["namespace"],
                "labels": {"kubernetes.io/service-name": meta["name"]},
                "ownerReferences": [owner_reference(SERVICE, service)],
            },
            "addressType": "IPv4",
            "endpoints": chosen,
            "ports": ports,
        },
    )


def _target(port: dict[str, Any]) -> Any:
    return port.get("targetPort") or port.get("port")


def _endpoint(pod: Item) -> dict[str, Any]:
    ready = is_ready(pod)
    ending = bool(pod["metadata"].get("deletionTimestamp"))
    meta = pod["metadata"]
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready and not ending, "serving": ready, "terminating": ending},
        "nodeName": pod["spec"].get("nodeName", ""),
        "targetRef": {
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
    }


def budget(objects: Objects, item: Item) -> None:
    """Count how many of the selected pods may be evicted now."""
    space, spec = item["metadata"]["namespace"], item.get("spec") or {}
    pods = [
        p for p in objects.items(POD, space) if is_active(p) and matches(spec.get("selector"), p)
    ]
    healthy = sum(map(is_ready, pods))
    expected = _expected(objects, space, pods) if "maxUnavailable" in spec else len(pods)
    if "maxUnavailable" in spec:
        needed = max(0, expected - share(spec["maxUnavailable"], expected, up=True))
    else:
        needed = share(spec.get("minAvailable", 1), expected, up=True)
    objects.set_status(
        BUDGET,
        item,
        expectedPods=expected,
        currentHealthy=healthy,
        desiredHealthy=needed,
        disruptionsAllowed=max(0, healthy - needed) if expected else 0,
        observedGeneration=item["metadata"].get("generation", 1),
    )


def _expected(objects: Objects, space: str, pods: list[Item]) -> int:
    """The sum of the sizes of the controllers behind the pods."""
    total, seen = 0, set()
    for pod in pods:
        owner = controller_of(pod)
        if owner is None or owner["uid"] in seen:
            continue
        seen.add(owner["uid"])
        kind = BY_KIND.get((_group(owner["apiVersion"]), owner["kind"]))
        holder = objects.find(kind, space, owner["name"]) if kind else None
        total += int((holder or {}).get("spec", {}).get("replicas", 0))
    return total


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def collect(objects: Objects, uid: str, space: str) -> None:
    """Delete what belonged to an object that is gone."""
    for kind in BY_KIND.values():
        for item in objects.items(kind, space):
            owners = item["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == uid for owner in owners):
                _drop(objects, kind, item, uid)


def _drop(objects: Objects, kind: Kind, item: Item, uid: str) -> None:
    meta = item["metadata"]
    others = [owner for owner in meta["ownerReferences"] if owner["uid"] != uid]
    if others:
        objects.update(kind, {**item, "metadata": {**meta, "ownerReferences": others}})
    elif kind.kind != "Pod":
        objects.delete(kind, item)
    elif not meta.get("deletionTimestamp"):
        remove_pod(objects, item)
