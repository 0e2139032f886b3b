"""What a target is now: a name from an alert is only a claim until UID and container agree.

A pod's name may have been given to another pod since the alert. Nothing is changed before name,
UID and container id were seen to belong together.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.looks import Look, Looks
from integrations.kubernetes.owners import chain, root
from integrations.kubernetes.paths import named, valid_name
from integrations.kubernetes.rights import right
from integrations.kubernetes.together import together
from responder.errors import StepFailed
from responder.model import Target

__all__ = ["NEEDS", "PodResolver", "bare_id", "check", "digest_in", "pod_name", "statuses"]

NEEDS = (
    right("Pod", "get", why="what a target is now"),
    right("ReplicaSet", "get", why="who owns it"),
    right("ReplicationController", "get", why="who owns it"),
    right("StatefulSet", "get", why="who owns it"),
    right("DaemonSet", "get", why="who owns it"),
    right("Job", "get", why="who owns it"),
)
_ID_MIN = 12  # characters: shorter prefixes of a container id may belong to two containers
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def bare_id(container_id: str) -> str:
    """The id without its runtime: `containerd://3f…` is `3f…`."""
    return container_id.rpartition("://")[2].lower()


def statuses(pod: Json) -> Iterator[Json]:
    """The status of every container: ordinary, init and ephemeral."""
    status = pod.get("status") or {}
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        yield from status.get(key) or []


def _ids(status: Json) -> Iterator[str]:
    """The ids of a container: as it runs, and as it last ended in this same pod."""
    yield bare_id(status.get("containerID") or "")
    for state in ("state", "lastState"):
        ended = (status.get(state) or {}).get("terminated") or {}
        yield bare_id(ended.get("containerID") or "")


def check(pod: Json, target: Target) -> Json | None:
    """The status of the container the target means, or nothing when it names none.

    Raises `StepFailed` when the pod of this name has another UID, or no container of this id. A
    container that has restarted within the same pod still counts: the pod is the one meant.
    """
    metadata = pod["metadata"]
    if target.pod_uid and target.pod_uid != metadata["uid"]:
        raise StepFailed(
            f"pod {target.label} is another one now: expected UID {target.pod_uid}, got "
            f"{metadata['uid']}; the alert's pod is gone and its name was used again"
        )
    found = list(statuses(pod))
    if target.container_id:
        return _by_id(found, target)
    if target.container:
        return next((item for item in found if item.get("name") == target.container), None)
    ordinary = (pod.get("status") or {}).get("containerStatuses") or []
    return ordinary[0] if len(ordinary) == 1 else None


def _by_id(found: list[Json], target: Target) -> Json:
    wanted = bare_id(target.container_id)
    if len(wanted) < _ID_MIN:
        raise StepFailed(
            f"container id {wanted!r} of {target.label} is too short: expected at least "
            f"{_ID_MIN} characters, got {len(wanted)}"
        )
    for item in found:
        if any(known.startswith(wanted) for known in _ids(item) if known):
            if target.container and item.get("name") != target.container:
                raise StepFailed(
                    f"container {wanted[:_ID_MIN]} of pod {target.label} is called "
                    f"{item.get('name')}, expected {target.container}"
                )
            return item
    raise StepFailed(
        f"pod {target.label} has no container {wanted[:_ID_MIN]} now; name and container id do "
        "not belong together, so nothing is touched"
    )


def digest_in(image_id: str) -> str:
    """The repository digest in a container's `imageID`, or nothing when it holds none.

    `repo@sha256:…` (also behind `docker-pullable://`) is a digest of the registry. A bare
    `sha256:…` is the id of a config, which no registry knows, so it does not count
    (https://github.com/containerd/containerd/issues/8408).
    """
    _, at, digest = image_id.rpartition("@")
    return digest if at and _DIGEST.fullmatch(digest) else ""


def pod_name(param: str, target: Target) -> tuple[str, str]:
    """Namespace and name from `namespace/name`, or a bare name in the target's namespace.

    Raises `StepFailed` when there is no namespace, or no object can be called so.
    """
    namespace, slash, name = param.rpartition("/")
    if not slash:
        namespace = target.namespace
    if not namespace:
        raise StepFailed(f'pod {param!r} has no namespace: write it as "namespace/name"')
    return valid_name(namespace, "namespace"), valid_name(name, "pod")


@dataclass(frozen=True, slots=True)
class PodResolver:
    """Fills in what a target is now. Reads only, and never guesses."""

    api: Api
    looks: Looks

    async def resolve(self, target: Target) -> Target:
        """Check the identity; add UID, workload, node, image, digest and container id.

        A target without a pod keeps what it has. Raises `StepFailed` for a recycled name,
        `NotFound` for a pod that is gone.
        """
        target = replace(target, cluster=target.cluster or self.api.cluster)
        if not target.pod:
            return target
        namespace, name = pod_name(target.pod, target)
        target = replace(target, namespace=namespace, pod=name)
        seen = await self.looks.ahead(namespace, name) or await self._look(namespace, name)
        now = filled(target, seen.pod, seen.owners)
        self.looks.keep(seen)
        return now

    def foresee(self, target: Target) -> None:
        """Begin to look at a pod that will be asked for in a moment. Waits for nothing."""
        if target.pod:
            with suppress(StepFailed):  # whoever resolves it will hear what is wrong with the name
                namespace, name = pod_name(target.pod, target)
                self.looks.begin(namespace, name, lambda: self._look(namespace, name))

    async def _look(self, namespace: str, name: str) -> Look:
        """The pod and its owners; what stands around is read beside them.

        A containment that follows saves the wait.
        """

        async def itself() -> tuple[Json, list[Json]]:
            pod = await self.api.get(named("Pod", namespace, name))
            return pod, await chain(self.api, pod)

        work: list[Coroutine[Any, Any, Any]] = [itself(), self.looks.near(self.api, namespace)]
        (pod, owners), near = await together(work)
        return Look(pod, owners, near)


def filled(target: Target, pod: Json, owners: list[Json]) -> Target:
    """The target with everything that its pod says now. Raises `StepFailed` as `check` does."""
    status = check(pod, target) or {}
    container = status.get("name") or target.container
    owner = root(pod, owners)
    spec = pod.get("spec") or {}
    image = next(
        (item["image"] for item in _containers(spec) if item["name"] == container), target.image
    )
    return replace(
        target,
        pod_uid=pod["metadata"]["uid"],
        workload=owner.label if owner else f"Pod/{target.pod}",
        node=spec.get("nodeName") or target.node,
        container=container,
        container_id=bare_id(status.get("containerID") or "") or target.container_id,
        image=image,
        digest=digest_in(status.get("imageID") or "") or target.digest,
    )


def _containers(spec: Json) -> Iterator[Json]:
    for key in ("containers", "initContainers", "ephemeralContainers"):
        yield from spec.get(key) or []
