"""What incidents know of digests, runs and commits: read from their journals, never guessed.

An incident counts until somebody closes it: what was replaced stays bad after it was repaired.

It answers what no forge can: whether an incident is about an image, whether a gate let one through
or refused it, and whether a run or a commit is the doing of one of our steps. Nothing that came
with an alert or a webhook gets in, but for the target that an incident is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from responder.ports import Known
from responder.store.interface import Event, IncidentRow, Store

__all__ = ["Ledger", "Told", "read"]

_OPEN = ("open", "contained", "remediating", "resolved")
_PAGES = 5  # looked through for so many: questions of forges are incidents too, and know nothing
_INCIDENTS = 100  # of each status, the newest first; what is not seen stays unanswered
_ASKS = "github:"  # how the host of such a question begins
_RUNS = 5  # of each incident, the newest first


@dataclass(slots=True)
class Told:
    """What one run's journal says of one step, as far as it matters here."""

    action: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    systems: frozenset[str] = frozenset()  # "forge:owner/repo" of what it changes, in lower case
    result: Mapping[str, Any] = field(default_factory=dict)
    waiting: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    failed: bool = False
    undone: bool = False


def read(events: Iterable[Event]) -> dict[str, Told]:
    """The steps of a journal; what is no event of a step is left out."""
    steps: dict[str, Told] = {}
    for event in events:
        name = event.data.get("step")
        if not isinstance(name, str):
            continue
        step = steps.setdefault(name, Told())
        match event.type:
            case "step_planned":
                plan = event.data.get("plan") or {}
                step.action, step.params = str(plan.get("action", "")), plan.get("params") or {}
                refs = [change.get("ref") or {} for change in plan.get("changes") or ()]
                step.systems = frozenset(str(ref.get("system", "")).lower() for ref in refs)
            case "step_pending":
                step.waiting = event.data.get("state") or {}
            case "step_applied":
                step.result, step.failed = event.data.get("result") or {}, False
            case "step_done":
                step.done = True
            case "step_failed":
                step.failed = not event.data.get("temporary")
            case "undo_done":
                step.undone = True
    return steps


class Ledger:
    """Looks through the open incidents; at most so many, the newest first."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, system: str, run: int, commit: str) -> Known:
        """What is known of all their digests, and of this run and this commit of one repository."""
        blocked: dict[str, int] = {}
        refused: dict[str, int] = {}
        passed: dict[str, int] = {}
        tied, ungated = [], []
        for status in _OPEN:
            for row in await self._rows(status):
                steps = [
                    step
                    for one in await self._store.runs(incident=row.number, limit=_RUNS)
                    for step in read((await self._store.load_run(one.id))[1]).values()
                ]
                if any(step.action == "pipeline.run" for step in steps):  # it is being replaced
                    blocked |= {str(row.target.get("digest") or ""): row.number}
                blocked |= {d: row.number for step in steps for d in _blocks(step)}
                gates = [step for step in steps if step.action == "image.gate"]
                passed |= {_gated(step): row.number for step in gates if step.done}
                refused |= {_gated(step): row.number for step in gates if step.failed}
                if any(_is_of(step, system.lower(), run, commit) for step in steps):
                    tied.append(row.number)
                    if not any(step.done or step.failed for step in gates):
                        ungated.append(row.number)
        return Known(
            blocked={digest: number for digest, number in blocked.items() if digest},
            refused={digest: number for digest, number in refused.items() if digest not in passed},
            passed=passed,
            tied=tuple(sorted(tied)),
            ungated=tuple(sorted(ungated)),
        )

    async def _rows(self, status: str) -> list[IncidentRow]:
        """The newest incidents of a status that are about more than a forge's question."""
        found: list[IncidentRow] = []
        before = None
        for _ in range(_PAGES):
            page = await self._store.incidents(status=status, limit=_INCIDENTS, before=before)
            found += [row for row in page if not str(row.target.get("host", "")).startswith(_ASKS)]
            if len(page) < _INCIDENTS or len(found) >= _INCIDENTS:
                break
            before = page[-1].number
        return found[:_INCIDENTS]


def _blocks(step: Told) -> list[str]:
    """The digests that a step has blocked in a cluster, and not let go since."""
    if step.action != "kubernetes.block_image" or not step.done or step.undone:
        return []
    return [str(digest) for digest in step.result.get("digests") or ()]


def _gated(step: Told) -> str:
    """The digest that a gate was asked about."""
    return str(step.params.get("image", "")).rpartition("@")[2]


def _is_of(step: Told, system: str, run: int, commit: str) -> bool:
    """Whether a step of ours started this run, or merged or recorded this commit."""
    if system not in step.systems or step.undone:
        return False
    numbers = (step.waiting.get("run_id"), step.result.get("run"))
    merged = step.action.rpartition(".")[2].startswith("merge") and step.done
    return (run > 0 and run in numbers) or (
        bool(commit) and merged and commit in (step.result.get("sha"), step.result.get("commit"))
    )
