"""GitHub's words for its runs: what a status and a conclusion mean, and what is listened for."""

from __future__ import annotations

from integrations._forge import Outcome, State, Terms, correlation_id, titles
from responder.text import for_terminal

__all__ = ["TERMS", "correlation_id", "hint_of", "judge", "titles"]

TERMS = Terms(run="GitHub run", kind="WorkflowRun", naming="run-name")

# https://docs.github.com/en/rest/actions/workflow-runs lists both enumerations.
_GOING = {
    "queued": "queued",
    "requested": "requested",
    "pending": "pending: its concurrency group is busy",
    "waiting": "waiting for a person or a rule of its environment",
    "in_progress": "running",
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
    "action_required": State(Outcome.GOING, "waiting: a person must approve it"),
}


def judge(status: str, conclusion: str) -> State:
    """What status and conclusion mean. An unknown status goes on; an unknown end is a failure."""
    if status != "completed":
        known = _GOING.get(status) or for_terminal(status, 40) or "no status yet"
        return State(Outcome.GOING, known)
    ended = _ENDED.get(conclusion)
    return ended or State(
        Outcome.FAILED, f"ended with the unknown conclusion {for_terminal(conclusion, 40)!r}"
    )


def hint_of(repo: str, mark: int | str) -> str:
    """What a step waits to hear of: `github:owner/repo:4711`. GitHub's names have no case."""
    return f"github:{repo.lower()}:{mark}"
