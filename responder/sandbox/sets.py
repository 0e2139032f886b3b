"""What the controllers of StatefulSets, DaemonSets and Jobs do, in the parts containment meets.

A released StatefulSet pod keeps its name, so no replacement can be made beside it: the set stays
short and says so only in its status, as on a real cluster. A suspended Job deletes its pods.
https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
https://kubernetes.io/docs/concepts/workloads/controllers/job/#suspending-a-job
"""

from __future__ import annotations

from typing import Any

from responder.sandbox.kinds import Kind, kind_named
from responder.sandbox.objects import Item, Objects
from responder.sandbox.workloads import (
    claim,
    is_active,
    is_ready,
    new_pod,
    remove_pod,
    template_hash,
)

__all__ = ["daemon_set", "job", "stateful_set"]

POD, NODE = kind_named("Pod"), kind_named("Node")
STATEFUL_SET, DAEMON_SET = kind_named("StatefulSet"), kind_named("DaemonSet")
JOB = kind_named("Job")
REVISION = "controller-revision-hash"


def _code(item: Item) -> str:
    return f"{item['metadata']['name']}-{template_hash(item['spec']['template'])}"


def _is_old(pod: Item, item: Item, code: str) -> bool:
    """Whether the template has moved on since this pod; one from a dump has another's revision."""
    if pod["metadata"]["labels"].get(REVISION) == code:
        return False
    template = item["spec"]["template"]
    for key in ("labels", "annotations"):
        wanted = (template.get("metadata") or {}).get(key) or {}
        if not wanted.items() <= (pod["metadata"].get(key) or {}).items():
            return True
    have = {spec["name"]: spec for spec in pod["spec"]["containers"]}
    return any(
        have.get(spec["name"], {}).get(key) != spec.get(key)
        for spec in template["spec"]["containers"]
        for key in ("image", "command", "args", "env")
    )


def _count(objects: Objects, kind: Kind, item: Item, **fields: Any) -> None:
    meta = item["metadata"]
    current = objects.find(kind, meta["namespace"], meta["name"])
    if current is not None and current["metadata"]["uid"] == meta["uid"]:
        number = current["metadata"].get("generation", 1)
        objects.set_status(kind, current, observedGeneration=number, **fields)


def stateful_set(objects: Objects, item: Item) -> None:
    """One pod per ordinal, made in order, renewed from the highest, each Ready before the next."""
    if item["metadata"].get("deletionTimestamp"):
        return
    name, space = item["metadata"]["name"], item["metadata"]["namespace"]
    size, code = item["spec"].get("replicas", 1), _code(item)
    mine = {pod["metadata"]["name"]: pod for pod in claim(objects, STATEFUL_SET, item)}
    parallel = item["spec"].get("podManagementPolicy") == "Parallel"
    for number in range(size):
        full = f"{name}-{number}"
        pod = mine.get(full)
        if pod is None and objects.find(POD, space, full) is None:
            labels = {REVISION: code, "statefulset.kubernetes.io/pod-name": full}
            mine[full] = pod = new_pod(objects, STATEFUL_SET, item, name=full, labels=labels)
        if not parallel and (pod is None or not is_ready(pod)):
            break
    wanted = {f"{name}-{number}" for number in range(size)}
    for full in [full for full in mine if full not in wanted]:
        if is_active(mine[full]):
            remove_pod(objects, mine[full])
    active = [pod for pod in mine.values() if is_active(pod)]
    old = [pod for pod in active if _is_old(pod, item, code)]
    if len(active) == size and old and all(is_ready(p) for p in active if p not in old):
        remove_pod(objects, max(old, key=lambda p: int(p["metadata"]["name"].rpartition("-")[2])))
    ready = sum(map(is_ready, active))
    _count(
        objects,
        STATEFUL_SET,
        item,
        replicas=len(active),
        readyReplicas=ready or None,
        availableReplicas=ready,
        currentReplicas=len(old) or len(active),
        updatedReplicas=len(active) - len(old),
        updateRevision=code,
        currentRevision=code if not old else old[0]["metadata"]["labels"].get(REVISION),
    )


def daemon_set(objects: Objects, item: Item) -> None:
    """One pod on every node; old ones are renewed one at a time."""
    if item["metadata"].get("deletionTimestamp"):
        return
    code = _code(item)
    active = [pod for pod in claim(objects, DAEMON_SET, item) if is_active(pod)]
    held = {pod["spec"].get("nodeName") for pod in active}
    nodes = [node["metadata"]["name"] for node in objects.items(NODE)]
    for node in nodes:
        if node not in held:
            spec = {"nodeName": node}
            active.append(new_pod(objects, DAEMON_SET, item, labels={REVISION: code}, spec=spec))
    old = [pod for pod in active if _is_old(pod, item, code)]
    if old and all(is_ready(pod) for pod in active if pod not in old):
        remove_pod(objects, old[0])
    ready = sum(map(is_ready, active))
    _count(
        objects,
        DAEMON_SET,
        item,
        desiredNumberScheduled=len(nodes),
        currentNumberScheduled=len(active),
        updatedNumberScheduled=len(active) - len(old),
        numberReady=ready,
        numberAvailable=ready,
        numberMisscheduled=0,
    )


def job(objects: Objects, item: Item) -> None:
    """Keep `parallelism` pods running; none while suspended. Nothing ever completes by itself."""
    if item["metadata"].get("deletionTimestamp"):
        return
    item = _with_selector(objects, item)
    pods = claim(objects, JOB, item)
    active = [pod for pod in pods if is_active(pod)]
    done = sum(pod["status"].get("phase") == "Succeeded" for pod in pods)
    failed = sum(pod["status"].get("phase") == "Failed" for pod in pods)
    left = max(0, item["spec"].get("completions", 1) - done)
    wanted = 0 if item["spec"].get("suspend") else min(item["spec"].get("parallelism", 1), left)
    for pod in active[wanted:]:
        remove_pod(objects, pod)
    missing = range(wanted - len(active))
    active.extend(new_pod(objects, JOB, item) for _ in missing)
    now = active[:wanted]
    _count(
        objects,
        JOB,
        item,
        active=len(now) or None,
        ready=sum(map(is_ready, now)),
        succeeded=done or None,
        failed=failed or None,
    )


def _with_selector(objects: Objects, item: Item) -> Item:
    """A Job's selector is made from its UID, so that no other pod fits it."""
    if item["spec"].get("selector"):
        return item
    mark = {"batch.kubernetes.io/controller-uid": item["metadata"]["uid"]}
    template = item["spec"]["template"]
    meta = dict(template.get("metadata") or {})
    meta["labels"] = {
        **(meta.get("labels") or {}),
        **mark,
        "batch.kubernetes.io/job-name": item["metadata"]["name"],
        "job-name": item["metadata"]["name"],
    }
    template = {**template, "metadata": meta}
    spec = {**item["spec"], "selector": {"matchLabels": mark}, "template": template}
    return objects.update(JOB, {**item, "spec": spec})
