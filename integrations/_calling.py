"""The one way to call an outside system: own bounded pool, deadline, few careful retries.

Three promises hold for every call made through a `Caller`:

* A silent system stalls only itself. Blocking SDKs run in a pool that belongs to one system, the
  queue before it is bounded, and a deadline lies around the whole call. The loop's default
  executor is never used.
* There is one retry layer, this one. At most `attempts` tries, only for failures that are safe to
  repeat, with jitter, `Retry-After` obeyed, and a budget: retries are at most a tenth of the calls
  over time, so that an outage is not made worse.
* What comes out is one of the product's failure classes. Bodies of answers never get into a text.

A write is never repeated here when it may have happened: it ends as `Uncertain`, and the action
that made it looks before it does anything else.
"""

from __future__ import annotations

import asyncio
import email.utils
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import tenacity

from responder.clock import SECOND, World
from responder.errors import (
    Conflict,
    NotFound,
    ResponderError,
    StepFailed,
    StepRetry,
    Uncertain,
)

__all__ = ["Caller", "Classifier", "Fault", "FaultKind", "retry_after"]

T = TypeVar("T")

_FIRST_BACKOFF = 0.25
_LONGEST_BACKOFF = 5.0
_LONGEST_RETRY_AFTER = 3600.0  # a longer wish is cut: a person has been called long before
_BUDGET_SHARE = 0.1
_BUDGET_CAP = 3.0


class FaultKind(Enum):
    """What a failure says about the world; it decides what may be done next."""

    REFUSED = "refused"  # turned away before acting: rate limit, connection refused
    AMBIGUOUS = "ambiguous"  # may have acted: 5xx, reset, time-out
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    FINAL = "final"  # asking again cannot help: bad request, no rights


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure of an outside system in our words; `text` never holds a body of an answer."""

    kind: FaultKind
    text: str
    after: float | None = None  # seconds that the system asked us to wait


Classifier = Callable[[Exception], Fault]
"""Says what an SDK's error means. It never does I/O and never raises."""


class _Failed(Exception):
    """Carries a classified failure through tenacity; it never leaves this module."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class _Budget:
    """Lets retries be a tenth of the calls over time, with three in hand at the start.

    Google SRE, "Handling Overload": https://sre.google/sre-book/handling-overload/.
    """

    def __init__(self) -> None:
        self._left = _BUDGET_CAP

    def earn(self) -> None:
        """Count one logical call."""
        self._left = min(_BUDGET_CAP, self._left + _BUDGET_SHARE)

    def spend(self) -> bool:
        """Take one retry, if one is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Job:
    """Remembers whether a thread has begun: what never began has certainly not happened."""

    def __init__(self) -> None:
        self.begun = False


