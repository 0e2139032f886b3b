"""Settings for a server beside the sandbox: what the demo, rehearsals and tests start with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from responder.settings import Settings, load

__all__ = ["HOOK", "sandbox_settings"]

HOOK = "falco-sandbox"


def sandbox_settings(addresses: Mapping[str, str], folder: Path, **flags: Any) -> Settings:
    """A configuration that reaches the sandbox at these addresses and keeps its store in `folder`.

    `flags` are further settings by dotted key with `__` for the dot.
    """
    registry = addresses["registry"]
    values: dict[str, Any] = {
        "server.listen": "127.0.0.1:0",
        "store.url": f"sqlite:///{folder / 'responder.db'}",
        "clusters": {"sandbox": {"api": addresses["cluster"]}},
        "forges": {
            "sandbox": {
                "base_url": addresses["forge"],
                "token": {"env": "SANDBOX_TOKEN"},
                "poll": 0.2,
                "settle": 2,
            }
        },
        "registries": {registry: {"insecure": True}},
        "images": [
            {
                "match": f"{registry}/*",
                "forge": "sandbox",
                "repo": addresses["repo"],
                "workflow": addresses["workflow"],
            }
        ],
        "hooks": {HOOK: {"source": "falco", "cluster": "sandbox", "auth": {"none": True}}},
        "playbooks.shipped": ["contain-and-rebuild"],
        "guards.mode": "enforce",
    }
    values |= {key.replace("__", "."): value for key, value in flags.items()}
    environ = {"SANDBOX_TOKEN": "sandbox-token"}
    return load(None, environ=environ, flags=values)
