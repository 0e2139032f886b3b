"""The built-in action `undo`: a step of a playbook that reverses an earlier one.

It changes nothing itself: it asks for the undo, and waits until the machine has carried it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from responder.clock import SECOND
from responder.engine.state import RunState, StepState
from responder.model import Plan
from responder.store.interface import Event

__all__ = ["UNDO", "apply", "plan", "poll", "verify"]

UNDO = "undo"
_LOOK = SECOND // 5  # between two looks at an undo that the same run carries out


def plan(run: RunState, state: StepState, params: Mapping[str, Any], now: int) -> list[Event]:
    """An empty plan: what is reversed was planned and recorded before."""
    other = run.steps.get(str(params.get("step", "")))
    if other is None or not other.applied:
        reason = "there is nothing to undo"
        return [Event("step_skipped", now, {"step": state.id, "reason": reason})]
    made = Plan(action=UNDO, summary=f"undo step {other.id}", params=params)
    data = {"step": state.id, "plan": made.to_json(), "params": dict(params), "asks": ""}
    return [Event("step_planned", now, data)]


def apply(run: RunState, state: StepState, now: int) -> list[Event]:
    """Ask for the undo, once, and wait for it."""
    other = run.step(str(state.params["step"]))
    waiting = _waiting(state, other.id, now)
    if other.undo:
        return [waiting]
    return [Event("undo_asked", now, {"step": other.id, "person": "playbook"}), waiting]


def poll(run: RunState, state: StepState, now: int) -> list[Event]:
    """Whether the earlier step has been reversed."""
    other = run.step(str(state.state["undo"]))
    if other.undo == "done":
        return [Event("step_applied", now, {"step": state.id, "result": {}})]
    if other.undo == "failed":
        return [Event("step_failed", now, {"step": state.id, "error": other.undo_error})]
    return [_waiting(state, other.id, now)]


def verify(state: StepState, now: int) -> list[Event]:
    """The undo itself was verified by the action that carried it out."""
    verdict = {"level": "applied", "residual": [], "checks": {}}
    return [Event("step_done", now, {"step": state.id, "verdict": verdict})]


def _waiting(state: StepState, other: str, now: int) -> Event:
    data = {
        "step": state.id,
        "state": {"undo": other},
        "check_at": now + _LOOK,
        "waiting_for": f"the undo of {other}",
        "correlation": "",
    }
    return Event("step_pending", now, data)
