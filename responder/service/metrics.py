"""The figures at `/metrics`: names, labels and when they move.

Labels are bounded words of the configuration (sources, playbooks, actions, outcomes); never an
incident, a pod or an image. The set follows the Prometheus naming rules
(https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from responder.clock import SECOND
from responder.engine import story
from responder.engine.state import RunState
from responder.store.interface import Event

__all__ = ["Metrics"]

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_SLOW = (0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600)


def _counter(name: str, text: str, labels: str, registry: CollectorRegistry) -> Counter:
    return Counter(f"responder_{name}", text, labels.split(), registry=registry)


def _histogram(
    name: str, text: str, labels: str, buckets: Sequence[float], registry: CollectorRegistry
) -> Histogram:
    return Histogram(
        f"responder_{name}_seconds", text, labels.split(), registry=registry, buckets=buckets
    )


class Metrics:
    """One registry for each server, so that tests and embeddings do not share figures."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._known: dict[tuple[str, str], Counter] = {}
        self._hooks: dict[str, Gauge] = {}
        make = self.registry
        self.received = _counter("events_received", "Alerts by fate", "source outcome", make)
        self.runs = _counter("runs", "Runs ended", "playbook outcome", make)
        self.rechecks = _counter("rechecks", "Looks at what was contained", "action outcome", make)
        self.reasserts = _counter("reasserts", "Containments put back", "action outcome", make)
        self.external = _counter("external_requests", "Calls outside", "target code", make)
        self.accept_seconds = _histogram(
            "event_accept", "From body read to stored", "", _FAST, make
        )
        self.step_seconds = _histogram("step", "First apply to end", "action outcome", _SLOW, make)
        self.approval_wait = _histogram("approval_wait", "From asking to answer", "", _SLOW, make)
        self.stage_seconds = _histogram(
            "stage", "From the run's start until a step had reached a stage", "stage", _SLOW, make
        )
        self.last_event = Gauge(
            "responder_source_last_event_timestamp_seconds",
            "When a hook was last heard",
            ["hook"],
            registry=make,
        )
        self.silent = Gauge(
            "responder_source_silent",
            "1 while a hook with expect_every has been silent for longer",
            ["hook"],
            registry=make,
        )
        self.paused = Gauge("responder_paused", "1 while changes wait", registry=make)
        self.gauges = {
            name: Gauge(f"responder_{name}", help_, registry=make)
            for name, help_ in _GAUGES.items()
        }
        Gauge("responder_build_info", "Version", ["version"], registry=make).labels(version).set(1)

    def count_received(self, source: str, outcome: str) -> None:
        """One alert and what became of it."""
        key = (source, outcome)
        child = self._known.get(key)
        if child is None:
            child = self._known[key] = self.received.labels(source, outcome)
        child.inc()

    def heard(self, hook: str, now: int, seconds: float) -> None:
        """A hook was heard, and its alerts were stored after so many seconds."""
        child = self._hooks.get(hook)
        if child is None:
            child = self._hooks[hook] = self.last_event.labels(hook)
        child.set(now / SECOND)
        self.accept_seconds.observe(seconds)

    def count_call(self, target: str, code: str) -> None:
        """One call to an outside system; its name is one of the configuration."""
        self.external.labels(target, code).inc()

    def observe(self, run: RunState, events: Sequence[Event]) -> None:
        """What journal events mean for the figures. Never raises."""
        for event in events:
            teller = _OBSERVED.get(event.type)
            if teller is not None:
                teller(self, run, event)

    def text(self, counts: Mapping[str, float], *, paused: bool) -> bytes:
        """The page itself."""
        self.paused.set(1 if paused else 0)
        for name, value in figures(counts).items():
            self.gauges[name].set(value)
        return generate_latest(self.registry)


_GAUGES = {
    "queue_depth": "Runs that have something to do or wait for nothing but us",
    "oldest_pending_age_seconds": "Age of the oldest run that is due",
    "approvals_pending": "Runs that wait for a person",
    "quarantines_active": "Incidents contained and not ended",
    "quarantine_oldest_seconds": "Age of the oldest of them",
    "open_runs": "Runs not ended",
    "store_bytes": "Size of the store",
    "evidence_bytes": "Size of the evidence",
}


def figures(counts: Mapping[str, float]) -> dict[str, float]:
    """The store's counts under the names of the page."""
    waiting = ("waiting-approval", "waiting-external", "running", "paused")
    return {
        "queue_depth": counts.get("runs.running", 0),
        "oldest_pending_age_seconds": counts.get("oldest_due_seconds", 0),
        "approvals_pending": counts.get("runs.waiting-approval", 0),
        "quarantines_active": counts.get("quarantines", 0),
        "quarantine_oldest_seconds": counts.get("quarantine_oldest_seconds", 0),
        "open_runs": sum(counts.get(f"runs.{word}", 0) for word in waiting),
        "store_bytes": counts.get("store_bytes", 0),
        "evidence_bytes": counts.get("evidence_bytes", 0),
    }


def _ended(metrics: Metrics, run: RunState, event: Event) -> None:
    metrics.runs.labels(run.playbook.name, event.data["outcome"]).inc()


def _step_end(metrics: Metrics, run: RunState, event: Event) -> None:
    step = run.steps[event.data["step"]]
    if event.data.get("temporary") or not step.started:
        return
    outcome = "succeeded" if event.type == "step_done" else "failed"
    use = run.definition(step.id).use
    seconds = max(event.at - step.started, 0) / SECOND
    metrics.step_seconds.labels(use, outcome).observe(seconds)
    if stage := story.reached(run, event):
        since = max(event.at - run.created, 0) / SECOND
        metrics.stage_seconds.labels(stage).observe(since)


def _looked(metrics: Metrics, run: RunState, event: Event) -> None:
    use = run.definition(event.data["step"]).use
    metrics.rechecks.labels(use, event.type.removeprefix("truth_")).inc()


def _put_back(metrics: Metrics, run: RunState, event: Event) -> None:
    outcome = {"reasserted": "done", "reassert_failed": "failed"}.get(event.type, "given-up")
    metrics.reasserts.labels(run.definition(event.data["step"]).use, outcome).inc()


_OBSERVED: Mapping[str, Callable[[Metrics, RunState, Event], None]] = {
    "run_finished": _ended,
    "step_done": _step_end,
    "step_failed": _step_end,
    "truth_same": _looked,
    "truth_unseen": _looked,
    "truth_changed": _looked,
    "truth_ended": _looked,
    "reasserted": _put_back,
    "reassert_failed": _put_back,
    "reassert_given_up": _put_back,
}
