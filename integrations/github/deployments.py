"""GitHub's deployments as a forge of `deployment.record`.

A deployment made here carries our mark in its payload and the task `responder`, so that it is
found again by the list's own filters, and so that workflows which run `on: deployment` and look at
the task do not take it for an order. Never `auto_merge`: left out, GitHub may merge the default
branch into the ref. `required_contexts` is always sent: left out, every check of the commit must
have passed, and a record of what runs already would be refused.
https://docs.github.com/en/rest/deployments/deployments#create-a-deployment

`auto_inactive` is sent as true on success: GitHub then marks earlier successful deployments of the
environment inactive, but never those of a production environment.
https://docs.github.com/en/rest/deployments/statuses#create-a-deployment-status
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from integrations._deploying import STATES, Found, Wanted
from integrations.github.client import Forge
from responder.errors import NotFound, StepFailed
from responder.ports import ImageRoute
from responder.text import for_terminal

__all__ = ["TASK", "GitHubDeployments", "payload_of"]

TASK = "responder"
_NEWEST = "100"  # looked through: one page of our own task in one environment
_RIGHT = "deployments: write"
_STATES = {"running": "in_progress", "success": "success", "failure": "failure"}


class GitHubDeployments:
    """One GitHub as `_deploying.Deployments`. It decides nothing."""

    kind = "GitHub deployment"
    residual: tuple[str, ...] = (
        "GitHub marks earlier deployments inactive on success, except in a production environment",
    )

    def __init__(self, forge: Forge) -> None:
        self._forge = forge
        self.settle = forge.settings.settle

    async def commit(self, route: ImageRoute, asked: str, run: int) -> str:
        """The commit that GitHub itself names; see `_deploying.Deployments`."""
        try:
            if run and not asked:
                path = f"/repos/{route.repo}/actions/runs/{run}"
                found = await self._forge.ask(f"look at run {run} of {route.repo}", "GET", path)
                return str(found["head_sha"])
            what = asked or route.ref
            path = f"/repos/{route.repo}/commits/{quote(what, safe='')}"
            found = await self._forge.ask(
                f"look at {what} of {route.repo}", "GET", path, right="contents: read"
            )
        except NotFound as error:
            raise StepFailed(f"{error}; no commit to record a deployment of") from error
        return str(found["sha"])

    async def newest(self, repo: str, environment: str) -> int:
        """Not needed: our mark finds it."""
        del repo, environment
        return 0

    async def open(self, repo: str, wanted: Wanted) -> Found | None:
        """The newest of our task that bears our mark."""
        query = {"environment": wanted.environment, "task": TASK, "per_page": _NEWEST}
        listed = await self._forge.ask(
            f"list deployments of {repo}",
            "GET",
            f"/repos/{repo}/deployments",
            query=query,
            right=_RIGHT,
        )
        for one in listed:
            if payload_of(one).get("mark") == wanted.mark:
                return await self._with_states(repo, one)
        return None

    async def lost(self, repo: str, wanted: Wanted) -> Found | None:
        """As `open`: the mark is in the payload from the first moment."""
        return await self.open(repo, wanted)

    async def look(self, repo: str, number: int) -> Found:
        """One deployment with all its states."""
        path = f"/repos/{repo}/deployments/{number}"
        what = f"look at deployment {number} of {repo}"
        return await self._with_states(repo, await self._forge.ask(what, "GET", path, right=_RIGHT))

    async def create(self, repo: str, wanted: Wanted, state: str) -> Found:
        """One POST; its state is told by another one."""
        del state
        order = {
            "ref": wanted.commit,
            "task": TASK,
            "auto_merge": False,
            "required_contexts": list(wanted.contexts),
            "environment": wanted.environment,
            "description": wanted.words,
            "payload": {"mark": wanted.mark, "image": wanted.image, "digest": wanted.digest},
        }
        made = await self._forge.ask(
            f"make a deployment of {repo}",
            "POST",
            f"/repos/{repo}/deployments",
            body=order,
            right=_RIGHT,
        )
        if not isinstance(made, Mapping) or "id" not in made:  # 202: it merged instead
            raise StepFailed(f"GitHub made no deployment of {repo}; look at its branches")
        return _found(made, [])

    async def say(self, repo: str, number: int, wanted: Wanted, state: str) -> None:
        """One POST of a status."""
        order = {
            "state": _STATES[state],
            "description": wanted.words,
            "environment": wanted.environment,
            "auto_inactive": True,
        }
        path = f"/repos/{repo}/deployments/{number}/statuses"
        what = f"tell {state} of deployment {number} of {repo}"
        await self._forge.ask(what, "POST", path, body=order, right=_RIGHT)

    async def _with_states(self, repo: str, one: Mapping[str, Any]) -> Found:
        path = f"/repos/{repo}/deployments/{one['id']}/statuses"
        what = f"list states of deployment {one['id']} of {repo}"
        listed = await self._forge.ask(what, "GET", path, query={"per_page": _NEWEST}, right=_RIGHT)
        return _found(one, [str(state["state"]) for state in listed])


def payload_of(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload of a deployment as a table; GitHub gives it back as text or as JSON."""
    payload = deployment.get("payload")
    if isinstance(payload, str):
        try:
            payload = json.loads(payload) if len(payload) <= 64 << 10 else None
        except (ValueError, RecursionError):
            return {}
    return payload if isinstance(payload, Mapping) else {}


def _found(one: Mapping[str, Any], states: list[str]) -> Found:
    """Newest state first, as GitHub lists them; before the first one it is pending."""
    return Found(
        id=int(one["id"]),
        commit=str(one["sha"]),
        url=str(one.get("url") or ""),
        now=for_terminal(states[0], 40) if states else "pending",
        said=frozenset(name for name in STATES if _STATES[name] in states),
    )
