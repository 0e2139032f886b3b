"""Files, branches and merge requests of the GitLab double's one project."""

import base64
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.doubles import lab_shapes as shapes
from tests.doubles.gitstore import GitStore, blob


@dataclass
class Repository:
    """What is committed and proposed; ``git.made`` counts the writes that acted."""

    git: GitStore = field(default_factory=GitStore)
    requests: list[dict[str, Any]] = field(default_factory=list)
    hide_requests_for: int = 0  # lists that a new merge request stays out of
    pipeline_after: int = 1  # looks until the commit has its pipeline
    settled_after: int = 2  # looks until the status is known; before it a merge is refused
    ends: str = "success"  # of that pipeline
    status: str = "ci_must_pass"  # detailed_merge_status once it is known
    early: int = 0  # merges refused though the status is known
    refuses_auto: bool = False  # as before 17.x where an approval is missing: no auto-merge yet

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
        name, ref = request.match_info["file"], request.query["ref"]
        found = self.git.at(ref, name) if _known(request) else None
        if found is None:
            return _no(404, "404 File Not Found")
        text, commit = found.encode(), self.git.branches.get(ref, ref)
        told = {
            "file_name": name.rpartition("/")[2],
            "file_path": name,
            "size": len(text),
            "encoding": "base64",
            "content": base64.b64encode(text).decode(),
            "ref": ref,
            "blob_id": blob(found),
            "commit_id": commit,
            "last_commit_id": commit,
        }
        return web.json_response(told)

    async def _branch(self, request: web.Request) -> web.Response:
        name = request.match_info["branch"]
        found = self.git.shown(name) if _known(request) else None
        if found is None:
            return _no(404, "404 Branch Not Found")
        return web.json_response({"name": name, "commit": {"id": found}})

    async def _commit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        [action] = asked["actions"]
        branch, start = asked["branch"], asked["start_sha"]
        if branch in self.git.branches:
            return _no(400, f"A branch called '{branch}' already exists.")
        if start not in self.git.commits:
            return _no(400, f"Cannot find start_sha '{start}'")
        self.git.made["push"] += 1
        made = self.git.push(branch, start, action["file_path"], action["content"])
        return web.json_response({"id": made}, status=200)

    async def _list(self, request: web.Request) -> web.Response:
        wanted = request.query["source_branch"]
        found = [r for r in self.requests if r["source_branch"] == wanted]
        if found and self.hide_requests_for > 0:
            self.hide_requests_for -= 1
            found = []
        return web.json_response(found[::-1])

    async def _open(self, request: web.Request) -> web.Response:
        asked = await request.json()
        branch = asked["source_branch"]
        if any(r["source_branch"] == branch and r["state"] == "opened" for r in self.requests):
            return _no(409, ["Another open merge request already exists for this source branch"])
        self.git.made["open"] += 1
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
            "sha": self.git.branches[branch],
            "changes_count": str(self.git.changed(self.git.branches[branch])),
            "user_notes_count": 0,
            "web_url": f"{base}/acme/shop/-/merge_requests/{number}",
            "squash": False,
        }
        self.requests.append(told)
        return web.json_response(told, status=201)

    async def _one(self, request: web.Request) -> web.Response:
        number = int(request.match_info["iid"])
        if number > len(self.requests):
            return _no(404, "404 Not found")
        found = self.requests[number - 1]
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
            if self.ends == "success":
                self.merged(found)
        found["detailed_merge_status"] = "checking" if self.settled_after >= 0 else self.status
        return web.json_response(found)

    async def _merge(self, request: web.Request) -> web.Response:
        found = self.requests[int(request.match_info["iid"]) - 1]
        asked = await request.json()
        if found["state"] != "opened" or self.settled_after >= 0 or self.early > 0:
            self.early -= 1
            return _no(405, "405 Method Not Allowed")
        if asked.get("sha") != found["sha"]:
            return _no(409, "SHA does not match HEAD of source branch")
        if self.refuses_auto:
            return _no(405, "405 Method Not Allowed")
        self.git.made["merge"] += 1
        if not asked.get("auto_merge") or not found.get("head_pipeline"):
            # the trap: it does not wait for what is not there
            self.git.made["merged unbuilt"] += 1
            self.merged(found)
        else:
            found["merge_when_pipeline_succeeds"] = True
        return web.json_response(found)

    def merged(self, found: dict[str, Any]) -> None:
        """Merge it, as the button on its page does."""
        found["state"], found["merge_commit_sha"] = "merged", self.git.merge(found["sha"])

    async def _change(self, request: web.Request) -> web.Response:
        found = self.requests[int(request.match_info["iid"]) - 1]
        if (await request.json()).get("state_event") == "close":
            self.git.made["close"] += 1
            found["state"] = "closed"
        return web.json_response(found)


def _known(request: web.Request) -> bool:
    return request.match_info["project"] in {"acme/shop", "10"}


def _no(status: int, message: object) -> web.Response:
    return web.json_response({"message": message}, status=status)
