"""The bodies that the API takes, strict: an unknown key is an error, no type is guessed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from responder.model import Mode, Role

__all__ = [
    "Decision",
    "Explain",
    "Extend",
    "NewToken",
    "Note",
    "Preview",
    "Reason",
    "Start",
    "WithReason",
]

_REASON_MAX = 2000


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reason(_Body):
    """A change that may say why."""

    reason: str = Field("", max_length=_REASON_MAX)


class WithReason(_Body):
    """A change that must say why."""

    reason: str = Field(min_length=1, max_length=_REASON_MAX)


class Note(_Body):
    """A line a person adds to an incident's story."""

    text: str = Field(min_length=1, max_length=10_000)


class Preview(_Body):
    """A playbook and what to call it with."""

    playbook: str = Field(min_length=1, max_length=200)
    inputs: dict[str, Any] = Field(default_factory=dict)


class Start(Preview):
    """A run by hand."""

    reason: str = Field("", max_length=_REASON_MAX)
    mode: Mode | None = None
    incident: int | None = Field(None, ge=1, strict=True)


class Decision(_Body):
    """A yes or no to one plan; its hash binds the answer to what was seen."""

    plan: str = Field(min_length=1, max_length=128)
    reason: str = Field("", max_length=_REASON_MAX)


class Extend(_Body):
    """More time before something ends by itself."""

    seconds: int = Field(ge=1, le=30 * 86_400, strict=True)
    reason: str = Field("", max_length=_REASON_MAX)


class NewToken(_Body):
    """A token for a person or a machine; its secret is shown once, in the answer."""

    person: str = Field(min_length=1, max_length=200)
    role: Role
    days: int = Field(90, ge=1, le=3650, strict=True)


class Explain(_Body):
    """Why would each playbook start, or not: for a sender's payload, or for a parsed alert."""

    hook: str = Field("", max_length=200)
    payload: Any = None
    alert: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Explain:
        if (self.payload is None) == (self.alert is None):
            raise ValueError("expected either payload (with hook) or alert")
        if self.payload is not None and not self.hook:
            raise ValueError("payload needs the hook whose source reads it")
        return self
