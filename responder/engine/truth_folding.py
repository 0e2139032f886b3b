"""Advance a step by what a later look found of its containment, and by what was put back.

Never decides anything: like `folding`, it only remembers what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from responder.engine import truth
from responder.engine.state import StepState
from responder.engine.state import evolve as replace
from responder.store.interface import Event

__all__ = ["FOLDED", "join"]


def join(steps: dict[str, StepState], instance: str) -> None:
    """Let the parent of a for_each say what its instances say now."""
    parent = instance.split("[", 1)[0]
    if steps[parent].verdict is None:
        return  # its instances have not all ended yet
    items = [steps[f"{parent}[{number}]"] for number in range(steps[parent].items)]
    verdicts = {item.id: item.verdict for item in items if item.verdict}
    steps[parent] = replace(steps[parent], verdict=truth.joined(verdicts))


def _asked(step: StepState, _event: Event) -> StepState:
    return replace(step, look=True) if truth.holding(step) else step


def _seen(step: StepState, _event: Event) -> StepState:
    return replace(step, look=False)


def _changed(step: StepState, event: Event) -> StepState:
    """Another verdict. What was lost long after it was last put back is counted anew."""
    lost = event.data.get("lost", "")
    quiet = not step.lost and event.at - step.put_done > truth.QUIET
    put_back = 0 if lost and quiet else step.put_back
    return replace(
        step,
        verdict=event.data["verdict"],
        look=False,
        lost=lost,
        putting=False,
        put_back=put_back,
        put_at=max(event.at, step.put_done + truth.pause(put_back)) if put_back else event.at,
        gave_up=step.gave_up if lost else "",
    )


def _ended(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        verdict=event.data.get("verdict", step.verdict),
        over=event.data["reason"],
        look=False,
        lost="",
        putting=False,
    )


def _started(step: StepState, event: Event) -> StepState:
    return replace(step, putting=True, put_back=event.data["attempt"], put_at=event.at)


def _done(step: StepState, event: Event) -> StepState:
    """It was put back; only the next look says whether it holds."""
    return replace(
        step,
        putting=False,
        look=True,
        put_done=event.at,
        put_at=event.at + truth.pause(step.put_back),
    )


def _failed(step: StepState, event: Event) -> StepState:
    gave_up = event.data["error"] if event.data.get("final") else ""
    return replace(
        step,
        putting=False,
        put_at=event.at + truth.pause(step.put_back),
        gave_up=gave_up,
        verdict=event.data.get("verdict", step.verdict),
    )


def _given_up(step: StepState, event: Event) -> StepState:
    return replace(step, gave_up=event.data["reason"], verdict=event.data["verdict"])


FOLDED: Mapping[str, Callable[[StepState, Event], StepState]] = {
    "truth_asked": _asked,
    "truth_same": _seen,
    "truth_unseen": _seen,
    "truth_changed": _changed,
    "truth_ended": _ended,
    "reassert_started": _started,
    "reassert_waits": lambda step, event: replace(step, put_at=event.data["until"]),
    "reasserted": _done,
    "reassert_failed": _failed,
    "reassert_given_up": _given_up,
}
