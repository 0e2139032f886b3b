"""A server beside the sandbox: what the demo, rehearsals and tests start with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from responder.clock import World
from responder.sandbox.world import SandboxWorld
from responder.settings import Settings, load
from responder.wiring import App, build

__all__ = ["HOOK", "Stage", "sandbox_settings", "stage"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A server and the sandbox it works on."""

    app: App
    sandbox: SandboxWorld


@asynccontextmanager
async def stage(
    folder: Path,
    *,
    world: World | None = None,
    dump: Sequence[Mapping[str, Any]] = (),
    **flags: Any,
) -> AsyncIterator[Stage]:
    """Start both; everything is in `folder` and in memory, and ends with the block.

    `dump` holds further objects for the cluster, `flags` further settings.
    """
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(SandboxWorld(world, dump=dump))
        settings = sandbox_settings(json.loads(sandbox.addresses()), folder, **flags)
        app = await stack.enter_async_context(build(settings, world=world, anonymous=True))
        yield Stage(app=app, sandbox=sandbox)
