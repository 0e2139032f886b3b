"""Is it alive, can it store, what does it count.

Liveness never asks the store or the outside world. A lost cluster or forge leaves this ready:
alerts must still be taken when things are bad; it shows as `degraded` in the status.
"""

from __future__ import annotations

from aiohttp import web

from responder.text import for_terminal
from responder.web.routing import Ask

__all__ = ["livez", "metrics", "readyz"]


async def livez(ask: Ask) -> web.Response:
    """The event loop turns."""
    ask.service.alive()
    return web.Response(text="ok\n")


async def readyz(ask: Ask) -> web.Response:
    """Whether alerts can be taken: one line per check with `?verbose`, as Kubernetes prints it."""
    checks = await ask.service.ready()
    ready = all(_good(state) for state in checks.values())
    lines = ["ok" if ready else "not ready"]
    if "verbose" in ask.query or not ready:
        lines = [
            f"[{'+' if _good(state) else '-'}]{name} {for_terminal(state)}"
            for name, state in checks.items()
        ]
        lines.append(f"readyz check {'passed' if ready else 'failed'}")
    return web.Response(status=200 if ready else 503, text="\n".join(lines) + "\n")


def _good(state: str) -> bool:
    """`ok`, or `ok (degraded: …)`: alerts are still taken."""
    return state == "ok" or state.startswith("ok (")


async def metrics(ask: Ask) -> web.Response:
    """Prometheus text, format 0.0.4."""
    return web.Response(
        body=await ask.service.metrics_text(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )
