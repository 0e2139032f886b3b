"""An event loop that owns time: virtual clock, seeded delays, one process after another killed.

Ready callbacks keep asyncio's order (first in, first out): that is documented behaviour, and
aiohttp leans on it. What is drawn by chance is only what the machine and the network decide: when
a blocking call starts, when its answer is delivered, how long bytes travel, whether a connection
is cut. The same seed gives the same callbacks at the same moments; `digest` proves it.

Never lets a real thread, a socket or the machine's clock into the simulation.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
import weakref
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NOBODY", "PROCESS", "Process", "SimClock", "SimLoop"]

_START = 1_800_000_000  # seconds since 1970 at which every simulation begins
_LONGEST_CALL = 0.01  # seconds a blocking call may wait for its start, and its answer to arrive


@dataclass(eq=False)
class Process:
    """Something that can be killed: all that runs in its context ends with it."""

    name: str
    alive: bool = True
    tasks: list[weakref.ref[asyncio.Task[Any]]] = field(default_factory=list)
    ends: list[Any] = field(default_factory=list)  # of its connections

    def running(self) -> list[asyncio.Task[Any]]:
        """Its tasks that have not ended, oldest first."""
        found = [task for ref in self.tasks if (task := ref()) is not None]
        return [task for task in found if not task.done()]


NOBODY = Process("nobody")
PROCESS: ContextVar[Process] = ContextVar("process", default=NOBODY)


class SimLoop(asyncio.BaseEventLoop):
    """asyncio's own loop with its waiting taken out. `network` holds who listens where."""

    def __init__(self, seed: int, *, keep_lines: bool = False) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.network: dict[tuple[str, int], Any] = {}
        self.links: Any = None  # how connections behave; see network.py
        self.steps = 0
        self.lines: list[str] | None = [] if keep_lines else None
        self._trace = hashlib.blake2b(digest_size=16)
        self._moment = 0.0
        self._clock_resolution = 1e-9

    # ----------------------------------------------------------------- time and order

    def time(self) -> float:
        """Virtual seconds since the simulation began."""
        return self._moment

    def _run_once(self) -> None:
        """Run one callback; when none is ready, time jumps to the next timer."""
        ready: Any = self._ready  # type: ignore[attr-defined] # asyncio's own names
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0].cancelled():
            heapq.heappop(timers)
        if not ready and timers:
            self._moment = max(self._moment, timers[0].when())
        while timers and timers[0].when() <= self._moment:
            timer = heapq.heappop(timers)
            if not timer.cancelled():
                ready.append(timer)
        if not ready:
            if self._stopping:  # type: ignore[attr-defined]
                return
            raise RuntimeError("deadlock: nothing is ready and nothing is to come")
        handle = ready.popleft()
        if not handle.cancelled():
            self.note(_label(handle._callback))
            handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to count: cancelled timers leave the heap when their time comes."""

    def note(self, text: str) -> None:
        """Write one line of the trace: two runs of a seed must not differ in any of them."""
        self.steps += 1
        line = f"{self._moment!r} {text}"
        self._trace.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """The hash of everything that happened so far, in order."""
        return self._trace.hexdigest()

    # ----------------------------------------------------------------- what asyncio asks for

    def _process_events(self, event_list: Any) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """There is nobody to wake: no other thread exists."""

    def create_task(self, coro: Any, **named: Any) -> asyncio.Task[Any]:
        """asyncio's task, remembered by the process in whose name it runs."""
        task: asyncio.Task[Any] = super().create_task(coro, **named)
        context: Context | None = named.get("context")
        process = PROCESS.get() if context is None else context.get(PROCESS, NOBODY)
        process.tasks.append(weakref.ref(task))
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a blocking call at one chance moment and deliver its answer at a later one.

        A process that is killed in between has done it, or not, and never hears of it.
        """
        del executor
        process, answer = PROCESS.get(), self.create_future()

        def deliver(value: Any, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        def call() -> None:
            if not process.alive:
                answer.cancel()
                return
            value, error = _attempt(func, args)
            self.call_later(self.rng.uniform(0, _LONGEST_CALL), deliver, value, error)

        self.call_later(self.rng.uniform(0, _LONGEST_CALL), call)
        return answer

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """Listen in memory, in the name of the process that asked."""
        del options  # TLS, backlog: nothing that bytes in memory could have
        listener = _Listener(self, (host, port), protocol_factory, copy_context())
        self.network[host, port] = listener
        return listener

    # ----------------------------------------------------------------- life and death

    def kill(self, process: Process) -> None:
        """End a process: nothing of it is written, sent or done from this moment on."""
        self.note(f"kill {process.name}")
        process.alive = False
        for address in [at for at, door in self.network.items() if door.process is process]:
            del self.network[address]
        for end in process.ends:
            end.abort()
        for task in process.running():
            task.cancel()

    async def bury(self, process: Process) -> None:
        """Wait until the tasks of a killed process have let go."""
        while running := process.running():
            for task in running:
                task.cancel()
            await asyncio.sleep(0.001)

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end, then close; the loop is good for one simulation."""
        former = events._get_running_loop()
        if former is not None:
            raise RuntimeError("a simulation has the thread for itself")
        try:
            return self.run_until_complete(main)
        finally:
            self.close()


class _Listener:
    """What `create_server` gives: enough of a server for aiohttp and `responder.web.serving`."""

    def __init__(
        self, loop: SimLoop, address: tuple[str, int], factory: Any, context: Context
    ) -> None:
        self.loop, self.address, self.factory, self.context = loop, address, factory, context
        self.process = context.get(PROCESS, NOBODY)
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return self.address

    def close(self) -> None:
        if self.loop.network.get(self.address) is self:
            del self.loop.network[self.address]


class SimClock:
    """The wall clock of the simulated machine; somebody may set it, monotonic time goes on."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._offset = 0.0

    def now(self) -> int:
        """Microseconds UTC, as the machine believes."""
        return int((_START + self._loop.time() + self._offset) * 1_000_000)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Let others work for this long."""
        await asyncio.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock on or back."""
        self._loop.note(f"clock {seconds!r}")
        self._offset += seconds


def _attempt(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    try:
        return func(*args), None
    except Exception as error:  # noqa: BLE001 - it goes to whoever awaits the call
        return None, error


def _label(callback: Any) -> str:
    """A name that does not change from process to process: no address, no counter."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        coroutine = owner.get_coro()
        return f"step {getattr(coroutine, '__qualname__', type(coroutine).__name__)}"
    return str(getattr(callback, "__qualname__", type(callback).__name__))
