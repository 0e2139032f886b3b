"""Decide about workflow runs without I/O: names, states, and which run is ours.

A dispatch carries a correlation id, and the workflow puts it into its `run-name`, so that it shows
up as `display_title` of the run: the one way to find a run when the answer to the dispatch was lost
(https://github.com/benc-uk/workflow-dispatch/issues/63 tells why time stamps do not do).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from responder.clock import SECOND
from responder.text import for_terminal

__all__ = [
    "Outcome",
    "Run",
    "Search",
    "State",
    "Waiting",
    "adopts",
    "correlation_base",
    "correlation_id",
    "hint_of",
    "judge",
    "ours",
    "titles",
    "words",
]

_MARK = re.compile(r"\brr-[0-9a-f]{20}-[0-9]{1,4}\b")
CLOCK_MARGIN = 120 * SECOND  # how far the forge's clock may be off ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One workflow run as the forge shows it; `created` is microseconds UTC."""

    id: int
    attempt: int
    title: str
    status: str
    conclusion: str
    url: str
    created: int

    @property
    def ended_badly(self) -> bool:
        """Whether it is over and can no longer yield an image."""
        return judge(self).outcome in {Outcome.FAILED, Outcome.CANCELLED}


class Outcome(Enum):
    """What a run's status and conclusion mean for the step."""

    GOING = "going"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class State:
    """A run's outcome so far, with words for a person."""

    outcome: Outcome
    words: str


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


def judge(run: Run) -> State:
    """What status and conclusion mean. An unknown status goes on; an unknown end is a failure."""
    if run.status != "completed":
        known = _GOING.get(run.status) or for_terminal(run.status, 40) or "no status yet"
        return State(Outcome.GOING, known)
    ended = _ENDED.get(run.conclusion)
    return ended or State(
        Outcome.FAILED, f"ended with the unknown conclusion {for_terminal(run.conclusion, 40)!r}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a step remembers between two looks; plain JSON in the journal."""

    forge: str
    repo: str
    workflow: str
    image: str
    base: str  # correlation of the step
    since: int  # when the first dispatch may have left
    run_id: int = 0  # 0: accepted, not yet seen
    attempt: int = 1

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        return cls(**{name: data[name] for name in cls.__slots__})


def words(run_id: int, state: str) -> str:
    """One line for a person: `GitHub run 4711 (queued)`."""
    return f"GitHub run {run_id} ({state})" if run_id else f"GitHub run ({state})"


def correlation_base(key: str) -> str:
    """`rr-` and 20 hex digits: the same for every attempt of one step, opaque to everybody else."""
    return f"rr-{hashlib.sha256(key.encode()).hexdigest()[:20]}"


def correlation_id(key: str, attempt: int) -> str:
    """The name of one attempt: `rr-…-1`. Made of [a-z0-9-] only, safe wherever it is put."""
    return f"{correlation_base(key)}-{attempt}"


def titles(text: str) -> list[str]:
    """The correlation ids in a run's title."""
    return _MARK.findall(text)


def hint_of(repo: str, mark: int | str) -> str:
    """What a step waits to hear of: `github:owner/repo:4711`. GitHub's names have no case."""
    return f"github:{repo.lower()}:{mark}"


@dataclass(frozen=True, slots=True)
class Search:
    """What a look through the newest runs has shown.

    `run` is ours. Without one, `doubtful` are runs that may be ours: made since we asked, and their
    title bears nobody's correlation id, so the workflow does not show it at all.
    """

    run: Run | None = None
    doubtful: tuple[int, ...] = ()


def ours(runs: Iterable[Run], base: str, since: int) -> Search:
    """Find the run of a step: one that lives or succeeded before one that ended badly.

    `since` is when the first dispatch may have left (microseconds UTC); 0 when none can have.
    """
    seen = sorted(runs, key=lambda run: run.id, reverse=True)
    mine = [run for run in seen if any(t.rpartition("-")[0] == base for t in titles(run.title))]
    if mine:
        return Search(run=next((run for run in mine if not run.ended_badly), mine[0]))
    doubtful = tuple(
        run.id
        for run in seen
        if since and run.created >= since - CLOCK_MARGIN and not titles(run.title)
    )
    return Search(doubtful=doubtful)


def adopts(run: Run, correlation: str) -> bool:
    """Whether a found run is followed instead of dispatching: it lives, or it is this very attempt.

    A run of this attempt that ended badly is followed too, so that its end is told and the same
    attempt is never dispatched twice.
    """
    return not run.ended_badly or correlation in titles(run.title)
