"""One turn of a run: fold what came in, record what follows, and say what to launch.

Pure, like the machine: the driver saves `events` first and only then carries `launches` out, so
an intent is always on disk before its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from responder.engine import truth
from responder.engine.machine import Command, Decision, Kind, decide, fold, fold_all
from responder.engine.state import RunState, StepState, StepStatus
from responder.store.interface import Event, RunUpdate

__all__ = ["Turn", "correlations", "take_turn"]

_STARTS = {
    Kind.APPLY: "apply_started",
    Kind.UNDO: "undo_started",
    Kind.REASSERT: "reassert_started",
}
_MOST_ROUNDS = 1000  # a machine that records for ever is a bug; better loud than busy


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one look at a run gave."""

    run: RunState  # the state after `events`
    events: list[Event] = field(default_factory=list)  # to save, in this order
    launches: list[Command] = field(default_factory=list)  # to carry out once they are saved
    decision: Decision = field(default_factory=Decision)
    held: bool = False  # at least one command waits for the end of a pause, or of the server

    @property
    def only_looked_up(self) -> bool:
        """Whether all that is new is what the target is, and only reading follows.

        A restart would ask again, so the line may wait for the next write: one flush less between
        an alert and its containment.
        """
        known = bool(self.events) and all(e.type == "target_resolved" for e in self.events)
        return known and bool(self.launches) and all(c.kind is Kind.PLAN for c in self.launches)

    def update(self, now: int, *, stopping: bool, pause_look: int) -> RunUpdate:
        """The row beside the journal, for a run with nothing left to do at this moment."""
        due, status = self.decision.due, self.decision.status
        if self.held and not stopping:
            due = min(now + pause_look, due or now + pause_look)
            status = status if self.run.outcome else "paused"
        if stopping:
            due = now
        return RunUpdate(
            status=status,
            due=due,
            waiting_for=self.decision.waiting_for,
            outcome=self.run.outcome,
            reason=self.run.reason,
            correlations=correlations(self.run),
        )


def take_turn(
    run: RunState,
    results: Sequence[Event],
    now: int,
    busy: Collection[str],
    hold: Callable[[RunState, Command], bool],
) -> Turn:
    """Fold the results, record until nothing more follows, and collect what to launch.

    Results that only pass by (`truth.PASSING`) are folded and not saved.

    `busy` are the steps with a call in flight: nothing is recorded or launched for them.
    """
    results = [event for event in results if truth.still_meant(run, event)]
    events = [event for event in results if event.type not in truth.PASSING]
    state = fold_all(run, results)
    for _ in range(_MOST_ROUNDS):
        decision = decide(state, now)
        records = [c.event for c in decision.commands if c.event and c.step not in busy]
        if not records:
            return _launch(state, events, decision, now, busy, hold)
        events += records
        state = fold_all(state, records)
    raise RuntimeError(f"run {run.id} records without end")


def _launch(
    state: RunState,
    events: list[Event],
    decision: Decision,
    now: int,
    busy: Collection[str],
    hold: Callable[[RunState, Command], bool],
) -> Turn:
    launches: list[Command] = []
    held, taken = False, set(busy)  # one call for one step at a time
    for command in decision.commands:
        if command.kind is Kind.RECORD or command.place in taken:
            continue
        if hold(state, command):
            held = True
            continue
        if command.kind in _STARTS and not command.resumed:
            started = _started(state, command, now)
            events.append(started)
            state = fold(state, started)
        taken.add(command.place)
        launches.append(command)
    return Turn(run=state, events=events, launches=launches, decision=decision, held=held)


def _started(run: RunState, command: Command, now: int) -> Event:
    state = run.step(command.step)
    data = {"step": command.step, "attempt": command.attempt}
    if command.kind is Kind.APPLY:
        data |= usage(state)
    return Event(_STARTS[command.kind], now, data)


def usage(state: StepState) -> dict[str, int]:
    """What an apply counts against the ceilings of the window."""
    blast = state.plan["blast"] if state.plan else {}
    return {"pods": blast.get("pods", 0), "nodes": blast.get("nodes", 0)}


def correlations(run: RunState) -> tuple[str, ...]:
    """What a webhook or a watcher would have to name to make this run look again."""
    waiting = [
        s.correlation
        for s in run.steps.values()
        if s.correlation and s.status is StepStatus.WAITING_EXTERNAL
    ]
    return tuple(dict.fromkeys((*waiting, *truth.correlations(run))))
