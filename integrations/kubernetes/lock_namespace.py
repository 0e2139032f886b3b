# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.lock_namespace`: deny all traffic of every pod in a namespace, for a while.

It stops a whole application, so a person says yes each time, whatever the playbook's mode, and it
reverts when `expires` passes: the engine then runs this action's undo. An expiry that comes more
than an hour late (the product was down) opens nothing: a person is called instead.

It is one more NetworkPolicy, so what another policy allows stays allowed; the plan names those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import admission, standing
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist
from integrations.kubernetes.paths import collection, named, valid_name
from integrations.kubernetes.quarantine import INCIDENT, KEY, OPEN_CONNECTIONS, is_ready
from integrations.kubernetes.rights import right
from integrations.kubernetes.together import together
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Blast, Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending
from responder.text import for_label

__all__ = ["INFO", "LockNamespace"]

LOCK = "responder.dev/lock"
INFO = ActionInfo(
    name="kubernetes.lock_namespace",
    summary="Deny all traffic of every pod in a namespace until it expires; always asks first",
    effect=Effect.CHANGE,
    params={
        "namespace": Param(type="string", summary="Namespace; the target's when left out"),
        "expires": Param(
            type="duration", summary="When it reverts by itself; until then it holds", required=True
        ),
    },
    results={
        "namespace": Param(type="string", summary="Namespace that is locked"),
        "policy": Param(type="string", summary="Name of the NetworkPolicy"),
    },
    permissions=(
        right("Pod", "list", why="how many pods are cut off"),
        right("NetworkPolicy", "list", "get", "create", "delete", why="deny, prove, undo"),
    ),
    undoable=True,
    containment=True,
    on_expiry="revert",
    always_asks=True,
    timeout=30.0,
    recheck=standing.RECHECK,
    example={"namespace": "shop", "expires": "1h"},
)
_SPEC = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class LockNamespace:
    """One policy that denies both directions for all pods, those of tomorrow included."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Count the pods and read every policy. Raises `StepFailed` without a namespace."""
        api = self.fleet.api(call, "containment")
        namespace = str(call.params.get("namespace") or call.target.namespace)
        if not namespace:
            raise StepFailed("no namespace: give `namespace`, or a target that is in one")
        valid_name(namespace, "namespace")
        await self.fleet.require(api, self.info, namespace)
        pods, policies = await together(
            api.items(collection(kind, namespace), cached=True) for kind in ("Pod", "NetworkPolicy")
        )
        plan = _design(call, api, namespace, pods, policies)
        if self.fleet.dry_runs(api):
            await _rehearse(api, namespace, plan.changes[0].after)
        return plan

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Create the policy; one of this very step that is there already is fine."""
        await admission.put(self.fleet.api(call, "containment"), plan.changes[0].after)
        return Done(result={"namespace": plan.data["namespace"], "policy": plan.data["policy"]})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read all policies afresh; `residual` when another one still allows something.

        Never says more than `applied`: no packet was tried. Raises `StepFailed` when the policy is
        not there as made.
        """
        api = self.fleet.api(call)
        namespace, name = plan.data["namespace"], plan.data["policy"]
        policies = await api.items(collection("NetworkPolicy", namespace))
        own = next((one for one in policies if one["metadata"]["name"] == name), None)
        if own is None or own["spec"] != _SPEC:
            how = "was changed" if own else "is gone"
            raise StepFailed(f"NetworkPolicy {namespace}/{name} {how}: the lock does not hold")
        still = _still(policies, name)
        return Verdict(
            level=VerdictLevel.RESIDUAL if still else VerdictLevel.APPLIED,
            residual=(*still, *_LIMITS),
            checks={"policy": f"{name} denies ingress and egress of every pod"},
        )

    async def recheck(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The same long afterwards; see `standing` for the three answers it may give."""
        api = self.fleet.api(call)
        return await standing.lock(api, plan.data, lambda: self.verify(call, plan, result))

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Delete the policy. Raises `Conflict` when somebody has changed it since."""
        api = self.fleet.api(call, "containment")
        await insist(api, lambda: _remove(api, plan.data["namespace"], plan.data["policy"]))
        return Done()


_LIMITS = (
    OPEN_CONNECTIONS,
    "pods that use their node's network are not cut off",
)


def _design(call: Call, api: Api, namespace: str, pods: list[Json], policies: list[Json]) -> Plan:
    name = f"responder-lock-{for_label(f'inc-{call.incident}')}"
    policy = _policy(namespace, name, call)
    ref = ObjectRef(
        kind="NetworkPolicy", name=name, namespace=namespace, system=f"cluster:{api.cluster}"
    )
    running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
    ready = [pod for pod in running if is_ready(pod)]
    return Plan(
        action=call.action,
        summary=f"lock namespace {namespace}: deny all traffic of its {len(running)} running pods",
        changes=(Change(verb="create", ref=ref, after=policy),),
        blast=Blast(
            pods=len(running),
            ready_share=1.0 if ready else 0.0,
            namespaces=(namespace,),
            last_ready=bool(ready),
        ),
        residual=(*_still(policies, name), *_LIMITS),
        undo=f"delete NetworkPolicy {name}",
        params={
            "namespace": namespace,
            "expires": str(call.params.get("expires") or ""),
            "on expiry": "reverts; if it is more than an hour late, a person is called instead",
            "approval": "a person always says yes first",
        },
        data={"namespace": namespace, "policy": name},
    )


def _policy(namespace: str, name: str, call: Call) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {LOCK: for_label(f"inc-{call.incident}"), **admission.MANAGED},
            "annotations": {KEY: call.key, INCIDENT: str(call.incident)},
        },
        "spec": dict(_SPEC),
    }


def _still(policies: list[Json], own: str) -> tuple[str, ...]:
    """What other policies let through: policies add up, none takes away."""
    return tuple(
        f"NetworkPolicy {one['metadata']['name']} still allows {way}"
        for one in policies
        if one["metadata"]["name"] != own
        for way in _ways(one.get("spec") or {})
    )


def _ways(spec: Json) -> list[str]:
    """The directions in which a policy has a rule at all; a rule is there to allow something."""
    named = spec.get("policyTypes") or ["Ingress", "Egress"]
    return [way.lower() for way in ("Ingress", "Egress") if way in named and spec.get(way.lower())]


async def _rehearse(api: Api, namespace: str, policy: Json) -> None:
    try:
        await api.create(collection("NetworkPolicy", namespace), policy, dry_run=True)
    except Conflict:
        return  # it is there from an earlier try; applying looks whether it is ours


async def _remove(api: Api, namespace: str, name: str) -> None:
    path = named("NetworkPolicy", namespace, name)
    try:
        found = await api.get(path)
        if found["spec"] != _SPEC:
            raise Conflict(
                f"NetworkPolicy {namespace}/{name} was changed since: expected {_SPEC}, got "
                f"{found['spec']}; delete it by hand"
            )
        await api.delete(path, found["metadata"]["uid"])
    except NotFound:
        return
