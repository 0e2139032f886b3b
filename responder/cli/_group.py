"""A group of commands that imports a command's file only when that command is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from responder.cli._errors import CliError, of_product
from responder.errors import ResponderError
from responder.text import suggestion

__all__ = ["Lazy", "lazy_group"]


class Lazy(click.Group):
    """`entries`: name -> ("module:attribute", one line of help)."""

    def __init__(self, *args: Any, entries: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: what is needed first stands first."""
        return [*self.entries, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in self.entries:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.entries[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(f"responder.cli.{module}"), attribute)
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}:{attribute} is no command")
        return found

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        formatter: click.HelpFormatter,
    ) -> None:
        """The list of commands from the table, without importing any of them."""
        rows = [(name, text) for name, (_, text) in self.entries.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of this name."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise CliError(
                f'there is no command "{name}"',
                code=2,
                fix=suggestion(name, self.entries),
                more=f"{ctx.command_path} --help",
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Failures of the product end a command like its own errors do."""
        try:
            return super().invoke(ctx)
        except ResponderError as failure:
            raise of_product(failure) from failure


def lazy_group(name: str, text: str, entries: Mapping[str, tuple[str, str]]) -> Lazy:
    """A group of commands."""
    return Lazy(name=name, help=text, entries=entries, no_args_is_help=True)
