"""The command line: the same verbs as the API, one file for each group of commands.

Nothing heavy is imported until a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """The console command. Exit codes: see `responder.cli._errors`."""
    from responder.cli.root import run

    run()
