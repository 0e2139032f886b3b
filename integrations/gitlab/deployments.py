"""GitLab's deployments as a forge of `deployment.record`.

A deployment made from outside keeps no mark of ours, only environment, commit, ref and status. So
the plan notes which was the newest of the environment, and one that came after it, was made by no
job, and is of our commit, is ours when an answer was lost. A later step of the same run goes on
with the one that is still running. Two runs that roll the same commit into the same environment at
once could at worst share a record: never make a second one for one step.
https://docs.gitlab.com/api/deployments/#create-a-deployment
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from integrations._deploying import STATES, Found, Wanted
from integrations.gitlab.client import Client, project_path
from responder.errors import NotFound, StepFailed
from responder.ports import ImageRoute
from responder.text import for_terminal

__all__ = ["GitLabDeployments"]

_NEWEST = 50  # looked through: one page of an environment
_STATUSES = {"running": "running", "success": "success", "failure": "failed"}


class GitLabDeployments:
    """One GitLab as `_deploying.Deployments`. It decides nothing."""

    kind = "GitLab deployment"
    residual: tuple[str, ...] = ()

    def __init__(self, client: Client) -> None:
        self._client = client
        self.settle = client.settings.settle

    async def commit(self, route: ImageRoute, asked: str, run: int) -> str:
        """The commit that GitLab itself names; see `_deploying.Deployments`."""
        base = project_path(route.repo)
        try:
            if run and not asked:
                what = f"look at pipeline {run} of {route.repo}"
                return str((await self._client.get(what, f"{base}/pipelines/{run}"))["sha"])
            name = asked or route.ref
            path = f"{base}/repository/commits/{quote(name, safe='')}"
            return str((await self._client.get(f"look at {name} of {route.repo}", path))["id"])
        except NotFound as error:
            raise StepFailed(f"{error}; no commit to record a deployment of") from error

    async def newest(self, repo: str, environment: str) -> int:
        """The newest deployment of an environment, 0 without one."""
        return max((int(one["id"]) for one in await self._listed(repo, environment)), default=0)

    async def open(self, repo: str, wanted: Wanted) -> Found | None:
        """The newest of ours that still runs: an earlier step of the same rollout made it."""
        listed = await self._listed(repo, wanted.environment)
        running = [one for one in listed if one.get("status") in ("created", "running")]
        return _ours(running, wanted, after=0)

    async def lost(self, repo: str, wanted: Wanted) -> Found | None:
        """The newest of ours that came after the plan, whatever its state."""
        listed = await self._listed(repo, wanted.environment)
        return _ours(listed, wanted, after=wanted.after)

    async def _listed(self, repo: str, environment: str) -> list[Any]:
        found = await self._client.get(
            f"list deployments of {repo}",
            f"{project_path(repo)}/deployments",
            environment=environment,
            order_by="id",
            sort="desc",
            per_page=_NEWEST,
        )
        return list(found)

    async def look(self, repo: str, number: int) -> Found:
        """One deployment as it is now."""
        path = f"{project_path(repo)}/deployments/{number}"
        return _found(await self._client.get(f"look at deployment {number} of {repo}", path))

    async def create(self, repo: str, wanted: Wanted, state: str) -> Found:
        """One POST that tells the state as well."""
        order = {
            "environment": wanted.environment,
            "sha": wanted.commit,
            "ref": wanted.ref,
            "tag": False,
            "status": _STATUSES[state],
        }
        what = f"make a deployment of {repo}"
        return _found(await self._client.post(what, f"{project_path(repo)}/deployments", order))

    async def say(self, repo: str, number: int, wanted: Wanted, state: str) -> None:
        """One PUT of the status."""
        del wanted
        path = f"{project_path(repo)}/deployments/{number}"
        what = f"tell {state} of deployment {number} of {repo}"
        await self._client.put(what, path, {"status": _STATUSES[state]})


def _ours(listed: list[Any], wanted: Wanted, *, after: int) -> Found | None:
    """The newest that no job has made, of our commit and ref, after a number."""
    mine = [
        one
        for one in listed
        if int(one["id"]) > after
        and not one.get("deployable")
        and (one.get("sha"), one.get("ref")) == (wanted.commit, wanted.ref)
    ]
    return _found(max(mine, key=lambda one: int(one["id"]))) if mine else None


def _found(one: Mapping[str, Any]) -> Found:
    """GitLab keeps the last status only; what was told before a later one counts as told."""
    status = str(one.get("status") or "")
    said = {name for name in STATES if _STATUSES[name] == status}
    if status in ("success", "failed", "canceled"):
        said.add("running")
    return Found(
        id=int(one["id"]),
        commit=str(one["sha"]),
        url="",
        now=for_terminal(status, 40),
        said=frozenset(said),
    )
