"""Have a merge request merged when its pipeline has succeeded.

Three traps of GitLab's, each seen in the field:

* Asked before the pipeline of the commit exists, it has merged at once and waited for nothing
  (https://gitlab.com/gitlab-org/gitlab/-/work_items/37292). So it is asked only once there is one,
  and always with the commit that was approved.
* Right after a merge request was made it answers 405
  (https://gitlab.com/gitlab-org/gitlab/-/issues/353984). So its status is waited for first.
* `merge_when_pipeline_succeeds` became `auto_merge` in 17.11
  (https://gitlab.com/gitlab-org/gitlab/-/issues/521291). Both are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from integrations._merging_forge import Request, Standing, must_be
from integrations.gitlab.client import Client, project_path
from integrations.gitlab.states import judge
from responder.clock import SECOND, World
from responder.errors import Conflict, StepFailed, StepRetry, Uncertain
from responder.text import for_terminal

__all__ = ["Accepting"]

# https://docs.gitlab.com/api/merge_requests/#merge-status
_UNSETTLED = {"checking", "unchecked", "preparing", "approvals_syncing"}
_NEVER = {
    "conflict": "it conflicts with its target branch",
    "broken_status": "it conflicts with its target branch",
    "draft_status": "somebody made it a draft",
}
_PERSON = {
    "not_approved": "a person must approve it there",
    "requested_changes": "a reviewer asks for changes there",
    "discussions_not_resolved": "its discussions must be resolved there",
    "blocked_status": "another merge request must be merged first",
    "need_rebase": "a person must rebase it, and then it is another commit",
    "policies_denied": "a policy of the project stops it",
}


class Accepting:
    """Merges of one GitLab; see the module for what it promises."""

    def __init__(
        self, client: Client, world: World, read: Callable[[Mapping[str, Any]], Request]
    ) -> None:
        self._client, self._world, self._read = client, world, read

    async def look(self, repo: str, number: int) -> Any:
        """The merge request as GitLab tells it."""
        path = f"{project_path(repo)}/merge_requests/{number}"
        return await self._client.get(f"look at merge request {number}", path)

    async def merge(self, repo: str, number: int, sha: str, *, checks: bool) -> Standing:
        """Ask for the merge once the commit's own pipeline is there; see `Repositories.merge`."""
        found = await self._settled(repo, number, sha, checks=checks)
        if found["state"] == "merged" or found.get("merge_when_pipeline_succeeds"):
            return self._standing(found)
        status = str(found.get("detailed_merge_status") or "")
        if status in _NEVER:
            raise StepFailed(f"it cannot be merged: {_NEVER[status]}: {found['web_url']}")
        order: dict[str, Any] = {"sha": sha}
        if checks:
            order |= {"auto_merge": True, "merge_when_pipeline_succeeds": True}
        path = f"{project_path(repo)}/merge_requests/{number}/merge"
        try:
            return self._standing(
                await self._client.put(f"merge merge request {number}", path, order)
            )
        except (Conflict, Uncertain) as error:
            read = self._read(await self.look(repo, number))
            must_be(read, sha)
            if isinstance(error, Conflict) and status in _PERSON:
                return Standing(read, f"{_PERSON[status]}: {read.url}", person=True)
            after = self._client.settings.poll
            raise StepRetry(f"{error}; it is looked at again", after=after) from error

    async def _settled(self, repo: str, number: int, sha: str, *, checks: bool) -> Any:
        """The merge request once GitLab has made up its mind and the commit has a pipeline."""
        settings = self._client.settings
        ends = self._world.clock.now() + int(settings.settle * SECOND)
        while True:
            found = await self.look(repo, number)
            must_be(self._read(found), sha)
            head = found.get("head_pipeline") or {}
            status = found.get("detailed_merge_status")
            built = not checks or head.get("sha") == sha
            if found["state"] == "merged" or (built and status not in _UNSETTLED):
                return found
            if self._world.clock.now() >= ends:
                what = f"is {status}" if built else "has no pipeline of this commit yet"
                raise StepRetry(f"merge request {number} {what}", after=settings.poll)
            await self._world.clock.sleep(max(0.1, settings.settle / 15))

    async def follow(self, repo: str, number: int, sha: str, *, person: bool) -> Standing:
        """Look whether it was merged; raises `StepFailed` when GitLab's auto-merge was dropped."""
        found = await self.look(repo, number)
        must_be(self._read(found), sha)
        status = str(found.get("detailed_merge_status") or "")
        if found["state"] == "merged" or found.get("merge_when_pipeline_succeeds"):
            return self._standing(found)
        if person:
            words = _PERSON.get(status, "a person merges it there")
            return Standing(self._read(found), f"{words}: {found['web_url']}", person=True)
        if found["state"] == "opened":
            ended = judge(str((found.get("head_pipeline") or {}).get("status") or ""))
            raise StepFailed(
                f"GitLab gave the merge up, its pipeline {ended.words}: {found['web_url']}"
            )
        return self._standing(found)

    def _standing(self, found: Mapping[str, Any]) -> Standing:
        read = self._read(found)
        if found["state"] == "merged":
            return Standing(read)
        state = judge(str((found.get("head_pipeline") or {}).get("status") or ""))
        status = for_terminal(str(found.get("detailed_merge_status") or ""), 40)
        return Standing(read, f"its pipeline: {state.words}{f' ({status})' if status else ''}")
