"""Opsgenie's outgoing webhooks: an alert was made, worked on, closed.

https://support.atlassian.com/opsgenie/docs/opsgenie-edge-connector-alert-action-data/
Opsgenie only passes on: where a detector can be pointed here itself, that tells more.

Never: starts anything but on `Create`; what people do there is only noted.
"""

from __future__ import annotations

from integrations._source import Ignored, Sender, Table, at
from integrations._values import string
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_PLACES = ("namespace", "pod", "container", "container_id", "image", "node")

MAPPING = Table(
    rule=("alert/message",),
    summary=("alert/description", "alert/message"),
    severity=("alert/priority",),
    severities={
        "p1": Severity.CRITICAL,
        "p2": Severity.HIGH,
        "p3": Severity.MEDIUM,
        "p4": Severity.LOW,
        "p5": Severity.INFO,
        1: Severity.CRITICAL,
        2: Severity.HIGH,
        3: Severity.MEDIUM,
        4: Severity.LOW,
        5: Severity.INFO,
    },
    time=("alert/createdAt", "alert/insertedAt", "alert/updatedAt"),
    target={part: (f"alert/details/{part}",) for part in _PLACES},
    fingerprint=("alert/alertId",),
    tags=("alert/tags",),
    notes={
        "rule": "The alert's message; Opsgenie keeps no rule's name.",
        "target": "Only what the alert's own details (extra properties) name by these keys.",
    },
)
IGNORED = (
    Ignored(
        "closed",
        AlertKind.RESOLVED,
        "Opsgenie says it is closed",
        lambda item: item["action"] in ("Close", "Delete"),
    ),
    Ignored(
        "work",
        AlertKind.NOTE,
        "somebody there works on it",
        lambda item: item["action"] != "Create",
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    whole = string(item.get("action"), 64) and string(at(item, "alert/alertId"))
    return item if whole else "not an alert action of Opsgenie"


SENDER = Sender(
    name="opsgenie",
    title="Opsgenie",
    home="https://support.atlassian.com/opsgenie/docs/opsgenie-edge-connector-alert-action-data/",
    mapping=MAPPING,
    ignored=IGNORED,
    shape=_shape,
)
setup = SENDER.setup
