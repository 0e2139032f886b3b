# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.delete_pod`: end one isolated pod for good, after what it can tell was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist, reference
from integrations.kubernetes.holding import HELD
from integrations.kubernetes.owners import controller_of
from integrations.kubernetes.paths import named
from integrations.kubernetes.quarantine import LABEL, is_ready
from integrations.kubernetes.rights import right
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Blast, Change, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "DeletePod", "blast", "ending"]

INFO = ActionInfo(
    name="kubernetes.delete_pod",
    summary="Delete one isolated pod and wait until it is gone",
    effect=Effect.DESTROY,
    stage="removed",
    params={
        "pod": Param(type="kubernetes.pod", summary="namespace/name, or a name", required=True),
        "force": Param(
            type="bool", summary="Also when the pod is not isolated by us", default=False
        ),
    },
    results={
        "pod": Param(type="kubernetes.pod", summary="namespace/name of the deleted pod"),
        "uid": Param(type="string", summary="UID of the deleted pod"),
    },
    permissions=(right("Pod", "get", "delete", why="look at it, delete it, see it gone"),),
    timeout=60.0,
    example={"pod": "shop/cart-7f9c"},
)
_LOOK_AGAIN = 1.0  # seconds


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class DeletePod:
    """Deletes exactly the pod that was planned, by its UID. Cannot be undone."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the pod. Raises `StepFailed` when it is not isolated and `force` is not set."""
        api = self.fleet.api(call)
        namespace, name = self.fleet.place(call)
        await self.fleet.require(api, self.info, namespace)
        pod = await api.get(named("Pod", namespace, name))
        self.fleet.confirm(call, pod)
        labels = pod["metadata"].get("labels") or {}
        if LABEL not in labels and call.params.get("force") is not True:
            raise StepFailed(
                f"pod {namespace}/{name} is not isolated: expected label {LABEL}; isolate it "
                "first, or set force: true"
            )
        if HELD in (pod["metadata"].get("annotations") or {}):
            raise StepFailed(
                f"pod {namespace}/{name} is held as evidence: undo the step that holds it first"
            )
        return Plan(
            action=call.action,
            summary=f"delete pod {namespace}/{name}",
            changes=(
                Change(
                    verb="delete",
                    ref=reference(api, "Pod", pod),
                    before={"labels": labels, "phase": (pod.get("status") or {}).get("phase")},
                    effect=Effect.DESTROY,
                ),
            ),
            blast=blast(pod),
            residual=("what is in its memory and its writable layer is gone for good",),
            params={"pod": f"{namespace}/{name}", "uid": pod["metadata"]["uid"]},
            data={"namespace": namespace, "pod": name, "uid": pod["metadata"]["uid"]},
        )

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Ask for the end of the pod with this UID; one that is gone already is fine."""
        api = self.fleet.api(call)
        await insist(api, lambda: _delete(api, plan.data))
        return await self.poll(call, plan.data)

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look whether the pod is gone: its containers get their time to end."""
        return await ending(self.fleet.api(call), state)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Look once more. Raises `StepFailed` when the pod is still there."""
        if not await _is_gone(self.fleet.api(call), plan.data):
            raise StepFailed(f"pod {plan.params['pod']} is still there")
        return Verdict(
            level=VerdictLevel.ENFORCED, checks={"pod": f"UID {plan.data['uid']} is gone"}
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """A deleted pod does not come back. Raises `StepFailed`."""
        raise StepFailed(f"the deletion of pod {plan.params['pod']} cannot be undone")


def blast(pod: Json) -> Blast:
    """What is lost with a pod; one that is isolated serves nobody."""
    metadata = pod["metadata"]
    owner = controller_of(pod)
    workload = owner.label if owner else f"Pod/{metadata['name']}"
    serving = LABEL not in (metadata.get("labels") or {}) and is_ready(pod)
    return Blast(
        pods=1,
        ready_share=1.0 if serving and owner is None else 0.0,
        last_ready=serving and owner is None,
        namespaces=(metadata["namespace"],),
        workloads=(f"{metadata['namespace']}/{workload}",),
        labels=dict(metadata.get("labels") or {}),
    )


async def ending(api: Api, state: Mapping[str, Any]) -> Done | Pending:
    """Whether the pod of this UID is gone, or is still waited for."""
    place = f"{state['namespace']}/{state['pod']}"
    if await _is_gone(api, state):
        return Done(result={"pod": place, "uid": state["uid"]})
    return Pending(state=dict(state), after=_LOOK_AGAIN, waiting_for=f"pod {place} (terminating)")


async def _delete(api: Api, data: Mapping[str, Any]) -> None:
    try:
        await api.delete(named("Pod", data["namespace"], data["pod"]), data["uid"])
    except (NotFound, Conflict):
        return  # gone, or another pod has its name by now: ours is gone


async def _is_gone(api: Api, data: Mapping[str, Any]) -> bool:
    try:
        pod = await api.get(named("Pod", data["namespace"], data["pod"]))
    except NotFound:
        return True
    return bool(pod["metadata"]["uid"] != data["uid"])
