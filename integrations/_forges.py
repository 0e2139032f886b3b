"""The `[forges]` tables: each goes to the integration of its kind, and `pipeline.run` exists once.

The kinds do not know each other. What they bring is joined here, and the image map's `forge` says
which of them rebuilds an image.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from integrations._pipeline import PipelineRun
from responder.clock import World
from responder.errors import ConfigError
from responder.ports import Action, Integration, Kit
from responder.text import suggestion

__all__ = ["KINDS", "setup"]

KINDS = {"github": "integrations.github", "gitlab": "integrations.gitlab"}


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Everything that all forges bring, as one; a kind's module is loaded only where it is used.

    A table without a `kind` is a GitHub. Raises `ConfigError` that names the table and key.
    """
    kinds = {name: _kind(name, table) for name, table in section.items()}
    for route in kit.images:
        if route.forge not in kinds:
            hint = suggestion(route.forge, kinds)
            raise ConfigError(
                f'[[images]] match = "{route.match}": no [forges.{route.forge}]; {hint}'
            )
    made = []
    for kind in dict.fromkeys(kinds.values()):
        tables = {name: section[name] for name in kinds if kinds[name] == kind}
        routes = tuple(route for route in kit.images if kinds[route.forge] == kind)
        set_up = importlib.import_module(KINDS[kind]).setup
        made.append(set_up(tables, world, replace(kit, images=routes)))
    return _joined(made, world, kit)


def _kind(name: str, table: Mapping[str, Any]) -> str:
    kind = str(table.get("kind", "github"))
    if kind not in KINDS:
        raise ConfigError(f'[forges.{name}] kind: "{kind}" is none; {suggestion(kind, KINDS)}')
    return kind


def _joined(made: list[Integration], world: World, kit: Kit) -> Integration:
    async def close() -> None:
        """Close every forge's connections and pool."""
        for one in made:
            if one.close:
                await one.close()

    return Integration(
        sources=tuple(source for one in made for source in one.sources),
        actions=_actions(made, world, kit),
        checks={name: check for one in made for name, check in one.checks.items()},
        permissions=tuple(right for one in made for right in one.permissions),
        close=close,
    )


def _actions(made: list[Integration], world: World, kit: Kit) -> tuple[Action, ...]:
    """The actions of all kinds; those that are `pipeline.run` become one that knows all forges."""
    found = [action for one in made for action in one.actions]
    forges = {
        name: forge
        for action in found
        if isinstance(action, PipelineRun)
        for name, forge in action.forges.items()
    }
    others = [action for action in found if not isinstance(action, PipelineRun)]
    run = [PipelineRun(forges, kit.images, kit.digest_of, world)] if forges else []
    return (*run, *others)
