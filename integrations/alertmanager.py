"""Prometheus Alertmanager's webhook, version 4, and the same alerts as its API takes them.

One request carries a group; each item of `alerts` is an alert of its own with its own status.
https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
Also read: a bare array of alerts (what Falcosidekick posts to `/api/v2/alerts`). `version` is not
looked at: "4", "1" (Google) and none at all are in use.

Severity, from the label `severity`, else `priority`: critical, page, emergency, fatal ->
critical; error, high, major -> high; warning, medium, average -> medium; notice, low, minor ->
low; info, information, none, debug -> info; anything else is unknown.

Kind: the item's status decides, the group's only where the item has none. `resolved` is
*resolved*; Watchdog, InfoInhibitor and Falco's own reports are *health*; Falcosidekick's test is
*test*; without `alertname`, or with a status nobody knows, it is *unparsed*.

Fingerprint: Alertmanager's own one with `startsAt`, because Alertmanager's names a label set for
ever and the same labels may fire again; where it is missing or empty, the sorted labels with
`startsAt`. A resolved alert has another one (else it would pass for a repeat) and `resolves` names
the alert it ends.

What Alertmanager does with answers (measured, 0.25): retries 5xx in seconds, never 4xx or 429.
Never: follows `generatorURL`, or lets a label choose the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from integrations import _values as values
from integrations._json import as_text, decode, dump
from integrations._labels import target_from
from integrations._source import Ignored, Page, Table, own_kind, sample_of, verdict
from integrations._webhook import Guard
from responder.clock import World
from responder.model import Alert, AlertKind, JsonObject, Severity
from responder.ports import HookInfo, Integration, Kit

__all__ = ["IGNORED", "MAPPING", "PAGE", "Alertmanager", "setup"]

_RULE_MAX = 256
# Alerts that always fire, so that silence is noticed.
# https://runbooks.prometheus-operator.dev/runbooks/general/watchdog/
_HEARTBEATS = frozenset({"watchdog", "deadmansswitch", "deadmanssnitch", "infoinhibitor"})
_GROUP_FIELDS = ("receiver", "groupKey", "externalURL", "notification_reason")
_ITEM_FIELDS = ("startsAt", "endsAt", "generatorURL", "fingerprint", "description", "source")


MAPPING = Table(
    rule=("labels/alertname",),
    summary=("annotations/summary", "annotations/message", "annotations/description"),
    severity=("labels/severity", "labels/priority"),
    time=("startsAt",),
    target={
        "namespace": ("labels/exported_namespace", "labels/namespace", "labels/k8s_ns_name"),
        "pod": ("labels/exported_pod", "labels/pod", "labels/k8s_pod_name"),
        "container": ("labels/container",),
        "container_id": ("labels/container_id",),
        "image": ("labels/image", "labels/container_image_repository"),
        "node": ("labels/node",),
        "host": ("labels/hostname", "labels/host", "labels/instance"),
    },
    fingerprint=("fingerprint", "startsAt"),
    notes={
        "exported": "Where `exported_namespace` or `exported_pod` stands, all three of namespace, "
        "pod and container come from the `exported_…` labels: the others are the exporter's own.",
        "time": "`endsAt` for an alert that has ended.",
        "fingerprint": "Alertmanager's own with `startsAt`; without one the sorted labels.",
        "workload": "From `deployment`, `statefulset`, `daemonset`, `cronjob`, `job_name`, "
        "`replicaset`, or `workload` with `workload_type`.",
    },
)
IGNORED = (
    Ignored(
        "resolved",
        AlertKind.RESOLVED,
        "Alertmanager says it has ended",
        lambda item: item["status"] == "resolved",
    ),
    Ignored(
        "odd status",
        AlertKind.UNPARSED,
        "its status is neither firing nor resolved",
        lambda item: item["status"] != "firing",
    ),
    Ignored(
        "heartbeat",
        AlertKind.HEALTH,
        "it always fires, so that silence is noticed",
        lambda item: item["rule"].lower() in _HEARTBEATS,
    ),
    Ignored(
        "Falcosidekick's test",
        AlertKind.TEST,
        "Falcosidekick's test event",
        lambda item: item["falco"] and item["rule"] == "Test rule",
    ),
    Ignored(
        "Falco's health",
        AlertKind.HEALTH,
        "Falco speaks about itself",
        lambda item: item["falco"] and item["rule"].startswith("Falco internal:"),
    ),
)
PAGE = Page(
    name="alertmanager",
    title="Prometheus Alertmanager",
    home="https://prometheus.io/docs/alerting/latest/configuration/#webhook_config",
    mapping=MAPPING,
    ignored=IGNORED,
)


class Alertmanager:
    """The source `alertmanager`."""

    name = "alertmanager"
    accepts_status = 202

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def preverify(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """What can be checked before the body is read; raises `Unauthorized`."""
        self._guard.before(headers, hook)

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Raise `Unauthorized` unless the sender holds this hook's credentials."""
        self._guard.whole(headers, body, hook)

    @property
    def sample(self) -> bytes:
        """A group as Alertmanager sends it."""
        return sample_of(self.name)

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """One alert for each item, and one more when the group was cut; `BadAlert` if no JSON."""
        del headers
        payload = decode(body)
        if isinstance(payload, list):
            return values.each(payload, lambda item, raw: _alert(item, raw, {}, hook), _unparsed)
        if not isinstance(payload, dict):
            return [_unparsed("the payload is not an object", as_text(body))]
        items = payload.get("alerts")
        if not isinstance(items, list):
            return [_unparsed("the payload has no list of alerts", as_text(body))]
        alerts = values.each(items, lambda item, raw: _alert(item, raw, payload, hook), _unparsed)
        return alerts + _cut_short(payload, hook)


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Offer the source `alertmanager`; it has no settings of its own."""
    del kit
    values.no_settings(section, Alertmanager.name)
    return Integration(sources=[Alertmanager(Guard(world))])


def _unparsed(reason: str, raw: str) -> Alert:
    return values.unparsed(Alertmanager.name, reason, raw)


def _alert(item: Any, raw: str, group: JsonObject, hook: HookInfo) -> Alert:
    """One item of a group as an alert."""
    if not isinstance(item, dict):
        return _unparsed("the alert is not an object", raw)
    labels = _texts(item.get("labels"))
    rule = labels.get("alertname", "")
    if not rule:
        return _unparsed("the alert has no label alertname", raw)
    kind, reason = _kind(item, group, rule, labels)
    notes = _texts(item.get("annotations"))
    fired = _fingerprint(item, labels, kind)
    resolved = kind is AlertKind.RESOLVED
    return Alert(
        source=Alertmanager.name,
        kind=kind,
        rule=values.string(rule, _RULE_MAX),
        severity=_severity(labels),
        summary=values.summary(
            notes.get("summary"), notes.get("message"), notes.get("description"), rule
        ),
        time=(resolved and values.micros(item.get("endsAt")))
        or values.micros(item.get("startsAt")),
        fingerprint=values.fingerprint_of(fired, "resolved") if resolved else fired,
        target=target_from(labels, hook.cluster),
        labels=labels,
        fields=_fields(item, group, notes),
        reason=reason,
        resolves=fired if resolved else "",
        raw=raw,
    )


def _texts(given: Any) -> dict[str, str]:
    """Labels or annotations: only texts that say something, by names of a sane length."""
    if not isinstance(given, dict):
        return {}
    return {
        key: text
        for key, value in given.items()
        if len(key) <= values.KEY_MAX and (text := values.string(value))
    }


def _severity(labels: Mapping[str, str]) -> Severity:
    return values.severity_of(labels.get("severity")) or values.severity_of(labels.get("priority"))


def _kind(
    item: JsonObject, group: JsonObject, rule: str, labels: Mapping[str, str]
) -> tuple[AlertKind, str]:
    """What the alert is, and why when it starts nothing.

    A status that is there and is no known word may have meant "resolved": it starts nothing.
    """
    status = item.get("status", group.get("status", "firing"))
    if status is None:
        status = group.get("status")
    by_falco = labels.get("source") == "falco"  # by way of Falcosidekick
    return verdict(IGNORED, {"status": status, "rule": rule, "falco": by_falco})


def _fingerprint(item: JsonObject, labels: Mapping[str, str], kind: AlertKind) -> str:
    started = str(values.micros(item.get("startsAt")))
    given = values.string(item.get("fingerprint"))
    if given:
        return values.fingerprint_of("alertmanager", given, started, *own_kind(kind))
    pairs = [part for pair in sorted(labels.items()) for part in pair]
    return values.fingerprint_of("alertmanager", "labels", *pairs, started, *own_kind(kind))


def _fields(item: JsonObject, group: JsonObject, notes: Mapping[str, str]) -> JsonObject:
    """Annotations by name, then what the item and its group say of themselves."""
    fields: JsonObject = {f"annotations.{key}": text for key, text in notes.items()}
    for part, keys in ((item, _ITEM_FIELDS), (group, _GROUP_FIELDS)):
        for key in keys:
            if text := values.string(part.get(key)):
                fields[key] = text
    return fields


def _cut_short(group: JsonObject, hook: HookInfo) -> list[Alert]:
    """A health alert when `max_alerts` made Alertmanager leave some out: they were never sent."""
    lost = group.get("truncatedAlerts")
    if type(lost) is not int or lost <= 0:
        return []
    key = values.string(group.get("groupKey"))
    return [
        Alert(
            source=Alertmanager.name,
            kind=AlertKind.HEALTH,
            rule="Alertmanager: alerts left out",
            severity=Severity.MEDIUM,
            summary=f"Alertmanager left {lost} alerts out of a group; raise max_alerts",
            time=0,
            fingerprint=values.fingerprint_of("alertmanager", "truncated", key, str(lost)),
            target=target_from({}, hook.cluster),
            fields={"truncatedAlerts": lost, "groupKey": key},
            reason="these alerts never reached this product",
            raw=dump({"groupKey": key, "truncatedAlerts": lost}),
        )
    ]
