"""Trivy Operator's reports, one a request, as its webhook broadcast posts them.

The bare report, or `{"verb": "update", "operatorObject": {…}}` when it tells of deletions too. Kind
and version may be missing, so the lists in the report tell what it is.
https://aquasecurity.github.io/trivy-operator/latest/tutorials/integrations/webhook/
The answer is not looked at, and every report comes again when the operator restarts.

Never: takes a ReplicaSet's name for a pod's.
"""

from __future__ import annotations

from typing import Any

from integrations import _values as values
from integrations._reports import CLEAN, LARGE, MORE, findings, rows
from integrations._source import Ignored, Sender, Table, at, word
from responder.model import AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_LABELS = "metadata/labels/trivy-operator"
# Kind when nothing names it -> the list and the id's key of its findings.
_KINDS = {
    "VulnerabilityReport": ("vulnerabilities", "vulnerabilityID"),
    "ExposedSecretReport": ("secrets", "ruleID"),
    "ConfigAuditReport": ("checks", "checkID"),
}

MAPPING = Table(
    rule=("kind",),
    summary=("said",),
    severity=("worst",),
    time=("report/updateTimestamp", "metadata/creationTimestamp"),
    target={
        "namespace": (f"{_LABELS}.resource.namespace", "metadata/namespace"),
        "pod": ("pod",),
        "container": (f"{_LABELS}.container.name",),
        "image": ("image",),
        "digest": ("report/artifact/digest",),
        "workload": (f"{_LABELS}.resource.kind + {_LABELS}.resource.name",),
        "node": ("node",),
    },
    fingerprint=("all_ids", "metadata/name"),
    tags=("ids",),
    kind=AlertKind.VULNERABILITY,
    notes=MORE
    | {
        "severity": "The worst finding's.",
        "image": "`report.registry.server`, `report.artifact.repository` and `.tag` together.",
        "pod": "Only when the label names a Pod; a Node likewise.",
    },
)
IGNORED = (
    Ignored(
        "deleted",
        AlertKind.NOTE,
        "the report was deleted, with its workload or before the next scan",
        lambda item: item.get("verb") == "delete",
    ),
    CLEAN,
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    wrapped = item.get("operatorObject")
    report = {**wrapped, "verb": item.get("verb")} if isinstance(wrapped, dict) else item
    lists = {kind: at(report, f"report/{key}") for kind, (key, _) in _KINDS.items()}
    kind = values.string(report.get("kind")) or next(
        (kind for kind, found in lists.items() if isinstance(found, list)), ""
    )
    if not kind.endswith("Report"):
        return "not a report of Trivy Operator's"
    return {**report, "kind": kind, **findings(_found(report)), **_place(report)}


def _found(report: JsonObject) -> list[tuple[str, Any]]:
    """Id and severity of each finding; a check that has passed is none."""
    parts = [
        (row, key)
        for name, key in _KINDS.values()
        for row in rows([at(report, f"report/{name}")])
        if row.get("success") is not True
    ]
    controls = rows([at(report, "status/summaryReport/controlCheck")])
    parts += [(row, "id") for row in controls if word(row.get("totalFail")) not in {"", "0"}]
    return [(name, row.get("severity")) for row, key in parts if (name := word(row.get(key)))]


def _place(report: JsonObject) -> JsonObject:
    artifact = at(report, "report/artifact")
    server = values.string(at(report, "report/registry/server"))
    repository = values.string(at(artifact, "repository"))
    whole = f"{server}/{repository}" if server and repository else repository
    kind, named = (at(report, f"{_LABELS}.resource.{part}") for part in ("kind", "name"))
    return {
        "image": values.image_name(whole, at(artifact, "tag"), at(artifact, "digest")),
        "pod": named if kind == "Pod" else None,
        "node": named if kind == "Node" else None,
    }


SENDER = Sender(
    name="trivy-operator",
    title="Trivy Operator",
    home="https://aquasecurity.github.io/trivy-operator/latest/tutorials/integrations/webhook/",
    mapping=MAPPING,
    ignored=IGNORED,
    shape=_shape,
    body_max=LARGE,
)
setup = SENDER.setup
