"""A step's time: what a person takes is not counted; hints in any order change no end."""

import itertools

import pytest

from responder.clock import SECOND
from responder.engine.commands import Command, Kind
from responder.engine.failing import events_for
from responder.engine.folding import fold, fold_all
from responder.engine.machine import begin, decide
from responder.engine.state import RunState, StepStatus
from responder.errors import StepRetry
from responder.store.interface import Event
from tests.core.engine.runs import NOW, begun, events, load

STEPS = "  build:\n    use: fake.build\n    timeout: 10m\n    with: {thing: a}\n"
MINUTE = 60 * SECOND


def looked(minute: float, *, person: bool = False, check: float = 1) -> Event:
    """Return the event of a look at that minute."""
    at = NOW + int(minute * MINUTE)
    data = {
        "step": "build",
        "state": {},
        "check_at": at + int(check * MINUTE),
        "waiting_for": "GitHub run 4711 (waits for octocat)" if person else "running",
        "correlation": "github:acme/shop:4711",
    }
    return Event("step_pending", at, {**data, **({"by_person": True} if person else {})})


def after(*looks: Event) -> RunState:
    """Return the run that began the step and was looked at so."""
    run = fold_all(begin("run_1", load(STEPS)), events(*begun("build")))
    return fold_all(run, looks)


def kinds(run: RunState, minute: float) -> list[str]:
    """Return what should happen at that minute: a look, or the end that is recorded."""
    decision = decide(run, NOW + int(minute * MINUTE))
    return [
        one.event.data.get("error", one.event.type) if one.event else one.kind.value
        for one in decision.commands
    ]


def test_what_works_elsewhere_is_ended_when_its_time_is_over() -> None:
    """Ten minutes of running are ten minutes."""
    run = after(looked(0), looked(5), looked(9))
    assert kinds(run, 9.9) == []
    assert kinds(run, 10.1) == ["timed out after 600 s"]


def test_a_step_that_waits_for_a_person_is_never_out_of_time() -> None:
    """Hours later it is looked at, not ended; and the run is not due for its time-out."""
    run = after(looked(0), looked(5, person=True))
    assert kinds(run, 300) == [Kind.POLL.value]
    assert decide(run, NOW + 5 * MINUTE).due == NOW + 6 * MINUTE
    assert decide(run, NOW + 5 * MINUTE).waiting_for == "build: GitHub run 4711 (waits for octocat)"


def test_the_time_that_a_person_took_is_added() -> None:
    """Five minutes of running, an hour of waiting: five minutes are left."""
    run = after(looked(0), looked(5, person=True), looked(35, person=True), looked(65, check=30))
    assert kinds(run, 69.9) == []
    assert kinds(run, 70.1) == ["timed out after 600 s"]
    assert decide(run, NOW + 66 * MINUTE).due == run.step("build").started + 70 * MINUTE


def test_a_second_wait_for_a_person_adds_to_the_first() -> None:
    """Two environments, two approvals."""
    looks = [looked(0), looked(1, person=True), looked(31), looked(32, person=True), looked(62)]
    run = after(*looks)
    assert run.step("build").waited == 60 * MINUTE
    assert kinds(run, 69.9) == [Kind.POLL.value]
    assert kinds(run, 70.1) == ["timed out after 600 s"]


def test_a_forge_that_is_silent_while_a_person_is_waited_for_does_not_start_the_clock() -> None:
    """A failed look says nothing about who is waited for."""
    retry = {"step": "build", "error": "no answer", "temporary": True, "resume": "poll"}
    silent = Event("step_failed", NOW + 6 * MINUTE, {**retry, "retry_at": NOW + 7 * MINUTE})
    run = after(looked(0), looked(5, person=True), silent)
    assert kinds(run, 300) == [Kind.POLL.value]


def test_hints_late_twice_or_in_any_order_never_change_an_end() -> None:
    """Between any two events of the journal a hint may stand, and after the end as well."""
    hint = Event("hint", NOW + 2 * MINUTE, {"correlation": "github:acme/shop:4711"})
    verdict = {"level": "applied", "residual": [], "checks": {}}
    story = [
        looked(0),
        looked(1),
        Event("step_applied", NOW + 3 * MINUTE, {"step": "build", "result": {"digest": "x"}}),
        Event("step_done", NOW + 4 * MINUTE, {"step": "build", "verdict": verdict}),
        Event("run_finished", NOW + 5 * MINUTE, {"outcome": "succeeded", "reason": ""}),
    ]
    run = after()
    right = fold_all(run, story)
    seen = 0
    for places in itertools.product(range(3), repeat=len(story) + 1):
        mixed = [hint] * places[0]
        for event, hints in zip(story, places[1:], strict=True):
            mixed += [event, *[hint] * hints]
        end = fold_all(run, mixed)
        assert end.outcome == "succeeded"
        assert end.step("build").status is StepStatus.SUCCEEDED
        assert end.step("build").result == right.step("build").result
        assert decide(end, NOW + 6 * MINUTE).commands == ()
        seen += 1
    assert seen == 3 ** (len(story) + 1)
    assert fold(after(looked(0)), hint).step("build").check_at == 0


@pytest.mark.parametrize(
    ("anew", "looks_up", "resume"),
    [(True, True, "apply"), (False, True, "poll"), (True, False, "poll")],
)
def test_what_was_cancelled_elsewhere_is_begun_again_and_not_looked_at_for_ever(
    anew: bool, looks_up: bool, resume: str
) -> None:
    """The next thing is another attempt, which looks first; without a way to look, never."""
    run = after(looked(0))
    (event,) = events_for(
        StepRetry("GitHub run 4711 was superseded", after=15, anew=anew),
        step=run.definition("build"),
        state=run.step("build"),
        command=Command(kind=Kind.POLL, step="build"),
        looks_up=looks_up,
        now=NOW + MINUTE,
        jitter=1.0,
    )
    assert event.data["resume"] == resume
    again = fold(run, event)
    (command,) = decide(again, NOW + 2 * MINUTE).commands
    assert (command.kind, command.attempt) == (
        (Kind.APPLY, 2) if resume == "apply" else (Kind.POLL, 1)
    )
    assert command.resumed is (resume == "apply")
