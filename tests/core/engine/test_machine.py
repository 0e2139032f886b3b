"""The machine as a table: after these events it asks for exactly this, and never for more."""

from __future__ import annotations

import pytest

from responder.clock import SECOND
from responder.engine.failing import events_for
from responder.engine.folding import fold_all
from responder.engine.machine import Command, Decision, Kind, decide
from responder.engine.state import RunState, StepStatus
from responder.engine.turn import Turn, take_turn
from responder.errors import StepRetry
from responder.store.interface import Event
from tests.core.engine.runs import NOW, Said, applied, begun, done, planned, run_of
from tests.core.engine.test_driver import BUILD, MARK

ASKED: Said = (
    "approval_asked",
    {"step": "mark", "until": NOW * 2, "otherwise": "stop", "quorum": 1, "waiting_for": "a yes"},
)
PENDING: Said = (
    "step_pending",
    {"step": "mark", "state": {}, "check_at": NOW + 5, "waiting_for": "", "correlation": ""},
)
UNDO: Said = ("undo_asked", {"step": "mark", "person": "anna"})
UNDONE: Said = ("undo_done", {"step": "mark"})
CANCEL: Said = ("cancel_asked", {"person": "anna"})
CONFLICT: Said = ("step_conflict", {"step": "mark", "error": "moved"})
UNCERTAIN: Said = ("step_uncertain", {"step": "mark", "error": "?"})
AGAIN: Said = ("step_look_again", {"step": "mark"})


def failed(step: str) -> Said:
    return "step_failed", {"step": step, "error": "no"}


def retrying(resume: str) -> Said:
    data = {"step": "mark", "error": "busy", "temporary": True, "retry_at": NOW, "resume": resume}
    return "step_failed", data


def turn(run: RunState, now: int = NOW + 100) -> Turn:
    """One turn of this run with nothing in flight and nothing held."""
    return take_turn(run, [], now, (), lambda _run, _command: False)


def said(run: RunState, now: int = NOW + 100) -> list[str]:
    """What the machine asks for, one word each: the kind, or the event it wants recorded."""
    return [c.event.type if c.event else c.kind.value for c in decide(run, now).commands]


TABLE: dict[str, tuple[list[Said], list[str]]] = {
    "nothing yet": ([], ["plan"]),
    "planned": ([planned("mark")], ["apply"]),
    "to be asked": ([planned("mark", asks="why")], ["approval_asked"]),
    "asked": ([planned("mark", asks="why"), ASKED], []),
    "begun": (begun("mark"), ["apply"]),
    "pending": ([*begun("mark"), PENDING], ["poll"]),
    "applied": (applied("mark"), ["verify"]),
    "done": (done("mark"), ["run_finished"]),
    "conflict": ([*begun("mark"), CONFLICT], ["plan"]),
    "conflict, then cancelled": ([*begun("mark"), CONFLICT, CANCEL], ["step_skipped"]),
    "uncertain": ([*begun("mark"), UNCERTAIN], []),
    "uncertain before any plan": ([UNCERTAIN, AGAIN], ["plan"]),
    "uncertain, look again": ([*begun("mark"), UNCERTAIN, AGAIN], ["apply"]),
    "undo while pending": ([*begun("mark"), PENDING, UNDO], ["undo"]),
    "undo while applied": ([*applied("mark"), UNDO], ["undo"]),
    "undo while retrying": ([*applied("mark"), retrying("verify"), UNDO], ["undo"]),
    "undone while pending": ([*begun("mark"), PENDING, UNDO, UNDONE], ["step_failed"]),
    "undone while uncertain": ([*begun("mark"), UNCERTAIN, UNDO, UNDONE], ["step_failed"]),
    "undo failed while pending": (
        [*begun("mark"), PENDING, UNDO, ("undo_failed", {"step": "mark", "error": "no"})],
        ["poll"],
    ),
    "cancelled while pending": ([*begun("mark"), PENDING, CANCEL], ["step_failed"]),
    "retry of an apply": ([*begun("mark"), retrying("apply")], ["apply"]),
}


@pytest.mark.parametrize(("events", "wanted"), TABLE.values(), ids=TABLE)
def test_the_machine_asks_for(events: list[Said], wanted: list[str]) -> None:
    """One step, after these events."""
    assert said(run_of(MARK, *events)) == wanted


@pytest.mark.parametrize(
    ("events", "resumed"),
    [
        ([planned("mark")], False),
        (begun("mark"), True),
        ([*begun("mark"), UNCERTAIN, AGAIN], True),
        ([*begun("mark"), retrying("apply")], True),
        ([*begun("mark"), retrying("anew")], False),
        ([*begun("mark"), UNCERTAIN, ("step_look_again", {"step": "mark", "anew": True})], False),
    ],
    ids=["new", "begun", "look again", "retry", "retry of what did not happen", "do it again"],
)
def test_an_apply_that_may_have_happened_is_resumed(events: list[Said], *, resumed: bool) -> None:
    """`resumed` says: look before you act. Where nothing can have happened it is not said."""
    (command,) = decide(run_of(MARK, *events), NOW + 100).commands

    assert command.kind is Kind.APPLY
    assert command.resumed is resumed


