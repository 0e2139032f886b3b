"""Files, branches and merge requests of the GitLab double's one project."""

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.doubles import lab_shapes as shapes

DOCKERFILE = """ARG BASE=registry.example/base:1
FROM registry.example/base:1.2 AS tools
# not this one: registry.example/base:1
FROM registry.example/base:1
RUN echo registry.example/base:1
"""


@dataclass
class Repository:
    """What is committed where; ``made`` counts the writes that acted."""

    files: dict[str, str] = field(default_factory=lambda: {"Dockerfile": DOCKERFILE})
    changed: str = "c1"
    branches: dict[str, str] = field(default_factory=dict)
    proposed: dict[str, str] = field(default_factory=dict)  # file content by branch
    requests: list[dict[str, Any]] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    pipeline_after: int = 1  # looks until the commit has its pipeline
    settled_after: int = 2  # looks until the status is known; before it a merge is refused
    ends: str = "success"  # of that pipeline

    def routes(self, router: web.UrlDispatcher, base: str) -> None:
        """Add the operations to the double's API."""
        repo = f"{base}/repository"
        router.add_get(f"{repo}/files/{{file}}", self._file, name="read")
        router.add_get(f"{repo}/branches/{{branch}}", self._branch, name="branch")
        router.add_post(f"{repo}/commits", self._commit, name="push")
        router.add_get(f"{base}/merge_requests", self._list, name="requests")
        router.add_post(f"{base}/merge_requests", self._open, name="open")
        router.add_get(f"{base}/merge_requests/{{iid}}", self._one, name="request")
        router.add_put(f"{base}/merge_requests/{{iid}}", self._change, name="change")
        router.add_put(f"{base}/merge_requests/{{iid}}/merge", self._merge, name="merge")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name not in self.files:
            return _no(404, "404 File Not Found")
        text = self.files[name].encode()
        told = {
            "file_name": name,
            "file_path": name,
            "size": len(text),
            "encoding": "base64",
            "content": base64.b64encode(text).decode(),
            "ref": request.query["ref"],
            "commit_id": shapes.SHA,
            "last_commit_id": self.changed,
        }
        return web.json_response(told)

    async def _branch(self, request: web.Request) -> web.Response:
        name = request.match_info["branch"]
        if name not in self.branches:
            return _no(404, "404 Branch Not Found")
        return web.json_response({"name": name, "commit": {"id": self.branches[name]}})

    async def _commit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        [action] = asked["actions"]
        if asked["branch"] in self.branches:
            return _no(400, f"A branch called '{asked['branch']}' already exists.")
        if action["last_commit_id"] != self.changed:
            return _no(400, "The file has changed since you started editing it")
        self.made["push"] += 1
        self.branches[asked["branch"]] = f"{len(self.branches) + 7:040d}"
        self.proposed[asked["branch"]] = action["content"]
        return web.json_response({"id": self.branches[asked["branch"]]}, status=200)

    async def _list(self, request: web.Request) -> web.Response:
        wanted = request.query["source_branch"]
        return web.json_response([r for r in self.requests if r["source_branch"] == wanted])

    async def _open(self, request: web.Request) -> web.Response:
        asked = await request.json()
        branch = asked["source_branch"]
        if any(r["source_branch"] == branch and r["state"] == "opened" for r in self.requests):
            return _no(409, ["Another open merge request already exists for this source branch"])
        self.made["open"] += 1
        number = len(self.requests) + 1
        base = f"{request.url.origin()}"
        told = {
            **dict.fromkeys(("assignee", "milestone", "merge_commit_sha")),
            **dict.fromkeys(("should_remove_source_branch", "force_remove_source_branch")),
            "id": number,
            "iid": number,
            "project_id": 10,
            "title": asked["title"],
            "description": asked["description"],
            "state": "opened",
            "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:00.000Z",
            "target_branch": asked["target_branch"],
            "source_branch": branch,
            "upvotes": 0,
            "downvotes": 0,
            "author": shapes.user(base),
            "source_project_id": 10,
            "target_project_id": 10,
            "labels": [],
            "work_in_progress": False,
            "merge_when_pipeline_succeeds": False,
            "merge_status": "checking",
            "sha": self.branches[branch],
            "user_notes_count": 0,
            "web_url": f"{base}/acme/shop/-/merge_requests/{number}",
            "squash": False,
        }
        self.requests.append(told)
        return web.json_response(told, status=201)

    async def _one(self, request: web.Request) -> web.Response:
        found = self.requests[int(request.match_info["iid"]) - 1]
        self.pipeline_after -= 1
        self.settled_after -= 1
        head = found.get("head_pipeline")
        if self.pipeline_after < 0 and head is None:
            found["head_pipeline"] = {
                "id": 90, "sha": found["sha"], "ref": found["source_branch"], "status": "running"
            }  # fmt: skip
        elif head and found["merge_when_pipeline_succeeds"]:
            head["status"] = self.ends
            found["merge_when_pipeline_succeeds"] = False
            found["state"] = "merged" if self.ends == "success" else "opened"
        found["detailed_merge_status"] = "checking" if self.settled_after >= 0 else "ci_must_pass"
        return web.json_response(found)

    async def _merge(self, request: web.Request) -> web.Response:
        found = self.requests[int(request.match_info["iid"]) - 1]
        asked = await request.json()
        if found["state"] != "opened" or self.settled_after >= 0:
            return _no(405, "405 Method Not Allowed")
        if asked.get("sha") != found["sha"]:
            return _no(409, "SHA does not match HEAD of source branch")
        if not found.get("head_pipeline"):  # the trap: it does not wait for what is not there
            self.made["merged unbuilt"] += 1
            found["state"] = "merged"
        else:
            self.made["merge"] += 1
            found["merge_when_pipeline_succeeds"] = True
        return web.json_response(found)

    async def _change(self, request: web.Request) -> web.Response:
        found = self.requests[int(request.match_info["iid"]) - 1]
        if (await request.json()).get("state_event") == "close":
            self.made["close"] += 1
            found["state"] = "closed"
        return web.json_response(found)


def _no(status: int, message: object) -> web.Response:
    return web.json_response({"message": message}, status=status)
