"""Time, ids and chance, passed in so that tests and the simulation own them.

Nothing else in the product reads a clock, makes an id or draws a random number (a lint test
says so). Times are UTC in whole microseconds since 1970.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "SECOND",
    "Clock",
    "Ids",
    "SystemClock",
    "SystemIds",
    "World",
    "duration",
    "iso",
    "sortable_id",
]

SECOND = 1_000_000
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32 in lower case: sorts as bytes
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_CHANCE = 7  # bytes for the 50 bits of chance of one id
_BLOCK = 512 * _CHANCE
_MASK = (1 << 50) - 1


class Clock(Protocol):
    """Where now comes from, and how to wait."""

    def now(self) -> int:
        """Wall clock, microseconds UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let other work go on for this long."""
        ...


class Ids(Protocol):
    """Where new names come from."""

    def new(self, prefix: str, now: int) -> str:
        """A sortable id such as `run_01j9…`: ten characters of time, ten of chance."""
        ...

    def secret(self) -> str:
        """Text that nobody can guess (at least 192 bits)."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemIds:
    """Ids from the operating system's randomness, drawn in blocks: a call for each is slow."""

    def __init__(self) -> None:
        self._block = b""
        self._used = 0

    def new(self, prefix: str, now: int) -> str:
        if self._used >= len(self._block):
            self._block, self._used = secrets.token_bytes(_BLOCK), 0
        part = self._block[self._used : self._used + _CHANCE]
        self._used += _CHANCE
        return sortable_id(prefix, now, int.from_bytes(part, "big") >> 6)

    def secret(self) -> str:
        return secrets.token_urlsafe(32)


def sortable_id(prefix: str, now: int, chance: int) -> str:
    """Join time (milliseconds, 50 bits) and chance (50 bits) into a text that sorts by time."""
    number = ((now // 1000) << 50) | (chance & _MASK)
    pairs = [_PAIRS[(number >> shift) & 1023] for shift in range(90, -1, -10)]
    return f"{prefix}_{''.join(pairs)}"


@dataclass(frozen=True, slots=True)
class World:
    """What a part of the product may ask of the machine it runs on."""

    clock: Clock = field(default_factory=SystemClock)
    ids: Ids = field(default_factory=SystemIds)
    rng: random.Random = field(default_factory=random.SystemRandom)
    observe: Callable[[str, str], None] = lambda _system, _outcome: None  # told of outside calls


def iso(micros: int) -> str:
    """RFC 3339 in UTC with milliseconds, as every door shows times."""
    moment = dt.datetime.fromtimestamp(micros / SECOND, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{micros // 1000 % 1000:03d}Z"


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float:
    """Seconds of a text such as `30s`, `1.5h`, `1h30m`. Raises `ValueError`."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'expected a duration such as "30s" or "4h", got "{text}"')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
