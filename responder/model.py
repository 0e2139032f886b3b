"""The words of the product as frozen data: target, alert, plan, verdict, and what joins them.

Every value here turns into plain JSON and back without loss (`to_json`, `from_json`): journal,
API, audit and diff use that one form. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Self

from responder.text import Secret

__all__ = [
    "Alert",
    "AlertKind",
    "Blast",
    "Change",
    "Effect",
    "Mode",
    "ObjectRef",
    "Plan",
    "Role",
    "Secret",
    "Severity",
    "Target",
    "Verdict",
    "VerdictLevel",
    "canonical",
    "digest_of",
]

JsonObject = dict[str, Any]


class Severity(IntEnum):
    """How bad the detector says it is; each source documents its own table."""

    UNKNOWN = 0
    INFO = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


class AlertKind(StrEnum):
    """What an alert is; only detections and vulnerabilities may start a playbook."""

    DETECTION = "detection"
    VULNERABILITY = "vulnerability"
    HEALTH = "health"
    TEST = "test"
    RESOLVED = "resolved"
    NOTE = "note"  # worth showing, nothing to do: already blocked, telemetry, a confirmation
    UNPARSED = "unparsed"

    @property
    def may_start(self) -> bool:
        """Whether an alert of this kind may start a playbook at all."""
        return self in _STARTING


_STARTING = (AlertKind.DETECTION, AlertKind.VULNERABILITY)  # made once: every alert asks


class Effect(StrEnum):
    """What an action does to the outside world, in rising order."""

    READ = "read"
    CHANGE = "change"
    DESTROY = "destroy"


class Mode(StrEnum):
    """How far a playbook may go by itself: plan only, ask first, or act."""

    OBSERVE = "observe"
    APPROVE = "approve"
    ENFORCE = "enforce"

    @property
    def strictness(self) -> int:
        """Greater is stricter; of two modes the stricter wins."""
        return {"enforce": 0, "approve": 1, "observe": 2}[self.value]


class Role(StrEnum):
    """What the holder of a token may do; each role includes the ones before it."""

    VIEWER = "viewer"
    RESPONDER = "responder"
    APPROVER = "approver"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class VerdictLevel(StrEnum):
    """What was verified, weakest first; `residual` says that something stays open."""

    RESIDUAL = "residual"
    APPLIED = "applied"
    ENFORCED = "enforced"
    PROVEN = "proven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an alert is about. An absent part is the empty text, never a guess."""

    cluster: str = ""
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container: str = ""
    container_id: str = ""  # any prefix of at least 12 characters, without "containerd://"
    image: str = ""  # repository:tag or repository@digest, as seen running
    digest: str = ""  # sha256:…
    workload: str = ""  # Kind/name of the root owner, "Deployment/cart"
    node: str = ""
    host: str = ""

    @property
    def label(self) -> str:
        """The shortest name a person recognises."""
        if self.pod:
            return f"{self.namespace}/{self.pod}" if self.namespace else self.pod
        if self.workload:
            return f"{self.namespace}/{self.workload}"
        return self.image or self.node or self.host or self.namespace or "-"

    def to_json(self) -> JsonObject:
        """Only the parts that are known."""
        return {f: v for f in self.__slots__ if (v := getattr(self, f))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`; unknown keys are dropped."""
        return cls(**{k: str(v) for k, v in data.items() if k in cls.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One normalised statement of a detector. The raw payload is kept beside it in the store."""

    source: str
    kind: AlertKind
    rule: str
    severity: Severity
    summary: str
    time: int  # microseconds UTC, as the detector said; 0 when it did not
    fingerprint: str  # equal for repeats of the same statement
    target: Target = Target()
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)  # the sender's own words, flat
    reason: str = ""  # why it is unparsed, ignored or starts nothing
    resolves: str = ""  # fingerprint of the alert that this one ends
    raw: str = ""  # the part of the payload it came from, as text

    def to_json(self) -> JsonObject:
        """Everything but the raw payload."""
        return {
            "source": self.source,
            "kind": self.kind.value,
            "rule": self.rule,
            "severity": int(self.severity),
            "summary": self.summary,
            "time": self.time,
            "fingerprint": self.fingerprint,
            "target": self.target.to_json(),
            "tags": list(self.tags),
            "labels": dict(self.labels),
            "fields": dict(self.fields),
            "reason": self.reason,
            "resolves": self.resolves,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        return cls(
            source=data["source"],
            kind=AlertKind(data["kind"]),
            rule=data["rule"],
            severity=Severity(data["severity"]),
            summary=data["summary"],
            time=data["time"],
            fingerprint=data["fingerprint"],
            target=Target.from_json(data["target"]),
            tags=tuple(data["tags"]),
            labels=data["labels"],
            fields=data["fields"],
            reason=data["reason"],
            resolves=data["resolves"],
            raw=data.get("raw", ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """One object outside, named so that a twin of the same name is not taken for it."""

    kind: str  # "Pod", "NetworkPolicy", "Deployment", "WorkflowRun", …
    name: str
    namespace: str = ""
    uid: str = ""  # empty for an object that the plan creates
    system: str = ""  # "cluster:prod", "github:acme/shop", "registry:…"

    @property
    def label(self) -> str:
        """`Kind namespace/name`."""
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}"

    def to_json(self) -> JsonObject:
        """Plain JSON."""
        return {f: v for f in self.__slots__ if (v := getattr(self, f))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One write that a plan intends: before and after, already redacted."""

    verb: str  # create | patch | delete | dispatch
    ref: ObjectRef
    before: Any = None
    after: Any = None
    effect: Effect = Effect.CHANGE
    # resourceVersion and the like: noise, not meaning
    precondition: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Plain JSON."""
        return {
            "verb": self.verb,
            "ref": self.ref.to_json(),
            "before": self.before,
            "after": self.after,
            "effect": self.effect.value,
            "precondition": dict(self.precondition),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        return cls(
            verb=data["verb"],
            ref=ObjectRef(**data["ref"]),
            before=data["before"],
            after=data["after"],
            effect=Effect(data["effect"]),
            precondition=data["precondition"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Blast:
    """How much a plan touches; every number is counted, none is guessed."""

    pods: int = 0
    ready_share: float = 0.0  # largest share of a workload's ready replicas that is lost, 0…1
    nodes: int = 0
    namespaces: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()  # "namespace/Kind/name"
    services_without_endpoints: tuple[str, ...] = ()
    budgets_crossed: tuple[str, ...] = ()
    last_ready: bool = False  # takes the last ready replica of something
    labels: Mapping[str, str] = field(default_factory=dict)  # labels of what is touched

    def to_json(self) -> JsonObject:
        """Plain JSON."""
        return {
            f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v
            for f in dataclasses.fields(self)
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        values: JsonObject = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a step would do, before it does it. Equal meaning gives an equal `hash`."""

    action: str
    summary: str  # one line with its object: "isolate pod shop/cart-7f9c"
    changes: tuple[Change, ...] = ()
    blast: Blast = Blast()
    residual: tuple[str, ...] = ()  # what this will not achieve, known in advance
    undo: str = ""  # how it is reversed, for a person; empty: it cannot be
    params: Mapping[str, Any] = field(default_factory=dict)  # resolved parameters, redacted
    data: Mapping[str, Any] = field(default_factory=dict)  # what apply needs and nobody approves
    asks: str = ""  # why a person must say yes to this very plan, whatever the mode; empty: no why

    @property
    def targets(self) -> tuple[str, ...]:
        """Labels of the objects touched, each once."""
        return tuple(dict.fromkeys(change.ref.label for change in self.changes))

    @property
    def hash(self) -> str:
        """SHA-256 over the meaning: noise (preconditions, `data`, order of keys) stays out."""
        meaning = {
            "action": self.action,
            "changes": [
                {k: v for k, v in change.to_json().items() if k != "precondition"}
                for change in self.changes
            ],
            "residual": list(self.residual),
            "undo": self.undo,
            "params": dict(self.params),
        }
        return digest_of(meaning)[:16]

    def to_json(self) -> JsonObject:
        """Plain JSON, the hash included."""
        return {
            "action": self.action,
            "summary": self.summary,
            "changes": [change.to_json() for change in self.changes],
            "blast": self.blast.to_json(),
            "residual": list(self.residual),
            "undo": self.undo,
            "params": dict(self.params),
            "data": dict(self.data),
            **({"asks": self.asks} if self.asks else {}),
            "hash": self.hash,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        return cls(
            action=data["action"],
            summary=data["summary"],
            changes=tuple(Change.from_json(change) for change in data["changes"]),
            blast=Blast.from_json(data["blast"]),
            residual=tuple(data["residual"]),
            undo=data["undo"],
            params=data["params"],
            data=data["data"],
            asks=data.get("asks", ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was verified after a step, and what stays open."""

    level: VerdictLevel
    residual: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)  # name of the check -> what it saw

    def to_json(self) -> JsonObject:
        """Plain JSON."""
        return {
            "level": self.level.value,
            "residual": list(self.residual),
            "checks": dict(self.checks),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The reverse of `to_json`."""
        return cls(
            level=VerdictLevel(data["level"]),
            residual=tuple(data["residual"]),
            checks=data["checks"],
        )


def canonical(value: Any) -> str:
    """One text for one meaning: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical text, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
