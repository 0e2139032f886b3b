"""Find one value in a YAML file by its path, so that nothing else of the file is touched.

A file that people keep has comments and an order of its own; reading and writing it anew would lose
both. So its lines are walked by their indentation, and only what block style allows is understood:
mappings and lists, one key a line. Flow style, anchors, tags and values over several lines on the
way are refused with the line's number; a guess would be a change nobody asked for.
https://yaml.org/spec/1.2.2/#chapter-8-block-style-productions
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from responder.errors import StepFailed

__all__ = ["Step", "Value", "steps_of", "values_at", "with_value"]

_STEP = re.compile(r"(?P<key>[A-Za-z0-9_./-]*?)(?:\[(?P<item>[A-Za-z0-9_./:-]+)\])?")
_KEY = re.compile(
    r" *(?:- +)*(?P<quote>[\"']?)(?P<key>[^\s\"'#:{}\[\],&*!|>%@`?-][^\"'#:{}\[\]]*?)(?P=quote)"
    r"\s*:(?:\s+(?P<rest>.*))?$"
)
_SCALAR = re.compile(
    r"(?P<quote>[\"']?)(?P<text>[^\s\"'{}\[\]&*!|>%@`#][^\s\"'{}\[\]]*|)(?P=quote)\s*(?:#.*)?$"
)


@dataclass(frozen=True, slots=True)
class Value:
    """One plain or quoted value: its line (from 0), where it lies in it, and what it says."""

    line: int
    start: int
    end: int
    text: str
    indent: int  # of its key


@dataclass(frozen=True, slots=True)
class Step:
    """One name of a path, and the element of the list below it."""

    key: str
    item: str  # name or number of a list's element; empty: no list


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    indent: int  # where its content begins, dashes of a list left out
    key: str
    rest: str  # what stands after the colon
    at: int  # where that begins


def steps_of(path: str) -> tuple[Step, ...]:
    """`spec.containers[app].image` in parts; a list's element by its `name` or its number.

    Raises `ValueError` for what is no such path.
    """
    found = []
    for part in path.split("."):
        match = _STEP.fullmatch(part)
        if not match or not match["key"]:
            raise ValueError(f'key: expected NAMES.WITH.DOTS or NAME[ITEM].NAME, got "{path}"')
        found.append(Step(match["key"], match["item"] or ""))
    return tuple(found)


def values_at(text: str, path: Sequence[Step]) -> list[Value]:
    """The values at a path, at most one for each document of the file.

    Raises `StepFailed` with the line's number where the file is written in a way that is not read.
    """
    lines = text.splitlines()
    found = []
    for first, last in _documents(lines):
        block = _Block(lines, first, last)
        value = block.value(path)
        if value is not None:
            found.append(value)
    return found


def with_value(text: str, value: Value, new: str) -> str:
    """The text with another value in that place; quotes and comment of the line stay."""
    lines = text.splitlines(keepends=True)
    line = lines[value.line]
    before, after = line[: value.start], line[value.end :]
    before += "" if before[-1] in " \"'" else " "
    after = f" {after}" if after.startswith("#") else after
    lines[value.line] = f"{before}{new}{after}"
    return "".join(lines)


def _documents(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where each document begins and ends."""
    marks = [at for at, line in enumerate(lines) if re.match(r"(---|\.\.\.)(\s|$)", line)]
    edges = [-1, *marks, len(lines)]
    for before, after in pairwise(edges):
        yield before + 1, after


