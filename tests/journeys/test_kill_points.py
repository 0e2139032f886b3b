"""The whole journey, its server killed at every moment that lasts, ends as if nothing had been.

Sandbox and server are processes of their own. A first journey without a kill lists the moments:
before and after every write to the store and every call to an outside system. Then one journey for
each moment dies there (SIGKILL) and is started again; its sender posts an unacknowledged alert
again, its approver says yes again. Each must end exactly as the first did.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from responder.playbook.shipped import shipped_folder
from tests.journeys.kill_driver import Death, Forging, Journey, Nursery, Story, nursery, own_forge

SHIPPED = shipped_folder() / "contain-and-rebuild.yaml"
EFFECTS = {
    "dispatches": {"STEP-1": 1},
    "networkpolicies_created": {"shop/responder-quarantine-UID": 1},
    "pods_deleted": {"shop/POD": 1},
    "pushes": {"shop/cart@DIGEST": 1},
    "relabels": {"shop/POD": 1},
    "rollouts": {"shop/cart": 1},
}
TOGETHER = 2  # journeys at once: one core each
PENDING = "after write append step_pending:redeploy #1"
START = "the beginning #1"
DISPATCHED = "after call POST /repos/acme/shop/actions/workflows/rebuild.yml/dispatches #1"
RANDOM_KILLS = 20
CHAINS = 30  # journeys that die three times
FEWEST = 150  # moments; fewer means that the points have come loose, not that we became better


def playbook(folder: Path, *, asks: bool) -> Path:
    """A folder with the shipped playbook: as it is, or without anybody being asked."""
    text = SHIPPED.read_text()
    if not asks:
        text = text.replace("mode: approve", "mode: enforce")
        text = re.sub(r"\n    approve: .*|, waits_at: \w+", "", text)
    folder.mkdir()
    (folder / SHIPPED.name).write_text(text)
    return folder


def differences(story: Story, wanted: Story) -> dict[str, object]:
    """Every part of the end that is not the wanted one, to the letter."""
    keys = {*story.end, *wanted.end}
    return {key: story.end.get(key) for key in keys if story.end.get(key) != wanted.end.get(key)}


async def first_light(
    hand: Nursery, folder: Path, playbooks: Path, forging: Forging = own_forge
) -> Story:
    """A journey that nobody disturbs; what it ends in is checked word by word."""
    story = await Journey(hand, folder, playbooks, forging).travel()
    end = story.end
    assert "did not end" not in end, end["did not end"]
    assert end["effects"] == EFFECTS
    assert (end["incidents"], end["authentic alerts"], end["status"]) == (1, 1, "resolved")
    assert end["runs"] == [("succeeded", "succeeded", "")]
    assert {status for _, status, _ in end["steps"]} == {"succeeded"}
    assert end["cluster"] == {
        "isolated pod": [],
        "pods on the new digest": 3,
        "pods": 3,
        "deployments on the new digest": [True],
        "policies": 0,
    }
    assert end["sound"] == (True, True)
    assert set(end["store"].values()) == {"ok"}
    assert end["sandbox said"] == ""
    return story


async def all_of(
    hand: Nursery,
    folder: Path,
    playbooks: Path,
    wanted: Story,
    plans: Iterable[tuple[Death, ...]],
    forging: Forging = own_forge,
) -> dict[tuple[Death, ...], Story]:
    """One journey for each plan of deaths, a few at once; each must end as `wanted` did."""
    left = list(enumerate(plans))[::-1]
    told: dict[tuple[Death, ...], Story] = {}
    wrong: list[str] = []

    async def work() -> None:
        while left:
            number, deaths = left.pop()
            journey = Journey(hand, folder / str(number), playbooks, forging)
            story = await journey.travel(*deaths)
            told[deaths] = story
            if found := differences(story, wanted):
                wrong.append(f"{deaths}: {found}")

    async with asyncio.TaskGroup() as group:
        for _ in range(TOGETHER):
            group.create_task(work())
    assert not wrong, "\n".join(wrong)
    return told


def name(point: str) -> str:
    """A moment without its number: how often the journey looks at a rollout differs."""
    return point.rpartition(" #")[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("asks", [False, True], ids=["enforced", "approved by a person"])
async def test_a_kill_at_any_moment_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asks: bool
) -> None:
    """Before and after every write and every outside call: same end, each effect exactly once."""
    playbooks = playbook(tmp_path / "playbooks", asks=asks)
    async with nursery() as hand:
        first = await first_light(hand, tmp_path / "first", playbooks)
        points = first.lives[0]
        told = await all_of(
            hand, tmp_path / "killed", playbooks, first, [(Death(point),) for point in points]
        )
    reached = [deaths[0].target for deaths, story in told.items() if story.kills]
    again = sum(story.sent > 1 for story in told.values())
    writes = sum(" write " in point or " aside " in point for point in reached)
    with capsys.disabled():
        print(
            f"\nkilled at {len(reached)} of {len(points)} moments ({writes} at writes, "
            f"{len(reached) - writes} at outside calls), alert posted again {again} times: "
            "same end each time, each outside effect once"
        )
    assert len(points) >= FEWEST
    assert {name(point) for point in reached} == {name(point) for point in points}
    assert len(reached) >= 0.97 * len(points)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_kills_at_random_times_of_the_rollout_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the rollout is waited for, and once more while that is taken up again."""
    rng = random.Random(20)
    plans = [
        (Death(PENDING, rng.uniform(0.001, 0.25)), Death(START, rng.uniform(0.001, 0.15)))
        for _ in range(RANDOM_KILLS)
    ]
    playbooks = playbook(tmp_path / "playbooks", asks=False)
    async with nursery() as hand:
        first = await first_light(hand, tmp_path / "first", playbooks)
        told = await all_of(hand, tmp_path / "killed", playbooks, first, plans)
    kills = sum(story.kills for story in told.values())
    with capsys.disabled():
        print(f"\n{kills} kills at random times over {len(told)} rollouts: same end each time")
    assert all(story.kills for story in told.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_kills_during_recovery_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A moment drawn by chance, and two random times in the lives that take the work up again."""
    rng = random.Random(30)
    playbooks = playbook(tmp_path / "playbooks", asks=True)
    async with nursery() as hand:
        first = await first_light(hand, tmp_path / "first", playbooks)
        plans = [
            (
                Death(rng.choice(first.lives[0])),
                Death(START, rng.uniform(0.02, 0.4)),
                Death(START, rng.uniform(0.02, 0.4)),
            )
            for _ in range(CHAINS)
        ]
        told = await all_of(hand, tmp_path / "killed", playbooks, first, plans)
    kills = [story.kills for story in told.values()]
    with capsys.disabled():
        print(
            f"\n{sum(kills)} kills over {len(told)} journeys of several lives: same end each time"
        )
    assert sum(count > 1 for count in kills) >= CHAINS / 2


async def test_a_server_that_forgets_to_look_up_its_dispatch_is_found(tmp_path: Path) -> None:
    """The counter-proof: with the look-up taken out, the journey dispatches twice and says so."""
    playbooks = playbook(tmp_path / "playbooks", asks=False)
    async with nursery("--forgetful") as hand:
        story = await Journey(hand, tmp_path / "killed", playbooks).travel(Death(DISPATCHED))
    assert story.kills == 1
    assert sum(story.end["effects"]["dispatches"].values()) == 2
