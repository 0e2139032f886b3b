# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.release_pod`, and the undo of a quarantine: labels back, policy away.

Both refuse, and show the difference, where somebody has changed pod or policy since. The policy
goes last: as long as the labels are not back, the pod stays cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from integrations.kubernetes import escalating, holding
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist, reference
from integrations.kubernetes.paths import named
from integrations.kubernetes.quarantine import (
    ESCALATED,
    LABEL,
    MARKS,
    ORIGINAL,
    OWNER,
    SUSPENDED,
    mark,
    policy_name,
)
from integrations.kubernetes.rights import right
from integrations.kubernetes.tier_rights import TAKING_BACK
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Blast, Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "Hold", "ReleasePod", "difference", "part", "restore"]

INFO = ActionInfo(
    name="kubernetes.release_pod",
    summary="End the isolation of one pod: put its labels back and delete its policy",
    effect=Effect.CHANGE,
    stage="released",
    params={
        "pod": Param(type="kubernetes.pod", summary="namespace/name, or a name", required=True)
    },
    results={
        "pod": Param(type="kubernetes.pod", summary="namespace/name of the released pod"),
        "uid": Param(type="string", summary="UID of the released pod"),
    },
    permissions=(
        right("Pod", "get", "patch", why="put its labels back"),
        right("NetworkPolicy", "get", "delete", why="take the policy away"),
        *TAKING_BACK,
    ),
    timeout=30.0,
    example={"pod": "shop/cart-7f9c"},
)
_TRIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One quarantine as it was made: what the pod must look like now, and what it looked like."""

    namespace: str
    pod: str
    uid: str
    policy: str
    value: str
    original: Mapping[str, str]
    labels: Mapping[str, str]
    marks: Mapping[str, str]
    tier: Mapping[str, str] = field(default_factory=dict)  # the deny beside the policy, if any
    suspended: Mapping[str, str] = field(default_factory=dict)  # its CronJob, if we stopped it
    selectors: Mapping[str, Json] = field(default_factory=dict)  # others' policies, if known

    @classmethod
    def of_plan(cls, plan: Plan) -> Hold:
        """The quarantine that a plan made."""
        data = plan.data
        patches = [change for change in plan.changes if change.verb == "patch"]
        patch = next((change for change in patches if change.ref.kind == "Pod"), None)
        marks = patch.after["annotations"] if patch else {}
        return cls(
            namespace=data["namespace"],
            pod=data["pod"],
            uid=data["uid"],
            policy=data["policy"],
            value=data["label"],
            original=patch.before["labels"] if patch else data["labels"],
            labels=data["labels"],
            marks=marks,
            **_beyond(marks),
            selectors={
                change.ref.name: change.before["podSelector"]
                for change in patches
                if change.ref.kind == "NetworkPolicy"
            },
        )

    @classmethod
    def of_pod(cls, pod: Json) -> Hold:
        """The quarantine that a pod's own marks tell of. Raises `StepFailed` when it has none."""
        metadata = pod["metadata"]
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        if LABEL not in labels or ORIGINAL not in annotations:
            raise StepFailed(
                f"pod {metadata['namespace']}/{metadata['name']} is not isolated by us: it has no "
                f"label {LABEL} with its annotation {ORIGINAL}"
            )
        original = mark(annotations, ORIGINAL)
        value = labels[LABEL]
        marks = {key: annotations[key] for key in MARKS if key in annotations}
        kept = original if any(key in labels for key in original) else {}
        return cls(
            namespace=metadata["namespace"],
            pod=metadata["name"],
            uid=metadata["uid"],
            policy=policy_name(value),
            value=value,
            original=original,
            labels={**kept, LABEL: value},
            marks=marks,
            **_beyond(marks),
        )

    @property
    def label(self) -> tuple[str, str]:
        """Key and value of the label that only this pod has."""
        return LABEL, self.value


def _beyond(marks: Mapping[str, str]) -> dict[str, Any]:
    """What the marks tell of a further deny and of a CronJob."""
    words = {"tier": ESCALATED, "suspended": SUSPENDED}
    return {name: mark(marks, key) if key in marks else {} for name, key in words.items()}


