"""The version, and completion for shells."""

from __future__ import annotations

import click

__all__ = ["completion", "version"]


@click.command()
def version() -> None:
    """The version of the installed distribution."""
    from importlib import metadata

    click.echo(metadata.version("runtime-responder"))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what SHELL must source.

    \b
    source <(responder completion bash)
    """
    from click.shell_completion import get_completion_class

    from responder.cli.root import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell} is not known to the library")
    click.echo(found(cli, {}, "responder", "_RESPONDER_COMPLETE").source())
