"""Microsoft Defender for Cloud's alerts, as a Logic App or a forwarder of its export posts them.

Both schemas are read: the export's (`AlertType`, `Entities`) and the REST API's (`properties`).
https://learn.microsoft.com/en-us/azure/defender-for-cloud/alerts-schemas

Entities are a graph of `$id` and `$ref`. Where two share one id, a reference to it leads nowhere.

Never: acts on a sample or test alert; chooses one of several pods.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from integrations._cases import lowered
from integrations._source import Ignored, Sender, Table, at, listed, word
from integrations._values import string
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_OWNERS = ("deployment", "statefulset", "daemonset", "replicaset", "job", "cronjob")

MAPPING = Table(
    rule=("alertType",),
    summary=("alertDisplayName", "description"),
    severity=("severity",),
    severities={
        "high": Severity.HIGH,
        "medium": Severity.MEDIUM,
        "low": Severity.LOW,
        "informational": Severity.INFO,
    },
    time=("startTimeUtc", "timeGeneratedUtc", "timeGenerated"),
    target={
        "namespace": ("namespace/name",),
        "pod": ("pod/name",),
        "container": ("container/name",),
        "container_id": ("container/containerId",),
        "image": ("image/imageId",),
        "workload": ("owner/kind + owner/name",),
        "node": ("node/name",),
        "host": ("host/hostName", "machine"),
    },
    fingerprint=("systemAlertId", "name"),
    tags=("intent", "techniques"),
    notes={
        "pod": "The only entity of type K8s-pod; of several none is chosen. Namespace, container, "
        "image, owner, node and host likewise.",
        "machine": "The compromised entity, where the alert is about a virtual machine.",
    },
)


def _test(item: JsonObject) -> bool:
    """By the title's words, which are the vendor's own, or by the type of the test file's alert."""
    title = string(item.get("alertDisplayName")).upper()
    rule = string(item.get("alertType")).upper()
    return title.startswith("[SAMPLE ALERT]") or "(NOT A THREAT)" in title or "EICAR" in rule


def _status(item: JsonObject) -> str:
    return string(item.get("status")).lower()


IGNORED = (
    Ignored("test", AlertKind.TEST, "a sample or test alert", _test),
    Ignored(
        "resolved",
        AlertKind.RESOLVED,
        "somebody there has resolved it",
        lambda item: _status(item) == "resolved",
    ),
    Ignored(
        "work",
        AlertKind.NOTE,
        "dismissed, or somebody there works on it",
        lambda item: _status(item) in ("dismissed", "inprogress", "in progress"),
    ),
    Ignored(
        "incident",
        AlertKind.NOTE,
        "an incident groups alerts that come by themselves",
        lambda item: item.get("isIncident") is True,
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    """The alert in camel case, with its only entity of each kind."""
    inner = item.get("properties")
    alert: JsonObject = lowered(inner if isinstance(inner, dict) else item)
    if "alertType" not in alert or "vendorName" not in alert:
        return "not an alert of Defender for Cloud"
    listing = alert.get("entities")
    entities = (
        [one for one in listing if isinstance(one, dict)] if isinstance(listing, list) else []
    )
    ids = Counter(word(one.get("$id")) for one in entities if "$id" in one)
    known = {key: one for one in entities if ids[key := word(one.get("$id"))] == 1 and key}

    def only(kind: str) -> Any:
        found = [one for one in entities if string(one.get("type")).lower() == kind]
        return found[0] if len(found) == 1 else None

    def led(holder: Any, key: str) -> Any:
        """What a field leads to: an entity inside, or the one that it refers to."""
        reference = at(holder, f"{key}/$ref")
        return at(holder, key) if reference is None else known.get(word(reference))

    pod, container = only("k8s-pod"), only("container")
    owners = [{"kind": kind, "name": at(only(f"k8s-{kind}"), "name")} for kind in _OWNERS]
    azure = str(alert.get("azureResourceId") or at(alert, "resourceIdentifiers/0/azureResourceId"))
    return alert | {
        "pod": pod,
        "container": container,
        "namespace": led(pod, "namespace") or only("k8s-namespace"),
        "image": led(container, "image") or only("container-image"),
        "owner": next((owner for owner in owners if owner["name"]), None),
        "node": only("k8s-node"),
        "host": only("host"),
        "machine": alert.get("compromisedEntity") if "/virtualmachines/" in azure.lower() else None,
    }


SENDER = Sender(
    name="microsoft-defender",
    title="Microsoft Defender for Cloud",
    home="https://learn.microsoft.com/en-us/azure/defender-for-cloud/alerts-schemas",
    mapping=MAPPING,
    ignored=IGNORED,
    split=listed("value", "alerts"),
    shape=_shape,
)
setup = SENDER.setup
