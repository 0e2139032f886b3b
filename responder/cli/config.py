"""The configuration as the server reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from responder.cli import _options as options
from responder.cli._output import yaml
from responder.text import SOUNDS_SECRET, for_terminal, veiled

__all__ = ["config"]

# what is no secret in a hook's `auth`, whose tables hold little else
_OPEN = {"username", "name", "header", "prefix", "encoding", "timestamp_header"}


@click.group(no_args_is_help=True)
def config() -> None:
    """Configuration."""


@config.command()
@options.local_config
@click.option("--origin", is_flag=True, help="Where each value comes from.")
@click.option("-o", "--output", "form", type=click.Choice(["text", "json", "yaml"]), default="text")
def show(config: Path | None, form: str, *, origin: bool) -> None:
    """Every value in force, secrets as ***, with --origin its file, variable or flag.

    A secret that somebody wrote out instead of naming it is hidden by its key.
    """
    from responder.cli import _offline
    from responder.ports import redact

    settings = _offline.settings(config)
    value = _hidden(redact(settings.model_dump(mode="python")))
    if form == "json":
        click.echo(json.dumps(value, indent=2, default=str))
        return
    if form == "yaml":
        click.echo("\n".join(yaml(json.loads(json.dumps(value, default=str)))))
        return
    for key, item in _flat(value):
        came = f"  # {settings.origins.get(key, 'default')}" if origin else ""
        click.echo(for_terminal(f"{key} = {json.dumps(item, default=str)}{came}"))


def _hidden(value: Any, key: str = "", *, in_auth: bool = False) -> Any:
    if isinstance(value, dict):
        inside = in_auth or key == "auth"
        return {name: _hidden(item, str(name), in_auth=inside) for name, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item, key, in_auth=in_auth) for item in value]
    if not isinstance(value, str):
        return value
    secret = key not in _OPEN if in_auth else SOUNDS_SECRET.search(key)
    return "***" if secret and value else veiled(value)


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{name}.")
        else:
            yield name, item
