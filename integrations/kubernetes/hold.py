# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.hold_pod`: nobody deletes or evicts an isolated pod, or opens its quarantine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import admission, holding, standing
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist, reference
from integrations.kubernetes.owners import controller_of, treatment
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.quarantine import LABEL, is_ready
from integrations.kubernetes.quarantine import policy_name as quarantine_policy
from integrations.kubernetes.rights import right
from integrations.kubernetes.together import together
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Blast, Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "HoldPod", "design"]

INFO = ActionInfo(
    name="kubernetes.hold_pod",
    summary="Hold an isolated pod: refuse its deletion, its eviction, and the quarantine's end",
    effect=Effect.CHANGE,
    params={
        "pod": Param(type="kubernetes.pod", summary="namespace/name, or a name", required=True)
    },
    results={
        "pod": Param(type="kubernetes.pod", summary="namespace/name of the held pod"),
        "uid": Param(type="string", summary="UID of the held pod"),
        "budget": Param(type="string", summary="Name of the PodDisruptionBudget"),
        "binding": Param(type="string", summary="Name of the admission policy's binding"),
    },
    permissions=(
        right("Pod", "get", "patch", why="read its label, tell the autoscalers, try the lock"),
        right("Namespace", "get", why="whether it is being deleted"),
        right("NetworkPolicy", "get", why="whether the quarantine's policy is there"),
        right("PodDisruptionBudget", "get", "create", "delete", why="refuse eviction, prove, undo"),
        right(admission.POLICY, "get", "create", "patch", why="refuse deletion and change"),
        right(admission.BINDING, "get", "create", "patch", "delete", why="for this pod, undo"),
    ),
    undoable=True,
    containment=True,
    concern="admission",
    timeout=30.0,
    recheck=standing.RECHECK,
    example={"pod": "shop/cart-7f9c"},
)
_LOOKS = 40  # how often the lock is tried until it holds: the API server reads policies each second
_PAUSE = 0.25  # seconds


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class HoldPod:
    """Budget, admission policy, annotations. Ended by its undo or by the pod's release."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the pod and what holds it. Raises `StepFailed` when it is not isolated."""
        api = self.fleet.api(call, "containment")
        namespace, name = self.fleet.place(call)
        await self.fleet.require(api, self.info, namespace)
        pod = await api.get(named("Pod", namespace, name))
        self.fleet.confirm(call, pod)
        place = await api.get(named("Namespace", "", namespace))
        user = await admission.username(api)
        plan = design(call, api, pod, user)
        if place["metadata"].get("deletionTimestamp"):
            raise StepFailed(
                f"namespace {namespace} is being deleted: nothing can be created in it any more; "
                f"capture pod {name} at once"
            )
        if self.fleet.dry_runs(api):
            await together(_rehearse(api, change) for change in plan.changes)
        return plan

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Put the locks there, the budget first. Raises `Conflict` for another pod."""
        api = self.fleet.api(call, "containment")
        for change in plan.changes:
            if change.ref.kind == admission.POLICY:
                await admission.install(api, change.after)
            elif change.verb == "create":
                await admission.put(api, change.after)
            else:
                body = _annotate(change)
                path = named("Pod", change.ref.namespace, change.ref.name)
                await insist(api, lambda path=path, body=body: api.patch(path, body))  # type: ignore[misc]
        hold = holding.Hold(**plan.data["hold"])
        return Done(
            result={
                "pod": f"{hold.namespace}/{hold.pod}",
                "uid": hold.uid,
                "budget": hold.name,
                "binding": f"{hold.home}-{hold.name}",
            }
        )

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Try every lock in a dry run; `enforced` only when each was refused.

        Raises `StepFailed` when pod, label, budget or policy is not as planned.
        """
        api = self.fleet.api(call)
        hold = holding.Hold(**plan.data["hold"])
        place = await api.get(named("Namespace", "", hold.namespace))
        pod = await _held(api, hold)
        await _as_planned(api, hold, plan.data["user"])
        locks = {
            "label": await _tried(api, lambda: _try_label(api, hold)),
            "delete": await _tried(api, lambda: _try_delete(api, hold)),
            "eviction": await _tried(api, lambda: _try_budget(api, hold)),
        }
        open_ = [
            f"the lock on {name} does not hold yet" for name, text in locks.items() if not text
        ]
        if place["metadata"].get("deletionTimestamp"):
            open_.append(
                f"ALARM: namespace {hold.namespace} is being deleted; the hold keeps pod and "
                "quarantine, and the deletion hangs until it is lifted; our RoleBinding there is "
                "gone as well, so lifting it needs rights that are bound in the whole cluster"
            )
        if not await admission.find(
            api, "NetworkPolicy", quarantine_policy(hold.value), hold.namespace
        ):
            open_.append(f"NetworkPolicy {quarantine_policy(hold.value)} is not there to be held")
        return Verdict(
            level=VerdictLevel.RESIDUAL if open_ else VerdictLevel.ENFORCED,
            residual=(*open_, *_limits(pod)),
            checks={name: text or "passed" for name, text in locks.items()},
        )

    async def recheck(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The same long afterwards; see `standing` for the three answers it may give."""
        found = holding.Hold(**plan.data["hold"])
        api = self.fleet.api(call)
        return await standing.hold(api, found, lambda: self.verify(call, plan, result))

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Take the locks away; the quarantine stays. Raises `Conflict` with the difference."""
        if plan.changes:
            hold = holding.Hold(**plan.data["hold"])
            await holding.lift(self.fleet.api(call, "containment"), hold)
        return Done()


# --------------------------------------------------------------------------- the plan, pure


def design(call: Call, api: Api, pod: Json, user: str) -> Plan:
    """The plan for one pod. Raises `StepFailed` when it is not isolated. Touches nothing."""
    metadata = pod["metadata"]
    place = f"{metadata['namespace']}/{metadata['name']}"
    value = (metadata.get("labels") or {}).get(LABEL)
    if not value:
        raise StepFailed(f"pod {place} is not isolated: expected label {LABEL}; isolate it first")
    hold = holding.Hold(
        home=_home(api),
        namespace=metadata["namespace"],
        pod=metadata["name"],
        uid=metadata["uid"],
        value=value,
    )
    annotations = metadata.get("annotations") or {}
    held = holding.HELD in annotations and _key(annotations) != call.key
    changes = () if held else tuple(_changes(call, api, pod, hold, user))
    return Plan(
        action=call.action,
        summary=f"hold pod {place}" + (" (already held)" if held else ""),
        changes=changes,
        blast=Blast(namespaces=(hold.namespace,)),
        residual=_limits(pod),
        undo="lift the hold: delete its bindings and budget; the policy stays, bound to nothing",
        params={"pod": place, "uid": hold.uid, "may pass": user},
        data={
            "hold": {
                "home": hold.home,
                "namespace": hold.namespace,
                "pod": hold.pod,
                "uid": hold.uid,
                "value": value,
            },
            "user": user,
            "holds": [
                f"{hold.namespace}/{name}"
                for name in (hold.pod, hold.name, quarantine_policy(hold.value))
            ],
        },
    )


def _changes(call: Call, api: Api, pod: Json, hold: holding.Hold, user: str) -> list[Change]:
    budget = holding.budget(hold, key=call.key, incident=call.incident)
    made = [budget, holding.lock(hold.home, user), *holding.bindings(hold)]
    changes = [_creation(api, item) for item in made]
    annotations = pod["metadata"].get("annotations") or {}
    old: dict[str, str | None] = {key: annotations.get(key) for key in holding.KEEP}
    if holding.HELD in annotations:  # this very step was here before
        old = holding.before(annotations)
    memory = json.dumps({"key": call.key, "home": hold.home, "before": old}, sort_keys=True)
    return [
        *changes,
        Change(
            verb="patch",
            ref=reference(api, "Pod", pod),
            before={"annotations": {key: text for key, text in old.items() if text}},
            after={"annotations": {**holding.KEEP, holding.HELD: memory}},
        ),
    ]


def _creation(api: Api, item: Json) -> Change:
    metadata = item["metadata"]
    ref = ObjectRef(
        kind=item["kind"],
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        system=f"cluster:{api.cluster}",
    )
    return Change(verb="create", ref=ref, after=item)


def _limits(pod: Json) -> tuple[str, ...]:
    limits = [*holding.deadlines(pod)]
    owner = controller_of(pod)
    if owner and not treatment(pod).strip:  # the others let go of it when it was isolated
        limits.append(
            f"{owner.label} cannot remove or replace it meanwhile: a rollout waits for it"
        )
    limits.append("a node under pressure, or a more urgent pod, may still end it: no rule is asked")
    if not is_ready(pod) and (pod.get("status") or {}).get("phase") == "Pending":
        limits.append("a pod that is still Pending can be evicted in spite of the budget")
    if pod["metadata"].get("deletionTimestamp"):
        limits.append("the pod is being deleted already: what is in it will be gone soon")
    return tuple(limits)


def _key(annotations: Mapping[str, str]) -> str:
    try:
        return str(json.loads(annotations[holding.HELD])["key"])
    except (ValueError, KeyError, TypeError):
        return ""


def _home(api: Api) -> str:
    return api.connection.settings.home


# --------------------------------------------------------------------------- outside


async def _rehearse(api: Api, change: Change) -> None:
    ref = change.ref
    if change.verb == "patch":
        await api.patch(named("Pod", ref.namespace, ref.name), _annotate(change), dry_run=True)
        return
    try:
        await api.create(collection(ref.kind, ref.namespace), change.after, dry_run=True)
    except Conflict:
        return  # it is there from an earlier try; applying looks whether it is as wanted


def _annotate(change: Change) -> Json:
    return {"metadata": {"uid": change.ref.uid, "annotations": change.after["annotations"]}}


async def _held(api: Api, hold: holding.Hold) -> Json:
    try:
        pod = await api.get(named("Pod", hold.namespace, hold.pod))
    except NotFound:
        raise StepFailed(f"pod {hold.namespace}/{hold.pod} is gone in spite of its hold") from None
    metadata = pod["metadata"]
    if metadata["uid"] != hold.uid:
        raise StepFailed(f"pod {hold.namespace}/{hold.pod} is another one now")
    if (metadata.get("labels") or {}).get(LABEL) != hold.value:
        raise StepFailed(f"pod {hold.namespace}/{hold.pod} lost its label {LABEL}={hold.value}")
    annotations = metadata.get("annotations") or {}
    lost = [key for key, text in holding.KEEP.items() if annotations.get(key) != text]
    if lost:
        raise StepFailed(f"pod {hold.namespace}/{hold.pod} lost {', '.join(lost)}")
    return pod


async def _as_planned(api: Api, hold: holding.Hold, user: str) -> None:
    budget = holding.budget(hold, key="", incident=0)
    for wanted in (budget, holding.lock(hold.home, user), *holding.bindings(hold)):
        metadata = wanted["metadata"]
        found = await admission.find(
            api, wanted["kind"], metadata["name"], metadata.get("namespace", "")
        )
        if not found or found["spec"] != wanted["spec"]:
            how = "was changed" if found else "is gone"
            raise StepFailed(f"{wanted['kind']} {metadata['name']} {how}: the pod is not held")


async def _tried(api: Api, attempt: Any) -> str:
    """Try a lock until it holds; what it said, or nothing when it never did."""
    for _ in range(_LOOKS):
        if text := await attempt():
            return str(text)
        await api.connection.world.clock.sleep(_PAUSE)
    return ""


async def _try_label(api: Api, hold: holding.Hold) -> str:
    path = named("Pod", hold.namespace, hold.pod)
    body: Json = {"metadata": {"uid": hold.uid, "labels": {LABEL: None}}}
    said = await admission.refusal(
        api.patch(path, body, dry_run=True), holding.policy_name(hold.home)
    )
    return "refused in a dry run" if said else ""


async def _try_delete(api: Api, hold: holding.Hold) -> str:
    path = named("PodDisruptionBudget", hold.namespace, hold.name)
    uid = (await api.get(path))["metadata"]["uid"]
    said = await admission.refusal(
        api.delete(path, uid, dry_run=True), holding.policy_name(hold.home)
    )
    return "refused in a dry run" if said else ""


async def _try_budget(api: Api, hold: holding.Hold) -> str:
    found = await api.get(named("PodDisruptionBudget", hold.namespace, hold.name))
    status = found.get("status") or {}
    seen = status.get("observedGeneration") == found["metadata"].get("generation")
    if not seen or not status.get("expectedPods") or status.get("disruptionsAllowed"):
        return ""
    return f"no disruption allowed for {status['expectedPods']} pod"
