# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.quarantine_pod`: cut one pod off from the network and keep it for the examiner."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from integrations.kubernetes import release, standing, surroundings, verifying, watching
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.consequences import claims_of
from integrations.kubernetes.enforcement_class import CONNECTIONS
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.ground import survey
from integrations.kubernetes.isolate_writes import carry_out, is_further, rehearse, tidy
from integrations.kubernetes.landscape import Landscape
from integrations.kubernetes.owners import chain, controller_of, root, treatment
from integrations.kubernetes.paths import named
from integrations.kubernetes.quarantine import KEY, LABEL, Request, Scene, design, rewound
from integrations.kubernetes.rights import right
from integrations.kubernetes.surroundings import Around, around
from integrations.kubernetes.tier_model import LEVELS
from integrations.kubernetes.tier_rights import LOOKING, WRITING
from integrations.kubernetes.together import together
from responder.errors import Conflict, ResponderError, StepFailed
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
        "escalate": Param(
            type="string",
            summary="How far to go by itself where another policy still allows something: none; "
            "admin (a deny before NetworkPolicy); native (one of Cilium or Calico too); foreign "
            "(the policies of others too, and a person always says yes first)",
            default="none",
        ),
        "suspend_cronjob": Param(
            type="bool",
            summary="Also stop the CronJob that started it from starting more",
            default=False,
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
        *watching.RIGHTS,
        *LOOKING,
        *WRITING,
    ),
    undoable=True,
    containment=True,
    timeout=30.0,
    recheck=standing.RECHECK,
    example={"pod": "shop/cart-7f9c", "expires": "4h"},
)
_NATIVE = ("native", "foreign")  # levels that may use a deny of the network plug-in


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class QuarantinePod:
    """Every deny first, then one patch of the pod, so that there is no moment with neither."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the pod and everything that selects it. Raises `StepFailed` where it must not be.

        A further deny that the API server would refuse is left out, and the plan says why: it
        never keeps the isolation itself from being done.
        """
        api = self.fleet.api(call, "containment")
        namespace, name = self.fleet.place(call)
        request = _request(call, api, CONNECTIONS[self.fleet.network(api)])
        scene = await self._look(api, namespace, name, request)
        self.fleet.confirm(call, scene.pod)
        plan = design(scene, request)
        base = [change for change in plan.changes if not is_further(change)]
        told: list[str] = []
        if self.fleet.dry_runs(api):
            told = await together(rehearse(api, change) for change in base)
        while refused := await _refused(api, plan.changes):
            scene = replace(scene, ground=scene.ground.without(refused))
            plan = design(scene, request)
        return replace(plan, residual=(*plan.residual, *filter(None, told)))

    async def _look(self, api: Api, namespace: str, name: str, request: Request) -> Scene:
        seen = self.fleet.looks[api.cluster].take(namespace, name)
        may, land = self.fleet.require(api, self.info, namespace), self.fleet.landscape(api)
        work: list[Coroutine[Any, Any, Any]] = [may, land]
        if seen and seen.around is not None and not _is_ours(seen.pod, request.key):
            _, found = await together(work)  # the target was checked a moment ago
            scene = _scene(seen.pod, seen.owners, seen.around, found)
        else:

            async def itself() -> tuple[Json, list[Json]]:
                pod = await api.get(named("Pod", namespace, name))
                return pod, await chain(api, rewound(pod, request.key))

            work += [itself(), around(api, namespace)]
            _, found, (pod, owners), near = await together(work)
            scene = _scene(pod, owners, near, found)
        return await _further(api, scene, found, request)

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Create the denies, then relabel the pod. Raises `Conflict` when something has changed."""
        api = self.fleet.api(call, "containment")
        data, underway = plan.data, api.connection.underway
        underway.begin(_begun(plan))
        try:
            for change in plan.changes:
                await carry_out(api, change)
        except BaseException as error:
            underway.end(_begun(plan))  # no proof will follow
            if isinstance(error, Conflict):
                await tidy(api, call.key, data)
            raise
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

    async def recheck(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The same long afterwards; see `standing` for the three answers it may give."""
        api = self.fleet.api(call)
        return await standing.isolation(
            api, plan.data, lambda: verifying.verify(self.fleet, call, plan)
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Put the labels back and delete the policy. Raises `Conflict` with the difference."""
        api = self.fleet.api(call, "containment")
        hold = release.Hold.of_plan(plan)
        if plan.data.get("joined"):
            await release.part(api, hold)
        elif plan.changes:
            await release.restore(api, hold)
        return Done()


def _begun(plan: Plan) -> Sequence[str]:
    """What this is the first isolation of; where there was one before, others may hold it too."""
    first = any(
        change.ref.kind == "Pod" and LABEL not in change.before["labels"] for change in plan.changes
    )
    return plan.data.get("holds", ()) if first else ()


def _request(call: Call, api: Api, connections: str) -> Request:
    expires = call.params.get("expires")
    level = str(call.params.get("escalate") or LEVELS[0])
    if level not in LEVELS:
        raise StepFailed(f"escalate: {level!r} is none of {', '.join(LEVELS)}")
    return Request(
        action=call.action,
        cluster=api.cluster,
        incident=call.incident,
        key=call.key,
        expires=f"{expires:g}s" if isinstance(expires, int | float) else expires or "",
        escalate=level,
        suspend_cronjob=bool(call.params.get("suspend_cronjob")),
        connections=connections,
    )


def _is_ours(pod: Json, key: str) -> bool:
    """Whether this very step has isolated it, so that its owners must be read by its memory."""
    return (pod["metadata"].get("annotations") or {}).get(KEY) == key


def _scene(pod: Json, owners: list[Json], near: Around, land: Landscape) -> Scene:
    policies, services, slices, budgets = near
    return Scene(
        pod=pod,
        owners=owners,
        policies=policies,
        services=services,
        slices=slices,
        budgets=budgets,
        hooks=land.hooks,
    )


async def _further(api: Api, scene: Scene, land: Landscape, request: Request) -> Scene:
    """What only some pods and some clusters need to be asked for; mostly nothing."""
    pod = rewound(scene.pod, request.key)
    replaced = treatment(pod).strip and controller_of(pod) is not None
    owner = root(pod, scene.owners)
    job = owner if request.suspend_cronjob and owner and owner.kind == "CronJob" else None
    native = request.escalate in _NATIVE
    namespace = pod["metadata"]["namespace"]
    work: list[Coroutine[Any, Any, Any]] = [
        survey(api, land, namespace, native=native),
        surroundings.claims(api, namespace, claims_of(pod) if replaced else []),
        surroundings.cron_job(api, namespace, job),
    ]
    ground, claims, (found, why) = await together(work)
    return replace(scene, ground=ground, claims=claims, cron_job=found, unsuspended=why)


async def _refused(api: Api, changes: Sequence[Change]) -> dict[str, str]:
    """The further denies that the API server would not take, by kind, with its reason."""

    async def tried(change: Change) -> tuple[str, str]:
        try:
            await rehearse(api, change)
        except ResponderError as error:  # a fault that may pass, too: the isolation cannot wait
            return change.ref.kind, str(error)
        return "", ""

    found = await together(tried(change) for change in changes if is_further(change))
    return {kind: why for kind, why in found if kind}
