"""A run as the fold of its journal: frozen values and the one function that advances them.

`fold` never reads a clock, a random number, the store or the environment, and never decides
anything: it only remembers what happened. What should happen next is `machine.decide`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from responder.model import Mode
from responder.playbook.definition import Playbook, Step
from responder.store.interface import Event

__all__ = ["OUTCOMES", "RunState", "StepState", "StepStatus", "begin", "fold", "fold_all"]

OUTCOMES = ("succeeded", "failed", "cancelled", "undone", "needs-attention")


class StepStatus(StrEnum):
    """Where a step stands. The last six are ends."""

    PENDING = "pending"
    EXPANDED = "expanded"  # for_each: its items are steps of their own
    PLANNED = "planned"  # a plan is recorded and may be applied
    ASK = "ask"  # a plan is recorded and a person must be asked
    WAITING_APPROVAL = "waiting-approval"
    APPROVED = "approved"
    APPLYING = "applying"
    WAITING_EXTERNAL = "waiting-external"
    APPLIED = "applied"  # done outside, not verified yet
    RETRYING = "retrying"
    UNCERTAIN = "uncertain"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the step by itself."""
        return self in {StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """Everything the journal says of one step. Times are microseconds UTC."""

    id: str
    status: StepStatus = StepStatus.PENDING
    item: Any = None  # for_each: the value this instance works on
    items: int = 0  # for_each: how many instances the parent has
    attempt: int = 0
    plan: Mapping[str, Any] | None = None
    plan_hash: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    replans: int = 0
    asked: int = 0
    until: int = 0
    otherwise: str = "stop"
    asks: str = ""  # why a person is asked
    approvals: tuple[str, ...] = ()
    approved_hash: str = ""
    started: int = 0  # first apply_started
    state: Mapping[str, Any] = field(default_factory=dict)
    check_at: int = 0
    waiting_for: str = ""
    told: str = ""  # what it last waited for before now: a story is told once
    stage: str = ""
    correlation: str = ""
    resume: str = "plan"  # what a retry goes back to: plan | apply | poll | verify
    retry_at: int = 0
    tries: int = 0  # temporary failures in a row
    result: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    error: str = ""
    reason: str = ""
    halts: bool = False  # skipped because something went wrong, not because a condition said so
    expires: int = 0
    expired: bool = False
    undo: str = ""  # "" | asked | running | retry | pending | done | failed
    undo_state: Mapping[str, Any] = field(default_factory=dict)
    undo_at: int = 0
    undo_error: str = ""

    @property
    def applied(self) -> bool:
        """Whether it changed something that has not been taken back."""
        changed = bool(self.plan and self.plan.get("changes"))
        touched = self.status in {
            StepStatus.SUCCEEDED,
            StepStatus.APPLIED,
            StepStatus.WAITING_EXTERNAL,
        } or (self.status is StepStatus.FAILED and self.started > 0)
        return changed and touched and self.undo != "done"

    @property
    def reversible(self) -> bool:
        """Whether it is applied and its plan names a way back."""
        return self.applied and bool(self.plan and self.plan.get("undo"))

    def to_env(self) -> dict[str, Any]:
        """The form expressions see as `steps.<id>`."""
        verdict = self.verdict["level"] if self.verdict else ""
        return {**self.result, "status": self.status.value, "verdict": verdict}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Everything the journal says of one run."""

    id: str
    playbook: Playbook
    seq: int = 0
    incident: int = 0
    mode: Mode = Mode.APPROVE
    created: int = 0
    person: str = ""
    braked: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    alert: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    resolved: bool = False
    resolve_at: int = 0
    resolve_tries: int = 0
    steps: Mapping[str, StepState] = field(default_factory=dict)
    cancelled: str = ""  # by whom
    broken: str = ""  # why the run cannot go on at all
    rolling_back: bool = False
    outcome: str = ""
    reason: str = ""
    finished: int = 0

    def step(self, step_id: str) -> StepState:
        """The state of a step or of one of its for_each instances."""
        return self.steps[step_id]

    def definition(self, step_id: str) -> Step:
        """The playbook's text for a step, whichever instance is meant."""
        base = step_id.split("[", 1)[0]
        if base in self.playbook.steps:
            return self.playbook.steps[base]
        return next(step for step in self.playbook.finally_ if step.id == base)

    def instances(self, step_id: str) -> list[StepState]:
        """The for_each instances of a step, in order."""
        return [self.steps[f"{step_id}[{n}]"] for n in range(self.steps[step_id].items)]


def begin(run_id: str, playbook: Playbook) -> RunState:
    """A run before its first event."""
    ids = [*playbook.steps, *(step.id for step in playbook.finally_)]
    return RunState(id=run_id, playbook=playbook, steps={name: StepState(id=name) for name in ids})


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
    return replace(run, steps={**run.steps, step_id: changed})


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
    return replace(
        run, outcome=event.data["outcome"], reason=event.data.get("reason", ""), finished=event.at
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
    data = event.data
    keeps = bool(step.approved_hash) and step.approved_hash == data["plan"]["hash"]
    asks = data.get("asks", "")
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
        waiting_for=event.data["waiting_for"],
    )


def _given(step: StepState, event: Event) -> StepState:
    people = (*step.approvals, event.data["person"])
    if not event.data["enough"]:
        return replace(step, approvals=people)
    return replace(
        step,
        status=StepStatus.APPROVED,
        approvals=people,
        approved_hash=event.data["plan"],
        waiting_for="",
    )


def _denied(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.SKIPPED if step.otherwise == "continue" else StepStatus.FAILED,
        error=event.data["reason"],
        waiting_for="",
    )


def _apply_started(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.APPLYING,
        attempt=event.data["attempt"],
        started=step.started or event.at,
        waiting_for="",
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
    )


def _applied(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.APPLIED,
        result=event.data["result"],
        waiting_for="",
        error="",
        tries=0,
    )


def _done(step: StepState, event: Event) -> StepState:
    return replace(
        step,
        status=StepStatus.SUCCEEDED,
        verdict=event.data["verdict"],
        expires=event.data.get("expires", 0),
        error="",
    )


def _failed(step: StepState, event: Event) -> StepState:
    data = event.data
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
    return replace(step, status=StepStatus.APPLYING, error="", waiting_for="")


def _extended(step: StepState, event: Event) -> StepState:
    until = event.data["until"]
    if step.status is StepStatus.WAITING_APPROVAL:
        return replace(step, until=until)
    return replace(step, expires=until, expired=False)


def _undo_pending(step: StepState, event: Event) -> StepState:
    return replace(
        step, undo="pending", undo_state=event.data["state"], undo_at=event.data["check_at"]
    )


_STEP_EVENTS: Mapping[str, Callable[[StepState, Event], StepState]] = {
    "step_planned": _planned,
    "approval_asked": _asked,
    "approval_given": _given,
    "approval_denied": _denied,
    "approval_expired": _denied,
    "apply_started": _apply_started,
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
    "undo_asked": lambda step, _event: replace(step, undo="asked", undo_error=""),
    "undo_started": lambda step, _event: replace(step, undo="running"),
    "undo_pending": _undo_pending,
    "undo_retry": lambda step, event: replace(
        step, undo="retry", undo_at=event.data["check_at"], undo_error=event.data["error"]
    ),
    "undo_done": lambda step, _event: replace(step, undo="done"),
    "undo_failed": lambda step, event: replace(step, undo="failed", undo_error=event.data["error"]),
}
