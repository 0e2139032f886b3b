"""Reads single values out of the tree: each function returns a value, or reports and gives None.

None of them raises for what a file holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from responder.playbook.expressions import Expression, ExpressionError, compile_expression
from responder.playbook.nodes import Node, Report
from responder.playbook.templates import Mixed
from responder.playbook.values import STRING, Type, parse_duration, type_of
from responder.text import did_you_mean, suggestion

__all__ = [
    "choice",
    "condition",
    "duration",
    "expression",
    "mapping",
    "name",
    "number",
    "template",
    "text",
    "texts",
    "whole",
]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_ID = re.compile(r"[a-z][a-z0-9_]{0,62}")
_HOLE = re.compile(r"\$\$\{\{|\$\{\{(.*?)\}\}", re.DOTALL)
_WHOLE: Final = re.compile(r"\s*\$\{\{(.*)\}\}\s*", re.DOTALL)


def mapping(
    report: Report, node: Node, what: str, known: Collection[str], required: Collection[str] = ()
) -> dict[str, Node]:
    """The entries of a map with known keys; reports unknown and missing ones."""
    if node.kind != "map":
        report.add(
            node, "PB012", f"{what}: expected a map, got {node.shown}", f"keys: {', '.join(known)}"
        )
        return {}
    found: dict[str, Node] = {}
    meant = set()  # a mistyped key is not missing as well
    for key, key_node, value in node.pairs():
        if key in known:
            found.setdefault(key, value)
        elif isinstance(key_node.value, str):
            meant.add(did_you_mean(key, known))
            report.add(key_node, "PB010", f'{what}: unknown key "{key}"', suggestion(key, known))
    for key in required:
        if key not in found and key not in meant:
            report.add(node, "PB011", f'{what}: the key "{key}" is missing', f'add "{key}:"')
    return found


def _wrong(report: Report, node: Node, what: str, wanted: str, fix: str = "") -> None:
    report.add(node, "PB012", f"{what}: expected {wanted}, got {node.shown}", fix)


def text(report: Report, node: Node, what: str) -> str | None:
    """A text that is not empty."""
    if not isinstance(node.value, str):
        quote = node.kind == "scalar" and node.value is not None
        _wrong(report, node, what, "text", "put it in quotes" if quote else "")
        return None
    if not node.value.strip():
        report.add(node, "PB017", f"{what}: the text is empty")
        return None
    return node.value


def texts(report: Report, node: Node, what: str) -> list[tuple[str, Node]]:
    """A list of different texts; one text alone counts as a list of one."""
    items = node.items if node.kind == "list" else (node,)
    if not items:
        report.add(node, "PB017", f"{what}: the list is empty", "name at least one")
    found: dict[str, Node] = {}
    for item in items:
        value = text(report, item, what)
        if value is not None and value in found:
            report.add(item, "PB018", f'{what}: "{value}" is named twice', "remove one")
        elif value is not None:
            found[value] = item
    return list(found.items())


def name(report: Report, node: Node, value: Any, what: str, *, dashes: bool) -> bool:
    """Whether this is a name: small letters and digits, joined by "-" or (for ids) by "_"."""
    pattern, joint, other = (_NAME, "-", "_") if dashes else (_ID, "_", "-")
    if isinstance(value, str) and pattern.fullmatch(value):
        return True
    if not isinstance(value, str):
        _wrong(report, node, what, "a name")
        return False
    better = re.sub(rf"[^a-z0-9{joint}]+", joint, value.lower().replace(other, joint)).strip(joint)
    fix = f'write "{better}"' if pattern.fullmatch(better) else "begin with a small letter"
    report.add(
        node, "PB013", f'{what}: "{value}" is no name: small letters, digits and "{joint}"', fix
    )
    return False


def whole(report: Report, node: Node, what: str, low: int, high: int) -> int | None:
    """A whole number within bounds."""
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int):
        _wrong(report, node, what, "a whole number")
        return None
    return value if _within(report, node, what, value, low, high) else None


def number(report: Report, node: Node, what: str, low: float, high: float) -> float | None:
    """A number within bounds."""
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        _wrong(report, node, what, "a number")
        return None
    return float(value) if _within(report, node, what, value, low, high) else None


def _within(report: Report, node: Node, what: str, value: float, low: float, high: float) -> bool:
    if low <= value <= high:
        return True
    report.add(node, "PB016", f"{what}: {value} is out of range", f"{low} to {high}")
    return False


def choice(report: Report, node: Node, what: str, options: Collection[str]) -> str | None:
    """One of a few words."""
    if isinstance(node.value, str) and node.value in options:
        return node.value
    got = f'"{node.value}"' if isinstance(node.value, str) else node.shown
    near = did_you_mean(str(node.value), options)
    fix = f'did you mean "{near}"?' if near else f"one of: {', '.join(options)}"
    report.add(node, "PB014", f"{what}: {got} is not known", fix)
    return None


def duration(report: Report, node: Node, what: str, low: int, high: int) -> int | None:
    """Microseconds of `30s` or `4h`, within bounds (microseconds)."""
    if not isinstance(node.value, str):
        fix = f"write {node.value}s" if isinstance(node.value, int) else "write 30s, 45m or 4h"
        report.add(node, "PB015", f"{what}: expected a duration, got {node.shown}", fix)
        return None
    try:
        value = parse_duration(node.value)
    except ValueError as error:
        report.add(node, "PB015", f"{what}: {error}", _nearest_duration(node.value))
        return None
    if low <= value <= high:
        return value
    report.add(node, "PB016", f'{what}: "{node.value}" is out of range')
    return None


def _nearest_duration(value: str) -> str:
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(s|m|h|d)[a-z]*\s*", value.lower())
    return f"write {match.group(1)}{match.group(2)}" if match else "write 30s, 45m or 4h"


def expression(
    report: Report, node: Node, source: str, types: Mapping[str, Type]
) -> Expression | None:
    """A compiled expression; `source` is the part of the scalar `node` that holds it."""
    body = source.strip()
    if not body:
        report.add(node, "PB017", "the expression is empty")
        return None
    try:
        return compile_expression(body, types)
    except ExpressionError as error:
        code, message, fix = error.code, error.message, error.fix
        if error.unknown.startswith("steps."):
            code, message, fix = _not_upstream(report, error)
        report.inside(node, body, error.offset, code, message, fix)
        return None


def _not_upstream(report: Report, error: ExpressionError) -> tuple[str, str, str]:
    word = error.unknown.removeprefix("steps.")
    if "." in word:  # a result that the step does not have
        return error.code, error.message, error.fix
    fix = suggestion(word, report.steps)
    if word in report.steps:
        fix = f'add "{word}" to "needs"'
    return "PB052", f'"{word}" is no step that has run before this one', fix


def condition(
    report: Report, node: Node, what: str, types: Mapping[str, Type]
) -> Expression | None:
    """A compiled expression that is true or false. `true` and `false` may stand bare."""
    if isinstance(node.value, bool):
        return compile_expression("true" if node.value else "false", types)
    source = text(report, node, what)
    if source is None:
        return None
    if match := _WHOLE.fullmatch(source):
        source = match.group(1)
    found = expression(report, node, source, types)
    if found is not None and found.type.kind not in {"bool", "dyn"}:
        report.inside(
            node, found.text, 0, "PB033", f"{what}: expected a condition, got {found.type}",
            "compare it with something",
        )  # fmt: skip
        return None
    return found


def template(report: Report, node: Node, types: Mapping[str, Type]) -> tuple[Any, Type]:
    """A value with its expressions compiled, and its type as far as it is known."""
    if node.kind == "map":
        pairs = {key: template(report, value, types)[0] for key, _, value in node.pairs()}
        return pairs, Type("map")
    if node.kind == "list":
        return [template(report, item, types)[0] for item in node.items], Type("list")
    if not isinstance(node.value, str) or "${{" not in node.value:
        return node.value, type_of(node.value)
    return _holes(report, node, node.value, types)


def _holes(report: Report, node: Node, source: str, types: Mapping[str, Type]) -> tuple[Any, Type]:
    parts: list[str | Expression] = []
    here = 0
    for match in _HOLE.finditer(source):
        parts.append(source[here : match.start()])
        if match.group(1) is None:
            parts.append("${{")  # "$${{" stands for itself
        elif (found := expression(report, node, match.group(1), types)) is not None:
            parts.append(found)
        here = match.end()
    rest = source[here:]
    if "${{" in rest:
        report.inside(
            node, rest, rest.index("${{"), "PB030", '"${{" has no end', 'close it with "}}"'
        )
    parts = [part for part in [*parts, rest] if part != ""]
    if len(parts) == 1 and isinstance(parts[0], Expression):
        return parts[0], parts[0].type
    if all(isinstance(part, str) for part in parts):
        return "".join(map(str, parts)), STRING
    return Mixed(tuple(parts)), STRING
