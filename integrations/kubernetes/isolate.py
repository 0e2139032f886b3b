# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.quarantine_pod`: cut one pod off from the network and keep it for the examiner."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from integrations.kubernetes import release, verifying
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist
from integrations.kubernetes.owners import chain
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.quarantine import KEY, LABEL, Request, Scene, design
from integrations.kubernetes.rights import right
from integrations.kubernetes.surroundings import Around, around
from integrations.kubernetes.together import together
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Change, Effect, Plan, Verdict
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "QuarantinePod"]

INFO = ActionInfo(
    name="kubernetes.quarantine_pod",
    summary="Isolate one pod: deny its traffic in both directions, take it out of its workload",
    effect=Effect.CHANGE,
    stage="contained",
    params={
        "pod": Param(type="kubernetes.pod", summary="namespace/name, or a name", required=True),
        "expires": Param(
            type="duration",
            summary="When a person is called about it; the pod stays isolated",
        ),
    },
    results={
        "policy": Param(type="string", summary="Name of the NetworkPolicy"),
        "pod": Param(type="kubernetes.pod", summary="namespace/name of the isolated pod"),
        "uid": Param(type="string", summary="UID of the isolated pod"),
        "replacement": Param(
            type="string", summary="Workload that starts a replacement; empty when none does"
        ),
    },
    permissions=(
        right("Pod", "get", "patch", why="read its identity, change its labels"),
        right("NetworkPolicy", "list", "get", "create", "delete", why="deny, prove, undo"),
        right("ReplicaSet", "get", why="what the owner will do"),
        right("ReplicationController", "get", why="what the owner will do"),
        right("StatefulSet", "get", why="what the owner will do"),
        right("DaemonSet", "get", why="what the owner will do"),
        right("Job", "get", why="what the owner will do"),
        right("Service", "list", why="which services lose an endpoint"),
        right("EndpointSlice", "list", why="which services lose their last endpoint"),
        right("PodDisruptionBudget", "list", why="which budgets are crossed"),
    ),
    undoable=True,
    containment=True,
    timeout=30.0,
    example={"pod": "shop/cart-7f9c", "expires": "4h"},
)
_TRIES = 4  # how often a mere status update may get between our look and our patch


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class QuarantinePod:
    """Policy first, then one patch of the pod, so that there is no moment with neither."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the pod and everything that selects it. Raises `StepFailed` where it must not be."""
        api = self.fleet.api(call, "containment")
        namespace, name = self.fleet.place(call)
        scene = await self._look(api, namespace, name)
        self.fleet.confirm(call, scene.pod)
        expires = call.params.get("expires")
        request = Request(
            action=call.action,
            cluster=api.cluster,
            incident=call.incident,
            key=call.key,
            expires=f"{expires:g}s" if isinstance(expires, int | float) else expires or "",
        )
        plan = design(scene, request)
        if self.fleet.dry_runs(api):
            await together(_rehearse(api, change) for change in plan.changes)
        return plan

    async def _look(self, api: Api, namespace: str, name: str) -> Scene:
        seen = self.fleet.looks[api.cluster].take(namespace, name)
        if seen and seen.around is not None:  # the target was checked a moment ago
            await self.fleet.require(api, self.info, namespace)
            return _scene(seen.pod, seen.owners, seen.around)

        async def itself() -> tuple[Json, list[Json]]:
            pod = await api.get(named("Pod", namespace, name))
            return pod, await chain(api, pod)

        may = self.fleet.require(api, self.info, namespace)
        work: list[Coroutine[Any, Any, Any]] = [may, itself(), around(api, namespace)]
        _, (pod, owners), near = await together(work)
        return _scene(pod, owners, near)

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Create the policy, then relabel the pod. Raises `Conflict` when the pod has changed."""
        api = self.fleet.api(call, "containment")
        try:
            for change in plan.changes:
                write = _create if change.verb == "create" else _relabel
                await insist(api, partial(write, api, change))
        except Conflict:
            await _tidy(api, call.key, plan.data)
            raise
        data = plan.data
        return Done(
            result={
                "policy": data["policy"],
                "pod": f"{data['namespace']}/{data['pod']}",
                "uid": data["uid"],
                "replacement": data["replacement"],
            }
        )

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Judge what was reached, on what is read afresh; see `verifying`.

        Raises `StepFailed` when label or policy is not there.
        """
        return await verifying.verify(self.fleet, call, plan)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Put the labels back and delete the policy. Raises `Conflict` with the difference."""
        api = self.fleet.api(call, "containment")
        if plan.changes:
            await release.restore(api, release.Hold.of_plan(plan))
        return Done()


def _scene(pod: Json, owners: list[Json], near: Around) -> Scene:
    policies, services, slices, budgets = near
    return Scene(
        pod=pod,
        owners=owners,
        policies=policies,
        services=services,
        slices=slices,
        budgets=budgets,
    )


async def _rehearse(api: Api, change: Change) -> None:
    """Ask the API server what it would say: rights, admission rules, validity."""
    ref = change.ref
    if change.verb == "create":
        try:
            await api.create(collection(ref.kind, ref.namespace), change.after, dry_run=True)
        except Conflict:
            return  # it exists from an earlier try; applying looks whether it is ours
    else:
        path = named(ref.kind, ref.namespace, ref.name)
        await api.patch(path, _patch(change, None), dry_run=True)


async def _create(api: Api, change: Change) -> None:
    ref = change.ref
    try:
        await api.create(collection(ref.kind, ref.namespace), change.after)
    except Conflict:
        found = await api.get(named(ref.kind, ref.namespace, ref.name))
        if not _ours(found, change.after):
            raise StepFailed(
                f"{ref.label} exists and is not the one this step makes; it was changed or is "
                "somebody else's: look at it and delete it"
            ) from None


async def _tidy(api: Api, key: str, data: Mapping[str, Any]) -> None:
    """Take back a policy of this very step whose pod did not get the label; else leave all as is.

    A new plan may find that another incident has isolated the pod: then ours would stay behind.
    """
    path = named("NetworkPolicy", data["namespace"], data["policy"])
    try:
        policy = await api.get(path)
        pod = await api.get(named("Pod", data["namespace"], data["pod"]))
        labels = pod["metadata"].get("labels") or {}
        mine = (policy["metadata"].get("annotations") or {}).get(KEY) == key
        if mine and labels.get(LABEL) != data["label"]:
            await api.delete(path, policy["metadata"]["uid"])
    except (NotFound, Conflict):
        return  # it is gone, or another one by now


def _ours(found: Json, wanted: Json) -> bool:
    labels = found["metadata"].get("labels") or {}
    same = labels.get(LABEL) == wanted["metadata"]["labels"][LABEL]
    return bool(same and found["spec"] == wanted["spec"])


async def _relabel(api: Api, change: Change) -> None:
    """Patch the pod; where only its status moved since the plan, with its present version."""
    ref = change.ref
    path = named(ref.kind, ref.namespace, ref.name)
    version = change.precondition["resourceVersion"]
    for _ in range(_TRIES):
        try:
            await api.patch(path, _patch(change, version))
        except Conflict:
            pod = await api.get(path)
            if _is_done(pod, change):
                return
            _must_be_planned(pod, change)
            version = pod["metadata"]["resourceVersion"]
        else:
            return
    raise Conflict(f"{ref.label} changes faster than it can be patched")


def _patch(change: Change, version: str | None) -> Json:
    """The merge patch; without a version (a null is no precondition) only for a dry run."""
    after = change.after["labels"]
    gone: dict[str, str | None] = {k: None for k in change.before["labels"] if k not in after}
    return {
        "metadata": {
            "uid": change.ref.uid,
            "resourceVersion": version,
            "labels": {**gone, **after},
            "annotations": change.after["annotations"],
        }
    }


def _is_done(pod: Json, change: Change) -> bool:
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    return bool(
        metadata["uid"] == change.ref.uid
        and (metadata.get("labels") or {}) == change.after["labels"]
        and all(annotations.get(key) == text for key, text in change.after["annotations"].items())
    )


def _must_be_planned(pod: Json, change: Change) -> None:
    metadata = pod["metadata"]
    if metadata["uid"] != change.ref.uid:
        raise Conflict(f"{change.ref.label} is another pod now: UID {metadata['uid']}")
    labels = metadata.get("labels") or {}
    if labels != change.before["labels"]:
        raise Conflict(
            f"{change.ref.label}: its labels changed since the plan: "
            f"{release.difference(change.before['labels'], labels)}"
        )
