"""Deployments, protected environments and attestations of GitHub's double; a part of it.

It counts what acted: deployments and their states by our mark, verdicts by run and environment. A
deployment of a protected environment is put there by `waits`, as a job would that names it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiohttp import web

from tests.doubles import shapes
from tests.doubles.github_parts import Route, problem, repo_of

if TYPE_CHECKING:
    from tests.doubles.github import GitHubDouble

NOW = "2026-11-25T10:00:00Z"
_REPO = "/repos/{owner}/{repo}"


@dataclass
class Deployed:
    """Deployments of one forge. `denies` maps an operation to a status that it answers."""

    denies: dict[str, int] = field(default_factory=dict)
    failing: tuple[str, ...] = ()  # status checks that have not passed
    hidden_looks: int = 0  # lists that a new deployment stays out of
    merges: bool = False  # 202: the default branch was merged instead
    commits: tuple[str, ...] = (shapes.SHA,)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    states: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    pending: dict[int, list[str]] = field(default_factory=dict)  # run -> environments that wait
    keeps_waiting: bool = False  # reviewers are required too: our yes does not end the wait
    reviews: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    bundles: dict[str, list[Any]] = field(default_factory=dict)  # digest -> Sigstore bundles
    made: Counter[str] = field(default_factory=Counter)  # acted: deployments by mark
    told: Counter[str] = field(default_factory=Counter)  # acted: "number state"
    verdicts: Counter[str] = field(default_factory=Counter)  # acted: "run environment state"
    _double: Any = None

    def routes(self, double: "GitHubDouble") -> Iterable[Route]:
        """Return its operations."""
        self._double = double
        runs = f"{_REPO}/actions/runs/{{run}}"
        one = f"{_REPO}/deployments/{{deployment}}"
        for method, path, name, handler in (
            ("GET", f"{_REPO}/commits/{{ref}}", "commit", self._commit),
            ("GET", f"{_REPO}/deployments", "deployments", self._list),
            ("POST", f"{_REPO}/deployments", "deploy", self._deploy),
            ("GET", one, "deployment", self._one),
            ("GET", f"{one}/statuses", "states", self._states),
            ("POST", f"{one}/statuses", "state", self._state),
            ("GET", f"{runs}/pending_deployments", "pending", self._pending),
            ("GET", f"{runs}/approvals", "reviews", self._reviews),
            ("POST", f"{runs}/deployment_protection_rule", "answer", self._answer),
            ("GET", f"{_REPO}/attestations/{{digest}}", "attestations", self._attestations),
        ):
            yield Route(method, path, name, self._denying(name, handler))

    def _denying(self, name: str, handler: Any) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            if name in self.denies:
                said = {401: "Bad credentials", 404: "Not Found"}.get(self.denies[name], "no")
                return problem(self.denies[name], said)
            answered: web.StreamResponse = await handler(request)
            return answered

        return answer

    # -------------------------------------------------------------- deployments

    async def _commit(self, request: web.Request) -> web.Response:
        name = unquote(request.match_info["ref"])
        if name != "main" and name not in self.commits:
            return problem(422, f"No commit found for SHA: {name}")
        base, repo = self._double.base_url, repo_of(request)
        sha = self.commits[0] if name == "main" else name
        url = f"{base}/repos/{repo}/commits/{sha}"
        person = {"name": "ci", "email": "ci@example.test", "date": NOW}
        told = {
            "url": url,
            "html_url": url,
            "comments_url": url,
            "sha": sha,
            "node_id": "C1",
            "author": shapes.user(base),
            "committer": shapes.user(base),
            "parents": [],
            "commit": {
                "url": url,
                "author": person,
                "committer": person,
                "message": "one",
                "comment_count": 0,
                "tree": {"sha": sha, "url": url},
            },
        }
        return web.json_response(told)

    async def _deploy(self, request: web.Request) -> web.Response:
        asked = await request.json()
        demanded = asked.get("required_contexts")
        missing = self.failing if demanded is None else set(demanded) & set(self.failing)
        if asked["ref"] not in (*self.commits, "main"):
            return problem(422, f"No ref found for: {asked['ref']}")
        if self.merges or asked.get("auto_merge", True):
            return web.json_response({"message": "Auto-merged main into topic."}, status=202)
        if missing:
            return problem(409, f"Conflict: Commit status checks failed: {min(missing)}")
        payload = asked.get("payload") or {}
        self.made[str(payload.get("mark"))] += 1
        base, repo = self._double.base_url, repo_of(request)
        number = 900 + len(self.deployments)
        url = f"{base}/repos/{repo}/deployments/{number}"
        made = {
            "id": number,
            "node_id": f"D{number}",
            "url": url,
            "sha": self.commits[0] if asked["ref"] == "main" else asked["ref"],
            "ref": asked["ref"],
            "task": asked.get("task", "deploy"),
            "payload": payload,
            "environment": asked.get("environment", "production"),
            "description": asked.get("description"),
            "creator": shapes.user(base),
            "created_at": NOW,
            "updated_at": NOW,
            "statuses_url": f"{url}/statuses",
            "repository_url": f"{base}/repos/{repo}",
            "transient_environment": False,
            "production_environment": asked.get("environment", "production") == "production",
        }
        self.deployments.append(made)
        self.states[number] = []
        return web.json_response(made, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        wanted = {
            key: request.query[key] for key in ("environment", "task") if key in request.query
        }
        shown = [
            one
            for one in reversed(self.deployments)
            if all(one[key] == value for key, value in wanted.items())
        ]
        if shown and self.hidden_looks > 0:
            self.hidden_looks -= 1
            shown = shown[1:]
        return web.json_response(shown[: int(request.query.get("per_page", 30))])

    def _find(self, request: web.Request) -> dict[str, Any]:
        number = int(request.match_info["deployment"])
        for one in self.deployments:
            if one["id"] == number:
                return one
        raise web.HTTPNotFound(text='{"message": "Not Found"}', content_type="application/json")

    async def _one(self, request: web.Request) -> web.Response:
        return web.json_response(self._find(request))

    async def _states(self, request: web.Request) -> web.Response:
        return web.json_response(self.states[self._find(request)["id"]][::-1])

    async def _state(self, request: web.Request) -> web.Response:
        asked, one = await request.json(), self._find(request)
        if len(asked.get("description", "")) > 140:
            return problem(422, "Validation Failed: description is too long")
        self.told[f"{one['id']} {asked['state']}"] += 1
        if asked["state"] == "success" and asked.get("auto_inactive", True):
            self._retire(one)
        made = self._status(one, asked["state"], asked.get("description", ""))
        return web.json_response(made, status=201)

    def _retire(self, one: dict[str, Any]) -> None:
        """Earlier successful ones of an environment that is no production become inactive."""
        for other in self.deployments:
            states = self.states[other["id"]]
            same = other["environment"] == one["environment"] and other is not one
            ended_well = states[-1:] and states[-1]["state"] == "success"
            if same and ended_well and not other["production_environment"]:
                self._status(other, "inactive", "")

    def _status(self, one: dict[str, Any], state: str, words: str) -> dict[str, Any]:
        base = self._double.base_url
        made = {
            "id": 7000 + sum(map(len, self.states.values())),
            "node_id": "S1",
            "url": f"{one['url']}/statuses/1",
            "state": state,
            "creator": shapes.user(base),
            "description": words,
            "environment": one["environment"],
            "target_url": "",
            "created_at": NOW,
            "updated_at": NOW,
            "deployment_url": one["url"],
            "repository_url": one["repository_url"],
        }
        self.states[one["id"]].append(made)
        return made

    # -------------------------------------------------------------- protected environments

    def waits(self, run: Any, environment: str, payload: Any = None) -> dict[str, Any]:
        """Let a run wait for an environment, and return what the webhook says of it."""
        run.status, run.conclusion, run.script = "waiting", None, []
        self.pending.setdefault(run.id, []).append(environment)
        base, repo = self._double.base_url, run.repo
        number = 900 + len(self.deployments)
        url = f"{base}/repos/{repo}/deployments/{number}"
        made = {
            "id": number,
            "node_id": f"D{number}",
            "url": url,
            "sha": shapes.SHA,
            "ref": "main",
            "task": "deploy",
            "payload": payload or {},
            "description": None,
            "environment": environment,
            "original_environment": environment,
            "creator": shapes.user(base),
            "created_at": NOW,
            "updated_at": NOW,
            "statuses_url": f"{url}/statuses",
            "repository_url": f"{base}/repos/{repo}",
        }
        self.deployments.append(
            made | {"transient_environment": False, "production_environment": True}
        )
        self.states[number] = []
        runs = f"{base}/repos/{repo}/actions/runs/{run.id}"
        return {
            "action": "requested",
            "environment": environment,
            "event": "workflow_dispatch",
            "deployment_callback_url": f"{runs}/deployment_protection_rule",
            "deployment": made,
            "pull_requests": [],
            "repository": shapes.repository(base, repo),
            "sender": shapes.user(base),
        }

    async def _pending(self, request: web.Request) -> web.Response:
        shown = [
            {
                "environment": {"id": 5, "node_id": "E5", "name": name, "url": "", "html_url": ""},
                "wait_timer": 0,
                "wait_timer_started_at": None,
                "current_user_can_approve": False,
                "reviewers": [],
            }
            for name in self.pending.get(int(request.match_info["run"]), [])
        ]
        return web.json_response(shown)

    async def _reviews(self, request: web.Request) -> web.Response:
        return web.json_response(self.reviews.get(int(request.match_info["run"]), []))

    async def _answer(self, request: web.Request) -> web.Response:
        asked, run = await request.json(), int(request.match_info["run"])
        name, waiting = asked["environment_name"], self.pending.get(run, [])
        if name not in waiting:
            return problem(422, "There is no pending deployment of this environment")
        self.verdicts[f"{run} {name} {asked['state']}"] += 1
        if not self.keeps_waiting:
            waiting.remove(name)
        person = shapes.user(self._double.base_url)
        said = {"state": asked["state"], "comment": asked.get("comment", ""), "user": person}
        place = {"id": 5, "node_id": "E5", "name": name, "url": "", "html_url": ""}
        told = {**said, "environments": [{**place, "created_at": NOW, "updated_at": NOW}]}
        self.reviews.setdefault(run, []).append(told)
        found = self._double.runs.get(run)
        if found is not None and not waiting:
            done = asked["state"] == "approved"
            found.status, found.conclusion = "completed", "success" if done else "failure"
        return web.Response(status=204)

    # -------------------------------------------------------------- attestations

    async def _attestations(self, request: web.Request) -> web.Response:
        found = self.bundles.get(unquote(request.match_info["digest"]), [])
        told = [{"bundle": one, "repository_id": 10} for one in found]
        return web.json_response({"attestations": told})
