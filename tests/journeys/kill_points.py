"""Names every moment at which a server may be killed, and kills it at the one that was asked for.

A moment is just before or just after something that lasts: a write to the store, or a call to an
outside system. It is named by what happens there and by how often that name was passed, such as
`after write append step_planned:isolate #1`; the same journey passes the same names.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import requests

from responder.store._commit import Committer
from responder.store.interface import (
    AuditEntry,
    Event,
    IncidentPatch,
    RunUpdate,
    TimelineEntry,
)
from responder.store.sqlite import SqliteStore
from responder.store.writer import ThreadWriter

__all__ = ["KillableWriter", "LabelledStore", "Points", "watch_calls"]

T = TypeVar("T")
_EVENTS: ContextVar[str] = ContextVar("events", default="")
_LASTS = {"put_evidence"}
_MADE = {"Take": "accept"}  # operations that are objects: the method that makes them
_SCRUB = (
    (re.compile(r"sha256:[0-9a-f]{64}"), "DIGEST"),
    (re.compile(r"responder(?:/|%2F)\d+-[a-z0-9-]+-[0-9a-f]{12}"), "BRANCH"),
    (re.compile(r"(?<=/)[0-9a-f]{40}(?=/|$)"), "COMMIT"),
    (re.compile(r"cart-[a-z0-9]+-[a-z0-9]+"), "POD"),
    (re.compile(r"cart-[a-z0-9]{6,}"), "SET"),
    (re.compile(r"namespaces/[a-z]-[0-9a-f]{8}"), "namespaces/SPACE"),
    (re.compile(r"nodes/n\d"), "nodes/NODE"),
    (re.compile(r"rr-[0-9a-f]{20}"), "STEP"),
    (re.compile(r"^/[\w-]{43}$"), "/TICKET"),
    (re.compile(r"quarantine-[0-9a-f]{8}"), "quarantine"),
    (re.compile(r"/\d+(?=/|$)"), "/N"),
)


class Points:
    """Counts what is passed, notes it in a file, and ends this process at the target.

    `target` is a moment's name; with `delay` the end comes that many seconds after it. A note is
    one unbuffered line, so that the file's last line is where the process was.
    """

    def __init__(self, notes: Path, target: str = "", delay: float = 0.0) -> None:
        self._file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._target, self._delay = target, delay
        self._passed: Counter[str] = Counter()
        self._lock = threading.Lock()  # blocking calls pass here from threads of their own

    def at(self, name: str) -> None:
        """This moment has come. Does not return when it is the one to die at."""
        with self._lock:
            self._passed[name] += 1
            point = f"{name} #{self._passed[name]}"
            os.write(self._file, f"{point}\n".encode())
            if point != self._target:
                return
            if self._delay:
                timer = threading.Timer(self._delay, self._die)
                timer.daemon = True
                timer.start()
            else:
                self._die()

    def _die(self) -> None:
        os.write(self._file, b"killed\n")
        os.kill(os.getpid(), signal.SIGKILL)


class KillableWriter:
    """The store's own writer, with a moment before and after each thing it makes durable."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self._writer = ThreadWriter()

    async def start(
        self, committer: Callable[[], Committer], reader: Callable[[], sqlite3.Connection]
    ) -> None:
        """As the writer does."""
        await self._writer.start(committer, reader)

    async def write(self, op: Callable[[sqlite3.Connection], T], *, essential: bool = True) -> T:
        """One transaction between two moments."""
        name = f"write {_name_of(op)}"
        self._points.at(f"before {name}")
        answer = await self._writer.write(op, essential=essential)
        self._points.at(f"after {name}")
        return answer

    async def read(self, op: Callable[[sqlite3.Connection], T]) -> T:
        """A look changes nothing: no moment."""
        return await self._writer.read(op)

    async def aside(self, work: Callable[[], T]) -> T:
        """An artefact's bytes between two moments; anything else here is a look."""
        if (method := _name_of(work)) not in _LASTS:
            return await self._writer.aside(work)
        name = f"aside {method}"
        self._points.at(f"before {name}")
        answer = await self._writer.aside(work)
        self._points.at(f"after {name}")
        return answer

    async def stop(self) -> None:
        """As the writer does."""
        await self._writer.stop()

    def abandon(self) -> None:
        """As the writer does."""
        self._writer.abandon()


def _name_of(op: Callable[..., Any]) -> str:
    """The store's method that made this operation, and the events it appends."""
    made = getattr(op, "__qualname__", "") or _MADE[type(op).__name__]
    method = made.split(".<locals>")[0].rpartition(".")[2]
    return f"{method} {_EVENTS.get()}".rstrip() if method == "append" else method


class LabelledStore(SqliteStore):
    """The store, telling the moments which events a journal write holds."""

    async def append(
        self,
        run_id: str,
        known_seq: int,
        events: Sequence[Event],
        update: RunUpdate | None = None,
        timeline: Sequence[TimelineEntry] = (),
        audit: Sequence[AuditEntry] = (),
        patch: IncidentPatch | None = None,
        *,
        busy: bool = False,
    ) -> list[Event]:
        """As the store does."""
        _EVENTS.set("+".join(f"{e.type}:{e.data.get('step', '')}".rstrip(":") for e in events))
        return await super().append(
            run_id, known_seq, events, update, timeline, audit, patch, busy=busy
        )


def watch_calls(points: Points) -> None:
    """Put a moment before every request that leaves this process, and one after its answer.

    aiohttp by its own tracing, PyGithub by the `requests` session below it. For the process of one
    server's life only: what is changed here is never changed back.
    """
    _watch_aiohttp(points)
    _watch_requests(points)


def _watch_aiohttp(points: Points) -> None:
    async def leaves(_: Any, __: Any, said: aiohttp.TraceRequestStartParams) -> None:
        points.at(f"before {_call(said.method, str(said.url))}")

    async def answered(_: Any, __: Any, said: aiohttp.TraceRequestEndParams) -> None:
        points.at(f"after {_call(said.method, str(said.url))}")

    made = aiohttp.ClientSession.__init__

    def make(self: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(leaves)
        trace.on_request_end.append(answered)
        made(self, *args, trace_configs=[trace], **options)

    aiohttp.ClientSession.__init__ = make  # type: ignore[method-assign]


def _watch_requests(points: Points) -> None:
    send = requests.Session.send

    def watched(
        self: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        name = _call(str(request.method), str(request.url))
        points.at(f"before {name}")
        answer = send(self, request, **options)
        points.at(f"after {name}")
        return answer

    requests.Session.send = watched  # type: ignore[method-assign]


def _call(method: str, url: str) -> str:
    """A call's name: verb and path without what differs between two journeys."""
    parts = urlsplit(url)
    path = parts.path
    for pattern, word in _SCRUB:
        path = pattern.sub(word, path)
    return f"call {method} {path}{' (dry run)' if 'dryRun=' in parts.query else ''}"
