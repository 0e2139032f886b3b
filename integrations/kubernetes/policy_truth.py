"""Yes, no and "cannot tell": how the policy evaluator reckons with what it does not know. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["NO", "YES", "Match", "Truth", "any_of", "every", "maybe"]


class Truth(IntEnum):
    """Whether something matches; `MAYBE` is "cannot tell" and is never rounded to either side."""

    NO = 0
    MAYBE = 1
    YES = 2


@dataclass(frozen=True, slots=True)
class Match:
    """A truth; with `MAYBE` comes the reason."""

    truth: Truth
    why: str = ""


NO = Match(Truth.NO)
YES = Match(Truth.YES)


def maybe(why: str) -> Match:
    """A match that cannot be told, with the reason."""
    return Match(Truth.MAYBE, why)


def every(matches: Iterable[Match]) -> Match:
    """All of them: a single no decides, then a single doubt."""
    found = YES
    for match in matches:
        if match.truth is Truth.NO:
            return match
        if match.truth is Truth.MAYBE and found is YES:
            found = match
    return found


def any_of(matches: Iterable[Match]) -> Match:
    """One of them: a single yes decides, then a single doubt."""
    found = NO
    for match in matches:
        if match.truth is Truth.YES:
            return match
        if match.truth is Truth.MAYBE and found is NO:
            found = match
    return found
