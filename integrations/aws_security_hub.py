"""AWS Security Hub: findings in its own format (ASFF), bare, in EventBridge, or inside of SNS.

https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html
Security Hub's newer findings are OCSF: point those at a hook of source `ocsf`.

Never: acts on what is archived, suppressed, passed, or already worked on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from integrations import _aws as aws
from integrations._source import Ignored, Sender, Table, at, listed, texts
from responder.model import Alert, AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

MAPPING = Table(
    rule=("Compliance/SecurityControlId", "Types/0", "GeneratorId"),
    summary=("Title", "Description"),
    severity=("Severity/Label", "FindingProviderFields/Severity/Label", "Severity/Normalized"),
    # https://docs.aws.amazon.com/securityhub/latest/userguide/asff-required-attributes.html
    severities={
        "critical": Severity.CRITICAL,
        "high": Severity.HIGH,
        "medium": Severity.MEDIUM,
        "low": Severity.LOW,
        "informational": Severity.INFO,
        0: Severity.INFO,
        1: Severity.LOW,
        40: Severity.MEDIUM,
        70: Severity.HIGH,
        90: Severity.CRITICAL,
    },
    time=("LastObservedAt", "UpdatedAt", "CreatedAt", "Timestamp"),
    target={
        "container": ("container/Name",),
        "image": ("container/ImageName",),
        "digest": ("image/ImageDigest",),
        "host": ("instance",),
    },
    fingerprint=("Id",),
    tags=("Types", "ProductName"),
    notes={
        "kind": "`vulnerability` where the first type is a software or configuration check.",
        "container": "`container`, `image` and `instance` are the details of the only resource "
        "of type Container, AwsEcrContainerImage and AwsEc2Instance.",
        "target": "Findings name no pod; GuardDuty's own do, so point those at `aws-guardduty`.",
    },
)
IGNORED = (
    *aws.CONFIRMATIONS,
    Ignored("sample", AlertKind.TEST, "a sample finding", lambda item: item.get("Sample") is True),
    Ignored(
        "archived",
        AlertKind.RESOLVED,
        "Security Hub has archived it",
        lambda item: item.get("RecordState") == "ARCHIVED",
    ),
    Ignored(
        "resolved",
        AlertKind.RESOLVED,
        "somebody has resolved it, or its check has passed",
        lambda item: (
            at(item, "Workflow/Status") == "RESOLVED" or at(item, "Compliance/Status") == "PASSED"
        ),
    ),
    Ignored(
        "work",
        AlertKind.NOTE,
        "suppressed, or somebody has already been told",
        lambda item: at(item, "Workflow/Status") in ("SUPPRESSED", "NOTIFIED"),
    ),
)


def _split(payload: Any) -> list[Any]:
    """The findings of every message; EventBridge has several in one event."""
    return [
        finding
        for part in aws.messages(payload)
        for finding in listed("findings", "Findings")(at(part, "detail") or part)
    ]


def _shape(item: JsonObject, hook: HookInfo) -> JsonObject | str:
    """The finding, with what its resources tell where the table reads it."""
    if asks := aws.confirmation(item, hook):
        return asks
    if "ProductArn" not in item or "Resources" not in item:
        return "not a finding in Security Hub's format"
    instance = at(_only(item, "AwsEc2Instance"), "Id")
    return {
        **item,
        "container": at(_only(item, "Container"), "Details/Container"),
        "image": at(_only(item, "AwsEcrContainerImage"), "Details/AwsEcrContainerImage"),
        "instance": instance.rpartition("/")[2] if isinstance(instance, str) else None,
    }


def _only(item: JsonObject, kind: str) -> Any:
    """The one resource of a type; of several none is chosen."""
    resources = item["Resources"] if isinstance(item["Resources"], list) else []
    found = [one for one in resources if at(one, "Type") == kind]
    return found[0] if len(found) == 1 else None


def _finish(alert: Alert, item: JsonObject) -> Alert:
    check = "".join(texts(item.get("Types"))[:1]).startswith("Software and Configuration Checks")
    if alert.kind is AlertKind.DETECTION and check:
        return replace(alert, kind=AlertKind.VULNERABILITY)
    return aws.quiet(alert, item)


SENDER = Sender(
    name="aws-security-hub",
    title="AWS Security Hub",
    home="https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
    finish=_finish,
    media=frozenset({"text/plain"}),
)
setup = SENDER.setup
