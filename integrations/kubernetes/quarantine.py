"""How one pod is cut off: the plan, made from what was read. Pure.

Relabel the pod so that nothing else selects it, and deny both directions for a label that only
this pod of this incident has. Every policy is judged again with the labels the pod will have,
because taking labels off can start a selection too. Where that does not suffice, the plan goes as
much further as it was allowed to (`tiers`), and says what will still get through. Every deny is
there before the pod gets the label, so there is no moment with neither. Nothing here claims more
than that: open connections may live on, as that depends on the network plug-in
(https://github.com/kubernetes/website/issues/43438).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from integrations.kubernetes import consequences, tier_foreign
from integrations.kubernetes.client import Json
from integrations.kubernetes.consequences import is_ready
from integrations.kubernetes.enforcement_class import CONNECTIONS, Class
from integrations.kubernetes.ground import Ground
from integrations.kubernetes.marks import (
    ESCALATED,
    EXPIRES,
    INCIDENT,
    KEY,
    LABEL,
    MARKS,
    ORIGINAL,
    OWNER,
    SUSPENDED,
    kept_twice,
    mark,
    memory_of,
    policy_name,
    rewound,
    word,
)
from integrations.kubernetes.owners import Owner, controller_of, root, treatment
from integrations.kubernetes.policy import begun, deny_all
from integrations.kubernetes.selection import Shift, shift
from integrations.kubernetes.tier_model import Subject, Tier
from integrations.kubernetes.tiers import Choice, choose, left_open
from responder.errors import StepFailed
from responder.model import Blast, Change, ObjectRef, Plan
from responder.text import for_label

__all__ = [
    "ESCALATED",
    "INCIDENT",
    "KEY",
    "LABEL",
    "MARKS",
    "OPEN_CONNECTIONS",
    "ORIGINAL",
    "OWNER",
    "SUSPENDED",
    "Request",
    "Scene",
    "design",
    "is_ready",
    "mark",
    "policy_name",
    "rewound",
]

OPEN_CONNECTIONS = CONNECTIONS[Class.UNKNOWN]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was read for one plan."""

    pod: Json
    owners: list[Json] = field(default_factory=list)
    policies: list[Json] = field(default_factory=list)
    services: list[Json] = field(default_factory=list)
    slices: list[Json] = field(default_factory=list)
    budgets: list[Json] = field(default_factory=list)
    claims: Mapping[str, Json] = field(default_factory=dict)  # of its volumes, where readable
    cron_job: Json | None = None  # the one that started it, where its suspension is asked for
    unsuspended: str = ""  # why that cannot be suspended
    hooks: Mapping[str, tuple[Json, ...]] | None = None  # admission rules, where readable
    ground: Ground = field(default_factory=Ground)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, and by which step of which incident."""

    action: str
    cluster: str
    incident: int
    key: str
    expires: str = ""
    escalate: str = "none"  # how far it may go by itself; see `tier_model.LEVELS`
    suspend_cronjob: bool = False
    connections: str = OPEN_CONNECTIONS  # what becomes of those that are open


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A plan's parts while they are put together."""

    pod: Json  # as it was before this very step
    found: str  # the label's value when the pod is isolated already
    subject: Subject
    choice: Choice
    marks: Mapping[str, str]


def design(scene: Scene, request: Request) -> Plan:
    """The plan for one pod. Raises `StepFailed` with the reason where it cannot be isolated.

    The same step asked again after it was half or wholly done gives the same plan. A pod that
    another step has isolated already is left as it is, but for a further deny where that is
    asked for.
    """
    draft = _draft(scene, request)
    pod, found, how = draft.pod, draft.found, treatment(draft.pod)
    changes = _changes(scene, request, draft)
    subject, tier = draft.subject, draft.choice.tier
    moved = shift(
        pod,
        subject.labels,
        policies=[one for one in subject.policies if one["metadata"]["name"] != subject.name],
        services=scene.services,
        budgets=scene.budgets,
        hooks=scene.hooks,
    )
    return Plan(
        action=request.action,
        summary=f"isolate pod {_place(pod)}" + (f" (already isolated as {found})" if found else ""),
        changes=changes,
        blast=_blast(scene, pod) if changes else Blast(),
        residual=(*draft.choice.still, *_known_limits(scene, request, draft)),
        undo=_undo(how.restoring, draft),
        params={
            "pod": _place(pod),
            "uid": pod["metadata"]["uid"],
            "expires": request.expires or "never",
            **({"escalate": request.escalate} if request.escalate != "none" else {}),
            **_shown(moved),
        },
        data=_data(scene, draft),
        asks=_asks(tier),
    )


