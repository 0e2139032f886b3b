"""KubeArmor's alerts, from its relay through a forwarder, or wrapped by its sidekick.

https://docs.kubearmor.io/kubearmor/documentation/kubearmor-events
The sidekick's wrapper has the alert under `Detail`; its CloudEvents output calls itself Falco's.

Never: acts on an attempt that KubeArmor has stopped already.
"""

from __future__ import annotations

from integrations._source import Ignored, Sender, Table, listed
from integrations._values import string
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_TELEMETRY = ("ContainerLog", "HostLog", "SystemLog")

MAPPING = Table(
    rule=("PolicyName",),
    summary=("Message", "Source"),
    severity=("Severity",),
    severities={1: Severity.LOW, 4: Severity.MEDIUM, 7: Severity.HIGH, 9: Severity.CRITICAL},
    time=("UpdatedTime", "Timestamp"),
    target={
        "namespace": ("NamespaceName",),
        "pod": ("PodName",),
        "container": ("ContainerName",),
        "container_id": ("ContainerID",),
        "image": ("ContainerImage",),
        "digest": ("ContainerImage",),
        "workload": ("Owner/Ref + Owner/Name",),
        "host": ("HostName",),
    },
    fingerprint=("Type", "Operation", "ProcessName", "Source", "Resource", "Action"),
    tags=("ATags", "Tags"),
    notes={
        "severity": "A text from 1 to 10; the default posture has none.",
        "rule": "`DefaultPosture` when it was no policy of yours but the default.",
    },
)
IGNORED = (
    Ignored(
        "telemetry",
        AlertKind.NOTE,
        "what a workload does, no policy was broken",
        lambda item: item["Type"] in _TELEMETRY,
    ),
    Ignored(
        "blocked",
        AlertKind.NOTE,
        "KubeArmor has already stopped it",
        lambda item: item.get("Action") == "Block",
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    """The alert itself; a wrapper's own words stand in for what the alert does not say."""
    detail = item.get("Detail")
    if isinstance(detail, dict):
        outside = {key: value for key, value in item.items() if key not in {"Detail", "EventType"}}
        item = {**outside, "Type": item.get("EventType"), **detail}
    kind = string(item.get("Type"))
    if kind not in _TELEMETRY and not kind.startswith("Matched"):
        return "its Type is neither a matched policy nor a log"
    return item


SENDER = Sender(
    name="kubearmor",
    title="KubeArmor",
    home="https://docs.kubearmor.io/kubearmor/documentation/kubearmor-events",
    mapping=MAPPING,
    ignored=IGNORED,
    split=listed("alerts", "events"),
    shape=_shape,
)
setup = SENDER.setup
