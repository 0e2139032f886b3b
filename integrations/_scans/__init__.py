"""Scan reports of an image before and after, read into one form and compared.

Pure: bytes in, findings and sentences out. Nothing here does I/O or trusts a report: whose image a
report is of, and whether a scanner saw anything at all, is checked before any finding counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from integrations._json import decode
from integrations._scans import cyclonedx as bill
from integrations._scans import openvex, scanners
from integrations._scans.model import Scan, Statement
from integrations._scans.sarif import sarif
from responder.errors import BadAlert, StepFailed
from responder.text import for_terminal

__all__ = ["REPORT_MAX", "read_scan", "read_vex"]

REPORT_MAX = 8 << 20


def read_scan(name: str, data: bytes) -> Scan:
    """The report in a file. Raises `StepFailed` that says what the file is instead."""
    report = _object(name, data)
    for fits, read in _FORMATS:
        if fits(report):
            return read(report)
    raise StepFailed(
        f"{name} is no scan report that is known: expected JSON of Trivy or Grype, SARIF, or "
        "CycloneDX with vulnerabilities"
    )


def read_vex(name: str, data: bytes) -> tuple[Statement, ...]:
    """The statements in a file. Raises `StepFailed` when it is neither OpenVEX nor CycloneDX."""
    document = _object(name, data)
    if str(document.get("@context", "")).startswith("https://openvex.dev/ns"):
        return tuple(openvex.statements(document))
    if document.get("bomFormat") == "CycloneDX":
        return tuple(bill.statements(document))
    raise StepFailed(f"{name} is neither an OpenVEX nor a CycloneDX document")


def _object(name: str, data: bytes) -> dict[str, Any]:
    try:
        value = decode(data, REPORT_MAX)
    except BadAlert as error:
        raise StepFailed(f"{name} cannot be read: {for_terminal(str(error), 200)}") from None
    if not isinstance(value, dict):
        raise StepFailed(f"{name}: expected a JSON object, got {type(value).__name__}")
    return value


_FORMATS: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[[dict[str, Any]], Scan]], ...] = (
    (lambda r: r.get("bomFormat") == "CycloneDX" and "components" in r, bill.cyclonedx),
    (lambda r: isinstance(r.get("runs"), list), sarif),
    (lambda r: isinstance(r.get("matches"), list), scanners.grype),
    (lambda r: "SchemaVersion" in r and "ArtifactName" in r, scanners.trivy),
)
