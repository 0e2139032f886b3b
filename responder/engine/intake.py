"""From parsed alerts to what the store commits: incident, runs, first journal lines. Pure.

An alert never chooses its cluster: the hook does. Alerts that may not start anything (health,
test, resolved, unparsed) are kept and shown, and start nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from responder.engine.brakes import Guard, mode_for
from responder.model import Alert, Mode, Target
from responder.playbook.definition import Playbook
from responder.ports import HookInfo
from responder.store.interface import Accept, Brake, Event, Opening, RunStart
from responder.text import cut, for_terminal

__all__ = ["Rules", "admit", "incident_key", "run_start"]

HOUR = 3_600_000_000  # microseconds
DEFAULT_KEY = ("cluster", "namespace", "workload")
_OF_ALERT = frozenset({"source", "rule", "fingerprint"})
DEFAULT_WINDOW = 30 * 60 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What intake needs of the configuration."""

    guard: Guard
    dedup_window: int = 5 * 60 * 1_000_000
    default_cluster: str = ""  # the only cluster, when there is one
    storm: Brake | None = None


def admit(
    alert: Alert,
    hook: HookInfo,
    matching: Sequence[Playbook],
    now: int,
    rules: Rules,
    new_id: Callable[[str, int], str],
) -> Accept:
    """One alert as the store's one transaction takes it."""
    target = alert.target
    if hook.cluster and hook.cluster != target.cluster:
        target = replace(target, cluster=hook.cluster)
        alert = replace(alert, target=target)
    starts = tuple(
        run_start(playbook, rules, alert.target, priority=int(alert.severity))
        for playbook in matching
    )
    data = {"alert": _kept(alert), "target": target.to_json()} if starts else {}
    return Accept(
        id=new_id("alr", now),
        hook=hook.name,
        alert=alert,
        received=now,
        dedup_window=rules.dedup_window,
        opening=_opening(alert, matching[0] if matching else None),
        starts=starts,
        run_ids=tuple(new_id("run", now) for _ in starts),
        created=Event("run_created", now, data) if starts else None,
    )


def run_start(
    playbook: Playbook, rules: Rules, target: Target, *, priority: int = 0, mode: Mode | None = None
) -> RunStart:
    """A run of this playbook, in the strictest of the modes that apply."""
    wanted = max(playbook.mode, mode or playbook.mode, key=lambda m: m.strictness)
    namespaces = (target.namespace,) if target.namespace else ("",)
    hourly = playbook.limits.runs_per_hour
    return RunStart(
        playbook=playbook.name,
        playbook_hash=playbook.hash,
        playbook_text=playbook.text,
        mode=mode_for(wanted, namespaces, rules.guard),
        brakes=(Brake(limit=hourly, window=HOUR),) if hourly else (),
        storm=rules.storm,
        priority=priority,
        once=not playbook.incident_again,
    )


def incident_key(target: Target, parts: Sequence[str], alert: Alert | None = None) -> str:
    """The text that alerts of one incident share; a pod stands in for an unknown workload.

    `source`, `rule` and `fingerprint` are parts of the alert, where one is given.
    """
    return "|".join(
        [
            f"{part}={_part(target, part) if part not in _OF_ALERT else getattr(alert, part, '')}"
            for part in parts
        ]
    )


def _part(target: Target, part: str) -> str:
    value: str = getattr(target, part, "")
    if part == "workload" and not value:
        return target.pod or target.container_id or target.image or target.node or target.host
    return value


def _opening(alert: Alert, playbook: Playbook | None) -> Opening | None:
    if not alert.kind.may_start:
        return None
    parts = playbook.incident_key if playbook else DEFAULT_KEY
    window = playbook.incident_window if playbook else DEFAULT_WINDOW
    key = incident_key(alert.target, parts, alert)
    if not any(getattr(alert.target, part, "") for part in parts):
        key += f"|rule={alert.rule}"  # nothing known of the target: at least one kind of alert
    title = f"{for_terminal(cut(alert.rule, 120))} - {for_terminal(alert.target.label, 200)}"
    return Opening(key=key, window=window, title=title, severity=int(alert.severity))


def _kept(alert: Alert) -> dict[str, object]:
    """The alert as the journal keeps it: without the raw payload, which the store has."""
    return alert.to_json()
