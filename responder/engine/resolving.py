"""Ask what a target is now, before anything may change it.

Nobody's answer is no answer: it is asked again, more and more slowly. What it never does is let a
change go on at a name that now belongs to something else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from responder.clock import SECOND
from responder.engine.lanes import Lane
from responder.engine.state import RunState
from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Target
from responder.ports import Resolver
from responder.store.interface import Event

__all__ = ["resolve", "unchecked"]

log = logging.getLogger(__name__)
_DEADLINE = 30.0  # seconds for one question
_LONGEST = 30.0  # seconds between two


async def resolve(
    run: RunState, resolvers: Mapping[str, Resolver], lane: Lane, urgency: int, now: int
) -> list[Event]:
    """The events that say what the target is, or why that is not known."""

    def event(type_: str, **data: Any) -> list[Event]:
        return [Event(type_, now, data)]

    target = Target.from_json(run.target)
    resolver = resolvers.get(target.cluster)
    if resolver is None:
        return event("target_resolved", target=target.to_json(), checked=False)
    wait = min(2.0 ** min(run.resolve_tries, 10), _LONGEST)
    try:
        async with lane.place(urgency), asyncio.timeout(_DEADLINE):
            found = await resolver.resolve(target)
    except (StepRetry, TimeoutError) as error:
        text = str(error) or "no answer in time"
        retry_at = now + int(max(getattr(error, "after", 0.0), wait) * SECOND)
        return event("target_unresolved", error=text, retry_at=retry_at)
    except (StepFailed, NotFound) as error:
        return event("run_broken", reason=str(error))
    except Exception as error:
        log.exception("resolver failed", extra={"event": "resolver_bug", "run": run.id})
        text = f"the target could not be checked: {type(error).__name__}"
        retry_at = now + int(max(5.0, wait) * SECOND)
        return event("target_unresolved", error=text, retry_at=retry_at)
    return event("target_resolved", target=found.to_json(), checked=True)


def unchecked(run: RunState) -> str:
    """Why nothing may be changed for this run's target; empty when it was checked or has no pod."""
    if run.target.get("pod") and not run.resolved:
        return f"the target was not checked: {run.broken or (run.cancelled and 'cancelled before')}"
    return ""
