"""Print an incident's story, line by line, as its timeline tells it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from responder.cli._output import label, paint
from responder.text import for_terminal

__all__ = ["incident_lines", "line", "seconds_between", "summary"]

_SHADES = {"approval": "yellow", "decision": "cyan", "alert": "magenta", "note": "cyan"}
_TEXT = 400
# stage -> what is said when it was reached
_STAGES = {
    "detected": "detected",
    "contained": "contained",
    "evidenced": "evidence",
    "built": "built",
    "rolled-out": "rolled out",
    "released": "released",
    "removed": "removed",
    "answered": "answered",
    "ended": "run ended",
}


def line(entry: Mapping[str, Any], word: str = "") -> str:
    """`12:04:01Z  contained   text (anna, cli)`: a reached stage says more than "step" does."""
    kind = str(entry["kind"])
    word = word or _reached(entry) or kind
    by = f"  ({entry['person']}, {entry['door']})" if entry.get("person") else ""
    text = for_terminal(str(entry["text"]), _TEXT) + for_terminal(by)
    shown = paint(f"{for_terminal(word, 20):<10}", _SHADES.get(kind, ""))
    return f"{str(entry['at'])[11:19]}Z  {shown} {text}"


def _reached(entry: Mapping[str, Any]) -> str:
    data = entry.get("data") or {}
    return _STAGES.get(data.get("stage", ""), "") if data.get("event") == "step_done" else ""


def incident_lines(incident: Mapping[str, Any]) -> list[str]:
    """The incident as a page: what, where, how far, and what waits for whom."""
    head = (
        f"#{incident['number']}  {str(incident['severity_name']).upper()}  {incident['title']}"
        f"  {str(incident['status']).upper()}"
    )
    target = incident["target"]
    where = label(target) if isinstance(target, Mapping) else str(target)
    lines = [
        head,
        f"opened {incident['opened']}  alerts {incident['alerts']}  target {where}",
    ]
    if len(incident["stages"]) > 1:
        lines.append(_stages(incident["stages"]))
    for run in incident["runs"]:
        lines += ["", *_run(incident, run)]
    return [for_terminal(text, _TEXT) for text in lines]


def _stages(stages: Mapping[str, str]) -> str:
    first = next(iter(stages.values()))
    return "stages " + "  ".join(
        f"{_STAGES.get(name, name)} +{seconds_between(first, at):.1f}s"
        for name, at in stages.items()
    )


def _run(incident: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    state = run["outcome"] or run["status"]
    reason = f"  {run['reason']}" if run["reason"] else ""
    lines = [f"{run['id']}  {run['playbook']}  {run['mode']}  {state}{reason}"]
    for step in run["steps"]:
        lines += _step(incident, step)
    return lines


def _step(incident: Mapping[str, Any], step: Mapping[str, Any]) -> list[str]:
    verdict = f"  {step['verdict']}" if step["verdict"] else ""
    lines = [f"  {step['status']:<17} {step['id']:<14} {step['summary']}{verdict}"]
    if step["error"]:
        lines.append(f"{'':22}error: {step['error']}")
    if step.get("reason"):
        lines.append(f"{'':22}because: {step['reason']}")
    lines += [f"{'':22}stays open: {text}" for text in step["residual"]]
    if step["status"] == "waiting-approval":
        lines.append(
            f"{'':22}waits for {step['waiting_for']} until {step['until']}, "
            f"then: {step['otherwise']}"
        )
        lines.append(
            f"{'':22}responder approve {incident['number']} {step['id']} --plan {step['plan_hash']}"
        )
    elif step["waiting_for"]:
        lines.append(f"{'':22}waits for {step['waiting_for']}")
    return lines


def summary(incident: Mapping[str, Any]) -> str:
    """`contained in 1.2 s, repaired in 14.8 s`, counted from the first alert."""
    stages = incident["stages"]
    start = stages.get("detected") or incident["opened"]
    said = []
    if "contained" in stages:
        said.append(f"contained in {seconds_between(start, stages['contained']):.1f} s")
    if "rolled-out" in stages:
        said.append(f"repaired in {seconds_between(start, stages['rolled-out']):.1f} s")
    return ", ".join(said) or f"status {incident['status']}"


def seconds_between(start: str, end: str) -> float:
    """Seconds from one RFC 3339 time to another."""
    moments = [dt.datetime.fromisoformat(text) for text in (start, end)]
    return (moments[1] - moments[0]).total_seconds()
