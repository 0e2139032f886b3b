"""Say yes, say no, take back, give more time, end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from responder.cli import _options as options
from responder.cli._client import Client, quoted
from responder.cli._errors import FAILED, CliError
from responder.cli._find import find_step, runs_of, waits
from responder.cli._output import say

__all__ = ["approve", "cancel", "deny", "extend", "undo"]

_PREFIX = 4  # characters of a plan's hash that are enough to mean it
_plan = click.option("--plan", default="", help="Hash of the plan that is meant (4 or more).")


@click.command()
@click.argument("number")
@click.argument("step", default="")
@_plan
@options.reason
@options.yes
@options.dry_run
@options.remote
def approve(
    client: Client, number: str, step: str, plan: str, reason: str, *, yes: bool, dry_run: bool
) -> None:
    """Say yes to the plan of the step that waits in incident NUMBER (or run_…)."""
    run, one = find_step(client, number, step, waits, "waits for a decision")
    hash_ = _meant(client, run, one, plan, show=not plan or dry_run)
    if dry_run:
        return
    options.confirm(f"Approve plan {hash_} of step {one['id']}?", already=yes or bool(plan))
    _say_so(client, run, one, "approve", {"plan": hash_, "reason": reason})
    say(f"approved {one['id']} of {run['id']}")


@click.command()
@click.argument("number")
@click.argument("step", default="")
@_plan
@options.reason
@options.yes
@options.remote
def deny(client: Client, number: str, step: str, plan: str, reason: str, *, yes: bool) -> None:
    """Say no to the plan of the step that waits."""
    run, one = find_step(client, number, step, waits, "waits for a decision")
    hash_ = _meant(client, run, one, plan, show=False)
    options.confirm(f"Deny plan {hash_} of step {one['id']}?", already=yes or bool(plan))
    _say_so(client, run, one, "deny", {"plan": hash_, "reason": reason})
    say(f"denied {one['id']} of {run['id']}")


@click.command()
@click.argument("number")
@click.argument("step", default="")
@options.reason
@options.yes
@options.dry_run
@options.remote
def undo(client: Client, number: str, step: str, reason: str, *, yes: bool, dry_run: bool) -> None:
    """Take back what a STEP applied; works while paused and after the run has ended."""
    run, one = find_step(client, number, step, lambda s: bool(s["undoable"]), "can be undone")
    if dry_run:
        shown = client.get(_path(run, one, "plan"))
        say(f"would undo: {one['summary']}\n{shown['plan'].get('undo', '')}")
        return
    options.confirm(f"Undo step {one['id']} ({one['summary']})?", already=yes)
    _say_so(client, run, one, "undo", {"reason": reason})
    say(f"undoing {one['id']}; watch it: responder incident watch {run['incident']}")


@click.command()
@click.argument("number")
@click.argument("step", default="")
@click.option("--for", "time", default="1h", show_default=True, help="How much more: 30m, 2h …")
@options.reason
@options.remote
def extend(client: Client, number: str, step: str, time: str, reason: str) -> None:
    """Give the wait, or the containment that ends by itself, more time."""
    run, one = find_step(client, number, step, _has_deadline, "has a deadline")
    body = {"seconds": options.duration(time), "reason": reason}
    say(f"{one['id']} now until {client.post(_path(run, one, 'extend'), body)['until']}")


@click.command()
@click.argument("number")
@options.reason
@options.yes
@options.remote
def cancel(client: Client, number: str, reason: str, *, yes: bool) -> None:
    """End the open run of an incident, or run_…; what it applied stays until undone."""
    open_runs = [run for run in runs_of(client, number) if not run["outcome"]]
    if len(open_runs) != 1:
        ids = ", ".join(run["id"] for run in open_runs)
        raise CliError(
            f"{number}: {'more than one run is' if ids else 'no run is'} open",
            code=FAILED,
            fix=f"name one: {ids}" if ids else "",
        )
    run = open_runs[0]
    options.confirm(f"Cancel {run['id']} ({run['playbook']})?", already=yes)
    client.post(f"/v1/runs/{quoted(run['id'])}/cancel", {"reason": reason})
    say(f"cancelling {run['id']}; undo what it did: responder undo {run['incident']}")


def _has_deadline(step: Mapping[str, Any]) -> bool:
    return bool(step["status"] == "waiting-approval" or step.get("expires"))


def _meant(
    client: Client, run: Mapping[str, Any], step: Mapping[str, Any], plan: str, *, show: bool
) -> str:
    """The hash of the waiting plan, when it is the one that the person has seen."""
    hash_ = str(step["plan_hash"])
    if plan and (len(plan) < _PREFIX or not hash_.startswith(plan)):
        raise CliError(
            f"the plan is {hash_}, not {plan}",
            code=FAILED,
            why="it was made again since, or the hash is too short",
            fix=f"responder plan {run['incident']} {step['id']}",
        )
    if show and hash_:
        say(str(client.get(_path(run, step, "plan"))["diff"]))
    return hash_


def _path(run: Mapping[str, Any], step: Mapping[str, Any], verb: str) -> str:
    return f"/v1/runs/{quoted(run['id'])}/steps/{quoted(step['id'])}/{verb}"


def _say_so(
    client: Client,
    run: Mapping[str, Any],
    step: Mapping[str, Any],
    verb: str,
    body: Mapping[str, Any],
) -> None:
    client.post(_path(run, step, verb), body)
