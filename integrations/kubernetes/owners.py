"""Who owns a pod, and what its owner does when the pod's labels are taken away.

Pure over objects that were read before, but for `chain`, which reads them. An owner of a kind we
do not know is never assumed to be harmless.

Facts: a ReplicaSet releases a pod that its selector no longer matches and starts another
(https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/); a StatefulSet cannot make
`name-0` again while the old object is there; a DaemonSet starts a second pod on the same node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.paths import KINDS, named
from responder.errors import NotFound

__all__ = [
    "Owner",
    "Treatment",
    "chain",
    "controller_of",
    "ready_replicas",
    "root",
    "running_containers",
    "treatment",
]

_DEPTH = 5
_CAN_READ = {
    "ReplicaSet",
    "ReplicationController",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
}


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller that an object names as its own."""

    kind: str
    name: str
    uid: str
    core: bool = True  # of the API group that this kind has in Kubernetes itself

    @property
    def label(self) -> str:
        """`Deployment/cart`."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How a pod of some owner may be isolated."""

    strip: bool = False  # take all labels off; False: only add ours
    refusal: str = ""  # why not at all
    consequence: str = ""  # what the owner will do
    restoring: str = ""  # what the owner will do when the labels come back


def controller_of(item: Mapping[str, Any]) -> Owner | None:
    """The one owner that controls an object, or nothing for a bare one."""
    for ref in item.get("metadata", {}).get("ownerReferences") or []:
        if ref.get("controller"):
            return Owner(ref["kind"], ref["name"], ref["uid"], _is_core(ref))
    return None


def _is_core(ref: Mapping[str, Any]) -> bool:
    """Whether the kind is Kubernetes' own: other groups have kinds called Job or Deployment too."""
    place = KINDS.get(ref["kind"], ("", ""))[0].removeprefix("apis/").removeprefix("api/")
    return "apiVersion" not in ref or ref["apiVersion"] == place


async def chain(api: Api, pod: Json, *, whole: bool = False) -> list[Json]:
    """The owners of a pod as they are, nearest first.

    By default only as far as the name of the root needs: a ReplicaSet already names its
    Deployment. `whole` reads every one. An owner that is gone, or of a kind we cannot read, ends
    the chain. A twin of the same name and another UID is not taken for the owner.
    """
    found: list[Json] = []
    item = pod
    namespace = pod["metadata"]["namespace"]
    for _ in range(_DEPTH):
        owner = controller_of(item)
        if not owner or not owner.core or owner.kind not in _CAN_READ or (found and not whole):
            break
        try:
            item = await api.get(named(owner.kind, namespace, owner.name))
        except NotFound:
            break
        if item["metadata"]["uid"] != owner.uid:
            break
        item.setdefault("kind", owner.kind)
        found.append(item)
    return found


def root(pod: Json, owners: list[Json]) -> Owner | None:
    """The last owner that is known by name, or nothing for a bare pod."""
    last = None
    for item in [pod, *owners]:
        owner = controller_of(item)
        if owner is None:
            break
        last = owner
    return last


def ready_replicas(owner: Json | None) -> int:
    """How many ready pods an owner counts; 0 when it does not count."""
    status = (owner or {}).get("status") or {}
    for key in ("readyReplicas", "numberReady", "ready"):
        if key in status:
            return int(status[key] or 0)
    return 0


def treatment(pod: Json) -> Treatment:
    """What may be done with a pod, by what it is and what owns it."""
    metadata = pod["metadata"]
    node = (pod.get("spec") or {}).get("nodeName") or "its node"
    if "kubernetes.io/config.mirror" in (metadata.get("annotations") or {}):
        return Treatment(
            refusal="it is a static pod: its labels come from a file on the node, and the API "
            f"server's copy cannot be changed; isolate it on {node}: capture, then take its file "
            "out of the kubelet's staticPodPath, and keep others away with kubernetes.cordon_node"
        )
    if way := _way_to_node(pod):
        return Treatment(
            refusal=f"{way}; treat the node as compromised: capture, keep others away from {node} "
            "with kubernetes.cordon_node, then kubernetes.evict_pod"
        )
    phase = (pod.get("status") or {}).get("phase")
    if phase in {"Succeeded", "Failed"}:
        return Treatment(refusal=f"it has ended ({phase}): nothing runs that could be isolated")
    owner = controller_of(pod)
    if owner is None:
        return Treatment(strip=True)
    return _by_kind(owner)


def _way_to_node(pod: Json) -> str:
    """Why whoever has this pod has its node as well, so that no NetworkPolicy holds them."""
    spec = pod.get("spec") or {}
    if spec.get("hostNetwork"):
        return "it uses the node's network, to which no NetworkPolicy applies"
    if spec.get("hostPID"):
        return "it sees the node's processes (hostPID), and with them the node's network"
    for container in running_containers(spec):
        context = container.get("securityContext") or {}
        if context.get("privileged"):
            return f"its container {container['name']} is privileged, which is root on the node"
        if (context.get("windowsOptions") or {}).get("hostProcess"):
            return f"its container {container['name']} is a process of the node (hostProcess)"
    return ""


def running_containers(spec: Mapping[str, Any]) -> list[Json]:
    """The containers that may run now: an init container that has ended is no way out."""
    inits = spec.get("initContainers") or []
    return [
        *(spec.get("containers") or []),
        *(one for one in inits if one.get("restartPolicy") == "Always"),
        *(spec.get("ephemeralContainers") or []),
    ]


def _by_kind(owner: Owner) -> Treatment:
    match owner.kind if owner.core else "":
        case "ReplicaSet" | "ReplicationController":
            return Treatment(
                strip=True,
                consequence=f"{owner.label} starts a replacement from the same image",
                restoring=f"{owner.label} then has one pod too many and deletes one of them",
            )
        case "Job":
            return Treatment(
                strip=True,
                consequence=f"{owner.label} counts the pod as lost and runs its work again",
                restoring=f"{owner.label} takes it back and, while another try runs, deletes one "
                "of them",
            )
        case "StatefulSet":
            why = "cannot start another pod of this name while this one exists"
        case "DaemonSet":
            why = "would start a second pod on the same node"
        case _:
            why = (
                f"({'known' if owner.kind in KINDS else 'a kind we do not know'}) owns it and may "
                "put them back as it wants them"
            )
    return Treatment(consequence=f"its labels stay: {owner.label} {why}; no replacement starts")
