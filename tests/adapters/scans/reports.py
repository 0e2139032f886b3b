"""Write scan reports of one image in the shape of every tool, with values of our own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OLD, NEW, OTHER = (f"sha256:{sign * 64}" for sign in "abc")
CONFIG = f"sha256:{'d' * 64}"
TRIVY_TYPES = {"deb": "debian", "rpm": "redhat", "apk": "alpine", "pypi": "python-pkg"}
GRYPE_TYPES = {"pypi": "python", "golang": "go-module"}
SCORES = {"critical": "9.8", "high": "7.5", "medium": "5.0", "low": "2.0", "unknown": "0.0"}


@dataclass(frozen=True, kw_only=True)
class Weak:
    """One finding: which weakness, in which package at which version, repaired where."""

    id: str
    package: str = "openssl"
    at: str = "3.0.9-1"
    fixed: str = "3.0.11-1~deb12u2"
    severity: str = "high"
    kind: str = "deb"
    alias: str = ""
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a scanner saw of one image."""

    digest: str = OLD
    weak: tuple[Weak, ...] = ()
    packages: tuple[tuple[str, str], ...] = (("deb", "openssl"), ("deb", "zlib1g"), ("deb", "bash"))
    listed: bool = True
    system: str = "debian 12"
    database: str = "2026-11-24T06:00:00Z"
    version: str = "0.70.0"
    name: str = ""


def report(form: str, seen: Seen) -> bytes:
    """Return the report in one of the forms of `FORMS`."""
    return json.dumps(FORMS[form](seen)).encode()


def trivy(seen: Seen) -> dict[str, Any]:
    """Trivy's JSON, schema 2."""
    family, _, release = seen.system.partition(" ")
    kinds = dict.fromkeys([k for k, _ in seen.packages] + [w.kind for w in seen.weak])
    return {
        "SchemaVersion": 2,
        "Trivy": {"Version": seen.version},
        "ArtifactName": "registry.example/shop/cart",
        "ArtifactType": "container_image",
        "Metadata": {
            "OS": {"Family": family or "none", "Name": release},
            "ImageID": CONFIG if not seen.digest else f"sha256:{'e' * 64}",
            "RepoDigests": [f"registry.example/shop/cart@{seen.digest}"] if seen.digest else [],
            "DB": {"UpdatedAt": seen.database},
        },
        "Results": [_trivy_result(seen, kind) for kind in kinds],
    }


def _trivy_result(seen: Seen, kind: str) -> dict[str, Any]:
    found = [(w, _trivy_finding(w)) for w in seen.weak if w.kind == kind]
    result: dict[str, Any] = {
        "Target": f"registry.example/shop/cart ({seen.system})",
        "Class": "os-pkgs" if kind in {"deb", "rpm", "apk"} else "lang-pkgs",
        "Type": TRIVY_TYPES.get(kind, kind),
        "Vulnerabilities": [item for w, item in found if not w.hidden],
    }
    if hidden := [item for w, item in found if w.hidden]:
        result["ExperimentalModifiedFindings"] = [
            {"Type": "vulnerability", "Status": "ignored", "Finding": item} for item in hidden
        ]
    if seen.listed:
        result["Packages"] = [{"Name": name} for k, name in seen.packages if k == kind]
    return result


def _trivy_finding(weak: Weak) -> dict[str, Any]:
    return {
        "VulnerabilityID": weak.id,
        "VendorIDs": [weak.alias] if weak.alias else [],
        "PkgName": weak.package,
        "InstalledVersion": weak.at,
        "FixedVersion": weak.fixed,
        "Severity": weak.severity.upper(),
    }


def grype(seen: Seen) -> dict[str, Any]:
    """Grype's JSON; it never lists packages."""
    name, _, version = seen.system.partition(" ")
    matches = [(w, _grype_match(w)) for w in seen.weak]
    return {
        "matches": [item for w, item in matches if not w.hidden],
        "ignoredMatches": [
            {**item, "appliedIgnoreRules": [{"vulnerability": w.id}]}
            for w, item in matches
            if w.hidden
        ],
        "source": {
            "type": "image",
            "target": {
                "userInput": f"registry.example/shop/cart@{seen.digest}" if seen.digest else "x",
                "manifestDigest": seen.digest,
                "repoDigests": [],
            },
        },
        "distro": {"name": name, "version": version},
        "descriptor": {
            "name": "grype",
            "version": seen.version,
            "db": {"status": {"built": seen.database}},
        },
    }


def _grype_match(weak: Weak) -> dict[str, Any]:
    return {
        "vulnerability": {
            "id": weak.id,
            "severity": weak.severity.title(),
            "fix": {"versions": [weak.fixed] if weak.fixed else [], "state": "fixed"},
        },
        "relatedVulnerabilities": [{"id": weak.alias}] if weak.alias else [],
        "artifact": {
            "name": weak.package,
            "version": weak.at,
            "type": GRYPE_TYPES.get(weak.kind, weak.kind),
            "purl": f"pkg:{weak.kind}/{weak.package}@{weak.at}",
        },
    }


