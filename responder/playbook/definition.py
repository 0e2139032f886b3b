"""What a playbook is once it has been read and checked: frozen values, nothing left to look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from responder.model import Alert, Mode, Role
from responder.playbook.expressions import Expression
from responder.playbook.templates import Template

__all__ = [
    "AlertTrigger",
    "Approve",
    "InputSpec",
    "Limits",
    "Playbook",
    "Retry",
    "Step",
    "TestCase",
]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried, and the seconds between: doubling from `backoff` to `max`."""

    attempts: int
    backoff: float = 5.0
    max: float = 300.0


@dataclass(frozen=True, slots=True)
class Approve:
    """Who must say yes, how long is waited (microseconds), and what silence means."""

    by: Role = Role.APPROVER
    within: int = 30 * 60 * 1_000_000
    otherwise: Literal["stop", "continue"] = "stop"
    quorum: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """The playbook's own ceilings; None leaves it to the guard rails of the configuration."""

    runs_per_hour: int | None = None
    pods: int | None = None
    ready_share: float | None = None
    nodes: int | None = None


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a playbook started by hand."""

    type: str
    required: bool = False
    default: Any = None
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of an action. `for_each` runs it once per element, which is called `item`."""

    id: str
    use: str
    params: Template
    needs: tuple[str, ...] = ()
    condition: Expression | None = None
    for_each: Expression | None = None
    at_once: int = 0  # elements in work at a time, and none after a failed one; 0: all together
    timeout: float | None = None  # seconds for one attempt; None: the action's own
    retry: Retry | None = None
    on_error: Literal["stop", "continue", "undo"] = "stop"
    approve: Approve | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class AlertTrigger:
    """Which alerts start the playbook: one of the sources, one of the rules, and the condition."""

    sources: tuple[str, ...]
    rules: tuple[str, ...]  # exact, or a beginning followed by one "*"
    condition: Expression | None
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCase:
    """One expectation written in the playbook itself, run offline."""

    __test__ = False  # for pytest: a value, no class of tests

    alert: Alert
    starts: bool
    waits_at: str = ""  # the step that must be waiting for a person
    outcome: str = ""  # how the run must end
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Playbook:
    """One checked playbook. `text` is kept: a run goes on with what it started with."""

    name: str
    description: str
    triggers: tuple[AlertTrigger, ...]
    manual: Mapping[str, InputSpec] | None  # None: it cannot be started by hand
    incident_key: tuple[str, ...]
    incident_window: int  # microseconds
    mode: Mode
    limits: Limits
    vars: Mapping[str, Any]
    steps: Mapping[str, Step]  # in topological order
    finally_: tuple[Step, ...]
    tests: tuple[TestCase, ...]
    text: str
    hash: str
    file: str
    incident_again: bool = True  # a statement that its incident has heard before starts it again

    @property
    def fields(self) -> frozenset[str]:
        """Every path that any condition or parameter reads."""
        found: set[str] = set()
        for trigger in self.triggers:
            found |= trigger.condition.fields if trigger.condition else frozenset()
        for step in (*self.steps.values(), *self.finally_):
            found |= step.params.fields
            for expression in (step.condition, step.for_each):
                found |= expression.fields if expression else frozenset()
        return frozenset(found)
