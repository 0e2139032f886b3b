"""A recorded rollout, its server killed round every call that tells the forge, is told once.

As `test_kill_points`: by the rehearsal's own GitHub, and by GitLab's double beside it, which counts
what has acted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import gitlab
from tests.doubles.gitlab_deployments import Deployed
from tests.journeys.kill_driver import Death, Forging, Journey, Story, nursery, own_forge
from tests.journeys.test_kill_points import TOGETHER, differences, name
from tests.journeys.workshop import TOKEN, LabWorkshop

TOLD = """
playbook: record-rollout
description: Rebuild an image, and tell the forge what is rolled out.
on:
  - alert: {source: [falco], when: alert.target.pod != ""}
incident: {key: [cluster, namespace, workload], window: 30m}
mode: enforce
steps:
  rebuild:
    use: pipeline.run
    with: {image: "${{ target.image }}"}
    retry: {attempts: 3, backoff: 1s}
  record:
    use: deployment.record
    needs: [rebuild]
    with: {image: "${{ steps.rebuild.image }}", run: "${{ steps.rebuild.run }}", state: running}
finally:
  - use: deployment.record
    if: steps.record.status == "succeeded"
    with:
      image: ${{ steps.rebuild.image }}
      run: ${{ steps.rebuild.run }}
      state: '${{ run.outcome == "succeeded" ? "success" : "failure" }}'
"""
FEWEST = 12  # moments; fewer means that the points have come loose


@contextlib.asynccontextmanager
async def by_gitlab(addresses: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
    """Serve GitLab's double; in the end it has one deployment, told each status once."""
    runner = LabWorkshop(f"{addresses['forge']}/repos/{addresses['repo']}")
    part = Deployed()
    async with gitlab.running(executor=runner, token=TOKEN, parts=(part,)) as double:
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
    assert list(part.made.values()) == [1], part.made
    assert dict(part.told) == {"40 running": 1, "40 success": 1}, part.told


def _round_the_record(point: str) -> bool:
    """Whether a moment belongs to telling the forge: a call of it, or a write of its step."""
    return "/deployments" in point or ":record" in point


def _once(story: Story, *, by_double: bool) -> None:
    effects = story.end["effects"]
    assert list(effects["dispatches"].values()) == [1]
    if not by_double:
        assert effects["deployments"] == {"production": 1}
        assert effects["deployment states"] == {"in_progress": 1, "success": 1}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("forging", [own_forge, by_gitlab], ids=["github", "gitlab"])
async def test_a_kill_round_any_word_to_the_forge_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], forging: Forging
) -> None:
    """Before and after each call and write: one deployment, each of its states once."""
    playbooks = tmp_path / "playbooks"
    playbooks.mkdir()
    (playbooks / "record-rollout.yaml").write_text(TOLD)
    async with nursery() as hand:
        first = await Journey(hand, tmp_path / "first", playbooks, forging).travel()
        assert "did not end" not in first.end, first.end["did not end"]
        assert first.end["runs"] == [("succeeded", "succeeded", "")]
        _once(first, by_double=forging is by_gitlab)
        points = [point for point in first.lives[0] if _round_the_record(point)]
        places = asyncio.Semaphore(TOGETHER)

        async def killed(number: int, point: str) -> Story:
            async with places:
                journey = Journey(hand, tmp_path / f"killed-{number}", playbooks, forging)
                return await journey.travel(Death(point))

        stories = await asyncio.gather(*map(killed, range(len(points)), points))
    reached = [point for point, story in zip(points, stories, strict=True) if story.kills]
    for story in stories:
        _once(story, by_double=forging is by_gitlab)
        found = differences(story, first)
        found.pop("cluster", None)  # nothing is isolated here: its pods have names of their own
        assert not found
    with capsys.disabled():
        print(f"\nkilled at {len(reached)} of {len(points)} moments: one deployment each time")
    assert len(points) >= FEWEST
    assert {name(point) for point in reached} == {name(point) for point in points}
