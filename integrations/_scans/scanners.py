"""The reports of Trivy and Grype in their own JSON, read into one form.

Never: takes a finding that the scanner was told to ignore for one that is gone.

https://trivy.dev/latest/docs/configuration/reporting/, https://github.com/anchore/grype#output-formats
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from integrations._scans.model import (
    Finding,
    Package,
    Scan,
    at,
    digests_in,
    from_purl,
    objects,
    severity_of,
    word,
)
from integrations._scans.versions import kind_of

__all__ = ["grype", "trivy"]


def trivy(report: dict[str, Any]) -> Scan:
    """Trivy's report; the packages are there with `--list-all-pkgs`."""
    results = list(objects(report.get("Results")))
    meta = report.get("Metadata")
    listed = any("Packages" in result for result in results)
    family = word(at(meta, "OS/Family"))
    return Scan(
        form="Trivy JSON",
        scanner="trivy",
        version=word(at(report, "Trivy/Version")),
        database=word(at(meta, "DB/UpdatedAt")),
        digests=digests_in(at(meta, "RepoDigests"), at(meta, "ImageID"), at(meta, "Reference")),
        system=f"{family} {word(at(meta, 'OS/Name'))}".strip() if family != "none" else "",
        packages=frozenset(_trivy_packages(results)) if listed else None,
        findings=tuple(_trivy_findings(results)),
    )


def _trivy_packages(results: list[dict[str, Any]]) -> Iterator[Package]:
    for result in results:
        for item in objects(result.get("Packages")):
            if name := word(item.get("Name")):
                yield Package(kind_of(word(result.get("Type"))), name)


def _trivy_findings(results: list[dict[str, Any]]) -> Iterator[Finding]:
    for result in results:
        kind = kind_of(word(result.get("Type")))
        for item in objects(result.get("Vulnerabilities")):
            yield _trivy_finding(item, kind)
        for item in objects(result.get("ExperimentalModifiedFindings")):
            if isinstance(inner := item.get("Finding"), dict) and inner.get("VulnerabilityID"):
                yield _trivy_finding(inner, kind, hidden=True)


def _trivy_finding(item: dict[str, Any], kind: str, *, hidden: bool = False) -> Finding:
    fixed = word(item.get("FixedVersion"))
    vendor = item.get("VendorIDs")
    return Finding(
        id=word(item.get("VulnerabilityID")),
        package=Package(kind, word(item.get("PkgName"))),
        installed=word(item.get("InstalledVersion")),
        fixed=tuple(part.strip() for part in fixed.split(",") if part.strip()),
        severity=severity_of(item.get("Severity")),
        aliases=frozenset(word(one) for one in vendor if word(one))
        if isinstance(vendor, list)
        else frozenset(),
        hidden=hidden,
    )


def grype(report: dict[str, Any]) -> Scan:
    """Grype's report, which names only the packages that it found something in."""
    target = at(report, "source/target")
    distro = f"{word(at(report, 'distro/name'))} {word(at(report, 'distro/version'))}"
    built = at(report, "descriptor/db/status/built") or at(report, "descriptor/db/built")
    return Scan(
        form="Grype JSON",
        scanner="grype",
        version=word(at(report, "descriptor/version")),
        database=word(built),
        digests=digests_in(
            at(target, "repoDigests"),
            at(target, "manifestDigest"),
            at(target, "imageID"),
            at(target, "userInput"),
        ),
        system=distro.strip(),
        findings=(
            *(_grype_finding(one) for one in objects(report.get("matches"))),
            *(_grype_finding(one, hidden=True) for one in objects(report.get("ignoredMatches"))),
        ),
    )


def _grype_finding(item: dict[str, Any], *, hidden: bool = False) -> Finding:
    named = from_purl(at(item, "artifact/purl"))
    kind = kind_of(word(at(item, "artifact/type")))
    # Grype's own names are kept: a Maven package's URL holds more than its name
    package = Package(named[0].kind if named else kind, word(at(item, "artifact/name")))
    related = objects(item.get("relatedVulnerabilities"))
    versions = at(item, "vulnerability/fix/versions")
    return Finding(
        id=word(at(item, "vulnerability/id")),
        package=package,
        installed=word(at(item, "artifact/version")),
        fixed=tuple(filter(None, map(word, versions))) if isinstance(versions, list) else (),
        severity=severity_of(at(item, "vulnerability/severity")),
        aliases=frozenset(filter(None, (word(one.get("id")) for one in related))),
        hidden=hidden,
    )
