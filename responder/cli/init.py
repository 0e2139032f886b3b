"""Write a first configuration: observe mode, loopback, the secret in a file of its own."""

from __future__ import annotations

import os
from pathlib import Path

import click

from responder.cli._errors import USAGE, CliError
from responder.cli._output import say

__all__ = ["init"]

_CONFIG = """\
# Written by `responder init`. Every key is explained in config.example.toml.

[server]
listen = "127.0.0.1:8080"        # other addresses want TLS and tokens

[store]
url = "sqlite:///{folder}/responder.db"

[clusters.{cluster}]
{access}

[hooks.falco]
source = "falco"
cluster = "{cluster}"
auth = {{ bearer = {{ file = "{folder}/hook-falco.secret" }} }}

[playbooks]
shipped = ["collect-evidence", "quarantine-pod"]

[guards]
mode = "observe"                 # plans only; "approve" asks, "enforce" acts
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--cluster", default="main", show_default=True, help="What to call the cluster.")
@click.option("--kubeconfig", default="", help="How to reach it (default: as a pod inside it).")
@click.option("--context", default="", help="Context of the kubeconfig.")
def init(folder: Path, cluster: str, kubeconfig: str, context: str) -> None:
    """Write config.toml and a hook's secret into FOLDER; nothing that is there is replaced."""
    from responder.clock import SystemIds

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not cluster.replace("-", "").isalnum():
        raise CliError(
            f'"{cluster}" is no name for a cluster', code=USAGE, fix="letters, digits, -"
        )
    access = [f"kubeconfig = {_quoted(kubeconfig)}"] if kubeconfig else ["in_cluster = true"]
    if context:
        access.append(f"context = {_quoted(context)}")
    text = _CONFIG.format(
        folder=_escaped(str(folder.resolve())), cluster=cluster, access="\n".join(access)
    )
    _write(folder / "config.toml", text)
    _write(folder / "hook-falco.secret", SystemIds().secret() + "\n")
    where = folder / "config.toml"
    say(
        f"written: {where} (observe mode: plans, no changes) and the hook's secret\n"
        f"next:    responder doctor -c {where}\n"
        f"         responder token create --local -c {where} --person you --role admin\n"
        f"         responder serve -c {where}"
    )


def _write(path: Path, text: str) -> None:
    """A new file that only its owner reads; raises `CliError` when there is one."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CliError(f"{path} is there already", code=USAGE, fix="name another folder") from None
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    if not text.isprintable():
        raise CliError("a path holds characters that cannot be printed", code=USAGE)
    return text.replace("\\", "\\\\").replace('"', '\\"')