def test_one_step_has_one_call_at_a_time() -> None:
    """Whatever was said meanwhile: two calls for one step would lose the answer of the first."""
    for events in TABLE.values():
        launches = turn(run_of(MARK, *events[0])).launches
        steps = [command.step for command in launches]
        assert len(steps) == len(set(steps))


@pytest.mark.parametrize(
    "rest",
    [
        [UNCERTAIN],
        [retrying("verify")],
        [PENDING],
        [failed("mark")],
        [CONFLICT, CANCEL, ("step_skipped", {"step": "mark", "reason": "cancelled"})],
    ],
    ids=["uncertain", "retrying", "pending", "failed", "skipped after a conflict"],
)
def test_what_was_begun_can_be_taken_back(rest: list[Said]) -> None:
    """Half a change is a change: it must not become impossible to undo by the way it ended."""
    assert run_of(MARK, *begun("mark"), *rest).step("mark").reversible


@pytest.mark.parametrize("rest", [[planned("mark")], [planned("mark", asks="x"), ASKED], []])
def test_what_was_not_begun_has_nothing_to_take_back(rest: list[Said]) -> None:
    """A plan is no change."""
    assert not run_of(MARK, *rest).step("mark").applied


def test_a_run_set_aside_in_the_middle_leaves_its_step_uncertain() -> None:
    """Nobody will bring the call to its end; a person must still be able to take it back."""
    end: Said = ("run_finished", {"outcome": "needs-attention", "reason": "three strikes"})
    step = run_of(MARK, *begun("mark"), end).step("mark")

    assert step.status is StepStatus.UNCERTAIN
    assert step.reversible


# --------------------------------------------------------------------------- for_each

EACH = (
    "  mark:\n    use: fake.mark\n    for_each: \"${{ ['a', 'b'] }}\"\n"
    '    with: {thing: "${{ item }}", value: "yes"}\n'
)
SPLIT: Said = ("step_expanded", {"step": "mark", "items": ["a", "b"]})


def collected(*rest: Said, steps: str = EACH) -> RunState:
    """The run after the machine has joined the instances."""
    run = run_of(steps, SPLIT, *rest)
    return turn(run).run


def skipped(step: str, **more: object) -> Said:
    return "step_skipped", {"step": step, "reason": "observe: planned", **more}


def test_items_that_were_all_skipped_are_not_called_applied() -> None:
    """In observe nothing is applied, and the step that holds the items must not say so."""
    step = collected(skipped("mark[0]"), skipped("mark[1]")).step("mark")

    assert step.status is StepStatus.SKIPPED
    assert step.verdict is None


def test_what_stays_open_for_one_item_stays_open_for_all() -> None:
    """The weakest verdict counts and its residuals are named."""
    name, data = done("mark[1]", "residual")[-1]
    data = {**data, "verdict": {"level": "residual", "residual": ["egress"], "checks": {}}}
    step = collected(*done("mark[0]"), *done("mark[1]")[:-1], (name, data)).step("mark")

    assert step.verdict is not None
    assert step.verdict["level"] == "residual"
    assert step.verdict["residual"] == ["mark[1]: egress"]


TURNS = EACH.replace("['a', 'b']", "['a', 'b', 'c', 'd']") + "    at_once: 2\n"
FOUR: Said = ("step_expanded", {"step": "mark", "items": ["a", "b", "c", "d"]})


def at(run: RunState) -> list[str]:
    """The steps that the machine wants something done for now."""
    return [command.step for command in decide(run, NOW + 100).commands]


def test_so_many_items_at_once_and_the_next_when_one_has_ended() -> None:
    """Two of four are begun; the third follows the first that ends, in the order of the list."""
    assert at(run_of(TURNS, FOUR)) == ["mark[0]", "mark[1]"]
    assert at(run_of(TURNS, FOUR, planned("mark[0]"))) == ["mark[0]", "mark[1]"]
    assert at(run_of(TURNS, FOUR, *done("mark[1]"))) == ["mark[0]", "mark[2]"]
    assert at(run_of(TURNS, FOUR, *applied("mark[1]"), *done("mark[0]"))) == ["mark[1]", "mark[2]"]


def test_no_item_is_begun_after_a_failed_one() -> None:
    """What is under way is brought to its end, the rest is skipped, and the step has failed."""
    run = run_of(TURNS, FOUR, failed("mark[0]"), *begun("mark[1]"))
    run = turn(run).run
    assert run.step("mark[1]").status is StepStatus.APPLYING
    assert [run.step(f"mark[{n}]").status for n in (2, 3)] == [StepStatus.SKIPPED] * 2
    assert run.step("mark[2]").reason == "mark[0] failed"

    run = turn(run_of(TURNS, FOUR, failed("mark[0]"), *done("mark[1]"))).run
    assert run.step("mark").status is StepStatus.FAILED


