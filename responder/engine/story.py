"""An incident's story, its audit lines and its status, told from journal events. Pure.

Every line names its object and what was verified, never more than that: nothing is called
contained or repaired here unless a step's verdict and stage say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from responder.clock import iso
from responder.engine import truth
from responder.engine.state import RunState, StepStatus
from responder.model import VerdictLevel
from responder.store.interface import AuditEntry, Event, IncidentPatch, TimelineEntry
from responder.text import cut

__all__ = ["audit", "patch", "reached", "tell"]

_LIMIT = 600  # characters of one line
Data = Mapping[str, Any]


def tell(run: RunState, events: Sequence[Event]) -> list[TimelineEntry]:
    """The lines that these events add to the incident's timeline."""
    lines = []
    for event in events:
        teller = _TELLERS.get(event.type)
        text = teller(run, event.data) if teller else ""
        if text:
            lines.append(_line(run, event, text))
    return lines


def audit(run: RunState, events: Sequence[Event]) -> list[AuditEntry]:
    """The audit lines: every begun and finished change, with the plan it stood on."""
    return [
        AuditEntry(
            at=event.at,
            person="responder",
            door="auto",
            verb=_AUDITED[event.type],
            object=f"{run.id}/{event.data['step']}",
            plan=run.step(event.data["step"]).plan_hash,
            detail={"action": run.definition(event.data["step"]).use},
        )
        for event in events
        if _is_audited(run, event)
    ]


def patch(run: RunState, events: Sequence[Event]) -> IncidentPatch | None:
    """What the events change on the incident itself, or nothing."""
    status, target = "", None
    stages: dict[str, int] = {}
    for event in events:
        stage = run.steps[event.data["step"]].stage if "step" in event.data else ""
        match event.type:
            case "target_resolved":
                target = event.data["target"]
            case "step_done" if reached(run, event):
                stages[stage] = event.at
                status = _REACHED.get(stage, status)
            case "apply_started" if stage == "built":
                status = "remediating"
            case "undo_done" if stage in _CLAIMS:
                status = _still(run)
            case "run_finished":
                stages["ended"] = event.at
                status = _final_status(run) or status
    only_from = ""
    if not status and (found := [e for e in events if e.type in _TRUTHS and _contains(run, e)]):
        held = "contained" in _held(run)
        status, only_from = ("contained", "open") if held else ("open", "contained")
        stages |= {"contained": found[-1].at} if held else {}
    if not status and target is None and not stages:
        return None
    return IncidentPatch(status=status, target=target, stages=stages, only_from=only_from)


def reached(run: RunState, event: Event) -> str:
    """The stage that an end of a step has reached, if it says so and what it claims holds."""
    stage = run.steps[event.data["step"]].stage if event.type == "step_done" else ""
    return stage if stage not in _CLAIMS or _holds(event) else ""


_TRUTHS = {"truth_changed", "truth_ended"}


def _contains(run: RunState, event: Event) -> bool:
    return not event.data.get("expected") and run.step(event.data["step"]).stage == "contained"


_REACHED = {"contained": "contained", "built": "remediating", "rolled-out": "remediating"}
_ENDS = {"rolled-out", "released", "removed", "answered"}
_CLAIMS = {"contained", *_ENDS}  # said only of what was verified and leaves nothing open
_AUDITED = {
    "apply_started": "apply",
    "step_done": "applied",
    "step_failed": "apply failed",
    "step_uncertain": "uncertain",
    "undo_started": "undo",
    "undo_done": "undone",
    "undo_failed": "undo failed",
    "reassert_started": "put back",
    "reasserted": "applied again",
    "reassert_failed": "put back failed",
}


def _holds(event: Event) -> bool:
    return bool(event.data["verdict"]["level"] != VerdictLevel.RESIDUAL)


def _held(run: RunState) -> set[str]:
    """The stages that verified steps have reached and nobody has taken back."""
    return {
        step.stage
        for step in run.steps.values()
        if step.status is StepStatus.SUCCEEDED
        and step.undo != "done"
        and step.verdict
        and step.verdict["level"] != VerdictLevel.RESIDUAL
    }


def _final_status(run: RunState) -> str:
    """Resolved when the fix is out, the pod is gone or a question answered; else as it was."""
    return "resolved" if run.outcome == "succeeded" and _held(run) & _ENDS else ""


def _still(run: RunState) -> str:
    """What may be said after something was taken back."""
    held = _held(run)
    if "rolled-out" in held and not run.outcome:
        return "remediating"
    return _final_status(run) or ("contained" if "contained" in held else "open")


def _is_audited(run: RunState, event: Event) -> bool:
    """Whether this begins or ends a change; a try that is repeated does neither."""
    if event.type not in _AUDITED or event.data.get("temporary"):
        return False
    step = run.step(event.data["step"])
    return step.started > 0 and bool(step.plan and step.plan["changes"])


def _line(run: RunState, event: Event, text: str) -> TimelineEntry:
    data = {"run": run.id, "event": event.type}
    if "step" in event.data:
        state = run.steps[event.data["step"]]
        data |= {"step": state.id, "plan": state.plan_hash, "stage": state.stage}
    return TimelineEntry(
        incident=run.incident,
        at=event.at,
        kind="alarm" if _alarms(event) else _KINDS.get(event.type, "step"),
        text=cut(text, _LIMIT),
        data={key: value for key, value in data.items() if value},
    )