class _Block:
    """Some lines of a file; it never looks outside of them."""

    def __init__(self, lines: Sequence[str], first: int, last: int) -> None:
        self._lines, self._first, self._last = lines, first, last

    def value(self, path: Sequence[Step]) -> Value | None:
        """The value at a path, or nothing when a name on the way is not there."""
        first, last, indent = self._first, self._last, 0
        for step in path[:-1]:
            inside = self._inside(step, first, last, indent)
            if inside is None:
                return None
            first, last, indent = inside
        if path[-1].item:
            raise StepFailed("key: expected to end with a name, not with an element of a list")
        line = self._key(path[-1].key, first, last, indent)
        return None if line is None else _value(line)

    def _inside(
        self, step: Step, first: int, last: int, indent: int
    ) -> tuple[int, int, int] | None:
        """The block below a key, or below one element of its list."""
        line = self._key(step.key, first, last, indent)
        if line is None:
            return None
        if line.rest and not line.rest.startswith("#"):
            raise _unread(line.number, f"{step.key} holds no block")
        begin = line.number + 1
        end = self._end(begin, last, line.indent, lists=bool(step.item))
        inner = self._indent_of(begin, end)
        if inner is None:
            return None
        if not step.item:
            return begin, end, inner
        return self._element(step.item, begin, end, inner)

    def _element(self, item: str, first: int, last: int, dash: int) -> tuple[int, int, int] | None:
        """One element of the list whose dashes stand at `dash`."""
        begins = [
            n for n in range(first, last)
            if self._lines[n].startswith(" " * dash + "- ") and self._meaning(n)
        ]  # fmt: skip
        parts = list(zip(begins, [*begins[1:], last], strict=True))
        if item.isdecimal():
            chosen = parts[int(item) :][:1]
        else:
            chosen = [part for part in parts if self._named(*part, dash) == item]
        if not chosen:
            return None
        begin, end = chosen[0]
        return begin, end, self._content(begin, dash)

    def _content(self, line: int, dash: int) -> int:
        rest = self._lines[line][dash + 1 :]
        return dash + 1 + len(rest) - len(rest.lstrip(" "))

    def _named(self, first: int, last: int, dash: int) -> str:
        try:
            line = self._key("name", first, last, self._content(first, dash))
            return "" if line is None else _value(line).text
        except StepFailed:
            return ""  # an element that cannot be read is not the one that is looked for

    def _key(self, key: str, first: int, last: int, indent: int) -> _Line | None:
        """The line of a key among those that stand at this indentation; a second one is refused."""
        found = None
        for number in range(first, last):
            if not self._meaning(number):
                continue
            text = self._lines[number]
            at = len(text) - len(text.lstrip(" "))
            dashed = text[at:].startswith("- ") or text[at:] == "-"
            begins = number == first and dashed and at < indent
            if not begins and (at > indent or dashed):
                continue  # deeper, the rest of a value, or a list as far left as its key
            line = self._read(number)
            if line.indent == indent and line.key == key:
                if found is not None:
                    raise _unread(number, f"{key} is there twice")
                found = line
        return found

    def _read(self, number: int) -> _Line:
        text = self._lines[number]
        match = _KEY.match(text)
        if match is None or "\t" in text[: len(text) - len(text.lstrip())]:
            raise _unread(number, "expected one key of a block")
        begin = match.start("quote")
        at = match.start("rest") if match["rest"] is not None else len(text)
        return _Line(number, begin, match["key"], (match["rest"] or "").strip(), at)

    def _meaning(self, number: int) -> bool:
        text = self._lines[number].strip()
        return bool(text) and not text.startswith("#")

    def _indent_of(self, first: int, last: int) -> int | None:
        for number in range(first, last):
            if self._meaning(number):
                text = self._lines[number]
                return len(text) - len(text.lstrip(" "))
        return None

    def _end(self, first: int, last: int, indent: int, *, lists: bool) -> int:
        """Where the block below a key ends; a list may stand as far left as its key."""
        for number in range(first, last):
            if not self._meaning(number):
                continue
            text = self._lines[number]
            at = len(text) - len(text.lstrip(" "))
            own = lists and at == indent and text[at:].startswith("- ")
            if at <= indent and not own:
                return number
        return last


def _value(line: _Line) -> Value:
    match = _SCALAR.match(line.rest)
    if match is None:
        raise _unread(line.number, f"{line.key} is no plain or quoted value of one line")
    start, end = match.span("text")
    return Value(line.number, line.at + start, line.at + end, match["text"], line.indent)


def _unread(number: int, why: str) -> StepFailed:
    return StepFailed(f"line {number + 1} cannot be changed safely: {why}")
