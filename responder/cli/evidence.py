"""Evidence: list, show, verify (on the server, or an exported folder without one), export."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from responder.cli import _options as options
from responder.cli._client import Client
from responder.cli._errors import FAILED, MISSING, USAGE, CliError
from responder.cli._find import incident_path
from responder.cli._output import emit, say
from responder.text import for_terminal, slug

__all__ = ["evidence"]

MANIFEST = "manifest.json"
COLUMNS = [("NAME", "name"), ("SIZE", "size"), ("SHA256", "sha256"), ("AT", "at")]
_PREFIX = 8
_BLOCK = 1 << 20


@click.group(no_args_is_help=True)
def evidence() -> None:
    """What was collected, each with its hash."""


@evidence.command("list")
@click.argument("number", default="@latest")
@options.remote
@options.form
def list_(client: Client, number: str, form: str) -> None:
    """The manifest."""
    manifest = client.get(incident_path(number) + "/evidence")
    emit(manifest, form, COLUMNS, [("STEP", "step"), ("RUN", "run")], "sha256")


@evidence.command()
@click.argument("number")
@click.argument("name")
@options.remote
def show(client: Client, number: str, name: str) -> None:
    """The bytes of one artefact: raw into a pipe, escaped on a terminal."""
    rows = client.get(incident_path(number) + "/evidence")["items"]
    found = [row for row in rows if _is(row, name)]
    if len({row["sha256"] for row in found}) != 1:
        raise CliError(f'#{number} has {len(found)} artefacts "{name}"', code=MISSING)
    data = client.raw("GET", f"{incident_path(number)}/evidence/{found[0]['sha256']}")
    if sys.stdout.isatty():
        for line in data.decode("utf-8", "replace").splitlines():
            click.echo(for_terminal(line, 10_000))
    else:
        sys.stdout.buffer.write(data)


def _is(row: Mapping[str, Any], name: str) -> bool:
    by_hash = len(name) >= _PREFIX and str(row["sha256"]).startswith(name)
    return bool(row["name"] == name) or by_hash


@evidence.command()
@click.argument("what", default="@latest")
@options.remote
def verify(client: Client, what: str) -> None:
    """Compare every hash again: of an incident NUMBER, or of an exported FOLDER (no server)."""
    if Path(what).is_dir():
        items = verify_folder(Path(what))
    else:
        items = client.get(incident_path(what) + "/evidence/verification")["items"]
    for item in items:
        click.echo(f"{'ok  ' if item['ok'] else 'FAIL'}  {for_terminal(str(item['name']))}")
    bad = sum(not item["ok"] for item in items)
    say(f"{len(items)} artefacts, {bad} do not match")
    if bad:
        click.get_current_context().exit(FAILED)


@evidence.command()
@click.argument("number")
@click.argument("folder", type=click.Path(path_type=Path))
@options.remote
def export(client: Client, number: str, folder: Path) -> None:
    """Write every artefact and the manifest into a new FOLDER; `sha256sum -c` works there."""
    rows = client.get(incident_path(number) + "/evidence")["items"]
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise CliError(f"{folder} is there already", code=USAGE, fix="name a new folder") from None
    manifest, sums = [], []
    for position, row in enumerate(rows, 1):
        # the name is ours; the one that was given may hold anything and stays in the manifest
        file = f"{position:04d}-{slug(str(row['name']))}"
        data = client.raw("GET", f"{incident_path(number)}/evidence/{row['sha256']}")
        (folder / file).write_bytes(data)
        manifest.append({**row, "file": file})
        sums.append(f"{row['sha256']}  {file}\n")
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="ascii")
    (folder / MANIFEST).write_text(json.dumps({"items": manifest}, indent=2), encoding="ascii")
    bad = [item for item in verify_folder(folder) if not item["ok"]]
    if bad:
        raise CliError(f"{len(bad)} artefacts do not have the hash of the manifest", code=FAILED)
    say(f"{len(manifest)} artefacts in {folder}, every hash compared")


def verify_folder(folder: Path) -> list[dict[str, Any]]:
    """Compare an exported folder with its manifest. Raises `CliError` when it has none."""
    try:
        items = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["items"]
        rows = [(str(row["name"]), str(row["file"]), str(row["sha256"])) for row in items]
    except (OSError, ValueError, KeyError, TypeError):
        raise CliError(f"{folder} holds no readable {MANIFEST}", code=USAGE) from None
    return [{"name": name, "ok": _digest(folder, file) == sha} for name, file, sha in rows]


def _digest(folder: Path, file: str) -> str:
    """The file's hash; nothing for a name that leads out of the folder or is no plain file."""
    path = folder / file
    if Path(file).name != file or path.is_symlink() or not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
