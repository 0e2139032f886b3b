"""Have a pull request merged, pinned to its commit, once its checks have passed.

GitHub's auto-merge is not used: it stays switched on when somebody with write access pushes, so
that another commit than the approved one would be merged. And GitHub counts a commit that nobody
has checked yet as clean, so a merge asked for at once waits for nothing. So what is waited for is
the commit's own check runs and statuses, and the merge is one request that names the commit.
https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request

What only people may do (a review, the merge queue, another rule of the branch) is waited for; then
they merge it there, and that is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from integrations._merging_forge import Request, Standing, must_be
from integrations.github.client import Forge
from responder.clock import SECOND, World
from responder.errors import Conflict, StepFailed, StepRetry, Uncertain

__all__ = ["Merging"]

_RIGHT = "contents: write and pull_requests: write"
_PASSED = {"success", "neutral", "skipped"}
_PAGE = "100"
# https://docs.github.com/en/graphql/reference/enums#mergestatestatus
_NEVER = {
    "dirty": "it conflicts with its target branch",
    "draft": "somebody made it a draft",
}
_PERSON = {
    "blocked": "a rule of the branch wants more: a review or a required check; a person merges it",
    "behind": "it must be brought up to date with its target, and then it is another commit",
}
_PEOPLE = ("merge queue", "rule violation", "not allowed", "approving review", "required status")


class Merging:
    """Merges of one GitHub; see the module for what it promises."""

    def __init__(
        self, forge: Forge, world: World, read: Callable[[Mapping[str, Any]], Request]
    ) -> None:
        self._forge, self._world, self._read = forge, world, read

    async def look(self, repo: str, number: int) -> Any:
        """The pull request as GitHub tells it."""
        path = f"/repos/{repo}/pulls/{number}"
        what = f"look at pull request {number} of {repo}"
        return await self._forge.ask(what, "GET", path, right="pull_requests: read")

    async def merge(self, repo: str, number: int, sha: str, *, checks: bool) -> Standing:
        """Merge this commit; see `Repositories.merge`."""
        found = await self._settled(repo, number, sha)
        read = self._read(found)
        if read.state == "merged":
            return Standing(read)
        if checks:
            await self._passed(repo, sha, read.url)
        state = str(found.get("mergeable_state") or "")
        if state in _NEVER:
            raise StepFailed(f"it cannot be merged: {_NEVER[state]}: {read.url}")
        if state in _PERSON:
            return Standing(read, f"{_PERSON[state]}: {read.url}", person=True)
        return await self._asked(repo, number, sha)

    async def _asked(self, repo: str, number: int, sha: str) -> Standing:
        path = f"/repos/{repo}/pulls/{number}/merge"
        what = f"merge pull request {number} of {repo}"
        try:
            await self._forge.ask(what, "PUT", path, body={"sha": sha}, right=_RIGHT)
        except (Conflict, Uncertain) as error:
            found = await self.look(repo, number)
            read = self._read(found)
            must_be(read, sha)
            if read.state == "merged":
                return Standing(read)
            after, said = self._forge.settings.poll, str(error)
            if isinstance(error, Conflict) and _for_people(said):
                return Standing(read, f"{said}; a person merges it: {read.url}", person=True)
            raise StepRetry(f"{said}; it is looked at again", after=after) from error
        read = self._read(await self.look(repo, number))
        must_be(read, sha)
        if read.state != "merged":
            raise StepRetry(f"pull request {number} was merged and does not show it yet")
        return Standing(read)

    async def _settled(self, repo: str, number: int, sha: str) -> Any:
        """The pull request once GitHub has computed whether it can be merged; `null` until then.

        https://docs.github.com/en/rest/guides/using-the-rest-api-to-interact-with-your-git-database
        """
        settings = self._forge.settings
        ends = self._world.clock.now() + int(settings.settle * SECOND)
        while True:
            found = await self.look(repo, number)
            read = self._read(found)
            must_be(read, sha)
            known = found.get("mergeable") is not None
            if read.state == "merged" or (known and found.get("mergeable_state") != "unknown"):
                return found
            if self._world.clock.now() >= ends:
                text = f"GitHub does not say yet whether pull request {number} can be merged"
                raise StepRetry(text, after=settings.poll)
            await self._world.clock.sleep(max(0.1, settings.settle / 15))

    async def _passed(self, repo: str, sha: str, url: str) -> None:
        """Return when the commit was checked and all has passed.

        Raises `StepRetry` while nothing has checked it or something still does, `StepFailed` when
        something has failed.
        """
        base = f"/repos/{repo}/commits/{sha}"
        what, query = f"look at the checks of {sha[:12]}", {"per_page": _PAGE}
        runs = await self._forge.ask(
            what, "GET", f"{base}/check-runs", query=query, right="checks: read"
        )
        said = await self._forge.ask(
            what, "GET", f"{base}/status", query=query, right="statuses: read"
        )
        if runs["total_count"] > int(_PAGE) or said["total_count"] > int(_PAGE):
            raise StepFailed(f"more than {_PAGE} checks look at it; a person merges it: {url}")
        ended = [one for one in runs["check_runs"] if one["status"] == "completed"]
        failed = [one for one in ended if one["conclusion"] not in _PASSED]
        if failed or said["state"] == "failure":
            count = len(failed) + sum(s["state"] in {"failure", "error"} for s in said["statuses"])
            raise StepFailed(f"{count} of its checks failed: {url}")
        after = self._forge.settings.poll
        if not ended and not runs["total_count"] and not said["total_count"]:
            raise StepRetry("nothing has checked this commit yet", after=after)
        if len(ended) < runs["total_count"] or (said["total_count"] and said["state"] != "success"):
            raise StepRetry("its checks are not done yet", after=after)

    async def follow(self, repo: str, number: int, sha: str, *, person: bool) -> Standing:  # noqa: ARG002 - GitHub merges nothing by itself
        """Look whether people have merged it; see `Repositories.follow`."""
        found = await self.look(repo, number)
        read = self._read(found)
        must_be(read, sha)
        if read.state == "merged":
            return Standing(read)
        state = str(found.get("mergeable_state") or "")
        words = _PERSON.get(state, "a person merges it there")
        return Standing(read, f"{words}: {read.url}", person=True)


def _for_people(said: str) -> bool:
    """Whether a refusal names what no repeated request can change."""
    words = said.lower()
    return any(part in words for part in _PEOPLE)
