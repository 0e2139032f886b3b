"""A clock that a test moves ahead: what the engine would wait for takes no time here.

Client and double share it, so that "slow down for a minute" is over for both at once.
"""

import datetime as dt

from responder.clock import SECOND, SystemClock

__all__ = ["Leaping"]


class Leaping(SystemClock):
    """The real clock and the seconds that were leapt; sleeping still takes its time."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.leaps: list[float] = []

    def now(self) -> int:
        """Wall clock, microseconds UTC."""
        return super().now() + int(self.ahead * SECOND)

    def leap(self, seconds: float) -> None:
        """Be there at once."""
        self.ahead += seconds
        self.leaps.append(seconds)

    def date(self) -> dt.datetime:
        """Now as a double writes it."""
        return dt.datetime.fromtimestamp(self.now() / SECOND, dt.UTC)
