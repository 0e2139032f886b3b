"""Try isolated pods with packets, a few at a time, and remember what came of it.

A quarantine is looked at again every few minutes and whenever a policy changes. Trying each time
would fill the isolated pod's spec with ended containers, so an answer counts for a while: shorter
where a connection was open, and not at all after a cut or after the pod's labels have changed. What
policies say is judged afresh each time, before this.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from integrations.kubernetes import probing_table
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.enforcement_class import Class
from integrations.kubernetes.probing import Broken
from integrations.kubernetes.probing_isolation import Packets, examine
from integrations.kubernetes.probing_pods import mark_of
from integrations.kubernetes.probing_table import Table
from responder.ports import Call

__all__ = ["Prober", "Seen"]

_AT_ONCE = 2
_FRESH = 3600.0  # seconds that an answer counts in later looks
_FRESH_OPEN = 600.0  # the same where a connection was open: it may have ended
_MOST = 256  # pods


@dataclass(frozen=True, slots=True)
class Seen:
    """What was tried, and the node's table where it was read."""

    packets: Packets
    table: Table | None = None
    why_no_table: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    seen: Seen
    on: str  # the labels it was tried with
    until: float


class Prober:
    """Examines isolated pods of one cluster."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._kept: dict[str, _Kept] = {}

    def forget(self, uid: str) -> None:
        """Let the next look try this pod again."""
        self._kept.pop(uid, None)

    async def look(self, api: Api, call: Call, pod: Json, kind: Class) -> Seen:
        """Try the pod, or in a later look take an answer that still counts. Never raises."""
        uid = str(pod["metadata"]["uid"])
        clock = api.connection.world.clock
        on = json.dumps(pod["metadata"].get("labels") or {}, sort_keys=True)
        kept = self._kept.get(uid) if call.recheck else None
        if kept and kept.on == on and clock.monotonic() < kept.until:
            return kept.seen
        seen = await self._try(api, call, pod, kind)
        if seen.packets.fault:
            counts = kept and kept.on == on and clock.monotonic() < kept.until + _FRESH
            return kept.seen if kept and counts else seen
        lasts = _FRESH_OPEN if seen.packets.sockets or seen.table else _FRESH
        if len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[uid] = _Kept(seen, on, clock.monotonic() + lasts)
        return seen

    async def _try(self, api: Api, call: Call, pod: Json, kind: Class) -> Seen:
        mark = mark_of(call.key)
        if mark in self._busy or len(self._busy) >= _AT_ONCE:
            why = f"{len(self._busy)} pods are being tried at this moment already"
            return Seen(Packets(fault=why))
        self._busy.add(mark)
        try:
            cuts = kind is Class.CUTS
            wanted = api.connection.settings.probe.cut_flows and not cuts
            packets, (table, why) = await asyncio.gather(
                examine(api, mark, pod, cuts=cuts), _table(api, call.key, pod, wanted=wanted)
            )
            return Seen(packets, table, why)
        finally:
            self._busy.discard(mark)


async def _table(api: Api, key: str, pod: Json, *, wanted: bool) -> tuple[Table | None, str]:
    """The node's connection table where it is allowed and tells more than the class does."""
    if not wanted:
        return None, ""
    try:
        return await probing_table.read(api, key, pod), ""
    except Broken as error:
        return None, str(error)
