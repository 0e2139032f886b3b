"""How one pod is cut off: the plan, made from what was read. Pure.

Relabel the pod so that nothing else selects it, and deny both directions for a label that only
this pod of this incident has. Every policy is judged again with the labels the pod will have,
because taking labels off can start a selection too. What will still get through is said in the
plan. Nothing here claims more than that: open connections may live on, as that depends on the
network plug-in (https://github.com/kubernetes/website/issues/43438).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from integrations.kubernetes.client import Json
from integrations.kubernetes.owners import controller_of, ready_replicas, root, treatment
from integrations.kubernetes.policy import deny_all, remaining, selects, service_selects
from responder.errors import StepFailed
from responder.model import Blast, Change, ObjectRef, Plan
from responder.text import for_label

__all__ = [
    "LABEL",
    "MARKS",
    "OPEN_CONNECTIONS",
    "Request",
    "Scene",
    "design",
    "mark",
    "policy_name",
]

LABEL = "responder.dev/quarantine"
ORIGINAL = "responder.dev/original-labels"
KEY = "responder.dev/key"
INCIDENT = "responder.dev/incident"
EXPIRES = "responder.dev/expires-after"
OWNER = "responder.dev/released-by"
MARKS = (ORIGINAL, KEY, INCIDENT, EXPIRES, OWNER)
OPEN_CONNECTIONS = "open connections may live on; not checked in this version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was read for one plan."""

    pod: Json
    owners: list[Json] = field(default_factory=list)
    policies: list[Json] = field(default_factory=list)
    services: list[Json] = field(default_factory=list)
    slices: list[Json] = field(default_factory=list)
    budgets: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, and by which step of which incident."""

    action: str
    cluster: str
    incident: int
    key: str
    expires: str = ""


def policy_name(value: str) -> str:
    """The name of the policy that belongs to a quarantine label's value."""
    return f"responder-quarantine-{value}"


def design(scene: Scene, request: Request) -> Plan:
    """The plan for one pod. Raises `StepFailed` with the reason where it cannot be isolated.

    The same step asked again after it was half or wholly done gives the same plan. A pod that
    another step has isolated already is left as it is.
    """
    pod = _rewound(scene.pod, request.key)
    found = (pod["metadata"].get("labels") or {}).get(LABEL)
    how = treatment(pod)
    if how.refusal:
        raise StepFailed(f"pod {_place(pod)} cannot be isolated: {how.refusal}")
    before = dict(pod["metadata"].get("labels") or {})
    value = found or for_label(f"inc-{request.incident}-{pod['metadata']['uid'][:8]}")
    after = before if found else {**({} if how.strip else before), LABEL: value}
    name = policy_name(value)
    marks = _marks(pod, request, before)
    policy = _policy(pod, name, value, marks)
    changes = [] if found and _has(scene.policies, name) else [_creation(request, policy)]
    if not found:
        changes.append(_relabelling(request, scene.pod, pod, after, marks))
    still = remaining(scene.policies, after, own=name)
    return Plan(
        action=request.action,
        summary=f"isolate pod {_place(pod)}" + (f" (already isolated as {found})" if found else ""),
        changes=tuple(changes),
        blast=_blast(scene, pod) if changes else Blast(),
        residual=(*still, *_known_limits(scene, pod, after, stripped=how.strip)),
        undo=_undo(how.restoring, name),
        params={
            "pod": _place(pod),
            "uid": pod["metadata"]["uid"],
            "expires": request.expires or "never",
        },
        data={
            "namespace": pod["metadata"]["namespace"],
            "pod": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
            "label": value,
            "policy": name,
            "labels": after,
            "replacement": _replacement(scene, pod) if how.strip else "",
            "owner": _owner(pod),
            "still": list(still),
        },
    )


def _rewound(pod: Json, key: str) -> Json:
    """The pod as it was before this very step relabelled it; any other pod unchanged."""
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    if annotations.get(KEY) != key or ORIGINAL not in annotations:
        return pod
    plain = {name: text for name, text in annotations.items() if name not in MARKS}
    labels = mark(annotations, ORIGINAL)
    references = metadata.get("ownerReferences") or []
    if not references and OWNER in annotations:
        references = [{**mark(annotations, OWNER), "controller": True}]
    rewound = {**metadata, "labels": labels, "annotations": plain, "ownerReferences": references}
    return {**pod, "metadata": rewound}


def mark(annotations: Mapping[str, str], key: str) -> dict[str, str]:
    """One of our annotations as a table. Raises `StepFailed` when somebody has spoilt it."""
    try:
        found = json.loads(annotations[key])
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise StepFailed(f"annotation {key} was changed and cannot be read: restore it by hand")
    return found


