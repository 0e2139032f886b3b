"""Containment after its step has ended, as a table: looked at, put back, given up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from responder.clock import SECOND
from responder.engine import truth
from responder.engine.folding import fold_all
from responder.engine.machine import decide
from responder.engine.state import RunState, evolve
from responder.engine.turn import correlations, take_turn
from responder.store.interface import Event
from tests.core.engine.runs import NOW, Said, applied, run_of
from tests.core.engine.test_driver import MARK

EVERY = 300 * SECOND
GOOD = {"level": "applied", "residual": [], "checks": {}}
OPEN = {"level": "residual", "residual": ["policy x allows ingress"], "checks": {}}
LOST = {"level": "residual", "residual": ["the label is gone"], "checks": {}}
HELD: list[Said] = [
    *applied("mark"),
    ("step_done", {"step": "mark", "verdict": GOOD, "recheck": EVERY}),
    ("run_finished", {"outcome": "succeeded"}),
]
ASKED: Said = ("truth_asked", {"step": "mark"})
SAME: Said = ("truth_same", {"step": "mark"})
OPENED: Said = ("truth_changed", {"step": "mark", "verdict": OPEN, "before": GOOD})
GONE: Said = (
    "truth_changed",
    {"step": "mark", "verdict": LOST, "before": GOOD, "lost": "the label is gone"},
)
BACK: Said = ("truth_changed", {"step": "mark", "verdict": GOOD, "before": LOST})
OVER: Said = ("truth_ended", {"step": "mark", "reason": "the pod is gone", "verdict": LOST})
REFUSED: Said = ("reassert_failed", {"step": "mark", "error": "observe", "final": True})
BUSY: Said = ("reassert_failed", {"step": "mark", "error": "moved"})
AGAIN: Said = ("reasserted", {"step": "mark", "attempt": 1})
UNDO: Said = ("undo_asked", {"step": "mark", "person": "anna"})


def started(attempt: int) -> Said:
    return "reassert_started", {"step": "mark", "attempt": attempt}


def put_back(attempt: int) -> list[Said]:
    """Put back, seen to hold, and lost once more."""
    return [started(attempt), AGAIN, BACK, GONE]


def held(*more: Said) -> RunState:
    """A finished run whose step holds something, after these events."""
    return run_of(MARK, *HELD, *more)


def said(run: RunState, now: int) -> list[str]:
    """What the machine asks for."""
    return [c.event.type if c.event else c.kind.value for c in decide(run, now).commands]


SOON, LATER = NOW + 100, NOW + 60 * SECOND
TABLE: dict[str, tuple[list[Said], int, list[str]]] = {
    "nobody asked": ([], LATER, []),
    "asked": ([ASKED], SOON, ["recheck"]),
    "looked": ([ASKED, SAME], SOON, []),
    "another policy opens it": ([OPENED], LATER, []),
    "taken away": ([GONE], SOON, ["reassert"]),
    "a look before it is put back": ([GONE, ASKED], SOON, ["recheck"]),
    "being put back": ([GONE, started(1)], SOON, ["reassert"]),
    "put back": ([GONE, started(1), AGAIN], SOON, ["recheck"]),
    "put back and it holds": ([GONE, started(1), AGAIN, BACK], LATER, []),
    "put back and it does not hold yet": ([GONE, started(1), AGAIN, SAME], SOON, []),
    "the second time, too early": ([GONE, *put_back(1)], SOON, []),
    "the second time": ([GONE, *put_back(1)], LATER, ["reassert"]),
    "a failed try, too early": ([GONE, started(1), BUSY], SOON, []),
    "a failed try": ([GONE, started(1), BUSY], LATER, ["reassert"]),
    "three times": (
        [GONE, *put_back(1), *put_back(2), *put_back(3)],
        LATER,
        ["reassert_given_up"],
    ),
    "never where it is refused": ([GONE, started(1), REFUSED], LATER, []),
    "over": ([OVER, ASKED], LATER, []),
    "taken back": ([UNDO, ("undo_done", {"step": "mark"}), ASKED], LATER, []),
    "to be taken back": ([GONE, UNDO], SOON, ["undo"]),
    "to be taken back while it is put back": ([GONE, started(1), UNDO], SOON, ["undo"]),
    "not taken back, and lost": (
        [GONE, UNDO, ("undo_failed", {"step": "mark", "error": "no"})],
        LATER,
        [],
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_what_was_found_later_asks_for_exactly_this(case: str) -> None:
    """One line for each place where a containment can be after its run."""
    events, now, wanted = TABLE[case]

    assert said(held(*events), now) == wanted


def test_the_pauses_before_it_is_put_back_grow() -> None:
    """At once, after five seconds, after thirty: the run is due exactly then."""
    first = held(GONE)
    second, third = held(GONE, *put_back(1)), held(GONE, *put_back(1), *put_back(2))

    assert said(first, SOON) == ["reassert"]
    for run, seconds in ((second, 5), (third, 30)):
        done = run.step("mark").put_done
        assert decide(run, done).due == done + seconds * SECOND
        assert said(run, done + seconds * SECOND - 1) == []
        assert said(run, done + seconds * SECOND) == ["reassert"]


def test_what_held_for_an_hour_may_be_put_back_three_times_again() -> None:
    """The bound is for a fight, not for a lifetime."""
    fought = held(GONE, *put_back(1), *put_back(2), started(3), AGAIN, BACK)
    at = fought.step("mark").put_done

    soon = fold_all(fought, [Event(GONE[0], at + truth.QUIET, GONE[1])])
    late = fold_all(fought, [Event(GONE[0], at + truth.QUIET + 1, GONE[1])])

    assert said(soon, at + 2 * truth.QUIET) == ["reassert_given_up"]
    assert said(late, at + 2 * truth.QUIET) == ["reassert"]


def test_a_step_of_a_playbook_without_looks_is_never_looked_at() -> None:
    """An action that declares no interval is left alone."""
    run = run_of(MARK, *applied("mark"), ("step_done", {"step": "mark", "verdict": GOOD}), ASKED)

    assert said(run, LATER) == ["run_finished"]


def test_the_answer_of_a_look_is_dropped_when_it_was_taken_back_meanwhile() -> None:
    """An undo in the same moment makes a loss no loss; no line says otherwise."""
    run = held(UNDO)

    turn = take_turn(run, [Event(GONE[0], SOON, GONE[1])], SOON, ("mark",), lambda *_: False)

    assert turn.events == []
    assert turn.run.step("mark").verdict == GOOD


def test_a_look_that_found_nothing_new_is_not_saved() -> None:
    """It is folded, and leaves no trace in the journal."""
    run = held(ASKED)

    turn = take_turn(run, [Event(SAME[0], SOON, SAME[1])], SOON, (), lambda *_: False)

    assert turn.events == []
    assert not turn.run.step("mark").look


def test_a_look_keeps_nothing_of_its_step_busy() -> None:
    """An undo begins while a look is under way."""
    run = held(ASKED, UNDO)

    turn = take_turn(run, [], SOON, ("mark?",), lambda *_: False)

    assert [launch.kind.value for launch in turn.launches] == ["undo"]


def test_a_run_is_found_by_the_cluster_and_by_the_namespace_that_it_holds_something_in() -> None:
    """And by nothing any more once it holds nothing."""
    assert set(correlations(held())) == {"held", "held:fake", "held:fake/shop", "held:fake/shop/*"}
    assert correlations(held(OVER)) == ()


@pytest.mark.parametrize(
    ("holds", "found"),
    [
        (None, {"fake", "fake/shop", "fake/shop/any"}),
        ([], {"fake", "fake/shop"}),
        (["shop/a", "shop/b"], {"fake", "fake/shop", "fake/shop/a", "fake/shop/b"}),
    ],
)
def test_an_object_leads_to_the_runs_that_stand_on_it_or_do_not_say_on_what(
    holds: list[str] | None, found: set[str]
) -> None:
    """A plan names the objects that its containment stands on; other objects are no matter."""
    run = held()
    plan = dict(run.step("mark").plan or {})
    plan["data"] = {} if holds is None else {"holds": holds}
    run = evolve(run, steps={"mark": evolve(run.step("mark"), plan=plan)})
    places = {
        place
        for place in ("fake", "fake/shop", "fake/shop/a", "fake/shop/b", "fake/shop/any", "other")
        if set(truth.names(place)) & set(correlations(run))
    }
    assert places == found | ({"fake/shop/a", "fake/shop/b"} if holds is None else set())


@pytest.mark.parametrize(
    ("before", "after", "is_other", "is_worse"),
    [
        (GOOD, GOOD, False, False),
        (GOOD, {**GOOD, "checks": {"a": "b"}}, False, False),
        (GOOD, OPEN, True, True),
        (OPEN, GOOD, True, False),
        (OPEN, LOST, True, True),
        (OPEN, {**OPEN, "residual": []}, True, False),
        ({**GOOD, "level": "proven"}, GOOD, True, True),
        ({**GOOD, "residual": ["a", "b"]}, {**GOOD, "residual": ["b", "a"]}, False, False),
    ],
)
def test_only_level_and_what_stays_open_make_another_truth(
    before: Mapping[str, Any], after: Mapping[str, Any], *, is_other: bool, is_worse: bool
) -> None:
    """What the checks saw may be worded anew; less sure or more open is worse."""
    assert truth.changed(before, after) == is_other
    assert truth.worse(before, after) == is_worse
