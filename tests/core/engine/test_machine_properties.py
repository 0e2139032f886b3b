"""Whatever actions answer and people say, in any order: what the machine never does."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from responder.clock import SECOND
from responder.engine.folding import fold, fold_all
from responder.engine.machine import Command, Kind, begin, decide
from responder.engine.state import OUTCOMES, RunState, StepStatus
from responder.engine.turn import Turn, take_turn
from responder.store.interface import Event
from tests.core.engine.runs import NOW, load, plan_of

STEPS = """
  first:
    use: fake.mark
    with: {{thing: a}}
    on_error: {on_error}
  each:
    use: fake.mark
    for_each: "${{{{ ['a', 'b'] }}}}"
    with: {{thing: "${{{{ item }}}}"}}
  build:
    use: fake.build
    needs: [first]
    timeout: 10m
    approve: {{by: approver, within: 30m, otherwise: {otherwise}, quorum: 2}}
    with: {{thing: b}}
    on_error: {on_error}
"""
TAIL = "finally:\n  - use: fake.mark\n    with: {thing: closing}\n"
ERRORS, OTHERWISE = ("stop", "continue", "undo"), ("stop", "continue")
BOOKS = {
    (error, otherwise): load(STEPS.format(on_error=error, otherwise=otherwise), tail=TAIL)
    for error in ERRORS
    for otherwise in OTHERWISE
}


class Story:
    """One run, driven to its end by chance; every journal prefix can be looked at afterwards."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        key = (self.rng.choice(ERRORS), self.rng.choice(OTHERWISE))
        self.empty = begin("run_1", BOOKS[key])
        self.journal: list[Event] = []
        self.now = NOW
        self.run = self.empty
        self.turns: list[tuple[RunState, Turn]] = []
        self.write(Event("run_created", self.now, {"incident": 1, "mode": "enforce"}))

    def write(self, *events: Event) -> None:
        for event in events:
            self.journal.append(Event(event.type, event.at, event.data, len(self.journal) + 1))
            self.run = fold(self.run, self.journal[-1])

    def tell(self) -> None:
        """Turn after turn until the run has ended and nothing is left to do."""
        for turn_number in range(400):
            self.now += self.rng.randrange(1, 20 * SECOND)
            before = self.run
            turn = take_turn(self.run, [], self.now, (), lambda _run, _command: False)
            self.turns.append((before, turn))
            self.write(*turn.events)
            if not turn.launches:
                assert turn.run.outcome or turn.decision.due or turn.decision.waiting_for
                if turn.run.outcome and not turn.decision.due:
                    return
                self.now = max(self.now, turn.decision.due or 0)
            for command in turn.launches:
                if self.rng.random() < 0.9:  # otherwise: killed before the answer was written
                    self.write(*self.answer(command))
            for event in self.people(calm=turn_number > 60):
                self.write(event)
        raise AssertionError(f"no end: {self.run.steps}")

    def event(self, type_: str, **data: object) -> Event:
        return Event(type_, self.now, data)

    def answer(self, command: Command) -> Iterator[Event]:
        """What an action may answer to this command."""
        step = command.step
        match command.kind:
            case Kind.PLAN:
                yield self.planned(step)
            case Kind.UNDO | Kind.UNDO_POLL:
                kind = self.rng.choice(["undo_done", "undo_done", "undo_failed", "undo_pending"])
                more = {"state": {}, "check_at": self.now + SECOND} if "pend" in kind else {}
                yield self.event(kind, step=step, error="no", **more)
            case Kind.VERIFY:
                verdict = {"level": "applied", "residual": [], "checks": {}}
                yield self.event("step_done", step=step, verdict=verdict)
            case _:
                yield self.called(step)

    def planned(self, step: str) -> Event:
        definition = self.run.definition(step)
        if definition.for_each and step == definition.id:
            return self.event("step_expanded", step=step, items=["a", "b"])
        plan = plan_of(step if self.rng.random() < 0.8 else f"{step}-moved")
        asks = "the playbook asks" if definition.approve or self.rng.random() < 0.2 else ""
        return self.event(
            "step_planned", step=step, plan=plan.to_json(), params={}, asks=asks, stage=""
        )

    def called(self, step: str) -> Event:
        kind = self.rng.choice(
            ["step_applied"] * 4
            + ["step_pending", "step_failed", "retry", "step_conflict", "step_uncertain"]
        )
        if kind == "retry":
            resume = self.rng.choice(["apply", "poll", "anew"])
            more = {"temporary": True, "retry_at": self.now + SECOND, "resume": resume}
            return self.event("step_failed", step=step, error="busy", **more)
        more = {"state": {}, "check_at": self.now + SECOND} if kind == "step_pending" else {}
        return self.event(kind, step=step, error="no", result={}, **more)

    def people(self, *, calm: bool) -> Iterator[Event]:
        """Decisions, at the right and at the wrong moment."""
        for state in list(self.run.steps.values()):
            if state.status is StepStatus.UNCERTAIN and self.rng.random() < 0.5:
                anew = self.rng.random() < 0.5
                yield self.event("step_look_again", step=state.id, anew=anew)
            if self.rng.random() < 0.3:
                person = self.rng.choice(["anna", "cleo", "dora"])
                plan = state.plan_hash if self.rng.random() < 0.9 else "old"
                yield self.event("approval_given", step=state.id, person=person, plan=plan)
            if not calm and self.rng.random() < 0.03:
                yield self.event("approval_denied", step=state.id, reason="denied by anna")
            if not calm and state.applied and self.rng.random() < 0.05:
                yield self.event("undo_asked", step=state.id, person="anna")
        if not calm and self.rng.random() < 0.02:
            yield self.event("cancel_asked", person="anna")


