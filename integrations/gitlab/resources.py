"""What a pipeline waits for at a resource group: which group, in which order, and who is before it.

A job names no group in GitLab's answers, so the groups are asked for their upcoming jobs. That
costs a request for each group, and so the look comes as much more seldom. It only words a wait; a
GitLab that does not tell is no reason for anything.
https://docs.gitlab.com/api/resource_groups/, https://docs.gitlab.com/ci/resource_groups/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from integrations._forge import State
from integrations.gitlab.client import Client, project_path
from responder.errors import NotFound, StepFailed, StepRetry
from responder.text import for_terminal

__all__ = ["queue"]

_GROUPS = 10  # asked at most
_JOBS = 3  # named at most
_MODES = {
    "unordered": "in no order",
    "oldest_first": "the oldest first",
    "newest_first": "the newest first: newer ones may go before ours again and again",
    "newest_ready_first": "the newest ready one first: newer ones may go before ours",
}


async def queue(client: Client, repo: str, number: int, state: State) -> State:
    """The same wait with the group, its process mode and its upcoming jobs, if they are told."""
    base, asked = f"{project_path(repo)}/resource_groups", 1
    try:
        groups = await client.get(f"list resource groups of {repo}", base, per_page=_GROUPS)
        for group in groups[:_GROUPS]:
            key = str(group.get("key") or "")
            asked += 1
            jobs = await client.get(
                f"list upcoming jobs of the group {for_terminal(key, 60)} of {repo}",
                f"{base}/{quote(key, safe='')}/upcoming_jobs",
                per_page=50,
            )
            if words := _words(group, jobs, number):
                return replace(state, words=words, looks=1 + asked)
    except (StepRetry, StepFailed, NotFound):
        pass  # the wait is the same, only its words are fewer
    return replace(state, looks=1 + asked)


def _words(group: Mapping[str, Any], jobs: list[Mapping[str, Any]], number: int) -> str:
    """What a group has to do with a pipeline; nothing where none of its jobs waits there."""
    mine = [at for at, job in enumerate(jobs) if _pipeline(job) == number]
    if not mine:
        return ""
    mode = str(group.get("process_mode") or "")
    said = f"{for_terminal(mode, 40)}, {_MODES[mode]}" if mode in _MODES else "mode not told"
    before = jobs[: mine[0]]
    named = [f"{for_terminal(str(job.get('name')), 40)} of {_pipeline(job)}" for job in before]
    if len(named) > _JOBS:
        named = [*named[:_JOBS], f"and {len(named) - _JOBS} more"]
    key = for_terminal(str(group.get("key")), 60)
    upcoming = f"before it: {', '.join(named)}" if named else "it is the next of the upcoming jobs"
    return f"waiting: its resource group {key} is busy ({said}); {upcoming}"


def _pipeline(job: Mapping[str, Any]) -> int:
    about = job.get("pipeline")
    found = about.get("id") if isinstance(about, Mapping) else None
    return found if isinstance(found, int) else 0
