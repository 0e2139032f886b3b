"""Deployments and resource groups of GitLab's double; a part of it.

It counts what acted: deployments by environment and commit, statuses by number. A pipeline that
`queues` waits for a resource group, and is among the group's upcoming jobs.
"""

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.doubles import lab_shapes as shapes

FORWARD = {  # GitLab's state machine: an ended deployment may still end otherwise, never run again
    "created": {"running", "success", "failed", "canceled"},
    "running": {"success", "failed", "canceled"},
    "success": {"failed", "canceled"},
    "failed": {"success", "canceled"},
    "canceled": {"success", "failed"},
}


@dataclass
class Deployed:
    """Deployments and groups of one project. `denies` maps an operation to a status it answers."""

    denies: dict[str, int] = field(default_factory=dict)
    hidden_looks: int = 0  # lists that a new deployment stays out of
    deployments: list[dict[str, Any]] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)  # key -> process mode
    upcoming: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)  # acted, by environment and commit
    told: Counter[str] = field(default_factory=Counter)  # acted: "number status"
    _double: Any = None

    def routes(self, double: Any, router: web.UrlDispatcher, base: str) -> None:
        """Add the operations to the double's API."""
        self._double = double
        one, groups = f"{base}/deployments/{{deployment}}", f"{base}/resource_groups"
        for method, path, name, handler in (
            ("GET", f"{base}/deployments", "deployments", self._list),
            ("POST", f"{base}/deployments", "deploy", self._deploy),
            ("GET", one, "deployment", self._one),
            ("PUT", one, "deployed", self._put),
            ("GET", groups, "groups", self._groups),
            ("GET", f"{groups}/{{key}}/upcoming_jobs", "upcoming", self._upcoming),
        ):
            router.add_route(method, path, self._denying(name, handler), name=name)

    def _denying(self, name: str, handler: Any) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            if name in self.denies:
                return _no(self.denies[name], "no")
            answered: web.StreamResponse = await handler(request)
            return answered

        return answer

    # -------------------------------------------------------------- deployments

    async def _deploy(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["sha"] != shapes.SHA:
            return _no(400, {"base": ["The commit does not exist"]})
        self.made[f"{asked['environment']} {asked['sha']}"] += 1
        made = self.put(asked["environment"], asked["status"], ref=asked["ref"])
        self.told[f"{made['id']} {asked['status']}"] += 1
        return web.json_response(made, status=201)

    def put(self, environment: str, status: str, **about: Any) -> dict[str, Any]:
        """Make a deployment, of a job where `deployable` says so."""
        base, now = self._double.base_url, shapes.stamp(dt.datetime.now(dt.UTC))
        number = 40 + len(self.deployments)
        made = {
            "id": number,
            "iid": number - 39,
            "ref": "main",
            "sha": shapes.SHA,
            "created_at": now,
            "updated_at": now,
            "user": shapes.user(base),
            "deployable": None,
            "status": status,
            "environment": {"id": 3, "name": environment},
            **about,
        }
        self.deployments.append(made)
        return made

    async def _list(self, request: web.Request) -> web.Response:
        wanted = request.query.get("environment")
        shown = [one for one in self.deployments if one["environment"]["name"] == wanted]
        shown.sort(key=lambda one: one["id"], reverse=request.query.get("sort") == "desc")
        if shown and self.hidden_looks > 0:
            self.hidden_looks -= 1
            shown = shown[1:]
        return web.json_response(shown[: int(request.query.get("per_page", 20))])

    def _find(self, request: web.Request) -> dict[str, Any]:
        number = int(request.match_info["deployment"])
        for one in self.deployments:
            if one["id"] == number:
                return one
        raise web.HTTPNotFound(text='{"message": "404 Not found"}', content_type="application/json")

    async def _one(self, request: web.Request) -> web.Response:
        return web.json_response(self._find(request))

    async def _put(self, request: web.Request) -> web.Response:
        one, status = self._find(request), (await request.json())["status"]
        if one["deployable"]:
            return _no(403, "403 Forbidden")  # a job's own deployment is the job's
        if status not in FORWARD[one["status"]]:
            return _no(400, {"status": [f"cannot transition from {one['status']}"]})
        self.told[f"{one['id']} {status}"] += 1
        one["status"] = status
        return web.json_response(one)

    # -------------------------------------------------------------- resource groups

    def queue(self, key: str, pipeline: shapes.DoublePipeline, job: str = "deploy") -> None:
        """Let a pipeline wait for a group: it is the last of the group's upcoming jobs."""
        pipeline.script, pipeline.status = [], "waiting_for_resource"
        number = pipeline.id * 100 + 90
        told = shapes.job(self._double.base_url, pipeline, number, job)
        self.upcoming.setdefault(key, []).append({**told, "status": "waiting_for_resource"})

    async def _groups(self, request: web.Request) -> web.Response:
        now = shapes.stamp(dt.datetime.now(dt.UTC))
        shown = [
            {"id": at, "key": key, "process_mode": mode, "created_at": now, "updated_at": now}
            for at, (key, mode) in enumerate(self.groups.items())
        ]
        size, page = int(request.query.get("per_page", 20)), int(request.query.get("page", 1))
        return web.json_response(shown[(page - 1) * size : page * size])

    async def _upcoming(self, request: web.Request) -> web.Response:
        key = unquote(request.match_info["key"])
        if key not in self.groups:
            return _no(404, "404 Not Found")
        listed = self.upcoming.get(key, [])
        return web.json_response([_basic(one) for one in listed])


def _basic(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job as this list shows it: without what only a whole job has."""
    left_out = {"artifacts", "artifacts_expire_at", "tag_list", "runner", "archived", "project"}
    left_out.add("commit")  # a commit of null is not described
    return {key: value for key, value in job.items() if key not in left_out}


def _no(status: int, message: object) -> web.Response:
    return web.json_response({"message": message}, status=status)
