"""Events in the words of PagerDuty's Events API v2, sent here instead of there.

Many tools can speak it and only need another address.
https://developer.pagerduty.com/docs/send-alert-event

    {"routing_key": "…", "event_action": "trigger" | "acknowledge" | "resolve", "dedup_key": "…",
     "payload": {"summary", "source", "severity", "timestamp", "component", "group", "class",
                 "custom_details": {…}}, "client", "client_url", "links", "images"}

Severity: critical -> critical, error -> high, warning -> medium, info -> info.

Kind: trigger is a detection; resolve is *resolved* and ends the trigger with the same `dedup_key`;
acknowledge is a *note* (somebody elsewhere looks at it); another action is *unparsed*. What
PagerDuty itself sends out (webhooks v3, `{"event": …}`) is another language and *unparsed*.

Rule: `payload.class`, else the summary. Fingerprint: `dedup_key`; without one, the summary,
source, component, group and class (PagerDuty would make up a key and answer with it; we do not).
Target: the Kubernetes words in `custom_details`, and `source` as the host when it looks like one.

`routing_key` is the sender's secret: auth `{"routing_key": Secret}` checks it, and it never gets
into an alert's fields or raw text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from integrations import _values as values
from integrations._json import decode, dump
from integrations._labels import target_from
from integrations._source import Ignored, Page, Table, sample_of, verdict
from integrations._webhook import Guard, matches, secrets
from responder.clock import World
from responder.errors import BadAlert, Unauthorized
from responder.model import Alert, AlertKind, JsonObject, Target
from responder.ports import HookInfo, Integration, Kit

__all__ = ["IGNORED", "MAPPING", "PAGE", "PagerDuty", "setup"]

_RULE_MAX = 256
_SECRET = "routing_key"  # noqa: S105 - the name of the field, not what is in it
_IDENTITY = ("summary", "source", "component", "group", "class")
_ACTIONS = ("trigger", "resolve", "acknowledge")

MAPPING = Table(
    rule=("payload/class", "payload/summary"),
    summary=("payload/summary",),
    severity=("payload/severity",),
    time=("payload/timestamp",),
    target={
        "namespace": ("payload/custom_details/namespace",),
        "pod": ("payload/custom_details/pod",),
        "container": ("payload/custom_details/container",),
        "node": ("payload/custom_details/node",),
        "host": ("payload/custom_details/hostname", "payload/source"),
    },
    fingerprint=("dedup_key",),
    notes={
        "fingerprint": "Without `dedup_key`: summary, source, component, group and class.",
        "routing_key": "The sender's secret; it gets into no alert.",
    },
)
IGNORED = (
    Ignored(
        "resolve",
        AlertKind.RESOLVED,
        "the sender says it has ended",
        lambda event: event["event_action"] == "resolve",
    ),
    Ignored(
        "acknowledge",
        AlertKind.NOTE,
        "somebody elsewhere looks at it",
        lambda event: event["event_action"] == "acknowledge",
    ),
)
PAGE = Page(
    name="pagerduty",
    title="PagerDuty Events API (v2)",
    home="https://developer.pagerduty.com/docs/send-alert-event",
    mapping=MAPPING,
    ignored=IGNORED,
)


class PagerDuty:
    """The source `pagerduty`. The Events API answers 202, so senders expect it."""

    name = "pagerduty"
    accepts_status = 202

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def preverify(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """What can be checked before the body is read; raises `Unauthorized`."""
        self._guard.before(headers, hook)

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Raise `Unauthorized` unless the sender holds this hook's credentials."""
        self._guard.whole(headers, body, hook)
        if _SECRET in hook.auth:
            _check_routing_key(body, hook.auth[_SECRET])

    @property
    def sample(self) -> bytes:
        """An event as senders of the Events API make it."""
        return sample_of(self.name)

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """One alert for an event, one for each event of an array; `BadAlert` if no JSON."""
        del headers
        payload = decode(body)
        if isinstance(payload, list):
            return values.each(
                [_without_key(item) for item in payload],
                lambda item, raw: _alert(item, raw, hook),
                _unparsed,
            )
        event = _without_key(payload)
        return [_alert(event, dump(event), hook)]


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Offer the source `pagerduty`; it has no settings of its own."""
    del kit
    values.no_settings(section, PagerDuty.name)
    return Integration(sources=[PagerDuty(Guard(world))])


def _check_routing_key(body: bytes, wanted: Any) -> None:
    """Raise `Unauthorized` unless the event, or every event of an array, carries the key."""
    try:
        payload = decode(body)
    except BadAlert:
        raise Unauthorized("routing_key is missing: the body cannot be read") from None
    events = payload if isinstance(payload, list) else [payload]
    for event in events[: values.ALERTS_MAX + 1]:
        given = event.get(_SECRET) if isinstance(event, dict) else None
        if not isinstance(given, str) or not matches(given, secrets(wanted)):
            raise Unauthorized("routing_key does not hold for this hook")
    if not events or len(events) > values.ALERTS_MAX:
        raise Unauthorized(f"routing_key can be checked on 1 to {values.ALERTS_MAX} events")


def _without_key(event: Any) -> Any:
    if not isinstance(event, dict):
        return event
    return {key: value for key, value in event.items() if key.lower() != _SECRET}


def _unparsed(reason: str, raw: str) -> Alert:
    return values.unparsed(PagerDuty.name, reason, raw)


def _alert(event: Any, raw: str, hook: HookInfo) -> Alert:
    """One event as an alert."""
    if not isinstance(event, dict):
        return _unparsed("the event is not an object", raw)
    action = values.string(event.get("event_action"))
    if action not in _ACTIONS:
        return _unparsed("event_action is neither trigger, acknowledge nor resolve", raw)
    kind, reason = verdict(IGNORED, event)
    payload = event.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    key = values.string(event.get("dedup_key"))
    rule = values.string(payload.get("class"), _RULE_MAX) or values.summary(payload.get("summary"))
    if kind is AlertKind.DETECTION and not rule:
        return _unparsed("payload has neither class nor summary", raw)
    opened = _fingerprint(key, payload)
    return Alert(
        source=PagerDuty.name,
        kind=kind,
        rule=values.string(rule, _RULE_MAX),
        severity=values.severity_of(payload.get("severity")),
        summary=values.summary(payload.get("summary"), rule, f"{action} {key}"),
        time=values.micros(payload.get("timestamp")),
        fingerprint=opened if action == "trigger" else values.fingerprint_of(opened, action),
        target=_target(payload, hook.cluster),
        fields=_fields(event, payload),
        reason=reason,
        resolves=opened if kind is AlertKind.RESOLVED else "",
        raw=raw,
    )


def _fingerprint(key: str, payload: JsonObject) -> str:
    if key:
        return values.fingerprint_of("pagerduty", key)
    return values.fingerprint_of(
        "pagerduty", "payload", *(values.string(payload.get(part)) for part in _IDENTITY)
    )


def _target(payload: JsonObject, cluster: str) -> Target:
    details = payload.get("custom_details")
    target = target_from(details if isinstance(details, dict) else {}, cluster)
    return dataclasses.replace(target, host=target.host or values.name(payload.get("source")))


def _fields(event: JsonObject, payload: JsonObject) -> JsonObject:
    """The payload's words flat (`class`, `custom_details.pod`), and the event's beside them."""
    fields = values.flat(payload)
    for key in ("event_action", "dedup_key", "client", "client_url"):
        if text := values.string(event.get(key)):
            fields[key] = text
    return fields
