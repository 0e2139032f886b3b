"""Trivy's own JSON report, as a pipeline posts it after a scan.

Both the newer object and the first schema's array are read. https://trivy.dev/latest/docs/configuration/reporting/

Never: calls an archive's or a folder's name an image.
"""

from __future__ import annotations

from typing import Any

from integrations import _values as values
from integrations._reports import CLEAN, LARGE, MORE, findings, rows
from integrations._source import Sender, Table, word
from responder.model import AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

# List in a result -> the key of a finding's id.
_LISTS = {
    "Vulnerabilities": "VulnerabilityID",
    "Misconfigurations": "ID",
    "Secrets": "RuleID",
    "Licenses": "Name",
}

MAPPING = Table(
    rule=("rule",),
    summary=("said",),
    severity=("worst",),
    time=("CreatedAt",),
    target={
        "image": ("Metadata/RepoTags/0", "Metadata/Reference", "Metadata/RepoDigests/0", "image"),
        "digest": ("Metadata/RepoDigests/0",),
    },
    fingerprint=("all_ids", "ArtifactName"),
    tags=("ids",),
    kind=AlertKind.VULNERABILITY,
    notes=MORE
    | {
        "rule": "`Trivy report`, with the artifact's type: `Trivy report container_image`.",
        "image": "At last `ArtifactName`, when the artifact is an image that has tags at all.",
    },
)
IGNORED = (CLEAN,)


def _split(payload: Any) -> list[Any]:
    """One report; the first schema's array is one too."""
    if isinstance(payload, list):
        return [{"SchemaVersion": 1, "Results": payload}]
    return [payload]


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    results = item.get("Results")
    if not isinstance(results, list) and "SchemaVersion" not in item:
        return "not a report of Trivy's"
    parts = rows([results])
    if item.get("SchemaVersion") == 1 and not any("Target" in part for part in parts):
        return "not a report of Trivy's"
    found = [
        (name, row.get("Severity"))
        for part in parts
        for key, named in _LISTS.items()
        for row in rows([part.get(key)])
        if row.get("Status") != "PASS" and (name := word(row.get(named)))
    ]
    artifact = values.string(item.get("ArtifactName"))
    kind = values.string(item.get("ArtifactType"), 64)
    tagged = kind == "container_image" and not artifact.endswith((".tar", ".tar.gz", ".tgz"))
    return {
        **{key: value for key, value in item.items() if key != "Results"},
        "rule": f"Trivy report {kind}".strip(),
        "image": artifact if tagged else None,
        **findings(found),
    }


SENDER = Sender(
    name="trivy",
    title="Trivy report",
    home="https://trivy.dev/latest/docs/configuration/reporting/",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
    body_max=LARGE,
)
setup = SENDER.setup
