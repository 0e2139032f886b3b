"""Playbooks: list what is in force; lint, test, show, schema and graph work without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from responder.cli import _options as options
from responder.cli._client import Client, quoted
from responder.cli._errors import FAILED, MISSING, CliError
from responder.cli._output import emit, say
from responder.errors import PlaybookError, Problem
from responder.text import for_terminal, suggestion

if TYPE_CHECKING:
    from responder.playbook.definition import Playbook

__all__ = ["playbook"]

_paths = click.argument(
    "paths", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="[FILE|FOLDER]..."
)


@click.group(no_args_is_help=True)
def playbook() -> None:
    """Playbooks. Without a path, the shipped ones are meant."""


@playbook.command("list")
@options.remote
@options.form
def list_(client: Client, form: str) -> None:
    """The playbooks in force on the server."""
    columns = [("NAME", "name"), ("MODE", "mode"), ("STEPS", "steps"), ("ABOUT", "description")]
    emit(client.get("/v1/playbooks"), form, columns, [("HASH", "hash")], "name")


@playbook.command()
@_paths
@click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json", "github"]), default="text"
)
def lint(paths: tuple[Path, ...], form: str) -> None:
    """Check files: each fault with file, line, column and the likely fix. Exit 1 on any."""
    from responder.cli import _offline

    problems: list[Problem] = []
    count = 0
    try:
        count = len(_offline.playbooks(paths))
    except PlaybookError as failure:
        problems = failure.problems
    if form == "json":
        click.echo(json.dumps([_as_json(problem) for problem in problems], indent=2))
    for problem in problems if form != "json" else ():
        click.echo(_github(problem) if form == "github" else for_terminal(str(problem)))
    say(f"{len(problems)} problems" if problems else f"{count} playbooks, no problem")
    if problems:
        click.get_current_context().exit(FAILED)


@playbook.command()
@_paths
def test(paths: tuple[Path, ...]) -> None:
    """Run the cases written in the playbooks against a rehearsal world. Exit 1 on a failure."""
    import asyncio

    from responder.cli import _offline
    from responder.wiring import offline

    loaded = _offline.playbooks(paths)
    run = offline.test_playbooks  # -> [(playbook, line, ok, detail)]
    results = asyncio.run(run(loaded))
    for name, at, ok, detail in results:
        click.echo(f"{'ok  ' if ok else 'FAIL'}  {name}:{at}  {for_terminal(detail)}".rstrip())
    failed = sum(not ok for _, _, ok, _ in results)
    say(f"{len(results)} cases, {failed} failed")
    if failed:
        click.get_current_context().exit(FAILED)


@playbook.command()
@click.argument("name")
@click.option("--server-side", is_flag=True, help="The one in force on the server.")
@options.remote
def show(client: Client, name: str, *, server_side: bool) -> None:
    """The text of a playbook: a file, a shipped name, or the one in force."""
    held = client.get(f"/v1/playbooks/{quoted(name)}") if server_side else None
    text = str(held["text"]) if held else _one(name).text
    click.echo("\n".join(for_terminal(line) for line in text.splitlines()))


@playbook.command("import-talon")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="RULES.yaml...",
)
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), help="Write files there.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def import_talon(files: tuple[Path, ...], into: Path | None, *, force: bool) -> None:
    """Turn Falco Talon's rules into playbooks; warns of each difference.

    Later files go over earlier ones. Exit 1 when no rule could be turned into a playbook.
    """
    from responder.cli import _offline

    found = _offline.from_talon(files)
    for warning in found.warnings:
        say(f"warning: {warning}")
    for one in found.rules:
        say(f'rule "{one.rule}": ' + (f"REFUSED: {one.refused}" if one.refused else one.name))
        for warning in one.warnings:
            say(f"  warning: {warning}")
    made = {one.name: one.text for one in found.rules if one.text}
    if into is None:
        click.echo("---\n".join(f"# {name}.yaml\n{text}" for name, text in made.items()), nl=False)
    else:
        _write(into, made, force=force)
    say(f"{len(made)} playbooks, {len(found.rules) - len(made)} rules refused")
    if not made:
        click.get_current_context().exit(FAILED)


def _write(folder: Path, made: Mapping[str, str], *, force: bool) -> None:
    """All of the files, or none when one is there already."""
    there = [name for name in made if (folder / f"{name}.yaml").exists()]
    if there and not force:
        raise CliError(f"{folder / there[0]}.yaml is there already", fix="--force replaces it")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


@playbook.command()
def schema() -> None:
    """JSON Schema (draft-07) for editors."""
    from responder.wiring import offline

    click.echo(json.dumps(offline.playbook_schema(), indent=2))


@playbook.command()
@click.argument("name")
def graph(name: str) -> None:
    """The steps of a playbook as a Mermaid diagram."""
    click.echo("\n".join(_mermaid(_one(name))))


def _one(name: str) -> Playbook:
    """The playbook of a file, or the shipped one of this name."""
    from responder.cli import _offline

    path = Path(name)
    loaded: Sequence[Playbook] = _offline.playbooks([path] if path.is_file() else [])
    named = {one.name: one for one in loaded}
    if path.is_file():
        return loaded[0]
    if name not in named:
        raise CliError(f'there is no playbook "{name}"', code=MISSING, fix=suggestion(name, named))
    return named[name]


def _mermaid(loaded: Playbook) -> list[str]:
    """Quoted labels and our own node names: an id must not end the diagram's syntax."""
    nodes = {step: f"s{n}" for n, step in enumerate(loaded.steps)}
    lines = ["flowchart TD"]
    for step, node in nodes.items():
        one = loaded.steps[step]
        ask = " (asks)" if one.approve else ""
        lines.append(f'  {node}["{step}: {one.use}{ask}"]')
        lines += [f"  {nodes[need]} --> {node}" for need in one.needs if need in nodes]
    last = [
        node
        for step, node in nodes.items()
        if not any(step in other.needs for other in loaded.steps.values())
    ]
    for n, one in enumerate(loaded.finally_):
        lines.append(f'  f{n}["finally {one.id}: {one.use}"]')
        lines += [f"  {node} -.-> f{n}" for node in last]
    return lines


def _as_json(problem: Problem) -> dict[str, str | int]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "code": problem.code,
        "message": problem.message,
        "fix": problem.fix,
    }


def _github(problem: Problem) -> str:
    """A workflow command; https://docs.github.com/actions/reference/workflow-commands."""
    text = f"{problem.message} {problem.fix}".strip()
    for mark, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(mark, code)
    where = problem.file
    for mark, code in (("%", "%25"), (":", "%3A"), (",", "%2C"), ("\n", "%0A")):
        where = where.replace(mark, code)
    return (
        f"::error file={where},line={problem.line},col={problem.column},"
        f"title={problem.code}::{for_terminal(text)}"
    )
