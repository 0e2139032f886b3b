"""The one way to call an outside system: deadline, own pool, careful retries, failure classes."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import format_datetime

import pytest

from integrations._calling import Caller, Fault, FaultKind, retry_after
from responder.clock import SECOND, World
from responder.errors import Conflict, NotFound, StepFailed, StepRetry, Uncertain

NOW = 1_790_000_000 * SECOND


class Oops(Exception):
    """What an SDK raises in these tests; carries the fault that it stands for."""

    def __init__(self, kind: FaultKind, after: float | None = None) -> None:
        super().__init__("secret body")
        self.kind, self.after = kind, after


def classify(error: Exception) -> Fault:
    """Read the fault off the error; everything else is final."""
    if isinstance(error, Oops):
        return Fault(error.kind, f"seen {error.kind.value}", error.after)
    return Fault(FaultKind.FINAL, f"unexpected {type(error).__name__}")


class CountingClock:
    """A clock whose sleep takes no time and is written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> CountingClock:
    """The clock of the caller below."""
    return CountingClock()


@pytest.fixture
def caller(clock: CountingClock) -> Iterator[Caller]:
    """A caller of two threads and a deadline of five seconds."""
    made = Caller("forge", World(clock=clock), classify=classify, threads=2, deadline=5)
    yield made
    made.close()


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """A server that takes connections and never says a word; gives its port."""
    ends = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ends.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    ends.set()
    server.close()
    await server.wait_closed()


def wait_on(port: int, seconds: float) -> Callable[[], bytes]:
    """Return a blocking call to a silent server, with a time-out of its own beneath."""

    def call() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as link:
            return link.recv(1)

    return call


def failing(*faults: Oops | None) -> tuple[Callable[[], str], list[int]]:
    """Return a call that raises the faults in turn and then succeeds, and its counter."""
    left, tries = list(faults), [0]

    def call() -> str:
        tries[0] += 1
        if left and (fault := left.pop(0)):
            raise fault
        return "done"

    return call, tries


async def test_a_silent_server_costs_the_deadline_and_not_more(silent: int) -> None:
    """The call ends at its deadline, although the thread is stuck for two seconds more."""
    slow = Caller("forge", World(), classify=classify, threads=2, deadline=1)
    begun = time.monotonic()
    with pytest.raises(StepRetry, match="look had no answer within 1 s"):
        await slow.blocking("look", wait_on(silent, 3))
    assert 1 <= time.monotonic() - begun < 3
    slow.close()


async def test_a_silent_server_stalls_only_itself(silent: int) -> None:
    """Six hung calls of one system: another's calls and a name look-up go on at once."""
    stuck = Caller("forge", World(), classify=classify, threads=2, deadline=1.5)
    well = Caller("registry", World(), classify=classify, threads=2, deadline=1.5)
    hung = [asyncio.create_task(stuck.blocking("look", wait_on(silent, 2))) for _ in range(6)]
    await asyncio.sleep(0.05)
    for _ in range(50):
        assert await well.blocking("look", lambda: "here") == "here"
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    assert not any(call.done() for call in hung)  # all of it went by while they were stuck
    ended = await asyncio.gather(*hung, return_exceptions=True)
    assert {type(item) for item in ended} == {StepRetry}
    stuck.close()
    well.close()


async def test_no_call_runs_in_the_default_pool(caller: Caller) -> None:
    """The thread's name says whose pool it is."""
    name = await caller.blocking("look", lambda: threading.current_thread().name)
    assert name.startswith("call-forge")
    assert getattr(asyncio.get_running_loop(), "_default_executor", None) is None


