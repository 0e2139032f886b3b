"""A rate limit says when to come back; coming back then is no attempt of the step."""

from __future__ import annotations

import pytest

from responder.engine.failing import TRIES, events_for
from responder.engine.machine import Command, Kind
from responder.engine.state import StepState
from responder.errors import StepRetry
from responder.playbook.loading import load_text
from tests.core.playbook.catalogue import CATALOGUE

TEXT = """\
playbook: a
on: [{alert: {source: falco}}]
steps:
  s:
    use: pipeline.run
    with: {image: shop/web}
    retry: {attempts: 3, backoff: 30s}
"""
NOW = 1_790_000_000_000_000


@pytest.mark.parametrize(
    ("tries", "away", "goes_on"),
    [
        (1, False, True),
        (2, False, False),  # the third attempt was the last
        (2, True, True),
        (TRIES[Kind.APPLY] - 2, True, True),
        (TRIES[Kind.APPLY] - 1, True, False),  # it has a bound all the same
    ],
)
def test_only_real_attempts_use_up_the_retries_of_a_step(
    tries: int, *, away: bool, goes_on: bool
) -> None:
    """A refusal before acting, and a call that was held back because of it, use up none."""
    step = load_text(TEXT, "a.yaml", CATALOGUE).steps["s"]
    [event] = events_for(
        StepRetry("forge: dispatch: HTTP 429, rate limit", after=60, turned_away=away),
        step=step,
        state=StepState(id="s", tries=tries),
        command=Command(kind=Kind.APPLY, step="s", attempt=tries + 1),
        looks_up=True,
        now=NOW,
        jitter=0.0,
    )
    assert event.type == "step_failed"
    assert bool(event.data.get("temporary")) is goes_on
    if goes_on:
        assert event.data["retry_at"] >= NOW + 60_000_000
