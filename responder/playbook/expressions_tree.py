"""The syntax tree of an expression: frozen nodes that know where their text begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "Binary",
    "Call",
    "Choice",
    "Has",
    "Index",
    "ListOf",
    "Literal",
    "Logic",
    "Loop",
    "MapOf",
    "Name",
    "Node",
    "Select",
    "Unary",
    "children",
    "path_of",
]


@dataclass(frozen=True, slots=True)
class Node:
    """One part of an expression: where its text begins and ends."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A value written out."""

    value: Any


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A declared name, or the variable of a loop."""

    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    """`of.field`."""

    of: Node
    field: str


@dataclass(frozen=True, slots=True)
class Has(Node):
    """`has(of.field)`: whether the field is there."""

    of: Node
    field: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`of[key]`."""

    of: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`function(args)`, or `args[0].function(args[1:])` when `method`."""

    function: str
    args: tuple[Node, ...]
    method: bool
    at: int  # where the function's name begins


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`!of` or `-of`."""

    sign: str
    of: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """Arithmetic, comparison or `in`."""

    sign: str
    left: Node
    right: Node
    at: int


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """`a && b && …` or `a || b || …`, flat, so that an explanation lists the parts."""

    sign: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`condition ? yes : no`."""

    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    """`[a, b]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    """`{"key": value}`."""

    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Loop(Node):
    """`of.exists(variable, body)` and its kind."""

    macro: str
    of: Node
    variable: str
    body: Node


def children(node: Node) -> tuple[Node, ...]:
    """The parts directly below a node; the body of a loop is not one, it has its own names."""
    match node:
        case Select(of=of) | Has(of=of) | Unary(of=of) | Loop(of=of):
            return (of,)
        case Index(of=of, key=key):
            return (of, key)
        case Call(args=parts) | Logic(parts=parts) | ListOf(items=parts):
            return parts
        case Binary(left=left, right=right):
            return (left, right)
        case Choice(condition=condition, yes=yes, no=no):
            return (condition, yes, no)
        case MapOf(entries=entries):
            return tuple(part for entry in entries for part in entry)
    return ()


def path_of(node: Node) -> tuple[str, ...] | None:
    """`("alert", "target", "pod")` for a chain of fields from a name; None for anything else."""
    match node:
        case Name(name=name):
            return (name,)
        case Select(of=of, field=field):
            above = path_of(of)
            return None if above is None else (*above, field)
        case Index(of=of, key=Literal(value=str(key))):
            above = path_of(of)
            return None if above is None else (*above, key)
    return None
