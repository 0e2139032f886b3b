"""Harbor's webhooks, in its own format and as CloudEvents: scans, and what happens to artefacts.

https://goharbor.io/docs/main/working-with-projects/project-configuration/configure-webhooks/
Its Auth Header is compared as it is: `auth = {header = {name = "Authorization", value = …}}`.

A scan is one alert for each artefact. The findings themselves stay in Harbor; it sends counts.

Never: takes a registry's events for a detection; only a scan that found something may start one.
"""

from __future__ import annotations

from typing import Any

from integrations._source import Ignored, Sender, Table, at, listed
from integrations._values import string
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_SCANNED = ("SCANNING_COMPLETED", "harbor.scan.completed")
_HEALTH = {"SCANNING_FAILED", "SCANNING_STOPPED", "QUOTA_EXCEED", "QUOTA_WARNING"}
_HEALTH |= {"harbor.scan.failed", "harbor.scan.stopped"}
_HEALTH |= {"harbor.quota.exceeded", "harbor.quota.warned"}

MAPPING = Table(
    rule=("rule",),
    summary=("said", "data/custom_attributes/Details"),
    severity=("scan/severity",),
    severities={
        "critical": Severity.CRITICAL,
        "high": Severity.HIGH,
        "medium": Severity.MEDIUM,
        "low": Severity.LOW,
        "negligible": Severity.INFO,
        "none": Severity.INFO,
    },
    time=("occur_at", "time", "scan/end_time"),
    target={"image": ("image",), "digest": ("resource/digest",)},
    fingerprint=("data/repository/repo_full_name", "resource/digest", "scan/summary"),
    tags=("type",),
    kind=AlertKind.VULNERABILITY,
    notes={
        "rule": "`Harbor scan`, or the event's type for everything else.",
        "image": "`resource_url` without its scheme; `scan` is the first report, of any type.",
        "fingerprint": "The same counts for the same digest are a repeat.",
    },
)
IGNORED = (
    Ignored(
        "health",
        AlertKind.HEALTH,
        "a scan that failed or was stopped, or a full project",
        lambda item: item["type"] in _HEALTH,
    ),
    Ignored(
        "artefact",
        AlertKind.NOTE,
        "something happened to an artefact; nothing was found in it",
        lambda item: item["type"] not in _SCANNED,
    ),
    Ignored(
        "unfinished",
        AlertKind.HEALTH,
        "the scan has not succeeded",
        lambda item: at(item, "scan/scan_status") != "Success",
    ),
    Ignored(
        "clean",
        AlertKind.NOTE,
        "a scan without findings",
        lambda item: at(item, "scan/summary/total") == 0 or at(item, "scan/severity") == "None",
    ),
)


def _split(payload: Any) -> list[Any]:
    """Every artefact of every event, each with the event around it."""
    made: list[Any] = []
    for event in listed()(payload):
        data = at(event, "event_data") or at(event, "data")
        resources = at(data, "resources")
        if not isinstance(event, dict) or not isinstance(resources, list) or not resources:
            made.append(event)
            continue
        rest = {key: event[key] for key in event if key not in ("event_data", "data")}
        about = {key: data[key] for key in data if key != "resources"}
        made += [{**rest, "data": about, "resource": one} for one in resources]
    return made


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    kind = string(item.get("type"), 64)
    harbors = "operator" in item or "resource" in item or "event_data" in item
    if not kind or not harbors:
        return "not an event of Harbor"
    reports = at(item, "resource/scan_overview")
    scan = next(iter(reports.values()), None) if isinstance(reports, dict) else None
    counts = at(scan, "summary/summary")
    said = ", ".join(f"{n} {word}" for word, n in sorted(counts.items())) if _counts(counts) else ""
    return {
        **item,
        "rule": "Harbor scan" if kind in _SCANNED else kind,
        "said": said,
        "scan": scan,
        "image": string(at(item, "resource/resource_url")).rpartition("://")[2],
    }


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(number) is int for number in value.values())


SENDER = Sender(
    name="harbor",
    title="Harbor",
    home="https://goharbor.io/docs/main/working-with-projects/project-configuration/configure-webhooks/",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
    media=frozenset({"application/cloudevents+json"}),
)
setup = SENDER.setup
