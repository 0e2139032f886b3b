"""Run short-lived probe pods, wait for what they tell, and leave none behind.

Never part of planning or applying a containment: only its proof comes here, and where two probes
are under way already, the third is not tried but said to be missing. Everything is bounded in time
by the caller; pods are deleted also when that time is up. A crash between creating and deleting
leaves pods with a deadline of their own and a label; the next probe removes them.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.probing_pods import MARK, ROLE, answers, stuck
from integrations.kubernetes.together import together
from responder.clock import SECOND
from responder.errors import (
    Conflict,
    NotFound,
    ResponderError,
    StepFailed,
    StepRetry,
    Uncertain,
)

__all__ = ["Bench", "Broken", "sweep"]

T = TypeVar("T")

_PAUSE = 0.3  # seconds between two looks
_CLEARING = 5.0  # seconds for deleting what we made, whatever the caller's time
_OLD = 600  # seconds; the deadline of every probe pod is shorter
_ENDED = frozenset({"Succeeded", "Failed"})


class Broken(Exception):
    """The probe itself does not work; what it should have seen is unknown."""


class Bench:
    """The probe pods of one key, for the length of a block.

    Leaving the block deletes them all, those included that a crashed try of the same key has left.
    """

    def __init__(self, api: Api, mark: str) -> None:
        self._api = api
        self.mark = mark
        self.home = api.connection.settings.home

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Bench]:
        """Clear the place, lend it, clear it again. Raises `Broken` when it cannot be cleared."""
        try:
            await sweep(self._api, self.mark)
            async with asyncio.timeout(2 * _CLEARING):
                while await self._clear():
                    await self.pause()
        except (ResponderError, TimeoutError) as error:
            raise Broken(f"probe pods of an earlier try cannot be cleared away: {error}") from error
        try:
            yield self
        finally:
            with suppress(ResponderError, TimeoutError):
                async with asyncio.timeout(_CLEARING):
                    await self._clear()

    async def pause(self) -> None:
        """Wait a moment before the next look."""
        await self._api.connection.world.clock.sleep(_PAUSE)

    async def start(self, bodies: Sequence[Json]) -> None:
        """Create pods. Raises `Broken` with the API server's reason when one is refused."""
        await together(self._create(body) for body in bodies)

    async def _create(self, body: Json) -> None:
        role = body["metadata"]["labels"][ROLE]
        try:
            await self._api.create(collection("Pod", self.home), body)
        except (StepFailed, NotFound, Conflict, StepRetry) as error:
            raise Broken(f"probe pod {role!r} was refused: {error}") from error
        except Uncertain:
            return  # it is there or not: the wait will tell, and clearing goes by label

    async def _clear(self) -> int:
        """Delete all pods of this key; how many there were."""
        found = await self._pods(self.mark)
        await together(_delete(self._api, item) for item in found)
        return len(found)

    async def _pods(self, mark: str) -> list[Json]:
        path = collection("Pod", self.home)
        return await self._api.items(path, labelSelector=f"{MARK}={mark}")

    async def address(self, role: str) -> str:
        """The address of a running pod whose containers run. Raises `Broken`."""

        def look(found: Json) -> str:
            status = found.get("status") or {}
            running = [
                "running" in (one.get("state") or {})
                for one in status.get("containerStatuses") or []
            ]
            if status.get("phase") in _ENDED:
                raise Broken(f"probe pod {role!r} ended at once: {answers(found)}")
            return str(status.get("podIP") or "") if running and all(running) else ""

        return await self._until(role, look)

    async def ready(self, role: str) -> bool:
        """Wait until a pod is Ready; False when it ended before. Raises `Broken`."""

        def look(found: Json) -> bool | None:
            status = found.get("status") or {}
            conditions = status.get("conditions") or []
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                return True
            return False if answers(found) is not None else None

        return await self._until(role, look)

    async def told(self, role: str) -> dict[str, str]:
        """What each container of a pod told when it ended. Raises `Broken`."""
        return await self._until(role, answers)

    async def log(self, role: str, limit: int) -> bytes:
        """What a pod of one container printed."""
        body = await self._pod(role)
        path = f"{named('Pod', self.home, body['metadata']['name'])}/log"
        return await self._api.text(path, limit)

    async def uid(self, role: str) -> str:
        """The UID of a pod, to own what shall go with it."""
        return str((await self._pod(role))["metadata"]["uid"])

    async def _pod(self, role: str) -> Json:
        found = [p for p in await self._pods(self.mark) if p["metadata"]["labels"][ROLE] == role]
        if not found:
            raise Broken(f"probe pod {role!r} is gone")
        return found[0]

    async def _until(self, role: str, look: Callable[[Json], T | None]) -> T:
        """Look until there is an answer (nothing, "" and None are none). Raises `Broken`."""
        while True:
            try:
                found = await self._pod(role)
            except ResponderError as error:
                raise Broken(f"probe pod {role!r} cannot be seen: {error}") from error
            answer = look(found)
            if answer is not None and answer != "":
                return answer
            status = found.get("status") or {}
            statuses = status.get("containerStatuses") or []
            if why := stuck(statuses, status.get("phase", ""), status.get("reason", "")):
                raise Broken(f"probe pod {role!r}: {why}")
            await self.pause()


async def _delete(api: Api, item: Json) -> None:
    metadata = item["metadata"]
    with suppress(NotFound, Conflict):
        await api.delete(named("Pod", metadata["namespace"], metadata["name"]), metadata["uid"])


async def sweep(api: Api, mine: str = "") -> int:
    """Delete old probe pods that a crash has left; how many there were.

    All have a deadline that is much shorter than that age, so they belong to nobody any more.
    """
    home = api.connection.settings.home
    found = await api.items(collection("Pod", home), labelSelector=MARK)
    now = api.connection.world.clock.now()
    left = [
        item
        for item in found
        if item["metadata"]["labels"][MARK] != mine and now - _born(item, now) > _OLD * SECOND
    ]
    await together(_delete(api, item) for item in left)
    return len(left)


def _born(item: Json, now: int) -> int:
    """When an object was created, microseconds; now when it does not say."""
    try:
        text = str(item["metadata"]["creationTimestamp"])
        return int(dt.datetime.fromisoformat(text).timestamp()) * SECOND
    except (KeyError, ValueError):
        return now