def test_items_go_on_after_a_failed_one_where_the_step_may_fail() -> None:
    """`on_error: continue` asks for all of them."""
    run = run_of(TURNS + "    on_error: continue\n", FOUR, failed("mark[0]"))

    assert at(run) == ["mark[1]", "mark[2]"]


def test_the_way_back_waits_for_every_item() -> None:
    """One failed item must not start a rollback while another is still to begin."""
    run = run_of(EACH + "    on_error: undo\n", SPLIT, failed("mark[0]"))

    assert "rollback_started" not in said(run)


def test_the_way_back_does_not_race_with_the_step_it_takes_back() -> None:
    """A branch still under way is brought to its end first, then reversed."""
    steps = MARK + BUILD.replace("    needs: [mark]\n", "") + "    on_error: undo\n"
    run = run_of(steps, *begun("mark"), retrying("apply"), failed("build"))
    run = fold_all(run, [Event("rollback_started", NOW, {}, seq=90)])
    assert said(run) == ["apply"]

    run = fold_all(run, [Event("step_applied", NOW, {"step": "mark", "result": {}}, seq=91)])
    assert said(run) == ["verify"]

    verdict = {"level": "applied", "residual": [], "checks": {}}
    run = fold_all(run, [Event("step_done", NOW, {"step": "mark", "verdict": verdict}, seq=92)])
    assert said(run) == ["undo"]


def test_the_way_back_leaves_what_the_closing_steps_did() -> None:
    """They run after it, whatever happened: reversing them too would undo the end itself."""
    tail = "finally:\n  - use: fake.mark\n    with: {thing: closing}\n"
    rest: list[Said] = [failed("build"), ("rollback_started", {}), UNDO, UNDONE]
    steps = MARK + BUILD + "    on_error: undo\n"
    run = run_of(steps, *done("mark"), *rest, *applied("finally_1"), tail=tail)
    assert said(run) == ["verify"]

    run = run_of(steps, *done("mark"), *rest, *done("finally_1"), tail=tail)
    assert said(run) == ["run_finished"]


# --------------------------------------------------------------------------- decisions


def test_a_yes_is_void_when_there_is_a_new_reason_to_ask() -> None:
    """The same change can become another risk: now it takes the last ready replica."""
    yes: Said = ("approval_given", {"step": "mark", "person": "anna", "plan": ""})
    name, data = planned("mark", asks="mode is approve")
    hash_ = data["plan"]["hash"]  # type: ignore[index]
    yes = ("approval_given", {**yes[1], "plan": hash_})
    begun_: Said = ("apply_started", {"step": "mark", "attempt": 1})
    first = [(name, data), ASKED, yes, begun_, CONFLICT]

    same = run_of(MARK, *first, (name, data)).step("mark")
    more = (name, {**data, "asks": "mode is approve; it takes the last ready replica"})
    new = run_of(MARK, *first, more).step("mark")

    assert same.status is StepStatus.PLANNED
    assert new.status is StepStatus.ASK
    assert new.approvals == ()


def test_time_given_to_a_wait_is_no_expiry_of_the_containment() -> None:
    """The yes came in the same moment: nothing must expire because of it later."""
    name, data = planned("mark", asks="why")
    yes: Said = (
        "approval_given",
        {"step": "mark", "person": "anna", "plan": data["plan"]["hash"]},  # type: ignore[index]
    )
    more: Said = ("extended", {"step": "mark", "until": NOW * 3, "person": "ben"})
    step = run_of(MARK, (name, data), ASKED, yes, more).step("mark")

    assert step.expires == 0


# --------------------------------------------------------------------------- failures


def test_a_refused_try_of_what_cannot_be_looked_up_is_tried_anew() -> None:
    """`StepRetry` says that nothing happened, so nobody has to be asked whether it did."""
    run = run_of(MARK, *begun("mark"))
    (event,) = events_for(
        StepRetry("rate limit", after=1),
        step=run.definition("mark"),
        state=run.step("mark"),
        command=Command(kind=Kind.APPLY, step="mark"),
        looks_up=False,
        now=NOW,
        jitter=0.0,
    )
    (command,) = decide(fold_all(run, [event]), NOW + 400 * SECOND).commands

    assert command.kind is Kind.APPLY
    assert not command.resumed


def test_what_is_stopped_before_its_call_leaves_no_trace_of_a_call() -> None:
    """A command that is held must not be written down as begun."""
    run = run_of(MARK, planned("mark"))
    held = take_turn(run, [], NOW, (), lambda _run, _command: True)

    assert held.events == []
    assert held.launches == []
    assert held.held


def test_asking_twice_gives_the_same_answer() -> None:
    """The machine has no memory and no chance of its own."""
    for events, _ in TABLE.values():
        run = run_of(MARK, *events)
        first: Decision = decide(run, NOW + 7)
        assert first == decide(run, NOW + 7)
