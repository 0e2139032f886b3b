"""The first two minutes: one alert becomes a patched redeploy, on this machine alone.

Everything runs in one process and one temporary folder: the server, and a rehearsal world of a
cluster, a forge whose pipeline really builds, and a registry. Nothing outside is touched.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from responder.cli._errors import FAILED, UNREACHABLE, WAITING, CliError
from responder.cli._output import paint, say
from responder.cli._story import line, summary
from responder.text import for_terminal

if TYPE_CHECKING:
    from responder.service import Service, Who

__all__ = ["Teller", "demo"]

_DEADLINE = 120.0  # seconds for the story, waits for a person not counted
_GOOD = {"resolved", "closed"}


@click.command()
@click.option("--port", default=8080, show_default=True, help="0 finds a free one.")
@click.option("-y", "--yes", is_flag=True, help="Answer the approval with yes.")
@click.option("--exit", "leave", is_flag=True, help="End after the story.")
def demo(port: int, *, yes: bool, leave: bool) -> None:
    """See it work. Needs nothing: no cluster, no Docker, no configuration.

    \b
    responder demo                 answer the question yourself
    responder demo --yes --exit    the whole story, then the end
    """
    from responder import logs

    logs.set_up("error", "auto")
    asyncio.run(_demo(port, yes=yes, leave=leave))


async def _demo(port: int, *, yes: bool, leave: bool) -> None:
    from responder.wiring.demo import demo as staged

    try:
        async with staged(port=port) as stage:
            _introduce(stage.url, stage.folder)
            teller = Teller(stage.app.service, stage.url, yes=yes, stays=not leave)
            status = await teller.tell(await stage.attack())
            if leave and status not in _GOOD:
                raise CliError(f"the incident is {status}, not resolved", code=FAILED)
            if not leave:
                say(f"\nThe server stays at {stage.url} until Ctrl-C.")
                await asyncio.Event().wait()
    except OSError as failure:
        raise CliError(
            f"cannot listen at 127.0.0.1:{port}",
            code=UNREACHABLE,
            why=failure.strerror or str(failure),
            fix="responder demo --port 0",
        ) from None


def _introduce(url: str, folder: Path) -> None:
    click.echo(f"responder demo at {url}  (Ctrl-C ends it and leaves nothing behind)")
    click.echo("The cluster, the forge and the registry are a rehearsal world in this process;")
    click.echo(f"nothing outside {folder} is touched.\n")


class Teller:
    """Tells an incident's story as it happens, and asks what the story asks."""

    def __init__(self, service: Service, url: str, *, yes: bool, stays: bool = True) -> None:
        self._service = service
        self._url = url
        self._yes = yes
        self._stays = stays

    async def tell(self, number: int) -> str:
        """From the alert to the end; returns the incident's status then."""
        who = self._who()
        try:
            async with asyncio.timeout(None if self._can_ask() else _DEADLINE):
                async for entry in self._service.watch(who, number, 0):
                    if entry is not None:
                        click.echo(line(entry, "detected" if entry["kind"] == "alert" else ""))
                        await self._answer(who, number, entry)
        except TimeoutError:
            raise CliError("the story did not end in time", code=WAITING) from None
        return self._finish(await self._service.incident(who, number))

    async def _answer(self, who: Who, number: int, entry: Mapping[str, Any]) -> None:
        """When the line says that a person is asked: show the plan, and ask or answer."""
        if entry["kind"] != "approval" or entry["data"].get("event") != "approval_asked":
            return
        run, step = str(entry["data"]["run"]), str(entry["data"]["step"])
        plan = await self._service.plan(who, run, step)
        for text in str(plan["diff"]).splitlines():
            if text and (self._can_ask() or text[0] not in "+-"):
                click.echo(paint(f"           {for_terminal(text)}", _shade(text)))
        command = f"responder approve {number} {step} --plan {plan['hash']} --server {self._url}"
        if not self._yes and not await self._ask(command):
            return
        await self._service.decide(who, run, step, True, str(plan["hash"]), "demo")

    async def _ask(self, command: str) -> bool:
        """Whether the person at the terminal says yes; elsewhere the command is shown."""
        if not self._can_ask():
            click.echo(f"           waiting for: {command}")
            return False
        click.echo(f"           or, elsewhere: {command}")
        click.echo("           approve this plan? [y/N] ", nl=False)
        loop = asyncio.get_running_loop()
        typed: asyncio.Future[str] = loop.create_future()
        loop.add_reader(sys.stdin, lambda: typed.set_result(sys.stdin.readline()))
        try:
            return (await typed).strip().lower() in {"y", "yes", "a"}
        finally:
            loop.remove_reader(sys.stdin)

    def _can_ask(self) -> bool:
        return not self._yes and sys.stdin.isatty()

    def _who(self) -> Who:
        found = self._service.anonymous("cli", "127.0.0.1")
        if found is None:
            raise CliError("the demo's server knows nobody on this machine", code=FAILED)
        return found

    def _finish(self, incident: Mapping[str, Any]) -> str:
        number = incident["number"]
        click.echo(f"\n{paint(summary(incident), 'green')}  (incident #{number})")
        click.echo("Verified:")
        for fact in _proven(incident):
            click.echo(f"  {for_terminal(fact)}")
        click.echo("\nNext:")
        if self._stays:
            click.echo(f"  responder incident show {number} --server {self._url}")
        else:
            click.echo("  responder demo            the same, and its server stays to be asked")
        click.echo("  responder playbook show contain-and-rebuild")
        click.echo("  responder init            a real cluster, in observe mode: plans, no changes")
        return str(incident["status"])


def _proven(incident: Mapping[str, Any]) -> list[str]:
    """What was verified for each step that changed something, and what stays open."""
    facts = []
    for run in incident["runs"]:
        for step in run["steps"]:
            if step["verdict"]:
                facts.append(f"{step['id']}: {step['summary']}: {step['verdict']}")
            facts += [f"{step['id']} leaves open: {text}" for text in step["residual"]]
    return facts


def _shade(text: str) -> str:
    return {"+": "green", "-": "red"}.get(text[:1], "")
