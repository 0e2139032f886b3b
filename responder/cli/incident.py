"""Incidents: list, show, watch, tail, export, note."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from responder.cli import _options as options
from responder.cli._client import Client
from responder.cli._errors import FAILED, USAGE, WAITING, CliError
from responder.cli._find import incident_path, waits
from responder.cli._output import emit, say
from responder.cli._story import incident_lines, line, summary

__all__ = ["incident"]

COLUMNS = [
    ("#", "number"),
    ("SEVERITY", "severity_name"),
    ("STATUS", "status"),
    ("TARGET", "target"),
    ("ALERTS", "alerts"),
    ("OPENED", "opened"),
    ("TITLE", "title"),
]
WIDE = [("UPDATED", "updated")]
_GOOD_ENDS = {"contained", "resolved", "closed"}
_POLL = 2.0


@click.group(no_args_is_help=True)
def incident() -> None:
    """Incidents. `@latest` stands for the newest one."""


@incident.command("list")
@click.option("--status", default="", help="Only this status.")
@click.option("--since", default="", help="Only those opened within 2h, 1d … or after a time.")
@click.option("--limit", default=50, show_default=True)
@click.option("-w", "--watch", is_flag=True, help="Go on: print each incident that changes.")
@options.remote
@options.form
def list_(client: Client, status: str, since: str, limit: int, form: str, *, watch: bool) -> None:
    """Newest first."""
    query = {"status": status, "since": _since(since), "limit": limit}
    page = client.get("/v1/incidents", **query)
    emit(page, form, COLUMNS, WIDE, "number")
    seen = {row["number"]: row["updated"] for row in page["items"]}
    while watch:
        time.sleep(_POLL)
        rows = client.get("/v1/incidents", **query)["items"]
        changed = [row for row in rows if seen.get(row["number"]) != row["updated"]]
        seen |= {row["number"]: row["updated"] for row in changed}
        if changed:
            emit({"items": changed}, form, COLUMNS, WIDE, "number")


@incident.command()
@click.argument("number", default="@latest")
@options.remote
@options.form
def show(client: Client, number: str, form: str) -> None:
    """One incident: stages, runs, steps, and what waits for whom."""
    value = client.get(incident_path(number))
    if form in {"table", "wide"}:
        click.echo("\n".join(incident_lines(value)))
    else:
        emit(value, form, name="number")


@incident.command()
@click.argument("number", default="@latest")
@click.option("--exit-status", is_flag=True, help="Exit 1 unless it ended well.")
@click.option("--timeout", default="", help="Stop after 10m …; exit 3.")
@options.remote
def watch(client: Client, number: str, timeout: str, *, exit_status: bool) -> None:
    """The story live, from its beginning to its end. Ctrl-C stops watching, not the run."""
    path = incident_path(str(client.get(incident_path(number))["number"]))
    seconds = options.duration(timeout) if timeout else None
    try:
        for event in client.events(path + "/events", seconds=seconds):
            click.echo(line(event.entry))
    except KeyboardInterrupt:
        say(f"stopped watching; the run goes on. Again: responder incident watch {number}")
        raise
    value = client.get(path)
    say(f"#{value['number']} is {value['status']}: {summary(value)}")
    if exit_status:
        _judge(value)


def _judge(value: dict[str, Any]) -> None:
    if any(waits(step) for run in value["runs"] for step in run["steps"]):
        raise CliError("a step waits for a decision", code=WAITING)
    if value["status"] not in _GOOD_ENDS:
        raise CliError(f"it ended as {value['status']}", code=FAILED)


@incident.command()
@click.argument("number", default="@latest")
@click.option("-n", "--lines", default=20, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens next.")
@options.remote
def tail(client: Client, number: str, lines: int, *, follow: bool) -> None:
    """The last lines of the story."""
    path = incident_path(number)
    entries = client.get(path + "/timeline")["items"]
    for entry in entries[-lines:] if lines > 0 else []:
        click.echo(line(entry))
    if follow:
        for event in client.events(path + "/events", entries[-1]["id"] if entries else 0):
            click.echo(line(event.entry))


@incident.command()
@click.argument("number", default="@latest")
@click.option("--file", "file", type=click.Path(path_type=Path, dir_okay=False), default=None)
@options.remote
def export(client: Client, number: str, file: Path | None) -> None:
    """Incident, story, alerts and the manifest of its evidence as one JSON document."""
    path = incident_path(number)
    bundle = {
        "incident": client.get(path),
        "timeline": client.get(path + "/timeline")["items"],
        "alerts": client.get(path + "/alerts")["items"],
        "evidence": client.get(path + "/evidence")["items"],
    }
    text = json.dumps(bundle, indent=2)
    if file is None:
        click.echo(text)
        return
    try:
        with file.open("x", encoding="ascii") as out:
            out.write(text + "\n")
    except FileExistsError:
        raise CliError(f"{file} is there already", code=USAGE, fix="name a new file") from None
    say(f"written to {file}; the bytes of the evidence: responder evidence export {number} DIR")


@incident.command()
@click.argument("number")
@click.argument("text")
@options.remote
def note(client: Client, number: str, text: str) -> None:
    """Add a line to the story."""
    client.post(incident_path(number) + "/notes", {"text": text})
    say("noted")


def _since(text: str) -> str:
    """A duration counts back from now; a time stays."""
    if not text or "T" in text:
        return text
    from responder.clock import SECOND, SystemClock, iso

    return iso(max(0, SystemClock().now() - options.duration(text) * SECOND))
