"""WATCH: a stream of changes as JSON lines, from a version on, until a time is over.

A selector is looked at before and after each change, so an object that leaves the selection
is told as DELETED and one that enters it as ADDED, as the real server does.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from responder.sandbox.failure import Refusal
from responder.sandbox.kinds import Kind
from responder.sandbox.objects import Change, Item, Objects

__all__ = ["Watch", "stream"]

Pick = Callable[[Item], bool]
_BEHIND = 10_000  # changes a slow watcher may be behind before it is let go


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a caller wants to see."""

    kind: Kind
    pick: Pick  # namespace and selectors
    version: str  # "" and "0": everything that is there first
    seconds: float
    bookmarks: bool


def _line(objects: Objects, kind: Kind, verb: str, item: Item) -> bytes:
    head = f'{{"type":"{verb}","object":{{"kind":"{kind.kind}","apiVersion":"{kind.api_version}",'
    return head.encode() + objects.encoded(kind, item)[1:] + b"}\n"


def _seen(watch: Watch, change: Change) -> str:
    """What this change is to the watcher; empty when it is nothing."""
    after = change.verb != "DELETED" and watch.pick(change.item)
    before = change.before is not None and watch.pick(change.before)
    if after:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else ""


def _first(objects: Objects, watch: Watch) -> list[bytes]:
    """What the stream begins with; raises the 410 refusal for history that is gone."""
    if watch.version in {"", "0"}:
        chosen = [item for item in objects.items(watch.kind) if watch.pick(item)]
        return [_line(objects, watch.kind, "ADDED", item) for item in chosen]
    return [
        _line(objects, watch.kind, verb, change.item)
        for change in objects.since(watch.kind, int(watch.version))
        if (verb := _seen(watch, change))
    ]


def _bookmark(objects: Objects, kind: Kind, *, initial: bool) -> bytes:
    meta: dict[str, Any] = {"resourceVersion": str(objects.version), "creationTimestamp": None}
    if initial:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    about = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
    return json.dumps({"type": "BOOKMARK", "object": about}).encode() + b"\n"


async def stream(
    request: web.Request, objects: Objects, watch: Watch, ended: asyncio.Event
) -> web.StreamResponse:
    """Answer one watch. Ends after its seconds, when the sandbox closes, or when far behind."""
    waiting: deque[Change] = deque()
    news = asyncio.Event()

    def changed(change: Change) -> None:
        if change.kind is watch.kind:
            waiting.append(change)
            news.set()

    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    try:
        first = _first(objects, watch)
    except Refusal as refusal:
        error = json.dumps({"type": "ERROR", "object": refusal.body()}).encode() + b"\n"
        await response.prepare(request)
        await response.write(error)
        return response
    objects.listen(changed)
    timer = asyncio.get_running_loop().create_task(_until(objects, watch.seconds, ended, news))
    try:
        await response.prepare(request)
        await response.write(b"".join(first))
        if watch.bookmarks and watch.version in {"", "0"} and "sendInitialEvents" in request.query:
            await response.write(_bookmark(objects, watch.kind, initial=True))
        while not timer.done() and len(waiting) < _BEHIND:
            await news.wait()
            news.clear()
            await _send(response, objects, watch, waiting)
        if watch.bookmarks:
            await response.write(_bookmark(objects, watch.kind, initial=False))
    except ConnectionError:
        pass  # the watcher went away
    finally:
        objects.forget(changed)
        timer.cancel()
    return response


async def _send(
    response: web.StreamResponse, objects: Objects, watch: Watch, waiting: deque[Change]
) -> None:
    lines = []
    while waiting:
        change = waiting.popleft()
        if verb := _seen(watch, change):
            lines.append(_line(objects, watch.kind, verb, change.item))
    if lines:
        await response.write(b"".join(lines))


async def _until(
    objects: Objects, seconds: float, ended: asyncio.Event, news: asyncio.Event
) -> None:
    """End when the time is over or the sandbox closes, and wake the stream."""
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(objects.world.clock.sleep(seconds)),
        loop.create_task(_wait(ended)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        loop.call_soon(news.set)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
