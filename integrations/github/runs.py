"""GitHub's words for its runs: what a status and a conclusion mean, and what is listened for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from integrations._forge import Outcome, State, Terms, correlation_id, titles
from responder.text import for_terminal

__all__ = [
    "TERMS",
    "approval",
    "correlation_id",
    "group_place",
    "hint_of",
    "judge",
    "titles",
]

TERMS = Terms(run="GitHub run", kind="WorkflowRun", naming="run-name")

# https://docs.github.com/en/rest/actions/workflow-runs lists both enumerations.
_GOING = {
    "queued": State(Outcome.GOING, "queued"),
    "requested": State(Outcome.GOING, "requested"),
    "pending": State(
        Outcome.GOING,
        "pending: its concurrency group is busy",
        looks=2,
        more="concurrency_groups",
    ),
    "waiting": State(
        Outcome.GOING,
        "waiting for a person or a rule of its environment",
        person=True,
        looks=4,
        more="pending_deployments",
    ),
    "in_progress": State(Outcome.GOING, "running"),
}
_ENDED = {
    "success": State(Outcome.SUCCEEDED, "succeeded"),
    "failure": State(Outcome.FAILED, "failed"),
    "cancelled": State(
        Outcome.CANCELLED,
        "was cancelled: superseded by a newer run of its concurrency group, or by a person",
    ),
    "timed_out": State(Outcome.FAILED, "ran longer than its time limit"),
    "skipped": State(Outcome.FAILED, "was skipped: the conditions in the workflow left nothing"),
    "neutral": State(Outcome.FAILED, "ended neutral, without saying that it built anything"),
    "stale": State(Outcome.FAILED, "was given up by GitHub as stale"),
    "startup_failure": State(Outcome.FAILED, "could not start: the workflow file is not valid"),
    # It goes on under the same id once somebody has agreed.
    "action_required": State(
        Outcome.GOING, "waiting: a person must approve it", person=True, looks=4
    ),
}


def judge(status: str, conclusion: str) -> State:
    """What status and conclusion mean. An unknown status goes on; an unknown end is a failure."""
    if status != "completed":
        words = for_terminal(status, 40) or "no status yet"
        return _GOING.get(status) or State(Outcome.GOING, words)
    ended = _ENDED.get(conclusion)
    return ended or State(
        Outcome.FAILED, f"ended with the unknown conclusion {for_terminal(conclusion, 40)!r}"
    )


def approval(state: State, pending: object) -> State:
    """The same wait with its environments, and who may let the run go on.

    https://docs.github.com/en/rest/actions/workflow-runs#get-pending-deployments-for-a-workflow-run
    """
    told = (
        [_environment(one) for one in pending if isinstance(one, Mapping)]
        if (isinstance(pending, list))
        else []
    )
    return replace(state, words=f"waiting for {'; '.join(told[:3])}") if told else state


def _environment(one: Mapping[str, Any]) -> str:
    place = _named(one.get("environment"), "name") or "?"
    people = [_reviewer(item) for item in one.get("reviewers") or () if isinstance(item, Mapping)]
    people = [name for name in people if name]
    if people:
        return f"{' or '.join(people[:6])} to approve environment {place}"
    minutes = one.get("wait_timer")
    if isinstance(minutes, int) and minutes > 0:
        return f"the {minutes} minutes of environment {place}"
    return f"a protection rule of environment {place}"


def _reviewer(item: Mapping[str, Any]) -> str:
    if item.get("type") == "Team":
        slug = _named(item.get("reviewer"), "slug")
        return f"team {slug}" if slug else ""
    return _named(item.get("reviewer"), "login")


def _named(value: object, key: str) -> str:
    found = value.get(key) if isinstance(value, Mapping) else None
    return for_terminal(found, 60) if isinstance(found, str) else ""


def group_place(state: State, groups: object) -> State:
    """The same wait with the concurrency group, and our place in it.

    https://docs.github.com/en/rest/actions/concurrency-groups
    """
    listed = groups.get("concurrency_groups") if isinstance(groups, Mapping) else None
    for group in listed if isinstance(listed, list) else ():
        for member in group.get("group_members") or () if isinstance(group, Mapping) else ():
            place = member.get("position") if isinstance(member, Mapping) else None
            if isinstance(place, int) and place > 0:
                name = _named(group, "group_name")
                return replace(state, words=f"pending: place {place} in concurrency group {name}")
    return state


def hint_of(repo: str, mark: int | str) -> str:
    """What a step waits to hear of: `github:owner/repo:4711`. GitHub's names have no case."""
    return f"github:{repo.lower()}:{mark}"
