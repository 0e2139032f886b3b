"""An incident's story as it happens: Server-Sent Events, resumable.

https://html.spec.whatwg.org/multipage/server-sent-events.html. Each event carries the entry's id;
a client that comes back with Last-Event-ID gets what it missed and nothing twice. A stalled
reader is cut by the server's sweep (serving.py), so that it costs one buffer at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from responder.errors import Forbidden, Unauthorized
from responder.model import Role
from responder.web.auth import identify, require
from responder.web.problems import Refused
from responder.web.routing import Ask

__all__ = ["STREAMS", "end_streams", "frame", "stream"]

RETRY_MS = 2000
STREAMS = web.AppKey("streams", set[asyncio.Task[Any]])


async def stream(ask: Ask, incident: int) -> web.StreamResponse:
    """Send entries after Last-Event-ID (or `?after=`) until the incident is closed."""
    after = _last_seen(ask)
    await ask.service.incident(ask.who, incident)  # refuse before the first byte, not after
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    )
    await response.prepare(ask.request)
    await response.write(f"retry: {RETRY_MS}\n\n".encode())
    with _registered(ask.request.app):
        async for entry in ask.service.watch(ask.who, incident, after):
            if entry is not None:
                await response.write(frame(entry))
            elif await _still_allowed(ask):
                await response.write(b": still here\n\n")
            else:
                return response
        await response.write(b"event: end\ndata: {}\n\n")
    return response


def frame(entry: Mapping[str, Any]) -> bytes:
    """One event. JSON on one line, so that no text of an alert can end the event early."""
    data = json.dumps(entry, separators=(",", ":"))
    return f"id: {int(entry['id'])}\nevent: entry\ndata: {data}\n\n".encode()


async def end_streams(app: web.Application) -> None:
    """Let go of the listeners when the server stops; they come back by themselves."""
    for task in app[STREAMS]:
        task.cancel()


@contextlib.contextmanager
def _registered(app: web.Application) -> Any:
    task = asyncio.current_task()
    if task is None:
        raise LookupError("a stream runs in a task")
    app[STREAMS].add(task)
    try:
        yield
    finally:
        app[STREAMS].discard(task)


def _last_seen(ask: Ask) -> int:
    text = ask.request.headers.get("Last-Event-ID", "")
    if not text:
        return ask.number("after", 0)
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):  # noqa: PLR2004 - 2^63
        raise Refused(400, "Last-Event-ID: expected the id of an entry of this stream")
    return int(text)


async def _still_allowed(ask: Ask) -> bool:
    """A revoked token or a lost role ends the stream too, at the next heartbeat."""
    try:
        require(await identify(ask.request, ask.service), Role.VIEWER)
    except (Unauthorized, Forbidden):
        return False
    return True
