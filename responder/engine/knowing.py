"""What a step may know of its run: the values of its expressions, and what was applied so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from responder.clock import SECOND, duration
from responder.engine import brakes
from responder.engine.state import RunState, StepState, StepStatus
from responder.model import Alert, Plan, Target
from responder.playbook.names import environment
from responder.ports import ActionInfo

__all__ = ["environment_of", "history", "lasting"]


def environment_of(run: RunState, state: StepState) -> dict[str, Any]:
    """The values that a step's expressions see."""
    env = environment(
        alert=Alert.from_json(run.alert) if run.alert else None,
        target=Target.from_json(run.target),
        incident={"number": run.incident},
        inputs=run.inputs,
        steps={s.id: _known(run, s) for s in run.steps.values() if "[" not in s.id},
        run={"id": run.id, "outcome": run.outcome or _so_far(run), "mode": run.mode.value},
        vars=run.playbook.vars,
    )
    if "[" in state.id:
        env["item"] = state.item
    return env


def _known(run: RunState, state: StepState) -> dict[str, Any]:
    """What others see of a step; of one with `for_each` also every element with its results."""
    env = state.to_env()
    if run.definition(state.id).for_each is not None:
        env["each"] = [{**one.to_env(), "item": one.item} for one in run.instances(state.id)]
    return env


def history(run: RunState, step_id: str, plan: Plan, window_pods: int) -> brakes.History:
    """What was already applied, apart from this step and its own pods, for the ceilings."""
    applied = [s for s in run.steps.values() if s.applied and s.id != step_id and s.plan]
    pods = {w for s in applied for w in _pods(s.plan or {})} - set(_pods(plan.to_json()))
    return brakes.History(
        run_pods=len(pods),
        run_nodes=sum(s.plan["blast"]["nodes"] for s in applied if s.plan),
        window_pods=window_pods,
    )


def _pods(plan: Mapping[str, Any]) -> list[str]:
    return [
        f"{c['ref'].get('namespace', '')}/{c['ref']['name']}"
        for c in plan.get("changes", ())
        if c["ref"]["kind"] == "Pod"
    ]


def _so_far(run: RunState) -> str:
    """What `run.outcome` says in `finally`, before the run has ended."""
    if run.cancelled:
        return "cancelled"
    failed = any(
        s.status is StepStatus.FAILED and run.definition(s.id).on_error != "continue"
        for s in run.steps.values()
    )
    return "failed" if failed or run.broken else "succeeded"


def lasting(info: ActionInfo, params: Mapping[str, Any], now: int) -> dict[str, Any]:
    """What the end of a step says of the time after it: when it expires, how often it is seen."""
    data: dict[str, Any] = {}
    expires = params.get("expires")
    if info.undoable and expires:
        seconds = duration(expires) if isinstance(expires, str) else float(expires)
        data = {"expires": now + int(seconds * SECOND), "on_expiry": info.on_expiry}
    return data | ({"recheck": int(info.recheck * SECOND)} if info.recheck else {})
