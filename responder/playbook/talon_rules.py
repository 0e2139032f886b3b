"""Reads Falco Talon's rule files: reusable actions and rules in one list, later files on top.

https://docs.falco-talon.org/docs/rules/
What a later file says of the same name replaces what the earlier one said, key by key. Talon
itself clears `priority` and `source` then, which widens the rule: that is told, not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from responder.errors import ConfigError

__all__ = ["Action", "Refused", "Rule", "Talon", "quoted", "read", "texts", "yes"]

RULE_KEYS: Final = frozenset(
    {"rule", "description", "match", "actions", "continue", "dry_run", "notifiers"}
)
ACTION_KEYS: Final = frozenset(
    {
        "action", "actionner", "description", "parameters", "output", "continue",
        "ignore_errors", "additional_contexts",
    }
)  # fmt: skip
_YES: Final = frozenset({"true", "yes", "on", "y"})
_NO: Final = frozenset({"false", "no", "off", "n", ""})


class Refused(Exception):
    """A rule or an action that has no safe equal here; the reason is its text."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action as a rule uses it, the reusable block of its name already filled in."""

    name: str
    keys: Mapping[str, Any]

    @property
    def actionner(self) -> str:
        """`category:name` in small letters; empty when nobody said it."""
        said = self.keys.get("actionner")
        return said.strip().lower() if isinstance(said, str) else ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was given."""
        return _map(self.keys.get("parameters"))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with its actions, and what its merging had to say."""

    name: str
    keys: Mapping[str, Any]
    actions: tuple[Action, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Talon:
    """All rules of all files, and what was wrong beside them."""

    rules: tuple[Rule, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Pile:
    actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(files: Iterable[tuple[str, Any]]) -> Talon:
    """The rules of these files, in their order. Raises `ConfigError` for what is no rule file.

    Each file is its name and its document, with every scalar as text (`loading.load_words`).
    """
    pile = _Pile()
    for file, document in files:
        if not isinstance(document, list):
            raise ConfigError(f"{file}: a rule file of Talon is a list of actions and rules")
        for number, entry in enumerate(document, start=1):
            _entry(pile, f"{file}, entry {number}", entry)
    rules = [
        Rule(name, keys, _actions(keys, pile.actions), tuple(pile.said[name]))
        for name, keys in pile.rules.items()
    ]
    return Talon(tuple(rules), tuple(pile.notes))


def _entry(pile: _Pile, place: str, entry: Any) -> None:
    keys = _map(entry)
    if name := _name(keys.get("rule")):
        _rule(pile, place, name, keys)
    elif name := _name(keys.get("action")):
        known = pile.actions.get(name)
        pile.actions[name] = _over(known, keys) if known else dict(keys)
    else:
        pile.notes.append(f"{place}: neither a rule nor an action with a name; left out")


def _rule(pile: _Pile, place: str, name: str, keys: Mapping[str, Any]) -> None:
    said = pile.said.setdefault(name, [])
    said += [
        f'"{quoted(key)}" is no key of a rule: Talon ignores it silently'
        for key in keys
        if key not in RULE_KEYS
    ]
    known = pile.rules.get(name)
    if known is None:
        pile.rules[name] = dict(keys)
        return
    before, after = _map(known.get("match")), _map(keys.get("match"))
    lost = [key for key in ("priority", "source") if key in before and key not in after]
    said.append(f"stated again in {place}: what stands there replaces what was said before")
    if lost:
        said.append(f"Talon forgets {' and '.join(lost)} then and fits more events; kept here")
    pile.rules[name] = {**known, **keys, "match": {**before, **after}}


def _actions(
    rule: Mapping[str, Any], blocks: Mapping[str, Mapping[str, Any]]
) -> tuple[Action, ...]:
    found = []
    given = rule.get("actions")
    for item in given if isinstance(given, list) else []:
        keys = _map(item)
        name = _name(keys.get("action"))
        found.append(Action(name or "(no name)", _over(blocks.get(name, {}), keys)))
    return tuple(found)


def _over(known: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The later on top of the earlier, parameter by parameter."""
    parameters = {**_map(known.get("parameters")), **_map(keys.get("parameters"))}
    return {**known, **keys, "parameters": parameters}


def texts(value: Any, what: str) -> list[str]:
    """A list of texts, or one alone; raises `Refused` for anything else: no condition is lost."""
    if value is None or value == "":
        return []
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise Refused(f"{what} is not a list of texts")
    return found


def yes(value: Any, what: str, *, default: bool) -> bool:
    """A switch as YAML writes it; raises `Refused` when it is none."""
    if value is None:
        return default
    word = value.lower() if isinstance(value, str) else "?"
    if word not in _YES | _NO:
        raise Refused(f"{what} is neither true nor false")
    return word in _YES


def quoted(text: str) -> str:
    """The text on one line: what cannot be printed is escaped, quotes and backslashes too."""
    inner = json.dumps(text, ensure_ascii=False)[1:-1]
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in inner)


def _map(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(key, str)}


def _name(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
