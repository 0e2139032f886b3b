"""One brake for a whole forge: it pauses, it grows, and it counts no refusal twice."""

import pytest

from integrations._braking import Brake
from integrations._calling import Fault, FaultKind
from responder.clock import World
from responder.errors import StepRetry
from tests.doubles.leaping import Leaping

BARE = Fault(FaultKind.REFUSED, "HTTP 429, rate limit")


def limit(after: float | None) -> Fault:
    """Return a refusal that says how long, or does not."""
    return Fault(FaultKind.REFUSED, "HTTP 403, rate limit", after)


def braked() -> tuple[Brake, Leaping]:
    """Return a brake and the clock that it reads."""
    clock = Leaping()
    return Brake("github", World(clock=clock)), clock


def test_without_any_limit_every_call_passes() -> None:
    """A refused connection pauses nobody: the forge did not say so."""
    brake, _ = braked()
    brake.heard(Fault(FaultKind.REFUSED, "cannot connect"), limit=False)
    brake.passing("look")
    assert brake.left() == 0


def test_a_refusal_that_says_how_long_pauses_every_call_that_long() -> None:
    """The text says what was held back, and `after` what is left of the pause."""
    brake, clock = braked()
    assert brake.heard(limit(7), limit=True).after == 7
    with pytest.raises(StepRetry, match="github: look at run 7 was held back") as caught:
        brake.passing("look at run 7")
    assert 6 < caught.value.after <= 7
    clock.leap(7)
    brake.passing("look at run 7")


def test_one_that_does_not_say_pauses_a_minute_at_least_and_grows() -> None:
    """60, 120, 240 … and never beyond half an hour; a good answer begins it anew."""
    brake, clock = braked()
    waits = []
    for _ in range(8):
        brake.passing("look")
        waits.append(brake.heard(BARE, limit=True).after)
        clock.leap(waits[-1] or 0)
    assert waits == [60, 120, 240, 480, 960, 1920, 1920, 1920]
    clock.leap(1)
    brake.answered(brake.passing("look"))
    assert brake.heard(BARE, limit=True).after == 60


def test_refusals_that_arrive_together_are_one() -> None:
    """Four calls under way are turned away: the pause is a minute, not a quarter of an hour."""
    brake, clock = braked()
    after = [brake.heard(BARE, limit=True).after or 0 for _ in range(4)]
    assert after[0] == 60
    assert all(59 < wait <= 60 for wait in after)
    clock.leap(61)
    assert brake.heard(BARE, limit=True).after == 120


def test_an_answer_to_a_call_from_before_the_pause_does_not_end_its_growth() -> None:
    """It left while all was well and says nothing about now."""
    brake, clock = braked()
    left_at = brake.passing("a slow look")
    clock.leap(1)
    brake.heard(BARE, limit=True)
    brake.answered(left_at)
    clock.leap(61)
    assert brake.heard(BARE, limit=True).after == 120


def test_a_longer_pause_is_never_shortened_by_another_refusal() -> None:
    """A forge that said ten minutes and then seven seconds means ten minutes."""
    brake, _ = braked()
    brake.heard(limit(600), limit=True)
    brake.heard(limit(7), limit=True)
    assert brake.left() > 590


def test_a_server_that_is_down_and_says_how_long_pauses_every_call_too() -> None:
    """503 with Retry-After: whether a write acted stays unknown, but nobody hammers."""
    brake, _ = braked()
    fault = brake.heard(Fault(FaultKind.AMBIGUOUS, "HTTP 503", 30), limit=False)
    assert fault.kind is FaultKind.AMBIGUOUS
    assert 29 < brake.left() <= 30
