"""The evidence sink that actions are lent: bytes into the store, with custody data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from responder.clock import World
from responder.ports import Call
from responder.store.interface import EvidenceRow, Store

__all__ = ["StoreEvidence"]


class StoreEvidence:
    """Keeps artefacts in the store; their names are ours, what they came from is data."""

    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._world = world

    async def put(self, call: Call, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        """Store one artefact and return its SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        row = EvidenceRow(
            incident=call.incident,
            run=call.run,
            step=call.step,
            name=name,
            sha256=digest,
            size=len(data),
            at=self._world.clock.now(),
            origin=origin,
        )
        await self._store.put_evidence(row, data)
        return digest

    async def list(self, incident: int) -> Sequence[Mapping[str, Any]]:
        """What is stored for an incident."""
        return [
            {
                "name": r.name,
                "sha256": r.sha256,
                "size": r.size,
                "origin": r.origin,
                "run": r.run,
                "at": r.at,
            }
            for r in await self._store.evidence(incident)
        ]

    async def read(self, sha256: str) -> bytes:
        """The bytes of one artefact; raises `NotFound`, and `Conflict` when they were altered."""
        return await self._store.evidence_bytes(sha256)
