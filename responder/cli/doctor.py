"""Check what the server needs before it is needed: one line each, with the way out."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from responder.cli import _options as options
from responder.cli._errors import FAILED
from responder.cli._output import paint
from responder.errors import ResponderError
from responder.text import for_terminal

if TYPE_CHECKING:
    from responder.settings import Settings

__all__ = ["doctor"]

Finding = tuple[str, str, str, str]  # ok | warn | fail, what, what was seen, the fix
_FILES = 1024
_WARN = "warn: "  # how an integration's check begins what a person should know
_SHADES = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@options.local_config
def doctor(config: Path | None) -> None:
    """Configuration, store, limits, and every integration; exit 1 when something fails."""
    failed = False
    for state, what, seen, fix in _findings(config):
        failed |= state == "fail"
        mark = paint(f"{state:<4}", _SHADES[state])
        click.echo(f"{mark}  {for_terminal(what)}: {for_terminal(seen)}")
        if fix:
            click.echo(f"      fix: {for_terminal(fix)}")
    if failed:
        click.get_current_context().exit(FAILED)


def _findings(config: Path | None) -> Iterator[Finding]:
    from responder.cli import _offline

    yield _files()
    try:
        settings = _offline.settings(config)
    except ResponderError as failure:
        yield "fail", "configuration", str(failure), "see config.example.toml"
        return
    mode = settings.guards.mode.value
    yield "ok", "configuration", f"{len(settings.hooks)} hooks, mode {mode}", ""
    yield from asyncio.run(_gathered(settings))


async def _gathered(settings: Settings) -> list[Finding]:
    return [finding async for finding in _asked(settings)]


async def _asked(settings: Settings) -> AsyncIterator[Finding]:
    """Build the server without its doors, and ask each part."""
    from responder import wiring

    try:
        async with wiring.build(settings, idle=True) as app:
            for name, state in (await app.service.ready()).items():
                yield ("ok" if state.startswith("ok") else "fail"), name, state, ""
            for integration in app.integrations:
                for name, check in integration.checks.items():
                    yield await _checked(name, check())
    except ResponderError as failure:
        yield "fail", "server", str(failure), "stop a server that uses the same store, then again"


async def _checked(name: str, check: object) -> Finding:
    """One integration's own check; its text says what is missing."""
    try:
        async with asyncio.timeout(20):
            seen = str(await check)  # type: ignore[misc]
    except TimeoutError:
        return "fail", name, "no answer within 20 s", "is it reachable from here?"
    except ResponderError as failure:
        return "fail", name, str(failure), ""
    if seen.startswith(_WARN):
        return "warn", name, seen.removeprefix(_WARN), ""
    return "ok", name, seen or "ok", ""


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _FILES:
        return "ok", "open files", str(soft), ""
    return "warn", "open files", f"{soft} (of {hard})", "raise it: ulimit -n 4096"
