"""What should happen next in a run: a pure function from its state and the time to commands.

`decide` never reads a clock, a random number, the store or the environment. A driver carries the
commands out and appends the events that come of them; the same machine can stand behind any
durable executor. Rules it keeps:

- nothing is applied without a recorded plan, and without a yes where one is needed;
- `resumed` is set on every apply that an earlier process may have begun;
- after a failure no new step starts, what was begun is brought to its end, `finally` runs, and
  the run ends with a reason a person can read;
- a step that may or may not have happened stops the run and waits for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from responder.clock import SECOND
from responder.engine import truth
from responder.engine.commands import Command, Decision, Kind
from responder.engine.commands import record as _record
from responder.engine.folding import fold, fold_all
from responder.engine.state import RunState, StepState, StepStatus, begin
from responder.engine.summing import next_due, outcome_of, status_of, waiting_for
from responder.model import Role
from responder.playbook.definition import Approve, Step

__all__ = ["Command", "Decision", "Kind", "begin", "decide", "fold", "fold_all", "status_of"]

DEFAULT_APPROVE = Approve(by=Role.APPROVER, within=1800 * SECOND, otherwise="stop", quorum=1)
MAX_REPLANS = 5
LATE = 3600 * SECOND  # how long after its expiry something may still be taken back unseen
MAX_RESOLVE_TRIES = 40  # ever more slowly: about eighteen minutes


def decide(run: RunState, now: int) -> Decision:
    """The next commands of a run. Asking twice without new events gives the same answer."""
    undos = list(_undos(run, now))
    truths = list(truth.commands(run, now))
    if run.outcome:
        expiries = list(_expiries(run, now))
        commands = [*undos, *expiries, *truths]
        return Decision(commands=tuple(commands), due=next_due(run, now), status=run.outcome)
    if run.target.get("pod") and not run.resolved and not run.broken and not run.cancelled:
        return _resolve(run, now)
    commands = [*undos, *_expiries(run, now), *_main(run, now)]
    if not commands and _all_ended(run, run.playbook.steps):
        commands = list(_finally(run, now))
        if not commands and _all_ended(run, (s.id for s in run.playbook.finally_)):
            commands = [_finish(run, now)]
    return Decision(
        commands=(*commands, *truths),
        due=next_due(run, now),
        status=status_of(run),
        waiting_for=waiting_for(run),
    )


# --------------------------------------------------------------------------- target


def _resolve(run: RunState, now: int) -> Decision:
    if run.resolve_tries >= MAX_RESOLVE_TRIES:
        reason = "nobody could say what the target is now; see the last errors in the timeline"
        return Decision(commands=(_record("run_broken", now, reason=reason),))
    if run.resolve_at > now:
        return Decision(due=run.resolve_at, waiting_for="the cluster, to check the target")
    return Decision(commands=(Command(kind=Kind.RESOLVE),))


# --------------------------------------------------------------------------- steps


def _main(run: RunState, now: int) -> Iterator[Command]:
    halted = _halted(run)
    if _wants_rollback(run):
        yield _record("rollback_started", now)
        return
    for step in run.playbook.steps.values():
        yield from _step(run, step, now, halted)


def _finally(run: RunState, now: int) -> Iterator[Command]:
    """The closing steps, one after the other, whatever happened before."""
    for step in run.playbook.finally_:
        yield from _step(run, step, now, "")
        if not _effective(run, step.id).ended:
            return


def _step(run: RunState, step: Step, now: int, halted: str) -> Iterator[Command]:
    state = run.step(step.id)
    if state.status is StepStatus.EXPANDED:
        yield from _instances(run, step, now, halted)
        if all(instance.status.ended for instance in run.instances(step.id)):
            yield _collect(run, step.id, now)
        return
    yield from _advance(run, step, state, now, halted)


def _instances(run: RunState, step: Step, now: int, halted: str) -> Iterator[Command]:
    """The elements of a for_each: all together, or so many at a time until one has failed."""
    instances = run.instances(step.id)
    free = len(instances)
    if step.at_once:
        free = step.at_once - sum(1 for one in instances if _at_work(one))
        failed = next((one.id for one in instances if one.status is StepStatus.FAILED), "")
        if failed and step.on_error != "continue":
            halted = halted or f"{failed} failed"
    for instance in instances:
        if instance.status is StepStatus.PENDING and not halted:
            free -= 1
            if free < 0:
                continue
        yield from _advance(run, step, instance, now, halted)


def _at_work(state: StepState) -> bool:
    return state.status is not StepStatus.PENDING and not state.status.ended


def _advance(  # noqa: PLR0911 - one line for each status is the clearest form
    run: RunState, step: Step, state: StepState, now: int, halted: str
) -> Iterable[Command]:
    """What one step needs now, by its status."""
    if state.status.ended or state.undo in _UNDOING:
        return ()
    cut_short = _cut_short(run, step, state, now, halted)
    if cut_short is not None:
        return (cut_short,)
    match state.status:
        case StepStatus.PENDING:
            return _begin(run, step, state, now)
        case StepStatus.ASK:
            return (_ask(step, state, now),)
        case StepStatus.WAITING_APPROVAL:
            return _await(state, now)
        case StepStatus.PLANNED | StepStatus.APPROVED:
            return (_apply(state, resumed=False, attempt=state.attempt + 1),)
        case StepStatus.APPLYING:
            return (_apply(state, resumed=True, attempt=state.attempt),)
        case StepStatus.WAITING_EXTERNAL:
            return _poll(state, now)
        case StepStatus.APPLIED:
            return (Command(kind=Kind.VERIFY, step=state.id, attempt=state.attempt),)
        case StepStatus.RETRYING:
            return _retry(run, state, now)
        case _:
            return ()


def _cut_short(
    run: RunState, step: Step, state: StepState, now: int, halted: str
) -> Command | None:
    """The end of a step that must not go its way: taken back, halted, cancelled, out of time."""
    if state.undo == "done":
        text = f"taken back while it was {state.status.value}"
        return _record("step_failed", now, step=state.id, error=text)
    if halted and state.status in _NOT_BEGUN:
        return _record("step_skipped", now, step=state.id, reason=halted, halts=True)
    if run.cancelled and state.status is StepStatus.WAITING_EXTERNAL:
        text = f"cancelled by {run.cancelled}; {state.waiting_for or 'what it began'} goes on there"
        return _record("step_failed", now, step=state.id, error=text)
    if _timed_out(step, state, now):
        text = f"timed out after {step.timeout:g} s"
        return _record("step_failed", now, step=state.id, error=text)
    return None


_NOT_BEGUN = {
    StepStatus.PENDING,
    StepStatus.PLANNED,
    StepStatus.ASK,
    StepStatus.WAITING_APPROVAL,
    StepStatus.APPROVED,
}


def _begin(run: RunState, step: Step, state: StepState, now: int) -> Iterable[Command]:
    if state.replans > MAX_REPLANS:
        text = f"the world changed under {state.replans} plans in a row; last: {state.error}"
        return (_record("step_failed", now, step=state.id, error=text),)
    for need in step.needs:
        effective = _effective(run, need)
        if not effective.ended:
            return ()
        if effective is StepStatus.FAILED and run.definition(need).on_error != "continue":
            text = f'needs "{need}", which failed'
            return (_record("step_skipped", now, step=state.id, reason=text, halts=True),)
    return (Command(kind=Kind.PLAN, step=state.id),)


def _ask(step: Step, state: StepState, now: int) -> Command:
    rule = step.approve or DEFAULT_APPROVE
    return _record(
        "approval_asked",
        now,
        step=state.id,
        until=now + rule.within,
        otherwise=rule.otherwise,
        by=rule.by.value,
        quorum=rule.quorum,
        plan=state.plan_hash,
        why=state.asks,
        waiting_for=f"a yes from role {rule.by.value}",
    )


def _await(state: StepState, now: int) -> Iterable[Command]:
    if now < state.until:
        return ()
    return (_record("approval_expired", now, step=state.id, reason="nobody decided in time"),)


def _apply(state: StepState, *, resumed: bool, attempt: int) -> Command:
    return Command(kind=Kind.APPLY, step=state.id, attempt=max(attempt, 1), resumed=resumed)


def _poll(state: StepState, now: int) -> Iterable[Command]:
    if state.check_at > now:
        return ()
    return (Command(kind=Kind.POLL, step=state.id, attempt=state.attempt),)


def _retry(run: RunState, state: StepState, now: int) -> Iterable[Command]:
    if run.cancelled:
        text = f"cancelled by {run.cancelled} while retrying: {state.error}"
        return (_record("step_failed", now, step=state.id, error=text),)
    if state.retry_at > now:
        return ()
    match state.resume:
        case "poll":
            return (Command(kind=Kind.POLL, step=state.id, attempt=state.attempt),)
        case "verify":
            return (Command(kind=Kind.VERIFY, step=state.id, attempt=state.attempt),)
        case "apply":
            return (_apply(state, resumed=True, attempt=state.attempt + 1),)
        case "anew":
            return (_apply(state, resumed=False, attempt=state.attempt + 1),)
        case _:
            return (Command(kind=Kind.PLAN, step=state.id, attempt=state.attempt),)


def _timed_out(step: Step, state: StepState, now: int) -> bool:
    """Only work is timed: waiting for a person is not, and a call in flight has its deadline."""
    waiting = state.status in {StepStatus.WAITING_EXTERNAL, StepStatus.RETRYING}
    ends = state.ends(step.timeout or 0.0)
    return waiting and 0 < ends <= now


def _collect(run: RunState, step_id: str, now: int) -> Command:
    """Join the instances of a for_each into the parent's end."""
    instances = run.instances(step_id)
    failed = [i for i in instances if i.status is StepStatus.FAILED]
    if failed:
        text = f"{len(failed)} of {len(instances)} failed; first: {failed[0].error}"
        return _record("step_failed", now, step=step_id, error=text)
    verdicts = {i.id: i.verdict for i in instances if i.verdict}
    if not verdicts:
        first = next(i for i in instances if i.status is StepStatus.SKIPPED)
        text, halts = first.reason or first.error, any(i.halts for i in instances)
        return _record("step_skipped", now, step=step_id, reason=text, halts=halts)
    return _record("step_done", now, step=step_id, verdict=truth.joined(verdicts))


