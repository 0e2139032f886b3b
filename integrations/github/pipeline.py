"""GitHub's workflows as a forge of `pipeline.run`: joins the client and the downloads.

A workflow must be named `run-name: … ${{ inputs.correlation_id }}` and upload an artifact `build`
with `build.json`; everything else that `pipeline.run` promises is in `integrations._pipeline`.
"""

from __future__ import annotations

from collections.abc import Mapping

from integrations._artifacts import Build
from integrations._forge import Run
from integrations.github.artifacts import Downloads
from integrations.github.client import Forge
from integrations.github.runs import TERMS, hint_of
from responder.errors import NotFound, StepFailed
from responder.ports import Call, ImageRoute

__all__ = ["Workflows"]


class Workflows:
    """One GitHub as `_forge.Forge`. It decides nothing."""

    terms = TERMS

    def __init__(self, forge: Forge, downloads: Downloads) -> None:
        self._forge = forge
        self._downloads = downloads
        self.poll = forge.settings.poll
        self.settle = forge.settings.settle

    async def ready(self, route: ImageRoute) -> None:
        """The workflow is there and switched on; see `_forge.Forge`."""
        try:
            state = await self._forge.workflow_state(route.repo, route.workflow)
        except NotFound as error:
            raise StepFailed(
                f"{route.repo} has no workflow {route.workflow} that {self._forge.name} shows us; "
                "check [[images]] and the credential's rights"
            ) from error
        if state != "active":
            raise StepFailed(f"workflow {route.workflow} of {route.repo} is {state}; enable it")

    async def start(self, repo: str, workflow: str, ref: str, inputs: Mapping[str, str]) -> int:
        """Dispatch once; see `Forge.dispatch` of the client."""
        return await self._forge.dispatch(repo, workflow, ref, inputs)

    async def recent(self, repo: str, workflow: str, since: int) -> list[Run]:
        """The newest dispatched runs of a workflow."""
        return await self._forge.recent_runs(repo, workflow, since)

    async def look(self, repo: str, number: int) -> Run:
        """One run as it is now; raises `NotFound`."""
        return await self._forge.run(repo, number)

    async def build(self, repo: str, number: int) -> Build:
        """What the run's artifact says."""
        return await self._downloads.build(repo, number)

    async def keep_reports(self, call: Call, repo: str, number: int) -> None:
        """Keep the run's scan reports as evidence, where the settings name an artifact for them."""
        await self._downloads.keep_reports(call, repo, number)

    def hint(self, repo: str, mark: int | str) -> str:
        """`github:owner/repo:4711`."""
        return hint_of(repo, mark)
