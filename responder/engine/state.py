"""A run and its steps as frozen values: all that the journal says of them.

`folding.fold` advances them by one event; `machine.decide` says what should happen next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from responder.clock import SECOND
from responder.model import Mode
from responder.playbook.definition import Playbook, Step

__all__ = ["OUTCOMES", "RunState", "StepState", "StepStatus", "begin", "evolve"]

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


# Begun perhaps, but still to be planned, asked for or called: nothing to take back yet. Every
# other status, once begun, may stand for half a change at least.
_UNDER_WAY = frozenset(
    {
        StepStatus.PENDING,
        StepStatus.PLANNED,
        StepStatus.ASK,
        StepStatus.WAITING_APPROVAL,
        StepStatus.APPROVED,
        StepStatus.APPLYING,
    }
)


@dataclass(frozen=True, kw_only=True)  # no slots: `evolve` copies the dictionary
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
    quorum: int = 1  # how many people must say yes
    approvals: tuple[str, ...] = ()
    approved_hash: str = ""
    started: int = 0  # first apply_started
    asking: int = 0  # since when it waits for a person elsewhere; 0: it does not
    waited: int = 0  # how long it did before, microseconds
    state: Mapping[str, Any] = field(default_factory=dict)
    check_at: int = 0
    waiting_for: str = ""
    told: str = ""  # what it last waited for before now: a story is told once
    stage: str = ""
    correlation: str = ""
    resume: str = "plan"  # what a retry goes back to: plan | apply | anew | poll | verify
    retry_at: int = 0
    tries: int = 0  # temporary failures in a row
    result: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    error: str = ""
    reason: str = ""
    halts: bool = False  # skipped because something went wrong, not because a condition said so
    expires: int = 0
    expired: bool = False
    reverts: bool = False  # what happens then: it is taken back, or else a person is called
    recheck: int = (
        0  # microseconds between two looks at what it holds; 0: it is not looked at again
    )
    look: bool = False  # a look was asked for
    lost: str = ""  # why it does not hold any more: somebody took away what it had put there
    put_back: int = 0  # how often it was put back since
    putting: bool = False  # it is being put back
    put_at: int = 0  # not before
    put_done: int = 0  # when it was put back last
    gave_up: str = ""  # why it is not put back any more: a person is asked
    over: str = ""  # why there is nothing left to look at
    undo: str = ""  # "" | asked | running | retry | pending | done | failed
    undo_state: Mapping[str, Any] = field(default_factory=dict)
    undo_at: int = 0
    undo_error: str = ""

    @property
    def applied(self) -> bool:
        """Whether it changed something that has not been taken back."""
        changed = bool(self.plan and self.plan.get("changes"))
        touched = self.started > 0 and self.status not in _UNDER_WAY
        return changed and touched and self.undo != "done"

    @property
    def reversible(self) -> bool:
        """Whether it is applied and its plan names a way back."""
        return self.applied and bool(self.plan and self.plan.get("undo"))

    def ends(self, seconds: float) -> int:
        """When its time is over, 0 where none runs: only work is timed, a person's word is not."""
        if not seconds or not self.started or self.asking:
            return 0
        return self.started + self.waited + int(seconds * SECOND)

    def to_env(self) -> dict[str, Any]:
        """The form expressions see as `steps.<id>`."""
        verdict = self.verdict["level"] if self.verdict else ""
        return {**self.result, "status": self.status.value, "verdict": verdict}


@dataclass(frozen=True, kw_only=True)  # no slots: `evolve` copies the dictionary
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


_State = TypeVar("_State", RunState, StepState)


def evolve(state: _State, /, **changes: Any) -> _State:
    """The same state with some fields changed, as `dataclasses.replace` would give it.

    A run folds a dozen events and every one changes two states of many fields: copying the
    dictionary costs a tenth of calling the constructor. Raises `TypeError` for an unknown field.
    """
    known = state.__dict__
    if not changes.keys() <= known.keys():
        raise TypeError(f"{type(state).__name__} has no {sorted(changes.keys() - known.keys())}")
    new = object.__new__(type(state))
    new.__dict__.update(known)
    new.__dict__.update(changes)
    return new
