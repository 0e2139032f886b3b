"""Who did what, when, through which door, on which plan."""

from __future__ import annotations

import click

from responder.cli import _options as options
from responder.cli._client import Client
from responder.cli._errors import FAILED
from responder.cli._output import emit, say

__all__ = ["audit"]

COLUMNS = [
    ("ID", "id"),
    ("AT", "at"),
    ("PERSON", "person"),
    ("DOOR", "door"),
    ("VERB", "verb"),
    ("OBJECT", "object"),
    ("PLAN", "plan"),
]


@click.group(no_args_is_help=True)
def audit() -> None:
    """The audit, chained by hash."""


@audit.command("list")
@click.option("--after", default=0, help="Only entries with a greater id.")
@click.option("--limit", default=50, show_default=True)
@options.remote
@options.form
def list_(client: Client, after: int, limit: int, form: str) -> None:
    """Oldest first."""
    page = client.get("/v1/audit", after=after, limit=limit)
    emit(page, form, COLUMNS, [("ADDRESS", "address"), ("HASH", "hash")])


@audit.command()
@options.remote
def verify(client: Client) -> None:
    """Recompute the chain; exit 1 when it is broken."""
    found = client.get("/v1/audit/verification")
    say("the chain holds" if found["ok"] else f"the chain is broken: {found['detail']}")
    if not found["ok"]:
        click.get_current_context().exit(FAILED)
