"""Values with `${{ … }}` inside: the parameters of a step.

A value that is only one `${{ … }}` keeps its type; otherwise the results are joined as text.
Never runs anything else: what an expression yields is data and is not read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from responder.errors import StepFailed
from responder.playbook.expressions import Expression
from responder.playbook.expressions_functions import FUNCTIONS, Fault
from responder.playbook.values import plain

__all__ = ["Mixed", "Template", "TemplateError"]


class TemplateError(StepFailed):
    """A parameter has no value; the text names the parameter and the field that is missing."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Text around expressions: `incident ${{ incident.number }}`."""

    parts: tuple[str | Expression, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A value as written: plain, an `Expression`, `Mixed`, or a list or map of them."""

    value: Any

    def render(self, env: Mapping[str, Any]) -> Any:
        """The value with every expression evaluated, as plain JSON; raises `TemplateError`."""
        return _render(self.value, env, "")

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """All expressions inside, in their order."""
        return tuple(_expressions(self.value))

    @property
    def fields(self) -> frozenset[str]:
        """Every path that any of them reads."""
        return frozenset(path for one in self.expressions for path in one.fields)


def _render(value: Any, env: Mapping[str, Any], place: str) -> Any:
    if isinstance(value, Expression):
        return plain(_run(value, env, place))
    if isinstance(value, Mixed):
        return "".join(
            part if isinstance(part, str) else _text(_run(part, env, place)) for part in value.parts
        )
    if isinstance(value, Mapping):
        return {
            key: _render(item, env, f"{place}.{key}" if place else key)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_render(item, env, f"{place}[{index}]") for index, item in enumerate(value)]
    return value


def _run(expression: Expression, env: Mapping[str, Any], place: str) -> Any:
    try:
        return expression.run(env)
    except Fault as fault:
        where = f'parameter "{place}"' if place else "the value"
        raise TemplateError(
            f"{where} has no value: {fault.reason} in ${{{{ {expression.text} }}}}"
        ) from None


def _text(value: Any) -> str:
    """The text of one value inside other text: as `string()` writes it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict):
        import json

        return json.dumps(plain(value), ensure_ascii=False, sort_keys=True)
    return str(FUNCTIONS["string"][0].run(value))


def _expressions(value: Any) -> list[Expression]:
    if isinstance(value, Expression):
        return [value]
    if isinstance(value, Mixed):
        return [part for part in value.parts if isinstance(part, Expression)]
    if isinstance(value, Mapping):
        return [one for item in value.values() for one in _expressions(item)]
    if isinstance(value, list | tuple):
        return [one for item in value for one in _expressions(item)]
    return []