def difference(expected: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    """What is missing (-), new (+) and changed between two tables, in one line."""
    lines = [f"-{key}={expected[key]}" for key in sorted(expected.keys() - got.keys())]
    lines += [f"+{key}={got[key]}" for key in sorted(got.keys() - expected.keys())]
    lines += [
        f"{key}: expected {expected[key]}, got {got[key]}"
        for key in sorted(expected.keys() & got.keys())
        if expected[key] != got[key]
    ]
    return ", ".join(lines) or "no difference"


async def restore(api: Api, hold: Hold) -> None:
    """Put the pod's labels back, then take every deny away; what is done already stays done.

    A hold ends first. Raises `Conflict` with the difference before anything is touched.
    """
    await holding.release(api, hold.namespace, hold.pod, hold.uid)
    policy = await _policy(api, hold)
    await escalating.inspect(api, hold.tier, hold.namespace, hold.label, hold.selectors)
    await insist(api, lambda: _relabel(api, hold))
    if policy:
        path = named("NetworkPolicy", hold.namespace, hold.policy)
        await insist(api, lambda: _remove(api, path, policy["metadata"]["uid"]))
    await escalating.take_back(api, hold.tier, hold.namespace, hold.label)
    if hold.suspended:
        job = hold.suspended
        await escalating.suspend(api, hold.namespace, job["name"], job["uid"], stop=False)


async def part(api: Api, hold: Hold) -> None:
    """Take back only a further deny that a later step made; the pod stays isolated as it was.

    Raises `Conflict` with the difference before anything is touched.
    """
    await escalating.inspect(api, hold.tier, hold.namespace, hold.label, hold.selectors)
    path = named("Pod", hold.namespace, hold.pod)
    try:
        pod = await api.get(path)
        annotations = pod["metadata"].get("annotations") or {}
        ours = pod["metadata"]["uid"] == hold.uid and ESCALATED in annotations
        if ours and annotations[ESCALATED] == hold.marks[ESCALATED]:
            body = {"metadata": {"uid": hold.uid, "annotations": {ESCALATED: None}}}
            await insist(api, lambda: api.patch(path, body))
    except NotFound:
        pass  # the pod is gone; what was made for it goes all the same
    await escalating.take_back(api, hold.tier, hold.namespace, hold.label)


async def _policy(api: Api, hold: Hold) -> Json | None:
    try:
        found = await api.get(named("NetworkPolicy", hold.namespace, hold.policy))
    except NotFound:
        return None
    wanted = {
        "podSelector": {"matchLabels": {LABEL: hold.value}},
        "policyTypes": ["Ingress", "Egress"],
    }
    if found["spec"] != wanted:
        raise Conflict(
            f"NetworkPolicy {hold.namespace}/{hold.policy} was changed since: "
            f"{difference(wanted, found['spec'])}; delete it by hand"
        )
    return found


async def _relabel(api: Api, hold: Hold) -> None:
    path = named("Pod", hold.namespace, hold.pod)
    for _ in range(_TRIES):
        try:
            pod = await api.get(path)
        except NotFound:
            return
        if pod["metadata"]["uid"] != hold.uid or _is_restored(pod, hold):
            return
        _must_be_ours(pod, hold)
        try:
            await api.patch(path, _patch(pod, hold))
        except Conflict:
            continue  # its status moved between look and patch
        return
    raise Conflict(f"pod {hold.namespace}/{hold.pod} changes faster than it can be patched")


def _is_restored(pod: Json, hold: Hold) -> bool:
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    same = (metadata.get("labels") or {}) == hold.original
    return same and not any(key in annotations for key in hold.marks)


def _must_be_ours(pod: Json, hold: Hold) -> None:
    metadata = pod["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    marks = {key: annotations[key] for key in MARKS if key in annotations}
    if labels != hold.labels or marks != hold.marks:
        found = [difference(hold.labels, labels)] if labels != hold.labels else []
        found += [difference(hold.marks, marks)] if marks != hold.marks else []
        raise Conflict(
            f"pod {hold.namespace}/{hold.pod} was changed since it was isolated: "
            f"{'; '.join(found)}; take that back first, or release it by hand"
        )


def _patch(pod: Json, hold: Hold) -> Json:
    metadata = pod["metadata"]
    labels: dict[str, str | None] = dict.fromkeys(
        key for key in hold.labels if key not in hold.original
    )
    return {
        "metadata": {
            "uid": hold.uid,
            "resourceVersion": metadata["resourceVersion"],
            "labels": {**labels, **hold.original},
            "annotations": dict.fromkeys(hold.marks),
        }
    }


async def _remove(api: Api, path: str, uid: str) -> None:
    try:
        await api.delete(path, uid)
    except NotFound:
        return
    except Conflict as error:
        raise Conflict(f"{path}: another policy of this name is there now") from error


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class ReleasePod:
    """The undo of a quarantine for somebody who has only the pod's name."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the marks on the pod. Raises `StepFailed` when it is not isolated by us."""
        api = self.fleet.api(call)
        namespace, name = self.fleet.place(call)
        await self.fleet.require(api, self.info, namespace)
        pod = await api.get(named("Pod", namespace, name))
        self.fleet.confirm(call, pod)
        hold = Hold.of_pod(pod)
        _must_be_ours(pod, hold)
        policy = await _policy(api, hold)
        _must_agree(policy, hold)
        changes = [
            Change(
                verb="patch",
                ref=reference(api, "Pod", pod),
                before={"labels": dict(hold.labels), "annotations": dict(hold.marks)},
                after={"labels": dict(hold.original)},
                precondition={"resourceVersion": pod["metadata"]["resourceVersion"]},
            )
        ]
        if policy:
            ref = reference(api, "NetworkPolicy", policy)
            changes.append(Change(verb="delete", ref=ref, before=policy["spec"]))
        await escalating.inspect(api, hold.tier, namespace, hold.label, {})
        changes += _beyond_changes(api, hold)
        return Plan(
            action=call.action,
            summary=f"release pod {namespace}/{name}",
            changes=tuple(changes),
            blast=Blast(pods=1, namespaces=(namespace,), labels=dict(hold.original)),
            residual=(*_held(pod), *_consequence(hold)),
            params={"pod": f"{namespace}/{name}", "uid": hold.uid},
            data={"hold": _as_data(hold)},
        )

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Put the labels back and delete the policy. Raises `Conflict` with the difference."""
        hold = Hold(**plan.data["hold"])
        await restore(self.fleet.api(call, "containment"), hold)
        return Done(result={"pod": f"{hold.namespace}/{hold.pod}", "uid": hold.uid})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Look whether label and policy are gone. Raises `StepFailed` when not."""
        api = self.fleet.api(call)
        hold = Hold(**plan.data["hold"])
        if await _policy(api, hold):
            raise StepFailed(f"NetworkPolicy {hold.namespace}/{hold.policy} is still there")
        try:
            pod = await api.get(named("Pod", hold.namespace, hold.pod))
        except NotFound:
            return Verdict(level=VerdictLevel.APPLIED, residual=("the pod is gone",))
        if LABEL in (pod["metadata"].get("labels") or {}):
            raise StepFailed(f"pod {hold.namespace}/{hold.pod} still has its label {LABEL}")
        return Verdict(level=VerdictLevel.APPLIED, checks={"label": "gone", "policy": "gone"})

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Not offered: isolating again is a decision of its own. Raises `StepFailed`."""
        raise StepFailed("a release is not undone; run kubernetes.quarantine_pod again")


def _must_agree(policy: Json | None, hold: Hold) -> None:
    """The pod's own word on its labels is believed only as far as the policy's copy agrees."""
    if policy is None:
        return
    # what the mark of a further deny names is compared with what we make, whoever wrote the mark
    for key in (ORIGINAL, SUSPENDED):
        kept = (policy["metadata"].get("annotations") or {}).get(key)
        if kept != hold.marks.get(key):
            raise Conflict(
                f"pod {hold.namespace}/{hold.pod}: annotation {key} is not what NetworkPolicy "
                f"{hold.policy} remembers: expected {kept}, got {hold.marks.get(key)}"
            )


def _beyond_changes(api: Api, hold: Hold) -> list[Change]:
    """What is taken back beside label and policy; each is looked at again before."""
    system, tier, job = f"cluster:{api.cluster}", hold.tier, hold.suspended
    found = []
    if tier.get("level") == "foreign":
        told = "without the condition that leaves our pod out"
        for name in tier["names"].split():
            ref = ObjectRef(kind=tier["kind"], name=name, namespace=hold.namespace, system=system)
            found.append(Change(verb="patch", ref=ref, after={"podSelector": told}))
    elif tier:
        place = tier["namespace"]
        ref = ObjectRef(kind=tier["kind"], name=tier["name"], namespace=place, system=system)
        found.append(Change(verb="delete", ref=ref))
    if job:
        name, uid = job["name"], job["uid"]
        ref = ObjectRef(kind="CronJob", name=name, namespace=hold.namespace, uid=uid, system=system)
        after = {"suspend": False}
        found.append(Change(verb="patch", ref=ref, before={"suspend": True}, after=after))
    return found


def _held(pod: Json) -> tuple[str, ...]:
    held = holding.HELD in (pod["metadata"].get("annotations") or {})
    return ("it is held as evidence: its hold ends first",) if held else ()


def _consequence(hold: Hold) -> tuple[str, ...]:
    if OWNER not in hold.marks:
        return ()
    owner = mark(hold.marks, OWNER)
    label = f"{owner.get('kind')}/{owner.get('name')}"
    return (f"{label} takes it back, and deletes a pod that is one too many",)


def _as_data(hold: Hold) -> dict[str, Any]:
    return {one.name: getattr(hold, one.name) for one in fields(hold)}