def _draft(scene: Scene, request: Request) -> _Draft:
    pod = rewound(scene.pod, request.key)
    how = treatment(pod)
    if how.refusal:
        raise StepFailed(f"pod {_place(pod)} cannot be isolated: {how.refusal}")
    before = dict(pod["metadata"].get("labels") or {})
    found = before.get(LABEL, "")
    fresh = for_label(f"inc-{request.incident}-{pod['metadata']['uid'][:8]}")
    value = found or begun(scene.policies, policy_name(fresh), pod, LABEL) or fresh
    after = before if found else {**({} if how.strip else before), LABEL: value}
    marks = _marks(scene, pod, request, before)
    subject = Subject(
        pod=pod,
        labels=after,
        label=(LABEL, value),
        name=policy_name(value),
        system=f"cluster:{request.cluster}",
        marks=kept_twice(marks),
        policies=_as_before(scene, request.key, found, value),
    )
    choice = _choice(scene, request, subject, found)
    if choice.tier:
        by = {"by": request.key} if found else {}
        marks[ESCALATED] = json.dumps({**choice.tier.memory, **by}, sort_keys=True)
    return _Draft(pod=pod, found=found, subject=subject, choice=choice, marks=marks)


def _as_before(scene: Scene, key: str, found: str, value: str) -> list[Json]:
    """The policies without what this very step has done to them."""
    if found and memory_of(scene.pod, ESCALATED).get("by", key) != key:
        return scene.policies
    return tier_foreign.rewound(scene.policies, (LABEL, value))


def _choice(scene: Scene, request: Request, subject: Subject, found: str) -> Choice:
    """How much further to go. What another step has gone further with is left as it is."""
    memory = memory_of(scene.pod, ESCALATED) if found else {}
    if memory and memory.get("by") != request.key:
        return Choice(still=left_open(scene.ground, subject, memory, subject.policies))
    now = {item["metadata"]["name"]: item for item in scene.policies}
    return choose(scene.ground, subject, request.escalate, now)


def _changes(scene: Scene, request: Request, draft: _Draft) -> tuple[Change, ...]:
    """Every deny first, then the one patch of the pod, then what can wait."""
    subject, tier = draft.subject, draft.choice.tier
    policy = _policy(draft.pod, subject.name, subject.label[1], draft.marks)
    there = draft.found and _has(scene.policies, subject.name)
    changes = [] if there else [_creation(request, policy)]
    changes += tier.changes if tier else ()
    if draft.found:
        marks = {ESCALATED: draft.marks[ESCALATED]} if tier else {}
        again = _relabelling(request, scene.pod, draft.pod, subject.labels, marks)
        return (*changes, again) if tier else tuple(changes)
    changes.append(_relabelling(request, scene.pod, draft.pod, subject.labels, draft.marks))
    if scene.cron_job and SUSPENDED in draft.marks:
        changes.append(_suspension(request, scene.cron_job))
    return tuple(changes)


def _data(scene: Scene, draft: _Draft) -> dict[str, Any]:
    """What applying, proving and taking back need."""
    pod, subject, tier = draft.pod, draft.subject, draft.choice.tier
    how = treatment(pod)
    there = memory_of(scene.pod, ESCALATED) if draft.found else {}
    memory = json.loads(draft.marks[ESCALATED]) if tier else dict(there)
    return {
        "namespace": subject.namespace,
        "pod": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
        "label": subject.label[1],
        "policy": subject.name,
        "holds": [
            f"{subject.namespace}/{name}" for name in (pod["metadata"]["name"], subject.name)
        ],
        "labels": dict(subject.labels),
        "replacement": _replacement(scene, pod) if how.strip else "",
        "owner": _owner(pod),
        "still": list(draft.choice.still),
        "tier": memory,
        "joined": bool(draft.found and tier),  # only the further deny is this step's
    }


