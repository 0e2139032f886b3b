"""Kubescape's node agent: runtime alerts over its HTTP exporter, or its stdout lines forwarded.

The HTTP exporter posts `{"kind": "RuntimeAlerts", "spec": {"alerts": […]}}` to
`<url>/v1/runtimealerts` without a content type. https://kubescape.io/docs/operator/runtime-threat-detection/

Never: runs or follows `fixSuggestions`, which is a shell command in an alert.
"""

from __future__ import annotations

from typing import Any

from integrations._source import Ignored, Sender, Table, at, listed
from integrations._values import string
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_K8S = "RuntimeK8sDetails"
_BASE = "BaseRuntimeMetadata"

MAPPING = Table(
    rule=("RuleID", "ruleID", f"{_BASE}/alertName", "alertName"),
    summary=("message", "path", f"{_BASE}/alertName", "alertName"),
    severity=(f"{_BASE}/severity", "severity"),
    severities={
        0: Severity.INFO,
        1: Severity.LOW,
        5: Severity.MEDIUM,
        8: Severity.HIGH,
        10: Severity.CRITICAL,
    },
    time=(f"{_BASE}/timestamp", "timestamp", "time"),
    target={
        "namespace": (
            f"{_K8S}/podNamespace",
            f"{_K8S}/namespace",
            "podNamespace",
            "namespace",
            "event/k8s/namespace",
        ),
        "pod": (f"{_K8S}/podName", "podName", "event/k8s/podName"),
        "container": (f"{_K8S}/containerName", "containerName"),
        "container_id": (f"{_K8S}/containerID", "containerID", "event/runtime/containerId"),
        "image": (f"{_K8S}/image", "image", "event/runtime/containerImageName"),
        "digest": (f"{_K8S}/imageDigest", "imageDigest", f"{_K8S}/image"),
        "workload": (
            f"{_K8S}/workloadKind + {_K8S}/workloadName",
            "workloadKind + workloadName",
        ),
        "node": (f"{_K8S}/nodeName", "nodeName"),
    },
    fingerprint=(
        f"{_BASE}/alertName",
        "alertName",
        f"{_BASE}/arguments",
        "arguments",
        "RuntimeProcessDetails/processTree/cmdline",
        "processTree/cmdline",
        "path",
    ),
    notes={"rule": "R0001 and on are anomalies, R1000 and on known bad: `R1*` takes the latter."},
)
IGNORED = (
    Ignored(
        "limit",
        AlertKind.HEALTH,
        "the agent says that it holds further alerts back for a minute",
        lambda item: "AlertLimitReached" in (at(item, f"{_BASE}/alertName"), item.get("alertName")),
    ),
    Ignored(
        "init",
        AlertKind.HEALTH,
        "the first line of a stream, which says nothing",
        lambda item: item.get("RuleID") == "init" or item.get("level") == "init",
    ),
)
_ALERTS = listed("alerts")


def _split(payload: Any) -> list[Any]:
    """The alerts of a body; a report of changed files on a node has `events` instead."""
    spec, events = at(payload, "spec"), at(payload, "events")
    if isinstance(events, list):
        node = at(payload, "nodeName")
        return [{**one, "nodeName": node} if isinstance(one, dict) else one for one in events]
    return _ALERTS(spec) if isinstance(spec, dict) else _ALERTS(payload)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    if string(item.get("path")) and string(item.get("eventType")):
        return {**item, "alertName": f"File {string(item['eventType'])}"}
    named = any(string(at(item, path)) for path in MAPPING.rule)
    return item if named else "the alert has neither rule nor name"


SENDER = Sender(
    name="kubescape",
    title="Kubescape node agent",
    home="https://kubescape.io/docs/operator/runtime-threat-detection/",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
    media=frozenset({"", "application/octet-stream"}),
)
setup = SENDER.setup
