"""More of GitHub's runs for its double: what they wait for, attempts, and the second way to start.

Always part of the double. What a test sets here: who may approve, the groups that are busy, and
which workflow listens for which `repository_dispatch`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.doubles import shapes
from tests.doubles.github_parts import Route, problem, repo_of
from tests.doubles.shapes import DoubleRun, Kept

if TYPE_CHECKING:
    from tests.doubles.github import GitHubDouble

__all__ = ["Runs"]


@dataclass
class Runs:
    """The part; `old_server` knows neither of the two lists of what a run waits for."""

    environment: str = "production"
    people: tuple[str, ...] = ("octocat",)
    teams: tuple[str, ...] = ()
    timer: int = 0  # minutes
    group: str = "rebuild-shop"
    place: int = 1
    listens: dict[str, str] = field(default_factory=lambda: {"rebuild-image": "rebuild.yml"})
    old_server: bool = False
    no_right: bool = False  # to send events
    _double: "GitHubDouble | None" = None

    @property
    def double(self) -> "GitHubDouble":
        """The double that it is part of."""
        assert self._double
        return self._double

    def routes(self, double: "GitHubDouble") -> Iterable[Route]:
        """Return its operations."""
        self._double = double
        repo = "/repos/{owner}/{repo}"
        run = f"{repo}/actions/runs/{{run}}"
        yield Route("GET", f"{run}/pending_deployments", "waits", self._waits)
        yield Route("GET", f"{run}/concurrency_groups", "groups", self._groups)
        yield Route("GET", f"{run}/attempts/{{attempt}}/jobs", "attempt-jobs", self._jobs)
        yield Route("POST", f"{repo}/dispatches", "event", self._dispatch)

    def again(self, run: DoubleRun, person: str = "octocat", *, failed_only: bool = False) -> None:
        """Begin another attempt, as a person does by the page's button."""
        if run.archive is not None:
            made = run.began or run.created
            run.earlier[run.attempt] = Kept(run.archive, made, made)
        run.attempt, run.status, run.conclusion = run.attempt + 1, "queued", None
        run.archive, run.person, run.kept_jobs = None, person, failed_only
        run.began = run.changed = self.double.clock.date()
        self.double.execute(run)

    async def _waits(self, request: web.Request) -> web.Response:
        run = self.double.find(request)
        if self.old_server:
            return problem(404, "Not Found")
        if run.status != "waiting":
            return web.json_response([])
        base = self.double.base_url
        people = [{"type": "User", "reviewer": named(base, name)} for name in self.people]
        teams = [{"type": "Team", "reviewer": team(base, name)} for name in self.teams]
        environment = {"id": 5, "node_id": "E5", "name": self.environment, "url": base}
        return web.json_response(
            [
                {
                    "environment": {**environment, "html_url": base},
                    "wait_timer": self.timer,
                    "wait_timer_started_at": shapes.stamp(run.created),
                    "current_user_can_approve": False,
                    "reviewers": people + teams,
                }
            ]
        )

    async def _groups(self, request: web.Request) -> web.Response:
        run = self.double.find(request)
        if self.old_server:
            return problem(404, "Not Found")
        url = f"{self.double.base_url}/repos/{run.repo}/actions/concurrency_groups/{self.group}"
        page = f"{self.double.base_url}/repos/{run.repo}/actions/runs/{run.id}"
        member: dict[str, Any] = {
            "run_id": run.id,
            "run_name": "rebuild",
            "run_url": page,
            "run_html_url": page,
            "position": self.place,
            "position_url": f"{url}?ahead_of={run.id}",
            "status": "pending",
        }
        group = {"group_name": self.group, "group_url": url, "group_members": [member]}
        return web.json_response({"total_count": 1, "concurrency_groups": [group]})

    async def _jobs(self, request: web.Request) -> web.Response:
        run, attempt = self.double.find(request), int(request.match_info["attempt"])
        jobs = []
        if run.kept_jobs:
            old = run.earlier[attempt - 1]
            times = {"started_at": shapes.stamp(old.began), "completed_at": shapes.stamp(old.made)}
            kept = {**shapes.job(self.double.base_url, run), **times, "run_attempt": attempt - 1}
            jobs.append({**kept, "status": "completed", "conclusion": "success"})
        jobs.append({**shapes.job(self.double.base_url, run), "run_attempt": attempt})
        return web.json_response({"total_count": len(jobs), "jobs": jobs})

    async def _dispatch(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if self.no_right:
            return problem(403, "Resource not accessible by personal access token")
        file = self.listens.get(asked["event_type"])
        if file is not None:  # else nobody listens: 204 all the same
            payload = asked.get("client_payload", {})
            run = self.double.new_run(repo_of(request), file, "main", payload)
            run.event = "repository_dispatch"
        return web.Response(status=204)


def named(base: str, login: str) -> dict[str, Any]:
    """Return a user of this name."""
    return {**shapes.user(base), "login": login, "type": "User"}


def team(base: str, slug: str) -> dict[str, Any]:
    """Return a team of this name."""
    return {
        "id": 8,
        "node_id": "T8",
        "name": slug,
        "slug": slug,
        "description": None,
        "privacy": "closed",
        "notification_setting": "notifications_enabled",
        "permission": "push",
        "url": f"{base}/teams/8",
        "html_url": f"{base}/orgs/acme/teams/{slug}",
        "members_url": f"{base}/teams/8/members",
        "repositories_url": f"{base}/teams/8/repos",
        "type": "organization",
        "parent": None,
    }
