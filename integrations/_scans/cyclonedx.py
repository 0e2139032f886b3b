"""CycloneDX bills of materials with vulnerabilities, as a scan report and as VEX.

https://cyclonedx.org/docs/1.6/json/, https://cyclonedx.org/capabilities/vex/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from integrations._scans.model import (
    Finding,
    Package,
    Scan,
    Statement,
    at,
    digests_in,
    from_purl,
    objects,
    severity_of,
    word,
)
from responder.model import Severity

__all__ = ["cyclonedx", "statements"]

_UPGRADE = re.compile(r"\bto version ([^\s;,]{1,200})", re.ASCII)
# https://cyclonedx.org/docs/1.6/json/#vulnerabilities_items_analysis_state
_STATES = {
    "not_affected": "not_affected",
    "false_positive": "not_affected",
    "resolved": "fixed",
    "resolved_with_pedigree": "fixed",
}


def cyclonedx(report: dict[str, Any]) -> Scan:
    """A bill with what was found in it; its analyses do not hide anything here."""
    tool = _tool(report)
    known = dict(_components(report))
    return Scan(
        form="CycloneDX",
        scanner=word(tool.get("name")).lower(),
        version=word(tool.get("version")),
        digests=_images(report),
        system=_system(report),
        packages=frozenset(package for package, _ in known.values()),
        findings=tuple(_findings(report, known)),
    )


def statements(report: dict[str, Any]) -> Iterator[Statement]:
    """The analyses of a VEX, each about the image that the bill is of and what it names."""
    known = dict(_components(report))
    own = _images(report)
    for item in objects(report.get("vulnerabilities")):
        analysis = item.get("analysis")
        refs = [one.get("ref") for one in objects(item.get("affects"))]
        packages = [
            known[ref] if ref in known else from_purl(ref) for ref in refs if isinstance(ref, str)
        ]
        yield Statement(
            ids=_ids(item),
            status=_STATES.get(word(at(analysis, "state")), word(at(analysis, "state"))),
            reason=word(at(analysis, "justification")) or word(at(analysis, "detail")),
            digests=digests_in(refs) or own,
            packages=frozenset(one[0].name for one in packages if one and one[0].kind != "oci"),
        )


def _tool(report: dict[str, Any]) -> dict[str, Any]:
    """The scanner; the older form lists tools, the newer one their components."""
    tools = at(report, "metadata/tools")
    listed = tools if isinstance(tools, list) else at(tools, "components")
    return next(objects(listed), {})


def _images(report: dict[str, Any]) -> frozenset[str]:
    main = at(report, "metadata/component")
    kept = [one.get("value") for one in objects(at(main, "properties"))]
    return digests_in(at(main, "version"), at(main, "purl"), at(main, "bom-ref"), kept)


def _system(report: dict[str, Any]) -> str:
    for item in objects(report.get("components")):
        if item.get("type") == "operating-system":
            return f"{word(item.get('name'))} {word(item.get('version'))}".strip()
    return ""


def _components(report: dict[str, Any]) -> Iterator[tuple[str, tuple[Package, str]]]:
    for item in objects(report.get("components")):
        if item.get("type") in ("operating-system", "file"):
            continue
        found = from_purl(item.get("purl"))
        ref = item.get("bom-ref") or item.get("purl")
        if found and isinstance(ref, str):
            yield ref, found


def _findings(report: dict[str, Any], known: dict[str, tuple[Package, str]]) -> Iterator[Finding]:
    for item in objects(report.get("vulnerabilities")):
        said = item.get("recommendation")
        fixed = tuple(_UPGRADE.findall(said)) if isinstance(said, str) else ()
        ratings = [severity_of(one.get("severity")) for one in objects(item.get("ratings"))]
        for affected in objects(item.get("affects")):
            ref = affected.get("ref")
            found = (known.get(ref) or from_purl(ref)) if isinstance(ref, str) else None
            package, version = found or (Package("", word(ref)), "")
            yield Finding(
                id=word(item.get("id")),
                package=package,
                installed=version,
                fixed=fixed,
                severity=max(ratings, default=Severity.UNKNOWN),
                aliases=_ids(item),
            )


def _ids(item: dict[str, Any]) -> frozenset[str]:
    others = [one.get("id") for one in objects(item.get("references"))]
    return frozenset(filter(None, map(word, [item.get("id"), *others])))
