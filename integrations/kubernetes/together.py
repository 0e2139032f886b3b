"""Several calls at once, none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

__all__ = ["together"]

T = TypeVar("T")


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all of it at once and wait for all of it; the first failure in order is raised as it is.

    A failure does not cancel the rest: each call is bounded in time, and cutting a TLS connection
    in the middle costs the next call a handshake. Being cancelled cancels all of it.
    """
    found = []
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
