"""Answers of the forge about runs, jobs and artifacts: filters, pages and links.

https://docs.github.com/en/rest/actions/workflow-runs?apiVersion=2022-11-28#list-workflow-runs-for-a-repository
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from responder.clock import SECOND
from responder.sandbox.forge_words import Artifact, Job, Run, node_id, owner, repository, when

__all__ = ["Answers", "zipped"]

_DAYS = 90 * 24 * 3600 * SECOND  # how long artifacts are kept
_PAGE, _PAGE_MAX = 30, 100
_T = TypeVar("_T")


class Answers:
    """Words about one repository's workflow. Changes nothing."""

    def __init__(self, repo: str, file: str, name: str, created: int) -> None:
        self._repo, self._file, self._name, self._created = repo, file, name, created

    def repo(self, root: str) -> dict[str, Any]:
        """The repository."""
        return repository(root, self._repo, self._created)

    def workflow(self, root: str) -> dict[str, Any]:
        """The workflow."""
        url = f"{root}/repos/{self._repo}/actions/workflows/1"
        return {
            "id": 1,
            "node_id": node_id("Workflow", 1),
            "name": self._name,
            "path": f".github/workflows/{self._file}",
            "state": "active",
            "created_at": when(self._created),
            "updated_at": when(self._created),
            "url": url,
            "html_url": f"{root}/{self._repo}/blob/main/.github/workflows/{self._file}",
            "badge_url": f"{root}/{self._repo}/workflows/{self._name}/badge.svg",
        }

    def dispatched(self, root: str, run: Run) -> dict[str, Any]:
        """What a dispatch answers when it was asked for details."""
        return {
            "workflow_run_id": run.id,
            "run_url": f"{root}/repos/{self._repo}/actions/runs/{run.id}",
            "html_url": f"{root}/{self._repo}/actions/runs/{run.id}",
        }

    def run(self, root: str, run: Run) -> dict[str, Any]:
        """One run."""
        url = f"{root}/repos/{self._repo}/actions/runs/{run.id}"
        home = repository(root, self._repo, self._created)
        person = {"name": "sandbox", "email": "sandbox@sandbox.invalid"}
        links = {word: f"{url}/{word}" for word in ("jobs", "logs", "artifacts", "cancel", "rerun")}
        return {
            "id": run.id,
            "name": self._name,
            "node_id": node_id("WorkflowRun", run.id),
            "check_suite_id": run.id,
            "check_suite_node_id": node_id("CheckSuite", run.id),
            "head_branch": run.branch,
            "head_sha": run.sha,
            "path": f".github/workflows/{self._file}",
            "run_number": run.number,
            "run_attempt": run.attempt,
            "event": "workflow_dispatch",
            "display_title": run.title,
            "status": run.status,
            "conclusion": run.conclusion,
            "workflow_id": 1,
            "url": url,
            "html_url": f"{root}/{self._repo}/actions/runs/{run.id}",
            "pull_requests": [],
            "created_at": when(run.created),
            "updated_at": when(run.updated),
            "run_started_at": when(run.created),
            "actor": owner(root, self._repo.partition("/")[0]),
            "triggering_actor": owner(root, self._repo.partition("/")[0]),
            **{f"{word}_url": link for word, link in links.items()},
            "check_suite_url": f"{root}/repos/{self._repo}/check-suites/{run.id}",
            "previous_attempt_url": None,
            "workflow_url": f"{root}/repos/{self._repo}/actions/workflows/1",
            "head_commit": {
                "id": run.sha,
                "tree_id": run.sha,
                "message": "rehearsal",
                "timestamp": when(run.created),
                "author": person,
                "committer": person,
            },
            "repository": home,
            "head_repository": home,
        }

    def runs(self, root: str, runs: Sequence[Run], query: Mapping[str, str]) -> dict[str, Any]:
        """A page of the runs that pass the filters, newest first."""
        kept = [run for run in runs if _passes(run, query)]
        page = [self.run(root, run) for run in _page(kept, query)]
        return {"total_count": len(kept), "workflow_runs": page}

    def jobs(self, root: str, run: Run, query: Mapping[str, str]) -> dict[str, Any]:
        """The jobs of the newest attempt, or of all."""
        wanted = query.get("filter", "latest")
        kept = [job for job in run.jobs if wanted == "all" or job.attempt == run.attempt]
        page = [self._job(root, run, job) for job in _page(kept, query)]
        return {"total_count": len(kept), "jobs": page}

    def _job(self, root: str, run: Run, job: Job) -> dict[str, Any]:
        base = f"{root}/repos/{self._repo}/actions"
        begun = job.status != "queued"
        return {
            "id": job.id,
            "run_id": run.id,
            "run_url": f"{base}/runs/{run.id}",
            "run_attempt": job.attempt,
            "node_id": node_id("Job", job.id),
            "head_sha": run.sha,
            "head_branch": run.branch,
            "workflow_name": self._name,
            "name": job.name,
            "url": f"{base}/jobs/{job.id}",
            "html_url": f"{root}/{self._repo}/actions/runs/{run.id}/job/{job.id}",
            "check_run_url": f"{root}/repos/{self._repo}/check-runs/{job.id}",
            "status": job.status,
            "conclusion": job.conclusion,
            "created_at": when(job.created),
            "started_at": when(job.started or job.created),
            "completed_at": when(job.completed) if job.completed else None,
            "steps": [],
            "labels": ["sandbox"],
            "runner_id": 1 if begun else None,
            "runner_name": "sandbox" if begun else None,
            "runner_group_id": 1 if begun else None,
            "runner_group_name": "sandbox" if begun else None,
        }

    def artifacts(self, root: str, run: Run, query: Mapping[str, str]) -> dict[str, Any]:
        """The artifacts of a run, by name when asked."""
        name = query.get("name", "")
        kept = [item for item in run.artifacts if not name or item.name == name]
        page = [self._artifact(root, run, item) for item in _page(kept, query)]
        return {"total_count": len(kept), "artifacts": page}

    def _artifact(self, root: str, run: Run, item: Artifact) -> dict[str, Any]:
        url = f"{root}/repos/{self._repo}/actions/artifacts/{item.id}"
        return {
            "id": item.id,
            "node_id": node_id("Artifact", item.id),
            "name": item.name,
            "size_in_bytes": len(item.data),
            "url": url,
            "archive_download_url": f"{url}/zip",
            "expired": False,
            "digest": item.digest,
            "created_at": when(item.created),
            "updated_at": when(item.created),
            "expires_at": when(item.created + _DAYS),
            "workflow_run": {
                "id": run.id,
                "repository_id": 1,
                "head_repository_id": 1,
                "head_branch": run.branch,
                "head_sha": run.sha,
            },
        }


