"""Argo CD: bring what was merged into the cluster, and see it through to the live object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from integrations.argocd.client import Client
from integrations.argocd.settings import read
from integrations.argocd.sync import Sync
from responder.clock import World
from responder.ports import Integration, Kit

__all__ = ["setup"]


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Everything that the `[argocd]` tables bring; raises `ConfigError` that names the key.

    Without a table the action is there all the same and says so where it is used, because a
    playbook names it for those who have an Argo CD. It does no I/O. Must be called where its event
    loop will run.
    """
    del kit
    clients = {name: Client(name, read(name, table), world) for name, table in section.items()}

    async def close() -> None:
        """Close every server's connections and pool."""
        for client in clients.values():
            await client.close()

    return Integration(
        actions=(Sync(clients, world),),
        checks={f"argocd {name}": client.check for name, client in clients.items()},
        close=close,
    )
