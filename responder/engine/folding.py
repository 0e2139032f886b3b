"""Advance a run by its journal: one function for each kind of event.

Never reads a clock, a random number, the store or the environment, and never decides anything: it
only remembers what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from responder.engine import truth_folding
from responder.engine.state import RunState, StepState, StepStatus
from responder.engine.state import evolve as replace
from responder.model import Mode
from responder.store.interface import Event

__all__ = ["fold", "fold_all"]


def fold_all(run: RunState, events: Iterable[Event]) -> RunState:
    """The run after all of these events."""
    for event in events:
        run = fold(run, event)
    return run


def fold(run: RunState, event: Event) -> RunState:
    """The run after one more event. An event of an unknown type changes nothing but `seq`."""
    run = replace(run, seq=max(run.seq, event.seq))
    handler = _RUN_EVENTS.get(event.type)
    if handler is not None:
        return handler(run, event)
    step_handler = _STEP_EVENTS.get(event.type)
    step_id = str(event.data.get("step"))
    if step_handler is None or step_id not in run.steps:
        return run
    changed = step_handler(run.steps[step_id], event)
    steps = {**run.steps, step_id: changed}
    if event.type in truth_folding.FOLDED and "[" in step_id:
        truth_folding.join(steps, step_id)
    return replace(run, steps=steps)


# --------------------------------------------------------------------------- events of a run


def _created(run: RunState, event: Event) -> RunState:
    data = event.data
    return replace(
        run,
        incident=data["incident"],
        mode=Mode(data["mode"]),
        created=event.at,
        person=data.get("person", ""),
        braked=data.get("braked", False),
        inputs=data.get("inputs", {}),
        alert=data.get("alert", {}),
        target=data.get("target", {}),
    )


def _resolved(run: RunState, event: Event) -> RunState:
    return replace(run, target=event.data["target"], resolved=True)


def _resolve_retry(run: RunState, event: Event) -> RunState:
    return replace(run, resolve_at=event.data["retry_at"], resolve_tries=run.resolve_tries + 1)


def _expanded(run: RunState, event: Event) -> RunState:
    base, items = event.data["step"], event.data["items"]
    steps = dict(run.steps)
    steps[base] = replace(steps[base], status=StepStatus.EXPANDED, items=len(items))
    for number, item in enumerate(items):
        name = f"{base}[{number}]"
        steps[name] = StepState(id=name, item=item)
    return replace(run, steps=steps)


def _hint(run: RunState, event: Event) -> RunState:
    """A webhook spoke: whoever waits for that correlation looks at once."""
    heard = event.data["correlation"]
    steps = {
        name: replace(step, check_at=0)
        if step.correlation == heard and step.status is StepStatus.WAITING_EXTERNAL
        else step
        for name, step in run.steps.items()
    }
    return replace(run, steps=steps)


def _finished(run: RunState, event: Event) -> RunState:
    """The end. A call that nobody brings to its end any more may or may not have happened."""
    text = "the run was set aside while it was being applied"
    steps = {
        name: replace(step, status=StepStatus.UNCERTAIN, error=step.error or text)
        if step.status is StepStatus.APPLYING
        else step
        for name, step in run.steps.items()
    }
    return replace(
        run,
        steps=steps,
        outcome=event.data["outcome"],
        reason=event.data.get("reason", ""),
        finished=event.at,
    )


_RUN_EVENTS: Mapping[str, Callable[[RunState, Event], RunState]] = {
    "run_created": _created,
    "target_resolved": _resolved,
    "target_unresolved": _resolve_retry,
    "step_expanded": _expanded,
    "hint": _hint,
    "cancel_asked": lambda run, event: replace(run, cancelled=event.data["person"]),
    "run_broken": lambda run, event: replace(run, broken=event.data["reason"]),
    "rollback_started": lambda run, _event: replace(run, rolling_back=True),
    "run_finished": _finished,
}


# --------------------------------------------------------------------------- events of a step


def _planned(step: StepState, event: Event) -> StepState:
    """A yes outlives a new plan of the same meaning, unless there is a new reason to ask."""
    data = event.data
    asks = data.get("asks", "")
    known = not asks or set(asks.split("; ")) <= set(step.asks.split("; "))
    keeps = bool(step.approved_hash) and step.approved_hash == data["plan"]["hash"] and known
    return replace(
        step,
        status=StepStatus.ASK if asks and not keeps else StepStatus.PLANNED,
        plan=data["plan"],
        plan_hash=data["plan"]["hash"],
        params=data["params"],
        stage=data.get("stage", ""),
        asks=asks,
        approvals=step.approvals if keeps else (),
        approved_hash=step.approved_hash if keeps else "",
        error="",
        tries=0,
    )


def _asked(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.WAITING_APPROVAL,
        asked=event.at,
        until=event.data["until"],
        otherwise=event.data["otherwise"],
        quorum=event.data.get("quorum", 1),
        waiting_for=event.data["waiting_for"],
    )


def _given(step: StepState, event: Event) -> StepState:
    """Count one yes. People may speak at once: only the order in the journal says who was last."""
    if step.status is not StepStatus.WAITING_APPROVAL or event.data["plan"] != step.plan_hash:
        return step  # it came too late, or was meant for another plan
    lost = event.data.get("without", ())  # said yes once, and hold the role no longer
    still = (person for person in step.approvals if person not in lost)
    people = tuple(dict.fromkeys((*still, event.data["person"])))
    if len(people) < step.quorum:
        return replace(step, approvals=people)
    return replace(
        step,
        status=StepStatus.APPROVED,
        approvals=people,
        approved_hash=event.data["plan"],
        waiting_for="",
    )


def _denied(step: StepState, event: Event) -> StepState:
    """A no beats a yes until the step has begun; then it came too late."""
    if step.status not in {StepStatus.WAITING_APPROVAL, StepStatus.APPROVED}:
        return step
    return replace(
        step,
        status=StepStatus.SKIPPED if step.otherwise == "continue" else StepStatus.FAILED,
        error=event.data["reason"],
        waiting_for="",
    )


def _expired(step: StepState, event: Event) -> StepState:
    """The end of the time: somebody's yes in the same moment was in time."""
    return _denied(step, event) if step.status is StepStatus.WAITING_APPROVAL else step


