"""What every forge gives to `pipeline.run`, and what is decided about its runs without I/O.

A start carries a correlation id, and the pipeline puts it into the name of its run: the one way to
find a run when the answer to the start was lost
(https://github.com/benc-uk/workflow-dispatch/issues/63 tells why time stamps do not do).

A forge implements `Forge`. It never decides whether a run is ours or may be started again; that is
`_pipeline`'s, once for all forges.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, Self

from integrations._artifacts import Build
from responder.clock import SECOND
from responder.ports import Call, ImageRoute

__all__ = [
    "CLOCK_MARGIN",
    "Forge",
    "Outcome",
    "Run",
    "Search",
    "State",
    "Terms",
    "Waiting",
    "adopts",
    "cancelled",
    "correlation_base",
    "correlation_id",
    "newer",
    "ours",
    "titles",
]

_MARK = re.compile(r"\brr-[0-9a-f]{20}-[0-9]{1,4}\b")
CLOCK_MARGIN = 120 * SECOND  # how far the forge's clock may be off ours


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
    person: bool = False  # somebody must agree or start it: that is not the pipeline's time
    looks: int = 1  # requests that one look costs: it comes that much more seldom
    more: str = ""  # what the forge can be asked for, to say more about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as the forge shows it; `created` is microseconds UTC."""

    id: int
    title: str
    state: State
    url: str
    created: int
    attempt: int = 1
    by: str = ""  # who began this attempt
    began: int = 0  # when this attempt did; 0: not known
    ended: int = 0  # when it changed last: for a run that is over, its end; 0: not known

    @property
    def ended_badly(self) -> bool:
        """Whether it is over and can no longer yield an image."""
        return self.state.outcome in {Outcome.FAILED, Outcome.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a step remembers between two looks; plain JSON in the journal."""

    forge: str
    repo: str
    workflow: str
    image: str
    base: str  # correlation of the step
    since: int  # when the first start may have left
    run_id: int = 0  # 0: accepted, not yet seen
    attempt: int = 1
    event: str = ""  # see `ImageRoute`
    person: bool = False  # when it was last seen, a person was waited for

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`, older journals included."""
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})


def correlation_base(key: str) -> str:
    """`rr-` and 20 hex digits: the same for every attempt of one step, opaque to everybody else."""
    return f"rr-{hashlib.sha256(key.encode()).hexdigest()[:20]}"


def correlation_id(key: str, attempt: int) -> str:
    """The name of one attempt: `rr-…-1`. Made of [a-z0-9-] only, safe wherever it is put."""
    return f"{correlation_base(key)}-{attempt}"


def titles(text: str) -> list[str]:
    """The correlation ids in a run's title."""
    return _MARK.findall(text)


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

    `since` is when the first start may have left (microseconds UTC); 0 when none can have.
    """
    seen = sorted(runs, key=lambda run: run.id, reverse=True)
    mine = [run for run in seen if _of(run, base)]
    if mine:
        return Search(run=next((run for run in mine if not run.ended_badly), mine[0]))
    doubtful = tuple(
        run.id
        for run in seen
        if since and run.created >= since - CLOCK_MARGIN and not titles(run.title)
    )
    return Search(doubtful=doubtful)


def adopts(run: Run, correlation: str) -> bool:
    """Whether a found run is followed instead of starting: it lives, or it is this very attempt.

    A run of this attempt that ended badly is followed too, so that its end is told and the same
    attempt is never started twice.
    """
    return not run.ended_badly or correlation in titles(run.title)


def cancelled(runs: Iterable[Run], base: str) -> int:
    """How many runs of a step were cancelled."""
    return sum(run.state.outcome is Outcome.CANCELLED and _of(run, base) for run in runs)


def _of(run: Run, base: str) -> bool:
    return any(title.rpartition("-")[0] == base for title in titles(run.title))


def newer(runs: Iterable[Run], old: Run) -> Run | None:
    """The run that came while another one was cancelled, and so explains it; or nothing.

    A concurrency group lets one run wait: the next one cancels it in the moment that it is made.
    """
    near = [
        run
        for run in runs
        if run.id > old.id and old.ended and abs(old.ended - run.created) <= CLOCK_MARGIN
    ]
    return min(near, key=lambda run: run.id, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The forge's own words, for plans and people."""

    run: str  # "GitHub run"
    kind: str  # kind of the object that a start makes: "WorkflowRun"
    naming: str  # where the correlation id must be put: "run-name"

    def words(self, number: int, state: str) -> str:
        """One line for a person: `GitHub run 4711 (queued)`."""
        return f"{self.run} {number} ({state})" if number else f"{self.run} ({state})"


class Forge(Protocol):
    """One forge as `pipeline.run` sees it. Only `start` changes anything, and never twice."""

    terms: Terms
    poll: float  # seconds between two looks
    settle: float  # seconds that a new run may take to show up in lists

    async def ready(self, route: ImageRoute) -> None:
        """Return when the route's pipeline can be started; raise `StepFailed` that says why not."""
        ...

    def paused(self) -> float:
        """Seconds for which the forge wants no call at all; 0 when it may be asked."""
        ...

    async def start(self, route: ImageRoute, inputs: Mapping[str, str]) -> int:
        """Start one run and return its number, 0 when the forge does not tell it.

        Sends one request that may act, ever. Raises `StepRetry` when it certainly did not act,
        `Uncertain` when it may have, `NotFound` and `StepFailed` when it never will.
        """
        ...

    async def recent(self, repo: str, workflow: str, since: int, event: str = "") -> list[Run]:
        """The newest runs that were started as we start them since a moment (microseconds UTC)."""
        ...

    async def look(self, repo: str, number: int) -> Run:
        """One run as it is now, whatever it has started in turn included; raises `NotFound`."""
        ...

    async def build(self, repo: str, run: Run) -> Build:
        """What this attempt of a finished run says it built; raises `StepFailed`, `StepRetry`."""
        ...

    async def keep_reports(self, call: Call, repo: str, run: Run) -> None:
        """Keep a run's scan reports as evidence where the settings ask for it."""
        ...

    def hint(self, repo: str, mark: int | str) -> str:
        """What a step waits to hear of: a run's number or a correlation id of this repository."""
        ...
