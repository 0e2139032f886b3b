"""What must hold whatever happens: looked at while it happens, and once more at the end.

The witness reads the store's file itself, with SQL of its own: a promise is judged by what is on
disk, not by what the server says about it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from responder.engine.state import OUTCOMES
from responder.model import Plan
from responder.ports import Call

__all__ = ["Said", "Switching", "Witness"]

GRACE = 1.0  # seconds from the answer to a pause until nothing is begun any more
_SUCCEEDED = "step_done"
_MOST = 3  # times that something is put back before a person is asked
_MARKS = {"sim.isolate": "isolated", "sim.tag": "tagged", "sim.rollout": "image"}


@dataclass
class Switching:
    """One request to pause or to resume, as the person saw it."""

    pause: bool
    sent: float
    acked: float | None = None  # when "done" came back; None: nobody knows


@dataclass
class Said:
    """What the server has acknowledged: it must be true for ever after."""

    alerts: dict[str, str] = field(default_factory=dict)  # what was said -> the receipt's id
    decisions: list[tuple[str, str, str, str]] = field(default_factory=list)  # run step who word
    cancelled: list[str] = field(default_factory=list)
    started: dict[str, str] = field(default_factory=dict)  # idempotency key -> run
    switches: list[Switching] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # answers that must never be given


class Witness:
    """Watches one store's file; `faults` is what it has seen and must not be."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self.faults: list[str] = []

    # ----------------------------------------------------------------- reading

    def rows(self, query: str, *given: Any) -> list[Any]:
        """What the file holds now."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._database, isolation_level=None)
            self._connection.execute("PRAGMA query_only=1")
        return self._connection.execute(query, given).fetchall()

    def close(self) -> None:
        """Let the file go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def journal(self, run: str) -> list[tuple[str, dict[str, Any]]]:
        """A run's events, oldest first."""
        found = self.rows(
            "SELECT j.type, j.data FROM journal j JOIN runs r ON r.seq=j.run"
            " WHERE r.id=? ORDER BY j.seq",
            run,
        )
        return [(kind, json.loads(data)) for kind, data in found]

    def open_runs(self) -> list[str]:
        """Runs without an outcome."""
        return [run for (run,) in self.rows("SELECT id FROM runs WHERE outcome='' ORDER BY seq")]

    def runs(self, status: str = "") -> list[str]:
        """Runs in this status, or all."""
        found = self.rows("SELECT id FROM runs WHERE ?='' OR status=? ORDER BY seq", status, status)
        return [run for (run,) in found]

    def switch_is_set(self) -> bool:
        """Whether the file says that changes must wait."""
        return bool(self.rows("SELECT 1 FROM switches WHERE name='pause'"))

    # ----------------------------------------------------------------- while it happens

    def applying(self, call: Call, plan: Plan) -> None:
        """An action is told to apply: its plan, its yes and the intent must be on disk."""
        events = [
            (kind, data) for kind, data in self.journal(call.run) if data.get("step") == call.step
        ]
        last: dict[str, dict[str, Any]] = {}
        yes: set[str] = set()
        for kind, data in events:
            last[kind] = data
            if kind == "approval_given" and data["plan"] == plan.hash:
                yes.add(data["person"])
        if "step_done" in last:  # put back: on a plan made anew, which nobody records
            if "reassert_started" not in last:
                self.faults.append(f"{call.key} is put back before the intent is on disk")
            if "undo_started" in last:
                self.faults.append(f"{call.key} is put back although it was taken back")
            return
        planned = last.get("step_planned")
        if planned is None or planned["plan"]["hash"] != plan.hash:
            self.faults.append(f"{call.key} is applied without its recorded plan")
            return
        if "apply_started" not in last:
            self.faults.append(f"{call.key} is applied before the intent is on disk")
        if planned["asks"]:
            quorum = last.get("approval_asked", {}).get("quorum", 1)
            if len(yes) < quorum:
                self.faults.append(f"{call.key} is applied with {len(yes)} of {quorum} yes")

    # ----------------------------------------------------------------- at the end

    def lies(self, isolated_by: Callable[[str], str]) -> Iterator[str]:
        """What a run says of its isolation now, where that is not so; and what was put back how."""
        for run in self.runs():
            said: dict[str, str] = {}
            objects: dict[str, str] = {}
            undone: set[str] = set()
            began: Counter[str] = Counter()
            for kind, data in self.journal(run):
                step = str(data.get("step", ""))
                if kind == "step_planned" and data["plan"]["action"] == "sim.isolate":
                    objects[step] = data["params"]["object"]
                elif kind in {"step_done", "truth_changed"}:
                    said[step] = data["verdict"]["level"]
                elif kind in {"undo_asked", "undo_started"}:
                    undone.add(step)
                began[step] += kind == "reassert_started"
            for step, name in objects.items():
                if step in undone or step not in said:
                    continue
                holds = isolated_by(name) == f"{run}/{step}"
                if holds != (said[step] == "applied"):
                    yield f"{run}/{step} says {said[step]} of {name}, isolated: {holds}"
                if began[step] > _MOST:
                    yield f"{run}/{step} was put back {began[step]} times"

    def judge(self, said: Said, effects: Mapping[tuple[str, str], int]) -> None:
        """Every promise that can be judged by the file alone."""
        self.faults += said.broken
        for check in (self._alerts, self._decisions, self._starts):
            self.faults += check(said)
        self.faults += self._folding()
        self.faults += self._ends()
        self.faults += self._effects(effects)
        self.faults += self._gaps()

    def _alerts(self, said: Said) -> Iterator[str]:
        kept: defaultdict[str, list[str]] = defaultdict(list)
        for body, identity in self.rows(
            "SELECT body, id FROM alerts WHERE duplicate_of IS NULL ORDER BY seq"
        ):
            kept[json.loads(body)["fields"]["proc.cmdline"]].append(identity)
        for deed, identity in said.alerts.items():
            if kept[deed] != [identity]:
                yield f"alert {deed} was acknowledged as {identity}, the store has {kept[deed]}"

    def _folding(self) -> Iterator[str]:
        """No run of a playbook begins in an incident where one is open."""
        found = self.rows(
            "SELECT r.incident, r.playbook, r.id, j.type FROM journal j JOIN runs r ON r.seq=j.run"
            " WHERE j.type IN ('run_created', 'run_finished') AND r.person='' ORDER BY j.rowid"
        )
        begun: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
        for incident, playbook, run, kind in found:
            others = begun[incident, playbook]
            if kind == "run_finished":
                others.discard(run)
                continue
            if others:
                yield f"incident {incident} has two open runs of {playbook}: {others} and {run}"
            others.add(run)

    def _decisions(self, said: Said) -> Iterator[str]:
        for run, step, person, word in said.decisions:
            said_so = any(
                kind == f"approval_{word}"
                and data["step"] == step
                and person in (data["person"] if word == "given" else data["reason"])
                for kind, data in self.journal(run)
            )
            if not said_so:
                yield f"{run}/{step}: {word} by {person} was acknowledged and is lost"
        for run in said.cancelled:
            if not any(kind == "cancel_asked" for kind, _ in self.journal(run)):
                yield f"{run}: the cancellation was acknowledged and is lost"

    def _starts(self, said: Said) -> Iterator[str]:
        by_reason = Counter(
            data["reason"]
            for run in self.runs()
            for kind, data in self.journal(run)
            if kind == "run_created" and data.get("person")
        )
        for key in said.started:
            if by_reason[key] != 1:
                yield f"a run with idempotency key {key} was started {by_reason[key]} times"

    def _ends(self) -> Iterator[str]:
        for run, outcome, reason in self.rows("SELECT id, outcome, reason FROM runs ORDER BY seq"):
            if outcome not in OUTCOMES:
                waits = self.rows("SELECT status, due, waiting_for FROM runs WHERE id=?", run)
                yield f"{run} has no end: {waits}"
            elif outcome != "succeeded" and not reason:
                yield f"{run} ended {outcome} in silence"
            elif "set aside" in reason or "internal error" in reason:
                yield f"{run} ended by a fault of our own: {reason}"

    def _effects(self, effects: Mapping[tuple[str, str], int]) -> Iterator[str]:
        for (verb, key), count in effects.items():
            if count > 1:
                yield f"{verb} of {key} took place {count} times"
        for run in self.runs():
            plans: dict[str, Any] = {}
            for kind, data in self.journal(run):
                if kind == "step_planned":
                    plans[data["step"]] = data["plan"]
                if kind != _SUCCEEDED or not plans[data["step"]]["changes"]:
                    continue
                action = plans[data["step"]]["action"]
                effect = _MARKS.get(action, "dispatch"), f"{run}/{data['step']}"
                if effects.get(effect, 0) != 1:
                    yield f"{effect} succeeded and took place {effects.get(effect, 0)} times"

    def _gaps(self) -> Iterator[str]:
        for run, count, low, high, last in self.rows(
            "SELECT r.id, count(*), min(j.seq), max(j.seq), r.last FROM journal j"
            " JOIN runs r ON r.seq=j.run GROUP BY r.seq"
        ):
            if (low, high) != (1, count) or last != count:
                yield f"the journal of {run} has {count} lines from {low} to {high}, row: {last}"


def paused_applies(switches: list[Switching], applied: list[tuple[float, str]]) -> Iterator[str]:
    """Applies that began while everybody had to believe that changes wait."""
    for begin, end in _pauses(switches):
        for at, key in applied:
            if begin + GRACE < at < end:
                yield f"{key} was applied at {at:.3f}, paused from {begin:.3f} to {end:.3f}"


def _pauses(switches: list[Switching]) -> Iterator[tuple[float, float]]:
    """When a pause certainly held: acknowledged, and no resume was on its way."""
    resumes = [one for one in switches if not one.pause]
    for one in switches:
        if not one.pause or one.acked is None:
            continue
        if not any(_overlap(one, other) for other in resumes):
            ends = [other.sent for other in resumes if other.sent >= one.acked]
            yield one.acked, min(ends, default=float("inf"))


def _overlap(one: Switching, other: Switching) -> bool:
    """Whether nobody can say which of the two requests came last."""
    if one.acked is None or other.sent >= one.acked:
        return False
    return other.acked is None or other.acked > one.sent
