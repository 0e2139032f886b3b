"""Turn a step with `for_each` into its instances: one for each item of a list. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from responder.playbook.definition import Step
from responder.playbook.values import MISSING
from responder.store.interface import Event

__all__ = ["expand"]

_MOST_ITEMS = 200  # what an alert lists must not become ten thousand steps


def expand(step: Step, env: Mapping[str, Any], now: int) -> Event:
    """The event that says which instances there are, or why there is none."""

    def event(type_: str, **data: Any) -> Event:
        return Event(type_, now, {"step": step.id, **data})

    assert step.for_each is not None  # noqa: S101 - the caller looked
    items = step.for_each.evaluate(env)
    if items is MISSING or not isinstance(items, list):
        return event("step_failed", error=f"for_each gave {type(items).__name__}, expected a list")
    if not items:
        return event("step_skipped", reason="for_each has no items")
    if len(items) > _MOST_ITEMS:
        text = f"for_each has {len(items)} items, at most {_MOST_ITEMS} are taken"
        return event("step_failed", error=text)
    return event("step_expanded", items=items)
