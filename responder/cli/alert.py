"""Send an alert to a hook, or explain what one would start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from responder.cli import _options as options
from responder.cli._client import Client, quoted
from responder.cli._errors import USAGE, CliError
from responder.cli._output import emit, say
from responder.text import for_terminal

__all__ = ["alert", "why_lines"]


@click.group(no_args_is_help=True)
def alert() -> None:
    """Alerts: send one, or ask what one would start."""


@alert.command()
@click.argument("file")
@click.option("--hook", required=True, help="The hook's name.")
@click.option("--secret-file", default="", help="The hook's bearer secret.")
@options.remote
@options.form
def send(client: Client, file: str, hook: str, secret_file: str, form: str) -> None:
    """Post FILE (- is stdin) to a hook, as its sender would.

    The secret comes from --secret-file or RESPONDER_HOOK_SECRET.
    """
    secret = (
        options.read_input(secret_file).decode("ascii", "replace").strip()
        if secret_file
        else os.environ.get("RESPONDER_HOOK_SECRET", "")
    )
    headers = {"Content-Type": "application/json"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    body = options.read_input(file)
    answer = json.loads(client.raw("POST", f"/v1/hooks/{quoted(hook)}", body, headers))
    columns = [
        ("ALERT", "id"),
        ("INCIDENT", "incident"),
        ("DUPLICATE", "duplicate"),
        ("RUNS", "runs"),
    ]
    emit(
        {"items": answer["alerts"]} if form in {"table", "wide", "name"} else answer, form, columns
    )
    say(f"{len(answer['alerts'])} stored")


@alert.command()
@click.argument("file")
@click.option("--hook", default="", help="Ask the server, as if it came to this hook.")
@click.option("--source", default="falco", show_default=True, help="Offline: who wrote it.")
@click.option(
    "--playbooks",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Offline: files or folders of playbooks (default: the shipped ones).",
)
@options.remote
@options.form
def explain(
    client: Client, file: str, hook: str, source: str, folders: tuple[Path, ...], form: str
) -> None:
    """Show why each playbook would or would not start on the payload in FILE, value by value.

    Without --hook no server is needed and nothing is stored.
    """
    body = options.read_input(file)
    if hook:
        try:
            payload = json.loads(body)
        except ValueError:
            raise CliError(f"{file} is not JSON", code=USAGE) from None
        found = client.post("/v1/explain", {"hook": hook, "payload": payload})["items"]
    else:
        found = _offline(body, source, folders)
    if form in {"json", "yaml"}:
        emit({"items": found}, form)
        return
    for one in found:
        click.echo("\n".join(why_lines(one)))


def _offline(body: bytes, source: str, folders: Sequence[Path]) -> list[dict[str, Any]]:
    from responder.cli import _offline
    from responder.playbook.matching import Index
    from responder.ports import HookInfo
    from responder.text import suggestion

    known = _offline.sources()
    if source not in known:
        hint = suggestion(source, known)
        raise CliError(f'there is no source "{source}"', code=USAGE, fix=hint)
    alerts = known[source].parse({}, body, HookInfo(name="offline", source=source))
    index = Index(_offline.playbooks(folders))
    return [
        {"alert": one.to_json(), "playbooks": [why.to_json() for why in index.explain(one)]}
        for one in alerts
    ]


def why_lines(found: Mapping[str, Any]) -> list[str]:
    """One alert and, for each playbook, whether it starts and on which values that hangs."""
    said = found["alert"]
    lines = [f"alert  {said.get('source', '')}  {said.get('kind', '')}  {said.get('rule', '')}"]
    for why in found["playbooks"]:
        mark = "starts" if why["starts"] else "stays "
        lines.append(f"{mark}  {why['playbook']}: {why['reason']}")
        for trigger in why.get("triggers", ()):
            lines.append(f"        line {trigger['line']}: {trigger['reason']}")
            if trigger.get("condition"):
                lines += _tree(trigger["condition"], 5)
    return [for_terminal(line) for line in lines]


def _tree(node: Mapping[str, Any], depth: int) -> list[str]:
    if "value" in node:
        value = json.dumps(node["value"])
    else:
        value = f"no value ({node.get('missing') or node.get('error', '')})"
    lines = [f"{'  ' * depth}{node['text']}  =  {value}"]
    for child in node.get("children", ()):
        lines += _tree(child, depth + 1)
    return lines
