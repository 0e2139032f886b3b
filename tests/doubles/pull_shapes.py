"""The JSON bodies of GitHub's pull requests, files and checks, as its description wants them."""

import base64
from typing import Any

from tests.doubles import shapes

MOMENT = "2026-01-01T00:00:00Z"


def _home(base: str, repo: str) -> dict[str, Any]:
    """Return a whole repository."""
    url = f"{base}/{repo}"
    counts = ("forks", "forks_count", "open_issues", "open_issues_count", "watchers")
    return {
        **shapes.repository(base, repo),
        **dict.fromkeys((*counts, "watchers_count", "stargazers_count", "size"), 0),
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_downloads"), True),
        **dict.fromkeys(("has_pages", "archived", "disabled"), False),
        **dict.fromkeys(("homepage", "language", "mirror_url", "license"), None),
        **dict.fromkeys(("clone_url", "svn_url"), url),
        **dict.fromkeys(("created_at", "updated_at", "pushed_at"), MOMENT),
        "git_url": "git://forge.example/shop.git",
        "ssh_url": "git@forge.example:shop.git",
        "default_branch": "main",
    }


def pull(
    base: str, repo: str, number: int, asked: dict[str, Any], at: tuple[str, str, int]
) -> dict[str, Any]:
    """Return a pull request that was just made; `at` is its commit, its base's, its files."""
    url, owner = f"{base}/repos/{repo}/pulls/{number}", repo.partition("/")[0]
    issue = f"{base}/repos/{repo}/issues/{number}"
    page = f"{base}/{repo}/pull/{number}"
    links = ("comments", "commits", "statuses", "html", "issue", "review_comments")
    sha, main, files = at

    def side(ref: str, commit: str) -> dict[str, Any]:
        return {
            "label": f"{owner}:{ref}",
            "ref": ref,
            "sha": commit,
            "user": shapes.user(base),
            "repo": _home(base, repo),
        }

    return {
        "_links": {name: {"href": url} for name in (*links, "review_comment", "self")},
        **dict.fromkeys(("assignee", "milestone", "auto_merge", "merged_by", "mergeable")),
        **dict.fromkeys(("closed_at", "merged_at", "merge_commit_sha", "active_lock_reason")),
        **dict.fromkeys(("created_at", "updated_at"), MOMENT),
        **dict.fromkeys(("comments", "review_comments"), 0),
        **dict.fromkeys(("locked", "merged", "maintainer_can_modify", "draft"), False),
        "url": url,
        "id": number,
        "node_id": f"PR{number}",
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "issue_url": issue,
        "comments_url": f"{issue}/comments",
        "commits_url": f"{url}/commits",
        "review_comments_url": f"{url}/comments",
        "review_comment_url": f"{base}/repos/{repo}/pulls/comments",
        "statuses_url": f"{base}/repos/{repo}/statuses/{sha}",
        "number": number,
        "state": "open",
        "title": asked["title"],
        "body": asked["body"],
        "user": shapes.user(base),
        "labels": [],
        "author_association": "MEMBER",
        "mergeable_state": "unknown",
        "commits": 1,
        "additions": 1,
        "deletions": 1,
        "changed_files": files,
        "head": side(asked["head"], sha),
        "base": side(asked["base"], main),
    }


def content(url: str, path: str, text: str, sha: str) -> dict[str, Any]:
    """Return a file with its content, sixty characters a line as GitHub sends it."""
    data = base64.encodebytes(text.encode()).decode()
    return {
        "_links": {"git": url, "html": url, "self": url},
        **dict.fromkeys(("git_url", "html_url", "download_url", "url"), url),
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": sha,
        "size": len(text.encode()),
        "type": "file",
        "content": data,
        "encoding": "base64",
    }


def check_run(base: str, sha: str, conclusion: str) -> dict[str, Any]:
    """Return a check run, still going without a conclusion."""
    url = f"{base}/check-runs/1"
    text = dict.fromkeys(("title", "summary", "text"))
    return {
        **dict.fromkeys(("url", "html_url", "details_url"), url),
        "id": 1,
        "node_id": "C1",
        "head_sha": sha,
        "name": "build",
        "status": "completed" if conclusion else "in_progress",
        "conclusion": conclusion or None,
        "started_at": MOMENT,
        "completed_at": MOMENT if conclusion else None,
        "external_id": None,
        "check_suite": {"id": 1},
        "output": {**text, "annotations_count": 0, "annotations_url": f"{url}/annotations"},
        "app": None,
        "pull_requests": [],
    }


def status(home: dict[str, Any], sha: str) -> dict[str, Any]:
    """Return the combined status of a commit that nothing has given one: pending, as GitHub says.

    https://docs.github.com/en/rest/commits/statuses#get-the-combined-status-for-a-specific-reference
    """
    url = f"{home['url']}/commits/{sha}"
    return {
        "state": "pending",
        "sha": sha,
        "total_count": 0,
        "statuses": [],
        "repository": home,
        "commit_url": url,
        "url": f"{url}/status",
    }
