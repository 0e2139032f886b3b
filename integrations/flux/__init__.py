"""Flux: tell a Receiver that there is something new, so that it fetches now and not by the hour.

That Flux has brought it, the cluster alone can say: `kubernetes.reconcile_flux` waits for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from integrations.flux.notify import Notify, Receiver
from integrations.flux.settings import read
from responder.clock import World
from responder.ports import Integration, Kit

__all__ = ["setup"]


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Everything that the `[flux]` tables bring; raises `ConfigError` that names the key.

    Without a table the action is there all the same and says so where it is used. It does no I/O.
    Must be called where its event loop will run.
    """
    del kit
    receivers = {name: Receiver(name, read(name, table), world) for name, table in section.items()}

    async def close() -> None:
        """Close every receiver's connections and pool."""
        for receiver in receivers.values():
            await receiver.close()

    return Integration(actions=(Notify(receivers),), close=close)
