"""One expression of a playbook: compiled at load, evaluated and explained at run time.

A subset of CEL. An expression never does I/O and never raises for what an alert holds: a part
that is missing makes it `MISSING`, and a condition that is missing is false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from responder.playbook import expressions_tree as tree
from responder.playbook.expressions_closures import build
from responder.playbook.expressions_functions import Fault
from responder.playbook.expressions_scope import Closure, Scope
from responder.playbook.expressions_syntax import parse
from responder.playbook.expressions_tokens import ExpressionError
from responder.playbook.expressions_typing import check
from responder.playbook.values import MISSING, Type, plain

__all__ = ["Explained", "Expression", "ExpressionError", "Fault", "compile_expression"]

_SHOWN: Final = 5  # elements of a list that an explanation goes into


@dataclass(frozen=True, slots=True)
class Explained:
    """One part of an expression with its value; `missing` names what was absent."""

    text: str
    value: Any  # MISSING when there is none
    missing: str = ""
    error: str = ""
    children: tuple[Explained, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a part without a value has `error` instead."""
        data: dict[str, Any] = {"text": self.text}
        if self.value is not MISSING:
            data["value"] = plain(self.value)
        if self.error:
            data["error"] = self.error
        if self.missing:
            data["missing"] = self.missing
        if self.children:
            data["children"] = [child.to_json() for child in self.children]
        return data

    def absent(self) -> tuple[str, ...]:
        """Everything that was missing anywhere below, each once."""
        below = [name for child in self.children for name in child.absent()]
        return tuple(dict.fromkeys([*([self.missing] if self.missing else []), *below]))


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression. Values come from `environment` (matching.py)."""

    text: str
    type: Type
    fields: frozenset[str]  # every path it reads: "alert.target.pod"
    root: tree.Node = field(repr=False, compare=False)
    closure: Closure = field(repr=False, compare=False)

    def run(self, env: Mapping[str, Any]) -> Any:
        """The value; raises `Fault` with the reason when there is none."""
        return self.closure(Scope(env))

    def evaluate(self, env: Mapping[str, Any]) -> Any:
        """The value, or `MISSING` when there is none."""
        try:
            return self.closure(Scope(env))
        except Fault:
            return MISSING

    def truth(self, env: Mapping[str, Any]) -> bool:
        """Whether the condition holds; what is missing or fails never holds."""
        return self.evaluate(env) is True

    def explain(self, env: Mapping[str, Any]) -> Explained:
        """Every part with its own value, also those that evaluation would have skipped."""
        return _explain(self.root, self.text, env)


def compile_expression(text: str, types: Mapping[str, Type], at: int = 0) -> Expression:
    """Parse, check and compile; raises `ExpressionError` with offsets counted from `at`."""
    try:
        root = parse(text)
        kind = check(root, types)
    except ExpressionError as error:
        error.offset += at
        raise
    return Expression(text, kind, frozenset(_fields(root, frozenset())), root, build(root))


def _fields(node: tree.Node, bound: frozenset[str]) -> set[str]:
    """The longest paths from declared names; the variables of loops are not fields."""
    if isinstance(node, tree.Has):
        node = tree.Select(node.start, node.end, node.of, node.field)
    path = tree.path_of(node)
    if path is not None:
        return set() if path[0] in bound else {".".join(path)}
    found: set[str] = set()
    for child in tree.children(node):
        found |= _fields(child, bound)
    if isinstance(node, tree.Loop):
        found |= _fields(node.body, bound | {node.variable})
    return found


def _explain(node: tree.Node, text: str, env: Mapping[str, Any]) -> Explained:
    value: Any = MISSING
    missing = error = ""
    try:
        value = build(node)(Scope(env))
    except Fault as fault:
        missing, error = fault.missing, fault.reason
    return Explained(
        text[node.start : node.end], value, missing, error, tuple(_parts(node, text, env))
    )


def _parts(node: tree.Node, text: str, env: Mapping[str, Any]) -> list[Explained]:
    if tree.path_of(node) is not None:
        return []
    below = [child for child in tree.children(node) if not isinstance(child, tree.Literal)]
    parts = [_explain(child, text, env) for child in below]
    if isinstance(node, tree.Loop) and parts:
        items = parts[0].value if isinstance(parts[0].value, list | dict) else []
        parts += [
            _explain(node.body, text, {**env, node.variable: item}) for item in list(items)[:_SHOWN]
        ]
    return parts
