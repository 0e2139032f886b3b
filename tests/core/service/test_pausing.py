"""The stop button: each way works while every other one is broken, and none lets go by accident."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from responder.errors import StoreUnavailable
from responder.ports import Integration
from responder.store.interface import AuditEntry
from responder.store.sqlite import SqliteStore
from tests.core.engine.bench import BEN, Bench, bench
from tests.core.engine.test_driver import MARK, playbook


class Switch:
    """A key in the cluster that can be set, and can hang."""

    def __init__(self) -> None:
        self.text = ""
        self.hangs = False

    async def look(self) -> str:
        if self.hangs:
            await asyncio.Event().wait()
        return self.text


class Store(SqliteStore):
    """A store whose switches cannot be written."""

    broken = False

    async def set_switch(self, name: str, value: object, audit: AuditEntry) -> None:
        if self.broken:
            raise StoreUnavailable("the disk is full")
        await super().set_switch(name, value, audit)  # type: ignore[arg-type]


async def held(b: Bench) -> None:
    """A new run is paused and nothing of it is applied."""
    for _ in range(100):
        b.clock.jump(1)
        await asyncio.sleep(0.01)
        if b.app.service.core.pause.reason:
            break
    run = await b.start("p", thing="a")
    await b.until(run, "paused")
    assert b.things.done == []


@pytest.mark.parametrize("way", ["api", "file", "cluster"])
async def test_each_way_of_pausing_works_alone(tmp_path: Path, way: str) -> None:
    """The store takes no switch, the file cannot be read, the cluster hangs: one is enough."""
    switch, store = Switch(), Store(tmp_path / "r.db")
    extra = [Integration(pausers=[switch.look])]
    async with bench(tmp_path, [playbook(MARK)], extra=extra, store=store) as b:
        store.broken = True
        switch.hangs = way != "cluster"
        if way == "api":
            with pytest.raises(StoreUnavailable):  # said, not swallowed; and it holds already
                await b.app.service.pause(BEN, "flood")
        elif way == "file":
            (tmp_path / "PAUSE").write_text("flood", encoding="utf-8")
        else:
            switch.text = "ConfigMap says flood"
        await held(b)


async def test_a_pause_file_that_cannot_be_read_holds(tmp_path: Path) -> None:
    """A folder of that name, or a file without rights, is somebody's wish to stop."""
    (tmp_path / "PAUSE").mkdir()
    async with bench(tmp_path, [playbook(MARK)]) as b:
        await held(b)


async def test_a_way_that_goes_silent_keeps_its_last_word(tmp_path: Path) -> None:
    """The cluster paused us and is gone now: nobody has said that it is over."""
    switch = Switch()
    switch.text = "ConfigMap says flood"
    async with bench(tmp_path, [playbook(MARK)], extra=[Integration(pausers=[switch.look])]) as b:
        switch.hangs = True
        await held(b)


async def test_a_resume_by_one_way_does_not_lift_another(tmp_path: Path) -> None:
    """The file still lies there."""
    (tmp_path / "PAUSE").write_text("flood", encoding="utf-8")
    async with bench(tmp_path, [playbook(MARK)]) as b:
        await b.app.service.pause(BEN, "flood")
        answer = await b.app.service.resume(BEN, "over")
        assert "PAUSE" in answer["paused"]
        await held(b)


async def test_a_resume_that_cannot_be_written_does_not_resume(tmp_path: Path) -> None:
    """After a restart it would be paused again: so it is not said to be over."""
    store = Store(tmp_path / "r.db")
    async with bench(tmp_path, [playbook(MARK)], store=store) as b:
        await b.app.service.pause(BEN, "flood")
        store.broken = True
        with pytest.raises(StoreUnavailable):
            await b.app.service.resume(BEN, "over")
        await held(b)
