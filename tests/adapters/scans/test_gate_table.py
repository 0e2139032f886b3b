"""Pairs of reports and the ruling on each: the right verdict and the right sentence (C5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from integrations._scans import read_scan, read_vex
from integrations._scans.gate import Asked, Ruling, judge
from integrations._scans.model import Statement
from responder.model import Severity
from tests.adapters.scans.reports import (
    CONFIG,
    FORMS,
    NEW,
    OLD,
    OTHER,
    Seen,
    Weak,
    cyclonedx_vex,
    openvex,
    report,
)

CVE = Weak(id="CVE-2026-1000")
ALSO = Weak(id="CVE-2026-2000", package="zlib1g", fixed="")
FIXED = replace(CVE, at="3.0.11-1~deb12u2")
BEFORE = Seen(digest=OLD, weak=(CVE, ALSO))
AFTER = Seen(digest=NEW, weak=(ALSO,))
MANY = tuple(("deb", f"lib{n}") for n in range(40))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row: what was seen before and after, what was asked, and the sentence (none: passes)."""

    old: Seen = BEFORE
    new: Seen = AFTER
    says: str = ""
    form: str = "trivy"
    new_form: str = ""
    vex: bytes = b""
    targeted: tuple[str, ...] | None = ("CVE-2026-1000",)
    threshold: Severity = Severity.HIGH
    may_shrink: bool = False
    any_database: bool = False
    notes: str = ""
    excused: str = ""


def ruling(pair: Pair) -> Ruling:
    """Return the ruling on a row, through the bytes of both reports."""
    vex: tuple[Statement, ...] = read_vex("vex.json", pair.vex) if pair.vex else ()
    return judge(
        read_scan("scan-old.json", report(pair.form, pair.old)),
        read_scan("scan-new.json", report(pair.new_form or pair.form, pair.new)),
        vex,
        Asked(
            targeted=pair.targeted,
            threshold=pair.threshold,
            may_shrink=pair.may_shrink,
            any_database=pair.any_database,
        ),
        old_digests=frozenset({OLD}),
        new_digests=frozenset({NEW, CONFIG}),
    )


def among(*weak: Weak, **changes: Any) -> Seen:
    """Return what was seen of the new image with these findings."""
    return replace(AFTER, weak=weak, **changes)


def in_(kind: str, at: str, fixed: str) -> dict[str, Any]:
    """Return both sides of a row about a package of another kind that is still reported."""
    weak = Weak(id="CVE-2026-1000", package="p", kind=kind, at="0", fixed=fixed)
    both: dict[str, Any] = {"packages": ((kind, "p"), (kind, "q"))}
    return {
        "old": replace(BEFORE, weak=(weak,), **both),
        "new": among(replace(weak, at=at), **both),
    }