def _held(step: StepState, _event: Event) -> StepState:
    """A pause came between the intent and the call: nothing has begun."""
    if step.status is not StepStatus.APPLYING:
        return step
    status = StepStatus.APPROVED if step.approved_hash else StepStatus.PLANNED
    return replace(step, status=status, started=step.started if step.attempt > 1 else 0)


def _apply_started(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.APPLYING,
        attempt=event.data["attempt"],
        started=step.started or event.at,
        waiting_for="",
        **_waited(step, event),
    )


def _pending(step: StepState, event: Event) -> StepState:
    data = event.data
    return replace(
        step,
        status=StepStatus.WAITING_EXTERNAL,
        state=data["state"],
        check_at=data["check_at"],
        told=step.waiting_for,
        waiting_for=data.get("waiting_for", ""),
        correlation=data.get("correlation", ""),
        error="",
        tries=0,
        **_waited(step, event),
    )


def _waited(step: StepState, event: Event) -> Mapping[str, int]:
    """The time that went by with a person, up to this event; and whether more of it does."""
    asking = event.at if event.data.get("by_person") else 0
    if not step.asking:
        return {"asking": asking}
    return {"asking": asking, "waited": step.waited + max(0, event.at - step.asking)}


def _applied(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.APPLIED,
        result=event.data["result"],
        waiting_for="",
        error="",
        tries=0,
        **_waited(step, event),
    )


def _done(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.SUCCEEDED,
        verdict=event.data["verdict"],
        expires=event.data.get("expires", 0),
        reverts=event.data.get("on_expiry") == "revert",
        recheck=event.data.get("recheck", 0),
        error="",
    )


def _failed(step: StepState, event: Event) -> StepState:
    data = event.data
    if data.get("given_up") and step.status is not StepStatus.UNCERTAIN:
        return step  # somebody else let it look again in the same moment
    if data.get("temporary"):
        return replace(
            step,
            status=StepStatus.RETRYING,
            error=data["error"],
            retry_at=data["retry_at"],
            resume=data["resume"],
            tries=step.tries + 1,
        )
    return replace(step, status=StepStatus.FAILED, error=data["error"], waiting_for="")


def _conflict(step: StepState, event: Event) -> StepState:
    return replace(
        step, status=StepStatus.PENDING, error=event.data["error"], replans=step.replans + 1
    )


def _skipped(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.SKIPPED,
        reason=event.data["reason"],
        halts=event.data.get("halts", False),
        plan=event.data.get("plan", step.plan),
        waiting_for="",
    )


def _uncertain(step: StepState, event: Event) -> StepState:
    return replace(
        step, status=StepStatus.UNCERTAIN, error=event.data["error"], waiting_for="a person"
    )


def _look_again(step: StepState, event: Event) -> StepState:
    """A person says go on: look and act, or `anew` where only the person can have looked."""
    if step.status is not StepStatus.UNCERTAIN:
        return step
    status = StepStatus.APPLYING if step.started else StepStatus.PENDING
    if event.data.get("anew") and step.started:
        status = StepStatus.PLANNED
    return replace(step, status=status, error="", waiting_for="")


def _extended(step: StepState, event: Event) -> StepState:
    until = event.data["until"]
    if step.status is StepStatus.WAITING_APPROVAL:
        return replace(step, until=until)
    return replace(step, expires=until, expired=False) if step.expires else step


def _undo_asked(step: StepState, event: Event) -> StepState:
    """Two people, or a person and the clock, may ask in one moment; it is undone once."""
    expired = step.expired or bool(event.data.get("expired"))
    if step.undo not in {"", "failed"}:
        return replace(step, expired=expired)
    return replace(step, undo="asked", undo_error="", expired=expired)


def _undo_pending(step: StepState, event: Event) -> StepState:
    return replace(
        step, undo="pending", undo_state=event.data["state"], undo_at=event.data["check_at"]
    )


_STEP_EVENTS: Mapping[str, Callable[[StepState, Event], StepState]] = {
    "step_planned": _planned,
    "approval_asked": _asked,
    "approval_given": _given,
    "approval_denied": _denied,
    "approval_expired": _expired,
    "apply_started": _apply_started,
    "apply_held": _held,
    "step_pending": _pending,
    "step_applied": _applied,
    "step_done": _done,
    "step_failed": _failed,
    "step_conflict": _conflict,
    "step_skipped": _skipped,
    "step_uncertain": _uncertain,
    "step_look_again": _look_again,
    "extended": _extended,
    "containment_expired": lambda step, _event: replace(step, expired=True),
    "undo_asked": _undo_asked,
    "undo_started": lambda step, _event: replace(step, undo="running"),
    "undo_pending": _undo_pending,
    "undo_retry": lambda step, event: replace(
        step, undo="retry", undo_at=event.data["check_at"], undo_error=event.data["error"]
    ),
    "undo_done": lambda step, _event: replace(step, undo="done"),
    "undo_failed": lambda step, event: replace(step, undo="failed", undo_error=event.data["error"]),
    **truth_folding.FOLDED,
}
