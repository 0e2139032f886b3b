"""Grafana Alerting's webhook: groups like Alertmanager's, and the older shape without a list.

https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/
Each item's own status decides. A resolved item names the alert that it ends.

Never: follows a link of the payload.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from integrations import _values as values
from integrations._labels import target_from
from integrations._source import Ignored, Sender, Table, at, first
from responder.model import Alert, AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_HEALTH = ("DatasourceNoData", "DatasourceError")

MAPPING = Table(
    rule=("labels/alertname", "ruleName"),
    summary=("annotations/summary", "annotations/description", "title", "message"),
    severity=("labels/severity", "labels/priority"),
    time=("startsAt",),
    fingerprint=("fingerprint", "labels", "startsAt", "ruleId"),
    notes={
        "target": "The Kubernetes words among the labels, as for Alertmanager: `namespace`, "
        "`pod`, `container`, `node`, `deployment` and their usual spellings.",
        "time": "`endsAt` for an alert that has ended.",
    },
)
IGNORED = (
    Ignored(
        "left out",
        AlertKind.HEALTH,
        "these alerts never reached this product: raise the contact point's limit",
        lambda item: "left_out" in item,
    ),
    Ignored(
        "resolved",
        AlertKind.RESOLVED,
        "Grafana says it has ended",
        lambda item: item["status"] in {"resolved", "ok"},
    ),
    Ignored(
        "test",
        AlertKind.TEST,
        "the contact point's test button",
        lambda item: (
            (at(item, "labels/alertname"), at(item, "labels/instance")) == ("TestAlert", "Grafana")
            or item.get("ruleName") == "Test notification"
        ),
    ),
    Ignored(
        "no data",
        AlertKind.HEALTH,
        "Grafana could not ask its data source, or got nothing",
        lambda item: (
            at(item, "labels/alertname") in _HEALTH
            or item["status"] == "no_data"
            or ("ruleName" in item and item.get("evalMatches") == [])
        ),
    ),
    Ignored(
        "pending",
        AlertKind.NOTE,
        "not firing yet, or paused",
        lambda item: item["status"] in {"pending", "paused"},
    ),
)
_STATES = {"firing", "resolved", "alerting", "ok", "no_data", "pending", "paused"}


def _split(payload: Any) -> list[Any]:
    """The group's items with what only the group says; the old shape is its own only item."""
    items = at(payload, "alerts")
    if not isinstance(items, list):
        return payload if isinstance(payload, list) else [payload]
    group = {key: payload[key] for key in ("title", "receiver", "groupKey") if key in payload}
    status = payload.get("status")
    parts: list[Any] = [
        {**group, "status": status, **item} if isinstance(item, dict) else item for item in items
    ]
    lost = payload.get("truncatedAlerts")
    return [*parts, {**group, "left_out": lost}] if type(lost) is int and lost > 0 else parts


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    if "left_out" in item:
        return {**item, "status": "firing"}
    status = values.string(item.get("status")) or values.string(item.get("state"))
    if status not in _STATES:
        return "its status is no word that Grafana uses"
    return {**item, "status": status}


def _finish(alert: Alert, item: JsonObject) -> Alert:
    labels = item.get("labels")
    target = target_from(labels if isinstance(labels, dict) else {}, alert.target.cluster)
    ended = first(item, ("endsAt",), values.micros, 0) if item["status"] == "resolved" else 0
    return replace(alert, target=target, time=ended or alert.time)


SENDER = Sender(
    name="grafana",
    title="Grafana Alerting",
    home="https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
    finish=_finish,
)
setup = SENDER.setup
