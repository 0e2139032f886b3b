"""What every scanner's report says, in one form: of which image, with which data, what it found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from integrations import _values as values
from integrations._images import is_digest
from integrations._scans.versions import kind_of
from responder.model import Severity

__all__ = [
    "Finding",
    "Package",
    "Scan",
    "Statement",
    "at",
    "digests_in",
    "from_purl",
    "objects",
    "severity_of",
    "word",
]

_WORD_MAX = 200
_PURL_MAX = 4096
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_PURL = re.compile(r"pkg:([A-Za-z0-9.+-]+)/([^?#]+)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package by its system and name; never by its version, which a repair changes."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One weakness of one package as a report has it."""

    id: str
    package: Package
    installed: str = ""
    fixed: tuple[str, ...] = ()
    severity: Severity = Severity.UNKNOWN
    aliases: frozenset[str] = frozenset()
    hidden: bool = False  # the scanner was told to leave it out

    @property
    def ids(self) -> frozenset[str]:
        """Every name that the weakness goes by."""
        return self.aliases | {self.id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One report. `packages` is nothing where the format, or this report, does not list them."""

    form: str
    scanner: str
    version: str = ""
    database: str = ""  # when its data were built, as it says
    digests: frozenset[str] = frozenset()  # of index, manifest or configuration
    system: str = ""  # the distribution it saw
    packages: frozenset[Package] | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One sentence of a VEX document: why a finding does not count for a product."""

    ids: frozenset[str]
    status: str  # not_affected | fixed | whatever else was said
    reason: str
    digests: frozenset[str]  # the images it speaks of
    packages: frozenset[str] = frozenset()  # names; none: the whole image


def at(value: Any, path: str) -> Any:
    """What lies at a path of keys and positions, or nothing."""
    for key in path.split("/"):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """The objects of a list; what is no list has none."""
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def word(value: Any) -> str:
    """A short text, or nothing for what is none."""
    return value.strip()[:_WORD_MAX] if isinstance(value, str) else ""


def digests_in(*found: Any) -> frozenset[str]:
    """The digests in texts and lists of texts: `sha256:…`, `name@sha256:…`, `pkg:oci/…`."""
    texts = [item for one in found for item in (one if isinstance(one, list) else [one])]
    every = (_DIGEST.findall(unquote(item)) for item in texts if isinstance(item, str))
    return frozenset(digest for one in every for digest in one if is_digest(digest))


def from_purl(purl: Any) -> tuple[Package, str] | None:
    """Package and version in a package URL (https://github.com/package-url/purl-spec)."""
    m = _PURL.match(purl) if isinstance(purl, str) and len(purl) <= _PURL_MAX else None
    if not m:
        return None
    path, _, version = m[2].rpartition("@") if "@" in m[2] else (m[2], "", "")
    kind = kind_of(m[1])
    parts = unquote(path).split("/")
    # a distribution's name stands before the package's own; elsewhere the space belongs to it
    name = parts[-1] if kind in {"deb", "rpm", "apk"} else "/".join(parts)
    return Package(kind, name[:_WORD_MAX]), unquote(version)[:_WORD_MAX]


def severity_of(value: Any) -> Severity:
    """A severity by its word, or by its CVSS number."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,2}(\.\d{1,2})?", value):
        score = float(value)
        limits = ((9.0, 5), (7.0, 4), (4.0, 3), (0.1, 2))
        return next((Severity(rank) for least, rank in limits if score >= least), Severity.INFO)
    if isinstance(value, str) and value.strip().lower() == "negligible":
        return Severity.INFO  # Debian's and Ubuntu's word below low
    return values.severity_of(value)
