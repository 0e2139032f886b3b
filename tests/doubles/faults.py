"""The faults that a forge's double can show, armed one by one."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum


class Fault(Enum):
    """What goes wrong. ``AFTER`` ones act first: the run exists, its answer is lost."""

    ERROR_AFTER = "502 after acting"
    RESET_AFTER = "reset after acting"
    SLOW_AFTER = "no answer after acting"
    ERROR_BEFORE = "503 before acting"
    RESET_BEFORE = "reset before acting"
    SLOW_BEFORE = "no answer, not acted"
    FORBIDDEN_LIMIT = "403 with Retry-After"
    FORBIDDEN_LIMIT_BODY = "403 secondary limit without Retry-After"
    TOO_MANY = "429 with Retry-After"
    TOO_MANY_BARE = "429 without any header"
    TOO_MANY_DATE = "429 with Retry-After as a date"
    PRIMARY_LIMIT = "403 primary limit with reset time"


ACTING = {Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.SLOW_AFTER}
LIMITS = {
    Fault.FORBIDDEN_LIMIT,
    Fault.FORBIDDEN_LIMIT_BODY,
    Fault.TOO_MANY,
    Fault.TOO_MANY_BARE,
    Fault.TOO_MANY_DATE,
    Fault.PRIMARY_LIMIT,
}


@dataclass
class Faults:
    """What is armed where. ``where`` is an operation: dispatch, list, run, artifacts, zip."""

    armed: dict[str, list[Fault]] = field(default_factory=dict)
    shown: Counter[str] = field(default_factory=Counter)
    hide_runs_for: int = 0  # lists that a new run stays out of
    without_details: bool = False  # as GitHub Enterprise Server up to 3.19: 204 only
    refuse_details: bool = False  # 422 that names the parameter
    archive_gone: bool = False  # 410 at the API
    lies_about_size: bool = False  # says one byte, sends them all
    says_size: int = 0  # says that many bytes, whatever there is
    archive_late: int = 0  # times the kept file answers 410: its minute has passed

    def arm(self, where: str, fault: Fault, times: int = 1) -> None:
        """Show a fault at the next calls of one operation."""
        self.armed.setdefault(where, []).extend([fault] * times)

    def take(self, where: str) -> Fault | None:
        """Return the fault to show now, if any."""
        queue = self.armed.get(where)
        if not queue:
            return None
        fault = queue.pop(0)
        self.shown[f"{where}: {fault.value}"] += 1
        return fault
