"""Count what fails unexpectedly, and set a run aside before it fails for ever."""

from __future__ import annotations

import logging

from responder.clock import SECOND, World
from responder.errors import NotFound, PlaybookError, StoreUnavailable
from responder.store.interface import Event, RunUpdate, Store, TimelineEntry
from responder.text import cut

__all__ = ["STRIKES", "strike"]

log = logging.getLogger(__name__)
STRIKES = 3  # unexpected failures of one run before it is set aside


async def strike(store: Store, world: World, run_id: str, error: Exception) -> None:
    """Count an unexpected failure; at the third the run is set aside with its reason."""
    log.error(
        "a run failed unexpectedly",
        exc_info=error,
        extra={"event": "run_poison", "run": run_id},
    )
    text = str(error) if isinstance(error, PlaybookError | NotFound) else type(error).__name__
    now = world.clock.now()
    try:
        count = await store.strike("run", run_id, text, now)
        if count < STRIKES:
            await store.defer_run(run_id, now + count * SECOND)
            return
        reason = f"set aside after {count} unexpected failures: {text}"
        ended = Event("run_finished", now, {"outcome": "needs-attention", "reason": reason})
        update = RunUpdate(
            status="needs-attention", due=None, outcome="needs-attention", reason=reason
        )
        row, _ = await store.load_run(run_id)
        line = TimelineEntry(
            incident=row.incident,
            at=now,
            kind="run",
            text=cut(f"run of {row.playbook} needs attention: {reason}", 600),
            data={"run": run_id, "event": "run_finished"},
        )
        await store.append(run_id, 0, [ended], update, [line])
    except StoreUnavailable:
        log.warning("the store took no strike", extra={"event": "strike_lost"})
    except NotFound:
        log.warning("the run is not there", extra={"event": "run_lost", "run": run_id})
