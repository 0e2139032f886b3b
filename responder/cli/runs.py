"""Start a playbook by hand, and look at plans before anything happens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from responder.cli import _options as options
from responder.cli._client import Client, quoted
from responder.cli._errors import FAILED, USAGE, CliError
from responder.cli._find import find_step, incident_path, waits
from responder.cli._output import emit, say
from responder.cli._story import line

__all__ = ["plan", "run"]

_inputs = click.option(
    "-i",
    "--input",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input; NAME:=JSON for lists and maps. May be repeated.",
)


@click.command()
@click.argument("playbook")
@_inputs
@options.reason
@click.option("--mode", type=click.Choice(["observe", "approve", "enforce"]), default=None)
@click.option("--incident", type=int, default=None, help="Join this incident.")
@click.option("--key", default="", help="Idempotency key: the same key starts it once.")
@click.option("-w", "--watch", is_flag=True, help="Show the story until it ends.")
@options.dry_run
@options.form
@options.remote
def run(  # noqa: PLR0913, PLR0917 - its options
    client: Client,
    playbook: str,
    pairs: tuple[str, ...],
    reason: str,
    mode: str | None,
    incident: int | None,
    key: str,
    form: str,
    *,
    watch: bool,
    dry_run: bool,
) -> None:
    """Start PLAYBOOK.

    \b
    responder run quarantine-pod -i pod=shop/cart-7f9c --reason "seen in the proxy log"
    """
    inputs = _parsed(pairs)
    if dry_run:
        _preview(client, playbook, inputs, form)
        return
    body: dict[str, Any] = {"playbook": playbook, "inputs": inputs, "reason": reason}
    body |= {name: v for name, v in (("mode", mode), ("incident", incident)) if v is not None}
    answer = client.post("/v1/runs", body, Idempotency_Key=key or _new_key())
    emit(answer, form, [("RUN", "run"), ("INCIDENT", "incident")], name="run")
    say(f"watch it: responder incident watch {answer['incident']}")
    if watch:
        for event in client.events(incident_path(str(answer["incident"])) + "/events"):
            click.echo(line(event.entry))


@click.command()
@click.argument("what")
@click.argument("step", default="")
@_inputs
@options.form
@options.remote
def plan(client: Client, what: str, step: str, pairs: tuple[str, ...], form: str) -> None:
    """Show what a PLAYBOOK would change now, or the plan of an incident's STEP.

    Exit code 0: nothing would change, 1: something would, 2: the plan could not be made.
    """
    if what.startswith(("run_", "#", "@")) or what.isdecimal():
        fits = _has_plan if step else waits
        found, one = find_step(client, what, step, fits, "has a plan that waits for a decision")
        shown = client.get(f"/v1/runs/{quoted(found['id'])}/steps/{quoted(one['id'])}/plan")
        _show(shown, form)
        changes = shown["plan"].get("changes")
    else:
        changes = _preview(client, what, _parsed(pairs), form)
    if changes:
        click.get_current_context().exit(FAILED)


def _preview(client: Client, playbook: str, inputs: dict[str, Any], form: str) -> list[Any]:
    try:
        answer = client.post("/v1/preview", {"playbook": playbook, "inputs": inputs})
    except CliError as failure:
        if failure.exit_code == FAILED:  # the plan could not be made
            raise failure.ending_with(USAGE) from None
        raise
    if form in {"json", "yaml"}:
        emit(answer, form)
    for step in answer["steps"] if form not in {"json", "yaml"} else ():
        click.echo(f"{step['step']}: {_text(step['plan'].get('summary', ''))}")
        for change in step["plan"].get("changes", ()):
            click.echo(f"  {_change(change)}")
        for open_ in step["plan"].get("residual", ()):
            click.echo(f"  will not achieve: {_text(open_)}")
    return [change for step in answer["steps"] for change in step["plan"].get("changes", ())]


def _has_plan(step: Mapping[str, Any]) -> bool:
    return bool(step["plan_hash"])


def _change(change: dict[str, Any]) -> str:
    ref = change.get("ref", {})
    place = "/".join(part for part in (ref.get("namespace"), ref.get("name")) if part)
    return _text(f"{change.get('verb', '')} {ref.get('kind', '')} {place}".strip())


def _show(shown: dict[str, Any], form: str) -> None:
    if form in {"json", "yaml"}:
        emit(shown, form)
        return
    for text in str(shown["diff"]).splitlines():
        click.echo(_text(text))
    say(f"plan {shown['hash']}")


def _text(text: str) -> str:
    from responder.text import for_terminal

    return for_terminal(text)


def _parsed(pairs: tuple[str, ...]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CliError(f'"{pair}" is no input', code=USAGE, fix="--input name=value")
        if not name.endswith(":"):
            inputs[name] = value
            continue
        try:
            inputs[name[:-1]] = json.loads(value)
        except ValueError:
            raise CliError(f"{name[:-1]}: its value is not JSON", code=USAGE) from None
    return inputs


def _new_key() -> str:
    """A fresh key, so that a request that http.client repeats starts one run."""
    from responder.clock import SystemClock, SystemIds

    return SystemIds().new("key", SystemClock().now())