def _asks(tier: Tier | None) -> str:
    if tier is None or tier.level != "foreign":
        return ""
    return f"it changes NetworkPolicies of others: {tier.memory['names'].replace(' ', ', ')}"


def _shown(moved: Shift) -> dict[str, str]:
    words = {"no longer selected by": moved.stops, "newly selected by": moved.starts}
    return {name: ", ".join(found) for name, found in words.items() if found}


def _marks(scene: Scene, pod: Json, request: Request, before: Mapping[str, str]) -> dict[str, str]:
    owner = controller_of(pod)
    marks = {
        ORIGINAL: json.dumps(before, sort_keys=True),
        KEY: request.key,
        INCIDENT: str(request.incident),
    }
    if request.expires:
        marks[EXPIRES] = request.expires
    if owner:
        marks[OWNER] = word(owner)
    job = scene.cron_job
    if request.suspend_cronjob and job and _may_suspend(job, memory_of(scene.pod, SUSPENDED)):
        found = job["metadata"]
        marks[SUSPENDED] = word(Owner("CronJob", found["name"], found["uid"]))
    return marks


def _may_suspend(job: Json, done: Mapping[str, str]) -> bool:
    """Whether it runs, or this very step has suspended it."""
    suspended = (job.get("spec") or {}).get("suspend") is True
    return not suspended or done.get("uid") == job["metadata"]["uid"]


def _policy(pod: Json, name: str, value: str, marks: Mapping[str, str]) -> Json:
    return deny_all(
        name=name,
        namespace=pod["metadata"]["namespace"],
        label=(LABEL, value),
        annotations=kept_twice(marks),
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


def _suspension(request: Request, job: Json) -> Change:
    metadata = job["metadata"]
    ref = ObjectRef(
        kind="CronJob",
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        system=f"cluster:{request.cluster}",
    )
    return Change(verb="patch", ref=ref, before={"suspend": False}, after={"suspend": True})


def _known_limits(scene: Scene, request: Request, draft: _Draft) -> list[str]:
    tier = draft.choice.tier
    return [
        *([draft.choice.offer] if draft.choice.offer else []),
        request.connections,
        *consequences.limits(
            draft.pod,
            scene.owners,
            draft.subject.labels,
            services=scene.services,
            budgets=scene.budgets,
            claims=scene.claims,
            goes_on="" if SUSPENDED in draft.marks else scene.unsuspended or consequences.HINT,
        ),
        *(tier.notes if tier else ()),
    ]


def _undo(restoring: str, draft: _Draft) -> str:
    tier, parts = draft.choice.tier, []
    if not draft.found:
        parts.append(f"put the pod's labels back and delete NetworkPolicy {draft.subject.name}")
    if tier and tier.level == "foreign":
        parts.append(f"put the selectors of NetworkPolicy {tier.memory['names']} back")
    elif tier:
        parts.append(f"delete {tier.kind} {tier.memory['name']}")
    if draft.found:
        return "; ".join([*parts, "the pod stays isolated as it was"]) if parts else ""
    if SUSPENDED in draft.marks:
        parts.append("let its CronJob start again")
    return "; ".join([*parts, *([restoring] if restoring else [])])


def _owner(pod: Json) -> dict[str, str]:
    owner = controller_of(pod)
    return {"kind": owner.kind, "name": owner.name} if owner else {}


def _replacement(scene: Scene, pod: Json) -> str:
    owner = root(pod, scene.owners)
    return owner.label if owner else ""


def _blast(scene: Scene, pod: Json) -> Blast:
    return consequences.blast(
        pod,
        scene.owners,
        services=scene.services,
        slices=scene.slices,
        budgets=scene.budgets,
    )


def _has(policies: list[Json], name: str) -> bool:
    return any(item["metadata"]["name"] == name for item in policies)


def _place(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
