"""The doors for senders: which there are, and whether one works."""

from __future__ import annotations

import click

from responder.cli import _options as options
from responder.cli._client import Client, quoted
from responder.cli._output import emit, say

__all__ = ["hook"]

COLUMNS = [
    ("ALERT", "id"),
    ("RULE", "rule"),
    ("KIND", "kind"),
    ("POD", "target.pod"),
    ("WOULD START", "would_start"),
]


@click.group(no_args_is_help=True)
def hook() -> None:
    """Hooks: list them, test one."""


@hook.command("list")
@options.remote
@options.form
def list_(client: Client, form: str) -> None:
    """The configured hooks."""
    names = client.get("/v1/status")["hooks"]
    emit({"items": [{"name": name} for name in names]}, form, [("HOOK", "name")], name="name")


@hook.command()
@click.argument("name")
@options.remote
@options.form
def test(client: Client, name: str, form: str) -> None:
    """Send the sample of NAME's sender through it, as a test: it is stored and starts nothing.

    Shows what would start if it were true. The sender's own credentials are not tried.
    """
    answer = client.post(f"/v1/hooks/{quoted(name)}/test", {})
    emit({"items": answer["alerts"]}, form, COLUMNS)
    say(f"{len(answer['alerts'])} stored as a test; nothing was started")
