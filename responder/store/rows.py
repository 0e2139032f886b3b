"""The values that cross the store's interface: frozen, plain, times in microseconds UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from responder.model import Alert, Mode

__all__ = [
    "Accept",
    "AuditEntry",
    "Brake",
    "Event",
    "EvidenceRow",
    "IncidentPatch",
    "IncidentRow",
    "Opening",
    "Receipt",
    "RunRow",
    "RunStart",
    "RunUpdate",
    "TimelineEntry",
    "TokenRow",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a run's journal. `data` is plain JSON."""

    type: str
    at: int
    data: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0  # given by the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """More than `limit` enforcing runs within `window` turn the next ones into asking ones."""

    limit: int
    window: int  # microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """A run to create. The playbook's text is kept once, under its hash."""

    playbook: str
    playbook_hash: str
    playbook_text: str
    mode: Mode
    inputs: Mapping[str, Any] = field(default_factory=dict)
    brakes: tuple[Brake, ...] = ()  # per playbook; the store counts this playbook's runs
    storm: Brake | None = None  # over all playbooks
    priority: int = 0  # the alert's severity: greater is taken up first
    person: str = ""  # who started it; empty: an alert did
    door: str = ""
    reason: str = ""
    once: bool = False  # wanted: not again for what this incident has heard; not held to yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How an alert finds its incident: join the open one of this key within window, else open."""

    key: str
    window: int  # microseconds since the incident's last alert
    title: str
    severity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """One parsed alert with everything intake decided, ready for the one transaction."""

    id: str  # alr_…
    hook: str
    alert: Alert
    received: int
    dedup_window: int  # microseconds: same hook and fingerprint within it is a duplicate
    opening: Opening | None = None  # None: stored and shown, joins nothing (test, health)
    starts: tuple[RunStart, ...] = ()
    run_ids: tuple[str, ...] = ()  # one fresh id for each of `starts`
    created: Event | None = None  # the first journal line shared by the runs; see `run_event`


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one alert; a duplicate names the alert it repeats."""

    id: str
    incident: int | None
    duplicate: bool
    runs: tuple[str, ...]  # runs created, or the open ones it joined
    braked: bool = False  # at least one run was turned from enforce into approve


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUpdate:
    """The row beside the journal, written with the same append: what waits, and until when."""

    status: str  # running | waiting-approval | waiting-external | paused | a final outcome
    due: int | None  # when to look again, microseconds; None: only when something is heard
    waiting_for: str = ""
    outcome: str = ""  # set once, when the run has ended
    reason: str = ""
    correlations: tuple[str, ...] = ()  # what a webhook would name; replaces the former ones


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentPatch:
    """What a journal append changes on the incident, in the same transaction."""

    status: str = ""
    target: Mapping[str, Any] | None = None
    stages: Mapping[str, int] = field(default_factory=dict)  # kept once: the first time wins
    only_from: str = ""  # the status is changed only where it is this one; empty: in any case


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One line of an incident's story, as a person reads it."""

    incident: int
    at: int
    kind: str  # alert | run | step | approval | alarm (a person must look) | note | status | …
    text: str
    door: str = "auto"
    person: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0  # given by the store; rises over all incidents


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what, when, through which door, on which plan; chained by hash."""

    at: int
    person: str
    door: str
    verb: str
    object: str
    plan: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""
    id: int = 0
    hash: str = ""  # over the previous entry's hash and this entry's canonical JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRow:
    """An incident as lists show it."""

    number: int
    key: str
    title: str
    severity: int
    status: str  # open | contained | remediating | resolved | closed
    opened: int
    updated: int
    last_alert: int
    alerts: int  # folded ones included
    target: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)  # stage -> microseconds UTC reached


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as lists show it; `text` is the playbook it started with."""

    id: str
    incident: int
    playbook: str
    playbook_hash: str
    mode: Mode
    status: str
    outcome: str
    reason: str
    waiting_for: str
    due: int | None
    created: int
    finished: int | None
    person: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRow:
    """One artefact with its custody data; the bytes lie beside the store under their hash."""

    incident: int
    run: str
    step: str
    name: str
    sha256: str
    size: int
    at: int
    origin: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """An API token; only the SHA-256 of its secret is kept."""

    id: str
    person: str
    role: str
    hash: str
    created: int
    expires: int
    revoked: int | None = None
    last_used: int | None = None
