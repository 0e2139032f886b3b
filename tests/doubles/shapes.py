"""The JSON bodies of GitHub's Actions API, complete enough for its own description."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

_REPO_LINKS = [
    "archive",
    "assignees",
    "blobs",
    "branches",
    "collaborators",
    "comments",
    "commits",
    "compare",
    "contents",
    "contributors",
    "deployments",
    "downloads",
    "events",
    "forks",
    "git_commits",
    "git_refs",
    "git_tags",
    "hooks",
    "issue_comment",
    "issue_events",
    "issues",
    "keys",
    "labels",
    "languages",
    "merges",
    "milestones",
    "notifications",
    "pulls",
    "releases",
    "stargazers",
    "statuses",
    "subscribers",
    "subscription",
    "tags",
    "teams",
    "trees",
]
_USER_LINKS = [
    "events",
    "followers",
    "following",
    "gists",
    "organizations",
    "received_events",
    "repos",
    "starred",
    "subscriptions",
]
SHA = "0" * 39 + "1"


@dataclass
class DoubleRun:
    """One workflow run of the double."""

    id: int
    repo: str
    workflow: str
    ref: str
    title: str
    inputs: dict[str, str]
    created: dt.datetime
    event: str = "workflow_dispatch"
    status: str = "queued"
    conclusion: str | None = None
    attempt: int = 1
    hidden_looks: int = 0  # how many lists it stays out of
    archive: bytes | None = None  # zip of the artifact `build`
    earlier: dict[int, "Kept"] = field(default_factory=dict)  # by attempt: what those before left
    began: dt.datetime | None = None  # the newest attempt; None: with the run
    changed: dt.datetime | None = None  # when it was last another than before
    person: str = "acme"  # who began the newest attempt
    kept_jobs: bool = False  # only the failed jobs were run again: the first is the old one
    reports: bytes | None = None  # zip of the artifact `reports`
    polls: int = 0
    script: list[tuple[str, str | None]] = field(default_factory=list)  # states, one a look


@dataclass(frozen=True)
class Kept:
    """What an attempt left behind."""

    archive: bytes
    made: dt.datetime
    began: dt.datetime


def stamp(moment: dt.datetime) -> str:
    """Return a time as GitHub writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def user(base: str) -> dict[str, Any]:
    """Return a simple user."""
    return {
        "login": "acme",
        "id": 1,
        "node_id": "U1",
        "avatar_url": f"{base}/avatar",
        "gravatar_id": "",
        "html_url": f"{base}/acme",
        "url": f"{base}/users/acme",
        "site_admin": False,
        "type": "Organization",
        **{f"{name}_url": f"{base}/users/acme/{name}" for name in _USER_LINKS},
    }


def repository(base: str, repo: str) -> dict[str, Any]:
    """Return a minimal repository."""
    url = f"{base}/repos/{repo}"
    return {
        "id": 10,
        "node_id": "R10",
        "name": repo.partition("/")[2],
        "full_name": repo,
        "owner": user(base),
        "private": True,
        "html_url": f"{base}/{repo}",
        "description": None,
        "fork": False,
        "url": url,
        **{f"{name}_url": f"{url}/{name}" for name in _REPO_LINKS},
    }


def workflow(base: str, repo: str, file: str, state: str = "active") -> dict[str, Any]:
    """Return a workflow."""
    url = f"{base}/repos/{repo}/actions/workflows"
    moment = "2026-01-01T00:00:00Z"
    return {
        "id": 77,
        "node_id": "W77",
        "name": "rebuild",
        "path": f".github/workflows/{file}",
        "state": state,
        "created_at": moment,
        "updated_at": moment,
        "url": f"{url}/{file}",
        "html_url": f"{base}/{repo}/blob/main/.github/workflows/{file}",
        "badge_url": f"{base}/{repo}/badge.svg",
    }


def run(base: str, one: DoubleRun) -> dict[str, Any]:
    """Return a workflow run."""
    url = f"{base}/repos/{one.repo}/actions/runs/{one.id}"
    home = repository(base, one.repo)
    person = {"name": "ci", "email": "ci@example.test"}
    return {
        "id": one.id,
        "name": "rebuild",
        "node_id": f"WR{one.id}",
        "head_branch": one.ref,
        "head_sha": SHA,
        "path": f".github/workflows/{one.workflow}",
        "display_title": one.title,
        "run_number": one.id,
        "run_attempt": one.attempt,
        "event": one.event,
        "status": one.status,
        "conclusion": one.conclusion,
        "workflow_id": 77,
        "url": url,
        "html_url": f"{base}/{one.repo}/actions/runs/{one.id}",
        "pull_requests": [],
        "created_at": stamp(one.created),
        "updated_at": stamp(one.changed or one.created),
        "run_started_at": stamp(one.began or one.created),
        "triggering_actor": {**user(base), "login": one.person},
        "head_commit": {
            "id": SHA,
            "tree_id": SHA,
            "message": "one",
            "timestamp": stamp(one.created),
            "author": person,
            "committer": person,
        },
        "repository": home,
        "head_repository": home,
        "workflow_url": f"{base}/repos/{one.repo}/actions/workflows/77",
        "check_suite_url": f"{base}/repos/{one.repo}/check-suites/1",
        **{
            f"{name}_url": f"{url}/{name}"
            for name in ("jobs", "logs", "artifacts", "cancel", "rerun")
        },
    }


def job(base: str, one: DoubleRun) -> dict[str, Any]:
    """Return the only job of a run."""
    url = f"{base}/repos/{one.repo}/actions/jobs/{one.id}"
    status = one.status if one.status in {"queued", "in_progress", "completed"} else "queued"
    ended = one.status == "completed"
    known = {"success", "failure", "neutral", "cancelled", "skipped", "timed_out"}
    conclusion = one.conclusion if one.conclusion in known else "failure"
    return {
        "id": one.id,
        "node_id": f"J{one.id}",
        "run_id": one.id,
        "run_url": f"{base}/repos/{one.repo}/actions/runs/{one.id}",
        "run_attempt": one.attempt,
        "head_sha": SHA,
        "workflow_name": "rebuild",
        "head_branch": one.ref,
        "name": "build",
        "url": url,
        "html_url": f"{base}/{one.repo}/actions/runs/{one.id}/job/{one.id}",
        "status": status,
        "conclusion": conclusion if ended else None,
        "created_at": stamp(one.created),
        "started_at": stamp(one.created),
        "completed_at": stamp(one.created) if ended else None,
        "check_run_url": url,
        "labels": ["ubuntu-latest"],
        "runner_id": None,
        "runner_name": None,
        "runner_group_id": None,
        "runner_group_name": None,
    }


def artifact(
    base: str,
    one: DoubleRun,
    *,
    expired: bool,
    size: int,
    name: str = "build",
    attempt: int = 0,
    made: dt.datetime | None = None,
) -> dict[str, Any]:
    """Return an artifact of a run; the number of one that is not `build` ends in 5 or more."""
    number = one.id * 10 + (attempt or one.attempt) + (5 if name != "build" else 0)
    when = made or one.changed or one.began or one.created
    url = f"{base}/repos/{one.repo}/actions/artifacts/{number}"
    return {
        "id": number,
        "node_id": f"A{number}",
        "name": name,
        "size_in_bytes": size,
        "url": url,
        "archive_download_url": f"{url}/zip",
        "expired": expired,
        "created_at": stamp(when),
        "expires_at": stamp(when + dt.timedelta(days=1)),
        "updated_at": stamp(when),
    }
