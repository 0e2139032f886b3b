"""One tree of failures; the class says what the caller must do next.

Texts put the subject first, show both sides ("expected …, got …") and name the next step.
None of them ever carries a request or response body: bodies may hold secrets.
"""

from __future__ import annotations

__all__ = [
    "BadAlert",
    "BadRequest",
    "ConfigError",
    "Conflict",
    "Forbidden",
    "NotFound",
    "PlaybookError",
    "Problem",
    "ResponderError",
    "StepFailed",
    "StepRetry",
    "StoreUnavailable",
    "Unauthorized",
    "Uncertain",
]


class ResponderError(Exception):
    """Base of everything this product raises on purpose."""


class ConfigError(ResponderError):
    """The configuration cannot be used; the text names the file, the key and the way out."""


class Problem:
    """One fault in a playbook: where it is, what is wrong, and the likely fix."""

    __slots__ = ("code", "column", "file", "fix", "line", "message")

    def __init__(
        self, file: str, line: int, column: int, code: str, message: str, fix: str = ""
    ) -> None:
        self.file, self.line, self.column = file, line, column
        self.code, self.message, self.fix = code, message, fix

    def __str__(self) -> str:
        """The form editors and terminals link: file:line:column."""
        tail = f" ({self.fix})" if self.fix else ""
        return f"{self.file}:{self.line}:{self.column}: {self.code} {self.message}{tail}"

    __repr__ = __str__


class PlaybookError(ResponderError):
    """A playbook is refused; `problems` lists every fault with file, line and column."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class BadAlert(ResponderError):
    """An authentic payload that cannot be read; `pointer` is the JSON pointer of the fault."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class BadRequest(ResponderError):
    """What was asked cannot be done as it stands; `pointer` names the part at fault."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class Unauthorized(ResponderError):
    """Nobody known is asking: no credential, or one that does not hold.

    `challenge` is what the answer invites to send, where it is not a bearer token.
    """

    def __init__(self, message: str = "", challenge: str = "") -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(ResponderError):
    """Somebody known may not do this; the text says who may."""


class NotFound(ResponderError):
    """The thing asked for does not exist."""


class Conflict(ResponderError):
    """The world is not what the plan saw; plan again."""


class StoreUnavailable(ResponderError):
    """The store cannot take the write now; nothing was acknowledged. Try again later."""


class StepRetry(ResponderError):
    """Temporary: nothing happened outside, try again after `after` seconds.

    `turned_away`: a rate limit said when to come back, so it counts for no attempt of the step.
    `anew`, from a look at what goes on elsewhere: that is over without an end of its own, so it is
    begun again, as another attempt.
    """

    def __init__(
        self,
        message: str,
        *,
        after: float = 5.0,
        turned_away: bool = False,
        anew: bool = False,
    ) -> None:
        super().__init__(message)
        self.after = after
        self.turned_away = turned_away
        self.anew = anew


class StepFailed(ResponderError):
    """Final: trying again cannot help."""


class Uncertain(ResponderError):
    """It may have happened: look before anything is repeated."""
