"""Sysdig Secure's policy events, from its event forwarder or a notification channel.

https://docs.sysdig.com/en/docs/sysdig-secure/secure-events/event-forwarding/
Severity counts down: 0 is worst, 7 is information.

Never: acts on a container that Sysdig's own action has stopped.
"""

from __future__ import annotations

from integrations._source import Ignored, Sender, Table, listed
from responder.model import AlertKind, JsonObject, Severity

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_STOPS = ("KILL", "STOP", "PAUSE")
_FIELDS = "content/fields"

MAPPING = Table(
    rule=("content/ruleName", "name"),
    summary=("content/output", "description", "name"),
    severity=("severity",),
    severities={0: Severity.HIGH, 4: Severity.MEDIUM, 6: Severity.LOW, 7: Severity.INFO},
    time=("timestamp", "timestampRFC3339Nano"),
    target={
        "namespace": ("labels/kubernetes.namespace.name",),
        "pod": ("labels/kubernetes.pod.name",),
        "container": (f"{_FIELDS}/container.name", "labels/container.name"),
        "container_id": ("containerId",),
        "image": ("labels/container.image.repo", f"{_FIELDS}/container.image.repository"),
        "digest": ("labels/container.image.digest",),
        "workload": ("labels/kubernetes.workload.type + labels/kubernetes.workload.name",),
        "node": ("labels/kubernetes.node.name",),
        "host": ("labels/host.hostName",),
    },
    fingerprint=(
        f"{_FIELDS}/proc.name",
        f"{_FIELDS}/proc.cmdline",
        f"{_FIELDS}/user.name",
        f"{_FIELDS}/fd.name",
        "labels/cloudProvider.account.id",
        "description",
    ),
    tags=("content/ruleTags",),
    notes={"severity": "The vendor's four levels: 0 to 3 high, 4 and 5 medium, 6 low, 7 info."},
)


def _stopped(item: JsonObject) -> bool:
    actions = item.get("actions")
    return any(
        isinstance(action, dict)
        and action.get("successful") is True
        and any(word in str(action.get("type")).upper() for word in _STOPS)
        for action in (actions if isinstance(actions, list) else ())
    )


IGNORED = (
    Ignored("blocked", AlertKind.NOTE, "Sysdig has already stopped the container", _stopped),
)
SENDER = Sender(
    name="sysdig",
    title="Sysdig Secure",
    home="https://docs.sysdig.com/en/docs/sysdig-secure/secure-events/event-forwarding/",
    mapping=MAPPING,
    ignored=IGNORED,
    split=listed("events", "data"),
)
setup = SENDER.setup
