"""PagerDuty's webhooks, version 3: what PagerDuty says about its incidents.

https://developer.pagerduty.com/docs/webhooks-overview
Signed: `auth = {hmac = {header = "X-PagerDuty-Signature", prefix = "v1=", many = true, …}}`.

Never: starts anything but on `incident.triggered`; what people do there is only noted.
"""

from __future__ import annotations

from typing import Any

from integrations._source import Ignored, Sender, Table, at
from integrations._values import string
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("data/service/summary", "event_type"),
    summary=("data/title", "data/summary"),
    severity=("data/priority/summary", "data/urgency"),
    severities={
        "p1": Severity.CRITICAL,
        "p2": Severity.HIGH,
        "p3": Severity.MEDIUM,
        "p4": Severity.LOW,
        "p5": Severity.INFO,
        "high": Severity.HIGH,
        "low": Severity.LOW,
    },
    time=("occurred_at",),
    fingerprint=("data/id",),
    notes={
        "rule": "The service's name: an incident's title may hold anybody's words.",
        "target": "None: an incident of PagerDuty names no object. Point the detector itself here.",
    },
)
IGNORED = (
    Ignored(
        "test",
        AlertKind.TEST,
        "PagerDuty's test delivery",
        lambda item: item["event_type"] == "pagey.ping",
    ),
    Ignored(
        "resolved",
        AlertKind.RESOLVED,
        "PagerDuty says it has ended",
        lambda item: item["event_type"] == "incident.resolved",
    ),
    Ignored(
        "work",
        AlertKind.NOTE,
        "somebody there works on it",
        lambda item: item["event_type"] not in {"incident.triggered", "incident.reopened"},
    ),
)


def _split(payload: Any) -> list[Any]:
    event = at(payload, "event")
    return [event] if isinstance(event, dict) else [payload]


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    return item if string(item.get("event_type")) else "not an event of PagerDuty's webhooks"


SENDER = Sender(
    name="pagerduty-v3",
    title="PagerDuty webhooks (v3)",
    home="https://developer.pagerduty.com/docs/webhooks-overview",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
)
setup = SENDER.setup
