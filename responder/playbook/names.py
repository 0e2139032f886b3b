"""The names that expressions may use: their declared types, and their values for one run.

Text that came with an alert stays data here: nothing in it is read as an expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from responder.model import Alert, Severity, Target
from responder.playbook.values import (
    BOOL,
    DOUBLE,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
    object_of,
    timestamp_of,
)
from responder.ports import ActionInfo, Param

__all__ = [
    "PARAM_TYPES",
    "environment",
    "param_type",
    "run_names",
    "step_type",
    "trigger_names",
]

SEVERITIES: Final = {member.name.lower(): int(member) for member in Severity}
TARGET: Final = object_of("target", dict.fromkeys(Target.__slots__, STRING))
ALERT: Final = object_of(
    "alert",
    {
        "source": STRING,
        "kind": STRING,
        "rule": STRING,
        "severity": INT,
        "summary": STRING,
        "time": TIMESTAMP,
        "fingerprint": STRING,
        "target": TARGET,
        "tags": list_of(STRING),
        "labels": map_of(STRING),
        "fields": map_of(DYN),
    },
)
INCIDENT: Final = object_of(
    "incident", {"number": INT, "title": STRING, "severity": INT, "status": STRING}
)
RUN: Final = object_of(
    "run",
    dict.fromkeys(("id", "playbook", "mode", "status", "outcome", "reason"), STRING),
)
SEVERITY: Final = object_of("severity", dict.fromkeys(SEVERITIES, INT))

# What a parameter's type means in an expression. Durations, pods and images travel as text.
PARAM_TYPES: Final[Mapping[str, Type]] = {
    "string": STRING,
    "int": INT,
    "bool": BOOL,
    "number": DOUBLE,
    "float": DOUBLE,
    "duration": STRING,
    "list": list_of(DYN),
    "map": map_of(DYN),
    "kubernetes.pod": STRING,
    "image": STRING,
}


def param_type(name: str) -> Type:
    """The type of a parameter, input or result; a type that only its action knows is `dyn`."""
    return PARAM_TYPES.get(name, DYN)


def trigger_names(variables: Mapping[str, Type] | None) -> dict[str, Type]:
    """What a trigger's condition may use: there is no incident and no run yet.

    `variables` is None where `vars` itself is at fault: no more faults come of that.
    """
    return {
        "alert": ALERT,
        "target": TARGET,
        "severity": SEVERITY,
        "vars": DYN if variables is None else object_of("vars", variables),
    }


def run_names(
    variables: Mapping[str, Type] | None, inputs: Mapping[str, Type], steps: Mapping[str, Type]
) -> dict[str, Type]:
    """What a step's condition and parameters may use; `steps` holds those upstream only."""
    return {
        **trigger_names(variables),
        "incident": INCIDENT,
        "run": RUN,
        "inputs": object_of("inputs", inputs),
        "steps": object_of("steps", steps),
    }


def step_type(step: str, info: ActionInfo | None, *, repeated: bool) -> Type:
    """What `steps.<id>` offers: the action's results, its status and its verdict."""
    if info is None or repeated:  # an unknown action is a fault of its own; a loop has many results
        return DYN
    results: Mapping[str, Param] = info.results
    fields = {name: param_type(result.type) for name, result in results.items()}
    return object_of(f"steps.{step}", {"status": STRING, "verdict": STRING, **fields})


def environment(
    *,
    alert: Alert | None = None,
    target: Target | None = None,
    incident: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    steps: Mapping[str, Mapping[str, Any]] | None = None,
    run: Mapping[str, Any] | None = None,
    vars: Mapping[str, Any] | None = None,  # noqa: A002 - the language calls it so
) -> dict[str, Any]:
    """The values of all names. What is not given, or is None, is missing.

    `target` is the resolved target; without one it is what the alert said.
    """
    about = target or (alert.target if alert else None)
    env: dict[str, Any] = {"severity": SEVERITIES}
    if alert is not None:
        env["alert"] = _alert(alert)
    if about is not None:
        env["target"] = _target(about)
    given = {"incident": incident, "run": run, "inputs": inputs, "steps": steps, "vars": vars}
    env.update({name: _known(value) for name, value in given.items() if value is not None})
    return env


def _target(target: Target) -> dict[str, str]:
    return {name: getattr(target, name) for name in Target.__slots__}


def _alert(alert: Alert) -> dict[str, Any]:
    values: dict[str, Any] = {
        "source": alert.source,
        "kind": alert.kind.value,
        "rule": alert.rule,
        "severity": int(alert.severity),
        "summary": alert.summary,
        "fingerprint": alert.fingerprint,
        "target": _target(alert.target),
        "tags": list(alert.tags),
        "labels": _normal(alert.labels),
        "fields": _normal(alert.fields),
    }
    if alert.time > 0:
        values["time"] = timestamp_of(alert.time)
    return values


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): _normal(value) for name, value in values.items() if value is not None}


def _normal(value: Any) -> Any:
    """The same value in the language's own classes: an enum is its number or text."""
    kind = type(value)
    if kind in {str, int, bool, float, type(None)}:
        return value
    if isinstance(value, Mapping):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    for plain in (bool, int, float):
        if isinstance(value, plain):
            return plain(value)
    return str(value) if isinstance(value, str) else value
