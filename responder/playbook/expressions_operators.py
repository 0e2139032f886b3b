"""The operators with two sides: arithmetic without coercion, comparison, `in`.

Pure. Each maker takes the closures of both sides and gives the closure of the whole.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final

from responder.playbook.expressions_functions import Fault, bounded, span_within
from responder.playbook.expressions_scope import Closure, Scope, wrong
from responder.playbook.values import MISSING

__all__ = ["BINARY", "equal"]

_NUMBERS: Final = frozenset({int, float})
_KEYS: Final = frozenset({bool, int, float, str})  # CEL knows no other keys
_ORDERED: Final = frozenset({bool, int, float, str, dt.datetime, dt.timedelta})


def equal(one: Any, other: Any) -> bool:
    """Equality without coercion: true is not 1, but the numbers 1 and 1.0 are one number."""
    kinds = (type(one), type(other))
    if kinds[0] is not kinds[1]:
        return kinds[0] in _NUMBERS and kinds[1] in _NUMBERS and bool(one == other)
    if kinds[0] is list:
        return len(one) == len(other) and all(map(equal, one, other))
    if kinds[0] is dict:
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)


def _equal(left: Closure, right: Closure) -> Closure:
    return lambda scope: equal(left(scope), right(scope))


def _unequal(left: Closure, right: Closure) -> Closure:
    return lambda scope: not equal(left(scope), right(scope))


def _compare(sign: str, test: Callable[[Any, Any], bool]) -> Callable[[Closure, Closure], Closure]:
    def make(left: Closure, right: Closure) -> Closure:
        def run(scope: Scope) -> Any:
            one, other = left(scope), right(scope)
            kind = type(one)
            if kind is type(other):
                if kind in _ORDERED:
                    return test(one, other)
            elif kind in _NUMBERS and type(other) in _NUMBERS:
                return test(one, other)
            raise wrong(f'"{sign}"', one, other)

        return run

    return make


def _contains(left: Closure, right: Closure) -> Closure:
    def run(scope: Scope) -> bool:
        one, other = left(scope), right(scope)
        if type(other) is list:
            return any(equal(one, item) for item in other)
        if type(other) is dict and type(one) in _KEYS:
            return type(one) is str and other.get(one, MISSING) is not MISSING
        raise wrong('"in"', one, other)

    return run


def _arithmetic(sign: str) -> Callable[[Closure, Closure], Closure]:
    table = _ARITHMETIC[sign]

    def make(left: Closure, right: Closure) -> Closure:
        def run(scope: Scope) -> Any:
            one, other = left(scope), right(scope)
            found = table.get((type(one), type(other)))
            if found is None:
                raise wrong(f'"{sign}"', one, other)
            try:
                return found(one, other)
            except OverflowError:
                raise Fault("the time or number is out of range") from None

        return run

    return make


def _quotient(one: int, other: int) -> int:
    if other == 0:
        raise Fault("division by zero")
    value = abs(one) // abs(other)
    return bounded(value if (one < 0) == (other < 0) else -value)


def _remainder(one: int, other: int) -> int:
    return one - other * _quotient(one, other)


def _ratio(one: float, other: float) -> float:
    """IEEE 754: a double divided by zero is infinite or not a number, never a failure."""
    if other != 0:
        return one / other
    if one == 0 or one != one:  # noqa: PLR0124 - only NaN differs from itself
        return float("nan")
    sign = str(other).startswith("-") != (one < 0)
    return float("-inf") if sign else float("inf")


_TIME, _SPAN = dt.datetime, dt.timedelta
_ARITHMETIC: Final[Mapping[str, Mapping[tuple[type, type], Callable[[Any, Any], Any]]]] = {
    "+": {
        (int, int): lambda a, b: bounded(a + b),
        (float, float): lambda a, b: a + b,
        (str, str): lambda a, b: a + b,
        (list, list): lambda a, b: a + b,
        (_SPAN, _SPAN): lambda a, b: span_within(a + b),
        (_TIME, _SPAN): lambda a, b: a + b,
        (_SPAN, _TIME): lambda a, b: a + b,
    },
    "-": {
        (int, int): lambda a, b: bounded(a - b),
        (float, float): lambda a, b: a - b,
        (_SPAN, _SPAN): lambda a, b: span_within(a - b),
        (_TIME, _TIME): lambda a, b: a - b,
        (_TIME, _SPAN): lambda a, b: a - b,
    },
    "*": {(int, int): lambda a, b: bounded(a * b), (float, float): lambda a, b: a * b},
    "/": {(int, int): _quotient, (float, float): _ratio},
    "%": {(int, int): _remainder},
}
BINARY: Final[Mapping[str, Callable[[Closure, Closure], Closure]]] = {
    "==": _equal,
    "!=": _unequal,
    "<": _compare("<", lambda a, b: bool(a < b)),
    "<=": _compare("<=", lambda a, b: bool(a <= b)),
    ">": _compare(">", lambda a, b: bool(a > b)),
    ">=": _compare(">=", lambda a, b: bool(a >= b)),
    "in": _contains,
    **{sign: _arithmetic(sign) for sign in _ARITHMETIC},
}
