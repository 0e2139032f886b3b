"""API tokens: create, list, revoke."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import click

from responder.cli import _options as options
from responder.cli._client import Client, quoted
from responder.cli._output import emit, say

__all__ = ["token"]

COLUMNS = [
    ("ID", "id"),
    ("PERSON", "person"),
    ("ROLE", "role"),
    ("EXPIRES", "expires"),
    ("REVOKED", "revoked"),
]


@click.group(no_args_is_help=True)
def token() -> None:
    """Tokens for people and machines. Only their hash is stored."""


@token.command()
@click.option("--person", required=True, help="Whose it is.")
@click.option(
    "--role",
    type=click.Choice(["viewer", "responder", "approver", "admin"]),
    default="viewer",
    show_default=True,
)
@click.option("--days", default=90, show_default=True)
@click.option("--local", is_flag=True, help="Write into the store itself; the server is stopped.")
@options.local_config
@options.remote
def create(
    client: Client, person: str, role: str, days: int, config: Path | None, *, local: bool
) -> None:
    """Make a token; its secret is printed once, alone on stdout.

    The first one is made with --local, by whoever may read the store's file.
    """
    if local:
        made = _made_locally(config, person, role, days)
    else:
        made = client.post("/v1/tokens", {"person": person, "role": role, "days": days})
    click.echo(made["secret"])
    say(f"{made['id']} for {person} ({role}, {days} days); the secret is not shown again")


def _made_locally(config: Path | None, person: str, role: str, days: int) -> dict[str, Any]:
    import asyncio

    from responder.cli import _offline
    from responder.wiring import offline

    settings = _offline.settings(config)
    make = offline.create_token
    found: dict[str, Any] = asyncio.run(make(settings, getpass.getuser(), person, role, days))
    return found


@token.command("list")
@options.remote
@options.form
def list_(client: Client, form: str) -> None:
    """All tokens, without their secrets."""
    wide = [("CREATED", "created"), ("LAST USED", "last_used")]
    emit(client.get("/v1/tokens"), form, COLUMNS, wide)


@token.command()
@click.argument("token_id")
@options.yes
@options.remote
def revoke(client: Client, token_id: str, *, yes: bool) -> None:
    """End a token at once; open streams of it end too."""
    options.confirm(f"Revoke {token_id}?", already=yes)
    client.raw("DELETE", f"/v1/tokens/{quoted(token_id)}")
    say(f"revoked {token_id}")
