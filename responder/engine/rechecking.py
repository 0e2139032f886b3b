"""Look again at what a step contained, and put back what somebody else took away.

A look has a lane of its own and holds no lock while all is well, so it never delays a containment.
Putting back is the action's own apply on a plan made anew, never on another object of the same
name, never where the product only observes. Every failure becomes an event; nothing is claimed
that was not seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from responder.clock import SECOND, World
from responder.engine import brakes, truth
from responder.engine.commands import Command, Kind
from responder.engine.lanes import KeyedLocks, Lane
from responder.engine.state import RunState, StepState
from responder.errors import (
    Conflict,
    NotFound,
    ResponderError,
    StepFailed,
    StepRetry,
    StoreUnavailable,
    Uncertain,
)
from responder.model import Mode, Plan, Verdict
from responder.ports import Action, Call
from responder.store.interface import Event

__all__ = ["Rechecking", "objects_of"]

log = logging.getLogger(__name__)
_LATER = (StepRetry, TimeoutError, StoreUnavailable, Uncertain)
_WAIT = 5.0  # seconds until the next try where nobody could be asked


def objects_of(plan: Plan) -> tuple[str, ...]:
    """What a plan touches, as keys: two changes of one object never overlap."""
    return tuple(f"{change.ref.system}/{change.ref.label}" for change in plan.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rechecking:
    """The two calls on something that was contained: look, and put back."""

    guard: brakes.Guard
    world: World
    locks: KeyedLocks
    looks: Lane
    containment: Lane
    paused: Callable[[], str]

    async def look(
        self, run: RunState, state: StepState, action: Action, call: Call, plan: Plan, urgency: int
    ) -> list[Event]:
        """What is true now: nothing for the journal, unless it is something else than before."""
        ask = _asker(action, call, plan, state)
        try:
            async with self.looks.place(urgency), asyncio.timeout(action.info.timeout):
                try:
                    return self._told(state, await ask())
                except StepFailed:
                    # a release of ours may be half done: what it holds locked is not lost
                    async with self.locks.hold(objects_of(plan)):
                        return self._told(state, await ask())
        except NotFound as error:
            return [self._over(run, state, str(error))]
        except StepFailed as error:
            return self._lost(state, str(error))
        except Exception as error:  # noqa: BLE001 - nobody could look; what was seen before stays
            return [self._event("truth_unseen", step=state.id, error=_text(error))]

    async def put_back(
        self, run: RunState, state: StepState, action: Action, call: Call, plan: Plan, urgency: int
    ) -> list[Event]:
        """Look once more, and if it is still gone, apply a new plan of the same meaning."""
        try:
            async with self.locks.hold(objects_of(plan)), self.containment.place(urgency):
                async with asyncio.timeout(action.info.timeout):
                    return await self._put_back(run, state, action, call, plan)
        except NotFound as error:
            return [self._over(run, state, str(error))]
        except _LATER as error:
            return [self._waits(state, _text(error))]
        except Conflict as error:
            return [self._failed(state, str(error))]
        except Exception as error:  # noqa: BLE001 - every failure becomes an event
            return [self._failed(state, _text(error))]

    def failed(self, state: StepState, command: Command, error: Exception) -> list[Event]:
        """What a failure means that the two calls did not expect: never that the step failed."""
        if command.kind is Kind.REASSERT:
            return [self._failed(state, _text(error))]
        return [self._event("truth_unseen", step=state.id, error=_text(error))]

    async def _put_back(
        self, run: RunState, state: StepState, action: Action, call: Call, recorded: Plan
    ) -> list[Event]:
        try:
            found = await _asker(action, call, recorded, state)()
        except StepFailed:
            pass
        else:
            return [self._changed(state, found.to_json())]
        if why := self.paused():
            return [self._waits(state, why)]
        plan = await action.plan(replace(call, recheck=False))
        if why := self._forbidden(run, action, plan, recorded):
            return [self._failed(state, why, final=True)]
        await action.apply(replace(call, recheck=False, resumed=True), plan)
        return [self._event("reasserted", step=state.id, attempt=state.put_back, plan=plan.hash)]

    def _forbidden(self, run: RunState, action: Action, plan: Plan, recorded: Plan) -> str:
        """Why this must not be put back without a person; empty when it may be."""
        places = (*brakes.namespaces_of(recorded), *brakes.namespaces_of(plan))
        if brakes.mode_for(run.mode, places, self.guard) is Mode.OBSERVE:
            return "only observing here: it is not put back"
        if not action.info.looks_up:
            return f"{action.info.name} cannot look whether it was done: a person must"
        if not plan.changes:
            return "there is nothing to put back, and yet it does not hold"
        known = {_name(change.ref): change.ref.uid for change in recorded.changes}
        for change in plan.changes:
            was = known.get(_name(change.ref))
            if was is None:
                return f"{change.ref.label} was no part of the plan that was approved"
            if was and change.ref.uid and change.ref.uid != was:
                return f"{change.ref.label} is another one now: UID {change.ref.uid}, was {was}"
        if plan.asks and plan.asks != recorded.asks:
            return plan.asks
        ruling = brakes.check(plan, self.guard, run.playbook.limits, brakes.History())
        if ruling.answer is brakes.Answer.REFUSE:
            return f"the guard rails refuse it: {'; '.join(ruling.reasons)}"
        return ""

    # ----------------------------------------------------------------- what it means

    def _told(self, state: StepState, found: Verdict) -> list[Event]:
        verdict = found.to_json()
        if truth.changed(state.verdict, verdict) or state.lost:
            return [self._changed(state, verdict)]
        return [self._event("truth_same", step=state.id)]

    def _lost(self, state: StepState, why: str) -> list[Event]:
        verdict = truth.lost_verdict(why, state.gave_up)
        if state.lost == why and not truth.changed(state.verdict, verdict):
            return [self._event("truth_same", step=state.id)]
        return [self._changed(state, verdict, lost=why)]

    def _changed(self, state: StepState, verdict: Mapping[str, Any], lost: str = "") -> Event:
        before = dict(state.verdict or {})
        data: dict[str, Any] = {"step": state.id, "verdict": verdict, "before": before}
        if lost:
            data["lost"] = lost
        return Event("truth_changed", self.world.clock.now(), data)

    def _over(self, run: RunState, state: StepState, why: str) -> Event:
        """Nothing is left to hold. Where a later step of the run did it, the verdict stays."""
        data: dict[str, Any] = {"step": state.id, "reason": why}
        if truth.taken_over(run, state):
            data["expected"] = True
        else:
            data["verdict"] = truth.lost_verdict(why)
        return Event("truth_ended", self.world.clock.now(), data)

    def _waits(self, state: StepState, error: str) -> Event:
        until = self.world.clock.now() + int(_WAIT * SECOND)
        return self._event("reassert_waits", step=state.id, until=until, error=error)

    def _failed(self, state: StepState, error: str, *, final: bool = False) -> Event:
        data: dict[str, Any] = {"step": state.id, "error": error}
        if final:
            data |= {"final": True, "verdict": truth.lost_verdict(state.lost, error)}
        return Event("reassert_failed", self.world.clock.now(), data)

    def _event(self, type_: str, **data: Any) -> Event:
        return Event(type_, self.world.clock.now(), data)


def _asker(
    action: Action, call: Call, plan: Plan, state: StepState
) -> Callable[[], Awaitable[Verdict]]:
    """The action's own way to look again; its `verify` where it has none."""
    ask: Callable[..., Awaitable[Verdict]] = getattr(action, "recheck", action.verify)
    return lambda: ask(replace(call, recheck=True), plan, state.result)


def _name(ref: Any) -> tuple[str, str, str, str]:
    return ref.system, ref.kind, ref.namespace, ref.name


def _text(error: Exception) -> str:
    """Known failures in their own words; of a bug only the class leaves here, the log has more."""
    if isinstance(error, ResponderError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    log.error("a look failed unexpectedly", exc_info=error, extra={"event": "look_bug"})
    return f"internal error: {type(error).__name__}"