def told(seed: int) -> Story:
    story = Story(seed)
    story.tell()
    return story


SEEDS = st.integers(0, 1_000_000)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_every_run_ends_with_a_known_outcome_and_a_reason(seed: int) -> None:
    """Nothing waits for nothing, and no end but success is silent."""
    run = told(seed).run

    assert run.outcome in OUTCOMES
    assert run.reason or run.outcome == "succeeded"


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_nothing_is_applied_without_its_plan_and_its_yes(seed: int) -> None:
    """Every apply stands on the recorded plan; where somebody is asked, on a yes to that plan."""
    for _, turn in told(seed).turns:
        for command in turn.launches:
            state = turn.run.steps.get(command.step)
            if command.kind is not Kind.APPLY or state is None:
                continue
            assert state.plan is not None
            if state.asks:
                assert state.approved_hash == state.plan_hash
                assert len(set(state.approvals)) == len(state.approvals) >= state.quorum


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_every_prefix_of_the_journal_is_a_safe_place_to_start_again(seed: int) -> None:
    """Killed after any write: what was begun is resumed, and the answer is the same twice."""
    story = told(seed)
    run = story.empty
    for event in story.journal:
        run = fold(run, event)
        decision = decide(run, story.now)
        assert decision == decide(run, story.now)
        for command in decision.commands:
            if command.kind is Kind.APPLY and not command.resumed:
                assert run.step(command.step).status is not StepStatus.APPLYING
            if command.kind is Kind.UNDO and not command.resumed:
                assert run.step(command.step).undo in {"asked", ""}
    assert run == fold_all(story.empty, story.journal) == story.run


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_step_never_has_two_calls_at_once_nor_one_after_its_undo(seed: int) -> None:
    """One call for one step in a turn; what was taken back is not applied again."""
    for before, turn in told(seed).turns:
        steps = [command.step for command in turn.launches]
        assert len(steps) == len(set(steps))
        for command in turn.launches:
            if command.kind in {Kind.APPLY, Kind.POLL, Kind.VERIFY}:
                assert before.step(command.step).undo in {"", "failed"}