class Caller:
    """Calls one outside system; see the module for what it promises.

    `threads` bounds what runs at once, `waiting` what may wait for a thread. `deadline` is seconds
    for one logical call with all its tries. It never touches another system's pool.
    """

    def __init__(
        self,
        name: str,
        world: World,
        *,
        classify: Classifier,
        threads: int = 4,
        waiting: int = 64,
        deadline: float = 30.0,
        attempts: int = 3,
    ) -> None:
        self.name = name
        self._world = world
        self._classify = classify
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"call-{name}")
        self._places = threads + waiting
        self._taken = 0
        self._lock = threading.Lock()  # `_taken` is given back by the pool's own threads
        self._deadline = deadline
        self._attempts = attempts
        self._budget = _Budget()

    async def blocking(
        self,
        what: str,
        call: Callable[[], T],
        *,
        write: bool = False,
        deadline: float | None = None,
    ) -> T:
        """Run a blocking call in this system's pool and return what it returns.

        `what` names the call for a person ("dispatch rebuild.yml of acme/shop"). A `write` that may
        have happened raises `Uncertain`; everything else as `awaiting` says. The SDK below must
        have its own time-out, so that the thread comes back after the deadline has passed.
        """
        job = _Job()

        async def once() -> T:
            return await asyncio.wrap_future(self._submit(what, job, call))

        return await self._policy(what, once, job, write, deadline)

    async def awaiting(
        self,
        what: str,
        call: Callable[[], Awaitable[T]],
        *,
        write: bool = False,
        deadline: float | None = None,
    ) -> T:
        """Await a call of an async SDK under the same policy and return what it returns.

        Raises `StepRetry` (nothing happened, or only a read failed), `Uncertain` (a write that may
        have happened), `NotFound`, `Conflict`, `StepFailed`.
        """
        job = _Job()

        async def once() -> T:
            job.begun = True
            return await call()

        return await self._policy(what, once, job, write, deadline)

    async def in_pool(self, call: Callable[[], T]) -> T:
        """Run something small and blocking (a name look-up) in this system's pool, no policy."""
        return await asyncio.wrap_future(self._submit("a look-up", _Job(), call))

    def close(self) -> None:
        """Take no more calls; those that run end by their own time-out."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, what: str, job: _Job, call: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._taken >= self._places:
                raise StepRetry(f"{self.name} is busy: {self._taken} calls wait before {what}")
            self._taken += 1

        def run() -> T:
            job.begun = True
            return call()

        try:
            future = self._pool.submit(run)
        except RuntimeError as error:
            self._give_back(None)
            raise StepRetry(f"{self.name} is closed: {what} was not begun") from error
        future.add_done_callback(self._give_back)
        return future

    def _give_back(self, _: object) -> None:
        with self._lock:
            self._taken -= 1

    async def _policy(
        self,
        what: str,
        once: Callable[[], Awaitable[T]],
        job: _Job,
        write: bool,  # noqa: FBT001 - private, always named by its two callers above
        deadline: float | None,
    ) -> T:
        limit = self._deadline if deadline is None else min(deadline, self._deadline)
        self._budget.earn()
        end = asyncio.get_running_loop().time() + limit
        try:
            async with asyncio.timeout_at(end):
                return await self._retrying(write, end).__call__(self._classified, once, job)
        except _Failed as failed:
            raise self._translate(what, failed.fault, write=write) from failed.__cause__
        except TimeoutError as error:
            text = f"{self.name}: {what} had no answer within {limit:g} s"
            if write and job.begun:
                raise Uncertain(text) from error
            raise StepRetry(text) from error

    async def _classified(self, once: Callable[[], Awaitable[T]], job: _Job) -> T:
        try:
            answer = await once()
        except ResponderError:
            raise
        except Exception as error:
            fault = self._classify(error)
            self._world.observe(self.name, fault.kind.value)
            job.begun = job.begun and fault.kind is not FaultKind.REFUSED
            raise _Failed(fault) from error
        self._world.observe(self.name, "ok")
        return answer

    def _retrying(self, write: bool, end: float) -> tenacity.AsyncRetrying:  # noqa: FBT001
        def again(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            if not isinstance(error, _Failed) or state.attempt_number >= self._attempts:
                return False
            fault = error.fault
            safe = fault.kind is FaultKind.REFUSED or (
                fault.kind is FaultKind.AMBIGUOUS and not write
            )
            return safe and self._fits(fault, end)

        return tenacity.AsyncRetrying(
            sleep=self._world.clock.sleep,
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=self._wait,
            retry=again,
            reraise=True,
        )

    def _fits(self, fault: Fault, end: float) -> bool:
        """Whether the wait asked for ends in time; a longer one is a row in the store, no task."""
        left = end - asyncio.get_running_loop().time()
        return (fault.after or 0) < left and self._budget.spend()

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.fault.after if isinstance(error, _Failed) else None
        most = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2**state.attempt_number)
        return (asked or 0.0) + self._world.rng.uniform(_FIRST_BACKOFF / 2, most)

    def _translate(self, what: str, fault: Fault, *, write: bool) -> ResponderError:
        text = f"{self.name}: {what}: {fault.text}"
        match fault.kind:
            case FaultKind.AMBIGUOUS if write:
                return Uncertain(text)
            case FaultKind.REFUSED | FaultKind.AMBIGUOUS:
                away = fault.kind is FaultKind.REFUSED and fault.after is not None
                return StepRetry(text, after=fault.after or _LONGEST_BACKOFF, turned_away=away)
            case FaultKind.NOT_FOUND:
                return NotFound(text)
            case FaultKind.CONFLICT:
                return Conflict(text)
            case _:
                return StepFailed(text)


def retry_after(headers: Mapping[str, str], now: int) -> float | None:
    """Seconds that an answer asks to wait, or nothing when it does not say.

    Reads `Retry-After` as seconds or as a date (RFC 9110 section 10.2.3), else GitHub's
    `X-RateLimit-Reset` when no request remains. Header names may have any case; `now` is
    microseconds UTC. An unreadable value counts as not said.
    """
    known = {name.lower(): value.strip() for name, value in headers.items()}
    wait: float | None = None
    if asked := known.get("retry-after"):
        wait = float(asked) if asked.isdecimal() else _until(asked, now)
    elif known.get("x-ratelimit-remaining") == "0":
        reset = known.get("x-ratelimit-reset", "")
        wait = int(reset) - now / SECOND + 1 if reset.isdecimal() else None
    return None if wait is None else min(max(wait, 0.0), _LONGEST_RETRY_AFTER)


def _until(date: str, now: int) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - now / SECOND
    except (ValueError, OverflowError):
        return None
