"""The JSON of GitHub's REST answers, complete enough for its published description.

https://docs.github.com/en/rest/actions/workflow-runs?apiVersion=2022-11-28
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from responder.clock import iso

__all__ = ["Artifact", "Job", "Run", "node_id", "owner", "repository", "when"]

_REPO_LINKS = [
    "archive:/{archive_format}{/ref}",
    "assignees:{/user}",
    "blobs:/git/blobs{/sha}",
    "branches:{/branch}",
    "collaborators:{/collaborator}",
    "comments:{/number}",
    "commits:{/sha}",
    "compare:/{base}...{head}",
    "contents:/{+path}",
    "contributors:",
    "deployments:",
    "downloads:",
    "events:",
    "forks:",
    "git_commits:{/sha}",
    "git_refs:{/sha}",
    "git_tags:{/sha}",
    "hooks:",
    "issue_comment:{/number}",
    "issue_events:{/number}",
    "issues:{/number}",
    "keys:{/key_id}",
    "labels:{/name}",
    "languages:",
    "merges:",
    "milestones:{/number}",
    "notifications:{?since}",
    "pulls:{/number}",
    "releases:{/id}",
    "stargazers:",
    "statuses:/{sha}",
    "subscribers:",
    "subscription:",
    "tags:",
    "teams:",
    "trees:{/sha}",
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


@dataclass(slots=True, kw_only=True)
class Artifact:
    """A file that a run left."""

    id: int
    name: str
    data: bytes
    created: int
    digest: str


@dataclass(slots=True, kw_only=True)
class Job:
    """One job of one attempt of a run."""

    id: int
    name: str
    attempt: int
    created: int
    status: str = "queued"
    conclusion: str | None = None
    started: int = 0
    completed: int = 0
    log: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of the workflow. Changed by the forge only."""

    id: int
    number: int
    title: str
    branch: str
    sha: str
    inputs: dict[str, str]
    created: int
    updated: int
    attempt: int = 1
    status: str = "queued"
    conclusion: str | None = None
    visible: int = 0  # lists show the run from this time on
    jobs: list[Job] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)


def node_id(kind: str, number: int) -> str:
    """An opaque id as GraphQL wants it."""
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def when(micros: int) -> str:
    """A time as GitHub writes it."""
    return iso(micros)[:19] + "Z"


def owner(root: str, login: str) -> dict[str, Any]:
    """A simple user."""
    url = f"{root}/users/{login}"
    links = {f"{word}_url": f"{url}/{word}" for word in _USER_LINKS}
    return {
        "login": login,
        "id": 1,
        "node_id": node_id("User", 1),
        "avatar_url": f"{url}/avatar",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{root}/{login}",
        "type": "Organization",
        "site_admin": False,
        **links,
    }


def repository(root: str, full_name: str, created: int) -> dict[str, Any]:
    """A full repository."""
    login, _, name = full_name.partition("/")
    url = f"{root}/repos/{full_name}"
    links = {}
    for item in _REPO_LINKS:
        word, _, tail = item.partition(":")
        links[f"{word}_url"] = f"{url}/{word}{tail}"
    web = f"{root}/{full_name}"
    counts = ("forks", "forks_count", "open_issues", "open_issues_count", "size")
    more = ("stargazers_count", "watchers", "watchers_count", "network_count", "subscribers_count")
    flags = ("issues", "projects", "wiki", "pages", "discussions", "downloads")
    return {
        "id": 1,
        "node_id": node_id("Repository", 1),
        "name": name,
        "full_name": full_name,
        "private": True,
        "owner": owner(root, login),
        "html_url": web,
        "description": "rehearsal",
        "fork": False,
        "url": url,
        **links,
        "clone_url": f"{web}.git",
        "git_url": f"git://{full_name}.git",
        "ssh_url": f"git@{full_name}.git",
        "svn_url": web,
        "mirror_url": None,
        "homepage": None,
        "language": None,
        "license": None,
        "default_branch": "main",
        "archived": False,
        "disabled": False,
        **dict.fromkeys((*counts, *more), 0),
        **{f"has_{flag}": False for flag in flags},
        "created_at": when(created),
        "updated_at": when(created),
        "pushed_at": when(created),
    }
