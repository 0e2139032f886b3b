"""Turns what a Talon rule matches into the trigger of a playbook.

A condition that cannot be read refuses the whole rule: Talon drops some of them and then fits
every event. Here each condition is kept, and one about a field that is missing does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from responder.playbook.talon_rules import Refused, quoted, texts

__all__ = ["Trigger", "trigger"]

# Falco's own order, the gravest last. https://falco.org/docs/concepts/rules/basic-elements/#priority
_PRIORITIES: Final = (
    "debug", "informational", "notice", "warning", "error", "critical", "alert", "emergency",
)  # fmt: skip
_PRIORITY = re.compile(r"\s*(<=|>=|<|>|=|)\s*([A-Za-z]+)\s*")
_FIELD = re.compile(r"\s*([^\s=!]+)\s*(!=|=)\s*(.*?)\s*", re.DOTALL)
_PLAIN = re.compile(r"[a-zA-Z0-9.\[\]]+")
_KEYS: Final = frozenset({"rules", "priority", "source", "tags", "output_fields"})


@dataclass(frozen=True, slots=True)
class Trigger:
    """The rules by name (none: any), the rest as an expression, and what is different here."""

    rules: tuple[str, ...]
    when: str
    notes: tuple[str, ...]


def trigger(match: Any) -> Trigger:
    """The trigger of a rule's `match`. Raises `Refused` with the reason."""
    keys = match if isinstance(match, Mapping) else {}
    for key in sorted(keys.keys() - _KEYS):
        raise Refused(f'"{quoted(key)}" is no match of Talon: it ignores it and fits more events')
    notes: list[str] = []
    names = texts(keys.get("rules"), "match.rules")
    exact = all("*" not in name and name == name.strip() and name for name in names)
    parts = [] if exact else [f"alert.rule in [{', '.join(map(_text, names))}]"]
    parts += _priority(keys.get("priority"))
    parts += _source(keys.get("source"))
    parts += _either(_tags(item) for item in texts(keys.get("tags"), "match.tags"))
    fields = texts(keys.get("output_fields"), "match.output_fields")
    parts += _either(_fields(item, notes) for item in fields)
    if not parts and not names:
        raise Refused("it matches every event there is: name the rules it is for")
    return Trigger(tuple(names) if exact else (), " && ".join(parts), tuple(dict.fromkeys(notes)))


def _source(given: Any) -> list[str]:
    if given is None or given == "":
        return []
    if not isinstance(given, str):
        raise Refused("match.source is not a text")
    return [f'alert.labels["source"] == {_text(given)}']


def _priority(given: Any) -> list[str]:
    if given is None or given == "":
        return []
    found = _PRIORITY.fullmatch(given) if isinstance(given, str) else None
    sign, name = found.groups() if found else ("", "")
    name = "informational" if name.lower() == "info" else name.lower()
    if name not in _PRIORITIES:
        raise Refused(f'the priority "{quoted(str(given))}" is none of Falco\'s')
    at = _PRIORITIES.index(name)
    below, above = _PRIORITIES[:at], _PRIORITIES[at + 1 :]
    chosen = (*below * sign.startswith("<"), *above * sign.startswith(">"))
    chosen = (*chosen, *(name,) * (sign not in {"<", ">"}))
    if not chosen:
        raise Refused(f'no event has a priority "{quoted(str(given))}"')
    words = "|".join("info(rmational)?" if one == "informational" else one for one in chosen)
    return [f'alert.labels["priority"].matches("(?i)^({words})$")']


def _tags(item: str) -> list[str]:
    """The tags of one line, all of which must be there."""
    found = [tag.strip() for tag in item.split(",")]
    if not all(found):
        raise Refused(f'the tags "{quoted(item)}" cannot be read for sure')
    return [f"{_text(tag)} in alert.tags" for tag in found]


def _fields(item: str, notes: list[str]) -> list[str]:
    """The conditions of one line, all of which must hold."""
    found = []
    for part in item.split(","):
        match = _FIELD.fullmatch(part)
        if match is None or not match[3]:
            raise Refused(f'the condition "{quoted(item.strip())}" cannot be read for sure')
        key, sign, value = match.groups()
        shown = quoted(part.strip())
        if not _PLAIN.fullmatch(key):
            notes.append(f'Talon does not load the condition "{shown}"; it counts here')
        if "=" in value:
            notes.append(f'Talon drops the condition "{shown}" and fits every event; kept here')
        if sign == "!=":
            notes.append(f'"{shown}" holds in Talon without the field too; here it must be there')
        equal = "==" if sign == "=" else "!="
        found.append(f"string(alert.fields[{_text(key)}]) {equal} {_text(value)}")
    return found


def _either(groups: Iterable[list[str]]) -> list[str]:
    """One of these groups must hold; as one part, or as its parts when there is but one group."""
    found = list(groups)
    if len(found) < 2:  # noqa: PLR2004 - one has no other
        return found[0] if found else []
    joined = [" && ".join(group) for group in found]
    return ["(" + " || ".join(f"({one})" if " && " in one else one for one in joined) + ")"]


def _text(value: str) -> str:
    """A text of the expression language."""
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise Refused("a text in it is not valid Unicode")
    return f'"{quoted(value)}"'
