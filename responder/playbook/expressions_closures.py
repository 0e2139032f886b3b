"""A checked syntax tree to a closure: what runs when an alert arrives.

A closure takes a `Scope` and returns a value or raises `Fault`. It never does I/O, never changes
a value of its environment, and stops after a fixed number of loop steps.
Semantics: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from responder.playbook import expressions_tree as tree
from responder.playbook.expressions_functions import FUNCTIONS, Fault, bounded
from responder.playbook.expressions_operators import BINARY
from responder.playbook.expressions_scope import Closure, Scope, wrong
from responder.playbook.values import MISSING, kind_of

__all__ = ["build"]


def build(node: tree.Node) -> Closure:  # noqa: PLR0911 - one line per kind of node
    """The closure of one node and everything below it."""
    path = tree.path_of(node)
    if path is not None:
        return _path(path)
    match node:
        case tree.Literal(value=value):
            return lambda _: value
        case tree.Select(of=of, field=field):
            return _select(build(of), field)
        case tree.Has(of=of, field=field):
            return _has(build(of), field)
        case tree.Index(of=of, key=key):
            return _index(build(of), build(key))
        case tree.Call():
            return _call(node)
        case tree.Unary(sign=sign, of=of):
            return _not(build(of)) if sign == "!" else _negative(build(of))
        case tree.Binary(sign=sign, left=left, right=right):
            return BINARY[sign](build(left), build(right))
        case tree.Logic(sign=sign, parts=parts):
            return _logic(tuple(build(part) for part in parts), decisive=sign == "||")
        case tree.Choice(condition=condition, yes=yes, no=no):
            return _choice(build(condition), build(yes), build(no))
        case tree.ListOf(items=items):
            return _list(tuple(build(item) for item in items))
        case tree.MapOf(entries=entries):
            return _map(tuple((build(key), build(value)) for key, value in entries))
        case tree.Loop():
            return _LOOPS[node.macro](build(node.of), node.variable, build(node.body))
    raise AssertionError(node)


def _path(path: tuple[str, ...]) -> Closure:
    def read(scope: Scope) -> Any:
        value: Any = scope.names
        try:
            for field in path:
                value = value[field]
        except (KeyError, TypeError):  # not there, or nothing that has fields
            value = MISSING
        if value is MISSING:
            raise _absent(scope.names, path)
        return value

    return read


def _absent(names: Mapping[str, Any], path: tuple[str, ...]) -> Fault:
    """Say which part of a path is not there: found again step by step, since nobody hurries now."""
    value: Any = names.get(path[0], MISSING)
    for depth, field in enumerate(path[1:], 1):
        if value is MISSING:
            return _missing(".".join(path[:depth]))
        if type(value) is not dict:
            return Fault(f"{'.'.join(path[:depth])} is a {kind_of(value)} and has no fields")
        value = value.get(field, MISSING)
    return _missing(".".join(path))


def _missing(name: str) -> Fault:
    return Fault(f"{name} is missing", name)


def _select(of: Closure, field: str) -> Closure:
    def read(scope: Scope) -> Any:
        value = of(scope)
        if type(value) is not dict:
            raise Fault(f"{kind_of(value)} has no fields")
        found = value.get(field, MISSING)
        if found is MISSING:
            raise _missing(field)
        return found

    return read


def _has(of: Closure, field: str) -> Closure:
    def read(scope: Scope) -> bool:
        value = of(scope)
        if type(value) is not dict:
            raise Fault(f"{kind_of(value)} has no fields")
        return value.get(field, MISSING) is not MISSING

    return read


def _index(of: Closure, key: Closure) -> Closure:
    def read(scope: Scope) -> Any:
        value, at = of(scope), key(scope)
        if type(value) is dict and type(at) is str:
            found = value.get(at, MISSING)
            if found is MISSING:
                raise _missing(f'["{at}"]')
            return found
        if type(value) is list and type(at) is int:
            if 0 <= at < len(value):
                return value[at]
            raise Fault(f"the list has {len(value)} elements, [{at}] is not one", f"[{at}]")
        raise wrong("[]", value, at)

    return read


def _call(node: tree.Call) -> Closure:
    """Look the overload up by the kinds of the values: `dyn` is known only now."""
    table = {
        tuple(kind.kind for kind in one.params): one.run
        for one in FUNCTIONS[node.function]
        if (one.method if node.method else one.plain)
    }
    args = tuple(build(arg) for arg in node.args)
    name = node.function

    def run(scope: Scope) -> Any:
        values = [arg(scope) for arg in args]
        found = table.get(tuple(kind_of(value) for value in values))
        if found is None:
            raise wrong(f"{name}()", *values)
        return found(*values)

    return run


def _not(of: Closure) -> Closure:
    def run(scope: Scope) -> bool:
        value = of(scope)
        if type(value) is bool:
            return not value
        raise wrong('"!"', value)

    return run


def _negative(of: Closure) -> Closure:
    def run(scope: Scope) -> Any:
        value = of(scope)
        if type(value) is int:
            return bounded(-value)
        if type(value) is float:
            return -value
        raise wrong('"-"', value)

    return run


def _logic(parts: tuple[Closure, ...], *, decisive: bool) -> Closure:
    """One deciding part settles it, whatever failed beside it (CEL's absorbing && and ||)."""

    def run(scope: Scope) -> bool:
        failed: Fault | None = None
        for part in parts:
            try:
                value = part(scope)
            except Fault as fault:
                failed = failed or fault
                continue
            if value is decisive:
                return bool(decisive)
            if type(value) is not bool:
                failed = failed or wrong('"||"' if decisive else '"&&"', value)
        if failed is not None:
            raise failed
        return not decisive

    return run


def _choice(condition: Closure, yes: Closure, no: Closure) -> Closure:
    def run(scope: Scope) -> Any:
        value = condition(scope)
        if type(value) is not bool:
            raise wrong('"?"', value)
        return yes(scope) if value else no(scope)

    return run


def _list(items: tuple[Closure, ...]) -> Closure:
    return lambda scope: [item(scope) for item in items]


def _map(entries: tuple[tuple[Closure, Closure], ...]) -> Closure:
    def run(scope: Scope) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in entries:
            name = key(scope)
            if type(name) is not str:
                raise wrong("the key of a map", name)
            if name in found:
                raise Fault(f'the map has the key "{name}" twice')
            found[name] = value(scope)
        return found

    return run


# --------------------------------------------------------------------------- loops


def _items(of: Closure, scope: Scope) -> list[Any]:
    value = of(scope)
    if type(value) is list:
        return value
    if type(value) is dict:
        return list(value)
    raise Fault(f"a loop goes over a list or a map, got {kind_of(value)}")


def _each(of: Closure, variable: str, body: Closure) -> Callable[[Scope], Any]:
    """Run the body for each element, in a scope of its own that shares the budget."""

    def run(scope: Scope) -> Any:
        outer = scope.names
        for item in _items(of, scope):
            scope.spend()
            scope.names = {**outer, variable: item}
            try:
                value: Any = body(scope)
            except Fault as fault:
                value = fault
            finally:
                scope.names = outer
            yield item, value

    return run


def _quantifier(*, decisive: bool) -> Callable[[Closure, str, Closure], Closure]:
    def make(of: Closure, variable: str, body: Closure) -> Closure:
        each = _each(of, variable, body)

        def run(scope: Scope) -> bool:
            failed: Fault | None = None
            for _, value in each(scope):
                if value is decisive:
                    return bool(decisive)
                if type(value) is not bool:
                    fault = value if isinstance(value, Fault) else wrong("a condition", value)
                    failed = failed or fault
            if failed is not None:
                raise failed
            return not decisive

        return run

    return make


def _filter(of: Closure, variable: str, body: Closure) -> Closure:
    each = _each(of, variable, body)

    def run(scope: Scope) -> list[Any]:
        kept = []
        for item, value in each(scope):
            if type(value) is not bool:
                raise value if isinstance(value, Fault) else wrong("filter()", value)
            if value:
                kept.append(item)
        return kept

    return run


def _mapped(of: Closure, variable: str, body: Closure) -> Closure:
    each = _each(of, variable, body)

    def run(scope: Scope) -> list[Any]:
        made = []
        for _, value in each(scope):
            if isinstance(value, Fault):
                raise value
            made.append(value)
        return made

    return run


_LOOPS: Final[Mapping[str, Callable[[Closure, str, Closure], Closure]]] = {
    "exists": _quantifier(decisive=True),
    "all": _quantifier(decisive=False),
    "filter": _filter,
    "map": _mapped,
}
