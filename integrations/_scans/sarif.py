"""SARIF reports of Trivy and Grype, read into one form.

SARIF has no place for packages and versions, so both tools write them into sentences; a sentence
that is not understood leaves its parts empty, and then nothing is proven by it.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import re
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
from responder.model import Severity

__all__ = ["sarif"]

_ID = re.compile(r"CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3}", re.ASCII)
_LINE = re.compile(r"^(?P<key>[A-Z][A-Za-z ]{2,20}): ?(?P<value>[^\n]{0,200})$", re.MULTILINE)
_GRYPE = re.compile(
    r"vulnerability in (?P<type>[\w-]{1,40}) package: (?P<name>\S{1,200}), "
    r"version (?P<version>\S{1,200})"
)
_TEXT_MAX = 4096


def sarif(report: dict[str, Any]) -> Scan:
    """The first run of a SARIF log; `Scan.packages` is never known."""
    run = next(objects(report.get("runs")), {})
    tool = word(at(run, "tool/driver/name"))
    own = run.get("properties")
    rules = {word(rule.get("id")): rule for rule in objects(at(run, "tool/driver/rules"))}
    return Scan(
        form="SARIF",
        scanner=tool.lower(),
        version=word(at(run, "tool/driver/version") or at(run, "tool/driver/semanticVersion")),
        digests=digests_in(
            at(own, "repoDigests"), at(own, "imageID"), at(own, "imageName"), _places(run)
        ),
        findings=tuple(_findings(run, rules)),
    )


def _places(run: dict[str, Any]) -> list[Any]:
    """Image names in the locations: Grype has no other place for them."""
    return [
        at(result, "locations/0/logicalLocations/0/fullyQualifiedName")
        for result in objects(run.get("results"))
    ]


def _findings(run: dict[str, Any], rules: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    for result in objects(run.get("results")):
        if named := word(result.get("ruleId")):
            yield _finding(named, result, rules.get(named, {}))


def _finding(named: str, result: dict[str, Any], rule: dict[str, Any]) -> Finding:
    said = at(result, "message/text")
    said = said[:_TEXT_MAX] if isinstance(said, str) else ""
    lines = _lines(at(rule, "help/text")) | _lines(said)
    short = _GRYPE.search(said)
    purl = from_purl(at(rule, "properties/purls/0"))
    name = short["name"] if short else lines.get("package", "")
    kind = kind_of(short["type"] if short else lines.get("type", ""))
    known = _ID.match(named)  # Grype's rules are called by id and package
    fixed = lines.get("fixed version") or lines.get("fix version") or ""
    worded = severity_of(lines.get("severity", ""))
    score = severity_of(at(rule, "properties/security-severity"))
    return Finding(
        id=known[0] if known else named.removesuffix(f"-{name}"),
        package=Package(kind or (purl[0].kind if purl else ""), name),
        installed=short["version"] if short else lines.get("installed version", ""),
        fixed=tuple(part.strip() for part in fixed.split(",") if part.strip()),
        severity=worded if worded is not Severity.UNKNOWN else score,
        hidden=any(objects(result.get("suppressions"))),
    )


def _lines(text: Any) -> dict[str, str]:
    """`Key: value` lines of a sentence, by their lower-case key; the first one counts."""
    found: dict[str, str] = {}
    for m in _LINE.finditer(text[:_TEXT_MAX] if isinstance(text, str) else ""):
        found.setdefault(m["key"].lower(), m["value"].strip())
    return found
