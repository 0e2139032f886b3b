"""Aqua Tracee's webhook output, in its three shapes: 0.8 flat, 0.1x nested, v1beta1 by workload.

One event a request, no signature; only 200 counts as delivered and nothing is sent again.
https://aquasecurity.github.io/tracee/latest/docs/outputs/event-structure/

A detection is an event with a signature's properties (or, in v1beta1, a threat). All other
events are what a policy traces, and are kept as notes.

Never: takes the host's name for a node (in a container it is the pod's).
"""

from __future__ import annotations

from dataclasses import replace

from integrations._source import Ignored, Sender, Table, at
from responder.model import Alert, AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("eventName", "name"),
    summary=("metadata/Description", "threat/description", "description"),
    severity=("metadata/Properties/Severity", "threat/severity"),
    severities={
        0: Severity.INFO,
        1: Severity.LOW,
        2: Severity.MEDIUM,
        3: Severity.HIGH,
        4: Severity.CRITICAL,
        "info": Severity.INFO,
        "low": Severity.LOW,
        "medium": Severity.MEDIUM,
        "high": Severity.HIGH,
        "critical": Severity.CRITICAL,
    },
    time=("timestamp",),
    target={
        "namespace": (
            "podNamespace",
            "kubernetes/podNamespace",
            "workload/k8s/namespace/name",
            "workload/k8s/namespace",
        ),
        "pod": ("podName", "kubernetes/podName", "workload/k8s/pod/name"),
        "pod_uid": ("podUID", "kubernetes/podUID", "workload/k8s/pod/uid"),
        "container": ("containerName", "container/name", "workload/container/name"),
        "container_id": ("containerId", "container/id", "workload/container/id"),
        "image": ("containerImage", "container/image", "workload/container/image/name"),
        "digest": ("container/imageDigest", "workload/container/image/id"),
        "host": ("hostName",),
    },
    fingerprint=(
        "processName",
        "workload/process/executable/path",
        "args/0/value",
        "data/0/str",
    ),
    tags=("metadata/Properties/external_id", "threat/mitre/technique/id"),
    notes={"host": "Only for events of the machine itself: in a container it is the pod's name."},
)
IGNORED = (
    Ignored(
        "telemetry",
        AlertKind.NOTE,
        "a traced event, no detection: it has no signature's properties and no threat",
        lambda item: not at(item, "metadata/Properties") and not at(item, "threat"),
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    known = "eventName" in item or ("name" in item and ("workload" in item or "data" in item))
    return item if known else "not one of Tracee's events"


def _finish(alert: Alert, _item: JsonObject) -> Alert:
    target = alert.target
    inside = target.container_id or target.pod
    return replace(alert, target=replace(target, host="")) if inside else alert


SENDER = Sender(
    name="tracee",
    title="Aqua Tracee",
    home="https://aquasecurity.github.io/tracee/latest/docs/outputs/event-structure/",
    mapping=MAPPING,
    ignored=IGNORED,
    shape=_shape,
    finish=_finish,
    accepts_status=200,
)
setup = SENDER.setup
