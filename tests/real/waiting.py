"""Wait for a fact instead of sleeping for luck."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.05


def wait_until(check: Callable[[], T], what: str, seconds: float = 20.0) -> T:
    """Ask until the answer is true and return it.

    Raises TimeoutError that names ``what`` was waited for. It never swallows an error of the check.
    """
    end = time.monotonic() + seconds
    while not (got := check()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(PAUSE)
    return got


async def eventually(check: Callable[[], Awaitable[T]], what: str, seconds: float = 20.0) -> T:
    """Ask until the awaited answer is true and return it; the event loop stays free meanwhile.

    Raises TimeoutError that names ``what`` was waited for. It never swallows an error of the check.
    """
    end = time.monotonic() + seconds
    while not (got := await check()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        await asyncio.sleep(PAUSE)
    return got
