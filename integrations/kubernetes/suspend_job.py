# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.suspend_job`: stop a Job or a CronJob from starting pods.

Suspending a Job deletes its running pods, and their evidence with them
(https://kubernetes.io/docs/concepts/workloads/controllers/job/#suspending-a-job). A CronJob's
running Jobs go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from integrations.kubernetes import editing
from integrations.kubernetes.client import Json
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.paths import named
from integrations.kubernetes.rights import right
from integrations.kubernetes.workloads import workload_of
from responder.errors import StepFailed
from responder.model import Blast, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "SuspendJob"]

KINDS = ("CronJob", "Job")
INFO = ActionInfo(
    name="kubernetes.suspend_job",
    summary="Stop a CronJob, or a Job, from starting pods; a Job's running pods are deleted",
    effect=Effect.CHANGE,
    params={
        "workload": Param(type="string", summary="CronJob/x or Job/x; the target's by default"),
        "namespace": Param(type="string", summary="Namespace; the target's when left out"),
    },
    results={"workload": Param(type="string", summary="Kind/name that was suspended")},
    permissions=tuple(right(kind, "get", "patch", why="read it, suspend it") for kind in KINDS),
    undoable=True,
    concern="deployer",
    timeout=30.0,
    example={"workload": "CronJob/report"},
)


def _read(item: Json) -> dict[str, Any]:
    return {"suspend": (item.get("spec") or {}).get("suspend") is True}


_LENS = editing.Lens(read=_read, write=lambda values: {"spec": {"suspend": values["suspend"]}})


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class SuspendJob:
    """One value of one Job or CronJob."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read it, and say what is lost. Raises `StepFailed` for a Job that has ended."""
        api = self.fleet.api(call)
        kind, namespace, name = workload_of(call, KINDS)
        await self.fleet.require(api, self.info, namespace)
        item = await api.get(named(kind, namespace, name))
        if kind == "Job" and _ended(item):
            raise StepFailed(f"Job {namespace}/{name} has ended: there is nothing to suspend")
        plan = _design(call, item, kind)
        effect = Effect.DESTROY if plan.blast.pods else Effect.CHANGE
        changes = editing.change(api, item, kind, _LENS, {"suspend": True}, effect)
        if changes:
            plan = replace(plan, changes=changes)
        else:
            plan = replace(plan, summary=f"{plan.summary} (it is suspended already)", blast=Blast())
        await editing.rehearse(self.fleet, api, plan, _LENS)
        return plan

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Suspend it. Raises `Conflict` when it is another one by now."""
        await editing.apply(self.fleet.api(call), plan, _LENS)
        return Done(result={"workload": f"{plan.data['kind']}/{plan.data['name']}"})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read it afresh. Raises `StepFailed` when it is not suspended."""
        item = await editing.read(self.fleet.api(call), plan.data)
        editing.must_hold(item, plan.data, _LENS)
        active = _active(item)
        still = (f"{active} pods or jobs of it still run",) if active else ()
        return Verdict(
            level=VerdictLevel.APPLIED if active else VerdictLevel.ENFORCED,
            residual=still,
            checks={"suspend": "true"},
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Let it go on. Raises `Conflict` with the difference; one that is gone is fine."""
        await editing.undo(self.fleet.api(call), plan, _LENS)
        return Done()


def _design(call: Call, item: Json, kind: str) -> Plan:
    metadata = item["metadata"]
    active = _active(item)
    deleted = active if kind == "Job" else 0
    residual = []
    if deleted:
        residual.append(
            f"suspending DELETES its {deleted} running pods: isolate and capture them first"
        )
    if kind == "CronJob" and active:
        residual.append(f"{active} jobs that it has started go on: suspend them by name")
    return Plan(
        action=call.action,
        summary=f"suspend {kind} {metadata['namespace']}/{metadata['name']}",
        blast=Blast(
            pods=deleted,
            namespaces=(metadata["namespace"],),
            workloads=(f"{metadata['namespace']}/{kind}/{metadata['name']}",),
            labels=dict(metadata.get("labels") or {}),
        ),
        residual=tuple(residual),
        undo="let it go on; pods that were deleted come back as new ones",
        params={"workload": f"{kind}/{metadata['name']}", "namespace": metadata["namespace"]},
        data=editing.place_of(item, kind, _LENS, {"suspend": True}),
    )


def _active(item: Json) -> int:
    """A Job counts its running pods, a CronJob names its running Jobs."""
    found = (item.get("status") or {}).get("active") or 0
    return len(found) if isinstance(found, list) else int(found)


def _ended(item: Json) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(
        one["type"] in {"Complete", "Failed"} and one["status"] == "True" for one in conditions
    )
