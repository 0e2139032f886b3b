"""The Kubernetes roles that playbooks need, and no other right."""

from __future__ import annotations

import json
from pathlib import Path

import click

from responder.cli._output import yaml

__all__ = ["rbac"]


@click.command()
@click.option(
    "--for",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Playbook files and folders; may be given several times. Default: the shipped ones.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    help="A namespace to watch over; may be given several times.",
)
@click.option(
    "--home", default="responder", show_default=True, help="The namespace responder lives in."
)
@click.option(
    "--guard",
    "guarded",
    is_flag=True,
    help="Print the admission policy that keeps our account to what the playbooks do.",
)
@click.option(
    "--protect",
    "protected",
    multiple=True,
    help="With --guard: a namespace (a glob) where nothing may be changed; several times.",
)
@click.option("-o", "--output", "form", type=click.Choice(["yaml", "json"]), default="yaml")
def rbac(
    paths: tuple[Path, ...],
    namespaces: tuple[str, ...],
    home: str,
    guarded: bool,  # noqa: FBT001 - click's
    protected: tuple[str, ...],
    form: str,
) -> None:
    """Print service account, roles and bindings for exactly what the playbooks use.

    One role for each concern: reader, containment, collector, deployer, identity, admission. Leave
    out what you do not want to grant; `responder doctor` then names what is missing. Roles cannot
    say "only the labels of a pod": `--guard` prints an admission policy that does.
    """
    from responder.cli import _offline

    if guarded:
        made = _offline.guard(paths, home=home, protected=protected)
    else:
        made = _offline.roles(paths, home=home, namespaces=namespaces)
    if form == "json":
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": made}, indent=2))
        return
    click.echo("\n---\n".join("\n".join(yaml(item)) for item in made))