LATER = "is not repaired: expected"
ROWS: Mapping[str, Pair] = {
    # ---- repaired, in every form
    "gone": Pair(),
    "gone, Grype": Pair(form="grype"),
    "gone, SARIF of Trivy": Pair(form="sarif-trivy"),
    "gone, SARIF of Grype": Pair(form="sarif-grype"),
    "gone, CycloneDX": Pair(form="cyclonedx"),
    "gone, JSON before and CycloneDX after": Pair(new_form="cyclonedx"),
    "still reported, at the fix": Pair(new=among(FIXED, ALSO)),
    "still reported, after the fix": Pair(new=among(replace(CVE, at="3.0.13-1"), ALSO)),
    "by another name": Pair(
        old=replace(BEFORE, weak=(replace(CVE, id="GHSA-aaaa-bbbb-cccc", alias=CVE.id), ALSO)),
        form="grype",
    ),
    "whatever is severe and has a fix": Pair(targeted=None),
    "nothing asked for": Pair(targeted=(), notes="nothing was there to be repaired"),
    "the configuration's digest names it too": Pair(new=among(ALSO, digest="")),
    # ---- not repaired
    "still there": Pair(
        new=among(CVE, ALSO),
        says="CVE-2026-1000 in openssl is not repaired: expected 3.0.11-1~deb12u2 or later, got "
        "3.0.9-1",
    ),
    "still there, Grype": Pair(new=among(CVE, ALSO), form="grype", says=LATER),
    "still there, SARIF of Trivy": Pair(new=among(CVE, ALSO), form="sarif-trivy", says=LATER),
    "still there, SARIF of Grype": Pair(new=among(CVE, ALSO), form="sarif-grype", says=LATER),
    "still there, CycloneDX": Pair(new=among(CVE, ALSO), form="cyclonedx", says=LATER),
    "still there under its other name": Pair(
        new=among(replace(CVE, id="GHSA-aaaa-bbbb-cccc", alias=CVE.id), ALSO),
        says="GHSA-aaaa-bbbb-cccc in openssl is not repaired",
    ),
    "just before the fix": Pair(new=among(replace(CVE, at="3.0.11-1~deb12u1"), ALSO), says=LATER),
    "later, and no fix is known": Pair(
        new=among(replace(CVE, at="3.0.12", fixed=""), ALSO),
        says="CVE-2026-1000 in openssl is still there at 3.0.12, and no fix is known",
    ),
    "what is severe and has a fix is still there": Pair(
        targeted=None, new=among(CVE, ALSO), says=LATER
    ),
    "the scanner was told to ignore it": Pair(
        new=among(replace(CVE, hidden=True), ALSO),
        says="CVE-2026-1000 in openssl is still there, and the scanner was told to leave it out",
    ),
    "Grype was told to ignore it": Pair(
        new=among(replace(CVE, hidden=True), ALSO), form="grype", says="told to leave it out"
    ),
    "suppressed in SARIF": Pair(
        new=among(replace(CVE, hidden=True), ALSO), form="sarif-trivy", says="told to leave it out"
    ),
    "ignored though at the fix": Pair(
        new=among(replace(FIXED, hidden=True), ALSO), says="told to leave it out"
    ),
    "the old report never had it": Pair(
        targeted=("CVE-2026-9999",),
        says="CVE-2026-9999 was to be repaired, and the report of the old image does not have it",
    ),
    # ---- versions by their own rules
    "rpm before": Pair(**in_("rpm", "1:1.1.1k-7.el8", "1:1.1.1k-12.el8"), says=LATER),
    "rpm after": Pair(**in_("rpm", "1:1.1.1k-12.el8", "1:1.1.1k-7.el8")),
    "apk before": Pair(**in_("apk", "3.0.9-r3", "3.0.10-r0"), says=LATER),
    "apk after": Pair(**in_("apk", "3.0.10-r0", "3.0.9-r3")),
    "Python before": Pair(**in_("pypi", "2.0rc1", "2.0"), says=LATER),
    "Python after": Pair(**in_("pypi", "2.0.post1", "2.0")),
    "Go before": Pair(**in_("golang", "v1.9.0", "1.21.3"), says=LATER),
    "npm after": Pair(**in_("npm", "4.17.21", "4.17.9")),
    "npm, in a branch that is not repaired": Pair(
        **in_("npm", "1.3.0", "1.2.9, 1.3.4"), says="expected 1.2.9 or 1.3.4 or later, got 1.3.0"
    ),
    "an order nobody knows": Pair(**in_("gem", "2.0", "1.0"), says=LATER),
    # ---- something else came
    "another weakness came": Pair(
        new=among(ALSO, Weak(id="CVE-2026-3000", package="bash", severity="critical")),
        says="CVE-2026-3000 in bash is new: critical, and the old image did not have it",
    ),
    "another weakness came, Grype": Pair(
        new=among(ALSO, Weak(id="CVE-2026-3000", package="bash")),
        form="grype",
        says="CVE-2026-3000 in bash is new: high",
    ),
    "the same weakness in another package": Pair(
        new=among(ALSO, replace(CVE, package="libssl3")),
        says="CVE-2026-1000 in libssl3 is new: high",
    ),
    "another one, below the threshold": Pair(
        new=among(ALSO, Weak(id="CVE-2026-3000", package="bash", severity="medium")),
        notes="CVE-2026-3000 in bash is new: medium",
    ),
    "another one, at a lower threshold": Pair(
        new=among(ALSO, Weak(id="CVE-2026-3000", package="bash", severity="medium")),
        threshold=Severity.MEDIUM,
        says="CVE-2026-3000 in bash is new: medium",
    ),
    "a severity was raised": Pair(
        old=replace(BEFORE, weak=(CVE, replace(ALSO, severity="low"))),
        new=among(replace(ALSO, severity="critical")),
        says="CVE-2026-2000 in zlib1g is worse than before: low in the old image, critical in the "
        "new one",
    ),
    "a severity was raised, below the threshold": Pair(
        old=replace(BEFORE, weak=(CVE, replace(ALSO, severity="low"))),
        new=among(replace(ALSO, severity="medium")),
        notes="CVE-2026-2000 in zlib1g is worse than before: low",
    ),
    # ---- what was seen at all
    "an empty scan, Trivy": Pair(
        new=among(packages=()), says="is empty: its report names no package"
    ),
    "an empty scan with an empty list": Pair(
        new=among(packages=(), listed=True),
        new_form="cyclonedx",
        says="the scan of the new image is empty: its report lists no package",
    ),
    "an empty scan, Grype": Pair(
        new=among(), form="grype", says="is empty: its report names no package"
    ),
    "the packages vanished": Pair(
        old=replace(BEFORE, packages=(*BEFORE.packages, ("pypi", "flask"))),
        new=among(packages=(("pypi", "flask"),)),
        says="the package set vanished: 3 deb packages before, none now",
    ),
    "half the packages vanished": Pair(
        old=replace(BEFORE, packages=MANY),
        new=among(ALSO, packages=MANY[:3]),
        says="the package set shrank: 40 deb packages before, 3 now",
    ),
    "half the packages vanished on purpose": Pair(
        old=replace(BEFORE, packages=MANY),
        new=among(ALSO, packages=MANY[:3]),
        may_shrink=True,
        notes="the package set was allowed to shrink",
    ),
    "the distribution vanished": Pair(
        new=among(ALSO, system=""),
        says="the distribution vanished: the old image was debian 12, the new one none",
    ),
    "unrepairable findings vanished, Grype": Pair(
        form="grype",
        new=among(Weak(id="CVE-2026-4000", package="flask", kind="pypi", severity="low")),
        says="the package set vanished: CVE-2026-2000 in zlib1g has no fix, and yet nothing of "
        "any deb package is reported now",
    ),
    # ---- of what, by whom, with which data
    "the report of another image": Pair(
        new=replace(AFTER, digest=OTHER),
        says=f"the report of the new image is of another image: expected {NEW}, got {OTHER}",
    ),
    "the old report twice": Pair(
        new=BEFORE, says="the report of the new image is of another image"
    ),
    "the old report is of another image": Pair(
        old=replace(BEFORE, digest=OTHER), says="the report of the old image is of another image"
    ),
    "a report that does not say of what": Pair(
        form="sarif-trivy",
        new=replace(AFTER, digest=""),
        says="the report of the new image does not say of which digest it is",
    ),
    "two scanners": Pair(
        new_form="grype",
        says="the reports are of different scanners: the old one of trivy, the new one of grype",
    ),
    "two databases": Pair(
        new=among(ALSO, database="2026-11-25T06:00:00Z"),
        says="rest on different data: the old one on 2026-11-24T06:00:00Z, the new one on "
        "2026-11-25T06:00:00Z",
    ),
    "two databases, allowed": Pair(
        new=among(ALSO, database="2026-11-25T06:00:00Z"), any_database=True
    ),
    "two versions of the scanner": Pair(
        new=among(ALSO, version="0.71.0"), notes="0.70.0 scanned the old image, 0.71.0 the new one"
    ),
    # ---- VEX
    "excused with a reason": Pair(
        new=among(CVE, ALSO),
        vex=openvex(NEW, CVE.id, "not_affected", justification="vulnerable_code_not_present"),
        excused="CVE-2026-1000 in openssl: not_affected, vulnerable_code_not_present",
    ),
    "excused as fixed by a backport": Pair(
        new=among(CVE, ALSO),
        vex=openvex(NEW, CVE.id, "fixed", status_notes="patched in the image"),
        excused="fixed, patched in the image",
    ),
    "excused by CycloneDX": Pair(
        new=among(CVE, ALSO),
        vex=cyclonedx_vex(NEW, CVE.id, "not_affected", justification="code_not_reachable"),
        excused="not_affected, code_not_reachable",
    ),
    "a new one is excused": Pair(
        new=among(ALSO, Weak(id="CVE-2026-3000", package="bash")),
        vex=openvex(NEW, "CVE-2026-3000", "not_affected", justification="component_not_present"),
        excused="CVE-2026-3000 in bash",
    ),
    "excused without a reason": Pair(
        new=among(CVE, ALSO), vex=openvex(NEW, CVE.id, "not_affected"), says=LATER
    ),
    "excused for another image": Pair(
        new=among(CVE, ALSO),
        vex=openvex(OTHER, CVE.id, "not_affected", justification="component_not_present"),
        says=LATER,
    ),
    "excused for another package": Pair(
        new=among(CVE, ALSO),
        vex=openvex(
            NEW,
            CVE.id,
            "not_affected",
            justification="component_not_present",
            subcomponents=[{"@id": "pkg:deb/debian/zlib1g@1"}],
        ),
        says=LATER,
    ),
    "said to be affected": Pair(
        new=among(CVE, ALSO),
        vex=openvex(NEW, CVE.id, "affected", action_statement="update"),
        says=LATER,
    ),
    "CycloneDX calls it exploitable": Pair(
        new=among(CVE, ALSO),
        vex=cyclonedx_vex(NEW, CVE.id, "exploitable", detail="yes"),
        says=LATER,
    ),
}


