"""What is told of a run is what was verified: incident status, stages, audit lines, outcome."""

from __future__ import annotations

import pytest

from responder.engine import story
from responder.engine.folding import fold_all
from responder.engine.state import RunState
from responder.engine.summing import outcome_of
from responder.store.interface import Event
from tests.core.engine.runs import NOW, Said, begun, done, events, plan_of, planned, run_of
from tests.core.engine.test_driver import BUILD, MARK

END: Said = ("run_finished", {"outcome": "succeeded", "reason": ""})
FAIL: Said = ("step_failed", {"step": "mark", "error": "it does not hold"})
UNDONE: list[Said] = [("undo_started", {"step": "mark"}), ("undo_done", {"step": "mark"})]


def staged(stage: str, *rest: Said) -> list[Said]:
    """Events of step `mark`, planned with this stage."""
    return [planned("mark", stage=stage), *rest]


def verified(level: str) -> Said:
    return "step_done", {"step": "mark", "verdict": {"level": level, "residual": [], "checks": {}}}


BEGUN: Said = ("apply_started", {"step": "mark", "attempt": 1})


def told(*said: Said, steps: str = MARK) -> tuple[str, set[str]]:
    """The incident's status and stages after the last of these events."""
    run = run_of(steps, *said)
    patch = story.patch(run, events(*said)[-1:])
    return (patch.status, set(patch.stages)) if patch else ("", set())


@pytest.mark.parametrize(
    ("level", "status", "stages"),
    [
        ("residual", "", set()),
        ("applied", "contained", {"contained"}),
        ("enforced", "contained", {"contained"}),
        ("proven", "contained", {"contained"}),
    ],
)
def test_contained_is_said_only_of_what_holds(level: str, status: str, stages: set[str]) -> None:
    """A pod that still talks is not contained, however well the step ran."""
    assert told(*staged("contained", BEGUN, verified(level))) == (status, stages)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (verified("enforced"), "resolved"),
        (verified("residual"), ""),  # pods still run the old image
        (FAIL, ""),
    ],
    ids=["verified", "residual", "failed and allowed to"],
)
def test_resolved_is_said_only_after_a_verified_end(end: Said, status: str) -> None:
    """A rollout that failed, or left pods behind, resolves nothing even in a run that succeeded."""
    said = [*staged("rolled-out", BEGUN, end), END]
    assert told(*said, steps=MARK + "    on_error: continue\n")[0] == status


def test_a_rollout_with_nothing_to_change_resolves_too() -> None:
    """The digest was there already, and was verified: the fix is out."""
    name, data = planned("mark", stage="rolled-out")
    plan = {**plan_of("mark").to_json(), "changes": []}
    said: list[Said] = [(name, {**data, "plan": plan}), BEGUN, verified("enforced"), END]

    assert told(*said)[0] == "resolved"


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("contained", "", "open"),
        ("rolled-out", "", "open"),
        ("contained", "rolled-out", "resolved"),
        ("rolled-out", "contained", "contained"),
    ],
)
def test_an_undo_leaves_what_still_holds(first: str, second: str, status: str) -> None:
    """What was taken back is not said any longer; what another step reached is."""
    said = staged(first, BEGUN, verified("applied"))
    if second:
        name, data = planned("build", stage=second)
        said += [(name, data), *done("build")[1:]]
    assert told(*said, END, *UNDONE, steps=MARK + BUILD)[0] == status


def audited(*said: Said) -> list[str]:
    return [line.verb for line in story.audit(run_of(MARK, *said), events(*said))]


@pytest.mark.parametrize(
    ("last", "verb"),
    [
        (("step_failed", {"step": "mark", "error": "no"}), "apply failed"),
        (("step_uncertain", {"step": "mark", "error": "?"}), "uncertain"),
        (verified("applied"), "applied"),
    ],
    ids=["failed", "uncertain", "done"],
)
def test_every_begun_change_has_its_end_in_the_audit(last: Said, verb: str) -> None:
    """Failed and uncertain ends are ends, too."""
    assert audited(*begun("mark"), last) == ["apply", verb]


def test_a_failed_undo_is_in_the_audit() -> None:
    """Whoever asked for it must find that it did not happen."""
    failed: Said = ("undo_failed", {"step": "mark", "error": "changed since"})
    asked: list[Said] = [("undo_asked", {"step": "mark"}), ("undo_started", {"step": "mark"})]

    assert audited(*done("mark"), *asked, failed)[-2:] == ["undo", "undo failed"]


def test_a_try_that_will_be_repeated_is_no_end() -> None:
    """Only the last try is audited as failed."""
    data = {"step": "mark", "error": "busy", "temporary": True, "retry_at": 1, "resume": "apply"}
    assert audited(*begun("mark"), ("step_failed", data)) == ["apply"]


TAIL = "finally:\n  - use: fake.mark\n    with: {thing: closing}\n"


def closing(run: RunState) -> str:
    return run.playbook.finally_[0].id


def test_a_failed_closing_step_is_named_in_the_reason() -> None:
    """The run's outcome stays, and nobody is left to think that the end went well."""
    run = run_of(MARK, *done("mark"), tail=TAIL)
    failed = Event("step_failed", NOW, {"step": closing(run), "error": "no chat"}, seq=99)
    outcome, reason = outcome_of(fold_all(run, [failed]))

    assert outcome == "succeeded"
    assert "no chat" in reason


@pytest.mark.parametrize(
    ("undo", "outcome"), [("undo_done", "undone"), ("undo_failed", "needs-attention")]
)
def test_a_cancel_does_not_hide_how_the_way_back_ended(undo: str, outcome: str) -> None:
    """Cancelled while rolling back: what is still changed matters more than the cancel."""
    said: list[Said] = [
        *done("mark"),
        ("step_failed", {"step": "build", "error": "no forge"}),
        ("rollback_started", {}),
        ("cancel_asked", {"person": "anna"}),
        (undo, {"step": "mark", "error": "changed since"}),
    ]
    run = run_of(MARK + BUILD + "    on_error: undo\n", *said)

    assert outcome_of(run)[0] == outcome
