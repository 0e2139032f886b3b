"""What a containment still holds, long after its step has ended: when to look, and what follows.

Pure, like the machine that asks it. A look that finds what is known leaves no trace in the journal;
one that finds something else is an event. What somebody else took away is put back a bounded
number of times, with growing pauses; then a person is asked. Nothing here ever says that something
holds: only a verification does, and its verdict replaces the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from responder.clock import SECOND
from responder.engine.commands import Command, Kind, record
from responder.engine.state import RunState, StepState, StepStatus
from responder.model import VerdictLevel
from responder.store.interface import Event

__all__ = [
    "HELD",
    "MOST",
    "PASSING",
    "QUIET",
    "asked",
    "changed",
    "commands",
    "correlations",
    "every",
    "holding",
    "joined",
    "lost_verdict",
    "names",
    "pause",
    "still_meant",
    "taken_over",
    "times",
    "worse",
]

MOST = 3  # how often something is put back before a person is asked
PAUSES = (0, 5 * SECOND, 30 * SECOND)  # before the first, second and third time
QUIET = 3600 * SECOND  # it held for so long: the count begins anew
# Folded in memory and never saved: after a restart everything is looked at once anyway.
PASSING = frozenset({"truth_asked", "truth_same", "truth_unseen", "reassert_waits"})
_ENDS = {"released", "removed"}  # stages of the steps that end a containment
HELD = "held"  # the correlation of every run that holds something
_ANY = "*"  # no object of a cluster is called so
_ORDER = [level.value for level in VerdictLevel]  # weakest first


def holding(step: StepState) -> bool:
    """Whether the step contains something that is looked at again and again."""
    ended = step.status is StepStatus.SUCCEEDED and step.applied
    return ended and step.recheck > 0 and not step.over and step.undo in {"", "failed"}


def every(run: RunState) -> int:
    """Microseconds between two looks at this run; 0 when it holds nothing."""
    return min((step.recheck for step in run.steps.values() if holding(step)), default=0)


def correlations(run: RunState) -> Iterator[str]:
    """What a watcher would name to have this run looked at: clusters, namespaces and objects.

    The objects are those that the plan says its containment stands on ("holds", each
    "namespace/name"); where it does not say, any object of the namespace may be one.
    """
    for step in run.steps.values():
        if not holding(step) or step.plan is None:
            continue
        yield HELD
        holds = step.plan.get("data", {}).get("holds")
        for change in step.plan["changes"]:
            ref = change["ref"]
            place = f"{HELD}:{ref.get('system', '')}"
            yield place
            if ref.get("namespace"):
                yield f"{place}/{ref['namespace']}"
                objects = (f"{ref['namespace']}/{_ANY}",) if holds is None else holds
                yield from (f"{place}/{one}" for one in objects)


def names(place: str) -> tuple[str, ...]:
    """The correlations of those who hold something at a place: "cluster:prod/shop/cart-1"."""
    space, _, name = place.rpartition("/")
    one = f"{HELD}:{place}"
    return (one, f"{HELD}:{space}/{_ANY}") if name and "/" in space else (one,)


# --------------------------------------------------------------------------- what to do now


def commands(run: RunState, now: int) -> Iterator[Command]:
    """Looks that were asked for, and what is to be put back now."""
    for step in run.steps.values():
        if not holding(step):
            continue
        if step.putting and _wanted(run, step):
            if now >= step.put_at:
                yield _put_back(step, step.put_back, resumed=True)
        elif step.look:
            yield Command(kind=Kind.RECHECK, step=step.id, attempt=step.attempt)
        elif step.lost and not step.gave_up and _wanted(run, step):
            yield from _lost(step, now)


def _lost(step: StepState, now: int) -> Iterator[Command]:
    if step.put_back >= MOST:
        reason = f"it was put back {step.put_back} times and did not last: a person must look"
        verdict = lost_verdict(step.lost, reason)
        yield record("reassert_given_up", now, step=step.id, reason=reason, verdict=verdict)
    elif now >= step.put_at:
        yield _put_back(step, step.put_back + 1, resumed=False)


def _put_back(step: StepState, attempt: int, *, resumed: bool) -> Command:
    return Command(kind=Kind.REASSERT, step=step.id, attempt=attempt, resumed=resumed)


def _wanted(run: RunState, step: StepState) -> bool:
    """Whether nobody has asked to have it taken back."""
    return not step.undo and not (run.rolling_back and step.reversible)


def times(run: RunState, step: StepState) -> Iterator[int]:
    """When time alone makes something follow here."""
    if not holding(step):
        return
    if (step.putting or (step.lost and not step.gave_up)) and _wanted(run, step):
        yield step.put_at


def still_meant(run: RunState, event: Event) -> bool:
    """Whether a look's answer still counts: what is taken back meanwhile is no loss."""
    if not event.type.startswith("truth_"):
        return True
    return holding(run.step(event.data["step"]))


def asked(run: RunState, now: int) -> list[Event]:
    """The passing events that have everything looked at which this run holds."""
    held = (step.id for step in run.steps.values() if holding(step))
    return [Event("truth_asked", now, {"step": step_id}) for step_id in held]


# --------------------------------------------------------------------------- what was found


def pause(put_back: int) -> int:
    """How long after the last time it may be put back again."""
    return PAUSES[min(put_back, len(PAUSES) - 1)]


def lost_verdict(lost: str, gave_up: str = "") -> dict[str, Any]:
    """The verdict on what is not there any more; the reason is what a person reads."""
    residual = [lost, gave_up] if gave_up else [lost]
    return {"level": VerdictLevel.RESIDUAL.value, "residual": residual, "checks": {}}


def changed(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Whether the truth is another one: the level, or what stays open. Checks may say more."""
    if before is None:
        return True
    open_before, open_after = set(before["residual"]), set(after["residual"])
    return bool(before["level"] != after["level"] or open_before != open_after)


def worse(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Whether a person must hear of it: less is sure than before, or more is open."""
    if before is None:
        return bool(after["level"] == VerdictLevel.RESIDUAL)
    if after["level"] != before["level"]:
        return bool(_ORDER.index(after["level"]) < _ORDER.index(before["level"]))
    return not set(after["residual"]) <= set(before["residual"])


def taken_over(run: RunState, step: StepState) -> bool:
    """Whether a later step of the same run has deleted or released the same object."""
    mine = set(_objects(step))
    enders = (s for s in run.steps.values() if s.started and s.stage in _ENDS)
    return any(mine & set(_objects(other)) for other in enders if other.id != step.id)


def _objects(step: StepState) -> Iterator[tuple[str, str, str]]:
    for change in (step.plan or {}).get("changes", ()):
        ref = change["ref"]
        yield ref["kind"], ref.get("namespace", ""), ref["name"]


def joined(verdicts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The verdict of a for_each: the weakest level of its instances, all that is open in any."""
    levels: Iterable[str] = [verdict["level"] for verdict in verdicts.values()]
    residual = [f"{name}: {text}" for name, v in verdicts.items() for text in v["residual"]]
    weakest = min(levels, key=_ORDER.index)
    return {"level": weakest, "residual": residual, "checks": {}}
