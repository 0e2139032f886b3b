"""How long it took from a run's start until a stage was reached, and only where it was."""

from __future__ import annotations

import pytest

from responder.service.metrics import Metrics
from responder.service.views import incident
from responder.store.interface import Event, IncidentRow
from tests.core.engine.runs import NOW, events, planned, run_of
from tests.core.engine.test_driver import MARK
from tests.core.engine.test_saying import BEGUN, verified

SECOND = 1_000_000


def sums(metrics: Metrics) -> dict[str, float]:
    """The stages that were observed, with the seconds they add up to."""
    found = metrics.registry.collect()
    samples = [one for family in found for one in family.samples]
    return {
        one.labels["stage"]: one.value
        for one in samples
        if one.name == "responder_stage_seconds_sum"
    }


@pytest.mark.parametrize(
    ("stage", "level", "observed"),
    [
        ("contained", "enforced", True),
        ("contained", "residual", False),  # a pod that still talks is not contained
        ("rolled-out", "residual", False),
        ("evidenced", "applied", True),
        ("built", "enforced", True),
        ("gated", "proven", True),
        ("released", "enforced", True),
    ],
)
def test_a_stage_is_timed_from_the_run_s_start_when_it_was_verified(
    stage: str, level: str, *, observed: bool
) -> None:
    """Nine seconds after the run began, by the journal's own times."""
    said = [planned("mark", stage=stage), BEGUN, verified(level)]
    run = run_of(MARK, *said)
    end = events(*said)[-1]
    metrics = Metrics("1")
    metrics.observe(run, [Event(end.type, run.created + 9 * SECOND, end.data, end.seq)])
    assert sums(metrics) == ({stage: 9.0} if observed else {})


def test_an_incident_shows_its_stages_from_being_detected_on() -> None:
    """In the order they were reached."""
    row = IncidentRow(
        number=1,
        key="k",
        title="t",
        severity=4,
        status="resolved",
        opened=NOW,
        updated=NOW,
        last_alert=NOW,
        alerts=1,
        target={},
        stages={"built": NOW + 3 * SECOND, "contained": NOW + SECOND},
    )
    assert list(incident(row)["stages"]) == ["detected", "contained", "built"]
