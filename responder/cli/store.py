"""The store itself: check, back up, restore. The server need not run; for a restore it must not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from responder.cli import _options as options
from responder.cli._errors import FAILED
from responder.cli._output import say
from responder.text import for_terminal

if TYPE_CHECKING:
    from responder.settings import Settings

__all__ = ["store"]


@click.group(no_args_is_help=True)
def store() -> None:
    """Check, back up and restore everything durable."""


@store.command()
@options.local_config
def check(config: Path | None) -> None:
    """Integrity, evidence, audit chain, one line each; exit 1 when one does not hold."""
    from responder.cli import _offline

    found = asyncio.run(_check(_offline.settings(config, secrets=False)))
    for name, state in found.items():
        click.echo(f"{'ok  ' if state == 'ok' else 'FAIL'}  {name}  {for_terminal(state)}")
    if any(state != "ok" for state in found.values()):
        click.get_current_context().exit(FAILED)


async def _check(settings: Settings) -> Mapping[str, str]:
    from responder import wiring

    opened = wiring.open_store(settings)
    await opened.open()
    try:
        return await opened.check()
    finally:
        await opened.close()


@store.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@options.local_config
def backup(file: Path, config: Path | None) -> None:
    """A consistent copy into FILE; `cp` of a store at work is not one."""
    from responder.cli import _offline

    click.echo(asyncio.run(_backup(_offline.settings(config, secrets=False), file)))
    say(f"written to {file}; its SHA-256 is above")


async def _backup(settings: Settings, file: Path) -> str:
    from responder import wiring

    opened = wiring.open_store(settings)
    await opened.open()
    try:
        return await opened.backup(str(file))
    finally:
        await opened.close()


@store.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@options.yes
@options.local_config
def restore(file: Path, config: Path | None, *, yes: bool) -> None:
    """Put the backup in FILE in the store's place. The server must be stopped.

    What happened outside since the backup is not in it: open runs look before they act.
    """
    from responder.cli import _offline
    from responder.wiring import offline

    settings = _offline.settings(config, secrets=False)
    options.confirm(f"Replace {settings.store.path} with {file}?", already=yes)
    kept = asyncio.run(offline.restore_store(settings, file))
    say(f"restored; the store that was there is kept as {kept}")