async def test_a_full_queue_is_refused_at_once() -> None:
    """What cannot wait is told so: nothing happened."""
    gate = threading.Event()
    tiny = Caller("forge", World(), classify=classify, threads=1, waiting=1, deadline=5)
    first = [asyncio.create_task(tiny.blocking("look", gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StepRetry, match="forge is busy: 2 calls wait"):
        await tiny.blocking("look", lambda: None)
    gate.set()
    await asyncio.gather(*first)
    assert await tiny.blocking("look", lambda: "again") == "again"
    tiny.close()


async def test_a_write_that_began_and_was_not_answered_is_uncertain(silent: int) -> None:
    """A write stuck in its thread may have happened; one still queued certainly has not."""
    one = Caller("forge", World(), classify=classify, threads=1, deadline=0.5)
    begun = asyncio.create_task(one.blocking("write", wait_on(silent, 1.5), write=True))
    await asyncio.sleep(0.05)
    queued = asyncio.create_task(one.blocking("write", lambda: None, write=True))
    ended = await asyncio.gather(begun, queued, return_exceptions=True)
    assert [type(item) for item in ended] == [Uncertain, StepRetry]
    one.close()


REFUSED, AMBIGUOUS = Oops(FaultKind.REFUSED), Oops(FaultKind.AMBIGUOUS)


@pytest.mark.parametrize(
    ("faults", "write", "tries", "end"),
    [
        ([REFUSED, None], False, 2, None),
        ([REFUSED, None], True, 2, None),
        ([AMBIGUOUS, None], False, 2, None),
        ([AMBIGUOUS, None], True, 1, Uncertain),
        ([REFUSED] * 5, True, 3, StepRetry),
        ([AMBIGUOUS] * 5, False, 3, StepRetry),
        ([Oops(FaultKind.FINAL)], False, 1, StepFailed),
        ([Oops(FaultKind.NOT_FOUND)], False, 1, NotFound),
        ([Oops(FaultKind.CONFLICT)], True, 1, Conflict),
        ([Oops(FaultKind.REFUSED, after=60)], True, 1, StepRetry),
    ],
)
async def test_only_what_is_safe_to_repeat_is_repeated_at_most_three_times(
    caller: Caller,
    faults: list[Oops],
    write: bool,
    tries: int,
    end: type[Exception] | None,
) -> None:
    """The table of failures: how often it is tried and what comes out; no body in the text."""
    call, counted = failing(*faults)
    if end is None:
        assert await caller.blocking("ask", call, write=write) == "done"
    else:
        with pytest.raises(end, match=r"^forge: ask: seen ") as caught:
            await caller.blocking("ask", call, write=write)
        assert "secret body" not in str(caught.value)
        assert isinstance(caught.value.__cause__, Oops)
    assert counted == [tries]


async def test_an_awaited_call_follows_the_same_table(caller: Caller) -> None:
    """An async SDK gets the same policy: a read is repeated, an unclear write is not."""
    read, reads = failing(AMBIGUOUS, None)
    write, writes = failing(AMBIGUOUS, None)

    async def reading() -> str:
        return read()

    async def writing() -> str:
        return write()

    assert await caller.awaiting("ask", reading) == "done"
    with pytest.raises(Uncertain):
        await caller.awaiting("ask", writing, write=True)
    assert (reads, writes) == ([2], [1])


async def test_retry_after_is_waited_for_and_jitter_is_added(
    caller: Caller, clock: CountingClock
) -> None:
    """A short wish is obeyed within the deadline, never undercut."""
    call, _ = failing(Oops(FaultKind.REFUSED, after=2), None)
    await caller.blocking("ask", call)
    assert len(clock.slept) == 1
    assert 2 < clock.slept[0] < 3


async def test_a_wish_longer_than_the_deadline_becomes_a_due_time(
    caller: Caller, clock: CountingClock
) -> None:
    """Waiting an hour is a row in the store, no sleeping task."""
    call, _ = failing(Oops(FaultKind.REFUSED, after=600))
    with pytest.raises(StepRetry) as caught:
        await caller.blocking("ask", call)
    assert caught.value.after == 600
    assert clock.slept == []


async def test_in_a_full_outage_retries_add_a_tenth_at_most(caller: Caller) -> None:
    """Two hundred calls that all fail cost at most a tenth more, and three at the start."""
    tries = [0]

    def down() -> None:
        tries[0] += 1
        raise Oops(FaultKind.AMBIGUOUS)

    for _ in range(200):
        with pytest.raises(StepRetry):
            await caller.blocking("ask", down)
    assert 200 < tries[0] <= 223


async def test_our_own_failures_pass_as_they_are(caller: Caller) -> None:
    """What a call raises in the product's words is not classified again."""

    def gone() -> None:
        raise NotFound("artifact 7 is gone")

    with pytest.raises(NotFound, match=r"^artifact 7 is gone$"):
        await caller.blocking("ask", gone)


async def test_a_closed_caller_says_that_nothing_happened(caller: Caller) -> None:
    """A call after the end is no traceback."""
    caller.close()
    with pytest.raises(StepRetry, match="was not begun"):
        await caller.blocking("ask", lambda: None, write=True)


async def test_a_cancelled_caller_is_cancelled(caller: Caller, silent: int) -> None:
    """Cancelling the task ends it at once and is not turned into a failure."""
    task = asyncio.create_task(caller.blocking("look", wait_on(silent, 1)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def date(seconds: int) -> str:
    """Return an HTTP date that many seconds from now."""
    import datetime as dt

    moment = dt.datetime.fromtimestamp(NOW / SECOND + seconds, dt.UTC)
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"Retry-After": date(30)}, 30),
        ({"Retry-After": date(-30)}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "99999999999999"}, 3600),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW // SECOND + 9)}, 10),
        ({"X-RateLimit-Remaining": "5", "X-RateLimit-Reset": str(NOW // SECOND + 9)}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "x"}, None),
    ],
)
def test_every_form_of_retry_after_is_read(headers: dict[str, str], wait: float | None) -> None:
    """Seconds, a date, or GitHub's reset time; nonsense counts as not said."""
    assert retry_after(headers, NOW) == wait