def _passes(run: Run, query: Mapping[str, str]) -> bool:
    if query.get("event", "workflow_dispatch") != "workflow_dispatch":
        return False
    if query.get("branch", run.branch) != run.branch:
        return False
    if query.get("head_sha", run.sha) != run.sha:
        return False
    if query.get("status") and query["status"] not in {run.status, run.conclusion}:
        return False
    return _within(when(run.created), query.get("created", ""))


def _within(moment: str, wanted: str) -> bool:
    """GitHub's search syntax for dates: `>=T`, `<=T`, `>T`, `<T`, `A..B`, `T`; days or seconds."""
    if not wanted:
        return True
    if ".." in wanted:
        low, _, high = wanted.partition("..")
        return (low == "*" or _within(moment, f">={low}")) and (
            high == "*" or _within(moment, f"<={high}")
        )
    sign = wanted[: len(wanted) - len(wanted.lstrip("<>="))]
    day = wanted[len(sign) :].replace("+00:00", "Z")
    have = moment[: len(day)] if "T" not in day else moment
    tests = {
        ">=": have >= day,
        "<=": have <= day,
        ">": have > day,
        "<": have < day,
        "": have == day,
    }
    return tests[sign]


def _page(items: Sequence[_T], query: Mapping[str, str]) -> Sequence[_T]:
    size = min(_PAGE_MAX, int(query.get("per_page") or _PAGE))
    start = (int(query.get("page") or 1) - 1) * size
    return items[start : start + size]


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of these files without times of the machine."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
    return raw.getvalue()
