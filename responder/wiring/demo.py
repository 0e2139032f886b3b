"""The demo: one process with a sandbox beside the server, nothing outside a temporary folder."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from responder.clock import World
from responder.sandbox.world import SandboxWorld
from responder.settings import Settings
from responder.web.app import listening, make_app
from responder.wiring import App, build
from responder.wiring.sandboxed import HOOK, sandbox_settings

__all__ = ["Demo", "demo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A running demo: where its server is, and how to make something happen."""

    url: str
    folder: Path
    sandbox: SandboxWorld
    app: App
    settings: Settings

    async def attack(self) -> int:
        """Send one Falco alert about a live pod through the real door; the incident's number."""
        import aiohttp

        alert = self.sandbox.falco_alert()
        url = f"{self.url}/v1/hooks/{HOOK}"
        async with aiohttp.ClientSession() as session, session.post(url, json=alert) as answer:
            body = await answer.json()
        return int(body["alerts"][0]["incident"])


@asynccontextmanager
async def demo(*, port: int = 0, world: World | None = None) -> AsyncIterator[Demo]:
    """Start sandbox and server on loopback; leaving the block ends both and removes the folder."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="responder-demo-")))
        sandbox = await stack.enter_async_context(SandboxWorld(world))
        addresses = json.loads(sandbox.addresses())
        settings = sandbox_settings(addresses, folder, server__listen=f"127.0.0.1:{port}")
        app = await stack.enter_async_context(build(settings, world=world, anonymous=True))
        url = await stack.enter_async_context(_served(app, port))
        yield Demo(url=url, folder=folder, sandbox=sandbox, app=app, settings=settings)


@asynccontextmanager
async def _served(app: App, port: int) -> AsyncIterator[str]:
    async with listening(make_app(app.service), "127.0.0.1", port) as url:
        yield url
