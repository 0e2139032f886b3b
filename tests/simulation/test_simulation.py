"""The whole server, told by seeds: nothing that was promised is ever broken, and bugs are found.

`RESPONDER_SEEDS` raises the number of seeds (200 by default); `RESPONDER_SEED` runs a single one
and prints its trace, to look into a failure.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.simulation.planted import BlindMark, ForgetfulBuild, HastyStore, RacyStore, SleepyStore
from tests.simulation.scenario import Story, Variant, tell

SEEDS = int(os.environ.get("RESPONDER_SEEDS", "200"))
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.timeout(60 + SEEDS)
def test_no_seed_breaks_a_promise() -> None:
    """Whatever is cut, killed, repeated, delayed or said twice, every promise holds."""
    single = os.environ.get("RESPONDER_SEED")
    stories = [tell(int(single), keep_lines=True)] if single else _all_seeds()

    for story in stories:
        print("\n".join(story.lines))
    broken = {story.seed: story.faults for story in stories if story.faults}
    assert broken == {}
    if not single:
        _has_bite(stories)


def _all_seeds() -> list[Story]:
    """Every core tells its share of the seeds."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=fresh) as cores:
        return list(cores.map(tell, range(SEEDS), chunksize=10))


def _has_bite(stories: list[Story]) -> None:
    """The stories really hold what they are there for: ends of all kinds, and kills."""
    outcomes = {outcome for story in stories for outcome in story.outcomes}
    assert {"succeeded", "failed", "cancelled", "undone"} <= outcomes
    assert sum(story.put_back for story in stories) >= len(stories) // 10
    assert sum(story.boots - 1 for story in stories) >= len(stories) // 2
    assert len({story.digest for story in stories}) == len(stories)


def test_a_seed_tells_the_same_story_twice_in_one_process() -> None:
    """Two runs of a seed do the same callbacks at the same moments with the same bytes."""
    first = [tell(seed).digest for seed in range(6)]

    assert [tell(seed).digest for seed in range(6)] == first


def test_a_seed_tells_the_same_story_in_every_process() -> None:
    """Neither hash order nor the process changes a single callback."""
    told = {hashing: _digests_elsewhere(hashing) for hashing in ("1", "4711")}

    assert told["1"] == told["4711"] == [tell(seed).digest for seed in range(4)]


def _digests_elsewhere(hashing: str) -> list[str]:
    script = "from tests.simulation.scenario import tell\nfor s in range(4): print(tell(s).digest)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": hashing},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


PLANTED = {
    "dedup race": (Variant(make_store=RacyStore), "was acknowledged as"),
    "lost wake-up": (Variant(make_store=SleepyStore), "has no end"),
    "double dispatch": (Variant(build=ForgetfulBuild), "took place 2 times"),
    "look that does not look": (Variant(isolate=BlindMark), "says applied of"),
    "effect before intent": (Variant(make_store=HastyStore), "before the intent is on disk"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str) -> None:
    """Each bug that somebody might write is seen within the seeds, by the fault it makes."""
    variant, sign = PLANTED[bug]

    for seed in range(SEEDS):
        faults = tell(seed, variant).faults
        if any(sign in fault for fault in faults):
            print(f"{bug}: found by seed {seed}")
            return
    pytest.fail(f"{SEEDS} seeds did not find the planted {bug}")
