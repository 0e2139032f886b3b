"""Hear at once of what may have opened an isolation, instead of finding it at the next look.

Watched are NetworkPolicies, policies of administrators where their kinds exist, namespaces, and
the pods that carry our label. Always, and not only while something is isolated: a watch that
begins with an isolation would miss what happens before it stands, and an idle one costs one
connection and a bookmark a minute. Only metadata is sent, but of NetworkPolicies all: what one
says decides to whom it matters (`hearing`). Pods without our label are not watched: they can only
be let in by a policy, and every policy is.

A watch goes on from the version it saw last. When that is too old (410), whatever happened
meanwhile is unknown, so everything in the cluster is looked at again.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import aiohttp

from integrations.kubernetes.client import Connection, Json
from integrations.kubernetes.hearing import Hearing
from integrations.kubernetes.paths import collection
from integrations.kubernetes.quarantine import LABEL
from integrations.kubernetes.rights import doctor, right
from responder.errors import NotFound, ResponderError, StepFailed, StepRetry
from responder.model import Effect
from responder.ports import ActionInfo, Heard

__all__ = ["RIGHTS", "ClusterWatch"]

log = logging.getLogger(__name__)
_SECONDS = 300.0  # the longest one request watches; then it goes on with the next
_SLACK = 20.0  # seconds after which a request that should have ended is given up
_LINE_MAX = 4 * 1024 * 1024  # bytes of one event: an object has at most 1.5 MiB
_FIRST, _LONGEST = 0.1, 60.0  # seconds between two requests
_HEALTHY = 10.0  # seconds after which the next request is a first one again
_REFUSED, _ABSENT = 2.0, 600.0  # the same where the kind, or our right to it, is not there
_OUTLINE = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
_OUTLINES = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
_GOODBYES = 3
_GONE, _UNKNOWN, _FORBIDDEN, _ERROR = 410, 404, {401, 403}, 400
_WHY = "hear at once of what may open an isolation"
_ALWAYS_THERE = (
    right("Pod", "list", "watch", why=_WHY, optional=True),
    right("NetworkPolicy", "list", "watch", why=_WHY, optional=True),
    right("Namespace", "list", "watch", why=_WHY, optional=True, scope="cluster"),
)
RIGHTS = (
    *_ALWAYS_THERE,
    *(
        right(kind, "list", "watch", why=_WHY, optional=True)
        for kind in ("ClusterNetworkPolicy", "AdminNetworkPolicy")
    ),
)


class _Expired(Exception):
    """The version to go on from is no longer kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """One collection that is watched."""

    kind: str
    namespace: str = ""
    selector: str = ""

    @property
    def path(self) -> str:
        return collection(self.kind, self.namespace)

    @property
    def accept(self) -> str:
        return "application/json" if self.kind == "NetworkPolicy" else _OUTLINE


