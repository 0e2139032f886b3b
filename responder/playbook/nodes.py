"""The tree of a YAML document with positions, and the report that collects its problems."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from responder.errors import Problem

__all__ = ["Node", "Report"]


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document and where it stands (line and column from 1)."""

    kind: str  # scalar, list or map
    line: int
    column: int
    start: int  # offsets into the text
    end: int
    value: Any = None  # of a scalar
    items: tuple[Node, ...] = ()
    entries: tuple[tuple[Node, Node], ...] = ()

    @property
    def shown(self) -> str:
        """What it is, for error texts: never the value itself."""
        if self.kind != "scalar":
            return f"a {self.kind}"
        if self.value is None:
            return "nothing"
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return "a number" if isinstance(self.value, int | float) else "text"

    def pairs(self) -> Iterator[tuple[str, Node, Node]]:
        """Name, key and value of each entry of a map."""
        for key, value in self.entries:
            yield str(key.value), key, value

    def plain(self) -> Any:
        """The value as Python data."""
        if self.kind == "list":
            return [item.plain() for item in self.items]
        if self.kind == "map":
            return {name: value.plain() for name, _, value in self.pairs()}
        return self.value


class Report:
    """Collects every problem of one file; nothing is raised until all have been seen."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.problems: list[Problem] = []
        self.steps: tuple[str, ...] = ()  # all names of steps, for suggestions
        self._settled: set[tuple[int, int]] = set()
        self._lines = [0, *(at + 1 for at, character in enumerate(text) if character == "\n")]

    def add(self, node: Node, code: str, message: str, fix: str = "") -> None:
        """A problem at the beginning of a node."""
        self.at(node.line, node.column, code, message, fix)

    def at(self, line: int, column: int, code: str, message: str, fix: str = "") -> None:
        """A problem at a line and column."""
        if (line, column) in self._settled:
            return
        self.problems.append(Problem(self.file, line, column, code, message, fix))

    def settle(self, line: int, column: int) -> None:
        """What stands here is known to be wrong: nothing more is said about it."""
        self._settled.add((line, column))

    def inside(
        self, node: Node, part: str, offset: int, code: str, message: str, fix: str = ""
    ) -> None:
        """A problem at `offset` in `part`, a text that the scalar `node` contains.

        Quoting and folding may have changed the text; then the beginning of the node must do.
        """
        found = self.text.find(part, node.start, node.end) if part else -1
        if found < 0:
            self.add(node, code, message, fix)
            return
        where = found + offset
        line = bisect.bisect_right(self._lines, where)
        self.at(line, where - self._lines[line - 1] + 1, code, message, fix)

    def sorted(self) -> list[Problem]:
        """All problems in the order of the file, each once."""
        unique = {(one.line, one.column, one.code, one.message): one for one in self.problems}
        return [unique[key] for key in sorted(unique)]
