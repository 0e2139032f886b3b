"""The JSON bodies of GitLab's API, complete enough for the schemas of GitLab's own tests."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

SHA = "0" * 39 + "1"
PROJECTS = {"acme/shop": 10, "acme/base": 11}


@dataclass
class DoublePipeline:
    """One pipeline of the double."""

    id: int
    project: str
    ref: str
    name: str
    inputs: dict[str, str]
    created: dt.datetime
    source: str = "api"
    status: str = "created"
    hidden_looks: int = 0  # how many lists it stays out of
    script: list[str] = field(default_factory=list)  # states, one a look
    files: dict[str, bytes] | None = None  # artifacts of its job `build`
    job_names: tuple[str, ...] = ("build",)
    started: list[tuple[str, "DoublePipeline | None", bool]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens in it."""
        return self.status in {"success", "failed", "canceled", "skipped"}


def stamp(moment: dt.datetime) -> str:
    """Return a time as GitLab writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def user(base: str) -> dict[str, Any]:
    """Return a simple user."""
    return {
        "id": 1,
        "username": "bot",
        "name": "bot",
        "state": "active",
        "avatar_url": f"{base}/avatar",
        "web_url": f"{base}/bot",
    }


def pipeline(base: str, one: DoublePipeline, *, shows_name: bool = True) -> dict[str, Any]:
    """Return a pipeline, as listed and as looked at."""
    return {
        "id": one.id,
        "iid": one.id,
        "project_id": PROJECTS[one.project],
        "sha": SHA,
        "ref": one.ref,
        "status": one.status,
        "source": one.source,
        "created_at": stamp(one.created),
        "updated_at": stamp(one.created),
        "web_url": f"{base}/{one.project}/-/pipelines/{one.id}",
        "name": one.name if shows_name else None,
    }


def job(base: str, one: DoublePipeline, number: int, name: str) -> dict[str, Any]:
    """Return one job of a pipeline; the job `build` has the artifacts."""
    kept = one.files if name == "build" and one.files is not None else None
    size = sum(map(len, kept.values())) if kept is not None else 0
    archive = {"file_type": "archive", "size": size, "filename": "a.zip", "file_format": "zip"}
    status = {"canceled": "canceled", "failed": "failed", "success": "success"}.get(one.status)
    return {
        "id": number,
        "status": status or "running",
        "stage": "build",
        "name": name,
        "ref": one.ref,
        "tag": False,
        "coverage": None,
        "allow_failure": False,
        "created_at": stamp(one.created),
        "started_at": None,
        "finished_at": None,
        "erased_at": None,
        "duration": None,
        "queued_duration": None,
        "user": user(base),
        "commit": None,
        "pipeline": {"id": one.id, "sha": SHA, "ref": one.ref, "status": one.status},
        "web_url": f"{base}/{one.project}/-/jobs/{number}",
        "artifacts": [archive] if kept is not None else [],
        "artifacts_expire_at": stamp(one.created + dt.timedelta(days=1)),
        "tag_list": [],
        "runner": None,
        "project": {"ci_job_token_scope_enabled": False},
        "archived": False,
    }


def bridge(base: str, one: DoublePipeline, at: int) -> dict[str, Any]:
    """Return a trigger job with the pipeline that it started, if it did."""
    name, below, may_fail = one.started[at]
    shown = job(base, one, one.id * 100 + 50 + at, name)
    shown["status"] = "success" if below is not None else "skipped"
    shown["allow_failure"] = may_fail
    return {**shown, "downstream_pipeline": pipeline(base, below) if below else None}


def hook_event(base: str, one: DoublePipeline) -> dict[str, Any]:
    """Return the body of a `Pipeline Hook`."""
    return {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": one.id,
            "name": one.name,
            "ref": one.ref,
            "status": one.status,
            "source": one.source,
            "variables": [],
        },
        "project": {"id": PROJECTS[one.project], "path_with_namespace": one.project},
    }
