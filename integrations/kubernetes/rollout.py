"""Reading a workload: which container, who else manages it, how far a rollout is. Pure.

Facts: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status;
a status counts only once `observedGeneration` has reached `generation`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Json
from integrations.kubernetes.identity import digest_in, statuses
from integrations.kubernetes.quarantine import LABEL
from responder.errors import StepFailed

__all__ = [
    "Progress",
    "container_of",
    "image_of",
    "images",
    "manager_of",
    "patch_of",
    "pick_container",
    "pinned",
    "progress",
    "refusal",
    "running",
    "selector_query",
    "sickness",
    "template_of",
    "template_with",
]

_PINNED = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_SICK = {
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rollout is; `failed` says why it will not end well."""

    done: bool
    text: str
    failed: str = ""


def pinned(image: str) -> str:
    """The image itself. Raises `StepFailed` when it is not named by digest."""
    if not _PINNED.fullmatch(image):
        raise StepFailed(
            f"image {image!r} is not named by digest: expected repository@sha256:…, because a tag "
            "may mean another image by the time it is pulled"
        )
    return image


def repository(image: str) -> str:
    """The image's name without tag and digest."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def container_of(workload: Json, name: str) -> Json:
    """One container of the pod template. Raises `StepFailed` when there is none of this name."""
    for item in _containers(workload):
        if item["name"] == name:
            return item
    names = ", ".join(item["name"] for item in _containers(workload))
    raise StepFailed(f"{label(workload)} has no container {name!r}; it has: {names}")


def pick_container(workload: Json, name: str, image: str) -> str:
    """The container meant: by name, or the only one, or the only one of the image's repository."""
    if name:
        return str(container_of(workload, name)["name"])
    found = _containers(workload)
    if len(found) > 1:
        found = [c for c in found if repository(c["image"]) == repository(image)]
    if len(found) != 1:
        names = ", ".join(item["name"] for item in _containers(workload))
        raise StepFailed(f"{label(workload)} has several containers: name one of {names}")
    return str(found[0]["name"])


def image_of(workload: Json, container: str) -> str:
    """The image in the pod template."""
    return str(container_of(workload, container)["image"])


def images(workload: Json) -> list[str]:
    """The images in the pod template."""
    return [str(item.get("image") or "") for item in _containers(workload)]


def template_with(workload: Json, container: str, image: str) -> list[Json]:
    """The template's containers with one image changed; a merge patch replaces the whole list."""
    return [
        {**item, "image": image} if item["name"] == container else item
        for item in _containers(workload)
    ]


def manager_of(workload: Json) -> str:
    """The GitOps tool that would put an old image back, or nothing.

    Argo CD marks with `argocd.argoproj.io/tracking-id` or its instance label
    (https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/), Flux with
    `kustomize.toolkit.fluxcd.io/name` or `helm.toolkit.fluxcd.io/name`.
    """
    metadata = workload["metadata"]
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    for key in marks:
        if key.startswith("argocd.argoproj.io/"):
            return "Argo CD"
        if key.startswith(("kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/")):
            return "Flux"
    return ""


def helm_release(workload: Json) -> str:
    """The Helm release that made the workload, or nothing."""
    annotations = workload["metadata"].get("annotations") or {}
    return str(annotations.get("meta.helm.sh/release-name") or "")


def refusal(workload: Json) -> str:
    """Why a new image must not or cannot be rolled out by us, or nothing."""
    if manager := manager_of(workload):
        return f"{manager} manages it and would put the old image back: open a pull request instead"
    spec = workload["spec"]
    if spec.get("paused"):
        return "its rollout is paused: resume it first"
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return "its update strategy is OnDelete: no pod would change by itself"
    if (strategy.get("rollingUpdate") or {}).get("partition"):
        return "its update is partitioned: some pods would keep the old image"
    return ""


