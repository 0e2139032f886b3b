"""The `[forges]` tables: each goes to the integration of its kind; shared actions exist once.

The kinds do not know each other. What they bring of `pipeline.run`, `deployment.record` and
`change.propose` is joined here, and the image map's `forge` says which of them an image belongs to.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from integrations._deploying import DeploymentRecord
from integrations._merging import ProposeChange
from integrations._merging_accept import MergeChange
from integrations._merging_routes import check as check_changes
from integrations._pipeline import PipelineRun
from responder.clock import World
from responder.errors import ConfigError
from responder.ports import Action, ImageRoute, Integration, Kit
from responder.text import suggestion

__all__ = ["KINDS", "setup"]

KINDS = {"github": "integrations.github", "gitlab": "integrations.gitlab"}
_SHARED = (PipelineRun, DeploymentRecord, ProposeChange, MergeChange)


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Everything that all forges bring, as one; a kind's module is loaded only where it is used.

    A table without a `kind` is a GitHub. Without any table the actions on changes are there all the
    same, and say so where they are used: shipped playbooks name them for those who have a forge.
    Raises `ConfigError` that names the table and key.
    """
    if not section:
        return Integration(actions=(ProposeChange({}, ()), MergeChange({}, ())))
    kinds = {name: _kind(name, table) for name, table in section.items()}
    for route in kit.images:
        if route.forge not in kinds:
            hint = suggestion(route.forge, kinds)
            raise ConfigError(
                f'[[images]] match = "{route.match}": no [forges.{route.forge}]; {hint}'
            )
        check_changes(route, kinds)
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

    async def bundles(route: ImageRoute, digest: str) -> Sequence[bytes]:
        """What the route's forge attests of an image."""
        asking = [one.bundles for one in made if one.bundles]
        return [bundle for ask in asking for bundle in await ask(route, digest)]

    return Integration(
        sources=tuple(source for one in made for source in one.sources),
        actions=_actions(made, world, kit),
        checks={name: check for one in made for name, check in one.checks.items()},
        permissions=tuple(right for one in made for right in one.permissions),
        bundles=bundles,
        close=close,
    )


def _actions(made: list[Integration], world: World, kit: Kit) -> tuple[Action, ...]:
    """The actions of all kinds; what each kind brings its own of becomes one that knows all."""
    found = [action for one in made for action in one.actions]
    if not found:
        return ()
    images = kit.images
    return (
        PipelineRun(_forges_of(PipelineRun, found), images, kit.digest_of, world),
        DeploymentRecord(_forges_of(DeploymentRecord, found), images, world),
        ProposeChange(_forges_of(ProposeChange, found), images),
        MergeChange(_forges_of(MergeChange, found), images),
        *(action for action in found if not isinstance(action, _SHARED)),
    )


def _forges_of(kind: type[Any], found: Sequence[Any]) -> dict[str, Any]:
    """Every forge, by its name, that the kinds' own actions of this sort know."""
    mine = [action for action in found if isinstance(action, kind)]
    return {name: forge for action in mine for name, forge in action.forges.items()}
