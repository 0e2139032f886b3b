"""A pretend scheduler and kubelet: pods get a node, pull their image, run, and go away.

Nothing runs. What a pod's status says follows from its spec, from the registry's answer to the
pull, and from the image: one whose entry point is `/bin/false` ends at once, again and again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from responder.clock import World
from responder.sandbox.background import Background
from responder.sandbox.kinds import kind_named
from responder.sandbox.objects import Item, Objects, stamp

__all__ = ["Kubelet", "Pace", "Pull", "Pulled", "pulled_elsewhere", "report"]

POD, NODE, EVENT = kind_named("Pod"), kind_named("Node"), kind_named("Event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things take in the sandbox, in seconds."""

    start: float = 0.05  # from created to Ready
    stop: float = 0.05  # from deleted to gone, when the pod's own grace is longer
    pull_again: float = 1.0
    crash_again: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull gave: the manifest's digest, and whether the program ends at once."""

    digest: str
    crashes: bool = False


Pull = Callable[[str], Pulled | None]


class Kubelet:
    """Keeps the status of every pod; `observe` is called for each pod that changed."""

    def __init__(
        self, objects: Objects, world: World, work: Background, pull: Pull, pace: Pace
    ) -> None:
        self._objects, self._world, self._work = objects, world, work
        self._pull, self._pace = pull, pace
        self._busy: set[str] = set()
        self._stopped: set[str] = set()
        self._next = 0
        self._running: dict[tuple[str, str], str] = {}  # (uid, container) -> the image it runs
        self.logs: dict[tuple[str, str], list[list[str]]] = {}  # (uid, container) -> lives -> lines

    def observe(self, namespace: str, name: str) -> None:
        """Start whatever this pod needs now; one piece of work per pod at a time."""
        pod = self._objects.find(POD, namespace, name)
        if pod is None or pod["metadata"]["uid"] in self._busy:
            return
        if pod["metadata"].get("deletionTimestamp"):
            self._go(pod, self._stop(pod))
        elif not pod["spec"].get("nodeName"):
            self.bind(pod)
        elif self._to_start(pod):
            self._go(pod, self._start(pod))

    def _go(self, pod: Item, work: Any) -> None:
        uid = pod["metadata"]["uid"]
        self._busy.add(uid)

        async def alone() -> None:
            try:
                await work
            finally:
                self._busy.discard(uid)
            self.observe(pod["metadata"]["namespace"], pod["metadata"]["name"])

        self._work.start(alone())

    def bind(self, pod: Item) -> Item:
        """Choose a node in turn; without one the pod stays Pending and says why."""
        nodes = [
            node["metadata"]["name"]
            for node in self._objects.items(NODE)
            if not (node.get("spec") or {}).get("unschedulable") and _fits(pod, node)
        ]
        if not nodes:
            text = f"0/{len(list(self._objects.items(NODE)))} nodes are available."
            condition = _condition("PodScheduled", "False", self._now(), "Unschedulable", text)
            if not any(c["type"] == "PodScheduled" for c in _conditions(pod)):
                return self._objects.set_status(POD, pod, conditions=[condition])
            return pod
        self._next += 1
        node = nodes[self._next % len(nodes)]
        report(self._objects, pod, "Normal", "Scheduled", f"Successfully assigned to {node}")
        return self._objects.update(POD, {**pod, "spec": {**pod["spec"], "nodeName": node}})

    def adopt(self, pod: Item) -> None:
        """Leave a pod of a dump as it is until its images change."""
        if pod.get("status", {}).get("containerStatuses"):
            for spec in _specs(pod):
                self._running[(pod["metadata"]["uid"], spec["name"])] = spec["image"]

    def _to_start(self, pod: Item) -> bool:
        if pod["status"].get("phase") in {"Succeeded", "Failed"}:
            return False
        uid = pod["metadata"]["uid"]
        return any(self._running.get((uid, spec["name"])) != spec["image"] for spec in _specs(pod))

    def run_now(self, pod: Item) -> None:
        """Bring a pod up without waiting: for a world that is there from the start."""
        self._settle(self.bind(pod) if not pod["spec"].get("nodeName") else pod)

    def _now(self) -> str:
        return stamp(self._world.clock.now())

    def _again(self, pod: Item) -> Item | None:
        """The same pod as it is now, None when it is gone."""
        meta = pod["metadata"]
        now = self._objects.find(POD, meta["namespace"], meta["name"])
        return now if now and now["metadata"]["uid"] == meta["uid"] else None

    async def _start(self, pod: Item) -> None:
        known = self._again(pod)
        if known is None or not self._to_start(known):
            return
        waits = [_container(c, {"waiting": {"reason": "ContainerCreating"}}) for c in _specs(pod)]
        if not known["status"].get("containerStatuses"):
            self._objects.set_status(POD, known, phase="Pending", containerStatuses=waits)
        await self._world.clock.sleep(self._pace.start)
        now = self._again(pod)
        if now is None or now["metadata"].get("deletionTimestamp"):
            return
        trouble = self._settle(now)
        if trouble:
            crash = trouble == "CrashLoopBackOff"
            await self._world.clock.sleep(
                self._pace.crash_again if crash else self._pace.pull_again
            )

    def _settle(self, pod: Item) -> str:
        """Write what the containers do now; the reason when one of them does not run."""
        olds = {s["name"]: s for s in pod["status"].get("containerStatuses") or ()}
        states = [self._one(pod, spec, olds.get(spec["name"])) for spec in _specs(pod)]
        ready = all(state["ready"] for state in states)
        index = 1 + int(pod["metadata"]["uid"][:4], 16)
        now = self._now()
        conditions = [
            _condition("PodScheduled", "True", now),
            _condition("Initialized", "True", now),
            _condition("ContainersReady", "True" if ready else "False", now),
            _condition("Ready", "True" if ready else "False", now),
        ]
        troubles = [s["state"]["waiting"]["reason"] for s in states if "waiting" in s["state"]]
        started = any(s.get("containerID") for s in states)
        self._objects.set_status(
            POD,
            pod,
            phase="Running" if started else "Pending",
            conditions=conditions,
            hostIP="10.0.0.1",
            podIP=pod["status"].get("podIP") or f"10.1.{index // 250 % 256}.{1 + index % 250}",
            startTime=pod["status"].get("startTime") or now,
            containerStatuses=states,
        )
        return troubles[0] if troubles else ""

    def _one(self, pod: Item, spec: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
        image, key = spec["image"], (pod["metadata"]["uid"], spec["name"])
        if old and self._running.get(key) == image:
            return old
        self._running.pop(key, None)
        got = self._pull(image)
        if got is None:
            was = (old or {}).get("state", {}).get("waiting", {}).get("reason", "")
            reason = "ImagePullBackOff" if was.endswith("ImagePull") else "ErrImagePull"
            report(self._objects, pod, "Warning", "Failed", f'Failed to pull image "{image}"')
            return _container(spec, {"waiting": {"reason": reason, "message": "not found"}})
        restarts = (old or {}).get("restartCount", 0) + (1 if (old or {}).get("containerID") else 0)
        lives = self.logs.setdefault(key, [])
        lives.append([f"{self._now()} {spec['name']} started from {image}"])
        del lives[:-2]
        status = _container(spec, {"running": {"startedAt": self._now()}})
        seed = f"{pod['metadata']['uid']}/{spec['name']}/{restarts}"
        status["containerID"] = "containerd://" + hashlib.sha256(seed.encode()).hexdigest()
        status["imageID"] = f"{_repository(image)}@{got.digest}"
        status["restartCount"] = restarts
        if got.crashes:
            lives[-1].append(f"{self._now()} exit 1")
            ended = {"exitCode": 1, "reason": "Error", "containerID": status["containerID"]}
            status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
            status["lastState"] = {"terminated": ended}
            report(self._objects, pod, "Warning", "BackOff", "Back-off restarting failed container")
        else:
            status["ready"] = status["started"] = True
            self._running[key] = image
            report(self._objects, pod, "Normal", "Started", f"Container started: {spec['name']}")
        return status

    async def _stop(self, pod: Item) -> None:
        uid = pod["metadata"]["uid"]
        grace = pod["metadata"].get("deletionGracePeriodSeconds", 0)
        if uid not in self._stopped:
            await self._world.clock.sleep(min(grace, self._pace.stop))
            self._stopped.add(uid)
        now = self._again(pod)
        if now is not None and not now["metadata"].get("finalizers"):
            self._stopped.discard(uid)
            for spec in _specs(now):
                self.logs.pop((uid, spec["name"]), None)
                self._running.pop((uid, spec["name"]), None)
            self._objects.delete(POD, now)


def pulled_elsewhere(image: str) -> Pulled:
    """The pull from a registry that is not ours: its digest, or one made from its name."""
    _, at, digest = image.partition("@")
    return Pulled(digest=digest if at else "sha256:" + hashlib.sha256(image.encode()).hexdigest())


def report(objects: Objects, about: Item, level: str, reason: str, text: str) -> None:
    """Write an Event about a pod, as a component of the cluster would."""
    meta = about["metadata"]
    now = stamp(objects.world.clock.now())
    objects.create(
        EVENT,
        {
            "metadata": {
                "name": f"{meta['name']}.{objects.world.rng.getrandbits(64):016x}",
                "namespace": meta.get("namespace", "default"),
            },
            "involvedObject": {
                "kind": "Pod",
                "name": meta["name"],
                "namespace": meta.get("namespace", ""),
                "uid": meta["uid"],
                "apiVersion": "v1",
                "resourceVersion": meta["resourceVersion"],
            },
            "type": level,
            "reason": reason,
            "message": text,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": "sandbox"},
        },
    )


def _specs(pod: Item) -> list[dict[str, Any]]:
    return list(pod["spec"]["containers"])


def _conditions(pod: Item) -> list[dict[str, Any]]:
    return list(pod["status"].get("conditions") or ())


def _fits(pod: Item, node: Item) -> bool:
    wanted = pod["spec"].get("nodeSelector") or {}
    labels = node["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _repository(image: str) -> str:
    head, _, last = image.partition("@")[0].rpartition("/")
    return f"{head}/{last.partition(':')[0]}" if head else last.partition(":")[0]


def _container(spec: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }


def _condition(
    kind: str, status: str, now: str, reason: str = "", message: str = ""
) -> dict[str, Any]:
    condition = {"type": kind, "status": status, "lastTransitionTime": now}
    if reason:
        condition |= {"reason": reason, "message": message}
    return condition
