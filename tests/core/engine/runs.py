"""Runs made by hand from journal events, for tests of the pure machine."""

from __future__ import annotations

from collections.abc import Mapping

from responder.engine.folding import fold_all
from responder.engine.machine import begin
from responder.engine.state import RunState
from responder.model import Blast, Change, ObjectRef, Plan
from responder.playbook.definition import Playbook
from responder.playbook.loading import load_text
from responder.store.interface import Event
from tests.core.engine.test_driver import playbook
from tests.fakes import Things, fake_integration

Said = tuple[str, Mapping[str, object]]
NOW = 1_000_000_000


def load(steps: str, **more: str) -> Playbook:
    """A playbook of these steps over the fake actions."""
    infos = {a.info.name: a.info for a in fake_integration(Things()).actions}
    return load_text(playbook(steps, **more), "p.yaml", infos)


def plan_of(step: str, *, undo: str = "put it back", blast: Blast | None = None) -> Plan:
    """A plan with one change."""
    ref = ObjectRef(kind="Thing", name=step, namespace="shop", system="fake")
    change = Change(verb="patch", ref=ref, before="a", after="b")
    return Plan(
        action="fake.mark",
        summary=f"mark {step}",
        changes=(change,),
        undo=undo,
        blast=blast or Blast(pods=1, namespaces=("shop",)),
    )


def planned(step: str, *, asks: str = "", stage: str = "", **more: object) -> Said:
    """The event that records a plan."""
    plan = plan_of(step, **more)  # type: ignore[arg-type]
    data = {"step": step, "plan": plan.to_json(), "params": {}, "asks": asks, "stage": stage}
    return "step_planned", data


def begun(step: str) -> list[Said]:
    """Planned and begun."""
    return [planned(step), ("apply_started", {"step": step, "attempt": 1})]


def applied(step: str) -> list[Said]:
    """Planned, begun and done outside, not verified."""
    return [*begun(step), ("step_applied", {"step": step, "result": {}})]


def done(step: str, level: str = "applied") -> list[Said]:
    """A step from its plan to its verified end."""
    verdict = {"level": level, "residual": [], "checks": {}}
    return [*applied(step), ("step_done", {"step": step, "verdict": verdict})]


def events(*said: Said, at: int = NOW) -> list[Event]:
    """Journal events, the run's creation before them."""
    first: Said = ("run_created", {"incident": 1, "mode": "enforce", "inputs": {"thing": "a"}})
    return [Event(t, at + n, d, seq=n + 1) for n, (t, d) in enumerate([first, *said])]


def run_of(steps: str, *said: Said, **more: str) -> RunState:
    """The state of a run of these steps after these events."""
    return fold_all(begin("run_1", load(steps, **more)), events(*said))
