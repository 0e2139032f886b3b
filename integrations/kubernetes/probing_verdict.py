"""What a quarantine's proof comes to: policies, packets and open connections, judged apart. Pure.

| policies | new connections | open connections | verdict |
| --- | --- | --- | --- |
| any | nothing enforces here | any | residual: "not enforced" |
| something is still allowed | any | any | residual |
| closed | one got through | any | residual: "not enforced" |
| closed | denied both ways, control passed | one moves or may live on | residual: "open flow" |
| closed | denied both ways, control passed | none, by a plug-in that cuts or the node | proven |
| closed | denied both ways, control passed | none over TCP; who knows of others | enforced |
| closed | denied on the way in, way out not tried | none seen, or not listed | enforced |
| closed | not tried, or the control failed | any | applied |

"Not enforced" is never "isolated", and neither is what nobody tried: the words for that are in the
residual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from integrations.kubernetes.enforcement_class import CONNECTIONS, Class
from integrations.kubernetes.probing_flows import Socket
from integrations.kubernetes.probing_isolation import Packets
from integrations.kubernetes.probing_table import Table
from responder.model import VerdictLevel

__all__ = ["Findings", "judge"]

_TCP_ALONE = "what goes on without TCP may live on: the node's connection table was not read"
_NOT_TRIED = "no packet was tried: no probe image is configured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The three results, and what is known of the cluster."""

    still: tuple[str, ...] = ()  # what policies let through
    packets: Packets | None = None  # None: probing is off
    kind: Class = Class.UNKNOWN
    table: Table | None = None  # None: the node's connection table was not read
    why_no_table: str = ""
    limits: tuple[str, ...] = ()  # what the plan said it will not achieve
    own: frozenset[str] = frozenset()  # addresses of the pod's own node


@dataclass(frozen=True, slots=True)
class Judged:
    """The level, what stays open, and what was seen."""

    level: VerdictLevel
    residual: tuple[str, ...]
    checks: dict[str, str]


def judge(found: Findings) -> Judged:
    """The verdict for these findings; see the table above."""
    tried = found.packets is not None and not found.packets.fault and not found.packets.unclear
    passed = found.packets.passed if found.packets else ()
    none = found.kind is Class.NONE and not (tried and not passed)
    open_ = tuple(_open(found))
    not_enforced = tuple(_not_enforced(none=none, leaks=bool(passed) and not found.still))
    through = tuple(f"a new connection got through {way}" for way in passed)
    unknown = tuple(_unknown(found, tried=tried))
    worst = (*not_enforced, *found.still, *through, *open_)
    if worst:
        level = VerdictLevel.RESIDUAL
    elif not tried:
        level = VerdictLevel.APPLIED
    else:
        level = VerdictLevel.ENFORCED if unknown else VerdictLevel.PROVEN
    limits = tuple(text for text in found.limits if text not in CONNECTIONS.values())
    return Judged(level, (*worst, *unknown, *limits), _checks(found, open_))


def _not_enforced(*, none: bool, leaks: bool) -> Iterator[str]:
    """Said first, whatever the policies say: setting those right would not isolate the pod."""
    if none or leaks:
        why = "this cluster enforces no NetworkPolicy" if none else "the policy stops nothing yet"
        yield f"not enforced: {why}; the pod is not isolated"


def _open(found: Findings) -> Iterator[str]:
    """Connections that go on, or may."""
    sockets = (found.packets.sockets if found.packets else None) or ()
    known = found.table.own if found.table else frozenset()
    away = [one for one in sockets if one.peer[0] not in found.own | known]
    for one in away:
        if one.moved:
            yield f"open flow {one.text}: bytes still move"
        elif _may_live(found, one):
            yield f"open flow {one.text}: silent now, and it may live on"
    if found.table and found.kind is not Class.CUTS:
        seen = [one.ends for one in away]
        for flow in found.table.alive:
            if not any(ends <= flow.ends for ends in seen):
                yield f"open flow {flow.text}: in the node's connection table"


def _may_live(found: Findings, one: Socket) -> bool:
    """Whether a silent connection could carry the next byte."""
    if found.kind is Class.CUTS:
        return False
    return found.table is None or any(one.ends <= flow.ends for flow in found.table.flows)


def _unknown(found: Findings, *, tried: bool) -> Iterator[str]:
    """What nobody could look at, and why."""
    packets = found.packets
    if packets is None:
        yield CONNECTIONS[found.kind]
        return
    if packets.fault:
        yield f"no packet proves it: {packets.fault}"
    yield from (f"no answer can be read from a try {text}" for text in packets.unclear)
    yield from packets.untried
    if tried and not packets.egress:
        yield f"the way out of the pod was not tried: {packets.why_no_egress}"
    if packets.sockets is None:
        yield CONNECTIONS[found.kind]
    elif tried and found.table is None and found.kind is not Class.CUTS:
        yield _TCP_ALONE
    if found.why_no_table:
        yield f"the node's connection table was not read: {found.why_no_table}"


def _checks(found: Findings, open_: tuple[str, ...]) -> dict[str, str]:
    packets = found.packets
    told = {"enforcement": found.kind.value} if packets else {}
    if packets is None:
        return {"packets": _NOT_TRIED}
    if packets.fault:
        return {**told, "packets": f"no answer: {packets.fault}"}
    ways = [f"{way}: {word}" for way, word in packets.ingress.items()]
    if packets.egress:
        ways.append(f"out of the pod: {packets.egress}")
    notes = [note for note in packets.notes if note]
    told["packets"] = "; ".join([*ways, "the control got through", *notes])
    if packets.sockets is not None:
        counted = f"{len(packets.sockets)} established, {len(open_)} of them may carry data"
        told["connections"] = counted
    if found.table is not None:
        told["connection table"] = f"{len(found.table.alive)} flows with others than its node"
    return told