def _alarms(event: Event) -> bool:
    """Whether a person must look now: less holds than they were told."""
    if event.type == "truth_changed":
        return truth.worse(event.data["before"] or None, event.data["verdict"])
    if event.type == "truth_ended":
        return not event.data.get("expected")
    final = event.type == "reassert_failed" and bool(event.data.get("final"))
    return final or event.type == "reassert_given_up"


_KINDS = {"run_finished": "run", "approval_asked": "approval", "approval_expired": "approval"}


# --------------------------------------------------------------------------- one line each


def _summary(run: RunState, data: Data) -> str:
    plan = run.step(data["step"]).plan
    return str(plan["summary"] if plan else data["step"])


def _planned(_run: RunState, data: Data) -> str:
    plan = data["plan"]
    if not plan["changes"]:
        return ""
    parts = [f"plan {plan['hash']}: {plan['summary']}"]
    if plan["residual"]:
        parts.append(f"will not achieve: {'; '.join(plan['residual'])}")
    return " - ".join(parts)


def _asked(_run: RunState, data: Data) -> str:
    return (
        f"{data['step']} waits for a yes from role {data['by']} until {iso(data['until'])}, "
        f"then: {data['otherwise']} ({data['why']})"
    )


def _done(run: RunState, data: Data) -> str:
    verdict = data["verdict"]
    text = f"{_summary(run, data)}: {verdict['level']}"
    result = run.step(data["step"]).result
    facts = [f"{key} {value}" for key, value in result.items() if isinstance(value, str | int)]
    if facts:
        text += f" ({', '.join(facts[:4])})"
    if verdict["residual"]:
        text += f" - stays open: {'; '.join(verdict['residual'])}"
    return text


def _failed(_run: RunState, data: Data) -> str:
    word = "will be tried again" if data.get("temporary") else "failed"
    return f"{data['step']} {word}: {data['error']}"


def _pending(run: RunState, data: Data) -> str:
    """Only when what it waits for has changed: polling is not a story."""
    state = run.step(data["step"])
    if data.get("waiting_for") and state.told != data["waiting_for"]:
        return f"{data['step']} waits for {data['waiting_for']}"
    return ""


def _ran_out(_run: RunState, data: Data) -> str:
    late = " while nobody was there" if data.get("late") else ""
    return f"the containment of {data['step']} has expired{late}; it stays until a person decides"


def _truth(run: RunState, data: Data) -> str:
    """The present verdict, what it was, and whom it concerns."""
    before, now = data["before"], data["verdict"]
    word = before.get("level", "not known")
    moved = f"is {now['level']} now, was {word}" if word != now["level"] else f"still {word}"
    text = f"{_summary(run, data)}: {moved}"
    if lost := data.get("lost"):
        return f"{text} - {lost}"
    fresh = [one for one in now["residual"] if one not in before.get("residual", ())]
    gone = [one for one in before.get("residual", ()) if one not in now["residual"]]
    if fresh:
        text += f" - opened since: {'; '.join(fresh)}"
    if gone:
        text += f" - no longer open: {'; '.join(gone)}"
    return text


def _gave_up(run: RunState, data: Data) -> str:
    return f"{_summary(run, data)}: not put back any more, a person must decide: {data['reason']}"


def _not_put_back(run: RunState, data: Data) -> str:
    more = "; a person must decide" if data.get("final") else ""
    return f"{_summary(run, data)}: could not be put back{more}: {data['error']}"


def _finished(run: RunState, data: Data) -> str:
    reason = f": {data['reason']}" if data.get("reason") else ""
    return f"run of {run.playbook.name} {data['outcome']}{reason}"


_TELLERS: Mapping[str, Callable[[RunState, Data], str]] = {
    "target_unresolved": lambda _run, data: f"the target cannot be checked: {data['error']}",
    "run_broken": lambda _run, data: f"nothing is changed: {data['reason']}",
    "step_planned": _planned,
    "approval_asked": _asked,
    "approval_expired": lambda _run, data: f"{data['step']}: {data['reason']}",
    "step_pending": _pending,
    "step_done": _done,
    "step_failed": _failed,
    "step_conflict": lambda _run, data: f"{data['step']} is planned again: {data['error']}",
    "step_skipped": lambda _run, data: f"{data['step']} skipped: {data['reason']}",
    "step_uncertain": lambda _run, data: (
        f"{data['step']} may or may not have happened and waits for a person: {data['error']}"
    ),
    "containment_expired": _ran_out,
    "undo_asked": lambda _run, data: (
        f"{data['step']} has expired and is taken back" if data.get("expired") else ""
    ),
    "rollback_started": lambda _run, _data: "taking back what was applied",
    "undo_done": lambda run, data: f"undone: {_summary(run, data)}",
    "undo_failed": lambda _run, data: f"undo of {data['step']} failed: {data['error']}",
    "truth_changed": _truth,
    "truth_ended": lambda run, data: (
        "" if data.get("expected") else f"{_summary(run, data)} has ended: {data['reason']}"
    ),
    "reassert_started": lambda run, data: (
        f"{_summary(run, data)}: put back, time {data['attempt']} of at most {truth.MOST}"
    ),
    "reassert_failed": _not_put_back,
    "reassert_given_up": _gave_up,
    "run_finished": _finished,
}
