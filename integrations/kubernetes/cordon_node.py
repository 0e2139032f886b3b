# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.cordon_node`: no new pod on a node; what runs there goes on.

Never a taint with `NoExecute`: it would evict the very pods that are evidence
(https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import editing
from integrations.kubernetes.client import Json
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.paths import named
from integrations.kubernetes.rights import right
from responder.errors import StepFailed
from responder.model import Blast, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "CordonNode"]

INFO = ActionInfo(
    name="kubernetes.cordon_node",
    summary="Let no new pod onto a node; the pods on it go on running",
    effect=Effect.CHANGE,
    params={
        "node": Param(type="string", summary="Node; the target's when left out"),
        "expires": Param(type="duration", summary="When it takes new pods again by itself"),
    },
    results={"node": Param(type="string", summary="Name of the node")},
    permissions=(right("Node", "get", "patch", why="read it, mark it unschedulable"),),
    undoable=True,
    concern="nodes",
    on_expiry="revert",
    timeout=30.0,
    example={"node": "worker-7", "expires": "4h"},
)


def _read(node: Json) -> dict[str, Any]:
    return {"unschedulable": (node.get("spec") or {}).get("unschedulable") is True}


_LENS = editing.Lens(
    read=_read, write=lambda values: {"spec": {"unschedulable": values["unschedulable"]}}
)


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class CordonNode:
    """One value of one node. A node that somebody else has cordoned is left to them."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the node. Raises `StepFailed` when none is named."""
        api = self.fleet.api(call)
        name = str(call.params.get("node") or call.target.node)
        if not name:
            raise StepFailed("no node: give `node`, or a target that runs on one")
        await self.fleet.require(api, self.info, api.connection.settings.home)
        node = await api.get(named("Node", "", name))
        after = {"unschedulable": True}
        changes = editing.change(api, node, "Node", _LENS, after)
        expires = call.params.get("expires")
        plan = Plan(
            action=call.action,
            summary=f"cordon node {name}" + ("" if changes else " (it is cordoned already)"),
            changes=changes,
            blast=Blast(nodes=1) if changes else Blast(),
            residual=(
                "the pods on it go on running; nothing is cut off",
                "a DaemonSet's new pods and static pods still start there",
            ),
            undo=f"let node {name} take new pods again",
            params={"node": name, "expires": str(expires or "never"), "on expiry": "reverts"},
            data=editing.place_of(node, "Node", _LENS, after),
        )
        await editing.rehearse(self.fleet, api, plan, _LENS)
        return plan

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Mark the node. Raises `Conflict` when it is another one by now."""
        await editing.apply(self.fleet.api(call), plan, _LENS)
        return Done(result={"node": plan.data["name"]})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read the node afresh. Raises `StepFailed` when it takes pods."""
        node = await editing.read(self.fleet.api(call), plan.data)
        editing.must_hold(node, plan.data, _LENS)
        return Verdict(level=VerdictLevel.ENFORCED, checks={"node": "unschedulable"})

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Let it take pods again; one that somebody uncordoned already is fine."""
        await editing.undo(self.fleet.api(call), plan, _LENS)
        return Done()
