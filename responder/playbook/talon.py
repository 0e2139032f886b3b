"""Imports rules of Falco Talon as playbooks: their text, and a warning for each difference.

Pure: it reads no file and writes none. Every rule becomes a playbook in mode `approve` (`observe`
where Talon had `dry_run`) or is refused with the reason; no condition is ever dropped, and no
playbook ever does more than its rule did without a person's yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from responder.playbook.talon_matching import Trigger, trigger
from responder.playbook.talon_rules import Refused, Rule, quoted, read, texts, yes
from responder.playbook.talon_steps import Step, Steps, steps

__all__ = ["Import", "Imported", "convert"]

_PREFIX = "talon-"
_NAME_MAX = 56  # leaves room for a number behind it
_POD_KNOWN = 'alert.target.pod != ""'


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one rule: a playbook's name and text, or the reason why it is none."""

    rule: str
    name: str = ""
    text: str = ""
    refused: str = ""
    warnings: tuple[str, ...] = ()

    def refuse(self, reason: str) -> Imported:
        """The same rule without a playbook."""
        return replace(self, name="", text="", refused=reason)


@dataclass(frozen=True, slots=True)
class Import:
    """What became of all rules, and what stood beside them."""

    rules: tuple[Imported, ...]
    warnings: tuple[str, ...]


def convert(files: Iterable[tuple[str, Any]]) -> Import:
    """Playbooks for the rules of these files, later ones over earlier ones.

    Each file is its name and its document as `loading.load_words` gives it. Raises `ConfigError`
    for a document that is no rule file of Talon.
    """
    talon = read(files)
    taken: set[str] = set()
    return Import(tuple(_import(rule, taken) for rule in talon.rules), talon.notes)


def _import(rule: Rule, taken: set[str]) -> Imported:
    shown = quoted(rule.name)
    try:
        start = trigger(rule.keys.get("match"))
        made = steps(rule.actions)
        mode, more = _mode(rule)
    except Refused as reason:
        return Imported(shown, refused=str(reason), warnings=rule.notes)
    left_out = tuple(f"left out: {reason}" for reason in made.refused)
    warnings = (*rule.notes, *start.notes, *made.notes, *more)
    if not made.steps:
        return Imported(shown, refused="; ".join(made.refused) or "no action", warnings=warnings)
    name = _name(rule.name, taken)
    warnings = (*warnings, *left_out)
    return Imported(shown, name, _text(rule, name, mode, start, made, warnings), "", warnings)


def _mode(rule: Rule) -> tuple[str, list[str]]:
    """The mode, and what is different about the rule as a whole."""
    found = []
    if not yes(rule.keys.get("continue"), "continue", default=True):
        found.append("Talon tries no later rule after this one; here each one is tried")
    if notifiers := texts(rule.keys.get("notifiers"), "notifiers"):
        names = ", ".join(map(quoted, notifiers))
        found.append(f"its notifiers are left out ({names}): set up a chat or a notice instead")
    if not yes(rule.keys.get("dry_run"), "dry_run", default=False):
        return "approve", found
    return "observe", [*found, "Talon's dry_run prints one line; mode observe plans every step"]


def _name(rule: str, taken: set[str]) -> str:
    """A name of its own for the playbook, which is its file's name too."""
    base = (_PREFIX + re.sub(r"[^a-z0-9]+", "-", rule.lower()).strip("-"))[:_NAME_MAX].strip("-")
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def _text(
    rule: Rule, name: str, mode: str, start: Trigger, made: Steps, warnings: Iterable[str]
) -> str:
    said = rule.keys.get("description")
    about = " ".join(said.split()) if isinstance(said, str) else ""
    # Talon's actions on Kubernetes begin by looking for the pod as well
    when = " && ".join([*([start.when] if start.when else []), _POD_KNOWN])
    lines = [
        f'# Imported from the Falco Talon rule "{quoted(rule.name)}".',
        *(f"# - {warning}" for warning in warnings),
        f"playbook: {name}",
        f"description: {_quote(about or f'Imported from Falco Talon: {rule.name}')}",
        "on:",
        "  - alert:",
        "      source: [falco]",
        *(["      rule:"] if start.rules else []),
        *(f"        - {_quote(one)}" for one in dict.fromkeys(start.rules)),
        f"      when: {_quote(when)}",
        f"mode: {mode}",
        "limits: {runs_per_hour: 20, pods: 10, ready_share: 0.34}",
        "steps:",
    ]
    before = ""
    for step, one in made.steps.items():
        lines += _step(step, one, before)
        before = step
    return "\n".join(lines) + "\n"


def _step(name: str, step: Step, before: str) -> list[str]:
    lines = [f"  {name}:", f"    use: {step.use}"]
    lines += [f"    needs: [{before}]"] if before else []
    lines += [f"    if: {_quote(step.condition)}"] if step.condition else []
    lines += ["    with:", *_given(step.given, 6)] if step.given else []
    lines += [f"    timeout: {step.timeout}"] if step.timeout else []
    return lines + ([f"    on_error: {step.on_error}"] if step.on_error else [])


def _given(given: Mapping[str, Any], indent: int) -> list[str]:
    lines = []
    for key, value in given.items():
        head = f"{' ' * indent}{_quote(key) if indent > 6 else key}:"  # noqa: PLR2004 - Talon's own keys
        if isinstance(value, Mapping):
            lines += [head, *_given(value, indent + 2)]
        else:
            lines.append(f"{head} {_quote(value)}")
    return lines


def _quote(text: str) -> str:
    """A text in YAML's double quotes, which take the same escapes."""
    return f'"{quoted(text)}"'
