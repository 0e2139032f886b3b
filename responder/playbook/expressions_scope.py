"""What a closure of the expression language runs in: the names, and a budget of loop steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from responder.playbook.expressions_functions import Fault
from responder.playbook.values import kind_of

__all__ = ["MAX_STEPS", "Closure", "Scope", "wrong"]

MAX_STEPS: Final = 10_000


class Scope:
    """The names of one evaluation and the loop steps it may still take."""

    __slots__ = ("left", "names")

    def __init__(self, names: Mapping[str, Any], left: int = MAX_STEPS) -> None:
        self.names, self.left = names, left

    def spend(self) -> None:
        """Take one loop step; raises Fault when none is left."""
        self.left -= 1
        if self.left < 0:
            raise Fault(f"the expression took more than {MAX_STEPS} loop steps")


Closure = Callable[[Scope], Any]


def wrong(what: str, *values: Any) -> Fault:
    """The failure of an operation on values of kinds that it does not know."""
    return Fault(f"{what} cannot take {' and '.join(kind_of(value) for value in values)}")
