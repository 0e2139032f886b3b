"""The demo: one process with a sandbox beside the server, nothing outside a temporary folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from responder.clock import World
from responder.playbook.shipped import shipped_texts
from responder.sandbox.world import SandboxWorld
from responder.web.app import Limits, listening, make_app
from responder.wiring import App
from responder.wiring.sandboxed import HOOK, stage

__all__ = ["Demo", "demo"]

PLAYBOOK = "contain-and-rebuild"
_ASKING, _ACTING = "\nmode: approve\n", "\nmode: enforce\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A running demo: where its server is, and how to make something happen."""

    url: str
    folder: Path
    sandbox: SandboxWorld
    app: App

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
    """Start sandbox and server on loopback; leaving the block ends both and removes the folder.

    The shipped playbook is in force in mode enforce: it contains at once and asks only where it
    says so itself, before the rollout.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="responder-demo-")))
        staged = stage(
            folder,
            world=world,
            playbooks__folders=[_playbook(folder)],
            playbooks__shipped=[],
            server__listen=f"127.0.0.1:{port}",
        )
        made = await stack.enter_async_context(staged)
        app = make_app(made.app.service)
        limits = Limits(grace_seconds=2)
        url = await stack.enter_async_context(listening(app, "127.0.0.1", port, limits=limits))
        yield Demo(url=url, folder=folder, sandbox=made.sandbox, app=made.app)


def _playbook(folder: Path) -> str:
    """The shipped playbook, acting instead of asking, in a folder of its own."""
    target = folder / "playbooks"
    target.mkdir()
    text = shipped_texts()[PLAYBOOK].replace(_ASKING, _ACTING, 1)
    (target / f"{PLAYBOOK}.yaml").write_text(text, encoding="utf-8")
    return str(target)
