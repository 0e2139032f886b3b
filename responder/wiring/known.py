"""Every action and source of this build, without any outside system: for lint, schema, explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import integrations
from responder.clock import World
from responder.errors import StepFailed
from responder.model import Secret
from responder.ports import ActionInfo, Call, Integration, Kit, Permission, Source

__all__ = ["catalogue", "every_source", "permissions", "sources"]

# Set-up does no I/O, so a section that reaches nothing is enough to ask what an integration has.
_NOWHERE: Mapping[str, Mapping[str, Any]] = {
    "registries": {"registry.invalid": {}},
    "clusters": {"none": {"api": "https://cluster.invalid"}},
    "forges": {
        kind: {"kind": kind, "base_url": "https://forge.invalid", "token": Secret("none")}
        for kind in ("github", "gitlab")
    },
    "argocd": {},
    "flux": {},
}


class _NoEvidence:
    """Keeps nothing; nothing is collected offline."""

    async def put(self, call: Call, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        del call, name, data, origin
        raise StepFailed("nothing is collected without a server")

    async def list(self, incident: int) -> list[Mapping[str, Any]]:
        del incident
        return []


def catalogue() -> Mapping[str, ActionInfo]:
    """Every action by name."""
    found: dict[str, ActionInfo] = {}
    for section, module in integrations.SECTIONS.items():
        made = _made(module, _NOWHERE[section])
        found |= {action.info.name: action.info for action in made.actions}
    return found


def permissions() -> tuple[Permission, ...]:
    """What the integrations need beside their actions."""
    made = [_made(module, _NOWHERE[section]) for section, module in integrations.SECTIONS.items()]
    return tuple(right for one in made for right in one.permissions)


def sources() -> Mapping[str, Source]:
    """Every alert source by name."""
    found: dict[str, Source] = {}
    for module in integrations.SOURCES.values():
        found |= {source.name: source for source in _made(module, {}).sources}
    return found


def every_source() -> Mapping[str, Source]:
    """The alert sources, and what else a trigger may name: forges, which mostly send hints."""
    forges = _made(integrations.SECTIONS["forges"], _NOWHERE["forges"]).sources
    return {**sources(), **{source.name: source for source in forges}}


def _made(module: str, section: Mapping[str, Any]) -> Integration:
    return integrations.load(module)(section, World(), Kit(evidence=_NoEvidence()))
