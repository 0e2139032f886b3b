"""Options that many commands share, and the questions they ask."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from responder.cli._client import DEFAULT_SERVER, Client
from responder.cli._errors import USAGE, CliError

__all__ = [
    "confirm",
    "dry_run",
    "duration",
    "form",
    "local_config",
    "read_input",
    "reason",
    "remote",
    "yes",
]

F = TypeVar("F", bound=Callable[..., Any])
_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

form = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "wide", "json", "yaml", "name"]),
    default="table",
    help="How to print.",
)
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
reason = click.option("--reason", default="", help="Why; others read it.")
dry_run = click.option("--dry-run", is_flag=True, help="Show what would happen, change nothing.")
local_config = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The configuration file (default: ./config.toml if it is there).",
)


def remote(command: F) -> Any:
    """Give a command a `client` for the server that the options name."""

    @click.option(
        "--server",
        envvar="RESPONDER_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        help="The server's address.",
    )
    @click.option("--token-file", default="", help="A file that holds the token.")
    @click.option("--ca", default="", help="A file with the CA of the server's certificate.")
    @functools.wraps(command)
    def wrapped(*args: Any, server: str, token_file: str, ca: str, **kwargs: Any) -> Any:
        return command(Client(server, token_file, ca), *args, **kwargs)

    return wrapped


def confirm(question: str, *, already: bool) -> None:
    """Ask once; off a terminal an unanswered question is an error that names the flag."""
    if already:
        return
    if not sys.stdin.isatty():
        raise CliError(f"{question} Nobody can be asked here.", code=USAGE, fix="add --yes")
    if not click.confirm(question, err=True):
        raise CliError("nothing was done", code=1)


def duration(text: str) -> int:
    """Seconds of `90s`, `30m`, `2h`, `1d`."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise CliError(f'"{text}" is no duration', code=USAGE, fix="like 30m, 2h or 1d")
    return int(found[1]) * _UNITS[found[2]]


def read_input(file: str) -> bytes:
    """A file's bytes; `-` is stdin."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as failure:
        raise CliError(f"cannot read {file}", code=USAGE, why=failure.strerror or "") from None
