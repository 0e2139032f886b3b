"""StackRox (Red Hat Advanced Cluster Security): its generic webhook's alerts.

https://docs.redhat.com/en/documentation/red_hat_advanced_cluster_security_for_kubernetes/latest/html/integrating/integrate-using-generic-webhooks
Its JSON leaves out defaults: no `state` means active, no `lifecycleStage` means deploy.

Never: acts on what admission control has refused, on what was enforced, or on the Test button.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from integrations._source import Ignored, Sender, Table, at
from integrations._values import string
from responder.model import Alert, AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("policy/name", "unnamed"),
    summary=("violations/0/message", "processViolation/message", "policy/description"),
    severity=("policy/severity",),
    severities={
        "critical_severity": Severity.CRITICAL,
        "high_severity": Severity.HIGH,
        "medium_severity": Severity.MEDIUM,
        "low_severity": Severity.LOW,
    },
    time=("time", "firstOccurred", "TimeGenerated"),
    target={
        "namespace": ("deployment/namespace", "namespace", "resource/namespace"),
        "pod": ("pod",),
        "container": ("container/name",),
        "container_id": ("signal/containerId",),
        "image": ("container/image/name/fullName", "image/name/fullName"),
        "digest": ("container/image/id", "image/id"),
        "workload": ("deployment/type + deployment/name",),
        "node": ("node/name",),
    },
    fingerprint=("id",),
    tags=("policy/categories", "lifecycleStage"),
    notes={
        "kind": "`detection` for runtime violations, `vulnerability` for all others.",
        "rule": "`Policy violation` where the policy has no name.",
        "pod": "Named by all processes and events alike; a deployment of type Pod is the pod.",
        "container": "The one that the processes name, else the deployment's only one.",
    },
)
IGNORED = (
    Ignored(
        "test",
        AlertKind.TEST,
        "the notifier's Test button",
        lambda item: item.get("id") == "testalert",
    ),
    Ignored(
        "attempted",
        AlertKind.NOTE,
        "admission control has already refused it",
        lambda item: item.get("state") == "ATTEMPTED",
    ),
    Ignored(
        "resolved",
        AlertKind.RESOLVED,
        "StackRox says it has ended",
        lambda item: item.get("state") == "RESOLVED",
    ),
    Ignored(
        "snoozed",
        AlertKind.NOTE,
        "somebody snoozed it",
        lambda item: item.get("state") == "SNOOZED",
    ),
    Ignored(
        "enforced",
        AlertKind.NOTE,
        "StackRox has already acted on it",
        lambda item: at(item, "enforcement/action") not in (None, "", "UNSET_ENFORCEMENT"),
    ),
    Ignored(
        "own events",
        AlertKind.NOTE,
        "an audit message or a network policy, no alert",
        lambda item: "audit" in item or "networkpolicy" in item,
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    """The alert itself, with the pod and container that all of its evidence agrees on."""
    inner = next((item[key] for key in ("alert", "msg") if isinstance(item.get(key), dict)), None)
    if inner is None and any(isinstance(item.get(key), dict) for key in ("audit", "networkpolicy")):
        return item
    alert = dict(item if inner is None else inner)
    if not string(alert.get("id")) or not ("policy" in alert or "violations" in alert):
        return "not an alert of StackRox"
    processes = _list(at(alert, "processViolation/processes"))
    attrs = [
        one
        for violation in _list(alert.get("violations"))
        for one in _list(at(violation, "keyValueAttrs/attrs"))
    ]
    told = {
        name: [at(one, "value") for one in attrs if at(one, "key") == name]
        for name in ("pod", "container")
    }
    bare = at(alert, "deployment/name") if at(alert, "deployment/type") == "Pod" else ""
    pods = [at(process, "podId") for process in processes] + told["pod"]
    names = [at(process, "containerName") for process in processes] + told["container"]
    named = _same(names)
    containers = _list(at(alert, "deployment/containers"))
    held = [one for one in containers if not names or at(one, "name") == named]
    return alert | {
        "TimeGenerated": item.get("TimeGenerated"),
        "unnamed": "Policy violation",
        "pod": _same(pods) if pods else bare,
        "container": held[0] if len(held) == 1 else {"name": named},
        "signal": {"containerId": _same(at(one, "signal/containerId") for one in processes)},
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _same(told: Iterable[Any]) -> str:
    """The one text that all of them are, else nothing."""
    different = {string(one) for one in told}
    return different.pop() if len(different) == 1 else ""


def _finish(alert: Alert, item: JsonObject) -> Alert:
    runtime = "processViolation" in item or item.get("lifecycleStage") == "RUNTIME"
    if alert.kind is AlertKind.DETECTION and not runtime:
        return replace(alert, kind=AlertKind.VULNERABILITY)
    return alert


SENDER = Sender(
    name="stackrox",
    title="StackRox",
    home="https://docs.redhat.com/en/documentation/red_hat_advanced_cluster_security_for_kubernetes/",
    mapping=MAPPING,
    ignored=IGNORED,
    shape=_shape,
    finish=_finish,
)
setup = SENDER.setup
