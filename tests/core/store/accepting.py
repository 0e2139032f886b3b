"""A small program that takes alerts and says what it has acknowledged; the tests cut it off.

    python -m tests.core.store.accepting FOLDER COUNT [SYNCHRONOUS] [FIRST]

Each acknowledged thing is one line on standard output, written after the store has answered:
`alert ID`, `evidence SHA256`, `refused ID REASON`. After three quarters it closes and opens the
store again, so that a checkpoint and the end of a write-ahead log are part of the trace.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from responder.errors import StoreUnavailable
from responder.store.interface import EvidenceRow
from responder.store.sqlite import SqliteStore
from tests.core.store.making import NOW, item, start

TOGETHER = 3


def say(*words: str) -> None:
    """One line, past every buffer of ours."""
    os.write(1, f"{' '.join(words)}\n".encode())


async def accept(store: SqliteStore, number: int) -> None:
    """Take one alert with a run, and acknowledge or refuse it."""
    given = item(number, start(), key=f"k{number}")
    try:
        await store.accept([given])
    except StoreUnavailable as error:
        say("refused", given.id, str(error))
    else:
        say("alert", given.id)


async def collect(store: SqliteStore, number: int) -> None:
    """Keep one artefact."""
    data = f"artefact {number}\n".encode() * 300
    sha256 = hashlib.sha256(data).hexdigest()
    row = EvidenceRow(
        incident=1, run="", step="", name="log", sha256=sha256, size=len(data), at=NOW
    )
    try:
        await store.put_evidence(row, data)
    except StoreUnavailable as error:
        say("refused", sha256, str(error))
    else:
        say("evidence", sha256)


async def main(folder: Path, count: int, synchronous: str, first: int) -> None:
    """Take `count` groups of alerts, and an artefact with every fourth."""
    store = SqliteStore(folder / "responder.db", synchronous=synchronous, reserve=0)
    await store.open()
    for number in range(first, first + count):
        if number - first == count * 3 // 4:
            await store.close()
            await store.open()
        group = range(number * TOGETHER, (number + 1) * TOGETHER)
        await asyncio.gather(*(accept(store, each) for each in group))
        if number % 4 == 0:
            await collect(store, number)
    await store.close()


if __name__ == "__main__":
    given = dict(zip(("folder", "count", "synchronous", "first"), sys.argv[1:], strict=False))
    asyncio.run(
        main(
            Path(given["folder"]),
            int(given["count"]),
            given.get("synchronous", "FULL"),
            int(given.get("first", "0")),
        )
    )
