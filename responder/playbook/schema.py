"""The form of a playbook as JSON Schema, for editors: completion, help and red lines.

Draft-07, which is what the YAML language server reads. It is made from the same tables that the
checks use, and from the catalogue of actions. It is weaker than the checks (it knows nothing of
expressions or order) and never stricter: whatever loads, fits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from responder.model import Mode
from responder.playbook.checking import INCIDENT_KEYS
from responder.playbook.checking_steps import APPROVERS, ON_ERROR, OTHERWISE, UNDO
from responder.playbook.checking_tests import ALERT_KEYS, OUTCOMES
from responder.playbook.names import PARAM_TYPES, SEVERITIES
from responder.ports import ActionInfo, Param

__all__ = ["json_schema"]

Schema = dict[str, Any]
_HOLE: Final = r"\$\{\{"
_NAME: Final = "^[a-z][a-z0-9-]{0,62}$"
_ID: Final = "^[a-z][a-z0-9_]{0,62}$"
_DURATION: Final[Schema] = {
    "type": "string",
    "pattern": "^([0-9]{1,12}(ms|s|m|h|d))+$",
    "description": "30s, 45m, 4h, 1h30m",
}
_CONDITION: Final[Schema] = {
    "type": ["string", "boolean"],
    "description": "An expression that is true or false: alert.severity >= severity.high",
}
_TYPES: Final[Mapping[str, Schema]] = {
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "number": {"type": "number"},
    "float": {"type": "number"},
    "duration": _DURATION,
    "list": {"type": "array"},
    "map": {"type": "object"},
    "kubernetes.pod": {"type": "string", "minLength": 1},
    "image": {"type": "string", "minLength": 1},
    "step": {"type": "string"},
}


def json_schema(
    catalogue: Mapping[str, ActionInfo], sources: Collection[str] | None = None
) -> Schema:
    """The schema of one playbook file, with the parameters of every action."""
    actions = [*catalogue.values(), UNDO]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Playbook",
        **_object(
            {
                "playbook": {"type": "string", "pattern": _NAME, "description": "Its name."},
                "description": {"type": "string", "description": "What it does, in a sentence."},
                "on": _triggers(sources),
                "incident": _incident(),
                "mode": _words(list(Mode), "observe: plan only; approve: ask first; enforce: act."),
                "limits": _limits(),
                "vars": {"type": "object", "propertyNames": {"pattern": _ID}},
                "steps": {
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": {"pattern": _ID},
                    "additionalProperties": _step(actions, final=False),
                },
                "finally": {
                    "type": "array",
                    "description": "Runs whatever happened.",
                    "items": _step(actions, final=True),
                },
                "tests": {"type": "array", "items": _test()},
            },
            required=("playbook", "on", "steps"),
        ),
    }


def _object(properties: Mapping[str, Schema], required: Collection[str] = ()) -> Schema:
    schema: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
    }
    return {**schema, "required": list(required)} if required else schema


def _words(words: Collection[str], summary: str = "") -> Schema:
    schema: Schema = {"enum": [str(word) for word in words]}
    return {**schema, "description": summary} if summary else schema


def _one_or_many(item: Schema) -> Schema:
    return {"anyOf": [item, {"type": "array", "minItems": 1, "items": item}]}


def _triggers(sources: Collection[str] | None) -> Schema:
    source = _words(sorted(sources)) if sources else {"type": "string", "minLength": 1}
    alert = _object(
        {
            "source": _one_or_many(source),
            "rule": _one_or_many({"type": "string", "pattern": r"^[^*]*\*?$", "minLength": 1}),
            "when": _CONDITION,
        },
        required=("source",),
    )
    spec = _object(
        {
            "type": _words(list(PARAM_TYPES)),
            "required": {"type": "boolean"},
            "default": {},
            "summary": {"type": "string"},
        },
        required=("type",),
    )
    inputs = {"type": "object", "propertyNames": {"pattern": _ID}, "additionalProperties": spec}
    manual = {"anyOf": [_object({"inputs": inputs}), {"type": "null"}]}
    trigger = {**_object({"alert": alert, "manual": manual}), "minProperties": 1}
    return {"type": "array", "minItems": 1, "items": trigger}


def _incident() -> Schema:
    key = _one_or_many(_words(INCIDENT_KEYS))
    return {
        **_object({"key": key, "window": _DURATION, "again": {"type": "boolean"}}),
        "description": "Which alerts are one incident, for how long it stays open for more, and "
        "whether a statement heard before starts the playbook again (not held to yet).",
    }


def _limits() -> Schema:
    count: Schema = {"type": "integer", "minimum": 0, "maximum": 1_000_000}
    share: Schema = {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "Largest share of a workload's ready replicas that may be lost.",
    }
    return _object({"runs_per_hour": count, "pods": count, "nodes": count, "ready_share": share})


def _step(actions: Collection[ActionInfo], *, final: bool) -> Schema:
    retry = _object(
        {
            "attempts": {"type": "integer", "minimum": 1, "maximum": 100},
            "backoff": _DURATION,
            "max": _DURATION,
        },
        required=("attempts",),
    )
    keys: dict[str, Schema] = {
        "use": {"oneOf": [_use(info) for info in actions]},
        "with": {"type": "object"},
        "if": _CONDITION,
        "timeout": _DURATION,
        "retry": retry,
    }
    if not final:
        keys |= {
            "needs": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            },
            "for_each": {
                "type": "string",
                "description": "A list; each element is called item. Steps after it find every "
                "element with its results in steps.<id>.each.",
            },
            "at_once": {
                "type": "integer",
                "minimum": 1,
                "maximum": 200,
                "description": "Elements in work at a time; none is begun after a failed one.",
            },
            "on_error": _words(ON_ERROR),
            "approve": _approve(),
        }
    shape = {**_object(keys, required=("use",)), "allOf": [_with(info) for info in actions]}
    return shape if final else {**shape, "dependencies": {"at_once": ["for_each"]}}


def _use(info: ActionInfo) -> Schema:
    return {"const": info.name, "description": f"{info.summary} ({info.effect.value})"}


def _approve() -> Schema:
    return _object(
        {
            "by": _words(APPROVERS),
            "within": _DURATION,
            "otherwise": _words(OTHERWISE, "What happens when nobody answers."),
            "quorum": {"type": "integer", "minimum": 1, "maximum": 10},
        }
    )


def _with(info: ActionInfo) -> Schema:
    """If a step uses this action, then its parameters are these."""
    params = {name: _param(param) for name, param in info.params.items()}
    required = [name for name, param in info.params.items() if param.required]
    then: Schema = {"properties": {"with": _object(params, required)}}
    if required:
        then["required"] = ["with"]
    return {
        "if": {"properties": {"use": {"const": info.name}}, "required": ["use"]},
        "then": then,
    }


def _param(param: Param) -> Schema:
    plain = _TYPES.get(param.type, {})
    schema: Schema = {"description": f"{param.summary} ({param.type})"}
    if plain:
        schema["anyOf"] = [plain, {"type": "string", "pattern": _HOLE}]
    if param.default is not None:
        schema["default"] = param.default
    return schema


def _test() -> Schema:
    text: Schema = {"type": "string", "minLength": 1}
    special: dict[str, Schema] = {
        "severity": _words(SEVERITIES),
        "kind": {"type": "string"},
        "tags": _one_or_many(text),
        "labels": {"type": "object"},
        "fields": {"type": "object"},
    }
    alert = _object({key: special.get(key, text) for key in ALERT_KEYS}, ("source", "rule"))
    expect = _object({"starts": {"type": "boolean"}, "waits_at": text, "outcome": _words(OUTCOMES)})
    return _object({"alert": alert, "expect": {**expect, "minProperties": 1}}, ("alert", "expect"))
