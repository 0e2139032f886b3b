"""From what a person types (`42`, `#42`, `@latest`, `run_…`) to the run and step that is meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from responder.cli._client import Client, quoted
from responder.cli._errors import FAILED, MISSING, CliError

__all__ = ["Found", "find_step", "incident_path", "waits"]

Found = tuple[Mapping[str, Any], Mapping[str, Any]]  # run, step
_WAITING = {"waiting-approval", "uncertain"}


def incident_path(reference: str) -> str:
    """The API path of an incident."""
    return f"/v1/incidents/{quoted(reference.lstrip('#'))}"


def waits(step: Mapping[str, Any]) -> bool:
    """Whether a person's answer is awaited."""
    return step["status"] in _WAITING


def runs_of(client: Client, reference: str) -> list[Mapping[str, Any]]:
    """The run of this id, or all runs of the incident."""
    if reference.startswith("run_"):
        return [client.get(f"/v1/runs/{quoted(reference)}")]
    return list(client.get(incident_path(reference))["runs"])


def find_step(
    client: Client,
    reference: str,
    step: str,
    fits: Callable[[Mapping[str, Any]], bool],
    what: str,
) -> Found:
    """The one step that fits; raises `CliError` when there is none, or more than one."""
    runs = runs_of(client, reference)
    pairs = [(run, one) for run in runs for one in run["steps"]]
    named = [pair for pair in pairs if not step or pair[1]["id"] == step]
    if step and not named:
        known = ", ".join(one["id"] for _, one in pairs)
        raise CliError(f'{reference} has no step "{step}"', code=MISSING, fix=f"steps: {known}")
    fitting = [pair for pair in named if fits(pair[1])]
    if not fitting:
        states = ", ".join(f"{one['id']} is {one['status']}" for _, one in named)
        raise CliError(f"{reference}: nothing {what}", code=FAILED, why=states)
    if len(fitting) > 1:
        options = ", ".join(f"{run['id']} {one['id']}" for run, one in fitting)
        raise CliError(
            f"{reference}: more than one step {what}",
            code=FAILED,
            fix=f"name run and step: {options}",
        )
    return fitting[0]
