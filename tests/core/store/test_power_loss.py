"""Acknowledged means on disk: every prefix of the traced calls, replayed as a power loss.

The accept path and the evidence path of the real store run under strace. After each call the disk
is rebuilt twice: once without anything unflushed, once with a random choice of unflushed sectors.
Whatever was acknowledged by then must be in what SQLite makes of those bytes.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from responder.store.sqlite import SqliteStore
from tests.core.store.replay import Disk, trace

pytestmark = pytest.mark.timeout(110)
GROUPS = 12


@dataclass
class Losses:
    """What the images of one trace showed."""

    images: int = 0
    acknowledged: int = 0
    lost: int = 0
    corrupt: int = 0


@pytest.fixture(autouse=True)
def strace() -> None:
    """The proof needs strace; a machine that is meant to prove must have it."""
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is not installed: the power-loss proof cannot run")
        pytest.skip("strace is not installed")


def calls(tmp_path: Path, synchronous: str) -> list[str]:
    """The traced calls of a program that takes alerts."""
    home = tmp_path / "home"
    program = [sys.executable, "-m", "tests.core.store.accepting", str(home)]
    return trace([*program, str(GROUPS), synchronous], tmp_path / "calls.log")


def contents(folder: Path, image: dict[str, bytes], home: Path) -> set[str]:
    """Write an image and read what a restart would find; raises on damage."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in image.items():
        path = folder / Path(name).relative_to(home)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if not (folder / "responder.db").exists():
        return set()
    with closing(sqlite3.connect(folder / "responder.db")) as db:
        [found] = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        if not db.execute("PRAGMA user_version").fetchone()[0]:
            return set()
        alerts = {row[0] for row in db.execute("SELECT id FROM alerts WHERE incident>0")}
        rows = {row[0] for row in db.execute("SELECT sha256 FROM evidence")}
    return alerts | {sha256 for sha256 in rows if intact(folder, sha256)}


def intact(folder: Path, sha256: str) -> bool:
    """Whether an artefact's bytes are there and are the right ones."""
    path = folder / "evidence" / sha256[:2] / sha256
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def replay(lines: list[str], tmp_path: Path) -> Losses:
    """Cut the power after every call that matters, in two ways."""
    disk, rng, seen = Disk(tmp_path / "home"), random.Random(1), Losses()
    for line in lines:
        if not disk.step(line):
            continue
        wanted = {name for kind, name in disk.acknowledged if kind != "refused"}
        for chance in (None, rng):
            seen.images += 1
            try:
                found = contents(tmp_path / "image", disk.image(chance), tmp_path / "home")
            except sqlite3.DatabaseError:
                seen.corrupt += 1
                found = set()
            seen.lost += bool(wanted - found)
    seen.acknowledged = len(disk.acknowledged)
    return seen


@pytest.mark.slow
def test_no_acknowledged_alert_or_artefact_is_lost_by_a_power_loss(tmp_path: Path) -> None:
    """At least 400 images; not one lacks what was acknowledged, not one is damaged."""
    seen = replay(calls(tmp_path, "FULL"), tmp_path)
    print(f"\npower loss: {seen}")
    assert seen.images >= 400
    assert seen.acknowledged == GROUPS * 3 + GROUPS // 4
    assert (seen.lost, seen.corrupt) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_the_proof_sees_losses_where_flushes_are_missing(tmp_path: Path, synchronous: str) -> None:
    """With a weaker setting the same replay finds lost alerts: the test can fail."""
    seen = replay(calls(tmp_path, synchronous), tmp_path)
    print(f"\npower loss, {synchronous}: {seen}")
    assert seen.lost > 0


@pytest.mark.slow
async def test_the_last_image_opens_as_a_sound_store(tmp_path: Path) -> None:
    """A restart after a power loss checks out: journal, references, audit, evidence."""
    disk = Disk(tmp_path / "home")
    for line in calls(tmp_path, "FULL"):
        disk.step(line)
    contents(tmp_path / "image", disk.image(None), tmp_path / "home")
    store = SqliteStore(tmp_path / "image" / "responder.db")
    await store.open()
    found = await store.check()
    await store.close()
    assert set(found.values()) == {"ok"}