@pytest.mark.parametrize("pair", ROWS.values(), ids=ROWS)
def test_each_pair_of_reports_has_its_ruling(pair: Pair) -> None:
    """The verdict is right, and its sentence names what it is about."""
    found = ruling(pair)

    assert bool(found.refusals) is bool(pair.says), found
    assert pair.says in "; ".join(found.refusals)
    assert pair.notes in "; ".join(found.notes)
    assert pair.excused in "; ".join(found.excused)


def test_the_table_is_as_great_as_it_must_be() -> None:
    """At least 25 pairs, every form among them, passes and refusals in every form but one."""
    forms = {pair.form for pair in ROWS.values()} | {pair.new_form for pair in ROWS.values()}

    assert len(ROWS) >= 25
    assert set(FORMS) <= forms
    assert {(p.form, bool(p.says)) for p in ROWS.values()} >= {
        (form, refused) for form in FORMS for refused in (True, False)
    }


def test_the_same_image_is_no_repair() -> None:
    """Equal digests are refused before any report is believed."""
    scan = read_scan("x", report("trivy", AFTER))
    both = frozenset({NEW})
    found = judge(scan, scan, (), Asked(), old_digests=both, new_digests=both)

    assert found.refusals[0] == f"the new image is the old one: both are {NEW}"


def test_what_was_repaired_is_named() -> None:
    """A pass says what it rests on, and a refused finding is never among the repaired."""
    assert ruling(ROWS["gone"]).repaired == ("CVE-2026-1000 in openssl",)
    assert ruling(ROWS["still there"]).repaired == ()


@pytest.mark.parametrize("form", FORMS)
def test_words_of_a_report_cannot_paint_the_screen(form: str) -> None:
    """Names with control characters come out defused in every sentence."""
    evil = Weak(id="CVE-2026-1000", package="open\x1b[31mssl\nx", severity="critical")
    seen = replace(AFTER, weak=(evil, ALSO), packages=(("deb", "zlib1g"), ("deb", "bash")))
    found = ruling(Pair(new=seen, form=form, targeted=("CVE-2026-\x1b1",)))

    assert found.refusals
    assert all(text.isprintable() for text in (*found.refusals, *found.notes))
