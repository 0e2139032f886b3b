"""From a failure to the journal events it means: one table, no I/O.

The class of the error says what may be done next (`responder.errors`); the phase says what could
already have happened. A change is never repeated where nobody can look whether it took place.
"""

from __future__ import annotations

from typing import Any

from responder.clock import SECOND
from responder.engine.machine import Command, Kind
from responder.engine.state import StepState
from responder.errors import Conflict, ResponderError, StepRetry, StoreUnavailable, Uncertain
from responder.playbook.definition import Step
from responder.store.interface import Event

__all__ = ["events_for"]

# How many temporary failures in a row end a step, by phase. Looking is cheap and bounded by the
# step's own timeout; planning and applying must not hammer, and must outlive ten minutes of outage.
TRIES = {Kind.PLAN: 13, Kind.APPLY: 13, Kind.POLL: 500, Kind.VERIFY: 20}
_RESUME = {Kind.PLAN: "plan", Kind.APPLY: "apply", Kind.POLL: "poll", Kind.VERIFY: "verify"}
_LONGEST = 300.0  # seconds between two tries


def events_for(
    error: Exception,
    *,
    step: Step,
    state: StepState,
    command: Command,
    looks_up: bool,
    now: int,
    jitter: float,
) -> list[Event]:
    """The events of one failed command. `jitter` is 0…1 and spreads the tries."""

    def event(type_: str, **data: Any) -> list[Event]:
        return [Event(type_, now, {"step": state.id, **data})]

    text = _text(error, command)
    if command.kind in {Kind.UNDO, Kind.UNDO_POLL}:
        return _undo_failed(error, command, state, text, now)
    if isinstance(error, Conflict) and command.kind in {Kind.APPLY, Kind.PLAN}:
        return event("step_conflict", error=text)
    if isinstance(error, Uncertain):
        return event("step_uncertain", error=text)
    bug = not isinstance(error, ResponderError | TimeoutError)
    temporary = isinstance(error, StepRetry | TimeoutError | Conflict | StoreUnavailable)
    applying = command.kind is Kind.APPLY
    if applying and not looks_up and (bug or isinstance(error, TimeoutError | StoreUnavailable)):
        return event("step_uncertain", error=text)
    if not temporary and not (bug and applying):
        return event("step_failed", error=text)
    away = isinstance(error, StepRetry) and error.turned_away  # coming back later is no attempt
    allowed = TRIES[command.kind]
    if step.retry and applying and not away:
        allowed = step.retry.attempts
    if state.tries + 1 >= allowed:
        return event("step_failed", error=f"{text} (gave up after {state.tries + 1} tries)")
    retry_at = now + int(_wait(error, step, state, jitter) * SECOND)
    resume = "anew" if applying and not looks_up else _RESUME[command.kind]
    if command.kind is Kind.POLL and looks_up and isinstance(error, StepRetry) and error.anew:
        resume = "apply"
    # Of what cannot be looked up only a sure "nothing happened" gets this far: it may begin anew.
    return event(
        "step_failed",
        error=text,
        temporary=True,
        retry_at=retry_at,
        resume=resume,
    )


def _undo_failed(
    error: Exception, command: Command, state: StepState, text: str, now: int
) -> list[Event]:
    data: dict[str, Any] = {"step": state.id, "error": text}
    if not isinstance(error, StepRetry | TimeoutError | StoreUnavailable):
        return [Event("undo_failed", now, data)]
    after = error.after if isinstance(error, StepRetry) else 2.0
    data["check_at"] = now + int(after * SECOND)
    if command.kind is Kind.UNDO_POLL:
        return [Event("undo_pending", now, {**data, "state": dict(state.undo_state)})]
    return [Event("undo_retry", now, data)]


def _wait(error: Exception, step: Step, state: StepState, jitter: float) -> float:
    """Seconds: what the other side asked for at least, doubling, never all at the same moment."""
    base = step.retry.backoff if step.retry else 1.0
    longest = step.retry.max if step.retry else _LONGEST
    grown = min(base * 2.0 ** min(state.tries, 16), longest)
    asked = error.after if isinstance(error, StepRetry) else 0.0
    return max(asked, grown * (0.5 + jitter / 2))


def _text(error: Exception, command: Command) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in time while {_DOING[command.kind]}"
    if isinstance(error, ResponderError):
        return str(error)
    # The text of an unknown error may carry anything: only its class leaves here.
    return f"internal error while {_DOING[command.kind]}: {type(error).__name__}"


_DOING = {
    Kind.PLAN: "planning",
    Kind.APPLY: "applying",
    Kind.POLL: "looking at what goes on elsewhere",
    Kind.VERIFY: "verifying",
    Kind.UNDO: "undoing",
    Kind.UNDO_POLL: "undoing",
    Kind.RESOLVE: "checking the target",
    Kind.RECORD: "recording",
}
