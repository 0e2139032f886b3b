"""Read what a pipeline says it built: one small JSON file in one small zip, in memory.

The workflow is not ours, so its archive is hostile until read: sizes are bounded before and while
unpacking, nothing is extracted to disk, and exactly one member with the agreed name is accepted.

The address of an archive is another host than the API's and holds for one minute; it is fetched
without any credential (https://docs.github.com/en/rest/actions/artifacts#download-an-artifact).
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from integrations._calling import Caller
from integrations._fetch import HttpError, fetch, new_session, own_classifier
from integrations._images import is_digest
from integrations.github.client import Artifact, Forge
from responder.clock import World
from responder.errors import NotFound, StepFailed
from responder.text import for_terminal

__all__ = ["Build", "Downloads", "read_build"]

MEMBER = "build.json"
ZIP_MAX = 256 << 10
MEMBER_MAX = 64 << 10
_FIELD_MAX = 512
_OPENINGS = 3  # an address lives one minute: ask for a new one rather than trust an old one


@dataclass(frozen=True, slots=True)
class Build:
    """What the pipeline says; a claim until the registry has said the same.

    `tag` is optional: with it the registry is asked for the tag that this very run pushed.
    """

    image: str
    digest: str
    correlation_id: str
    revision: str = ""
    tag: str = ""


def read_build(archive: bytes) -> Build:
    """The build in an artifact's zip; raises `StepFailed` that says what is wrong with it."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            text = _only_member(opened)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise StepFailed(f"the artifact is no readable zip ({type(error).__name__})") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StepFailed(f"{MEMBER} is not JSON") from error
    if not isinstance(value, dict):
        raise StepFailed(f"{MEMBER}: expected an object, got {type(value).__name__}")
    build = Build(**{key: _field(value, key) for key in Build.__slots__})
    if not is_digest(build.digest):
        raise StepFailed(
            f'{MEMBER}: expected digest sha256:…, got "{for_terminal(build.digest, 80)}"'
        )
    return build


def _only_member(opened: zipfile.ZipFile) -> bytes:
    members = opened.infolist()
    if len(members) != 1 or members[0].filename != MEMBER:
        names = ", ".join(for_terminal(member.filename, 40) for member in members[:5])
        raise StepFailed(f"the artifact holds [{names}], expected only {MEMBER}")
    if members[0].file_size > MEMBER_MAX:
        raise StepFailed(f"{MEMBER} says it has {members[0].file_size} bytes, at most {MEMBER_MAX}")
    with opened.open(members[0]) as file:  # what the header says is not what unpacks: read bounded
        text = file.read(MEMBER_MAX + 1)
    if len(text) > MEMBER_MAX:
        raise StepFailed(f"{MEMBER} is longer than {MEMBER_MAX} bytes")
    return text


def _field(value: dict[str, object], key: str) -> str:
    item = value.get(key, "")
    if not isinstance(item, str) or len(item) > _FIELD_MAX:
        raise StepFailed(f"{MEMBER}: {key}: expected a text of at most {_FIELD_MAX} characters")
    return item


class Downloads:
    """Fetches artifacts from wherever the forge keeps them, without a credential."""

    def __init__(self, forge: Forge, world: World) -> None:
        self._forge = forge
        self._caller = Caller(
            f"{forge.name} artifacts",
            world,
            classify=own_classifier(world),
            threads=1,
            deadline=forge.settings.timeout,
            attempts=1,  # the address is used once; `build` asks for a new one
        )
        self._session: aiohttp.ClientSession | None = None

    async def build(self, repo: str, run_id: int) -> Build:
        """What a finished run built.

        Raises `StepFailed` when there is no such artifact, it has expired, or it breaks a limit;
        `StepRetry` when nobody answers at the moment.
        """
        name = self._forge.settings.artifact
        where = f"run {run_id} of {repo}"
        listed = await self._forge.artifacts(repo, run_id, name)
        if not listed:
            raise StepFailed(f'{where} has no artifact "{name}" that holds {MEMBER}')
        newest = listed[0]
        if newest.expired:
            raise StepFailed(f'artifact "{name}" of {where} has expired; run the pipeline again')
        if newest.size > ZIP_MAX:
            raise StepFailed(
                f'artifact "{name}" of {where} has {newest.size} bytes, expected at most {ZIP_MAX}'
            )
        return read_build(await self._archive(repo, newest))

    async def close(self) -> None:
        """Close connections and pool."""
        if self._session:
            await self._session.close()
        self._caller.close()

    async def _archive(self, repo: str, artifact: Artifact) -> bytes:
        for _ in range(_OPENINGS):
            try:
                url = await self._forge.archive_url(repo, artifact.id)
            except NotFound as error:
                raise StepFailed(f"artifact {artifact.id} of {repo} is gone (410)") from error
            try:
                return await self._caller.awaiting(
                    f"fetch artifact {artifact.id} of {repo}", partial(self._get, url)
                )
            except NotFound:
                continue  # the minute has passed
        raise StepFailed(f"artifact {artifact.id} of {repo} is gone where the forge keeps it (410)")

    async def _get(self, url: str) -> bytes:
        parts = urlsplit(url)
        own = urlsplit(self._forge.settings.base_url)
        if parts.scheme != "https" and own.scheme == "https":
            raise StepFailed("the forge sends for an artifact to a place without TLS")
        if self._session is None:
            self._session = new_session(self._caller, timeout=self._forge.settings.timeout)
        answer = await fetch(self._session, "GET", url, limit=ZIP_MAX)
        if answer.status != HTTPStatus.OK:
            raise HttpError(answer.status, answer.headers)
        return answer.body
