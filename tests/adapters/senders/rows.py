"""One changed sample, and what it must become."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from responder.model import AlertKind
from tests.adapters.senders.parts import changed, sample


@dataclass(frozen=True, slots=True)
class Row:
    """One changed sample and what it must become."""

    source: str
    what: str  # the name in the sender's IGNORED
    kind: AlertKind
    changes: dict[str, Any]
    base: Any = None
    options: dict[str, Any] = field(default_factory=dict)  # of the hook

    @property
    def payload(self) -> Any:
        """The payload itself."""
        return changed(sample(self.source) if self.base is None else self.base, self.changes)

    def name(self) -> str:
        """What a test calls it."""
        told = [f"{path} {value!s:.60}" for path, value in self.changes.items()]
        return f"{self.source}: {self.what} by {' and '.join(told)}"

    @property
    def marks(self) -> tuple[str, ...]:
        """The paths that tell what it is."""
        return tuple(self.changes)
