"""Carry out one command of the machine and say what came of it, as journal events.

Every failure becomes an event; nothing but cancellation is raised. The classes of
`responder.errors` decide which: try again, never, plan again, or it may have happened. A bug in
an action is told apart from the world's faults and never repeats a change blindly.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from responder.clock import SECOND, World
from responder.engine import brakes, failing, resolving, reversing
from responder.engine.expanding import expand
from responder.engine.knowing import environment_of, history, lasting
from responder.engine.lanes import KeyedLocks, Lane, Lanes
from responder.engine.machine import Command, Kind
from responder.engine.promises import Promises
from responder.engine.rechecking import Rechecking, objects_of
from responder.engine.state import RunState, StepState
from responder.errors import ResponderError, StepFailed
from responder.model import Effect, Mode, Plan, Severity, Target
from responder.playbook.definition import Step
from responder.playbook.templates import TemplateError
from responder.ports import Action, Call, Done, Pending, Resolver, redact
from responder.store.interface import Event

__all__ = ["Lanes", "Performer"]

log = logging.getLogger(__name__)


class Performer:
    """Joins the machine's commands with the actions that carry them out."""

    def __init__(
        self,
        *,
        actions: Mapping[str, Action],
        resolvers: Mapping[str, Resolver],
        guard: brakes.Guard,
        world: World,
        lanes: Lanes,
        window_pods: Callable[[], int],
        paused: Callable[[], str],
    ) -> None:
        self._actions = actions
        self._resolvers = resolvers
        self._guard = guard
        self._world = world
        self._lanes = lanes
        self._locks = KeyedLocks()
        self._promises = Promises(window_pods, guard.window, world)
        self._paused = paused
        self._truths = Rechecking(
            guard=guard,
            world=world,
            locks=self._locks,
            looks=lanes.looks,
            containment=lanes.containment,
            paused=paused,
        )

    def changes_world(self, run: RunState, command: Command) -> bool:
        """Whether carrying this out may change something outside: what a pause holds back."""
        if command.kind is Kind.UNDO:  # what a person asks for is done; what the clock asks waits
            return run.step(command.step).expired and run.step(command.step).reverts
        if command.kind is not Kind.APPLY:
            return command.kind is Kind.REASSERT
        use = run.definition(command.step).use
        action = self._actions.get(use)
        return action is not None and action.info.effect is not Effect.READ

    def foresee(self, target: Target) -> None:
        """Let a resolver begin to look at a target; one may have `foresee` beside `resolve`.

        It returns at once, never raises, and bounds what it does for targets nobody asks about.
        """
        begin = getattr(self._resolvers.get(target.cluster), "foresee", None)
        if begin is not None and target.pod:
            begin(target)

    async def perform(self, run: RunState, command: Command) -> list[Event]:
        """Do it, and return the events to append."""
        if command.kind is Kind.RESOLVE:
            lane, urgency = self._lanes.containment, self._urgency(run)
            now = self._world.clock.now()
            return await resolving.resolve(run, self._resolvers, lane, urgency, now)
        step, state = run.definition(command.step), run.step(command.step)
        handler = {
            Kind.PLAN: self._plan,
            Kind.APPLY: self._apply,
            Kind.POLL: self._poll,
            Kind.VERIFY: self._verify,
            Kind.UNDO: self._undo,
            Kind.UNDO_POLL: self._undo,
            Kind.RECHECK: self._recheck,
            Kind.REASSERT: self._recheck,
        }[command.kind]
        try:
            return await handler(run, step, state, command)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # a library's own: it must not look as if this server were stopping
            return self._failed(step, state, command, RuntimeError("cancelled from within"))
        except Exception as error:  # noqa: BLE001 - every failure becomes an event
            return self._failed(step, state, command, error)

    # ----------------------------------------------------------------- plan

    async def _plan(
        self, run: RunState, step: Step, state: StepState, _command: Command
    ) -> list[Event]:
        env = environment_of(run, state)
        if step.for_each is not None and state.id == step.id:
            return [expand(step, env, self._world.clock.now())]
        if step.condition is not None and not step.condition.truth(env):
            return [self._event("step_skipped", step=state.id, reason="its `if` is false")]
        try:
            params = step.params.render(env)
        except TemplateError as error:
            if run.mode is Mode.OBSERVE:
                text = f"cannot be planned while only observing: {error}"
                return [self._event("step_skipped", step=state.id, reason=text)]
            return [self._event("step_failed", step=state.id, error=str(error))]
        if step.use == reversing.UNDO:
            return reversing.plan(run, state, params, self._world.clock.now())
        action = self._action(step)
        call = self._call(run, step, state, params)
        async with self._lane(action).place(self._urgency(run)):
            async with asyncio.timeout(action.info.timeout):
                plan = await action.plan(call)
        planned = self._event(
            "step_planned",
            step=state.id,
            plan=plan.to_json(),
            params=redact(params),
            stage=action.info.stage,
            asks="",
        )
        if action.info.effect is Effect.READ:
            return [planned, *await self._read(run, step, state, action, call, plan)]
        return self._judged(run, step, state, plan, planned)

    def _judged(
        self, run: RunState, step: Step, state: StepState, plan: Plan, planned: Event
    ) -> list[Event]:
        """Mode and guard rails over a plan that would change something."""
        key = f"{run.id}/{state.id}"
        before = history(run, state.id, plan, self._promises.others(key))
        ruling = brakes.check(plan, self._guard, run.playbook.limits, before)
        reasons = "; ".join(ruling.reasons)
        unchecked = resolving.unchecked(run)
        if unchecked and plan.changes:
            skipped = self._event("step_skipped", step=state.id, reason=unchecked, halts=True)
            return [planned, skipped]
        if ruling.answer is brakes.Answer.REFUSE:
            text = f"the guard rails refuse it: {reasons}"
            return [planned, self._event("step_failed", step=state.id, error=text)]
        mode = brakes.mode_for(run.mode, brakes.namespaces_of(plan), self._guard)
        if mode is Mode.OBSERVE:
            text = "observe: planned, not applied" + (f" ({reasons})" if reasons else "")
            skipped = self._event("step_skipped", step=state.id, reason=text)
            return [planned, skipped]
        asks = self._asks(run, step, plan, mode, ruling)
        if not asks:
            self._promises.make(key, plan.blast.pods)
        return [replace(planned, data={**planned.data, "asks": asks})]

    def _asks(
        self, run: RunState, step: Step, plan: Plan, mode: Mode, ruling: brakes.Ruling
    ) -> str:
        """Why a person must say yes first; empty when nobody has to."""
        if not plan.changes:
            return ""
        why = list(ruling.reasons)
        if self._action(step).info.always_asks:
            why.insert(0, f"{step.use} always asks")
        if plan.asks:
            why.insert(0, plan.asks)
        if step.approve is not None:
            why.insert(0, "the playbook asks at this step")
        elif mode is Mode.APPROVE:
            why.insert(0, "the storm brake is on" if run.braked else "mode is approve")
        return "; ".join(why)

    # ----------------------------------------------------------------- read, apply, poll, verify

    async def _read(
        self,
        run: RunState,
        step: Step,
        state: StepState,
        action: Action,
        call: Call,
        plan: Plan,
    ) -> list[Event]:
        """A step that changes nothing needs no intent on disk: it is done in one go."""
        started = self._event("apply_started", step=state.id, attempt=state.attempt + 1)
        command = Command(kind=Kind.APPLY, step=state.id, attempt=state.attempt + 1)
        try:
            async with self._lane(action).place(self._urgency(run)):
                async with asyncio.timeout(self._limit(step, action)):
                    outcome = await action.apply(call, plan)
                    if isinstance(outcome, Pending):
                        return [started, self._pending(state.id, outcome)]
                    verdict = await action.verify(call, plan, outcome.result)
        except Exception as error:  # noqa: BLE001 - every failure becomes an event
            return [started, *self._failed(step, state, command, error)]
        return [
            started,
            self._event("step_applied", step=state.id, result=dict(outcome.result)),
            self._done_event(state.id, action, verdict.to_json(), {}),
        ]

    async def _apply(
        self, run: RunState, step: Step, state: StepState, command: Command
    ) -> list[Event]:
        if step.use == reversing.UNDO:
            return reversing.apply(run, state, self._world.clock.now())
        action = self._action(step)
        if command.resumed and not action.info.looks_up and action.info.effect is not Effect.READ:
            text = "it was begun before a stop and cannot be looked up"
            return [self._event("step_uncertain", step=state.id, error=text)]
        plan = self._recorded(state)
        call = self._call(run, step, state, state.params, command)
        self._promises.kept(call.key)
        async with self._locks.hold(objects_of(plan)), self._lane(action).place(self._urgency(run)):
            if self.changes_world(run, command) and self._paused():
                # it waited in line while the pause came; an earlier attempt stays one to look up
                return [] if command.resumed else [self._event("apply_held", step=state.id)]
            async with asyncio.timeout(self._limit(step, action)):
                outcome = await action.apply(call, plan)
        return [self._outcome(state.id, outcome)]

    async def _poll(
        self, run: RunState, step: Step, state: StepState, command: Command
    ) -> list[Event]:
        if step.use == reversing.UNDO:
            return reversing.poll(run, state, self._world.clock.now())
        action = self._action(step)
        call = self._call(run, step, state, state.params, command)
        async with self._lanes.normal.place(self._urgency(run)):
            async with asyncio.timeout(action.info.timeout):
                outcome = await action.poll(call, state.state)
        return [self._outcome(state.id, outcome)]

    async def _verify(
        self, run: RunState, step: Step, state: StepState, command: Command
    ) -> list[Event]:
        if step.use == reversing.UNDO:
            return reversing.verify(state, self._world.clock.now())
        action = self._action(step)
        plan = self._recorded(state)
        call = self._call(run, step, state, state.params, command)
        after = self._urgency(run) - 1  # in a storm, the next isolation before the last one's proof
        async with self._lane(action).place(after):
            async with asyncio.timeout(self._limit(step, action)):
                found = await action.verify(call, plan, state.result)
        return [self._done_event(state.id, action, found.to_json(), state.params)]

    async def _recheck(
        self, run: RunState, step: Step, state: StepState, command: Command
    ) -> list[Event]:
        action, plan = self._action(step), self._recorded(state)
        call, urgency = self._call(run, step, state, state.params, command), self._urgency(run)
        if command.kind is Kind.RECHECK:
            return await self._truths.look(run, state, action, call, plan, urgency)
        return await self._truths.put_back(run, state, action, call, plan, urgency)

    async def _undo(
        self, run: RunState, step: Step, state: StepState, command: Command
    ) -> list[Event]:
        action = self._action(step)
        if not action.info.undoable:
            text = f"{action.info.name} cannot be undone"
            return [self._event("undo_failed", step=state.id, error=text)]
        call = self._call(run, step, state, state.params, command)
        plan = self._recorded(state)
        async with self._locks.hold(objects_of(plan)), self._lane(action).place(self._urgency(run)):
            async with asyncio.timeout(action.info.timeout):
                if command.kind is Kind.UNDO_POLL:
                    outcome = await action.poll(call, state.undo_state)
                else:
                    outcome = await action.undo(call, plan, state.result)
        if isinstance(outcome, Done):
            return [self._event("undo_done", step=state.id)]
        check_at = self._later(outcome.after)
        return [
            self._event("undo_pending", step=state.id, state=dict(outcome.state), check_at=check_at)
        ]

    # ----------------------------------------------------------------- parts

    def _outcome(self, step_id: str, outcome: Done | Pending) -> Event:
        if isinstance(outcome, Done):
            return self._event("step_applied", step=step_id, result=dict(outcome.result))
        return self._pending(step_id, outcome)

    def _pending(self, step_id: str, outcome: Pending) -> Event:
        return self._event(
            "step_pending",
            step=step_id,
            state=dict(outcome.state),
            check_at=self._later(outcome.after),
            waiting_for=outcome.waiting_for,
            correlation=outcome.correlation,
            **({"by_person": True} if outcome.person else {}),
        )

    def _done_event(
        self,
        step_id: str,
        action: Action,
        verdict: Mapping[str, Any],
        params: Mapping[str, Any],
    ) -> Event:
        now = self._world.clock.now()
        data = {"step": step_id, "verdict": verdict, **lasting(action.info, params, now)}
        return Event("step_done", now, data)

    def _failed(
        self, step: Step, state: StepState, command: Command, error: Exception
    ) -> list[Event]:
        if command.kind in {Kind.RECHECK, Kind.REASSERT}:
            return self._truths.failed(state, command, error)
        if not isinstance(error, ResponderError | TimeoutError):
            log.error(
                "action failed unexpectedly",
                exc_info=error,
                extra={"event": "action_bug", "step": state.id},
            )
        looks_up = step.use == reversing.UNDO or (
            step.use in self._actions and self._actions[step.use].info.looks_up
        )
        return failing.events_for(
            error,
            step=step,
            state=state,
            command=command,
            looks_up=looks_up,
            now=self._world.clock.now(),
            jitter=self._world.rng.random(),
        )

    def _call(
        self,
        run: RunState,
        step: Step,
        state: StepState,
        params: Mapping[str, Any],
        command: Command | None = None,
    ) -> Call:
        return Call(
            action=step.use,
            key=f"{run.id}/{state.id}",
            incident=run.incident,
            run=run.id,
            step=state.id,
            params=params,
            target=Target.from_json(run.target),
            attempt=command.attempt if command else max(state.attempt, 1),
            resumed=bool(command and command.resumed),
            started=state.started,
        )

    def _action(self, step: Step) -> Action:
        action = self._actions.get(step.use)
        if action is None:
            raise StepFailed(
                f"action {step.use} is not set up on this server; configure its integration"
            )
        return action

    def _recorded(self, state: StepState) -> Plan:
        if state.plan is None:
            raise StepFailed(f"step {state.id} has no recorded plan")
        return Plan.from_json(state.plan)

    def _lane(self, action: Action) -> Lane:
        return self._lanes.containment if action.info.containment else self._lanes.normal

    def _limit(self, step: Step, action: Action) -> float:
        return min(step.timeout or action.info.timeout, action.info.timeout)

    def _urgency(self, run: RunState) -> int:
        """Its severity, doubled so that there is a place behind it; a person waits for theirs."""
        return 2 * int(run.alert.get("severity", Severity.CRITICAL))

    def _later(self, seconds: float) -> int:
        return self._world.clock.now() + int(seconds * SECOND)

    def _event(self, type_: str, **data: Any) -> Event:
        return Event(type_, self._world.clock.now(), data)
