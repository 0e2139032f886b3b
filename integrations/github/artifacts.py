"""Fetch what a pipeline says it built; `integrations._artifacts` reads the archive.

The address of an archive is another host than the API's and holds for one minute; it is fetched
without any credential (https://docs.github.com/en/rest/actions/artifacts#download-an-artifact).
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from integrations._artifacts import (
    MEMBER,
    REPORTS_ZIP_MAX,
    ZIP_MAX,
    Build,
    keep_reports,
    read_build,
)
from integrations._calling import Caller
from integrations._fetch import HttpError, fetch, new_session, own_classifier
from integrations._forge import Run
from integrations.github.client import Artifact, Forge
from responder.clock import SECOND, World
from responder.errors import NotFound, StepFailed
from responder.ports import Call, EvidenceSink

__all__ = ["Downloads"]

_LATE = 30 * SECOND  # between an attempt's last artifact and its last change
_OPENINGS = 3  # an address lives one minute: ask for a new one rather than trust an old one


class Downloads:
    """Fetches artifacts from wherever the forge keeps them, without a credential."""

    def __init__(self, forge: Forge, world: World, evidence: EvidenceSink | None = None) -> None:
        self._forge = forge
        self._evidence = evidence
        self._caller = Caller(
            f"{forge.name} artifacts",
            world,
            classify=own_classifier(world),
            threads=1,
            deadline=forge.settings.timeout,
            attempts=1,  # the address is used once; `build` asks for a new one
        )
        self._session: aiohttp.ClientSession | None = None

    async def build(self, repo: str, run: Run) -> Build:
        """What this attempt of a finished run built.

        Raises `StepFailed` when there is no such artifact, it has expired, or it breaks a limit;
        `StepRetry` when nobody answers at the moment.
        """
        name = self._forge.settings.artifact
        found = await self._named(repo, run, name, ZIP_MAX)
        if found is None:
            where = f"run {run.id} of {repo}"
            raise StepFailed(f'{where} has no artifact "{name}" that holds {MEMBER}')
        return read_build(found)

    async def keep_reports(self, call: Call, repo: str, run: Run) -> None:
        """Keep a run's scan reports as evidence, where the settings name an artifact for them.

        A run without one is none the worse: what needs the reports says that they are missing.
        Raises `StepFailed` and `StepRetry` as `build` does.
        """
        name = self._forge.settings.reports
        if not name or self._evidence is None:
            return
        found = await self._named(repo, run, name, REPORTS_ZIP_MAX)
        if found is not None:
            origin = {"system": self._forge.name, "repo": repo, "run": str(run.id)}
            await keep_reports(self._evidence, call, found, origin)

    async def _named(self, repo: str, run: Run, name: str, most: int) -> bytes | None:
        """The attempt's archive of that name, or nothing; bounded before and while fetched."""
        where = f"run {run.id} of {repo}"
        listed = await self._forge.artifacts(repo, run.id, name)
        if not listed:
            return None
        newest = await self._of_attempt(repo, run, listed)
        if newest is None:
            raise StepFailed(
                f'artifact "{name}" of {where} is from another attempt than {run.attempt}, '
                "which was watched; run the pipeline again as a whole"
            )
        if newest.expired:
            raise StepFailed(f'artifact "{name}" of {where} has expired; run the pipeline again')
        if newest.size > most:
            raise StepFailed(
                f'artifact "{name}" of {where} has {newest.size} bytes, expected at most {most}'
            )
        return await self._archive(repo, newest, most)

    async def _of_attempt(self, repo: str, run: Run, listed: list[Artifact]) -> Artifact | None:
        """The newest artifact that this attempt has made, or has taken over with a job's success.

        GitHub lists the artifacts of all attempts together and does not say whose each is. "Re-run
        failed jobs" keeps what the others made, so an older one counts where such a job made it.
        https://docs.github.com/en/actions/how-tos/manage-workflow-runs/re-run-workflows-and-jobs
        """
        in_time = [one for one in listed if not (run.ended and one.made > run.ended + _LATE)]
        own = [one for one in in_time if one.made >= run.began]
        if own or not in_time or run.attempt == 1:
            return next(iter(own or in_time), None)
        kept = await self._forge.kept_jobs(repo, run.id, run.attempt)
        older = (one for one in in_time if any(a <= one.made <= b + SECOND for a, b in kept))
        return next(older, None)

    async def close(self) -> None:
        """Close connections and pool."""
        if self._session:
            await self._session.close()
        self._caller.close()

    async def _archive(self, repo: str, artifact: Artifact, most: int) -> bytes:
        for _ in range(_OPENINGS):
            try:
                url = await self._forge.archive_url(repo, artifact.id)
            except NotFound as error:
                raise StepFailed(f"artifact {artifact.id} of {repo} is gone (410)") from error
            try:
                return await self._caller.awaiting(
                    f"fetch artifact {artifact.id} of {repo}", partial(self._get, url, most)
                )
            except NotFound:
                continue  # the minute has passed
        raise StepFailed(f"artifact {artifact.id} of {repo} is gone where the forge keeps it (410)")

    async def _get(self, url: str, most: int) -> bytes:
        parts = urlsplit(url)
        own = urlsplit(self._forge.settings.base_url)
        if parts.scheme != "https" and own.scheme == "https":
            raise StepFailed("the forge sends for an artifact to a place without TLS")
        if self._session is None:
            self._session = new_session(self._caller, timeout=self._forge.settings.timeout)
        answer = await fetch(self._session, "GET", url, limit=most)
        if answer.status != HTTPStatus.OK:
            raise HttpError(answer.status, answer.headers)
        return answer.body
