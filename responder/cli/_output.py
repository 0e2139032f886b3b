"""Data on stdout in the form that was asked for; talk on stderr.

Every text of an alert passes `for_terminal` here: an intruder chose it. JSON and YAML are printed
in ASCII escapes for the same reason.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from responder.text import for_terminal

__all__ = ["Column", "colour", "emit", "paint", "say", "table", "yaml"]

_CELL = 80
_OLD_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # YAML 1.1 misreads them
Column = tuple[str, str]  # heading, key ("a.b" looks inside)


def say(text: str) -> None:
    """Talk to the person: stderr, so that pipes carry data only."""
    click.echo("\n".join(for_terminal(line) for line in text.splitlines()), err=True)


def emit(
    value: Any,
    form: str,
    columns: Sequence[Column] = (),
    wide: Sequence[Column] = (),
    name: str = "id",
) -> None:
    """Print a value, or a list of them, as table, wide, json, yaml or name."""
    rows = value.get("items", [value]) if isinstance(value, Mapping) else value
    if form == "json":
        click.echo(json.dumps(value, indent=2))
    elif form == "yaml":
        click.echo("\n".join(yaml(value)))
    elif form == "name":
        for row in rows:
            click.echo(for_terminal(str(row.get(name, ""))))
    else:
        shown = [*columns, *wide] if form == "wide" else list(columns)
        for line in table([[_cell(row, key) for _, key in shown] for row in rows], shown):
            click.echo(line)


def table(rows: Sequence[Sequence[str]], columns: Sequence[Column]) -> Iterable[str]:
    """Aligned lines with a heading; columns are only ever added at the end."""
    heads = [head for head, _ in columns]
    widths = [
        max(len(head), *(len(row[n]) for row in rows)) if rows else len(head)
        for n, head in enumerate(heads)
    ]
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _cell(row: Mapping[str, Any], key: str) -> str:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, Mapping):
        value = label(value)
    if isinstance(value, list | tuple):
        value = ", ".join(str(item) for item in value)
    return for_terminal(str(value), _CELL)


def label(target: Mapping[str, Any]) -> str:
    """The shortest name of a target that a person recognises."""
    place = target.get("pod") or target.get("workload") or target.get("image") or ""
    if place and target.get("namespace") and target.get("image") != place:
        return f"{target['namespace']}/{place}"
    return str(place or target.get("node") or target.get("host") or target.get("namespace") or "-")


def yaml(value: Any, indent: int = 0) -> list[str]:
    """Block YAML; every text is quoted as in JSON, which YAML 1.2 reads the same way."""
    pad = "  " * indent
    if isinstance(value, Mapping) and value:
        lines = []
        for key, item in value.items():
            lines += _joined(f"{pad}{_key(str(key))}:", item, indent)
        return lines
    if isinstance(value, list | tuple) and value:
        return [line for item in value for line in _item(pad, item, indent)]
    return [pad + json.dumps(value)]


def _key(text: str) -> str:
    plain = text.isidentifier() and text.isascii() and text.lower() not in _OLD_WORDS
    return text if plain else json.dumps(text)


def _joined(head: str, item: Any, indent: int) -> list[str]:
    if isinstance(item, Mapping | list | tuple) and item:
        return [head, *yaml(item, indent + 1)]
    return [f"{head} {json.dumps(item)}"]


def _item(pad: str, item: Any, indent: int) -> list[str]:
    lines = yaml(item, indent + 1)
    return [f"{pad}- {lines[0].lstrip()}", *lines[1:]]


def colour() -> bool:
    """Whether stdout is a terminal that wants colour."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def paint(text: str, shade: str) -> str:
    """The text in a colour, or as it is."""
    return click.style(text, fg=shade) if shade and colour() else text
