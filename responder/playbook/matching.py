"""Which playbooks an alert starts, and why the others stay.

Pure. Triggers are looked up by source and rule, so that a thousand playbooks cost what ten do;
only the conditions of those found are evaluated. Never raises for what an alert holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from responder.model import Alert
from responder.playbook.checking_triggers import fits
from responder.playbook.definition import AlertTrigger, Playbook
from responder.playbook.expressions import Explained
from responder.playbook.names import environment
from responder.text import for_terminal

__all__ = ["Index", "TriggerWhy", "Why", "environment", "incident_key"]


@dataclass(frozen=True, slots=True)
class TriggerWhy:
    """What one trigger said to an alert."""

    line: int
    fits: bool
    reason: str
    condition: Explained | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        tree = self.condition.to_json() if self.condition else None
        return {"line": self.line, "fits": self.fits, "reason": self.reason, "condition": tree}


@dataclass(frozen=True, slots=True)
class Why:
    """Why a playbook did or did not start."""

    playbook: str
    starts: bool
    reason: str
    triggers: tuple[TriggerWhy, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "playbook": self.playbook,
            "starts": self.starts,
            "reason": self.reason,
            "triggers": [trigger.to_json() for trigger in self.triggers],
        }


@dataclass(frozen=True, slots=True)
class _Entry:
    position: int  # the order of the playbooks is the order of the runs
    playbook: Playbook
    trigger: AlertTrigger


class Index:
    """All triggers of a set of playbooks, by source and rule."""

    def __init__(self, playbooks: Iterable[Playbook]) -> None:
        self.playbooks = tuple(playbooks)
        self._exact: dict[tuple[str, str], list[_Entry]] = {}
        self._prefix: dict[tuple[str, str], list[_Entry]] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}  # of the prefixes, for each source
        for position, playbook in enumerate(self.playbooks):
            for trigger in playbook.triggers:
                self._add(_Entry(position, playbook, trigger))
        for source in {source for source, _ in self._prefix}:
            lengths = {len(prefix) for name, prefix in self._prefix if name == source}
            self._lengths[source] = tuple(sorted(lengths))

    def _add(self, entry: _Entry) -> None:
        for source in entry.trigger.sources:
            for rule in entry.trigger.rules:
                if rule.endswith("*"):
                    self._prefix.setdefault((source, rule[:-1]), []).append(entry)
                else:
                    self._exact.setdefault((source, rule), []).append(entry)

    def _candidates(self, source: str, rule: str) -> list[_Entry]:
        found = list(self._exact.get((source, rule), ()))
        for length in self._lengths.get(source, ()):
            if length > len(rule):
                break
            found += self._prefix.get((source, rule[:length]), ())
        return found

    def match(self, alert: Alert) -> list[Playbook]:
        """The playbooks that this alert starts, in the order they were given."""
        if not alert.kind.may_start:
            return []
        candidates = self._candidates(alert.source, alert.rule)
        if not candidates:
            return []
        envs: dict[int, Mapping[str, Any]] = {}
        base = environment(alert=alert)
        found: dict[int, Playbook] = {}
        for entry in candidates:
            if entry.position in found:
                continue
            condition = entry.trigger.condition
            if condition is not None:
                env = envs.setdefault(entry.position, {**base, "vars": entry.playbook.vars})
                if not condition.truth(env):
                    continue
            found[entry.position] = entry.playbook
        return [found[position] for position in sorted(found)]

    def explain(self, alert: Alert) -> list[Why]:
        """For every playbook whether it starts, and what each part of its triggers said."""
        started = {playbook.name for playbook in self.match(alert)}
        return [_why(playbook, alert, playbook.name in started) for playbook in self.playbooks]


def _why(playbook: Playbook, alert: Alert, starts: bool) -> Why:  # noqa: FBT001 - private
    if not alert.kind.may_start:
        return Why(playbook.name, False, f"an alert of kind {alert.kind.value} starts nothing")
    if not playbook.triggers:
        return Why(playbook.name, False, "it is started by hand only")
    env = environment(alert=alert, vars=playbook.vars)
    triggers = tuple(_trigger(trigger, alert, env) for trigger in playbook.triggers)
    chosen = next((one for one in triggers if one.fits), triggers[0])
    if not chosen.fits:  # the nearest miss says most: one whose source and rule fitted
        chosen = next((one for one in triggers if one.condition is not None), chosen)
    return Why(playbook.name, starts, f"trigger in line {chosen.line}: {chosen.reason}", triggers)


def _trigger(trigger: AlertTrigger, alert: Alert, env: Mapping[str, Any]) -> TriggerWhy:
    if alert.source not in trigger.sources:
        wanted = " or ".join(trigger.sources)
        return _no(trigger, f'source is "{for_terminal(alert.source)}", wanted {wanted}')
    if not any(fits(alert.rule, rule) for rule in trigger.rules):
        wanted = ", ".join(f'"{rule}"' for rule in trigger.rules)
        return _no(trigger, f'rule is "{for_terminal(alert.rule)}", wanted {wanted}')
    if trigger.condition is None:
        return TriggerWhy(trigger.line, True, "source and rule fit")
    tree = trigger.condition.explain(env)
    if tree.value is True:
        return TriggerWhy(trigger.line, True, "source, rule and condition fit", tree)
    return TriggerWhy(trigger.line, False, _failed(tree), tree)


def _no(trigger: AlertTrigger, reason: str) -> TriggerWhy:
    return TriggerWhy(trigger.line, False, reason)


def _failed(tree: Explained) -> str:
    """One sentence: the first part of a condition that did not hold."""
    part = tree
    while True:
        if part.error and not part.children:
            return f"the condition does not hold: {part.error}"
        below = [child for child in part.children if child.value is False or child.error]
        joined = "&&" in part.text or part.error
        if not below or not joined:
            return f"the condition does not hold: {part.error or part.text + ' is false'}"
        part = below[0]


def incident_key(playbook: Playbook, alert: Alert) -> tuple[str, ...]:
    """The values that make alerts belong together; a part that is not known is empty."""
    return tuple(
        str(getattr(alert if name in {"source", "rule", "fingerprint"} else alert.target, name))
        for name in playbook.incident_key
    )
