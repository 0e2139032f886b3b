"""A disk that is full, fails, or is taken away: refuse, lose nothing, say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from responder.errors import StoreUnavailable
from responder.store.interface import Event
from responder.store.sqlite import SqliteStore
from tests.core.store.accepting import TOGETHER
from tests.core.store.making import NOW, audited, item, start

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB of its own."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root may mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    command = [mount, "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_refuses_alerts_and_still_lets_people_stop(small_disk: Path) -> None:
    """No acknowledged alert is lost, pause and undo fit in the reserve, and it recovers alone."""
    store = SqliteStore(small_disk / "responder.db", reserve=4 * MIB)
    await store.open()
    await store.accept([item(0, start(), key="k0")])
    filler = small_disk / "filler"
    filler.write_bytes(bytes(small_disk_free(small_disk) - MIB))
    taken = await fill(store)
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.accept([item(8999)])
    assert not await store.writable()
    await store.set_switch("pause", {"reason": "full"}, audited("pause"))
    await store.append("run_000000_0", 1, [Event("undo_asked", NOW)])
    assert await store.get_switch("pause") == {"reason": "full"}
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.accept([item(9000)])
    assert len(await store.alerts(limit=9999)) == taken
    filler.unlink()
    assert await store.writable()
    await store.accept([item(9001)])
    found = await store.check()
    await store.close()
    assert set(found.values()) == {"ok"}


async def fill(store: SqliteStore) -> int:
    """Take alerts until the disk is full; how many there are."""
    for number in range(1, 5000):
        try:
            await store.accept([item(number, key=f"k{number}")])
        except StoreUnavailable:
            return number
    pytest.fail("the disk did not fill")


def small_disk_free(folder: Path) -> int:
    """Bytes that are left."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def inject(tmp_path: Path, fault: str) -> list[list[str]]:
    """What a program says that takes alerts while a system call fails."""
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is not installed: a failing disk cannot be shown")
        pytest.skip("strace is not installed")
    ran = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none"),
            *("-e", f"trace={fault.partition(':')[0]}", "-e", f"inject={fault}"),
            *(sys.executable, "-m", "tests.core.store.accepting", str(tmp_path / "home"), "12"),
        ],
        capture_output=True,
        check=False,
        timeout=50,
    )
    return [line.split(" ", 2) for line in ran.stdout.decode().splitlines()]


async def stored(tmp_path: Path) -> set[str]:
    """The alerts that a restart finds; the store must be sound."""
    store = SqliteStore(tmp_path / "home" / "responder.db", reserve=0)
    await store.open()
    found = await store.check()
    alerts = {kept["id"] for kept in await store.alerts(limit=9999)}
    await store.close()
    assert set(found.values()) == {"ok"}
    return alerts


async def test_after_one_failed_flush_nothing_more_is_written(tmp_path: Path) -> None:
    """A flush that fails once may wrongly succeed the next time: only a restart goes on."""
    said = inject(tmp_path, "fdatasync:error=EIO:when=10")
    kinds = [line[0] for line in said if line[0] != "evidence" and line[1].startswith("alr")]
    assert {"alert", "refused"} == set(kinds)
    half = 9 * TOGETHER  # there the program closes the store and opens it again: a restart
    assert set(kinds[kinds.index("refused") : half]) == {"refused"}
    assert set(kinds[half:]) == {"alert"}
    assert all("disk I/O error" in line[2] for line in said if line[0] == "refused")
    assert {line[1] for line in said if line[0] == "alert"} <= await stored(tmp_path)


async def test_after_one_full_write_the_next_alerts_are_taken_again(tmp_path: Path) -> None:
    """No space at one moment is no reason to stop for good."""
    said = inject(tmp_path, "pwrite64:error=ENOSPC:when=150")
    kinds = [line[0] for line in said if line[1].startswith("alr")]
    assert "refused" in kinds
    assert kinds[-1] == "alert"
    assert {line[1] for line in said if line[0] == "alert"} <= await stored(tmp_path)


async def test_a_store_whose_file_is_taken_away_takes_no_more_alerts(tmp_path: Path) -> None:
    """Writing into a removed file would acknowledge what nobody can ever read."""
    store = SqliteStore(tmp_path / "responder.db", reserve=0)
    await store.open()
    await store.accept([item(1)])
    (tmp_path / "responder.db").rename(tmp_path / "moved.db")
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await store.accept([item(2)])
    assert not await store.writable()
    store.abandon()
