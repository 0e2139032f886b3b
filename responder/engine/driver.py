"""The embedded driver: carries the machine's commands out and keeps the journal.

A run that waits is a row with a due time, not a task: only runs with something to do are in
memory. What it must never do: call outside before the intent is on disk, run one step twice at
once, lose an event because somebody else wrote to the same journal, or let one run's trouble
stop another's.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from responder.clock import SECOND, World
from responder.engine import story, truth
from responder.engine.machine import Command, Kind, begin, fold_all
from responder.engine.performing import Performer
from responder.engine.poison import strike
from responder.engine.state import RunState, evolve
from responder.engine.turn import Turn, take_turn
from responder.errors import StoreUnavailable
from responder.model import Target
from responder.playbook.definition import Playbook
from responder.store.interface import AuditEntry, Event, RunRow, RunUpdate, Store, TimelineEntry

__all__ = ["Driver", "Hooks"]

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_PAUSE_LOOK = SECOND  # between two looks at a pause from a held run
_CHANGES = {Kind.APPLY, Kind.UNDO, Kind.REASSERT}  # their intent is on disk before they begin
_QUIET = 4  # runs at work up to which the reads for another are begun ahead of it
_IDLE_LOOK = 5.0  # seconds without any wake before the store is asked again: clocks may jump


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the driver asks and tells others; each must return at once and never raise."""

    paused: Callable[[], str]  # why changes must wait, "" when they need not
    saved: Callable[[RunState, Sequence[Event]], None]  # for ceilings, metrics and live pages
    looked: Callable[[RunState, Sequence[Event]], None] = lambda _run, _events: None  # for metrics


