"""How a command ends: the exit codes, and the one shape of an error.

0 done · 1 failed, or (plan, lint) differences · 2 usage or configuration · 3 waiting or timed
out · 4 not allowed · 5 not found · 6 server unreachable · 130 interrupted.
"""

from __future__ import annotations

from typing import IO, Any

import click

from responder import errors
from responder.text import for_terminal

__all__ = [
    "DENIED",
    "FAILED",
    "INTERRUPTED",
    "MISSING",
    "UNREACHABLE",
    "USAGE",
    "WAITING",
    "CliError",
    "of_product",
]

FAILED, USAGE, WAITING, DENIED, MISSING, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130


class CliError(click.ClickException):
    """What went wrong, why, how to mend it, and where to read more: one line each, on stderr."""

    def __init__(
        self, what: str, *, code: int = FAILED, why: str = "", fix: str = "", more: str = ""
    ) -> None:
        super().__init__(what)
        self.exit_code = code  # type: ignore[misc]  # click reads it from the instance
        self.why, self.fix, self.more = why, fix, more

    def ending_with(self, code: int) -> CliError:
        """The same error with another exit code."""
        return CliError(self.message, code=code, why=self.why, fix=self.fix, more=self.more)

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it; control characters of outside text are escaped."""
        heads = [for_terminal(line) for line in self.message.splitlines()] or [""]
        text = [f"error: {heads[0]}", *(f"       {line}" for line in heads[1:])]
        rest = (("why", self.why), ("fix", self.fix), ("more", self.more))
        text += [f"  {name:<5} {for_terminal(line)}" for name, line in rest if line]
        click.echo("\n".join(text), file=file, err=file is None)


def of_product(failure: errors.ResponderError) -> CliError:
    """The same failure as a command's end."""
    codes = (
        (errors.ConfigError, USAGE),
        (errors.BadRequest, USAGE),
        (errors.BadAlert, USAGE),
        (errors.NotFound, MISSING),
        (errors.Forbidden, DENIED),
        (errors.Unauthorized, DENIED),
    )
    code = next((code for kind, code in codes if isinstance(failure, kind)), FAILED)
    return CliError(str(failure), code=code)
