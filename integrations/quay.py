"""Quay's repository notifications: a vulnerability was found, an image was pushed, a build ended.

https://docs.quay.io/guides/notifications.html
A body holds neither the event's name nor a time: its keys tell which it is.

Never: takes one of several tags for the image that is meant.
"""

from __future__ import annotations

from integrations._source import Ignored, Sender, Table, at, texts
from integrations._values import image_name, string
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("rule",),
    summary=("found/description", "found/id"),
    severity=("found/priority",),
    severities={
        "defcon1": Severity.CRITICAL,
        "critical": Severity.CRITICAL,
        "high": Severity.HIGH,
        "medium": Severity.MEDIUM,
        "low": Severity.LOW,
        "negligible": Severity.INFO,
    },
    target={"image": ("image",)},
    fingerprint=("docker_url", "found/id", "vulnerabilities"),
    tags=("found/id", "tags"),
    kind=AlertKind.VULNERABILITY,
    notes={
        "rule": "`Quay vulnerability`, else `Quay event`.",
        "time": "Quay sends none.",
        "image": "`docker_url`, with its tag when there is only one.",
        "found": "`vulnerability`, else the first of `vulnerabilities`, which is the worst.",
    },
)
IGNORED = (
    Ignored(
        "test",
        AlertKind.TEST,
        "Quay's test notification",
        lambda item: at(item, "found/id") == "CVE-FAKE-CVE",
    ),
    Ignored(
        "registry",
        AlertKind.NOTE,
        "a push, a build or a mirror; nothing was found",
        lambda item: item["found"] is None,
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    place = string(item.get("docker_url"))
    if not place or not string(item.get("repository")):
        return "not a notification of Quay"
    found = item.get("vulnerability") or at(item, "vulnerabilities/0")
    tags = texts(item.get("tags"))
    return {
        **item,
        "rule": "Quay vulnerability" if isinstance(found, dict) else "Quay event",
        "found": found if isinstance(found, dict) else None,
        "image": image_name(place, tags[0] if len(tags) == 1 else None),
    }


SENDER = Sender(
    name="quay",
    title="Quay",
    home="https://docs.quay.io/guides/notifications.html",
    mapping=MAPPING,
    ignored=IGNORED,
    shape=_shape,
)
setup = SENDER.setup
