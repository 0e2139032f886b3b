# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.await_image`: wait until a workload, changed by its owner, runs an image by digest.

For what a GitOps tool owns: the change goes through its source, and this is the proof that it has
arrived. Never writes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from integrations.kubernetes import redeploy, rollout
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.paths import named
from integrations.kubernetes.rights import right
from integrations.kubernetes.workloads import workload_of
from responder.clock import SECOND, duration
from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Effect, Plan, Verdict
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "AwaitImage"]

_LOOK_AGAIN = 5.0  # seconds
_WITHIN = "30m"
INFO = ActionInfo(
    name="kubernetes.await_image",
    summary="Wait until a workload that its owner changes runs an image by digest",
    effect=Effect.READ,
    stage="rolled-out",
    params={
        "workload": Param(
            type="string",
            summary="Deployment/x, StatefulSet/x, DaemonSet/x or CronJob/x",
            required=True,
        ),
        "image": Param(type="image", summary="repository@sha256:…", required=True),
        "namespace": Param(type="string", summary="Namespace; the target's when left out"),
        "cluster": Param(type="string", summary="Cluster; the target's when left out"),
        "within": Param(type="duration", summary="how long it may take", default=_WITHIN),
    },
    results={
        "workload": Param(type="string", summary="Kind/name that runs it"),
        "image": Param(type="image", summary="Image that runs now"),
    },
    permissions=(
        *(right(kind, "get", why="see its image and rollout") for kind in redeploy.KINDS),
        right("Pod", "list", why="see what its pods run"),
    ),
    timeout=60.0,
    example={"workload": "Deployment/cart", "image": "registry.example/shop/cart@sha256:…"},
)


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class AwaitImage:
    """Looks until it is there, it fails, or the time is over."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """An empty plan. Raises `StepFailed` without a digest, the workload or the rights."""
        api = self._api(call)
        image = rollout.pinned(str(call.params["image"]))
        place = workload_of(call, redeploy.KINDS)
        try:
            seconds = duration(str(call.params.get("within") or _WITHIN))
        except ValueError as error:
            raise StepFailed(f"within: {error}") from None
        await self.fleet.require(api, self.info, place[1])
        workload = await _read(api, place)
        label = rollout.label(workload)
        return Plan(
            action=call.action,
            summary=f"wait until {label} runs {image}",
            params={"workload": f"{place[0]}/{place[2]}", "namespace": place[1], "image": image},
            data={"place": list(place), "image": image, "within": seconds},
        )

    def _api(self, call: Call) -> Api:
        cluster = str(call.params.get("cluster") or "")
        target = replace(call.target, cluster=cluster) if cluster else call.target
        return self.fleet.api(replace(call, target=target))

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Begin to look."""
        now = self._api(call).connection.world.clock.now()
        return await self.poll(call, {**plan.data, "since": call.started or now, "sick": ""})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """See how far its owner is. Raises `StepFailed` when the rollout fails or takes long."""
        api = self._api(call)
        try:
            workload = await _read(api, state["place"])
            pods = await redeploy.pods_of(api, workload)
        except StepRetry as silent:
            return self._later(api, state, str(silent))
        except NotFound:
            return self._later(api, state, "it is not there")
        container, image = _named(workload, state["image"])
        if not container:
            shown = ", ".join(rollout.images(workload))
            return self._later(api, state, f"its owner has not changed it yet: {shown}")
        progress = rollout.progress(workload)
        if progress.failed:
            raise StepFailed(_failure(workload, state, progress.failed))
        if progress.done:
            kind, _, name = state["place"]
            return Done(result={"workload": f"{kind}/{name}", "image": state["image"]})
        sick = rollout.sickness(pods, container, image)
        if sick and sick == state["sick"]:
            raise StepFailed(_failure(workload, state, sick))
        return self._later(api, {**state, "sick": sick}, progress.text)

    @staticmethod
    def _later(api: Api, state: Mapping[str, Any], words: str) -> Pending:
        kind, namespace, name = state["place"]
        label = f"{kind} {namespace}/{name}"
        if api.connection.world.clock.now() > state["since"] + int(state["within"] * SECOND):
            raise StepFailed(
                f"{label} does not run {state['image']} after {state['within']:g} s: {words}"
            )
        return Pending(state=dict(state), after=_LOOK_AGAIN, waiting_for=f"{label}: {words}")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """What every pod reports; `residual` names pods that still run another image."""
        api = self._api(call)
        workload = await _read(api, plan.data["place"])
        container, image = _named(workload, plan.data["image"])
        if not container:
            shown = ", ".join(rollout.images(workload))
            raise StepFailed(
                f"{rollout.label(workload)}: expected {plan.data['image']}, got {shown}"
            )
        pods = await redeploy.pods_of(api, workload)
        return redeploy.judged(workload, pods, container, image)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing was changed."""
        return Done()


async def _read(api: Api, place: tuple[str, str, str] | list[str]) -> Json:
    kind, namespace, name = place
    return {**await api.get(named(kind, namespace, name)), "kind": kind}


def _named(workload: Json, image: str) -> tuple[str, str]:
    """The container that names the image by its digest, and how; empty while there is none.

    A tag beside the digest says nothing: the digest alone is pulled.
    """
    wanted = (rollout.repository(image), image.rpartition("@")[2])
    for one in rollout.template_of(workload)["spec"].get("containers") or []:
        found = str(one.get("image") or "")
        if "@" in found and (rollout.repository(found), found.rpartition("@")[2]) == wanted:
            return str(one["name"]), found
    return "", ""


def _failure(workload: Json, state: Mapping[str, Any], why: str) -> str:
    return f"{rollout.label(workload)}: the rollout of {state['image']} fails: {why}"
