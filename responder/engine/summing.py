"""A run in a word: its status, what it waits for, until when, and how it ends. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from responder.engine import truth
from responder.engine.state import RunState, StepState, StepStatus

__all__ = ["next_due", "outcome_of", "status_of", "waiting_for"]


def outcome_of(run: RunState) -> tuple[str, str]:
    """How a run ends when nothing is left to do, and why, for a person."""
    steps = [run.step(step_id) for step_id in run.playbook.steps]
    if run.rolling_back:  # before a cancel: what is changed outside matters more
        return _taken_back(run)
    if run.cancelled:
        return "cancelled", f"cancelled by {run.cancelled}"
    if run.broken:
        return "failed", run.broken
    failed = [s for s in steps if s.status is StepStatus.FAILED]
    fatal = [s for s in failed if run.definition(s.id).on_error != "continue"]
    if fatal:
        return "failed", f"{fatal[0].id}: {fatal[0].error}"
    skipped = [s for s in steps if s.status is StepStatus.SKIPPED and s.halts]
    if skipped:
        return "failed", f"{skipped[0].id}: {skipped[0].reason}"
    notes = [f"{s.id} failed and was allowed to: {s.error}" for s in failed]
    closing = [run.step(step.id) for step in run.playbook.finally_]
    notes += [f"{s.id} failed: {s.error}" for s in closing if s.status is StepStatus.FAILED]
    return "succeeded", "; ".join(notes)


def _taken_back(run: RunState) -> tuple[str, str]:
    stuck = [s.id for s in run.steps.values() if s.undo == "failed"]
    if stuck:
        return "needs-attention", f"undo failed for {', '.join(stuck)}"
    stays = [s.id for s in run.steps.values() if s.applied and not s.reversible]
    why = next((f"{s.id}: {s.error}" for s in run.steps.values() if s.error), "taken back")
    return "undone", why + (f"; cannot be taken back: {', '.join(stays)}" if stays else "")


def status_of(run: RunState) -> str:
    """The one word for a run, as every door shows it."""
    if run.outcome:
        return run.outcome
    states = [state.status for state in run.steps.values()]
    if StepStatus.WAITING_APPROVAL in states or StepStatus.UNCERTAIN in states:
        return "waiting-approval"
    if StepStatus.WAITING_EXTERNAL in states:
        return "waiting-external"
    return "running"


def waiting_for(run: RunState) -> str:
    """Everything the run waits for, in one line."""
    waits = [f"{s.id}: {s.waiting_for}" for s in run.steps.values() if s.waiting_for]
    return "; ".join(waits)


def next_due(run: RunState, now: int) -> int | None:
    """The earliest moment at which time alone changes the answer."""
    times = [t for state in run.steps.values() for t in _times(run, state) if t > now]
    return min(times, default=None)


def _times(run: RunState, state: StepState) -> Iterator[int]:
    step = run.definition(state.id)
    if state.status is StepStatus.WAITING_APPROVAL:
        yield state.until
    if state.status is StepStatus.WAITING_EXTERNAL:
        yield state.check_at
    if state.status is StepStatus.RETRYING:
        yield state.retry_at
    if (ends := state.ends(step.timeout or 0.0)) and not state.status.ended:
        yield ends
    if state.undo in {"pending", "retry"}:
        yield state.undo_at
    yield from truth.times(run, state)
    if state.expires and not state.expired and state.applied:
        yield state.expires
