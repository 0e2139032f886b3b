"""Files, branches, pull requests and checks of the GitHub double.

A part of it (`github_parts`): credential, description and faults are the double's own.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.doubles import shapes
from tests.doubles.github_parts import Route, problem, repo_of
from tests.doubles.gitstore import MAIN, GitStore, blob
from tests.doubles.pull_shapes import check_run, content, pull, status

if TYPE_CHECKING:
    from tests.doubles.github import GitHubDouble

MODIFIED = "Base branch was modified. Review and try the merge again."


@dataclass
class Pulls:
    """What is committed and proposed; ``git.made`` counts the writes that acted."""

    git: GitStore = field(default_factory=GitStore)
    repos: tuple[str, ...] = ("acme/shop", "acme/deploy")
    requests: list[dict[str, Any]] = field(default_factory=list)
    hide_requests_for: int = 0  # lists that a new pull request stays out of
    settled_after: int = 1  # looks until it is known whether it can be merged
    checked_after: int = 1  # looks until the commit has its check; it has ended two looks later
    ends: str = "success"  # of that check
    state: str = "clean"  # mergeable_state once it is known
    early: int = 0  # merges refused because the base has just moved
    refuses: str = ""  # said with 405 to every merge
    base_url: str = ""

    def routes(self, double: "GitHubDouble") -> Iterable[Route]:
        """Return the operations; the double's address is known when it is asked."""
        repo = "/repos/{owner}/{repo}"
        self._double = double
        yield Route("GET", f"{repo}/git/ref/{{ref:.+}}", "branch", self._ref)
        yield Route("POST", f"{repo}/git/refs", "fork", self._fork)
        yield Route("GET", f"{repo}/contents/{{path:.+}}", "read", self._read)
        yield Route("PUT", f"{repo}/contents/{{path:.+}}", "push", self._push)
        yield Route("GET", f"{repo}/pulls", "requests", self._list)
        yield Route("POST", f"{repo}/pulls", "open", self._open)
        yield Route("GET", f"{repo}/pulls/{{number}}", "request", self._one)
        yield Route("PATCH", f"{repo}/pulls/{{number}}", "change", self._change)
        yield Route("PUT", f"{repo}/pulls/{{number}}/merge", "merge", self._merge)
        yield Route("GET", f"{repo}/commits/{{sha}}/check-runs", "checks", self._checks)
        yield Route("GET", f"{repo}/commits/{{sha}}/status", "status", self._status)

    # -------------------------------------------------------------- files and branches

    async def _ref(self, request: web.Request) -> web.Response:
        name = request.match_info["ref"].removeprefix("heads/")
        found = self.git.shown(name) if repo_of(request) in self.repos else None
        if found is None:
            return problem(404, "Not Found")
        return web.json_response(self._git_ref(request, name, found))

    def _git_ref(self, request: web.Request, name: str, sha: str) -> dict[str, Any]:
        url = f"{self._double.base_url}/repos/{repo_of(request)}/git"
        told = {"type": "commit", "sha": sha, "url": f"{url}/commits/{sha}"}
        where = f"refs/heads/{name}"
        return {"ref": where, "node_id": "R1", "url": f"{url}/{where}", "object": told}

    async def _fork(self, request: web.Request) -> web.Response:
        asked = await request.json()
        name = asked["ref"].removeprefix("refs/heads/")
        if name in self.git.branches:
            return problem(422, "Reference already exists")
        if asked["sha"] not in self.git.commits:
            return problem(422, "Object does not exist")
        self.git.made["fork"] += 1
        self.git.branches[name] = asked["sha"]
        return web.json_response(self._git_ref(request, name, asked["sha"]), status=201)

    async def _read(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        known = repo_of(request) in self.repos
        text = self.git.at(request.query.get("ref", MAIN), path) if known else None
        if text is None:
            return problem(404, "Not Found")
        url = f"{self._double.base_url}/repos/{repo_of(request)}/contents/{path}"
        return web.json_response(content(url, path, text, blob(text)))

    async def _push(self, request: web.Request) -> web.Response:
        asked, path = await request.json(), request.match_info["path"]
        branch = asked["branch"]
        if branch not in self.git.branches:
            return problem(404, f"Branch {branch} not found")
        now = blob(self.git.at(branch, path) or "")
        if asked["sha"] != now:
            return problem(409, f"{path} does not match {asked['sha']}")
        self.git.made["push"] += 1
        text = base64.b64decode(asked["content"]).decode()
        made = self.git.push(branch, self.git.branches[branch], path, text)
        told = {"content": {"path": path, "sha": blob(text)}, "commit": {"sha": made}}
        return web.json_response(told)

    # -------------------------------------------------------------- pull requests

    async def _list(self, request: web.Request) -> web.Response:
        branch = request.query["head"].partition(":")[2]
        found = [one for one in self.requests if one["head"]["ref"] == branch]
        if found and self.hide_requests_for > 0:
            self.hide_requests_for -= 1
            found = []
        if request.query.get("state", "open") == "open":
            found = [one for one in found if one["state"] == "open"]
        return web.json_response(found[::-1])

    async def _open(self, request: web.Request) -> web.Response:
        asked = await request.json()
        branch = asked["head"]
        if branch not in self.git.branches or asked["base"] not in self.git.branches:
            return problem(422, "Validation Failed")
        if any(r["head"]["ref"] == branch and r["state"] == "open" for r in self.requests):
            owner = request.match_info["owner"]
            return problem(422, f"A pull request already exists for {owner}:{branch}.")
        self.git.made["open"] += 1
        sha, main = self.git.branches[branch], self.git.branches[asked["base"]]
        told = pull(
            self._double.base_url,
            repo_of(request),
            len(self.requests) + 1,
            asked,
            (sha, main, self.git.changed(sha)),
        )
        self.requests.append(told)
        return web.json_response(told, status=201)

    def _find(self, request: web.Request) -> dict[str, Any]:
        number = int(request.match_info["number"])
        if not 0 < number <= len(self.requests):
            raise web.HTTPNotFound(text='{"message": "Not Found"}', content_type="application/json")
        return self.requests[number - 1]

    async def _one(self, request: web.Request) -> web.Response:
        found = self._find(request)
        self.settled_after -= 1
        known = self.settled_after < 0
        found["mergeable"] = self.state != "dirty" if known else None
        found["mergeable_state"] = self.state if known else "unknown"
        return web.json_response(found)

    async def _change(self, request: web.Request) -> web.Response:
        found, asked = self._find(request), await request.json()
        if asked.get("state") == "closed" and found["state"] == "open":
            self.git.made["close"] += 1
            found["state"], found["closed_at"] = "closed", found["created_at"]
        return web.json_response(found)

    async def _merge(self, request: web.Request) -> web.Response:
        found, asked = self._find(request), await request.json()
        if self.refuses or self.early > 0 or found["state"] != "open":
            self.early -= 1
            return problem(405, self.refuses or MODIFIED)
        if asked.get("sha") != found["head"]["sha"]:
            return problem(409, "Head branch was modified. Review and try the merge again.")
        self.git.made["merge"] += 1
        if self._check() != "success":
            self.git.made["merged unbuilt"] += 1
        return web.json_response(self.merged(found))

    def merged(self, found: dict[str, Any]) -> dict[str, Any]:
        """Merge it, as the button on its page does."""
        sha = self.git.merge(found["head"]["sha"])
        found |= {"state": "closed", "merged": True, "merged_at": found["created_at"]}
        found["merge_commit_sha"] = sha
        return {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}

    # -------------------------------------------------------------- checks

    def _check(self) -> str:
        if self.checked_after >= 0:
            return ""
        return self.ends if self.checked_after < -2 else "running"

    async def _checks(self, request: web.Request) -> web.Response:
        self.checked_after -= 1
        sha, now = request.match_info["sha"], self._check()
        base = f"{self._double.base_url}/repos/{repo_of(request)}"
        runs = [check_run(base, sha, "" if now == "running" else now)] if now else []
        return web.json_response({"total_count": len(runs), "check_runs": runs})

    async def _status(self, request: web.Request) -> web.Response:
        home = shapes.repository(self._double.base_url, repo_of(request))
        return web.json_response(status(home, request.match_info["sha"]))
