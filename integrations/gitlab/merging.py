"""GitLab's merge requests as `_merging_forge.Repositories`. It decides nothing.

Branch and commit are made in one request, under a name that GitLab itself gives out once; and it
takes one open merge request of a branch only. So each write may be asked for again.

https://docs.gitlab.com/api/commits/#create-a-commit-with-multiple-files-and-actions
https://docs.gitlab.com/api/merge_requests/#create-mr
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from integrations._merging_forge import File, Order, Request, Standing, Terms, text_of
from integrations.gitlab.accepting import Accepting
from integrations.gitlab.client import Client, project_path
from integrations.gitlab.states import hint_of
from responder.clock import World
from responder.errors import Conflict, NotFound, StepFailed, StepRetry

__all__ = ["MergeRequests", "request_from"]

# `locked` is a merge in progress (https://docs.gitlab.com/api/merge_requests/#response)
_STATES = {"opened": "open", "locked": "open", "merged": "merged", "closed": "closed"}


class MergeRequests:
    """One GitLab's files, branches and merge requests."""

    terms = Terms(request="merge request", kind="MergeRequest")

    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self.poll = client.settings.poll
        self._accepting = Accepting(client, world, request_from)

    async def head(self, repo: str, branch: str) -> str:
        """See `Repositories.head`."""
        path = f"{project_path(repo)}/repository/branches/{quote(branch, safe='')}"
        found = await self._client.get(f"look for {branch} of {repo}", path)
        return str(found["commit"]["id"])

    async def has(self, repo: str, branch: str) -> bool:
        """See `Repositories.has`."""
        try:
            return bool(await self.head(repo, branch))
        except NotFound:
            return False

    async def file(self, repo: str, path: str, commit: str) -> File:
        """See `Repositories.file`."""
        place = f"{project_path(repo)}/repository/files/{quote(path, safe='')}"
        found = await self._client.get(f"read {path} of {repo}", place, ref=commit)
        text = text_of(f"{path} of {repo}", str(found["content"]), int(found.get("size") or 0))
        return File(text, str(found["blob_id"]))

    async def commit(self, order: Order) -> None:
        """See `Repositories.commit`. One request makes both, so there is no branch without it."""
        if await self.has(order.repo, order.branch):
            return
        action = {"action": "update", "file_path": order.file, "content": order.text}
        body = {
            "branch": order.branch,
            "start_sha": order.start,
            "commit_message": order.title,
            "actions": [action],
        }
        path = f"{project_path(order.repo)}/repository/commits"
        try:
            await self._client.post(f"commit to {order.branch} of {order.repo}", path, body)
        except StepFailed as error:  # 400, also where somebody was faster
            if await self.has(order.repo, order.branch):
                return
            if "already exists" in str(error):  # and it is not shown yet
                raise StepRetry(f"{error}; it is looked for again") from error
            raise

    async def request_of(self, repo: str, branch: str) -> Request | None:
        """See `Repositories.request_of`."""
        path = f"{project_path(repo)}/merge_requests"
        what = f"look for the merge request of {branch}"
        listed = await self._client.get(what, path, source_branch=branch, state="all")
        own = [one for one in listed if one["source_project_id"] == one["target_project_id"]]
        return request_from(own[0]) if own else None

    async def open(self, order: Order) -> Request:
        """See `Repositories.open`. Reviewers and labels are the project's own business."""
        body = {
            "source_branch": order.branch,
            "target_branch": order.target,
            "title": order.title,
            "description": order.body,
            "remove_source_branch": True,
        }
        path = f"{project_path(order.repo)}/merge_requests"
        try:
            what = f"open the merge request of {order.branch}"
            return request_from(await self._client.post(what, path, body))
        except Conflict as error:  # there is one: GitLab takes one open request of a branch
            found = await self.request_of(order.repo, order.branch)
            if found is None:  # and the list does not show it yet
                raise StepRetry(f"{error}; it is looked for again") from error
            return found

    async def look(self, repo: str, number: int) -> Request:
        """See `Repositories.look`."""
        return request_from(await self._accepting.look(repo, number))

    async def close(self, repo: str, number: int) -> None:
        """See `Repositories.close`."""
        path = f"{project_path(repo)}/merge_requests/{number}"
        await self._client.put(f"close merge request {number}", path, {"state_event": "close"})

    async def merge(self, repo: str, number: int, sha: str, *, checks: bool) -> Standing:
        """See `Accepting.merge`."""
        return await self._accepting.merge(repo, number, sha, checks=checks)

    async def follow(self, repo: str, number: int, sha: str, *, person: bool) -> Standing:
        """See `Accepting.follow`."""
        return await self._accepting.follow(repo, number, sha, person=person)

    def hint(self, repo: str, number: int) -> str:
        """`gitlab:group/project:!7`."""
        return hint_of(repo, f"!{number}")


def request_from(data: Mapping[str, Any]) -> Request:
    """A merge request of the API. An unknown state counts as open: nothing is concluded from it."""
    count = str(data.get("changes_count") or "")
    return Request(
        number=int(data["iid"]),
        url=str(data["web_url"]),
        sha=str(data["sha"]),
        target=str(data["target_branch"]),
        state=_STATES.get(str(data["state"]), "open"),
        commit=str(data.get("merge_commit_sha") or data.get("squash_commit_sha") or data["sha"]),
        files=int(count) if count.isdecimal() else 0,
    )
