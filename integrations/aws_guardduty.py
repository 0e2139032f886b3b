"""Amazon GuardDuty: a bare finding, one in an EventBridge event, or either inside of SNS.

https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_finding-format.html
https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings_eventbridge.html

A finding is told again, with a higher count, while it goes on: its id is its fingerprint.

Never: acts on a sample finding, or on what GuardDuty says about its own coverage.
"""

from __future__ import annotations

from typing import Any

from integrations import _aws as aws
from integrations._cases import lowered
from integrations._json import decode
from integrations._source import Ignored, Sender, Table, at, listed
from integrations._values import string
from responder.errors import BadAlert
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("type",),
    summary=("title", "description"),
    severity=("severity",),
    # https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings-severity.html
    severities={1: Severity.LOW, 4: Severity.MEDIUM, 7: Severity.HIGH, 9: Severity.CRITICAL},
    time=("service/eventLastSeen", "updatedAt", "createdAt", "time", "lastUpdatedAt", "Timestamp"),
    target={
        "namespace": ("workload/namespace",),
        "pod": ("pod/name",),
        "pod_uid": ("pod/uid",),
        "container": ("container/name",),
        "container_id": ("container/id", "container/containerId"),
        "image": ("container/image",),
        "workload": ("workload/kind + workload/name",),
        "host": ("resource/instanceDetails/instanceId",),
    },
    fingerprint=("id",),
    tags=("resource/resourceType", "service/featureName"),
    notes={
        "workload": "`workload` is `resource.kubernetesDetails.kubernetesWorkloadDetails`; "
        "one of type pods is the pod.",
        "container": "`resource.containerDetails`, else the only container of the workload or "
        "of the ECS task; of several none is chosen.",
        "host": "The instance's id: EKS names its nodes otherwise.",
    },
)


def _sample(item: JsonObject) -> bool:
    """Whether it says of itself that it is a sample, in a key or in the JSON inside of a text."""
    more = at(item, "service/additionalInfo/value")
    try:
        inner = decode(more.encode("utf-8", "replace")) if isinstance(more, str) else None
    except BadAlert:
        inner = None
    return at(item, "service/additionalInfo/sample") is True or at(inner, "sample") is True


IGNORED = (
    *aws.CONFIRMATIONS,
    Ignored(
        "coverage",
        AlertKind.HEALTH,
        "GuardDuty speaks about its own coverage or scans, not about a finding",
        lambda item: string(item.get("detail-type"), 256) not in ("", "GuardDuty Finding"),
    ),
    Ignored("sample", AlertKind.TEST, "a sample finding", _sample),
    Ignored(
        "archived",
        AlertKind.NOTE,
        "somebody, or a suppression rule, has archived it",
        lambda item: at(item, "service/archived") is True,
    ),
)


def _split(payload: Any) -> list[Any]:
    return [one for part in aws.messages(payload) for one in listed("Findings", "findings")(part)]


def _shape(item: JsonObject, hook: HookInfo) -> JsonObject | str:
    """The finding, in camel case, with workload, pod and container where the table reads them."""
    if asks := aws.confirmation(item, hook):
        return asks
    detail = item.get("detail")
    event = isinstance(detail, dict) and "detail-type" in item
    finding: JsonObject = lowered(detail if event else item)
    if event:
        finding |= {"detail-type": item["detail-type"], "time": item.get("time")}
    about = string(finding.get("detail-type")) not in ("", "GuardDuty Finding")
    whole = isinstance(finding.get("resource"), dict) and isinstance(finding.get("service"), dict)
    return finding | _place(finding) if whole or about else "not a finding of GuardDuty's"


def _place(finding: JsonObject) -> JsonObject:
    found = at(finding, "resource/kubernetesDetails/kubernetesWorkloadDetails")
    work: JsonObject = dict(found) if isinstance(found, dict) else {}
    work["kind"] = string(work.get("type"), 64).removesuffix("s")
    inside = work.get("containers") or at(
        finding, "resource/ecsClusterDetails/taskDetails/containers"
    )
    only = inside[0] if isinstance(inside, list) and len(inside) == 1 else None
    return {
        "workload": work,
        "pod": work if work["kind"] == "pod" else None,
        "container": at(finding, "resource/containerDetails") or only,
    }


SENDER = Sender(
    name="aws-guardduty",
    title="Amazon GuardDuty",
    home="https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_finding-format.html",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
    finish=aws.quiet,
    media=frozenset({"text/plain"}),
)
setup = SENDER.setup
