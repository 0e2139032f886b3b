"""What the machine asks for: one command for each thing to do, and the decision that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from responder.store.interface import Event

__all__ = ["Command", "Decision", "Kind", "record"]


class Kind(StrEnum):
    """What a driver is asked to do."""

    RECORD = "record"  # append the event that comes with the command; nothing else
    RESOLVE = "resolve"  # ask what the target is now
    PLAN = "plan"  # evaluate the step's expressions, plan it, pass the guard
    APPLY = "apply"
    POLL = "poll"
    VERIFY = "verify"
    UNDO = "undo"
    UNDO_POLL = "undo_poll"
    RECHECK = "recheck"  # verify again what was contained
    REASSERT = "reassert"  # put back what somebody else took away


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One thing to do now. `step` is a step or a for_each instance."""

    kind: Kind
    step: str = ""
    attempt: int = 1
    resumed: bool = False
    event: Event | None = None

    @property
    def place(self) -> str:
        """What it keeps busy: its step, but for a look, which hinders nothing else there."""
        return f"{self.step}?" if self.kind is Kind.RECHECK else self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The commands of the moment, and what the run waits for when there are none."""

    commands: tuple[Command, ...] = ()
    due: int | None = None
    status: str = "running"
    waiting_for: str = ""


def record(type_: str, at: int, **data: object) -> Command:
    """The command to append one event and nothing else."""
    return Command(kind=Kind.RECORD, step=str(data.get("step", "")), event=Event(type_, at, data))
