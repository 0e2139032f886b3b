# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.evict_pod`: delete a pod the polite way, which its disruption budgets may refuse.

A refusal (429) is tried again, as the API asks
(https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import delete
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist, reference
from integrations.kubernetes.holding import HELD
from integrations.kubernetes.owners import controller_of
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.policy import selects
from integrations.kubernetes.rights import right
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Change, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "EvictPod"]

INFO = ActionInfo(
    name="kubernetes.evict_pod",
    summary="Evict one pod; its disruption budgets are asked and may refuse",
    effect=Effect.DESTROY,
    params={
        "pod": Param(type="kubernetes.pod", summary="namespace/name, or a name", required=True)
    },
    results={
        "pod": Param(type="kubernetes.pod", summary="namespace/name of the evicted pod"),
        "uid": Param(type="string", summary="UID of the evicted pod"),
    },
    permissions=(
        right("Pod", "get", why="look at it, see it gone"),
        right("Pod", "create", sub="eviction", why="ask for its end"),
        right("PodDisruptionBudget", "list", why="which budgets will refuse"),
    ),
    timeout=60.0,
    example={"pod": "shop/cart-7f9c"},
)


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class EvictPod:
    """Evicts exactly the pod that was planned, by its UID. Cannot be undone."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the pod and its budgets. Raises `StepFailed` for a pod that we hold."""
        api = self.fleet.api(call)
        namespace, name = self.fleet.place(call)
        await self.fleet.require(api, self.info, namespace)
        pod = await api.get(named("Pod", namespace, name))
        self.fleet.confirm(call, pod)
        if HELD in (pod["metadata"].get("annotations") or {}):
            raise StepFailed(
                f"pod {namespace}/{name} is held as evidence: undo the step that holds it first"
            )
        budgets = await api.items(collection("PodDisruptionBudget", namespace))
        return _design(call, api, pod, budgets)

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Ask for the eviction. Raises `StepRetry` while a budget refuses it."""
        api = self.fleet.api(call)
        await insist(api, lambda: _evict(api, plan.data))
        return await self.poll(call, plan.data)

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look whether the pod is gone: its containers get their time to end."""
        return await delete.ending(self.fleet.api(call), state)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Look once more. Raises `StepFailed` when the pod is still there."""
        if isinstance(await delete.ending(self.fleet.api(call), plan.data), Pending):
            raise StepFailed(f"pod {plan.params['pod']} is still there")
        return Verdict(
            level=VerdictLevel.ENFORCED, checks={"pod": f"UID {plan.data['uid']} is gone"}
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """An evicted pod does not come back. Raises `StepFailed`."""
        raise StepFailed(f"the eviction of pod {plan.params['pod']} cannot be undone")


def _design(call: Call, api: Api, pod: Json, budgets: list[Json]) -> Plan:
    metadata = pod["metadata"]
    place = f"{metadata['namespace']}/{metadata['name']}"
    labels = metadata.get("labels") or {}
    mine = [one for one in budgets if selects((one.get("spec") or {}).get("selector"), labels)]
    full = [
        f"PodDisruptionBudget {one['metadata']['name']} allows no disruption now: the eviction is "
        "refused until it does"
        for one in mine
        if int((one.get("status") or {}).get("disruptionsAllowed") or 0) < 1
    ]
    if len(mine) > 1:
        full.append(f"{len(mine)} budgets select it: the API server refuses such an eviction")
    owner = controller_of(pod)
    after = f"{owner.label} starts another from the same image" if owner else "nothing replaces it"
    return Plan(
        action=call.action,
        summary=f"evict pod {place}",
        changes=(
            Change(
                verb="delete",
                ref=reference(api, "Pod", pod),
                before={"labels": labels, "phase": (pod.get("status") or {}).get("phase")},
                effect=Effect.DESTROY,
            ),
        ),
        blast=delete.blast(pod),
        residual=(*full, "what is in its memory and its writable layer is gone for good", after),
        params={"pod": place, "uid": metadata["uid"]},
        data={"namespace": metadata["namespace"], "pod": metadata["name"], "uid": metadata["uid"]},
    )


async def _evict(api: Api, data: Mapping[str, Any]) -> None:
    path = named("Pod", data["namespace"], data["pod"])
    body: Json = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": data["pod"], "namespace": data["namespace"]},
        "deleteOptions": {"preconditions": {"uid": data["uid"]}},
    }
    try:
        # the API server repeats an eviction whose precondition fails for 10 s before it says so
        if (await api.get(path))["metadata"]["uid"] != data["uid"]:
            return  # another pod has its name by now: ours is gone
        await api.create(f"{path}/eviction", body)
    except (NotFound, Conflict):
        return  # gone, or replaced after our look; the precondition kept the other one safe
