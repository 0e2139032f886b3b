"""The journey by GitLab, its server killed at every outside call, ends as if nothing had been.

As `test_kill_points`, with the double of GitLab's API as the forge. Behind it the sandbox's own
workshop builds and pushes, so that what each pipeline does outside is counted there.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import gitlab
from tests.journeys.kill_driver import Death, Journey, nursery
from tests.journeys.test_kill_points import all_of, first_light, name, playbook
from tests.journeys.workshop import TOKEN, LabWorkshop

START = "after call POST /api/v4/projects/acme%2Fshop/pipeline #1"
FEWEST = 60  # outside calls; fewer means that the points have come loose


@contextlib.asynccontextmanager
async def by_gitlab(addresses: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
    """Serve GitLab's double beside the sandbox; it must have been asked rightly in the end."""
    assert addresses["workflow"] == "rebuild.yml"
    runner = LabWorkshop(f"{addresses['forge']}/repos/{addresses['repo']}")
    async with gitlab.running(executor=runner, token=TOKEN) as double:
        yield {
            "forge": {"kind": "gitlab", "base_url": double.base_url},
            "route": {
                "match": f"{addresses['registry']}/*",
                "forge": "other",
                "repo": "acme/shop",
                "workflow": ".gitlab-ci.yml",
            },
        }
    assert (double.wrong_requests, double.wrong_answers, double.leaked) == ([], [], [])


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_kill_at_any_outside_call_of_the_gitlab_journey_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before and after each: same end, one pipeline, one push, one rollout."""
    playbooks = playbook(tmp_path / "playbooks", asks=False)
    async with nursery() as hand:
        first = await first_light(hand, tmp_path / "first", playbooks, by_gitlab)
        points = [point for point in first.lives[0] if " call " in point]
        plans = [(Death(point),) for point in points]
        told = await all_of(hand, tmp_path / "killed", playbooks, first, plans, by_gitlab)
    reached = [deaths[0].target for deaths, story in told.items() if story.kills]
    with capsys.disabled():
        print(
            f"\nkilled at {len(reached)} of {len(points)} moments around outside calls of the "
            "GitLab journey: same end each time, one pipeline, one push, one rollout"
        )
    assert len(points) >= FEWEST
    assert {name(point) for point in reached} == {name(point) for point in points}
    assert any("/pipeline #" in point for point in reached)
    assert len(reached) >= 0.97 * len(points)


async def test_a_server_that_forgets_to_look_up_its_pipeline_is_found(tmp_path: Path) -> None:
    """The counter-proof: with the look-up taken out, two pipelines are started, and it shows."""
    playbooks = playbook(tmp_path / "playbooks", asks=False)
    async with nursery("--forgetful") as hand:
        journey = Journey(hand, tmp_path / "killed", playbooks, by_gitlab)
        story = await journey.travel(Death(START))
    assert story.kills == 1
    assert sum(story.end["effects"]["dispatches"].values()) == 2
