"""What probe pods look like: pinned, short-lived, without rights, and easy to find again. Pure.

They live in our home namespace, so that nobody has to let us start pods where the intruder is. No
service account token, no capability, not root, a read-only root, a deadline; only the one that cuts
flows is on the node's network with NET_ADMIN. Names come from the step's key, and a label marks
all of them: what a crash leaves is found and removed by the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Json

__all__ = [
    "MARK",
    "ROLE",
    "Task",
    "addresses_of",
    "answers",
    "ephemeral",
    "mark_of",
    "pod",
    "stuck",
]

MARK = "responder.dev/probe"
ROLE = "responder.dev/probe-role"
_NAME = "responder-probe"
_USER = 65532
# a sidecar would answer in the place of what is tried, and never end:
# https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/
# https://linkerd.io/2/features/proxy-injection/
_NO_MESH = {"sidecar.istio.io/inject": "false"}
_DEAD_IMAGES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"}
)
_DEAD_STARTS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)


@dataclass(frozen=True, slots=True)
class Task:
    """One container: its name, its program and the program's arguments."""

    name: str
    script: str
    args: Sequence[str] = ()
    ready_file: str = ""  # the container is Ready once this file is there


def mark_of(key: str) -> str:
    """The label's value and the middle of all names for one step's key."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def pod(
    mark: str,
    role: str,
    image: str,
    tasks: Iterable[Task],
    *,
    seconds: int,
    node: str = "",
    on_node_network: bool = False,
) -> Json:
    """A probe pod. With a node it goes there past the scheduler, cordoned or not."""
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": seconds,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "4Mi"}}],
        "containers": [_container(task, image, privileged=on_node_network) for task in tasks],
    }
    if node:
        spec["nodeName"] = node
    if on_node_network:
        spec["hostNetwork"] = True
    else:
        spec["securityContext"] = {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER}
    labels = {MARK: mark, ROLE: role, "app.kubernetes.io/managed-by": "responder", **_NO_MESH}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{_NAME}-{mark}-{role}",
            "labels": labels,
            "annotations": {"linkerd.io/inject": "disabled"},
        },
        "spec": spec,
    }


def ephemeral(name: str, image: str, task: Task) -> Json:
    """A container for inside a pod: it shares the network and nothing else with the others."""
    made = _container(task, image, privileged=False)
    del made["resources"], made["volumeMounts"]  # neither is allowed there, or there to be used
    made["securityContext"] |= {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER}
    return {**made, "name": name}


def _container(task: Task, image: str, *, privileged: bool) -> dict[str, Any]:
    rights: dict[str, Any] = {"drop": ["ALL"]}
    if privileged:
        rights["add"] = ["NET_ADMIN"]
    made: dict[str, Any] = {
        "name": task.name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", task.script, "probe", *task.args],
        "resources": {
            "requests": {"cpu": "5m", "memory": "16Mi"},
            "limits": {"memory": "64Mi"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - in its own volume
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": rights,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if task.ready_file:
        look = {"command": ["sh", "-c", 'test -e "$1"', "probe", task.ready_file]}
        made["readinessProbe"] = {"exec": look, "periodSeconds": 1, "timeoutSeconds": 5}
    return made


def addresses_of(item: Json) -> tuple[str, ...]:
    """All addresses of a pod, the main one first; two where the cluster has both families."""
    status = item.get("status") or {}
    listed = [str(entry.get("ip") or "") for entry in status.get("podIPs") or []]
    return tuple(filter(None, dict.fromkeys([str(status.get("podIP") or ""), *listed])))


def answers(found: Json) -> dict[str, str] | None:
    """What each container told when it ended; nothing while one still runs."""
    told = {}
    for status in (found.get("status") or {}).get("containerStatuses") or []:
        ended = (status.get("state") or {}).get("terminated")
        if ended is None:
            return None
        told[str(status["name"])] = _told(ended)
    return told if len(told) == len(found["spec"]["containers"]) else None


def _told(ended: Mapping[str, Any]) -> str:
    message = str(ended.get("message") or "").strip()
    return message or f"nothing (exit code {ended.get('exitCode')}, {ended.get('reason')})"


def stuck(statuses: Iterable[Mapping[str, Any]], phase: str = "", reason: str = "") -> str:
    """Why these containers will not come to an end by themselves; empty while they may."""
    if phase == "Failed" and reason:
        return f"it failed: {reason}"
    for status in statuses:
        why = str(((status.get("state") or {}).get("waiting") or {}).get("reason") or "")
        if why in _DEAD_IMAGES:
            return f"its image cannot be had: {why}"
        if why in _DEAD_STARTS:
            return f"it cannot start: {why}"
    return ""
