"""One brake for all calls to one forge: when it says "slow down", nobody calls until it may.

A forge counts everything that a credential does. One call that is turned away while the others go
on is how an integration gets banned, so the pause is the forge's, not the call's
(https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api).

Never shortens a pause, never sleeps, and never holds a call that has left already.
"""

from __future__ import annotations

import threading

from integrations._calling import Fault
from responder.clock import SECOND, World
from responder.errors import StepRetry

__all__ = ["Brake", "Refused"]

_LEAST = 60.0  # seconds, when nothing says how long: at least a minute, growing
_DOUBLINGS = 5  # up to 32 minutes


class Refused(Exception):
    """An answer that said no, with its meaning: told by the very thread that heard it.

    So that the brake is on before that thread takes its next call.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Brake:
    """The pause of one forge with one credential; safe to use from every thread."""

    def __init__(self, name: str, world: World) -> None:
        self._name = name
        self._clock = world.clock
        self._lock = threading.Lock()
        self._until = 0  # microseconds UTC
        self._since = 0  # when it was last pulled
        self._bare = 0  # refusals in a row that did not say how long

    def left(self) -> float:
        """Seconds until calls may leave again; 0 when they may."""
        return max(0.0, (self._until - self._clock.now()) / SECOND)

    def passing(self, what: str) -> int:
        """Let one call leave and return when; raises `StepRetry` with the seconds that are left."""
        if left := self.left():
            text = f"{self._name}: {what} was held back: its rate limit pauses every call"
            raise StepRetry(text, after=left, turned_away=True)
        return self._clock.now()

    def answered(self, left_at: int) -> None:
        """A call that left at this moment had a good answer: the next pause begins small again."""
        with self._lock:
            if left_at > self._since:
                self._bare = 0

    def heard(self, fault: Fault, *, limit: bool) -> Fault:
        """The same fault, with the wait that the brake puts on it.

        `limit` says that the forge counts our calls. Refusals that arrive while the brake is on
        left before it was: they are one refusal, and the pause does not grow by each.
        """
        if not limit and fault.after is None:
            return fault
        with self._lock:
            now = self._clock.now()
            wait = fault.after
            if wait is None:
                if now < self._until:
                    wait = (self._until - now) / SECOND
                else:
                    wait = _LEAST * 2.0 ** min(self._bare, _DOUBLINGS)
                    self._bare += 1
            self._until = max(self._until, now + int(wait * SECOND))
            self._since = now
        return Fault(fault.kind, fault.text, wait)
