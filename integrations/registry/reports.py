"""The scan reports of an incident: found among its evidence by name, read beside the loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from integrations._calling import Caller, Fault, FaultKind
from integrations._scans import REPORT_MAX, read_scan, read_vex
from integrations._scans.model import Scan, Statement
from responder.clock import World
from responder.errors import NotFound, StepFailed
from responder.ports import Call, EvidenceSink
from responder.text import for_terminal

__all__ = ["Reports"]

_READING = 60.0  # seconds: the greatest report takes a few


class Reports:
    """Reads what the pipeline left as evidence. Never reads another incident's."""

    def __init__(
        self,
        evidence: EvidenceSink,
        artefact: Callable[[str], Awaitable[bytes]] | None,
        world: World,
    ) -> None:
        self._evidence = evidence
        self._artefact = artefact
        self._caller = Caller(
            "scan reports", world, classify=_final, threads=1, deadline=_READING, attempts=1
        )

    async def scan(self, call: Call, name: str) -> Scan:
        """The report of that name; raises `NotFound` where there is none, `StepFailed`."""
        data = await self._bytes(call, name)
        return await self._caller.in_pool(partial(read_scan, name, data))

    async def vex(self, call: Call, name: str) -> tuple[Statement, ...]:
        """The statements of that name; none where there is no such document."""
        try:
            data = await self._bytes(call, name)
        except NotFound:
            return ()
        return await self._caller.in_pool(partial(read_vex, name, data))

    def close(self) -> None:
        """Close the pool."""
        self._caller.close()

    async def _bytes(self, call: Call, name: str) -> bytes:
        """The newest of that name, this run's own before any other run's of the incident."""
        if self._artefact is None:
            raise StepFailed("evidence cannot be read here")
        rows = [row for row in await self._evidence.list(call.incident) if row["name"] == name]
        if not rows:
            raise NotFound(f"the incident has no {for_terminal(name, 80)} among its evidence")
        found = max(rows, key=partial(_order, call.run))
        if int(found["size"]) > REPORT_MAX:
            raise StepFailed(
                f"{for_terminal(name, 80)} has {found['size']} bytes, at most {REPORT_MAX}"
            )
        return await self._artefact(str(found["sha256"]))


def _order(run: str, row: Mapping[str, Any]) -> tuple[bool, int]:
    return row.get("run") == run, int(row.get("at") or 0)


def _final(error: Exception) -> Fault:
    return Fault(FaultKind.FINAL, f"unexpected {type(error).__name__}")
