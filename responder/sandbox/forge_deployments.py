"""Deployments of the rehearsal's forge: made, given states, listed; and the commit they are of.

https://docs.github.com/en/rest/deployments/deployments?apiVersion=2022-11-28

It keeps what it is told and never deploys anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from typing import Any

from aiohttp import web

from responder.clock import World
from responder.sandbox.effects import Effects
from responder.sandbox.forge_words import node_id, owner, when

__all__ = ["Deployments", "head_of"]

_STATES = {"error", "failure", "inactive", "in_progress", "queued", "pending", "success"}
_DESCRIPTION_MAX = 140
_ONE = "/deployments/{deployment:[0-9]+}"


def head_of(repo: str, branch: str) -> str:
    """The commit at the tip of a branch: the same for every run of the rehearsal."""
    return hashlib.sha1(f"{repo}@{branch}".encode(), usedforsecurity=False).hexdigest()


class Deployments:
    """What one repository has been told of its deployments."""

    def __init__(
        self,
        world: World,
        repo: str,
        number: Callable[[], int],
        branches: Collection[str],
        effects: Effects,
    ) -> None:
        self._world, self._repo, self._number = world, repo, number
        self._heads = {branch: head_of(repo, branch) for branch in branches}
        self._effects = effects
        self._made: dict[int, dict[str, Any]] = {}
        self._states: dict[int, list[dict[str, Any]]] = {}

    def routes(self, root: Callable[[web.Request], str]) -> list[tuple[str, str, Any]]:
        """Method, path below the repository, and handler of each operation."""

        def rooted(handler: Callable[[web.Request, str], Any]) -> Any:
            async def answer(request: web.Request) -> web.StreamResponse:
                answered: web.StreamResponse = await handler(request, root(request))
                return answered

            return answer

        return [
            ("GET", "/commits/{ref}", rooted(self._commit)),
            ("GET", "/deployments", rooted(self._list)),
            ("POST", "/deployments", rooted(self._make)),
            ("GET", _ONE, rooted(self._one)),
            ("GET", f"{_ONE}/statuses", rooted(self._told)),
            ("POST", f"{_ONE}/statuses", rooted(self._tell)),
        ]

    async def _commit(self, request: web.Request, root: str) -> web.Response:
        sha = self._sha(request.match_info["ref"])
        if not sha:
            return _no(422, "No commit found for SHA: " + request.match_info["ref"][:64])
        url = f"{root}/repos/{self._repo}/commits/{sha}"
        person = {"name": "ci", "email": "ci@invalid", "date": when(self._world.clock.now())}
        told = {
            "sha": sha,
            "node_id": node_id("Commit", 1),
            "url": url,
            "html_url": url,
            "comments_url": f"{url}/comments",
            "author": owner(root, "acme"),
            "committer": owner(root, "acme"),
            "parents": [],
            "commit": {
                "url": url,
                "message": "rehearsal",
                "author": person,
                "committer": person,
                "comment_count": 0,
                "tree": {"sha": sha, "url": url},
            },
        }
        return web.json_response(told)

    def _sha(self, ref: str) -> str:
        return self._heads.get(ref) or (ref if ref in self._heads.values() else "")

    async def _make(self, request: web.Request, root: str) -> web.Response:
        asked = await request.json()
        sha = self._sha(str(asked.get("ref", "")))
        if not sha:
            return _no(422, f"No ref found for: {str(asked.get('ref', ''))[:64]}")
        number, now = self._number(), when(self._world.clock.now())
        url = f"{root}/repos/{self._repo}/deployments/{number}"
        environment = str(asked.get("environment", "production"))
        made = {
            "id": number,
            "node_id": node_id("Deployment", number),
            "url": url,
            "sha": sha,
            "ref": asked["ref"],
            "task": asked.get("task", "deploy"),
            "payload": asked.get("payload", {}),
            "environment": environment,
            "original_environment": environment,
            "description": asked.get("description"),
            "creator": owner(root, "acme"),
            "created_at": now,
            "updated_at": now,
            "statuses_url": f"{url}/statuses",
            "repository_url": f"{root}/repos/{self._repo}",
            "transient_environment": False,
            "production_environment": environment == "production",
        }
        self._made[number], self._states[number] = made, []
        self._effects.count("deployments", environment)
        return web.json_response(made, status=201)

    async def _list(self, request: web.Request, root: str) -> web.Response:
        del root
        asked = {k: request.query[k] for k in ("environment", "task", "sha") if k in request.query}
        found = [
            one
            for one in reversed(self._made.values())
            if all(one[key] == value for key, value in asked.items())
        ]
        return web.json_response(found[:100])

    async def _one(self, request: web.Request, root: str) -> web.Response:
        del root
        found = self._made.get(int(request.match_info["deployment"]))
        return web.json_response(found) if found else _no(404, "Not Found")

    async def _told(self, request: web.Request, root: str) -> web.Response:
        del root
        states = self._states.get(int(request.match_info["deployment"]))
        return _no(404, "Not Found") if states is None else web.json_response(states[::-1])

    async def _tell(self, request: web.Request, root: str) -> web.Response:
        asked, number = await request.json(), int(request.match_info["deployment"])
        if number not in self._made:
            return _no(404, "Not Found")
        words = str(asked.get("description", ""))
        if asked.get("state") not in _STATES or len(words) > _DESCRIPTION_MAX:
            return _no(422, "Validation Failed")
        one, now = self._made[number], when(self._world.clock.now())
        mark = self._number()
        told = {
            "id": mark,
            "node_id": node_id("DeploymentStatus", mark),
            "url": f"{one['statuses_url']}/{mark}",
            "state": asked["state"],
            "creator": owner(root, "acme"),
            "description": words,
            "environment": one["environment"],
            "target_url": str(asked.get("log_url", "")),
            "created_at": now,
            "updated_at": now,
            "deployment_url": one["url"],
            "repository_url": one["repository_url"],
        }
        self._states[number].append(told)
        self._effects.count("deployment states", str(asked["state"]))
        return web.json_response(told, status=201)


def _no(status: int, message: str) -> web.Response:
    body = {"message": message, "documentation_url": "https://docs.github.com/rest"}
    return web.json_response({**body, "status": str(status)}, status=status)
