"""Checks a playbook's tree as a whole and makes the `Playbook` of it.

Pure. Never raises for what a file holds: every fault goes to the report, so that an author sees
all of them at once, each with its place and the likely fix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from responder.model import Mode, Target
from responder.playbook import reading
from responder.playbook.checking_steps import Names, check_finally, check_steps
from responder.playbook.checking_tests import check_tests
from responder.playbook.checking_triggers import check_triggers
from responder.playbook.definition import AlertTrigger, InputSpec, Limits, Playbook, Step
from responder.playbook.names import param_type
from responder.playbook.nodes import Node, Report
from responder.playbook.values import Type, type_of
from responder.ports import ActionInfo

__all__ = ["DEFAULT_KEY", "INCIDENT_KEYS", "KEYS", "check"]

KEYS: Final = (
    "playbook",
    "description",
    "on",
    "incident",
    "mode",
    "limits",
    "vars",
    "steps",
    "finally",
    "tests",
)
INCIDENT_KEYS: Final = (*Target.__slots__, "source", "rule", "fingerprint")
DEFAULT_KEY: Final = ("cluster", "namespace", "workload")
_MINUTE: Final = 60_000_000
DEFAULT_WINDOW: Final = 30 * _MINUTE
_WEEK: Final = 7 * 24 * 60 * _MINUTE


@dataclass(slots=True)
class _Parts:
    """What has been read so far; later parts are checked against earlier ones."""

    triggers: tuple[AlertTrigger, ...] = ()
    manual: Mapping[str, InputSpec] | None = None
    key: tuple[str, ...] = DEFAULT_KEY
    window: int = DEFAULT_WINDOW
    again: bool = True
    limits: Limits = field(default_factory=Limits)
    vars: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Step] = field(default_factory=dict)
    finally_: tuple[Step, ...] = ()


def check(
    root: Node,
    report: Report,
    catalogue: Mapping[str, ActionInfo],
    sources: Collection[str] | None,
) -> Playbook | None:
    """The playbook, or None when it is not even a map; problems go to the report."""
    if root.kind != "map":
        report.add(
            root, "PB012", f"a playbook is a map, got {root.shown}", 'begin with "playbook: a-name"'
        )
        return None
    top = reading.mapping(report, root, "playbook", KEYS, ("playbook", "on", "steps"))
    parts = _Parts()
    if "vars" in top:
        parts.vars = _vars(report, top["vars"])
    variables = None
    if "vars" not in top or top["vars"].kind == "map":
        variables = {key: type_of(value) for key, value in parts.vars.items()}
    if "on" in top:
        parts.triggers, parts.manual = check_triggers(report, top["on"], variables, sources)
    _settings(report, top, parts)
    _work(report, top, parts, variables, catalogue)
    tests = check_tests(report, top["tests"], parts.steps) if "tests" in top else ()
    return Playbook(
        name=_name(report, top),
        description=_description(report, top),
        triggers=parts.triggers,
        manual=parts.manual,
        incident_key=parts.key,
        incident_window=parts.window,
        incident_again=parts.again,
        mode=_mode(report, top),
        limits=parts.limits,
        vars=parts.vars,
        steps=parts.steps,
        finally_=parts.finally_,
        tests=tests,
        text=report.text,
        hash=hashlib.sha256(report.text.encode()).hexdigest()[:16],
        file=report.file,
    )


def _name(report: Report, top: Mapping[str, Node]) -> str:
    if "playbook" not in top:
        return ""
    node = top["playbook"]
    reading.name(report, node, node.value, "playbook", dashes=True)
    return str(node.value)


def _description(report: Report, top: Mapping[str, Node]) -> str:
    return (
        reading.text(report, top["description"], "description") or ""
        if "description" in top
        else ""
    )


def _mode(report: Report, top: Mapping[str, Node]) -> Mode:
    found = reading.choice(report, top["mode"], "mode", list(Mode)) if "mode" in top else None
    return Mode(found or Mode.APPROVE)


def _settings(report: Report, top: Mapping[str, Node], parts: _Parts) -> None:
    if "incident" in top:
        found = reading.mapping(report, top["incident"], "incident", ("key", "window", "again"))
        if "key" in found:
            parts.key = _key(report, found["key"])
        if "window" in found:
            window = reading.duration(report, found["window"], "window", 0, _WEEK)
            parts.window = DEFAULT_WINDOW if window is None else window
        if "again" in found:
            again = found["again"].value
            if not isinstance(again, bool):
                report.add(found["again"], "PB012", "incident.again is true or false")
            parts.again = again is not False
    if "limits" in top:
        parts.limits = _limits(report, top["limits"])


def _key(report: Report, node: Node) -> tuple[str, ...]:
    found = reading.texts(report, node, "incident key")
    for _, item in found:
        reading.choice(report, item, "incident key", INCIDENT_KEYS)
    return tuple(value for value, _ in found)


def _limits(report: Report, node: Node) -> Limits:
    names = ("runs_per_hour", "pods", "ready_share", "nodes")
    found = reading.mapping(report, node, "limits", names)
    whole = {
        key: reading.whole(report, found[key], f"limits.{key}", 0, 1_000_000)
        for key in ("runs_per_hour", "pods", "nodes")
        if key in found
    }
    share = None
    if "ready_share" in found:
        share = reading.number(report, found["ready_share"], "limits.ready_share", 0, 1)
    return Limits(ready_share=share, **whole)


def _vars(report: Report, node: Node) -> Mapping[str, Any]:
    if node.kind != "map":
        report.add(node, "PB012", f"vars: expected a map, got {node.shown}")
        return {}
    found = {}
    for key, key_node, value in node.pairs():
        if reading.name(report, key_node, key_node.value, "vars", dashes=False):
            found[key] = value.plain()
            if "${{" in report.text[value.start : value.end]:
                report.add(
                    value, "PB012", f"vars: {key} is a plain value, no expression is read here",
                    "use the expression where it is needed",
                )  # fmt: skip
    return found


def _work(
    report: Report,
    top: Mapping[str, Node],
    parts: _Parts,
    variables: Mapping[str, Type] | None,
    catalogue: Mapping[str, ActionInfo],
) -> None:
    inputs = {name: param_type(spec.type) for name, spec in (parts.manual or {}).items()}
    names = Names(report, catalogue, variables, inputs)
    if "steps" in top:
        parts.steps = check_steps(names, top["steps"])
    if "finally" in top:
        parts.finally_ = check_finally(names, top["finally"], parts.steps)
