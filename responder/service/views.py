"""The JSON that every door shows: one shape for one thing, times as ISO text. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from responder.clock import iso
from responder.engine.machine import status_of
from responder.engine.state import RunState, StepState, StepStatus
from responder.model import Severity
from responder.playbook.definition import Playbook
from responder.store.interface import (
    AuditEntry,
    EvidenceRow,
    IncidentRow,
    RunRow,
    TimelineEntry,
)

__all__ = [
    "audit_line",
    "diff",
    "evidence_row",
    "incident",
    "playbook",
    "run_row",
    "run_state",
    "timeline_entry",
]

Shown = dict[str, Any]


def incident(row: IncidentRow) -> Shown:
    """An incident as lists and pages show it."""
    return {
        "number": row.number,
        "title": row.title,
        "severity": row.severity,
        "severity_name": Severity(row.severity).name.lower(),
        "status": row.status,
        "opened": iso(row.opened),
        "updated": iso(row.updated),
        "last_alert": iso(row.last_alert),
        "alerts": row.alerts,
        "target": dict(row.target),
        "stages": {name: iso(at) for name, at in sorted(_stages(row).items(), key=_second)},
    }


def _stages(row: IncidentRow) -> dict[str, int]:
    """When each stage was reached, from being detected on."""
    return {"detected": row.opened, **row.stages}


def _second(pair: tuple[str, int]) -> int:
    return pair[1]


def run_row(row: RunRow) -> Shown:
    """A run as lists show it, without its steps."""
    return {
        "id": row.id,
        "incident": row.incident,
        "playbook": row.playbook,
        "playbook_hash": row.playbook_hash,
        "mode": row.mode.value,
        "status": row.status,
        "outcome": row.outcome,
        "reason": row.reason,
        "waiting_for": row.waiting_for,
        "created": iso(row.created),
        "finished": iso(row.finished) if row.finished else None,
        "person": row.person,
    }


def run_state(row: RunRow, run: RunState) -> Shown:
    """A run with every step."""
    steps = [_step(run, state) for state in run.steps.values()]
    paused = row.status == "paused" and not run.outcome
    return {
        **run_row(row),
        "status": "paused" if paused else status_of(run),  # the row lags while calls are under way
        "target": dict(run.target),
        "steps": steps,
    }


def _step(run: RunState, state: StepState) -> Shown:
    definition = run.definition(state.id)
    waiting = state.status is StepStatus.WAITING_APPROVAL
    return {
        "id": state.id,
        "use": definition.use,
        "status": _word(state),
        "verdict": state.verdict["level"] if state.verdict else "",
        "residual": list(state.verdict["residual"]) if state.verdict else _foreseen(state),
        "checks": dict(state.verdict["checks"]) if state.verdict else {},
        "error": state.error or state.undo_error,
        "reason": state.reason,
        "summary": state.plan["summary"] if state.plan else definition.use,
        "waiting_for": state.waiting_for,
        "since": iso(state.asked) if waiting else "",
        "until": iso(state.until) if waiting else "",
        "otherwise": state.otherwise if waiting else "",
        "asks": state.asks if waiting else "",
        "approvals": list(state.approvals),
        "plan_hash": state.plan_hash,
        "attempt": state.attempt,
        "result": dict(state.result),
        "expires": iso(state.expires) if state.expires else "",
        "undo": state.undo,
        "undoable": bool(state.plan and state.plan["undo"]) and state.applied,
    }


def _word(state: StepState) -> str:
    """The status in the words that every door uses."""
    return {"done": "undone", "failed": "undo-failed"}.get(state.undo, state.status.value)


def _foreseen(state: StepState) -> list[str]:
    return list(state.plan["residual"]) if state.plan else []


def diff(plan: Mapping[str, Any]) -> str:
    """A plan as a text diff: what is there now, what would be there."""
    lines = [plan["summary"], ""]
    for change in plan["changes"]:
        ref = change["ref"]
        place = f"{ref['namespace']}/{ref['name']}" if ref.get("namespace") else ref["name"]
        lines.append(f"{change['verb']} {ref['kind']} {place}  [{change['effect']}]")
        before, after = _lines(change["before"]), _lines(change["after"])
        lines += [f"- {line}" for line in before if line not in after]
        lines += [f"+ {line}" for line in after if line not in before]
        lines.append("")
    if plan["residual"]:
        lines += ["will not achieve:", *(f"  {text}" for text in plan["residual"])]
    if plan["undo"]:
        lines.append(f"undo: {plan['undo']}")
    return "\n".join(lines).strip() + "\n"


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def timeline_entry(entry: TimelineEntry) -> Shown:
    """One line of the story."""
    return {
        "id": entry.id,
        "incident": entry.incident,
        "at": iso(entry.at),
        "kind": entry.kind,
        "text": entry.text,
        "door": entry.door,
        "person": entry.person,
        "data": dict(entry.data),
    }


def audit_line(entry: AuditEntry) -> Shown:
    """One link of the chain."""
    return {
        "id": entry.id,
        "at": iso(entry.at),
        "person": entry.person,
        "door": entry.door,
        "address": entry.address,
        "verb": entry.verb,
        "object": entry.object,
        "plan": entry.plan,
        "detail": dict(entry.detail),
        "hash": entry.hash,
    }


def evidence_row(row: EvidenceRow) -> Shown:
    """One artefact, without its bytes."""
    return {
        "id": row.id,
        "run": row.run,
        "step": row.step,
        "name": row.name,
        "sha256": row.sha256,
        "size": row.size,
        "at": iso(row.at),
        "origin": dict(row.origin),
    }


def playbook(loaded: Playbook, *, full: bool = False) -> Shown:
    """A playbook in force."""
    shown: Shown = {
        "name": loaded.name,
        "description": loaded.description,
        "mode": loaded.mode.value,
        "hash": loaded.hash,
        "steps": [step.id for step in loaded.steps.values()],
        "manual": loaded.manual is not None,
        "triggers": [{"sources": list(t.sources), "rules": list(t.rules)} for t in loaded.triggers],
    }
    if full:
        shown["text"] = loaded.text
        shown["inputs"] = {
            name: {"type": spec.type, "required": spec.required, "default": spec.default}
            for name, spec in (loaded.manual or {}).items()
        }
    return shown


def page(items: Sequence[Shown], next_cursor: Any = None) -> Shown:
    """One page of a list."""
    return {"items": list(items), "next_cursor": next_cursor}
