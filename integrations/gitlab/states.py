"""What GitLab's pipelines and trigger jobs say, read without I/O.

A pipeline's own success is not the end: a trigger job turns green when the pipeline it started is
*made*, unless it says `strategy: depend` or `mirror`
(https://docs.gitlab.com/ci/yaml/#triggerstrategy). So what it started is looked at too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from integrations._forge import Outcome, Run, State, Terms
from responder.clock import SECOND
from responder.errors import StepFailed
from responder.text import for_terminal

__all__ = [
    "TERMS",
    "Bridge",
    "Job",
    "Started",
    "bridge_of",
    "by_hand",
    "hint_of",
    "job_of",
    "judge",
    "run_of",
]

TERMS = Terms(run="GitLab pipeline", kind="Pipeline", naming="workflow:name")

# https://docs.gitlab.com/api/pipelines/#list-project-pipelines lists the statuses.
_GOING = {
    "created": "created",
    "preparing": "preparing",
    "waiting_for_callback": "waiting for an outside system to call back",
    "pending": "pending: no runner has taken it yet",
    "running": "running",
    "canceling": "being canceled",
    "scheduled": "waiting for the time of a delayed job",
}
_ENDED = {
    "success": State(Outcome.SUCCEEDED, "succeeded"),
    "failed": State(Outcome.FAILED, "failed"),
    "canceled": State(
        Outcome.CANCELLED, "was canceled: superseded by a newer pipeline, or by a person"
    ),
    "skipped": State(Outcome.FAILED, "was skipped: none of its jobs ran"),
}


_MANUAL = State(
    Outcome.GOING,
    "waiting for a person to start a manual job",
    person=True,
    looks=2,
    more="jobs",
)
_QUEUED = State(Outcome.GOING, "waiting: its resource group is busy", looks=3, more="groups")


def by_hand(state: State, jobs: Iterable[Mapping[str, Any]]) -> State:
    """The same wait with the names of the jobs that wait for somebody."""
    names = [str(job.get("name")) for job in jobs if job.get("status") == "manual"]
    if not names:
        return state
    told = ", ".join(for_terminal(name, 40) for name in names[:3])
    return replace(state, words=f"waiting for a person to start the manual job {told}")


def judge(status: str) -> State:
    """What a status means. An unknown one goes on: the step's own time-out bounds it."""
    if status == "manual":
        return _MANUAL
    if status == "waiting_for_resource":
        return _QUEUED
    ended = _ENDED.get(status)
    return ended or State(
        Outcome.GOING, _GOING.get(status) or for_terminal(status, 40) or "no status yet"
    )


def run_of(data: Mapping[str, Any]) -> Run:
    """A pipeline of the API as a run; its name is where a correlation id shows."""
    made = dt.datetime.fromisoformat(str(data["created_at"]))
    changed = dt.datetime.fromisoformat(str(data.get("updated_at") or data["created_at"]))
    return Run(
        id=int(data["id"]),
        title=str(data.get("name") or ""),
        state=judge(str(data["status"])),
        url=str(data.get("web_url") or ""),
        created=int(made.timestamp() * SECOND),
        ended=int(changed.timestamp() * SECOND),
    )


@dataclass(frozen=True, slots=True)
class Started:
    """A pipeline that another one has started: its project (number or path) and its number."""

    project: str
    number: int


@dataclass(frozen=True, slots=True)
class Bridge:
    """A trigger job, and the pipeline that it has started, if it has."""

    name: str
    state: State
    may_fail: bool
    started: Started | None


def bridge_of(data: Mapping[str, Any], base_url: str) -> Bridge:
    """A trigger job of the API with the state of what it started.

    Raises `StepFailed` for a pipeline whose project is not told by this very GitLab.
    """
    name, may_fail = for_terminal(str(data["name"]), 60), bool(data.get("allow_failure"))
    below = data.get("downstream_pipeline")
    if not isinstance(below, Mapping):
        return Bridge(name, judge(str(data["status"])), may_fail, None)
    started = Started(_project_of(below, base_url), int(below["id"]))
    return Bridge(name, judge(str(below["status"])), may_fail, started)


def _project_of(below: Mapping[str, Any], base_url: str) -> str:
    if isinstance(number := below.get("project_id"), int):
        return str(number)
    page, own = urlsplit(str(below.get("web_url") or "")), urlsplit(base_url)
    path, found, _ = page.path.removeprefix(own.path).partition("/-/pipelines/")
    if not found or page.netloc != own.netloc:
        raise StepFailed("GitLab names a downstream pipeline without its project")
    return path.strip("/")


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a pipeline, as far as artifacts go; `size` is the archive's, 0 without one."""

    project: str
    id: int
    name: str
    status: str
    size: int
    expires: str


def job_of(data: Mapping[str, Any], project: str) -> Job:
    """A job of the API; `project` is where it was listed."""
    archives = [one for one in data.get("artifacts") or () if one.get("file_type") == "archive"]
    return Job(
        project=project,
        id=int(data["id"]),
        name=str(data["name"]),
        status=str(data["status"]),
        size=int(archives[0]["size"]) if archives else 0,
        expires=str(data.get("artifacts_expire_at") or ""),
    )


def hint_of(repo: str, mark: int | str) -> str:
    """What a step waits to hear of: `gitlab:group/project:31`. Paths of GitLab have no case."""
    return f"gitlab:{repo.lower()}:{mark}"
