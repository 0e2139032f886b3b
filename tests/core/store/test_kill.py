"""kill -9 at any moment: whatever was acknowledged is there, and the store is sound."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from responder.store.sqlite import SqliteStore

ROUNDS = 8


def take_and_kill(folder: Path, first: int, lines: int) -> set[str]:
    """Let a program take alerts and kill it after so many acknowledgements; what it said."""
    command = [sys.executable, "-m", "tests.core.store.accepting", str(folder)]
    said: list[bytes] = []
    with subprocess.Popen(
        [*command, "100000", "FULL", str(first)], stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        while len(said) < lines:
            said.append(program.stdout.readline())
        program.kill()
        said += program.stdout.readlines()
    return {line.split()[1].decode() for line in said if line.endswith(b"\n")}


@pytest.mark.slow
@pytest.mark.timeout(110)
async def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    """Several times on one store, each time in the middle of the work."""
    rng, wanted = random.Random(7), set[str]()
    for turn in range(ROUNDS):
        wanted |= take_and_kill(tmp_path, turn * 100_000, rng.randint(1, 200))
        store = SqliteStore(tmp_path / "responder.db", reserve=0)
        await store.open()
        found = {kept["id"] for kept in await store.alerts(limit=100_000)}
        found |= {row.sha256 for row in await store.evidence(1)}
        health = await store.check()
        await store.close()
        assert wanted <= found
        assert set(health.values()) == {"ok"}
    assert len(wanted) > 100
