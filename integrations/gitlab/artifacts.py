"""Fetch a job's artifacts from GitLab, or without any credential from where it keeps them.

A GitLab with object storage may answer with a redirect to another host
(https://docs.gitlab.com/administration/object_storage/#proxy-download). The token never goes there.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from integrations._calling import Caller
from integrations._fetch import HttpError, fetch, new_session, own_classifier
from integrations.gitlab.client import Client, Elsewhere
from responder.clock import World
from responder.errors import NotFound, StepFailed

__all__ = ["Downloads"]

_OPENINGS = 3  # an address holds for a short time: ask for a new one rather than trust an old one


class Downloads:
    """Fetches artifacts, bounded while they come."""

    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self._caller = Caller(
            f"{client.name} artifacts",
            world,
            classify=own_classifier(world),
            threads=1,
            deadline=client.settings.timeout,
            attempts=1,  # an address is used once; `fetch` asks for a new one
        )
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, what: str, path: str, most: int) -> bytes:
        """The file at a path of the API, at most so many bytes.

        Raises `NotFound` when it is gone, `StepFailed` when it breaks a limit, `StepRetry` when
        nobody answers at the moment.
        """
        for _ in range(_OPENINGS):
            found = await self._client.file(f"fetch {what}", path, most)
            if isinstance(found, bytes):
                return found
            try:
                get = partial(self._get, found, most)
                return await self._caller.awaiting(f"fetch {what}", get)
            except NotFound:
                continue  # its time has passed
        raise NotFound(f"{what} is gone where the forge keeps it")

    async def close(self) -> None:
        """Close connections and pool."""
        if self._session:
            await self._session.close()
        self._caller.close()

    async def _get(self, place: Elsewhere, most: int) -> bytes:
        parts = urlsplit(place.url)
        own = urlsplit(self._client.settings.base_url)
        if parts.scheme != "https" and own.scheme == "https":
            raise StepFailed("the forge sends for an artifact to a place without TLS")
        if self._session is None:
            self._session = new_session(self._caller, timeout=self._client.settings.timeout)
        answer = await fetch(self._session, "GET", place.url, limit=most)
        if answer.status != HTTPStatus.OK:
            raise HttpError(answer.status, answer.headers)
        return answer.body
