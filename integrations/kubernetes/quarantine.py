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
from integrations.kubernetes.owners import Owner, controller_of, root, treatment
from integrations.kubernetes.policy import deny_all
from integrations.kubernetes.selection import Shift, shift
from integrations.kubernetes.tier_model import Subject, Tier
from integrations.kubernetes.tiers import Choice, choose, left_open
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
    "is_ready",
    "mark",
    "policy_name",
    "rewound",
]

LABEL = "responder.dev/quarantine"
ORIGINAL = "responder.dev/original-labels"
KEY = "responder.dev/key"
INCIDENT = "responder.dev/incident"
EXPIRES = "responder.dev/expires-after"
OWNER = "responder.dev/released-by"
ESCALATED = "responder.dev/escalated"  # which deny there is beside the NetworkPolicy
SUSPENDED = "responder.dev/suspended"  # the CronJob that was suspended
MARKS = (ORIGINAL, KEY, INCIDENT, EXPIRES, OWNER, ESCALATED, SUSPENDED)
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


def policy_name(value: str) -> str:
    """The name of the policy that belongs to a quarantine label's value."""
    return f"responder-quarantine-{value}"


def design(scene: Scene, request: Request) -> Plan:
    """The plan for one pod. Raises `StepFailed` with the reason where it cannot be isolated.

    The same step asked again after it was half or wholly done gives the same plan. A pod that
    another step has isolated already is left as it is.
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
        undo=_undo(how.restoring, subject.name, tier, suspended=SUSPENDED in draft.marks),
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
    value = found or for_label(f"inc-{request.incident}-{pod['metadata']['uid'][:8]}")
    after = before if found else {**({} if how.strip else before), LABEL: value}
    marks = _marks(scene, pod, request, before)
    subject = Subject(
        pod=pod,
        labels=after,
        label=(LABEL, value),
        name=policy_name(value),
        system=f"cluster:{request.cluster}",
        marks=_kept_twice(marks),
        policies=scene.policies if found else tier_foreign.rewound(scene.policies, (LABEL, value)),
    )
    choice = _choice(scene, request, subject, found)
    if choice.tier:
        marks[ESCALATED] = json.dumps(dict(choice.tier.memory), sort_keys=True)
    return _Draft(pod=pod, found=found, subject=subject, choice=choice, marks=marks)


def _choice(scene: Scene, request: Request, subject: Subject, found: str) -> Choice:
    """How much further to go. What another step has isolated is judged, and left as it is."""
    if found:
        memory = _memory_of(scene.pod, ESCALATED)
        return Choice(still=left_open(scene.ground, subject, memory, subject.policies))
    now = {item["metadata"]["name"]: item for item in scene.policies}
    return choose(scene.ground, subject, request.escalate, now)


def _memory_of(pod: Json, key: str) -> Mapping[str, str]:
    """What a mark on the pod tells; nothing without it."""
    annotations = pod["metadata"].get("annotations") or {}
    return mark(annotations, key) if key in annotations else {}


def _changes(scene: Scene, request: Request, draft: _Draft) -> tuple[Change, ...]:
    """Every deny first, then the one patch of the pod, then what can wait."""
    subject, tier = draft.subject, draft.choice.tier
    policy = _policy(draft.pod, subject.name, subject.label[1], draft.marks)
    there = draft.found and _has(scene.policies, subject.name)
    changes = [] if there else [_creation(request, policy)]
    if draft.found:
        return tuple(changes)
    changes += tier.changes if tier else ()
    changes.append(_relabelling(request, scene.pod, draft.pod, subject.labels, draft.marks))
    if scene.cron_job and SUSPENDED in draft.marks:
        changes.append(_suspension(request, scene.cron_job))
    return tuple(changes)


def _data(scene: Scene, draft: _Draft) -> dict[str, Any]:
    """What applying, proving and taking back need."""
    pod, subject, tier = draft.pod, draft.subject, draft.choice.tier
    how = treatment(pod)
    memory = (
        dict(tier.memory) if tier else dict(_memory_of(scene.pod, ESCALATED)) if draft.found else {}
    )
    return {
        "namespace": subject.namespace,
        "pod": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
        "label": subject.label[1],
        "policy": subject.name,
        "labels": dict(subject.labels),
        "replacement": _replacement(scene, pod) if how.strip else "",
        "owner": _owner(pod),
        "still": list(draft.choice.still),
        "tier": memory,
    }


def _asks(tier: Tier | None) -> str:
    if tier is None or tier.level != "foreign":
        return ""
    return f"it changes NetworkPolicies of others: {tier.memory['names'].replace(' ', ', ')}"


def _shown(moved: Shift) -> dict[str, str]:
    words = {"no longer selected by": moved.stops, "newly selected by": moved.starts}
    return {name: ", ".join(found) for name, found in words.items() if found}


def rewound(pod: Json, key: str) -> Json:
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
        marks[OWNER] = _word(owner)
    job = scene.cron_job
    if request.suspend_cronjob and job and _may_suspend(job, _memory_of(scene.pod, SUSPENDED)):
        found = job["metadata"]
        marks[SUSPENDED] = _word(Owner("CronJob", found["name"], found["uid"]))
    return marks


def _word(owner: Owner) -> str:
    words = {"kind": owner.kind, "name": owner.name, "uid": owner.uid}
    return json.dumps(words, sort_keys=True)


def _may_suspend(job: Json, done: Mapping[str, str]) -> bool:
    """Whether it runs, or this very step has suspended it."""
    suspended = (job.get("spec") or {}).get("suspend") is True
    return not suspended or done.get("uid") == job["metadata"]["uid"]


def _kept_twice(marks: Mapping[str, str]) -> dict[str, str]:
    """What our own objects remember too: whoever can patch the pod cannot forge this copy."""
    kept = (ORIGINAL, KEY, INCIDENT, EXPIRES, ESCALATED, SUSPENDED)
    return {key: marks[key] for key in kept if key in marks}


def _policy(pod: Json, name: str, value: str, marks: Mapping[str, str]) -> Json:
    return deny_all(
        name=name,
        namespace=pod["metadata"]["namespace"],
        label=(LABEL, value),
        annotations=_kept_twice(marks),
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


def _undo(restoring: str, policy: str, tier: Tier | None, *, suspended: bool) -> str:
    parts = [f"put the pod's labels back and delete NetworkPolicy {policy}"]
    if tier and tier.level == "foreign":
        parts.append(f"put the selectors of NetworkPolicy {tier.memory['names']} back")
    elif tier:
        parts.append(f"delete {tier.kind} {tier.memory['name']}")
    if suspended:
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