def sarif_trivy(seen: Seen) -> dict[str, Any]:
    """SARIF as Trivy writes it: versions in sentences, digests in the run's properties."""
    return _sarif(
        "Trivy",
        seen,
        [{"id": w.id, "properties": {"security-severity": SCORES[w.severity]}} for w in seen.weak],
        [
            {
                "ruleId": w.id,
                "message": {
                    "text": f"Package: {w.package}\nInstalled Version: {w.at}\n"
                    f"Vulnerability {w.id}\nSeverity: {w.severity.upper()}\n"
                    f"Fixed Version: {w.fixed}\nLink: [{w.id}](https://cve.example/{w.id})"
                },
                **({"suppressions": [{"kind": "external"}]} if w.hidden else {}),
            }
            for w in seen.weak
        ],
    )


def sarif_grype(seen: Seen) -> dict[str, Any]:
    """SARIF as Grype writes it: rules by id and package, the fix in the rule's help."""
    return _sarif(
        "Grype",
        seen,
        [
            {
                "id": f"{w.id}-{w.package}",
                "help": {
                    "text": f"Vulnerability {w.id}\nSeverity: {w.severity}\nPackage: {w.package}\n"
                    f"Version: {w.at}\nFix Version: {w.fixed}\nType: {w.kind}"
                },
                "properties": {
                    "purls": [f"pkg:{w.kind}/debian/{w.package}@{w.at}"],
                    "security-severity": SCORES[w.severity],
                },
            }
            for w in seen.weak
        ],
        [
            {
                "ruleId": f"{w.id}-{w.package}",
                "message": {
                    "text": f"A {w.severity} vulnerability in {w.kind} package: {w.package}, "
                    f"version {w.at} was found in image registry.example/shop/cart"
                },
                "locations": [
                    {
                        "logicalLocations": [
                            {"fullyQualifiedName": f"registry.example/shop/cart@{seen.digest}:/x"}
                        ]
                    }
                ],
            }
            for w in seen.weak
        ],
    )


def _sarif(tool: str, seen: Seen, rules: list[Any], results: list[Any]) -> dict[str, Any]:
    named = [f"registry.example/shop/cart@{seen.digest}"] if seen.digest else []
    return {
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": tool, "version": seen.version, "rules": rules}},
                "results": results,
                "properties": {"repoDigests": named} if tool == "Trivy" else {},
            }
        ],
    }


def cyclonedx(seen: Seen) -> dict[str, Any]:
    """A CycloneDX bill with vulnerabilities."""
    name, _, version = seen.system.partition(" ")
    purls = {n: f"pkg:{k}/debian/{n}@1" for k, n in seen.packages}
    purls |= {w.package: f"pkg:{w.kind}/debian/{w.package}@{w.at}" for w in seen.weak}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {
            "tools": {"components": [{"name": "trivy", "version": seen.version}]},
            "component": {
                "type": "container",
                "bom-ref": "image",
                "purl": f"pkg:oci/cart@{seen.digest.replace(':', '%3A')}?repository_url=r.example",
            },
        },
        "components": [
            *([{"type": "operating-system", "name": name, "version": version}] if name else []),
            *({"type": "library", "bom-ref": p, "name": n, "purl": p} for n, p in purls.items()),
        ],
        "vulnerabilities": [
            {
                "id": w.id,
                "references": [{"id": w.alias}] if w.alias else [],
                "ratings": [{"severity": w.severity}],
                "recommendation": f"Upgrade {w.package} to version {w.fixed}" if w.fixed else "",
                "affects": [{"ref": purls[w.package]}],
            }
            for w in seen.weak
        ],
    }


def openvex(digest: str, id_: str, status: str, **more: object) -> bytes:
    """Return an OpenVEX document of one statement about one image."""
    parts = more.pop("subcomponents", None)
    product = {"@id": f"pkg:oci/cart@{digest.replace(':', '%3A')}"}
    value = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://shop.example/vex/1",
        "author": "shop",
        "statements": [
            {
                "vulnerability": {"name": id_},
                "products": [product | ({"subcomponents": parts} if parts else {})],
                "status": status,
                **more,
            }
        ],
    }
    return json.dumps(value).encode()


def cyclonedx_vex(digest: str, id_: str, state: str, **more: object) -> bytes:
    """Return a CycloneDX VEX of one analysis about one image."""
    value = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "metadata": {"component": {"type": "container", "version": digest}},
        "vulnerabilities": [{"id": id_, "analysis": {"state": state, **more}, "affects": []}],
    }
    return json.dumps(value).encode()


FORMS: Mapping[str, Any] = {
    "trivy": trivy,
    "grype": grype,
    "sarif-trivy": sarif_trivy,
    "sarif-grype": sarif_grype,
    "cyclonedx": cyclonedx,
}
