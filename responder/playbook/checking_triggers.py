"""Checks what starts a playbook: alerts and hands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from responder.playbook import reading
from responder.playbook.definition import AlertTrigger, InputSpec
from responder.playbook.expressions import Expression
from responder.playbook.names import PARAM_TYPES, trigger_names
from responder.playbook.nodes import Node, Report
from responder.playbook.values import Type
from responder.text import suggestion

__all__ = ["check_triggers", "covers", "fits"]

_HELP: Final = "write - alert: {source: [...], rule: [...]} or - manual: {}"


def check_triggers(
    report: Report,
    node: Node,
    variables: Mapping[str, Type] | None,
    sources: Collection[str] | None,
) -> tuple[tuple[AlertTrigger, ...], Mapping[str, InputSpec] | None]:
    """The alert triggers, and the inputs when it may be started by hand."""
    if node.kind != "list" or not node.items:
        report.add(node, "PB024", f"on: expected a list of triggers, got {node.shown}", _HELP)
        return (), None
    alerts: list[AlertTrigger] = []
    manual: Mapping[str, InputSpec] | None = None
    for item in node.items:
        for kind, value in reading.mapping(report, item, "trigger", ("alert", "manual")).items():
            if kind == "alert":
                alerts += _alert(report, value, variables, sources, alerts)
            elif manual is not None:
                report.add(value, "PB018", "manual is named twice", "join the inputs in one")
            else:
                manual = _manual(report, value)
        if item.kind == "map" and not item.entries:
            report.add(item, "PB024", "the trigger is empty", _HELP)
    return tuple(alerts), manual


def _alert(
    report: Report,
    node: Node,
    variables: Mapping[str, Type] | None,
    sources: Collection[str] | None,
    earlier: Sequence[AlertTrigger],
) -> list[AlertTrigger]:
    found = reading.mapping(report, node, "alert", ("source", "rule", "when"), ("source",))
    named = reading.texts(report, found["source"], "source") if "source" in found else []
    for source, item in named:
        if sources is not None and source not in sources:
            report.add(item, "PB020", f'unknown source "{source}"', suggestion(source, sources))
    rules = tuple(_rules(report, found["rule"])) if "rule" in found else ("*",)
    condition = None
    if "when" in found:
        condition = reading.condition(report, found["when"], "when", trigger_names(variables))
        _never(report, found["when"], condition)
    if not named or not rules:
        return []
    trigger = AlertTrigger(tuple(source for source, _ in named), rules, condition, node.line)
    for other in earlier:
        if covers(other, trigger):
            report.add(
                node, "PB022",
                f"this trigger is never reached: the one in line {other.line} takes all its alerts",
                "remove one of the two",
            )  # fmt: skip
    return [trigger]


def _rules(report: Report, node: Node) -> list[str]:
    found = []
    for rule, item in reading.texts(report, node, "rule"):
        if "*" in rule[:-1]:
            report.add(
                item, "PB021", f'rule "{rule}": "*" may stand only at the end',
                'use "when: alert.rule.contains(…)" for the rest',
            )  # fmt: skip
        elif rule != rule.strip():
            report.add(item, "PB021", f'rule "{rule}" has spaces around it', "remove them")
        else:
            found.append(rule)
    return found


def _never(report: Report, node: Node, condition: Expression | None) -> None:
    """A condition that reads nothing and is not true can never start anything."""
    if condition is not None and not condition.fields and not condition.truth({}):
        report.add(node, "PB022", "this condition is never true", "remove the trigger")


def covers(one: AlertTrigger, other: AlertTrigger) -> bool:
    """Whether every alert that fits `other` already fits `one`."""
    return (
        one.condition is None
        and set(other.sources) <= set(one.sources)
        and all(any(fits(rule, wide) for wide in one.rules) for rule in other.rules)
    )


def fits(rule: str, pattern: str) -> bool:
    """Whether a rule's name is this one, or begins with what stands before the `*`."""
    return rule.startswith(pattern[:-1]) if pattern.endswith("*") else rule == pattern


def _manual(report: Report, node: Node) -> Mapping[str, InputSpec]:
    if node.kind == "scalar" and node.value is None:
        return {}
    inputs = reading.mapping(report, node, "manual", ("inputs",)).get("inputs")
    if inputs is None:
        return {}
    if inputs.kind != "map":
        report.add(inputs, "PB012", f"inputs: expected a map, got {inputs.shown}")
        return {}
    found = {}
    for key, key_node, value in inputs.pairs():
        if reading.name(report, key_node, key_node.value, "input", dashes=False):
            found[key] = _input(report, value, key)
    return found


def _input(report: Report, node: Node, name: str) -> InputSpec:
    what = f"input {name}"
    keys = ("type", "required", "default", "summary")
    found = reading.mapping(report, node, what, keys, ("type",) if node.kind == "map" else ())
    kind = (
        reading.choice(report, found["type"], what, list(PARAM_TYPES)) if "type" in found else None
    )
    required = found["required"].value if "required" in found else False
    if not isinstance(required, bool):
        report.add(found["required"], "PB012", f"{what}: required is true or false")
        required = False
    summary = reading.text(report, found["summary"], what) if "summary" in found else ""
    default: Any = None
    if "default" in found and kind is not None:
        default = found["default"].plain()
        literal(report, found["default"], kind, f"{what}: default")
        if required:
            report.add(
                found["default"], "PB016", f"{what}: what is required needs no default",
                'remove "required" or "default"',
            )  # fmt: skip
    return InputSpec(kind or "string", required, default, summary or "")


_LITERALS: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "int": (int,),
    "bool": (bool,),
    "number": (int, float),
    "float": (int, float),
    "list": (list,),
    "map": (dict,),
    "kubernetes.pod": (str,),
    "image": (str,),
}


def literal(report: Report, node: Node, kind: str, what: str) -> None:
    """Report a written-out value that is not of the type; types of an action's own pass."""
    if kind == "duration":
        reading.duration(report, node, what, 0, 2**62)
        return
    value, wanted = node.plain(), _LITERALS.get(kind)
    if wanted is None:
        return
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
        quotable = kind in {"string", "kubernetes.pod", "image"} and node.kind == "scalar"
        fix = "put it in quotes" if quotable and value is not None else ""
        report.add(node, "PB043", f"{what}: expected {kind}, got {node.shown}", fix)
    elif kind in {"kubernetes.pod", "image"} and not value:
        report.add(node, "PB017", f"{what}: the text is empty")