def progress(workload: Json) -> Progress:
    """How far the rollout is; a CronJob has none, what it starts next is what counts."""
    status, spec = workload.get("status") or {}, workload["spec"]
    if workload["kind"] == "CronJob":
        return Progress(done=True, text="its next job runs the image")
    if int(status.get("observedGeneration") or 0) < int(workload["metadata"]["generation"]):
        return Progress(done=False, text="not seen by its controller yet")
    for item in status.get("conditions") or []:
        if item.get("type") == "Progressing" and item.get("status") == "False":
            return Progress(done=False, text="stuck", failed=str(item.get("reason") or "stuck"))
    if workload["kind"] == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled") or 0)
        updated = int(status.get("updatedNumberScheduled") or 0)
        available, total = int(status.get("numberAvailable") or 0), wanted
    else:
        wanted = int(spec.get("replicas", 1))
        updated = int(status.get("updatedReplicas") or 0)
        available = int(status.get("availableReplicas") or 0)
        total = int(status.get("replicas") or 0)
    done = updated >= wanted and available >= wanted and total <= wanted
    return Progress(done=done, text=f"{updated} of {wanted} updated, {available} available")


def selector_query(workload: Json) -> str:
    """The workload's selector as a query parameter. Raises `StepFailed` for an unknown operator."""
    selector = workload["spec"]["selector"]
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or []:
        key, values = rule["key"], ",".join(rule.get("values") or [])
        match rule["operator"]:
            case "In":
                terms.append(f"{key} in ({values})")
            case "NotIn":
                terms.append(f"{key} notin ({values})")
            case "Exists":
                terms.append(key)
            case "DoesNotExist":
                terms.append(f"!{key}")
            case other:
                raise StepFailed(f"{label(workload)}: selector operator {other} is not known")
    return ",".join(terms)


def sickness(pods: Iterable[Json], container: str, image: str) -> str:
    """Why new pods do not come up, or nothing. Pods with another image are not looked at."""
    for pod in pods:
        if _spec_image(pod, container) != image:
            continue
        for status in statuses(pod):
            reason = ((status.get("state") or {}).get("waiting") or {}).get("reason")
            if reason in _SICK:
                return f"pod {pod['metadata']['name']}: {reason}"
    return ""


def running(
    pods: Iterable[Json], container: str, image: str
) -> tuple[list[str], list[str], list[str]]:
    """Names of pods that run the image by its digest, by its spec only, and not at all.

    Isolated and ending pods are left out. A runtime may report the digest of the platform's
    manifest or a config id instead of the one asked for
    (https://github.com/kubernetes/kubernetes/issues/115199); such a pod counts as "by spec".
    """
    exact: list[str] = []
    by_spec: list[str] = []
    other: list[str] = []
    for pod in pods:
        metadata = pod["metadata"]
        if LABEL in (metadata.get("labels") or {}) or metadata.get("deletionTimestamp"):
            continue
        seen = _reported(pod, container)
        if _spec_image(pod, container) != image:
            other.append(metadata["name"])
        elif seen and seen == image.rpartition("@")[2]:
            exact.append(metadata["name"])
        else:
            by_spec.append(metadata["name"])
    return exact, by_spec, other


def label(workload: Json) -> str:
    """`Deployment shop/cart`."""
    metadata = workload["metadata"]
    return f"{workload['kind']} {metadata['namespace']}/{metadata['name']}"


def template_of(workload: Json) -> Json:
    """The pod template; a CronJob has it inside the template of its jobs."""
    spec = workload["spec"]
    found: Json = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]
    return found


def patch_of(workload: Json, template: Json) -> Json:
    """A patch of the workload's `spec` that changes parts of its pod template."""
    inner = {"template": template}
    return {"jobTemplate": {"spec": inner}} if "jobTemplate" in workload["spec"] else inner


def _containers(workload: Json) -> list[Json]:
    found: list[Json] = template_of(workload)["spec"]["containers"]
    return found


def _spec_image(pod: Json, container: str) -> str:
    for item in pod["spec"]["containers"]:
        if item["name"] == container:
            return str(item["image"])
    return ""


def _reported(pod: Mapping[str, Any], container: str) -> str:
    for status in statuses(dict(pod)):
        if status.get("name") == container:
            return digest_in(status.get("imageID") or "")
    return ""
