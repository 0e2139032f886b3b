"""The verbs that change something: decide, cancel, undo, extend, pause, note.

Every one of them is a journal event or a switch, written with its audit line in one transaction.
A yes counts only for the plan it names, from somebody with the role, in time, and never from the
person who asked for the run.
"""

from __future__ import annotations

import asyncio
from typing import Any

from responder.clock import SECOND, iso
from responder.engine.lanes import KeyedLocks
from responder.engine.machine import DEFAULT_APPROVE, begin, fold_all
from responder.engine.state import RunState, StepState, StepStatus
from responder.errors import BadRequest, Conflict, Forbidden, NotFound
from responder.model import Role
from responder.service.core import Core, Who, require, same
from responder.service.reading import Reading
from responder.store.interface import Event, TimelineEntry
from responder.text import cut, for_terminal

__all__ = ["Deciding", "said"]

_REASON_MAX = 2000
_LONGEST = 30 * 86_400  # seconds a wait can be extended at once


class Deciding:
    """What people may make happen."""

    def __init__(self, core: Core, reading: Reading) -> None:
        self._core = core
        self._reading = reading
        self._runs = KeyedLocks()  # two people who decide over one run are heard one by one
        self._switching = asyncio.Lock()  # the switch in memory is the one on disk

    # ----------------------------------------------------------------- decide

    async def decide(
        self,
        who: Who,
        run_id: str,
        step: str,
        yes: bool,  # noqa: FBT001 - the decision itself
        plan: str,
        reason: str,
    ) -> dict[str, Any]:
        """A yes or a no to exactly one plan.

        Raises `Forbidden` (role, or own request), `Conflict` (already decided, expired, or the
        plan moved), `NotFound`.
        """
        async with self._runs.hold((run_id,)):
            return await self._decide(who, run_id, step, plan, reason, yes=yes)

    async def _decide(
        self, who: Who, run_id: str, step: str, plan: str, reason: str, *, yes: bool
    ) -> dict[str, Any]:
        _, run = await self._core.driver.load(run_id)
        state = _step(run, step)
        if state.status is StepStatus.UNCERTAIN:
            return await self._settle(who, run, state, yes=yes, reason=reason)
        rule = run.definition(step).approve or DEFAULT_APPROVE
        require(who, rule.by)
        self._may_decide(who, run, state, plan, yes=yes)
        now = self._core.world.clock.now()
        if yes:
            data = {
                "step": step,
                "person": who.person,
                "plan": state.plan_hash,
                "reason": said(reason),
                "without": await self._lost(state, rule.by),
            }
            event = Event("approval_given", now, data)
        else:
            text = f"denied by {who.person}" + (f": {said(reason)}" if reason else "")
            event = Event("approval_denied", now, {"step": step, "reason": text})
        word = "approved" if yes else "denied"
        before = await self._post(who, run, event, word, f"{word} {step}", state.plan_hash, reason)
        await self._in_time(who, before, state, word, StepStatus.WAITING_APPROVAL)
        self._core.metrics.approval_wait.observe(max(now - state.asked, 0) / SECOND)
        return {"run": run_id, "step": step, "decision": word, "plan": state.plan_hash}

    async def _lost(self, state: StepState, role: Role) -> list[str]:
        """Who said yes to this plan and holds the role no longer: their yes counts no more."""
        if not state.approvals:
            return []
        now, tokens = self._core.world.clock.now(), await self._core.store.tokens()
        lost = []
        for person in state.approvals:
            own = [token for token in tokens if same(token.person, person)]
            valid = [t for t in own if t.revoked is None and t.expires > now]
            if own and not any(Role(token.role).includes(role) for token in valid):
                lost.append(person)
        return lost

    async def _in_time(
        self, who: Who, before: RunState, seen: StepState, verb: str, status: StepStatus
    ) -> None:
        """Refuse what was overtaken between look and write: the journal's order decides."""
        state = before.step(seen.id)
        if state.status is status and state.plan_hash == seen.plan_hash:
            return
        object_ = f"{before.id}/{seen.id}"
        entry = self._core.audit(who, f"{verb}: too late", object_, plan=seen.plan_hash)
        await self._core.store.add_audit([entry])
        raise Conflict(f'step "{seen.id}" is {state.status.value} now: it came too late')

    def _may_decide(
        self, who: Who, run: RunState, state: StepState, plan: str, *, yes: bool
    ) -> None:
        if yes and run.person and same(run.person, who.person):
            raise Forbidden(
                f"{who.person} asked for this run and cannot approve it; another approver can"
            )
        if state.status is not StepStatus.WAITING_APPROVAL:
            raise Conflict(f'step "{state.id}" is {state.status.value}: there is nothing to decide')
        if state.until <= self._core.world.clock.now():
            raise Conflict(f'step "{state.id}": the time to decide ended at {iso(state.until)}')
        if yes and any(same(person, who.person) for person in state.approvals):
            raise Conflict(f"{who.person} has already approved this plan")
        if yes and not plan:
            raise BadRequest("plan: the hash of the plan that is approved is missing", "/plan")
        if plan and plan != state.plan_hash:
            raise Conflict(
                f"the plan has changed: expected {state.plan_hash}, got {plan}; read it again"
            )

    async def _settle(
        self, who: Who, run: RunState, state: StepState, *, yes: bool, reason: str
    ) -> dict[str, Any]:
        """An uncertain step: yes looks again and goes on, no ends it as failed.

        What cannot be looked up is done again on a yes: the person has looked.
        """
        require(who, Role.APPROVER)
        now = self._core.world.clock.now()
        info = self._core.catalogue.get(run.definition(state.id).use)
        anew = info is not None and not info.looks_up
        if yes:
            event = Event("step_look_again", now, {"step": state.id, "anew": anew})
        else:
            text = f"given up by {who.person} while uncertain: {state.error}"
            event = Event("step_failed", now, {"step": state.id, "error": text, "given_up": True})
        word = ("do it again" if anew else "look again") if yes else "give up"
        text = f"{word}: {state.id}"
        before = await self._post(who, run, event, word, text, state.plan_hash, reason)
        await self._in_time(who, before, state, word, StepStatus.UNCERTAIN)
        return {"run": run.id, "step": state.id, "decision": word, "plan": state.plan_hash}

    # ----------------------------------------------------------------- cancel, undo, extend

    async def cancel(self, who: Who, run_id: str, reason: str) -> dict[str, Any]:
        """End a run; what was applied stays applied until it is undone."""
        require(who, Role.RESPONDER)
        _, run = await self._core.driver.load(run_id)
        if run.outcome:
            raise Conflict(f"run {run_id} has already ended: {run.outcome}")
        now = self._core.world.clock.now()
        event = Event("cancel_asked", now, {"person": who.person, "reason": said(reason)})
        await self._post(who, run, event, "cancel", "cancel the run", "", reason)
        return {"run": run_id, "status": "cancelling"}

    async def undo(self, who: Who, run_id: str, step: str, reason: str) -> dict[str, Any]:
        """Take back what a step applied; works while paused and after the run has ended."""
        require(who, Role.RESPONDER)
        _, run = await self._core.driver.load(run_id)
        state = _step(run, step)
        info = self._core.catalogue.get(run.definition(step).use)
        if info is None or not info.undoable:
            raise Conflict(
                f'step "{step}" cannot be undone: {run.definition(step).use} has no way back'
            )
        if not state.applied:
            raise Conflict(f'step "{step}" has nothing applied that could be undone')
        if state.undo in {"asked", "running", "retry", "pending"}:
            raise Conflict(f'the undo of step "{step}" is already under way')
        now = self._core.world.clock.now()
        event = Event("undo_asked", now, {"step": step, "person": who.person})
        await self._post(who, run, event, "undo", f"undo {step}", state.plan_hash, reason)
        return {"run": run_id, "step": step, "status": "undoing"}

    async def extend(
        self, who: Who, run_id: str, step: str, seconds: int, reason: str
    ) -> dict[str, Any]:
        """Give a wait for a person, or a containment's expiry, more time."""
        require(who, Role.RESPONDER)
        if not 0 < seconds <= _LONGEST:
            raise BadRequest(f"seconds: expected 1 to {_LONGEST}, got {seconds}", "/seconds")
        _, run = await self._core.driver.load(run_id)
        state = _step(run, step)
        waits = state.status is StepStatus.WAITING_APPROVAL
        base = state.until if waits else state.expires
        if not base:
            raise Conflict(f'step "{step}" has no deadline to extend')
        now = self._core.world.clock.now()
        until = max(base, now) + seconds * SECOND
        event = Event("extended", now, {"step": step, "until": until, "person": who.person})
        text = f"extend {step} until {iso(until)}"
        await self._post(who, run, event, "extend", text, state.plan_hash, reason)
        return {"run": run_id, "step": step, "until": iso(until)}

    # ----------------------------------------------------------------- pause, note

    async def pause(self, who: Who, reason: str) -> dict[str, Any]:
        """Hold every new change; reads and undo go on."""
        require(who, Role.RESPONDER)
        if not reason.strip():
            raise BadRequest("reason: say why, others will read it at 3 a.m.", "/reason")
        now = self._core.world.clock.now()
        value = {"person": who.person, "reason": said(reason), "at": now}
        entry = self._core.audit(who, "pause", "server", reason=reason)
        self._core.pause.set_switch(value)  # first: a failing store must not delay the stop
        async with self._switching:
            self._core.pause.set_switch(value)  # again: a resume may have ended just now
            await self._core.store.set_switch("pause", value, entry)
        return {"paused": self._core.pause.reason}

    async def resume(self, who: Who, reason: str) -> dict[str, Any]:
        """Let changes go on; other ways of pausing still hold if they are set."""
        require(who, Role.RESPONDER)
        if not reason.strip():
            raise BadRequest("reason: say why it is safe to go on", "/reason")
        entry = self._core.audit(who, "resume", "server", reason=reason)
        async with self._switching:
            await self._core.store.set_switch("pause", None, entry)
            self._core.pause.set_switch(None)
        self._core.driver.wake()
        return {"paused": self._core.pause.reason}

    async def note(self, who: Who, number: int | str, text: str) -> dict[str, Any]:
        """A person's line in the story."""
        require(who, Role.RESPONDER)
        if not text.strip():
            raise BadRequest("text: must not be empty", "/text")
        row = await self._core.store.incident(await self._reading.number(number))
        now = self._core.world.clock.now()
        entry = TimelineEntry(
            incident=row.number,
            at=now,
            kind="note",
            text=cut(text, _REASON_MAX),
            door=who.door,
            person=who.person,
        )
        await self._core.store.add_audit([self._core.audit(who, "note", f"#{row.number}")])
        await self._core.store.add_timeline([entry])
        self._core.news.tell(row.number)
        return {"incident": row.number, "at": iso(now)}

    async def _post(
        self,
        who: Who,
        run: RunState,
        event: Event,
        verb: str,
        text: str,
        plan: str,
        reason: str,
    ) -> RunState:
        """Write a person's word with its story and audit lines; the run as it was just before."""
        words = f"{text} by {who.person}" + (f": {said(reason)}" if reason else "")
        entry = TimelineEntry(
            incident=run.incident,
            at=event.at,
            kind="decision",
            text=cut(words, _REASON_MAX),
            door=who.door,
            person=who.person,
            data={"run": run.id, "event": event.type, "step": event.data.get("step", "")},
        )
        object_ = f"{run.id}/{event.data['step']}" if "step" in event.data else run.id
        line = self._core.audit(who, verb, object_, plan=plan, reason=reason)
        written = await self._core.driver.post(run.id, [event], timeline=[entry], audit=[line])
        self._core.news.tell(run.incident)
        return fold_all(begin(run.id, run.playbook), written[:-1])


def _step(run: RunState, step: str) -> StepState:
    if step not in run.steps:
        raise NotFound(f"run {run.id} has no step named {step[:80]}")
    return run.steps[step]


def said(text: str) -> str:
    """A person's words on one line, cut to what a story can hold."""
    return for_terminal(cut(text, _REASON_MAX), _REASON_MAX)
