# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.scale_workload`: give a workload another number of replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from integrations.kubernetes import editing
from integrations.kubernetes.client import Json
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.owners import controller_of, ready_replicas
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.rights import right
from integrations.kubernetes.workloads import workload_of
from responder.errors import StepFailed
from responder.model import Blast, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "ScaleWorkload"]

KINDS = ("Deployment", "StatefulSet", "ReplicaSet")
_MOST = 10_000
_LOOK_AGAIN = 1.0  # seconds
INFO = ActionInfo(
    name="kubernetes.scale_workload",
    summary="Give a Deployment, StatefulSet or ReplicaSet another number of replicas",
    effect=Effect.CHANGE,
    params={
        "replicas": Param(type="int", summary="How many pods there shall be", required=True),
        "workload": Param(type="string", summary="Kind/name; the target's when left out"),
        "namespace": Param(type="string", summary="Namespace; the target's when left out"),
    },
    results={
        "workload": Param(type="string", summary="Kind/name that was scaled"),
        "replicas": Param(type="int", summary="Replicas it has now"),
        "former": Param(type="int", summary="Replicas it had before"),
    },
    permissions=(
        *(right(kind, "get", "patch", why="read and change its number") for kind in KINDS),
        right("HorizontalPodAutoscaler", "list", why="who would change the number back"),
    ),
    undoable=True,
    concern="deployer",
    timeout=120.0,
    example={"workload": "Deployment/cart", "replicas": 0},
)


def _read(item: Json) -> dict[str, Any]:
    return {"replicas": int((item.get("spec") or {}).get("replicas", 1))}


_LENS = editing.Lens(read=_read, write=lambda values: {"spec": {"replicas": values["replicas"]}})


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class ScaleWorkload:
    """One number of one workload; waits until the workload's controller has followed."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the workload. Raises `StepFailed` for one that something else scales."""
        api = self.fleet.api(call)
        replicas = call.params["replicas"]
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            raise StepFailed(f"replicas: expected a number from 0, got {replicas!r}")
        if replicas > _MOST:
            raise StepFailed(f"replicas: expected at most {_MOST}, got {replicas}")
        kind, namespace, name = workload_of(call, KINDS)
        await self.fleet.require(api, self.info, namespace)
        item = await api.get(named(kind, namespace, name))
        owner = controller_of(item)
        if owner:
            raise StepFailed(f"{kind}/{name} is scaled by {owner.label}: scale that one")
        scalers = await api.items(collection("HorizontalPodAutoscaler", namespace), cached=True)
        plan = _design(call, item, kind, replicas, _scalers(scalers, kind, name))
        changes = editing.change(api, item, kind, _LENS, {"replicas": replicas}, _effect(plan))
        plan = _with(plan, changes)
        await editing.rehearse(self.fleet, api, plan, _LENS)
        return plan

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Set the number. Raises `Conflict` when somebody else changed it since the plan."""
        await editing.apply(self.fleet.api(call), plan, _LENS)
        return await self.poll(call, {**plan.data, "wanted": plan.data["after"]["replicas"]})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look whether there are as many pods as wanted; it does not wait for them to be ready."""
        item = await editing.read(self.fleet.api(call), state)
        status = item.get("status") or {}
        seen = int(status.get("observedGeneration") or 0) >= item["metadata"].get("generation", 0)
        count = int(status.get("replicas") or 0)
        if seen and count == state["wanted"]:
            former = state["before"]["replicas"]
            label = f"{state['kind']}/{state['name']}"
            return Done(result={"workload": label, "replicas": state["wanted"], "former": former})
        text = f"{state['kind']} {state['namespace']}/{state['name']}: {count} of {state['wanted']}"
        return Pending(state=dict(state), after=_LOOK_AGAIN, waiting_for=text)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read it afresh; `residual` when the pods have not followed. Raises `StepFailed`."""
        item = await editing.read(self.fleet.api(call), plan.data)
        editing.must_hold(item, plan.data, _LENS)
        wanted, count = (
            plan.data["after"]["replicas"],
            (item.get("status") or {}).get("replicas", 0),
        )
        if count != wanted:
            told = (f"it still has {count} pods, expected {wanted}", *plan.residual)
            return Verdict(level=VerdictLevel.RESIDUAL, residual=told)
        checks = {"replicas": f"{wanted}, {ready_replicas(item)} ready"}
        return Verdict(level=VerdictLevel.ENFORCED, residual=plan.residual, checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Put the former number back. Raises `Conflict` when somebody else changed it since."""
        api = self.fleet.api(call)
        await editing.undo(api, plan, _LENS)
        return Done()


def _design(call: Call, item: Json, kind: str, replicas: int, scalers: list[str]) -> Plan:
    metadata = item["metadata"]
    before = _read(item)["replicas"]
    lost = max(before - replicas, 0)
    ready = ready_replicas(item)
    residual = [f"{scaler} may change the number back" for scaler in scalers]
    if lost:
        residual.append(f"{lost} pods are deleted, with what is in them: capture first")
    return Plan(
        action=call.action,
        summary=f"scale {kind} {metadata['namespace']}/{metadata['name']} from {before} to "
        f"{replicas}",
        blast=Blast(
            pods=lost,
            ready_share=min(lost / max(ready, 1), 1.0) if ready else 0.0,
            namespaces=(metadata["namespace"],),
            workloads=(f"{metadata['namespace']}/{kind}/{metadata['name']}",),
            last_ready=bool(ready and replicas == 0),
            labels=dict(metadata.get("labels") or {}),
        ),
        residual=tuple(residual),
        undo=f"scale it back to {before}; deleted pods come back as new ones",
        params={"workload": f"{kind}/{metadata['name']}", "replicas": replicas},
        data=editing.place_of(item, kind, _LENS, {"replicas": replicas}),
    )


def _effect(plan: Plan) -> Effect:
    return Effect.DESTROY if plan.blast.pods else Effect.CHANGE


def _with(plan: Plan, changes: Any) -> Plan:
    return replace(plan, changes=changes, blast=plan.blast if changes else Blast())


def _scalers(items: list[Json], kind: str, name: str) -> list[str]:
    found = []
    for item in items:
        ref = (item.get("spec") or {}).get("scaleTargetRef") or {}
        if (ref.get("kind"), ref.get("name")) == (kind, name):
            found.append(f"HorizontalPodAutoscaler {item['metadata']['name']}")
    return found
