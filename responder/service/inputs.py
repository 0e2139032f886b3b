"""Inputs of a playbook started by hand: checked against what it declares, joined to a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from responder.errors import BadRequest
from responder.model import Target
from responder.playbook.definition import InputSpec, Playbook
from responder.text import suggestion

__all__ = ["checked"]

_TARGET_PARTS = ("cluster", "namespace", "workload", "image", "digest", "node")


def checked(
    playbook: Playbook, given: Mapping[str, Any], default_cluster: str
) -> tuple[dict[str, Any], Target]:
    """The inputs with defaults, and the target they name. Raises `BadRequest` naming the input."""
    if playbook.manual is None:
        raise BadRequest(
            f'playbook "{playbook.name}" has no `manual` trigger: only alerts start it'
        )
    for name in given:
        if name not in playbook.manual:
            hint = suggestion(name, playbook.manual)
            raise BadRequest(f'inputs.{name}: playbook "{playbook.name}" has no such input; {hint}')
    values = {name: _value(name, spec, given) for name, spec in playbook.manual.items()}
    return values, _target(playbook.manual, values, default_cluster)


def _value(name: str, spec: InputSpec, given: Mapping[str, Any]) -> Any:
    if name not in given or given[name] in ("", None):
        if spec.required:
            raise BadRequest(f"inputs.{name}: is required ({spec.type})", f"/inputs/{name}")
        return spec.default
    return _typed(name, spec.type, given[name])


def _typed(name: str, type_: str, value: Any) -> Any:
    """Text from a command line is read as the declared type; other values must have it."""
    if type_ == "int" and isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    if type_ == "bool" and isinstance(value, str) and value.lower() in _BOOLS:
        return _BOOLS[value.lower()]
    expected = _PYTHON.get(type_, str)
    if not isinstance(value, expected) or (type_ == "int" and isinstance(value, bool)):
        text = f"inputs.{name}: expected {type_}, got {type(value).__name__}"
        raise BadRequest(text, f"/inputs/{name}")
    return value


_BOOLS = {"true": True, "false": False}
_PYTHON: Mapping[str, type] = {"int": int, "bool": bool, "list": list, "map": dict}


def _target(
    specs: Mapping[str, InputSpec], values: Mapping[str, Any], default_cluster: str
) -> Target:
    parts = {part: str(values[part]) for part in _TARGET_PARTS if values.get(part)}
    parts.setdefault("cluster", default_cluster)
    for name, spec in specs.items():
        if spec.type == "kubernetes.pod" and values.get(name):
            namespace, _, pod = str(values[name]).rpartition("/")
            parts["pod"] = pod
            if namespace:
                parts["namespace"] = namespace
            if not parts.get("namespace"):
                raise BadRequest(
                    f'inputs.{name}: expected "namespace/pod", got "{values[name]}"',
                    f"/inputs/{name}",
                )
    return Target(**parts)
