"""A store on a fresh folder, once for each way of writing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from responder.store.sqlite import SqliteStore
from responder.store.writer import LoopWriter, ThreadWriter, Writer


@pytest.fixture(params=[ThreadWriter, LoopWriter], ids=["threads", "loop"])
def writing(request: pytest.FixtureRequest) -> Callable[[], Writer]:
    """Makes the writer under test."""
    make: Callable[[], Writer] = request.param
    return make


@pytest.fixture
async def store(tmp_path: Path, writing: Callable[[], Writer]) -> AsyncIterator[SqliteStore]:
    """An open store, closed at the end; its checks must hold whatever the test did."""
    opened = SqliteStore(tmp_path / "responder.db", writer=writing(), reserve=0)
    await opened.open()
    yield opened
    found = await opened.check()
    await opened.close()
    assert set(found.values()) == {"ok"}, found
