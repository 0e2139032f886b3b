"""The verbs that change something: start, decide, cancel, undo, extend, pause, note.

Every one of them is a journal event or a switch, written with its audit line in one transaction.
A yes counts only for the plan it names, from somebody with the role, in time, and never from the
person who asked for the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from responder.clock import SECOND, iso
from responder.engine.intake import DEFAULT_WINDOW, incident_key, run_start
from responder.engine.machine import DEFAULT_APPROVE
from responder.engine.state import RunState, StepState, StepStatus
from responder.errors import BadRequest, Conflict, Forbidden, NotFound
from responder.model import Mode, Role, Target, digest_of
from responder.playbook.definition import Playbook
from responder.service import inputs as hand
from responder.service.core import Core, Who, require
from responder.service.reading import Reading
from responder.store.interface import Event, Opening, TimelineEntry
from responder.text import cut, for_terminal

__all__ = ["Deciding"]

_REASON_MAX = 2000
_LONGEST = 30 * 86_400  # seconds a wait can be extended at once


class Deciding:
    """What people may make happen."""

    def __init__(self, core: Core, reading: Reading) -> None:
        self._core = core
        self._reading = reading
        self._switching = asyncio.Lock()  # the switch in memory is the one on disk

    # ----------------------------------------------------------------- start

    async def start(
        self,
        who: Who,
        playbook: str,
        inputs: Mapping[str, Any],
        reason: str,
        *,
        mode: str | None = None,
        incident: int | None = None,
        idempotency_key: str = "",
    ) -> dict[str, Any]:
        """Start a playbook by hand. The same idempotency key starts it once."""
        require(who, Role.RESPONDER)
        loaded = self._core.live.named(playbook)
        values, target = hand.checked(loaded, inputs, self._core.rules.default_cluster)
        request = digest_of([playbook, inputs, reason, mode, incident])
        key = f"{who.person}/{idempotency_key}" if idempotency_key else ""
        stored = await self._claim(key, request)
        if stored is not None:
            return dict(stored)
        answer = await self._start(who, loaded, values, target, reason, mode, incident)
        if key:
            now = self._core.world.clock.now()
            await self._core.store.remember(key, request, answer, now)
        return answer

    async def _claim(self, key: str, request: str) -> Mapping[str, Any] | None:
        if not key:
            return None
        now = self._core.world.clock.now()
        found = await self._core.store.remember(key, request, None, now)
        if found is None:
            return None
        if found["request"] != request:
            raise BadRequest("the Idempotency-Key was used for another request; use a new one")
        if found["answer"] is None:
            raise Conflict("the first request with this Idempotency-Key is still running")
        answer: Mapping[str, Any] = found["answer"]
        return answer

    async def _start(
        self,
        who: Who,
        loaded: Playbook,
        values: Mapping[str, Any],
        target: Target,
        reason: str,
        mode: str | None,
        incident: int | None,
    ) -> dict[str, Any]:
        core, now = self._core, self._core.world.clock.now()
        start = replace(
            run_start(loaded, core.rules, target, priority=5, mode=_mode(mode)),
            inputs=values,
            person=who.person,
            door=who.door,
            reason=_reason(reason),
        )
        created = Event("run_created", now, {"target": target.to_json()})
        opening = None
        if incident is None:
            title = f"{loaded.name} by {who.person} - {for_terminal(target.label, 200)}"
            key = f"manual|{incident_key(target, loaded.incident_key)}"
            opening = Opening(key=key, window=DEFAULT_WINDOW, title=title, severity=0)
        run_id = core.world.ids.new("run", now)
        run_id, number = await core.store.start_run(
            run_id, start, now, created, incident=incident, opening=opening
        )
        await core.store.add_audit([core.audit(who, "run", run_id, reason=reason)])
        core.driver.heard(run_id)
        core.news.tell(number)
        return {"run": run_id, "incident": number}

    async def preview(self, who: Who, playbook: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The plans a run would make now: a run in observe mode, which changes nothing."""
        answer = await self.start(who, playbook, inputs, "preview", mode="observe")
        run = await self._ended(answer["run"])
        steps = [
            {"step": s.id, "plan": dict(s.plan), "hash": s.plan_hash, "reason": s.reason}
            for s in run.steps.values()
            if s.plan
        ]
        return {**answer, "steps": steps, "outcome": run.outcome, "reason": run.reason}

    async def _ended(self, run_id: str, seconds: float = 30.0) -> RunState:
        clock = self._core.world.clock
        until = clock.monotonic() + seconds
        while True:
            _, run = await self._core.driver.load(run_id)
            if run.outcome:
                return run
            if clock.monotonic() > until:
                raise Conflict(f"run {run_id} is still planning; look at it in a moment")
            await clock.sleep(0.05)

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
                "reason": _reason(reason),
            }
            event = Event("approval_given", now, data)
        else:
            text = f"denied by {who.person}" + (f": {_reason(reason)}" if reason else "")
            event = Event("approval_denied", now, {"step": step, "reason": text})
        word = "approved" if yes else "denied"
        await self._post(who, run, event, word, f"{word} {step}", state.plan_hash, reason)
        self._core.metrics.approval_wait.observe(max(now - state.asked, 0) / SECOND)
        return {"run": run_id, "step": step, "decision": word, "plan": state.plan_hash}

    def _may_decide(
        self, who: Who, run: RunState, state: StepState, plan: str, *, yes: bool
    ) -> None:
        if yes and run.person and run.person == who.person:
            raise Forbidden(
                f"{who.person} asked for this run and cannot approve it; another approver can"
            )
        if state.status is not StepStatus.WAITING_APPROVAL:
            raise Conflict(f'step "{state.id}" is {state.status.value}: there is nothing to decide')
        if state.until <= self._core.world.clock.now():
            raise Conflict(f'step "{state.id}": the time to decide ended at {iso(state.until)}')
        if who.person in state.approvals:
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
        """An uncertain step: yes looks again and goes on, no ends it as failed."""
        require(who, Role.APPROVER)
        now = self._core.world.clock.now()
        if yes:
            event = Event("step_look_again", now, {"step": state.id})
        else:
            text = f"given up by {who.person} while uncertain: {state.error}"
            event = Event("step_failed", now, {"step": state.id, "error": text, "given_up": True})
        word = "look again" if yes else "give up"
        await self._post(who, run, event, word, f"{word}: {state.id}", state.plan_hash, reason)
        return {"run": run.id, "step": state.id, "decision": word, "plan": state.plan_hash}

    # ----------------------------------------------------------------- cancel, undo, extend

    async def cancel(self, who: Who, run_id: str, reason: str) -> dict[str, Any]:
        """End a run; what was applied stays applied until it is undone."""
        require(who, Role.RESPONDER)
        _, run = await self._core.driver.load(run_id)
        if run.outcome:
            raise Conflict(f"run {run_id} has already ended: {run.outcome}")
        now = self._core.world.clock.now()
        event = Event("cancel_asked", now, {"person": who.person, "reason": _reason(reason)})
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
        value = {"person": who.person, "reason": _reason(reason), "at": now}
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
    ) -> None:
        said = f"{text} by {who.person}" + (f": {_reason(reason)}" if reason else "")
        entry = TimelineEntry(
            incident=run.incident,
            at=event.at,
            kind="decision",
            text=cut(said, _REASON_MAX),
            door=who.door,
            person=who.person,
            data={"run": run.id, "event": event.type, "step": event.data.get("step", "")},
        )
        object_ = f"{run.id}/{event.data['step']}" if "step" in event.data else run.id
        line = self._core.audit(who, verb, object_, plan=plan, reason=reason)
        await self._core.driver.post(run.id, [event], timeline=[entry], audit=[line])
        self._core.news.tell(run.incident)


def _step(run: RunState, step: str) -> StepState:
    if step not in run.steps:
        raise NotFound(f"run {run.id} has no step named {step[:80]}")
    return run.steps[step]


def _mode(text: str | None) -> Mode | None:
    if text is None:
        return None
    if text not in set(Mode):
        raise BadRequest(f"mode: expected one of {', '.join(Mode)}, got {text[:40]}", "/mode")
    return Mode(text)


def _reason(text: str) -> str:
    return for_terminal(cut(text, _REASON_MAX), _REASON_MAX)
