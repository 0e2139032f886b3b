"""OCSF findings of whatever tool: Security Hub's newer ones, Prowler's, many exporters'.

Classes: detection (2004), security (2001), vulnerability (2002), compliance (2003).

https://schema.ocsf.io/classes/detection_finding

Never: acts on what was blocked, closed, suppressed or passed; takes a time without a zone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from integrations import _aws as aws
from integrations._source import Ignored, Sender, Table, at, listed
from integrations._values import string
from responder.model import Alert, AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_FINDINGS = (2001, 2002, 2003, 2004)
_CHECKS = (2002, 2003)
# Blocked, Quarantined, Isolated, Deleted, Dropped, Reset, Access Revoked, Rejected
_STOPPED = (2, 3, 4, 5, 6, 21, 24, 25)
_BOX = (
    "container",
    "evidences/0/container",
    "evidences/0/process/container",
    "resources/0/container",
)

MAPPING = Table(
    rule=(
        "finding_info/analytic/name",
        "metadata/event_code",
        "finding_info/types/0",
        "finding_info/title",
        "finding/title",
    ),
    summary=(
        "message",
        "status_detail",
        "finding_info/title",
        "finding_info/desc",
        "finding/title",
    ),
    severity=("severity_id", "severity"),
    severities={
        0: Severity.UNKNOWN,
        1: Severity.INFO,
        2: Severity.LOW,
        3: Severity.MEDIUM,
        4: Severity.HIGH,
        5: Severity.CRITICAL,
        99: Severity.UNKNOWN,
        "informational": Severity.INFO,
        "low": Severity.LOW,
        "medium": Severity.MEDIUM,
        "high": Severity.HIGH,
        "critical": Severity.CRITICAL,
        "fatal": Severity.CRITICAL,
    },
    time=("time", "time_dt", "finding_info/created_time_dt", "finding_info/created_time"),
    target={
        "namespace": ("resources/0/namespace", "pod/namespace"),
        "pod": ("pod/name",),
        "pod_uid": ("pod/uid", *(f"{box}/pod_uuid" for box in _BOX)),
        "container": tuple(f"{box}/name" for box in _BOX),
        "container_id": tuple(f"{box}/uid" for box in _BOX),
        "image": tuple(f"{box}/image/name" for box in _BOX),
        "node": ("pod/node_name",),
        "host": ("device/hostname", "evidences/0/device/hostname", "observed"),
    },
    fingerprint=("finding_info/uid", "finding/uid"),
    tags=("finding_info/types", "metadata/product/name"),
    notes={
        "kind": "`vulnerability` for classes 2002 and 2003 and for a check that failed.",
        "time": "Milliseconds by the schema; seconds are told apart by their size.",
        "host": "`observed` is the only observable called hostname.",
        "pod": "`resources[0].data.metadata` where it has containers: a pod as Prowler tells it.",
    },
)


def _said(item: JsonObject) -> str:
    """The state's word; only where there is none, that of its number (tools mistake the number)."""
    word = string(item.get("status") or item.get("state")).lower()
    number = item.get("status_id", item.get("state_id"))
    by_number = {2: "in progress", 3: "suppressed", 4: "resolved", 5: "archived"}
    return word or by_number.get(number if type(number) is int else 0, "")


IGNORED = (
    *aws.CONFIRMATIONS,
    Ignored(
        "stopped",
        AlertKind.NOTE,
        "the control has already blocked it",
        lambda item: item.get("disposition_id") in _STOPPED or item.get("action_id") == 2,  # noqa: PLR2004 - Denied
    ),
    Ignored(
        "closed",
        AlertKind.RESOLVED,
        "closed, resolved or archived",
        lambda item: item.get("activity_id") == 3 or _said(item) in ("resolved", "archived"),  # noqa: PLR2004 - Close
    ),
    Ignored(
        "work",
        AlertKind.NOTE,
        "suppressed, or somebody works on it",
        lambda item: _said(item) in ("suppressed", "in progress"),
    ),
    Ignored(
        "passed",
        AlertKind.NOTE,
        "a check that passed, or could not be made",
        lambda item: item.get("status_code") in ("PASS", "MANUAL", "MUTED"),
    ),
)


def _split(payload: Any) -> list[Any]:
    """Findings alone, in an array, in EventBridge (several in one event), or inside of SNS."""
    return [
        one
        for part in aws.messages(payload)
        for one in listed("findings", "events")(at(part, "detail") or part)
    ]


def _shape(item: JsonObject, hook: HookInfo) -> JsonObject | str:
    if asks := aws.confirmation(item, hook):
        return asks
    if item.get("class_uid") not in _FINDINGS:
        return "not an OCSF finding of class 2001, 2002, 2003 or 2004"
    meta = at(item, "resources/0/data/metadata")
    seen = item.get("observables")
    hosts = [
        at(one, "value")
        for one in (seen if isinstance(seen, list) else ())
        if at(one, "name") == "hostname"
    ]
    return {
        **item,
        "pod": meta if at(meta, "containers") else None,
        "observed": hosts[0] if len(hosts) == 1 else None,
    }


def _finish(alert: Alert, item: JsonObject) -> Alert:
    check = item.get("class_uid") in _CHECKS or item.get("status_code") == "FAIL"
    if alert.kind is AlertKind.DETECTION and check:
        return replace(alert, kind=AlertKind.VULNERABILITY)
    return aws.quiet(alert, item)


SENDER = Sender(
    name="ocsf",
    title="OCSF findings",
    home="https://schema.ocsf.io/classes/detection_finding",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
    finish=_finish,
)
setup = SENDER.setup