# --------------------------------------------------------------------------- undo, expiry


def _undos(run: RunState, now: int) -> Iterator[Command]:
    """Steps whose undo was asked for, latest first, one at a time."""
    if run.rolling_back and not run.outcome:
        yield from _rollback(run, now)
        return
    for state in _latest_first(run):
        if state.undo in _UNDOING:
            yield from _undo(state, now)
            return


def _rollback(run: RunState, now: int) -> Iterator[Command]:
    for state in _latest_first(run):
        fresh = _to_take_back(run, state) and state.status.ended and not state.undo
        if state.undo in _UNDOING or fresh:
            yield from _undo(state, now)
            return


def _to_take_back(run: RunState, state: StepState) -> bool:
    """Whether a rollback reverses it. What the closing steps did stays: they run whatever comes."""
    return state.reversible and run.definition(state.id).id in run.playbook.steps


_UNDOING = {"asked", "running", "retry", "pending"}


def _undo(state: StepState, now: int) -> Iterator[Command]:
    if state.undo in {"pending", "retry"} and state.undo_at > now:
        return
    kind = Kind.UNDO_POLL if state.undo == "pending" else Kind.UNDO
    yield Command(kind=kind, step=state.id, resumed=state.undo in {"running", "retry"})


def _latest_first(run: RunState) -> list[StepState]:
    return sorted(run.steps.values(), key=lambda step: step.started, reverse=True)


