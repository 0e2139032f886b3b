"""Run a playbook on an alert against a rehearsal world; nothing outside is touched."""

from __future__ import annotations

from pathlib import Path

import click

from responder.cli import _options as options
from responder.cli._errors import FAILED
from responder.cli._output import say
from responder.cli._story import line, summary

__all__ = ["rehearse"]


@click.command()
@click.argument("playbook")
@click.argument("alert")
@click.option(
    "--cluster",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="Objects to start from: `kubectl get … -o yaml`.",
)
@click.option("--source", default="falco", show_default=True, help="Who wrote the alert.")
@options.yes
def rehearse(playbook: str, alert: str, cluster: Path | None, source: str, *, yes: bool) -> None:
    """Run PLAYBOOK (a file or a shipped name) on the payload in ALERT.

    With --yes every approval is given; without it the run ends where a person would be asked.
    """
    import asyncio

    from responder.wiring import offline

    body = options.read_input(alert)
    run = offline.rehearse
    result = asyncio.run(run(playbook, body, source=source, cluster=cluster, approve=yes))
    for entry in result["timeline"]:
        click.echo(line(entry))
    say(f"{result['outcome']}: {summary(result['incident'])}; nothing outside was touched")
    if result["outcome"] not in {"succeeded", "waiting-approval"}:
        click.get_current_context().exit(FAILED)
