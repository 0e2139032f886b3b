# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.cut_flows`: end the open connections of an isolated pod, after writing them down.

Half of the network plug-ins leave a connection alone that was open before a policy came, and a
reverse shell is such a connection. A pod of ours on the node takes its entries out of the
connection table: the next packet counts as a new connection, and the policy denies it. So it only
helps beside a quarantine, and it never says more than the table shows.

Off unless `[clusters.NAME.probe] cut_flows = true`, because that pod holds NET_ADMIN on the node's
network. What it cuts cannot be put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import probing_table
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.paths import named
from integrations.kubernetes.probing import Broken
from integrations.kubernetes.quarantine import LABEL
from integrations.kubernetes.rights import right
from responder.clock import iso
from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Blast, Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, EvidenceSink, Param, Pending

__all__ = ["INFO", "CutFlows"]

INFO = ActionInfo(
    name="kubernetes.cut_flows",
    summary="End the open connections of an isolated pod on its node; the list is kept first",
    effect=Effect.CHANGE,
    params={
        "pod": Param(type="kubernetes.pod", summary="namespace/name, or a name", required=True)
    },
    results={
        "entries": Param(type="int", summary="Entries taken out of the node's connection table"),
        "flows": Param(type="int", summary="Live connections before, the node's own apart"),
        "evidence": Param(type="string", summary="SHA-256 of the list that was kept before"),
    },
    permissions=(
        right("Pod", "get", why="its address and node"),
        right("Pod", "create", "list", "delete", scope="home", why="a short-lived pod on its node"),
        right("Pod", "get", sub="log", scope="home", why="the list that this pod prints"),
    ),
    concern="flows",
    containment=True,
    timeout=60.0,
    example={"pod": "shop/cart-7f9c"},
)
_COMES_BACK = 2.0  # seconds in which a connection that nothing denies shows up again


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class CutFlows:
    """List, keep, cut: in this order, so that what is cut is known."""

    fleet: Fleet
    sink: EvidenceSink
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the pod. Raises `StepFailed` where it is switched off or cannot help."""
        api = self.fleet.api(call)
        _must_be_allowed(api)
        namespace, name = self.fleet.place(call)
        await self.fleet.require(api, self.info, namespace)
        pod = await api.get(named("Pod", namespace, name))
        self.fleet.confirm(call, pod)
        node, address = _where(pod)
        ref = ObjectRef(
            kind="Connections",
            name=f"{name} ({address})",
            namespace=namespace,
            uid=pod["metadata"]["uid"],
            system=f"cluster:{api.cluster}",
        )
        return Plan(
            action=call.action,
            summary=f"cut the open connections of pod {namespace}/{name} on node {node}",
            changes=(Change(verb="delete", ref=ref, before="every entry of this address"),),
            blast=Blast(pods=1, namespaces=(namespace,), labels=_labels(pod)),
            residual=(*_open_to_all(pod), "what is cut cannot be put back"),
            params={"pod": f"{namespace}/{name}", "uid": pod["metadata"]["uid"], "node": node},
            data={"namespace": namespace, "pod": name, "uid": pod["metadata"]["uid"]},
        )

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Keep the list as evidence, then cut. Raises `StepRetry` when the node's pod fails."""
        api = self.fleet.api(call)
        _must_be_allowed(api)
        pod = await _pod(api, plan.data)
        try:
            sha, flows = await self._kept(call) or await self._keep(api, call, pod)
            entries = await probing_table.cut(api, call.key, pod)
        except Broken as error:
            raise StepRetry(f"cluster {api.cluster}: {error}") from error
        self.fleet.probers[api.cluster].forget(plan.data["uid"])
        return Done(result={"entries": entries, "flows": flows, "evidence": sha})

    async def _keep(self, api: Api, call: Call, pod: Json) -> tuple[str, int]:
        table = await probing_table.read(api, call.key, pod)
        metadata = pod["metadata"]
        flows = len(table.alive)
        origin = {
            "path": f"connection table of node {pod['spec']['nodeName']}",
            "address": pod["status"]["podIP"],
            "uid": metadata["uid"],
            "step": call.key,
            "flows": flows,
            "at": iso(api.connection.world.clock.now()),
        }
        folder = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid'][:8]}"
        return await self.sink.put(call, f"{folder}/connections.txt", table.raw, origin), flows

    async def _kept(self, call: Call) -> tuple[str, int] | None:
        """What this very step kept before a restart: a second list would lack what was cut."""
        for item in await self.sink.list(call.incident):
            if item["origin"].get("step") == call.key:
                return str(item["sha256"]), int(item["origin"]["flows"])
        return None

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """List the table again after a moment; what is there is `residual`, by name."""
        api = self.fleet.api(call)
        await api.connection.world.clock.sleep(_COMES_BACK)
        pod = await _pod(api, plan.data)
        try:
            table = await probing_table.read(api, f"{call.key}/after", pod)
        except Broken as error:
            why = f"whether they are gone is not known: {error}"
            return Verdict(level=VerdictLevel.APPLIED, residual=(why, *_open_to_all(pod)))
        left = tuple(f"open flow {flow.text}: it is there again" for flow in table.alive)
        residual = (*left, *_open_to_all(pod))
        return Verdict(
            level=VerdictLevel.RESIDUAL if residual else VerdictLevel.ENFORCED,
            residual=residual,
            checks={
                "cut": f"{result.get('entries')} entries, {result.get('flows')} live connections",
                "connection table": f"{len(left)} live connections left",
            },
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Not possible. Raises `StepFailed`."""
        raise StepFailed("connections that were cut cannot be put back; clients open new ones")


def _must_be_allowed(api: Api) -> None:
    if not api.connection.settings.probe.cut_flows:
        raise StepFailed(
            f"kubernetes.cut_flows is off; set image and cut_flows = true under "
            f"[clusters.{api.cluster}.probe]"
        )


def _where(pod: Json) -> tuple[str, str]:
    """Node and address. Raises `StepFailed` where there are none of the pod's own."""
    spec, status = pod["spec"], pod.get("status") or {}
    place = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
    if spec.get("hostNetwork"):
        raise StepFailed(f"{place} is on its node's network: its connections are the node's")
    if not spec.get("nodeName") or not status.get("podIP"):
        raise StepFailed(f"{place} does not run: it has no node or no address")
    return str(spec["nodeName"]), str(status["podIP"])


def _labels(pod: Json) -> dict[str, str]:
    return dict(pod["metadata"].get("labels") or {})


def _open_to_all(pod: Json) -> tuple[str, ...]:
    if LABEL in _labels(pod):
        return ()
    return ("the pod is not isolated, so its connections come back",)


async def _pod(api: Api, data: Mapping[str, Any]) -> Json:
    """The pod of the plan, as it is now. Raises `StepFailed` when it is gone or another one."""
    place = f"pod {data['namespace']}/{data['pod']}"
    try:
        pod = await api.get(named("Pod", data["namespace"], data["pod"]))
    except NotFound:
        raise StepFailed(f"{place} is gone, and its connections with it") from None
    if pod["metadata"]["uid"] != data["uid"]:
        raise StepFailed(f"{place} is another one now: UID {pod['metadata']['uid']}")
    return pod
