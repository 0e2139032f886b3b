"""Stand in for the kubelet on a control plane without nodes: mark pods Running and Ready by hand.

Everything else stays real: the scheduler binds the pods, the controllers count them, and a rollout
ends (or hangs) as it would on a cluster. Containers do not exist; there is no log and no exec.
"""

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from tests.real.api import Api

Pod = dict[str, Any]
NODE = "bench-node"
ROUND_SECONDS = 0.1


def never(pod: Pod) -> bool:
    """Say no: every pod is well."""
    return False


def ensure_node(cluster: Api, name: str = NODE) -> str:
    """Create a hand-made Node that the scheduler accepts, unless it exists; return its name."""
    room = {"cpu": "64", "memory": "256Gi", "pods": "10000"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "HandMade",
        "lastHeartbeatTime": _now(),
        "lastTransitionTime": _now(),
    }
    body = {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"capacity": room, "allocatable": room, "conditions": [ready]},
    }
    status, answer = cluster.request("POST", "/api/v1/nodes", body)
    assert status in (201, 409), answer
    return name


def image_id(image: str) -> str:
    """Return what a runtime would report: the digest asked for, else one made from the name."""
    if "@sha256:" in image:
        return image
    repository = image.rsplit(":", 1)[0] if ":" in image.rsplit("/", 1)[-1] else image
    return f"{repository}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


class FakeKubelet:
    """Keep the pods of one namespace as a kubelet would, from a thread, for the length of a block.

    A pod that the scheduler has bound becomes Running and Ready, with a container id and an image
    id; a pod for which ``sick`` says yes is Running but crash-looping; a pod that is being deleted
    goes. ``sick`` is asked again in every round, so a pod may fall ill and recover. Setting
    ``paused`` stops all of it: the kubelet of a lost node. It never touches a pod's spec or labels.
    """

    def __init__(self, cluster: Api, namespace: str, sick: Callable[[Pod], bool] = never) -> None:
        self.sick = sick
        self.paused = False
        self._cluster = cluster
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._told: dict[str, bool] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-kubelet", daemon=True)

    def __enter__(self) -> Self:
        """Make sure that a node exists and begin."""
        ensure_node(self._cluster)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread; the pods stay as they are."""
        self._end.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._end.wait(ROUND_SECONDS):
            if not self.paused:
                self._round()

    def _round(self) -> None:
        status, answer = self._cluster.request("GET", self._pods)
        for pod in answer["items"] if status == 200 else []:
            if pod["metadata"].get("deletionTimestamp"):
                self._remove(pod)
            elif pod["spec"].get("nodeName"):
                self._tell(pod, sick=self.sick(pod))

    def _tell(self, pod: Pod, *, sick: bool) -> None:
        uid = pod["metadata"]["uid"]
        if self._told.get(uid) is sick:
            return
        path = f"{self._pods}/{pod['metadata']['name']}/status"
        guarded = {"metadata": {"uid": uid}, "status": pod_status(pod, sick=sick)}
        if self._cluster.request("PATCH", path, guarded)[0] == 200:
            self._told[uid] = sick

    def _remove(self, pod: Pod) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        self._cluster.request("DELETE", f"{self._pods}/{pod['metadata']['name']}", body)


def pod_status(pod: Pod, *, sick: bool = False) -> dict[str, Any]:
    """Return the status that a kubelet would report for a pod that runs (or crash-loops)."""
    uid = pod["metadata"]["uid"]
    ready = "False" if sick else "True"
    conditions = {"PodScheduled": "True", "Initialized": "True"}
    conditions |= {"ContainersReady": ready, "Ready": ready}
    serial = int(hashlib.sha256(uid.encode()).hexdigest()[:4], 16)
    address = f"10.77.{serial >> 8}.{serial & 255}"
    return {
        "phase": "Running",
        "hostIP": "10.78.0.10",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": pod["metadata"]["creationTimestamp"],
        "conditions": [
            {"type": kind, "status": status, "lastTransitionTime": _now()}
            for kind, status in conditions.items()
        ],
        "containerStatuses": [
            _container_status(uid, container, sick=sick) for container in pod["spec"]["containers"]
        ],
    }


def _container_status(uid: str, container: dict[str, Any], *, sick: bool) -> dict[str, Any]:
    serial = hashlib.sha256(f"{uid}/{container['name']}".encode()).hexdigest()
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting"}}
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": image_id(container["image"]),
        "containerID": f"containerd://{serial}",
        "ready": not sick,
        "started": not sick,
        "restartCount": 3 if sick else 0,
        "state": waiting if sick else {"running": {"startedAt": _now()}},
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
