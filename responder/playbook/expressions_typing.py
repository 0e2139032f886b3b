"""Type check of an expression at load: every name, field, operator and call must fit.

Pure. `dyn` (a value known only at run time) fits everything; nothing else is coerced.
Raises `ExpressionError` at the first part that cannot work, with the nearest right word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from responder.playbook import expressions_tree as tree
from responder.playbook.expressions_functions import FUNCTIONS, Fault, Overload, compile_pattern
from responder.playbook.expressions_functions import duration as read_duration
from responder.playbook.expressions_functions import timestamp as read_timestamp
from responder.playbook.expressions_syntax import MACROS
from responder.playbook.expressions_tokens import ExpressionError
from responder.playbook.values import (
    BOOL,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    kind_of,
    list_of,
    map_of,
    unify,
)
from responder.text import suggestion

__all__ = ["check"]

_ORDERED: Final = (BOOL, INT, DOUBLE, STRING, DURATION, TIMESTAMP)
_NUMBERS: Final = ((INT, INT, INT), (DOUBLE, DOUBLE, DOUBLE))
_OPERATORS: Final[Mapping[str, tuple[tuple[Type, Type, Type], ...]]] = {
    "+": (
        *_NUMBERS,
        (STRING, STRING, STRING),
        (DURATION, DURATION, DURATION),
        (TIMESTAMP, DURATION, TIMESTAMP),
        (DURATION, TIMESTAMP, TIMESTAMP),
    ),
    "-": (
        *_NUMBERS,
        (DURATION, DURATION, DURATION),
        (TIMESTAMP, TIMESTAMP, DURATION),
        (TIMESTAMP, DURATION, TIMESTAMP),
    ),
    "*": _NUMBERS,
    "/": _NUMBERS,
    "%": ((INT, INT, INT),),
}


def check(  # noqa: PLR0911 - one line per kind of node
    node: tree.Node, names: Mapping[str, Type]
) -> Type:
    """The type of an expression under these names; raises `ExpressionError`."""
    match node:
        case tree.Literal(value=value):
            return Type(kind_of(value))
        case tree.Name():
            return _name(node, names)
        case tree.Select(of=of, field=field):
            return _field(check(of, names), field, node)
        case tree.Has(of=of, field=field):
            _field(check(of, names), field, node)
            return BOOL
        case tree.Index():
            return _index(node, names)
        case tree.Call():
            return _call(node, names)
        case tree.Unary(sign=sign, of=of):
            return _unary(sign, of, names)
        case tree.Binary():
            return _binary(node, names)
        case tree.Logic(sign=sign, parts=parts):
            for part in parts:
                _want(BOOL, part, names, f'"{sign}" joins conditions')
            return BOOL
        case tree.Choice():
            return _choice(node, names)
        case tree.ListOf(items=items):
            return list_of(_common([check(item, names) for item in items]))
        case tree.MapOf(entries=entries):
            return _map(entries, names)
        case tree.Loop():
            return _loop(node, names)
    raise AssertionError(node)


def _want(kind: Type, node: tree.Node, names: Mapping[str, Type], why: str) -> Type:
    found = check(node, names)
    if unify(found, kind) is None:
        raise ExpressionError("PB032", f"{why}: expected {kind}, got {found}", node.start)
    return found


def _name(node: tree.Name, names: Mapping[str, Type]) -> Type:
    if node.name in names:
        return names[node.name]
    raise ExpressionError(
        "PB031", f'unknown name "{node.name}"', node.start, suggestion(node.name, names)
    )


def _field(of: Type, field: str, node: tree.Node) -> Type:
    if of.kind == "dyn":
        return DYN
    if of.kind == "map":
        return of.item or DYN
    at = node.end - len(field) - (1 if isinstance(node, tree.Has) else 0)
    if of.fields is None:
        raise ExpressionError("PB032", f'{of} has no fields, so no "{field}"', at)
    if field in of.fields:
        return of.fields[field]
    raise ExpressionError(
        "PB031",
        f'{of} has no field "{field}"',
        at,
        suggestion(field, of.fields) if of.fields else "",
        unknown=f"{of}.{field}",
    )


def _index(node: tree.Index, names: Mapping[str, Type]) -> Type:
    of, key = check(node.of, names), check(node.key, names)
    if of.kind == "object":
        if isinstance(node.key, tree.Literal) and isinstance(node.key.value, str):
            return _field(of, node.key.value, node)
        raise ExpressionError("PB032", f"{of} is asked for a field by name", node.key.start)
    if of.kind == "list" and unify(key, INT) is not None:
        return of.item or DYN
    if of.kind == "map" and unify(key, STRING) is not None:
        return of.item or DYN
    if of.kind == "dyn":
        return DYN
    raise ExpressionError("PB032", f"{of} cannot be asked for [{key}]", node.key.start)


def _unary(sign: str, of: tree.Node, names: Mapping[str, Type]) -> Type:
    if sign == "!":
        _want(BOOL, of, names, '"!" turns a condition round')
        return BOOL
    found = check(of, names)
    if found.kind in {"int", "double", "dyn"}:
        return found
    raise ExpressionError("PB032", f'"-" needs a number, got {found}', of.start)


def _binary(node: tree.Binary, names: Mapping[str, Type]) -> Type:
    left, right = check(node.left, names), check(node.right, names)
    if node.sign in {"==", "!="}:
        if unify(left, right) is None:
            raise _mismatch(node, left, right)
        return BOOL
    if node.sign == "in":
        return _in(node, left, right)
    if node.sign in _OPERATORS:
        return _arithmetic(node, left, right)
    if any(unify(left, kind) and unify(right, kind) for kind in _ORDERED):
        return BOOL
    raise _mismatch(node, left, right)


def _mismatch(node: tree.Binary, left: Type, right: Type) -> ExpressionError:
    fix = ""
    if {left.kind, right.kind} == {"int", "double"}:
        fix = "nothing is converted by itself: use int() or double()"
    elif {left.kind, right.kind} == {"int", "string"}:
        fix = "nothing is converted by itself: use int() or string()"
        if any(
            (tree.path_of(side) or ())[-1:] == ("severity",) for side in (node.left, node.right)
        ):
            fix = "write severity.high"
    return ExpressionError("PB032", f'"{node.sign}" cannot take {left} and {right}', node.at, fix)


def _in(node: tree.Binary, left: Type, right: Type) -> Type:
    if right.kind in {"list", "dyn"} and unify(left, right.item or DYN) is not None:
        return BOOL
    if right.kind in {"map", "object"} and unify(left, STRING) is not None:
        return BOOL
    fix = "use text.contains(part)" if right.kind == left.kind == "string" else ""
    raise ExpressionError("PB032", f'"in" cannot look for {left} in {right}', node.at, fix)


def _arithmetic(node: tree.Binary, left: Type, right: Type) -> Type:
    results = [
        result
        for one, other, result in _OPERATORS[node.sign]
        if unify(left, one) is not None and unify(right, other) is not None
    ]
    if node.sign == "+" and "list" in {left.kind, right.kind} <= {"list", "dyn"}:
        joined = unify(left, right)
        if joined is not None:
            one_is_list = left if left.kind == "list" else right
            results.append(joined if joined.kind == "list" else one_is_list)
    if not results:
        raise _mismatch(node, left, right)
    if left.kind == right.kind == "dyn":
        return DYN
    return results[0] if len(set(results)) == 1 else DYN


def _call(node: tree.Call, names: Mapping[str, Type]) -> Type:
    given = [check(arg, names) for arg in node.args]
    overloads = FUNCTIONS.get(node.function)
    if overloads is None:
        known = sorted({*FUNCTIONS, *MACROS, "has"})
        raise ExpressionError(
            "PB034",
            f'unknown function "{node.function}"',
            node.at,
            suggestion(node.function, known),
        )
    fitting = [one for one in overloads if _fits(one, given, method=node.method)]
    if not fitting:
        raise ExpressionError(
            "PB032",
            f"{node.function}() cannot take {', '.join(map(str, given)) or 'nothing'}",
            node.at,
            _usage(node.function, overloads),
        )
    _literal_argument(node)
    return fitting[0].result


def _fits(overload: Overload, given: Sequence[Type], *, method: bool) -> bool:
    if len(given) != len(overload.params) or not (overload.method if method else overload.plain):
        return False
    return all(_accepts(want, got) for want, got in zip(overload.params, given, strict=True))


def _accepts(want: Type, got: Type) -> bool:
    if want.kind == "map" and got.kind == "object":
        return True
    return unify(want, got) is not None


def _usage(function: str, overloads: Sequence[Overload]) -> str:
    first = overloads[0]
    if first.plain:
        return f"write {function}({', '.join(str(kind) for kind in first.params)})"
    return f"write text.{function}(text)"


def _literal_argument(node: tree.Call) -> None:
    """A pattern, duration or moment that is written out is checked now, not at three at night."""
    readers: dict[str, Callable[[Any], Any]] = {
        "matches": compile_pattern,
        "duration": read_duration,
        "timestamp": read_timestamp,
    }
    last = node.args[-1]
    if node.function not in readers or not _is_text(last):
        return
    try:
        readers[node.function](last.value)  # type: ignore[attr-defined]
    except Fault as fault:
        raise ExpressionError("PB036", fault.reason, last.start) from None


def _is_text(node: tree.Node) -> bool:
    return isinstance(node, tree.Literal) and isinstance(node.value, str)


def _choice(node: tree.Choice, names: Mapping[str, Type]) -> Type:
    _want(BOOL, node.condition, names, '"?" needs a condition')
    yes, no = check(node.yes, names), check(node.no, names)
    both = unify(yes, no)
    if both is None:
        raise ExpressionError(
            "PB032", f"both sides of ? : must be of one type, got {yes} and {no}", node.no.start
        )
    return both


def _common(kinds: Sequence[Type]) -> Type:
    if not kinds:
        return DYN
    common: Type | None = kinds[0]
    for kind in kinds[1:]:
        common = unify(common, kind) if common is not None else None
    return common or DYN


def _map(entries: Sequence[tuple[tree.Node, tree.Node]], names: Mapping[str, Type]) -> Type:
    for key, _ in entries:
        _want(STRING, key, names, "the key of a map is a text")
    return map_of(_common([check(value, names) for _, value in entries]))


def _loop(node: tree.Loop, names: Mapping[str, Type]) -> Type:
    of = check(node.of, names)
    if of.kind not in {"list", "map", "dyn"}:
        raise ExpressionError(
            "PB032",
            f"{node.macro}() goes over a list or the keys of a map, got {of}",
            node.of.start,
        )
    item = STRING if of.kind == "map" else (of.item or DYN)
    inner = {**names, node.variable: item}
    if node.macro == "map":
        return list_of(check(node.body, inner))
    _want(BOOL, node.body, inner, f"{node.macro}() needs a condition")
    return list_of(item) if node.macro == "filter" else BOOL
