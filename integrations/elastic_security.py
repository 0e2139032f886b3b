"""Elastic Security's alerts, as a Kibana webhook connector posts them by our page's template.

https://www.elastic.co/guide/en/security/current/alert-schema.html
https://www.elastic.co/guide/en/kibana/current/webhook-action-type.html

An alert mixes dotted and nested keys, and lists of one where others have a value; all are read.

Never: takes a container's UUID for an id of a runtime.
"""

from __future__ import annotations

from integrations import _values as values
from integrations._source import Ignored, Sender, Table, listed
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("kibana.alert.rule.name", "signal.rule.name", "rule.name", "event.action"),
    summary=("kibana.alert.reason", "message", "kibana.alert.rule.description"),
    severity=("kibana.alert.severity", "signal.rule.severity", "kibana.alert.risk_score"),
    # https://www.elastic.co/guide/en/security/current/rules-ui-create.html: bands of the risk score
    severities={
        "low": Severity.LOW,
        "medium": Severity.MEDIUM,
        "high": Severity.HIGH,
        "critical": Severity.CRITICAL,
        0: Severity.LOW,
        22: Severity.MEDIUM,
        48: Severity.HIGH,
        74: Severity.CRITICAL,
    },
    time=("kibana.alert.original_time", "@timestamp"),
    target={
        "namespace": ("orchestrator.namespace", "kubernetes.namespace"),
        "pod": ("pod", "kubernetes.pod.name"),
        "pod_uid": ("kubernetes.pod.uid",),
        "container": ("container.name", "kubernetes.container.name"),
        "container_id": ("container.id",),
        "image": ("image",),
        "digest": ("container.image.hash.all",),
        "workload": ("orchestrator.resource.type + orchestrator.resource.name",),
        "node": ("kubernetes.node.name",),
        "host": ("host.name", "host.hostname"),
    },
    fingerprint=("kibana.alert.uuid", "process.executable", "process.args", "file.path"),
    tags=("kibana.alert.rule.tags", "threat.technique.id"),
    notes={
        "rule": "`event.action` only for an alert of an agent, which knows no rule's name.",
        "pod": "`orchestrator.resource.name` where its type is pod.",
        "image": "`container.image.name` with `container.image.tag`.",
        "paths": "Keys are joined by dots here, as Elastic writes them.",
    },
)
IGNORED = (
    Ignored(
        "blocked",
        AlertKind.NOTE,
        "the agent has already blocked it",
        lambda item: (
            item.get("event.action") in ("blocked", "block", "deny", "denied", "killed")
            or "denied" in (said for key, said in item.items() if key.startswith("event.type"))
        ),
    ),
    Ignored(
        "closed",
        AlertKind.RESOLVED,
        "closed by a person, or recovered",
        lambda item: (
            item.get("kibana.alert.workflow_status") == "closed"
            or item.get("kibana.alert.status") == "recovered"
        ),
    ),
    Ignored(
        "work",
        AlertKind.NOTE,
        "somebody there works on it",
        lambda item: item.get("kibana.alert.workflow_status") in ("acknowledged", "in-progress"),
    ),
    Ignored(
        "building block",
        AlertKind.NOTE,
        "a building block, from which other rules make an alert",
        lambda item: "kibana.alert.building_block_type" in item,
    ),
    Ignored(
        "telemetry",
        AlertKind.NOTE,
        "an ordinary event, no alert",
        lambda item: item.get("event.kind", "signal") not in ("alert", "signal"),
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    """The document as one level of dotted keys; a list of one stands for its value."""
    inner = item.get("_source")
    flat = values.flat(inner if isinstance(inner, dict) else item)
    for key in [key for key in flat if key.endswith(".0") and f"{key[:-2]}.1" not in flat]:
        flat.setdefault(key[:-2], flat[key])
    if not any(key.startswith(("kibana.", "signal.", "event.")) for key in flat):
        return "not an alert of Elastic Security"
    pod = flat.get("orchestrator.resource.type") == "pod"
    image = values.image_name(flat.get("container.image.name"), flat.get("container.image.tag"))
    return flat | {"pod": flat.get("orchestrator.resource.name") if pod else None, "image": image}


SENDER = Sender(
    name="elastic-security",
    title="Elastic Security",
    home="https://www.elastic.co/guide/en/security/current/alert-schema.html",
    mapping=MAPPING,
    ignored=IGNORED,
    split=listed("alerts"),
    shape=_shape,
)
setup = SENDER.setup
