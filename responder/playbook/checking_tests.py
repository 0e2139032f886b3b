"""Reads the `tests` of a playbook: alerts in short form, and what must come of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from responder.model import Alert, AlertKind, Severity, Target, digest_of
from responder.playbook import reading
from responder.playbook.definition import Step, TestCase
from responder.playbook.nodes import Node, Report
from responder.text import suggestion

__all__ = ["ALERT_KEYS", "OUTCOMES", "check_tests"]

_PLAIN: Final = tuple(name for name in Target.__slots__ if name not in {"pod", "namespace"})
ALERT_KEYS: Final = (
    *("source", "rule", "pod", "namespace", "severity", "kind", "summary"),
    *("tags", "labels", "fields"),
    *_PLAIN,
)
OUTCOMES: Final = ("succeeded", "failed", "cancelled", "undone", "needs-attention")


def check_tests(report: Report, node: Node, steps: Mapping[str, Step]) -> tuple[TestCase, ...]:
    """All test cases; problems go to the report."""
    if node.kind != "list":
        report.add(node, "PB012", f"tests: expected a list, got {node.shown}")
        return ()
    return tuple(_case(report, item, steps) for item in node.items)


def _case(report: Report, node: Node, steps: Mapping[str, Step]) -> TestCase:
    keys = reading.mapping(
        report, node, "test", ("alert", "expect"), ("alert", "expect") if node.kind == "map" else ()
    )
    alert = _alert(report, keys["alert"]) if "alert" in keys else _made({})
    expect = {}
    if "expect" in keys:
        names = ("starts", "waits_at", "outcome")
        expect = reading.mapping(report, keys["expect"], "expect", names)
        if keys["expect"].kind == "map" and not expect:
            report.add(keys["expect"], "PB017", "expect: nothing is expected", "add starts: true")
    starts = _starts(report, expect)
    waits_at = _waits_at(report, expect["waits_at"], steps) if "waits_at" in expect else ""
    outcome = ""
    if "outcome" in expect:
        outcome = reading.choice(report, expect["outcome"], "outcome", OUTCOMES) or ""
    if not starts and (waits_at or outcome):
        report.add(
            keys["expect"], "PB071", "what does not start neither waits nor ends",
            'remove "waits_at" and "outcome"',
        )  # fmt: skip
    return TestCase(alert=alert, starts=starts, waits_at=waits_at, outcome=outcome, line=node.line)


def _starts(report: Report, expect: Mapping[str, Node]) -> bool:
    if "starts" not in expect:
        return True
    value = expect["starts"].value
    if not isinstance(value, bool):
        report.add(expect["starts"], "PB012", "starts: expected true or false", "write true")
        return True
    return value


def _waits_at(report: Report, node: Node, steps: Mapping[str, Step]) -> str:
    step = reading.text(report, node, "waits_at") or ""
    if step and step not in steps:
        report.add(node, "PB070", f'waits_at: there is no step "{step}"', suggestion(step, steps))
    return step


def _alert(report: Report, node: Node) -> Alert:
    keys = reading.mapping(
        report, node, "alert", ALERT_KEYS, ("source", "rule") if node.kind == "map" else ()
    )
    found: dict[str, Any] = {}
    for key, value in keys.items():
        if key == "severity":
            found[key] = _severity(report, value)
        elif key == "kind":
            found[key] = reading.choice(report, value, key, list(AlertKind))
        elif key == "tags":
            found[key] = tuple(tag for tag, _ in reading.texts(report, value, key))
        elif key in {"labels", "fields"}:
            found[key] = _map(report, value, key)
        else:
            found[key] = reading.text(report, value, key)
    return _made(found)


def _severity(report: Report, node: Node) -> Severity:
    names = [member.name.lower() for member in Severity]
    name = reading.choice(report, node, "severity", names)
    return Severity[name.upper()] if name else Severity.UNKNOWN


def _map(report: Report, node: Node, key: str) -> dict[str, Any]:
    if node.kind != "map":
        report.add(node, "PB012", f"{key}: expected a map, got {node.shown}")
        return {}
    plain: dict[str, Any] = node.plain()
    return {name: str(value) for name, value in plain.items()} if key == "labels" else plain


def _made(found: Mapping[str, Any]) -> Alert:
    """The alert that a short form stands for; `pod` may be "namespace/name"."""
    pod = found.get("pod") or ""
    namespace, _, name = pod.rpartition("/")
    target = {key: found.get(key) or "" for key in _PLAIN}
    source, rule = found.get("source") or "", found.get("rule") or ""
    return Alert(
        source=source,
        kind=AlertKind(found.get("kind") or AlertKind.DETECTION),
        rule=rule,
        severity=found.get("severity", Severity.HIGH),
        summary=found.get("summary") or rule,
        time=0,
        fingerprint=digest_of([source, rule, pod, target])[:32],
        target=Target(namespace=found.get("namespace") or namespace, pod=name, **target),
        tags=found.get("tags", ()),
        labels=found.get("labels", {}),
        fields=found.get("fields", {}),
    )
