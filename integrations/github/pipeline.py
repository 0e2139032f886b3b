"""GitHub's workflows as a forge of `pipeline.run`: joins the client and the downloads.

A workflow must be named `run-name: … ${{ inputs.correlation_id }}` and upload an artifact `build`
with `build.json`. One that is started by `repository_dispatch` finds the same inputs in
`github.event.client_payload`, and that is where its run-name takes the id from. Everything else
that `pipeline.run` promises is in `integrations._pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from integrations._artifacts import Build
from integrations._forge import Run, State
from integrations.github.artifacts import Downloads
from integrations.github.client import Forge
from integrations.github.runs import TERMS, approval, group_place, hint_of
from responder.errors import NotFound, StepFailed, StepRetry
from responder.ports import Call, ImageRoute

__all__ = ["Workflows"]

_MORE: Mapping[str, Callable[[State, object], State]] = {
    "pending_deployments": approval,
    "concurrency_groups": group_place,
}


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

    def paused(self) -> float:
        """Seconds that GitHub wants to be left alone."""
        return self._forge.brake.left()

    async def start(self, route: ImageRoute, inputs: Mapping[str, str]) -> int:
        """Dispatch once, the workflow or the route's event; see the client."""
        if route.event:
            await self._forge.dispatch_event(route.repo, route.event, inputs)
            return 0
        return await self._forge.dispatch(route.repo, route.workflow, route.ref, inputs)

    async def recent(self, repo: str, workflow: str, since: int, event: str = "") -> list[Run]:
        """The newest runs of a workflow that were started as the route says."""
        kind = "repository_dispatch" if event else "workflow_dispatch"
        return await self._forge.recent_runs(repo, workflow, since, kind)

    async def look(self, repo: str, number: int) -> Run:
        """One run as it is now, with who or what it waits for; raises `NotFound`."""
        run = await self._forge.run(repo, number)
        return replace(run, state=await self._said(repo, run)) if run.state.more else run

    async def _said(self, repo: str, run: Run) -> State:
        """What GitHub adds to a wait; where it is not told, the wait is the same."""
        path = f"/repos/{repo}/actions/runs/{run.id}/{run.state.more}"
        try:
            told = await self._forge.ask(f"see what run {run.id} waits for", "GET", path)
        except (StepRetry, StepFailed, NotFound):
            return run.state
        return _MORE[run.state.more](run.state, told)

    async def build(self, repo: str, run: Run) -> Build:
        """What the artifact of this attempt says."""
        return await self._downloads.build(repo, run)

    async def keep_reports(self, call: Call, repo: str, run: Run) -> None:
        """Keep the run's scan reports as evidence, where the settings name an artifact for them."""
        await self._downloads.keep_reports(call, repo, run)

    def hint(self, repo: str, mark: int | str) -> str:
        """`github:owner/repo:4711`."""
        return hint_of(repo, mark)
