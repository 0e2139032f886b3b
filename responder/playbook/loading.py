"""Reads playbook files: strict YAML 1.2 with positions, then everything is checked.

The only home of the YAML library. Its C parser only cuts the text into events; what a scalar
means is decided here by the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema),
so that `on` is a text and `012` is twelve, as an editor shows them. Duplicate keys, anchors,
aliases and tags are refused. Playbooks raise `PlaybookError` with every problem, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.cyaml import CBaseLoader

from responder.errors import ConfigError, PlaybookError, Problem
from responder.playbook.checking import check
from responder.playbook.definition import Playbook
from responder.playbook.nodes import Node, Report
from responder.ports import ActionInfo

__all__ = ["load_dump", "load_folder", "load_text", "load_words", "read_tree"]

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 50
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class _Stop(Exception):
    """The rest of the file cannot be read; the reason is in the report."""


def load_text(
    text: str,
    file: str,
    catalogue: Mapping[str, ActionInfo],
    sources: Collection[str] | None = None,
) -> Playbook:
    """One checked playbook; raises `PlaybookError` with all problems.

    `sources` are the names of the alert sources that exist; None: not known here, not checked.
    """
    text = text.removeprefix("\ufeff")  # an editor's byte order mark says nothing
    report = Report(file, text)
    playbook = None
    root = read_tree(text, report)
    if root is not None:
        playbook = check(root, report, catalogue, sources)
    if playbook is None or report.problems:
        raise PlaybookError(report.sorted())
    return playbook


def load_folder(
    paths: Iterable[Path | str],
    catalogue: Mapping[str, ActionInfo],
    sources: Collection[str] | None = None,
) -> tuple[Playbook, ...]:
    """All playbooks of files and folders, or none: one bad file refuses the whole set."""
    problems: list[Problem] = []
    playbooks: dict[str, Playbook] = {}
    for path in _files(paths, problems):
        try:
            playbook = load_text(_read(path), str(path), catalogue, sources)
        except PlaybookError as error:
            problems += error.problems
            continue
        other = playbooks.setdefault(playbook.name, playbook)
        if other is not playbook:
            problems.append(_twin(playbook, other))
    if problems:
        raise PlaybookError(problems)
    return tuple(playbooks.values())


def load_dump(text: str) -> list[dict[str, Any]]:
    """The objects of a `kubectl get -o yaml` or `-o json` dump. Raises `ConfigError`.

    Plain data only: a tag that would make anything else is refused by the safe loader.
    """
    try:
        documents = list(yaml.load_all(text, Loader=_SAFE))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"the dump is neither YAML nor JSON{place}") from None
    found = [item for item in documents if item is not None]
    if not all(isinstance(item, dict) for item in found):
        raise ConfigError("the dump holds something other than Kubernetes objects")
    return found


_SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_words(text: str, file: str) -> Any:
    """The only document of another tool's file, with every scalar as the text that stands there.

    What a word means is the reader's business. Raises `ConfigError`.
    """
    try:
        return yaml.load(text, Loader=CBaseLoader)  # noqa: S506 - makes maps, lists and texts only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}: this is not YAML{place}") from None
    except (RecursionError, ValueError, TypeError):
        raise ConfigError(f"{file}: this YAML cannot be read") from None


def _files(paths: Iterable[Path | str], problems: list[Problem]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            names = [one for one in path.iterdir() if one.suffix in {".yaml", ".yml"}]
            found.update(dict.fromkeys(sorted(names)))
        elif path.is_file():
            found[path] = None
        else:
            problems.append(Problem(str(path), 1, 1, "PB001", "there is no such file or folder"))
    return list(found)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8")
    except UnicodeDecodeError:
        problem = Problem(str(path), 1, 1, "PB001", "the file is not UTF-8 text")
    except OSError as error:
        problem = Problem(str(path), 1, 1, "PB001", f"the file cannot be read: {error.strerror}")
    raise PlaybookError([problem])


def _twin(playbook: Playbook, other: Playbook) -> Problem:
    return Problem(
        playbook.file,
        1,
        1,
        "PB023",
        f'a playbook called "{playbook.name}" is already in {other.file}',
        "give one of them another name",
    )


def read_tree(text: str, report: Report) -> Node | None:
    """The document as a tree; None when it cannot be read at all, with the reason reported."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        report.at(1, 1, "PB001", f"character {error.start + 1} is not valid Unicode")
        return None
    if size > MAX_BYTES:
        report.at(1, 1, "PB002", f"the file has more than {MAX_BYTES // 1024} KiB")
        return None
    try:
        return _Builder(report).build(text)
    except _Stop:
        return None
    except yaml.YAMLError as error:
        _syntax(error, report)
        return None