@dataclass(slots=True)
class _Active:
    """A run in memory: who is at work for it, and whether somebody spoke meanwhile."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: dict[str, asyncio.Task[list[Event]]] = field(default_factory=dict)
    heard: bool = False
    look: bool = False  # what it holds is to be looked at
    resting: bool = False  # it was taken up only to look: it takes nobody's place
    run: RunState | None = None  # as last known
    row: RunRow | None = None  # as read; nothing was written since

    def rouse(self, _ended: object) -> None:
        """A call has ended, or the time is over: look now."""
        self.wake.set()


def _says(row: RunRow, update: RunUpdate) -> bool:
    """Whether the row that was read says already what the update would."""
    return (row.status, row.due, row.waiting_for, row.outcome, row.reason) == (
        update.status,
        update.due,
        update.waiting_for,
        update.outcome,
        update.reason,
    )


class Driver:
    """Owns the open runs of one store."""

    def __init__(
        self,
        *,
        store: Store,
        performer: Performer,
        compile_playbook: Callable[[RunRow], Playbook],
        world: World,
        hooks: Hooks,
        places: int = 200,
    ) -> None:
        self._store = store
        self._performer = performer
        self._compile = compile_playbook
        self._world = world
        self._hooks = hooks
        self._places = places
        self._active: dict[str, _Active] = {}
        self._actors: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False

    # ----------------------------------------------------------------- from outside

    def wake(self) -> None:
        """Something may be due: look now."""
        self._wake.set()

    def take_up(self, run_ids: Iterable[str]) -> None:
        """Runs that were created this moment: begin without asking the store what is due."""
        for run_id in run_ids:
            if self._stopping or self._taken >= self._places:
                self.wake()  # they are due on disk and wait for a place like all others
                return
            self._start(run_id)

    def foresee(self, targets: Iterable[Target]) -> None:
        """Alerts of these are being stored: begin to look, if there is little else to do.

        Only reads, and nothing may rest on it: the runs may never come.
        """
        for target in targets:
            if self._stopping or self._taken >= _QUIET:
                return
            self._performer.foresee(target)

    async def post(
        self,
        run_id: str,
        events: Sequence[Event],
        *,
        timeline: Sequence[TimelineEntry] = (),
        audit: Sequence[AuditEntry] = (),
    ) -> list[Event]:
        """Write what a person said to a run, and see that it is acted on; the whole journal."""
        written = await self._store.append(run_id, 0, events, None, timeline, audit)
        self.heard(run_id)
        return written

    def heard(self, run_id: str) -> None:
        """The journal of this run has grown by somebody else's hand."""
        active = self._active.get(run_id)
        if active is not None:
            active.heard = True
            active.wake.set()
        self.wake()

    async def load(self, run_id: str) -> tuple[RunRow, RunState]:
        """A run's row and its state, from its journal. Raises `NotFound`, `PlaybookError`."""
        row, events = await self._store.load_run(run_id)
        return row, fold_all(begin(run_id, self._compile(row)), events)

    async def look(self, run_id: str) -> bool:
        """Have what a run holds looked at now; returns when the run was brought as far as it goes.

        It takes no place of a run that has something to do. False: it could not even be read.
        """
        active = self._active.get(run_id)
        if active is not None:
            active.look = True
            active.wake.set()
        elif not self._stopping:
            active = _Active(look=True, resting=True)
            await asyncio.wait({self._begin(run_id, active)})
            return active.run is not None
        return True

    def holding(self, correlation: str) -> list[str]:
        """Runs in memory that hold something there: their rows may not say so yet."""
        return [
            run_id
            for run_id, active in self._active.items()
            if active.run is not None and correlation in truth.correlations(active.run)
        ]

    @property
    def busy(self) -> int:
        """Runs in memory."""
        return len(self._active)

    @property
    def working(self) -> bool:
        """Whether a run is under way that has more to do than to look again."""
        return self._taken > 0

    @property
    def _taken(self) -> int:
        return sum(not active.resting for active in self._active.values())

    # ----------------------------------------------------------------- life

    async def run(self) -> None:
        """Work until `stop`. Recovery needs nothing more: open runs are due."""
        while not self._stopping:
            self._wake.clear()
            try:
                more = await self._start_due()
                pause = 0.0 if more else await self._idle_time()
            except StoreUnavailable:
                pause = 1.0
            except Exception:
                log.exception("the driver stumbled", extra={"event": "driver_bug"})
                pause = 1.0  # open runs must not wait for a restart because of it
            if pause > 0:
                await self._wait(pause)

    async def stop(self, grace: float) -> None:
        """Take nothing new, let calls in flight end within `grace` seconds, journal them."""
        self._stopping = True
        self.wake()
        for active in self._active.values():
            active.wake.set()
        if self._actors:
            await asyncio.wait(set(self._actors), timeout=grace)
        left = list(self._actors)
        for actor in left:
            actor.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _start_due(self) -> bool:
        """Take up what is due; True when there may be more than there were places for."""
        free = self._places - self._taken
        if free <= 0:
            return False
        now = self._world.clock.now()
        due = await self._store.due_runs(now, free, tuple(self._active))
        for run_id in due:
            if not self._stopping:
                self._start(run_id)
        return False

    def _start(self, run_id: str) -> None:
        if run_id not in self._active:
            _ = self._begin(run_id, _Active())

    def _begin(self, run_id: str, active: _Active) -> asyncio.Task[None]:
        self._active[run_id] = active
        actor = asyncio.create_task(self._live(run_id))
        self._actors.add(actor)
        actor.add_done_callback(self._actors.discard)
        return actor

    async def _idle_time(self) -> float:
        if self._taken >= self._places:
            return _IDLE_LOOK
        now = self._world.clock.now()
        due = await self._store.next_due(now)
        if due is None:
            return _IDLE_LOOK
        return min(max((due - now) / SECOND, 0.001), _IDLE_LOOK)

    async def _wait(self, seconds: float) -> None:
        """Until the time is over or somebody wakes us."""
        sleeper = asyncio.ensure_future(self._world.clock.sleep(seconds))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()
            await asyncio.gather(sleeper, waker, return_exceptions=True)

    # ----------------------------------------------------------------- one run

    async def _live(self, run_id: str) -> None:
        """Bring one run as far as it goes now; unexpected failures are counted in the store."""
        active = self._active[run_id]
        try:
            await self._advance(run_id, active)
        except StoreUnavailable:
            await self._world.clock.sleep(1.0)
        except Exception as error:  # noqa: BLE001 - one run's trouble must not stop another's
            await strike(self._store, self._world, run_id, error)
        finally:
            for task in active.tasks.values():
                task.cancel()
            del self._active[run_id]
            self.wake()

    async def _advance(self, run_id: str, active: _Active) -> None:
        active.row, run = await self.load(run_id)
        results: list[Event] = []
        while True:
            if active.heard:
                active.heard = False
                _, run = await self._patiently(lambda: self.load(run_id))
            now = self._world.clock.now()
            results += self._looks(run, active, now)
            turn = take_turn(run, results, now, set(active.tasks), self._hold)
            active.run, launches = turn.run, turn.launches
            idle = not launches and not active.tasks
            # what only reads need not wait for the disk; a change waits for its intent
            self._launch(turn.run, active, [c for c in launches if c.kind not in _CHANGES])
            if turn.only_looked_up:
                results = [*turn.events, *await self._collect(active, self._until_next(turn))]
                continue
            saving = functools.partial(self._save, run, turn, active, idle=idle)
            saved = await self._patiently(saving)
            if saved is None or len(saved) > len(turn.events):
                active.heard = True  # somebody wrote between our two looks
                active.look = active.look or any(step.look for step in turn.run.steps.values())
            if saved is None:
                results = []
                continue
            if len(saved) > len(turn.events):
                run = fold_all(run, saved)
            else:  # folded already, without its place in the journal
                run = evolve(turn.run, seq=saved[-1].seq) if saved else turn.run
            if idle and not active.heard and not active.look:
                return
            self._launch(run, active, [c for c in launches if c.kind in _CHANGES])
            results = await self._collect(active, self._until_next(turn))

    def _looks(self, run: RunState, active: _Active, now: int) -> list[Event]:
        """What was asked of the run in passing. A server that stops looks at nothing any more."""
        if self._stopping:
            for place in [place for place in active.tasks if place.endswith("?")]:
                active.tasks.pop(place).cancel()
        wanted, active.look = active.look and not self._stopping, False
        return truth.asked(run, now) if wanted else []

    def _launch(self, run: RunState, active: _Active, commands: Sequence[Command]) -> None:
        for command in commands:
            task = asyncio.create_task(self._performer.perform(run, command))
            task.add_done_callback(active.rouse)
            active.tasks[command.place] = task

    async def _patiently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Wait for a store that is away: calls in flight end meanwhile, and no result is lost."""
        while True:
            try:
                return await work()
            except StoreUnavailable:
                log.warning("waiting for the store", extra={"event": "store_away"})
                await self._world.clock.sleep(1.0)

    def _until_next(self, turn: Turn) -> float | None:
        """Seconds until time alone changes something beside the calls in flight."""
        if turn.held:
            return _PAUSE_LOOK / SECOND
        due = turn.decision.due
        if due is None:
            return None
        return min(max((due - self._world.clock.now()) / SECOND, 0.001), _IDLE_LOOK)

    def _hold(self, run: RunState, command: Command) -> bool:
        if self._stopping:
            return True  # an intent that nobody carries out must not be written
        return self._performer.changes_world(run, command) and bool(self._hooks.paused())

    async def _save(
        self, run: RunState, turn: Turn, active: _Active, *, idle: bool
    ) -> list[Event] | None:
        """Write the turn; None when only the row was to be written and the journal has grown."""
        now = self._world.clock.now()
        update: RunUpdate | None = None
        if idle:
            update = turn.update(now, stopping=self._stopping, pause_look=_PAUSE_LOOK)
        if not turn.events:
            if update is None or (active.row is not None and _says(active.row, update)):
                return []
            return [] if await self._store.set_run(run.id, run.seq, update) else None
        writing = self._store.append(
            run.id,
            run.seq,
            turn.events,
            update,
            story.tell(turn.run, turn.events),
            story.audit(turn.run, turn.events),
            story.patch(turn.run, turn.events),
        )
        active.row = None  # as it was read it is no longer
        saved = await asyncio.shield(asyncio.ensure_future(writing))
        self._hooks.saved(turn.run, turn.events)
        return saved

    async def _collect(self, active: _Active, seconds: float | None) -> list[Event]:
        """Wait for the end of a call, a voice, or the time; the events of calls that ended."""
        if active.tasks and not active.heard:
            await self._roused(active, seconds)
        active.wake.clear()
        events: list[Event] = []
        for step, task in list(active.tasks.items()):
            if task.done():
                del active.tasks[step]
                events += task.result()
        if active.run is not None and (passing := [e for e in events if e.type in truth.PASSING]):
            self._hooks.looked(active.run, passing)
        return events

    async def _roused(self, active: _Active, seconds: float | None) -> None:
        if seconds is None:
            await active.wake.wait()
            return
        alarm = asyncio.create_task(self._world.clock.sleep(seconds))
        alarm.add_done_callback(active.rouse)
        try:
            await active.wake.wait()
        finally:
            alarm.remove_done_callback(active.rouse)
            alarm.cancel()
            await asyncio.gather(alarm, return_exceptions=True)
