"""The server in one look, and the big switch."""

from __future__ import annotations

import click

from responder.cli import _options as options
from responder.cli._client import Client
from responder.cli._output import emit, say

__all__ = ["pause", "resume", "status"]

_needed = click.option("--reason", required=True, help="Why; others read it at 3 a.m.")


@click.command()
@options.remote
@options.form
def status(client: Client, form: str) -> None:
    """Paused, degraded, draining, version, counts."""
    value = client.get("/v1/status")
    if form in {"table", "wide"}:
        counts = value.get("counts", {})
        value |= {"asking": counts.get("runs.waiting-approval", 0)}
    columns = [
        ("VERSION", "version"),
        ("PAUSED", "paused"),
        ("DEGRADED", "degraded"),
        ("DRAINING", "draining"),
        ("ASKING", "asking"),
        ("BUSY", "busy"),
    ]
    emit(value, form, columns, [("PLAYBOOKS", "playbooks"), ("HOOKS", "hooks")], "version")


@click.command()
@_needed
@options.remote
def pause(client: Client, reason: str) -> None:
    """Hold every new change; reading and undoing go on."""
    said = client.post("/v1/pause", {"reason": reason})["paused"]
    say(f"paused: {said}")


@click.command()
@_needed
@options.remote
def resume(client: Client, reason: str) -> None:
    """Let changes go on. Another way of pausing may still hold."""
    still = client.post("/v1/resume", {"reason": reason})["paused"]
    say(f"still paused: {still}" if still else "changes go on")