def _syntax(error: yaml.YAMLError, report: Report) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    fix = ""
    if "cannot start any token" in reason:
        fix = "put the text in quotes; indent with spaces, not tabs"
    elif "mapping values are not allowed" in reason or "could not find expected" in reason:
        fix = 'a ":" is missing, the indentation is off, or the text needs quotes'
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    report.at(line, column, "PB001", f"this is not YAML: {reason}", fix)


class _Builder:
    """Builds the tree from events with a stack of its own: depth never meets recursion."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._stack: list[tuple[Any, list[Node]]] = []
        self._root: Node | None = None

    def build(self, text: str) -> Node | None:
        """The root of the only document."""
        for event in yaml.parse(text, Loader=CBaseLoader):
            self._event(event)
        if self._root is None:
            self._report.at(1, 1, "PB005", "the file is empty", 'begin with "playbook: a-name"')
        return self._root

    def _event(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            if self._root is not None:
                self._stop(event, "PB005", "one file holds one playbook", "move it to its own file")
        elif isinstance(event, yaml.AliasEvent):
            self._refuse(event, "PB004", "aliases are refused", "write the value out, or use vars")
            node = self._node("scalar", event, event)
            self._report.settle(node.line, node.column)
            self._put(node)
        elif isinstance(event, yaml.ScalarEvent):
            self._properties(event)
            self._put(self._node("scalar", event, event, value=self._scalar(event)))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._properties(event)
            if len(self._stack) >= MAX_DEPTH:
                self._stop(event, "PB002", f"the file is nested more than {MAX_DEPTH} deep", "")
            self._stack.append((event, []))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._close(event)

    def _close(self, event: Any) -> None:
        start, found = self._stack.pop()
        if isinstance(start, yaml.SequenceStartEvent):
            self._put(self._node("list", start, event, items=tuple(found)))
            return
        entries = tuple(zip(found[::2], found[1::2], strict=True))
        self._keys(entries)
        self._put(self._node("map", start, event, entries=entries))

    def _keys(self, entries: tuple[tuple[Node, Node], ...]) -> None:
        seen: dict[str, Node] = {}
        for key, _ in entries:
            if key.kind != "scalar" or not isinstance(key.value, str):
                self._report.add(
                    key, "PB006", f"a key must be text, got {key.shown}", "put it in quotes"
                )
                self._report.settle(key.line, key.column)
            elif key.value in seen:
                first = seen[key.value].line
                self._report.add(
                    key, "PB003", f'the key "{key.value}" stands here twice',
                    f"the first is in line {first}; remove one",
                )  # fmt: skip
            else:
                seen[key.value] = key

    def _put(self, node: Node) -> None:
        if self._stack:
            self._stack[-1][1].append(node)
        else:
            self._root = node

    def _node(self, kind: str, start: Any, end: Any, **parts: Any) -> Node:
        mark = start.start_mark
        return Node(kind, mark.line + 1, mark.column + 1, mark.index, end.end_mark.index, **parts)

    def _properties(self, event: Any) -> None:
        if event.anchor is not None:
            self._refuse(event, "PB004", "anchors are refused", f"remove &{event.anchor}")
        if event.tag is not None:
            self._refuse(event, "PB004", "tags are refused", "remove the word beginning with !")

    def _refuse(self, event: Any, code: str, message: str, fix: str) -> None:
        mark = event.start_mark
        self._report.at(mark.line + 1, mark.column + 1, code, message, fix)

    def _stop(self, event: Any, code: str, message: str, fix: str) -> None:
        self._refuse(event, code, message, fix)
        raise _Stop

    def _scalar(self, event: Any) -> Any:
        """The value of a scalar by the core schema; what is quoted or in a block is text."""
        text: str = event.value
        if event.style is not None and event.style != "":
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
            return self._number(text, event)
        if _INFINITE.fullmatch(text):
            self._refuse(event, "PB016", f'"{text}" is no number here', "put it in quotes")
            return 0
        return text

    def _number(self, text: str, event: Any) -> Any:
        if len(text) > 32:  # noqa: PLR2004 - longer than any number that could be meant
            self._refuse(event, "PB016", "the number is too long", "put it in quotes")
            return 0
        if not _INT.fullmatch(text):
            number = float(text)
            if number in {float("inf"), float("-inf")}:
                self._refuse(event, "PB016", "the number is too large", "put it in quotes")
                return 0
            return number
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        value = int(text[2:], base) if base != 10 else int(text)  # noqa: PLR2004
        if not -(2**63) <= value < 2**63:
            self._refuse(event, "PB016", "the number does not fit into 64 bits", "put it in quotes")
            return 0
        return value