def _marks(pod: Json, request: Request, before: Mapping[str, str]) -> dict[str, str]:
    owner = controller_of(pod)
    marks = {
        ORIGINAL: json.dumps(before, sort_keys=True),
        KEY: request.key,
        INCIDENT: str(request.incident),
    }
    if request.expires:
        marks[EXPIRES] = request.expires
    if owner:
        words = {"kind": owner.kind, "name": owner.name, "uid": owner.uid}
        marks[OWNER] = json.dumps(words, sort_keys=True)
    return marks


def _policy(pod: Json, name: str, value: str, marks: Mapping[str, str]) -> Json:
    # the original labels are kept twice: whoever can patch the pod cannot forge this copy
    return deny_all(
        name=name,
        namespace=pod["metadata"]["namespace"],
        label=(LABEL, value),
        annotations={key: marks[key] for key in (ORIGINAL, KEY, INCIDENT, EXPIRES) if key in marks},
        owner=pod,
    )


def _creation(request: Request, policy: Json) -> Change:
    metadata = policy["metadata"]
    ref = ObjectRef(
        kind="NetworkPolicy",
        name=metadata["name"],
        namespace=metadata["namespace"],
        system=f"cluster:{request.cluster}",
    )
    return Change(verb="create", ref=ref, after=policy)


def _relabelling(
    request: Request, now: Json, pod: Json, after: Mapping[str, str], marks: Mapping[str, str]
) -> Change:
    metadata = pod["metadata"]
    ref = ObjectRef(
        kind="Pod",
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        system=f"cluster:{request.cluster}",
    )
    return Change(
        verb="patch",
        ref=ref,
        before={"labels": dict(metadata.get("labels") or {})},
        after={"labels": dict(after), "annotations": dict(marks)},
        precondition={"resourceVersion": now["metadata"]["resourceVersion"]},
    )


def _known_limits(
    scene: Scene, pod: Json, after: Mapping[str, str], *, stripped: bool
) -> list[str]:
    limits = [OPEN_CONNECTIONS]
    if consequence := treatment(pod).consequence:
        limits.append(consequence)
    if not stripped:
        limits += [
            f"Service {service['metadata']['name']} still sends requests to it, which time out"
            for service in scene.services
            if service_selects(service, after)
        ]
    if pod["metadata"].get("deletionTimestamp"):
        limits.append("the pod is being deleted: what is in it will be gone soon")
    return limits


def _undo(restoring: str, policy: str) -> str:
    text = f"put the pod's labels back and delete NetworkPolicy {policy}"
    return f"{text}; {restoring}" if restoring else text


def _owner(pod: Json) -> dict[str, str]:
    owner = controller_of(pod)
    return {"kind": owner.kind, "name": owner.name} if owner else {}


def _replacement(scene: Scene, pod: Json) -> str:
    owner = root(pod, scene.owners)
    return owner.label if owner else ""


def _blast(scene: Scene, pod: Json) -> Blast:
    """What is lost: an isolated pod serves nobody, whatever its readiness says."""
    metadata = pod["metadata"]
    namespace, labels = metadata["namespace"], metadata.get("labels") or {}
    ready = is_ready(pod)
    others = scene.owners[0] if scene.owners else None
    count = max(ready_replicas(others), 1)
    owner = root(pod, scene.owners)
    workload = owner.label if owner else f"Pod/{metadata['name']}"
    return Blast(
        pods=1,
        ready_share=1 / count if ready else 0.0,
        namespaces=(namespace,),
        workloads=(f"{namespace}/{workload}",),
        services_without_endpoints=_emptied(scene, pod, labels) if ready else (),
        budgets_crossed=_crossed(scene.budgets, labels) if ready else (),
        last_ready=ready and count == 1,
        labels=dict(labels),
    )


def is_ready(pod: Json) -> bool:
    """Whether the pod counts as ready now."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _emptied(scene: Scene, pod: Json, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Services that have no ready endpoint besides this pod."""
    found = []
    for service in scene.services:
        name = service["metadata"]["name"]
        if service_selects(service, labels) and not _others_serve(scene.slices, name, pod):
            found.append(f"{service['metadata']['namespace']}/{name}")
    return tuple(sorted(found))


def _others_serve(slices: list[Json], service: str, pod: Json) -> bool:
    for piece in slices:
        if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != service:
            continue
        for endpoint in piece.get("endpoints") or []:
            other = (endpoint.get("targetRef") or {}).get("uid") != pod["metadata"]["uid"]
            # an absent answer counts as ready, as the API says
            if other and (endpoint.get("conditions") or {}).get("ready") is not False:
                return True
    return False


def _crossed(budgets: list[Json], labels: Mapping[str, str]) -> tuple[str, ...]:
    """Disruption budgets with no room left; relabelling is not checked against them by anyone."""
    return tuple(
        sorted(
            f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in budgets
            if selects((item.get("spec") or {}).get("selector"), labels)
            and int((item.get("status") or {}).get("disruptionsAllowed") or 0) < 1
        )
    )


def _has(policies: list[Json], name: str) -> bool:
    return any(item["metadata"]["name"] == name for item in policies)


def _place(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