def _wants_rollback(run: RunState) -> bool:
    if run.rolling_back or not _quiet(run):
        return False
    return any(
        run.step(step.id).status is StepStatus.FAILED and step.on_error == "undo"
        for step in run.playbook.steps.values()
    )


def _quiet(run: RunState) -> bool:
    """Nothing is under way outside."""
    busy = {StepStatus.APPLYING, StepStatus.WAITING_EXTERNAL, StepStatus.APPLIED}
    return not any(state.status in busy for state in run.steps.values())


def _expiries(run: RunState, now: int) -> Iterator[Command]:
    """What runs out now: a lock that reverts is taken back, anything else stays for a person.

    One that ran out while nobody was there is not opened by itself: a person looks at it first.
    """
    for state in run.steps.values():
        if not state.expires or state.expired or state.expires > now or not state.applied:
            continue
        late = now - state.expires > LATE
        if state.reverts and not late:
            yield _record("undo_asked", now, step=state.id, person="expiry", expired=True)
        else:
            yield _record("containment_expired", now, step=state.id, late=late and state.reverts)


# --------------------------------------------------------------------------- the whole run


def _effective(run: RunState, step_id: str) -> StepStatus:
    return run.step(step_id).status


def _halted(run: RunState) -> str:
    """Why no new step may start, or the empty text."""
    if run.cancelled:
        return f"cancelled by {run.cancelled}"
    if run.broken:
        return run.broken
    for state in run.steps.values():
        definition = run.definition(state.id)
        failed = state.status is StepStatus.FAILED and definition.on_error != "continue"
        if failed and definition.id in run.playbook.steps and "[" not in state.id:
            return f'step "{state.id}" failed'
    return ""


def _all_ended(run: RunState, ids: Iterable[str]) -> bool:
    pending_undo = run.rolling_back and any(
        _to_take_back(run, s) and s.undo not in {"done", "failed"} for s in run.steps.values()
    )
    return not pending_undo and all(_effective(run, step_id).ended for step_id in ids)


def _finish(run: RunState, now: int) -> Command:
    outcome, reason = outcome_of(run)
    return _record("run_finished", now, outcome=outcome, reason=reason)
