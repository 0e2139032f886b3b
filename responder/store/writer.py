"""Lanes for blocking work: one writes, one reads, one is for long work beside them.

Two ways to run them: `ThreadWriter` has a thread for each lane and answers a whole group with one
wake-up of the loop; `LoopWriter` asks the loop to run blocking calls, so that a simulated loop
owns time and order. Both group what waits: take what is queued, never wait for more.

Neither ever uses asyncio's default pool: six silent calls elsewhere would stop the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

from responder.errors import StoreUnavailable
from responder.store._commit import Committer, Job, Op, Outcome, joins

__all__ = ["LoopWriter", "ThreadWriter", "Writer"]

GROUP = 512
_T = TypeVar("_T")
_Answer = tuple["asyncio.Future[Any]", Outcome]


class Writer(Protocol):
    """What `SqliteStore` asks of the machinery that runs its operations."""

    async def start(
        self, committer: Callable[[], Committer], reader: Callable[[], sqlite3.Connection]
    ) -> None:
        """Open both connections on their lanes. Raises what opening raises."""
        ...

    async def write(self, op: Callable[[sqlite3.Connection], _T], *, essential: bool = True) -> _T:
        """Run `op` in the next group; returns when it is on disk."""
        ...

    async def read(self, op: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `op` on one consistent view of what is committed."""
        ...

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Run long blocking work that must delay neither writes nor reads."""
        ...

    async def stop(self) -> None:
        """Finish what is queued, then close both connections."""
        ...

    def abandon(self) -> None:
        """Drop what is queued and close, as a killed process would. For the simulation."""
        ...


def read_in_view(db: sqlite3.Connection, op: Op) -> Outcome:
    """Run a reading operation inside one snapshot."""
    try:
        db.execute("BEGIN")
        try:
            return Outcome(op(db))
        finally:
            db.execute("COMMIT")
    except sqlite3.Error as error:
        return Outcome(error=StoreUnavailable(f"store cannot be read: {error}"))
    except Exception as error:  # noqa: BLE001 - it goes to the caller who asked
        return Outcome(error=error)


def attempt(work: Callable[[], Any]) -> Outcome:
    """Run a call and keep its failure for the caller who asked."""
    try:
        return Outcome(work())
    except Exception as error:  # noqa: BLE001 - it goes to the caller who asked
        return Outcome(error=error)


def settle(answers: Iterable[_Answer]) -> None:
    """Give each caller its answer; one who no longer waits is passed over."""
    for future, outcome in answers:
        if future.done():
            continue
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)


PATIENCE = 0.002  # seconds an alert waits at most for others to be committed with


class _Queued(NamedTuple):
    """One item, who waits for its answer, and whether it may wait for neighbours."""

    item: Any
    future: asyncio.Future[Any]
    patient: bool


class _Lane:
    """One thread that answers groups of queued items, in order. Never dies of an item.

    A group costs as much as a dozen alerts do, and a thread at work takes the interpreter from
    the loop that makes the next ones. So what one turn of the loop puts is passed on together, and
    *patient* items wait a moment where company is likely: until as many are there as were answered
    together or already wait, never longer than `PATIENCE`, and not at all after an item that came
    alone.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, group: int) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop, self._group = loop, group
        self._turn: list[_Queued] = []  # not yet passed on
        self._passing: asyncio.Handle | None = None  # when it will be, if that is known
        self._at_work = 0  # items passed on and not answered
        self._likely = 1  # patient items that come together
        self._queue: queue.SimpleQueue[list[_Queued] | None] = queue.SimpleQueue()
        self._closed = self._dropped = False
        self._work: Callable[[Sequence[Any]], Sequence[Outcome]] | None = None
        self._thread = threading.Thread(target=self._run, name=f"store-{name}", daemon=True)

    def start(self, work: Callable[[Sequence[Any]], Sequence[Outcome]]) -> None:
        self._work = work
        self._thread.start()

    def put(self, item: Any, *, patient: bool = False) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreUnavailable("store is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._turn.append(_Queued(item, future, patient))
        if not patient:
            self._pass_soon()
        elif not self._at_work:  # else the thread could not begin with it anyway
            self._consider()
        return future

    def stop(self) -> None:
        """Ask the thread to end after what is queued; `ended` is done when it has."""
        self._closed = True
        self._pass_on()
        self._queue.put(None)

    def drop(self) -> None:
        """End the thread without what is queued; blocks until its present group is done."""
        self._dropped = True
        self.stop()
        self._thread.join()

    def _consider(self) -> None:
        """Pass on when all are here that are likely to come, or after a moment."""
        if len(self._turn) >= self._likely:
            self._pass_soon()
        elif self._passing is None:
            self._passing = self._loop.call_later(PATIENCE, self._pass_on)

    def _pass_soon(self) -> None:
        """Pass on in the next turn of the loop, whatever else comes in this one with it."""
        if isinstance(self._passing, asyncio.TimerHandle):
            self._passing.cancel()
            self._passing = None
        if self._passing is None:
            self._passing = self._loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        if self._passing is not None:
            self._passing.cancel()
            self._passing = None
        if self._turn:
            turn, self._turn = self._turn, []
            self._at_work += len(turn)
            self._queue.put(turn)

    def _answered(self, answers: Sequence[tuple[_Queued, Outcome]]) -> None:
        """On the loop: tell everybody, and think of who may come with those who wait now."""
        self._at_work -= len(answers)
        self._likely = sum(queued.patient for queued, _ in answers) + len(self._turn)
        settle((queued.future, outcome) for queued, outcome in answers)
        if self._turn and not self._at_work:
            self._consider()

    def _run(self) -> None:
        going = True
        while going:
            waiting, going = self._take()
            for at in range(0, len(waiting), self._group):
                self._answer(waiting[at : at + self._group])
        self._tell(self.ended.set_result, None)

    def _answer(self, group: Sequence[_Queued]) -> None:
        if self._work is None or self._dropped:
            return
        outcomes = self._work([queued.item for queued in group])
        self._tell(self._answered, list(zip(group, outcomes, strict=True)))

    def _tell(self, call: Callable[[Any], object], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, value)

    def _take(self) -> tuple[list[_Queued], bool]:
        """All that is queued, once there is something; and whether more may come."""
        waiting: list[_Queued] = []
        turn = self._queue.get()
        while turn is not None:
            waiting += turn
            if len(waiting) >= self._group or self._queue.empty():
                return waiting, True
            turn = self._queue.get()
        return waiting, False


class ThreadWriter:
    """The real one: a thread for writing, one for reading, one for long work."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._committer: Committer | None = None
        self._reader: sqlite3.Connection | None = None

    async def start(
        self, committer: Callable[[], Committer], reader: Callable[[], sqlite3.Connection]
    ) -> None:
        """Open both connections on their lanes. Raises what opening raises."""
        loop = asyncio.get_running_loop()
        aside = _Lane("aside", loop, 1)
        aside.start(lambda works: [attempt(work) for work in works])
        self._lanes = {"aside": aside}
        owner = self._committer = await aside.put(committer)
        view = self._reader = await aside.put(reader)
        write, read = _Lane("write", loop, GROUP), _Lane("read", loop, 1)
        write.start(owner.run)
        read.start(lambda ops: [read_in_view(view, op) for op in ops])
        self._lanes |= {"write": write, "read": read}

    async def write(self, op: Callable[[sqlite3.Connection], _T], *, essential: bool = True) -> _T:
        """Run `op` in the next group; returns when it is on disk."""
        job, patient = Job(op, essential), joins(op)
        return await self._lane("write").put(job, patient=patient)  # type: ignore[no-any-return]

    async def read(self, op: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `op` on one consistent view of what is committed."""
        return await self._lane("read").put(op)  # type: ignore[no-any-return]

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Run long blocking work that must delay neither writes nor reads."""
        return await self._lane("aside").put(work)  # type: ignore[no-any-return]

    async def stop(self) -> None:
        """Finish what is queued, then close both connections."""
        for lane in self._lanes.values():
            lane.stop()
        await asyncio.gather(*(lane.ended for lane in self._lanes.values()))
        self._close()

    def abandon(self) -> None:
        """Drop what is queued and close, as a killed process would. For the simulation."""
        for lane in self._lanes.values():
            lane.drop()
        self._close()

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._committer is not None:
            self._committer.close()
        self._lanes, self._reader, self._committer = {}, None, None

    def _lane(self, name: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            raise StoreUnavailable("store is closed")
        return lane


class LoopWriter:
    """Runs blocking calls through the loop, one at a time on each lane.

    A simulated loop that overrides `run_in_executor` owns every moment of it. With a real loop it
    uses the given executor, or one of its own, never the default one.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        self._given = executor
        self._executor: Executor | None = executor
        self._committer: Committer | None = None
        self._reader: sqlite3.Connection | None = None
        self._waiting: list[tuple[Job, asyncio.Future[Any]]] = []
        self._draining: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._beside = asyncio.Lock()

    async def start(
        self, committer: Callable[[], Committer], reader: Callable[[], sqlite3.Connection]
    ) -> None:
        """Open both connections. Raises what opening raises."""
        if self._given is None:
            self._executor = ThreadPoolExecutor(3, thread_name_prefix="store")
        self._committer = await self._call(committer)
        self._reader = await self._call(reader)

    async def write(self, op: Callable[[sqlite3.Connection], _T], *, essential: bool = True) -> _T:
        """Run `op` in the next group; returns when it is on disk."""
        if self._committer is None:
            raise StoreUnavailable("store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._waiting.append((Job(op, essential), future))
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain(self._committer))
        return await future

    async def read(self, op: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `op` on one consistent view of what is committed."""
        async with self._reading:
            if self._reader is None:
                raise StoreUnavailable("store is closed")
            outcome = await self._finish(read_in_view, self._reader, op)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[no-any-return]

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Run long blocking work that must delay neither writes nor reads."""
        async with self._beside:
            if self._reader is None:
                raise StoreUnavailable("store is closed")
            return await self._finish(work)

    async def stop(self) -> None:
        """Finish what is queued, then close both connections."""
        while self._draining is not None and not self._draining.done():
            await asyncio.wait([self._draining])
        async with self._reading, self._beside:
            self.abandon()

    def abandon(self) -> None:
        """Drop what is queued and close, as a killed process would. For the simulation."""
        self._waiting.clear()
        if self._executor is not None and self._given is None:
            self._executor.shutdown(wait=True)
        if self._reader is not None:
            self._reader.close()
        if self._committer is not None:
            self._committer.close()
        self._reader = self._committer = None

    async def _drain(self, committer: Committer) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            outcomes = await self._call(committer.run, [job for job, _ in group])
            settle((future, out) for (_, future), out in zip(group, outcomes, strict=True))

    async def _finish(self, work: Callable[..., _T], *args: Any) -> _T:
        """Await a call to its end even when the caller is cancelled: its lane is taken so long."""
        future = self._call(work, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def _call(self, work: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, work, *args)