@dataclass(slots=True)
class ClusterWatch:
    """All watches of one cluster. Calling it watches until it is cancelled."""

    link: Connection
    _hearing: Hearing = field(init=False)

    def __post_init__(self) -> None:
        self._hearing = Hearing(self.link.underway)

    async def __call__(self, heard: Heard) -> None:
        """Tell of everything that may matter: a "cluster:NAME", a namespace or an object of it."""
        try:
            async with asyncio.TaskGroup() as group:
                for stream in self._streams():
                    group.create_task(self._follow(stream, heard))
        finally:
            for _ in range(_GOODBYES):  # a connection that was cut off ends in the next rounds
                await asyncio.sleep(0)

    async def told(self) -> str:
        """For `doctor`: `ok`, or which right is missing and what that means."""
        info = ActionInfo(
            name="the watch",
            summary="",
            effect=Effect.READ,
            permissions=tuple(replace(one, optional=False) for one in _ALWAYS_THERE),
        )
        found = await doctor(self.link.api(), [info], self.link.settings.namespaces)
        if found == "ok":
            return found
        return (
            f"changes by others are found by time only, not at once: {found}; with rights in "
            f"single namespaces, name these in clusters.{self.link.name}.namespaces"
        )

    def _streams(self) -> list[_Stream]:
        places = self.link.settings.namespaces or ("",)
        found = [_Stream(kind="NetworkPolicy", namespace=place) for place in places]
        found += [_Stream(kind="Pod", namespace=place, selector=LABEL) for place in places]
        wide = ("Namespace", "ClusterNetworkPolicy", "AdminNetworkPolicy")
        return [*found, *(_Stream(kind=kind) for kind in wide)]

    # ----------------------------------------------------------------- one collection

    async def _follow(self, stream: _Stream, heard: Heard) -> None:
        """Watch one collection for ever; what was missed in between is looked at as a whole."""
        clock = self.link.world.clock
        version, tries, missed, refused = "", 0, False, 0
        while True:
            begun = clock.monotonic()
            try:
                if not version:
                    version = await self._version(stream)
                    if missed:
                        await heard(self._cluster)
                missed, refused = True, 0
                version = await self._watch(stream, version, heard)
            except _Expired:
                version = ""
            except (NotFound, StepFailed) as error:
                missed, refused = True, refused + 1
                if isinstance(error, StepFailed):
                    log.warning("not watched", extra={"event": "not_watched", "why": str(error)})
                await self._pause(min(_REFUSED * 2.0 ** min(refused, 10), _ABSENT))
            except (ResponderError, aiohttp.ClientError, TimeoutError, OSError, ValueError):
                missed = True
            tries = 0 if clock.monotonic() - begun > _HEALTHY else tries + 1
            await self._pause(min(_FIRST * 2.0 ** min(tries, 10), _LONGEST))

    async def _pause(self, seconds: float) -> None:
        world = self.link.world
        await world.clock.sleep(seconds * (0.5 + world.rng.random() / 2))

    async def _version(self, stream: _Stream) -> str:
        """The version of the collection now; one item at most is sent for it."""
        async with asyncio.timeout(self.link.settings.request_timeout):
            query = {"limit": "1", **_selected(stream)}
            async with await self._get(stream, query, _OUTLINES) as answer:
                found = json.loads(await answer.read())
        return str(found["metadata"]["resourceVersion"])

    async def _watch(self, stream: _Stream, version: str, heard: Heard) -> str:
        """One request's worth of events; the version to go on from."""
        seconds = int(_SECONDS * (0.8 + self.link.world.rng.random() / 5))
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            **_selected(stream),
        }
        try:
            async with asyncio.timeout(seconds + _SLACK):
                answer = await self._get(stream, query, stream.accept)
                async with answer, aclosing(_lines(answer)) as lines:
                    try:
                        async for event in lines:
                            version = await self._event(stream, event, version, heard)
                    finally:
                        _cut(answer)
        except (aiohttp.ClientPayloadError, TimeoutError):
            return version  # cut off: what was seen is seen
        return version

    async def _event(self, stream: _Stream, event: Json, version: str, heard: Heard) -> str:
        item = event.get("object") or {}
        if event.get("type") == "ERROR":
            if item.get("code") == _GONE:
                raise _Expired
            raise StepRetry(f"{stream.path}: the watch ended with an error")
        metadata = item.get("metadata") or {}
        if event.get("type") != "BOOKMARK":
            for place in self._hearing.places(stream.kind, event["type"], item):
                await heard(f"{self._cluster}/{place}" if place else self._cluster)
        return str(metadata.get("resourceVersion") or version)

    @property
    def _cluster(self) -> str:
        return f"cluster:{self.link.name}"

    async def _get(
        self, stream: _Stream, query: dict[str, str], accept: str
    ) -> aiohttp.ClientResponse:
        """An answer that is good, or the reason why there is none."""
        session = await self.link.session()
        headers = {**await self.link.headers(), "Accept": accept}
        answer = await session.get(
            self.link.url(stream.path, query),
            headers=headers,
            allow_redirects=False,
            **self.link.transport,
        )
        if answer.status < _ERROR:
            return answer
        async with answer:  # read to its end, so that the connection can be used again
            await answer.content.read(_LINE_MAX)
        text = f"cluster {self.link.name}: GET {stream.path}: HTTP {answer.status}"
        if answer.status == _GONE:
            raise _Expired
        if answer.status == _UNKNOWN:
            raise NotFound(text)
        raise StepFailed(text) if answer.status in _FORBIDDEN else StepRetry(text)


def _cut(answer: aiohttp.ClientResponse) -> None:
    """End a connection that is not at its end at once: a polite goodbye outlives the loop."""
    link = answer.connection
    if link is not None and link.transport is not None:
        link.transport.abort()


def _selected(stream: _Stream) -> dict[str, str]:
    return {"labelSelector": stream.selector} if stream.selector else {}


async def _lines(answer: aiohttp.ClientResponse) -> AsyncGenerator[Json, None]:
    """The events of a stream, one a line. Raises `StepRetry` for one that is no JSON."""
    rest = b""
    async for part in answer.content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            if line.strip():
                yield _decoded(line)
        if len(rest) > _LINE_MAX:
            raise StepRetry("an event of a watch is longer than any object")


def _decoded(line: bytes) -> Json:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise StepRetry("an event of a watch is not JSON") from error
    return found if isinstance(found, dict) else {}
