"""GitHub's pull requests as `_merging_forge.Repositories`. It decides nothing.

A branch and its commit are two writes here. GitHub gives a branch's name out once, and takes a
commit to a file only on top of the content that we name by its hash; it takes one open pull
request of a branch. So each write may be asked for again, and does nothing the second time.

https://docs.github.com/en/rest/git/refs#create-a-reference
https://docs.github.com/en/rest/repos/contents#create-or-update-file-contents
https://docs.github.com/en/rest/pulls/pulls#create-a-pull-request

Pull requests that are made with a workflow's own GITHUB_TOKEN start no workflows, so their checks
never come (https://docs.github.com/en/actions/concepts/security/github_token): use an App or a
fine-grained token.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from integrations._merging_forge import File, Order, Request, Standing, Terms, text_of
from integrations.github.client import Forge
from integrations.github.merging import Merging
from integrations.github.runs import hint_of
from responder.clock import World
from responder.errors import Conflict, NotFound, StepFailed, StepRetry

__all__ = ["PullRequests", "request_from"]

_CONTENTS = "contents: write"
_PULLS = "pull_requests: write"


class PullRequests:
    """One GitHub's files, branches and pull requests."""

    terms = Terms(request="pull request", kind="PullRequest")

    def __init__(self, forge: Forge, world: World) -> None:
        self._forge = forge
        self.poll = forge.settings.poll
        self._merging = Merging(forge, world, request_from)

    async def head(self, repo: str, branch: str) -> str:
        """See `Repositories.head`."""
        path = f"/repos/{repo}/git/ref/heads/{quote(branch)}"
        what = f"look for {branch} of {repo}"
        found = await self._forge.ask(what, "GET", path, right="contents: read")
        return str(found["object"]["sha"])

    async def has(self, repo: str, branch: str) -> bool:
        """See `Repositories.has`."""
        try:
            return bool(await self.head(repo, branch))
        except NotFound:
            return False

    async def file(self, repo: str, path: str, commit: str) -> File:
        """See `Repositories.file`."""
        place, what = f"/repos/{repo}/contents/{quote(path)}", f"{path} of {repo}"
        query = {"ref": commit}
        found = await self._forge.ask(
            f"read {what}", "GET", place, query=query, right="contents: read"
        )
        if not isinstance(found, dict) or found.get("type") != "file":
            raise StepFailed(f"{what} is no file")
        text = text_of(what, str(found.get("content") or ""), int(found["size"]))
        return File(text, str(found["sha"]))

    async def commit(self, order: Order) -> None:
        """See `Repositories.commit`. The branch first, then the one commit on it."""
        if not await self.has(order.repo, order.branch):
            await self._branch(order)
        head = await self.head(order.repo, order.branch)
        if (await self.file(order.repo, order.file, head)).blob != order.blob:
            return  # the commit is there, or another's: who asked compares
        body = {
            "message": order.title,
            "content": base64.b64encode(order.text.encode()).decode(),
            "sha": order.blob,
            "branch": order.branch,
        }
        path = f"/repos/{order.repo}/contents/{quote(order.file)}"
        what = f"commit to {order.branch} of {order.repo}"
        try:
            await self._forge.ask(what, "PUT", path, body=body, right=_CONTENTS)
        except Conflict as error:  # 409: the file there is no longer the one we named
            raise StepRetry(f"{error}; it is looked at again") from error

    async def _branch(self, order: Order) -> None:
        body = {"ref": f"refs/heads/{order.branch}", "sha": order.start}
        what = f"make {order.branch} of {order.repo}"
        try:
            path = f"/repos/{order.repo}/git/refs"
            await self._forge.ask(what, "POST", path, body=body, right=_CONTENTS)
        except (StepFailed, Conflict) as error:  # 422 "Reference already exists"
            if await self.has(order.repo, order.branch):
                return
            if "already exists" in str(error):  # and it is not shown yet
                raise StepRetry(f"{error}; it is looked for again") from error
            raise

    async def request_of(self, repo: str, branch: str) -> Request | None:
        """See `Repositories.request_of`."""
        owner = repo.partition("/")[0]
        query = {"head": f"{owner}:{branch}", "state": "all"}
        what = f"look for the pull request of {branch}"
        path = f"/repos/{repo}/pulls"
        listed = await self._forge.ask(what, "GET", path, query=query, right=_PULLS)
        mine = [request_from(one) for one in listed if _is_from(one["head"], repo, branch)]
        return max(mine, key=lambda one: one.number) if mine else None

    async def open(self, order: Order) -> Request:
        """See `Repositories.open`. Reviewers and labels are the repository's own business."""
        body = {
            "title": order.title,
            "head": order.branch,
            "base": order.target,
            "body": order.body,
        }
        path = f"/repos/{order.repo}/pulls"
        try:
            what = f"open the pull request of {order.branch}"
            made = await self._forge.ask(what, "POST", path, body=body, right=_PULLS)
        except (StepFailed, Conflict) as error:  # 422: there is one already, or it never can be
            found = await self.request_of(order.repo, order.branch)
            if found is not None:
                return found
            if "already exists" in str(error):  # and the list does not show it yet
                raise StepRetry(f"{error}; it is looked for again") from error
            raise
        return request_from(made)

    async def look(self, repo: str, number: int) -> Request:
        """See `Repositories.look`."""
        return request_from(await self._merging.look(repo, number))

    async def close(self, repo: str, number: int) -> None:
        """See `Repositories.close`."""
        path = f"/repos/{repo}/pulls/{number}"
        what = f"close pull request {number} of {repo}"
        await self._forge.ask(what, "PATCH", path, body={"state": "closed"}, right=_PULLS)

    async def merge(self, repo: str, number: int, sha: str, *, checks: bool) -> Standing:
        """See `Merging.merge`."""
        return await self._merging.merge(repo, number, sha, checks=checks)

    async def follow(self, repo: str, number: int, sha: str, *, person: bool) -> Standing:
        """See `Merging.follow`."""
        return await self._merging.follow(repo, number, sha, person=person)

    def hint(self, repo: str, number: int) -> str:
        """`github:owner/repo:#7`."""
        return hint_of(repo, f"#{number}")


def _is_from(head: Mapping[str, Any], repo: str, branch: str) -> bool:
    """Whether a pull request comes from this very branch; GitHub's names have no case.

    A fork that was deleted since is no repository any more: `repo` is null then.
    """
    home = (head.get("repo") or {}).get("full_name") or ""
    return head["ref"] == branch and str(home).lower() == repo.lower()


def request_from(data: Mapping[str, Any]) -> Request:
    """A pull request of the API, from a list or by itself; a list does not say `merged`."""
    state = "open" if data["state"] == "open" else "closed"
    return Request(
        number=int(data["number"]),
        url=str(data["html_url"]),
        sha=str(data["head"]["sha"]),
        target=str(data["base"]["ref"]),
        state="merged" if data.get("merged_at") else state,
        commit=str(data.get("merge_commit_sha") or "") if data.get("merged_at") else "",
        files=int(data.get("changed_files") or 0),
    )
