"""Whether a new image is the repair that was asked for, by the reports of it and of the old one.

What is not proven is refused: a report of another image, another scanner or other data, a scan
that saw nothing, a targeted finding that the old report does not have. A VEX statement counts only
where it names the new image and gives a reason. Every refusal is a sentence that names the finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from integrations._scans.model import Finding, Scan, Statement
from integrations._scans.versions import at_least
from responder.model import Severity
from responder.text import for_terminal

__all__ = ["Asked", "Ruling", "judge"]

_EXCUSES = ("not_affected", "fixed")
_SHRINKS = 0.5  # a repair keeps at least this share of the packages, unless said otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the new image has to meet.

    `targeted`: ids that must be gone; nothing means all of the old image at or above the threshold
    that have a fix.
    """

    targeted: tuple[str, ...] | None = None
    threshold: Severity = Severity.HIGH
    may_shrink: bool = False
    any_database: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The answer: no refusal lets it pass. `notes` are what a person should know anyway."""

    refusals: tuple[str, ...]
    repaired: tuple[str, ...] = ()  # "CVE-… in package": gone, or at the fix
    excused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both sides of the comparison, and how to look things up in them."""

    old: Scan
    new: Scan
    vex: tuple[Statement, ...]
    own: frozenset[str]

    def before(self, finding: Finding) -> Finding | None:
        """The old image's finding of the same weakness in the same package, the worst of them."""
        found = [
            one
            for one in self.old.findings
            if one.package == finding.package and one.ids & finding.ids
        ]
        return max(found, key=lambda one: one.severity, default=None)

    def after(self, finding: Finding) -> list[Finding]:
        """What the new report still has of it."""
        return [
            one
            for one in self.new.findings
            if one.package == finding.package and one.ids & finding.ids
        ]

    def excuse(self, finding: Finding) -> Statement | None:
        """The last statement on this finding in this image, where it excuses with a reason."""
        said = [
            one
            for one in self.vex
            if one.ids & finding.ids
            and one.digests & self.own
            and (not one.packages or finding.package.name in one.packages)
        ]
        last = said[-1] if said else None
        return last if last and last.status in _EXCUSES and last.reason else None


def judge(
    old: Scan,
    new: Scan,
    vex: Sequence[Statement],
    asked: Asked,
    *,
    old_digests: frozenset[str],
    new_digests: frozenset[str],
) -> Ruling:
    """The ruling on two reports; the digests are all that name each image in its registry."""
    unfit = [
        *_same_image(old, new, old_digests, new_digests),
        *_comparable(old, new, asked),
        *_seen(old, new, asked),
    ]
    if unfit:  # findings of reports that cannot be compared would only mislead
        return Ruling(refusals=tuple(unfit))
    pair = _Pair(old, new, tuple(vex), new_digests)
    targeted, missing = _targeted(old, asked)
    open_, repaired, excused = _repaired(pair, targeted)
    fresh, notes, excused_too = _fresh(pair, asked.threshold)
    return Ruling(
        refusals=(*missing, *open_, *fresh),
        repaired=tuple(dict.fromkeys(repaired)),
        excused=tuple(dict.fromkeys((*excused, *excused_too))),
        notes=(*_remarks(old, new, targeted, asked), *notes),
    )


# --------------------------------------------------------------------------- the reports


def _same_image(
    old: Scan, new: Scan, old_digests: frozenset[str], new_digests: frozenset[str]
) -> Iterator[str]:
    if old_digests & new_digests:
        yield f"the new image is the old one: both are {_first(old_digests & new_digests)}"
    for which, scan, wanted in (("old", old, old_digests), ("new", new, new_digests)):
        if not scan.digests:
            yield f"the report of the {which} image does not say of which digest it is"
        elif not scan.digests & wanted:
            yield (
                f"the report of the {which} image is of another image: expected "
                f"{_first(wanted)}, got {_first(scan.digests)}"
            )


def _comparable(old: Scan, new: Scan, asked: Asked) -> Iterator[str]:
    if not old.scanner or old.scanner != new.scanner:
        yield (
            f"the reports are of different scanners: the old one of {_shown(old.scanner)}, the "
            f"new one of {_shown(new.scanner)}; scan both with the same"
        )
    differ = old.database and new.database and old.database != new.database
    if differ and not asked.any_database:
        yield (
            f"the reports rest on different data: the old one on {_shown(old.database)}, the new "
            f"one on {_shown(new.database)}; scan both with the same database"
        )


def _seen(old: Scan, new: Scan, asked: Asked) -> Iterator[str]:
    """Whether the scanner saw what is in the new image at all."""
    if not new.packages and not new.findings:
        names = "names no package" if new.packages is None else "lists no package"
        yield (
            f"the scan of the new image is empty: its report {names}, so it does not show that "
            "anything was looked at; let it list the packages"
        )
        return
    if asked.may_shrink:
        return
    if old.system and not new.system:
        yield f"the distribution vanished: the old image was {_shown(old.system)}, the new one none"
    if old.packages is not None and new.packages is not None:
        yield from _shrunk({p.kind for p in old.packages}, old, new)
    else:
        yield from _silent(old, new)


def _shrunk(kinds: set[str], old: Scan, new: Scan) -> Iterator[str]:
    before, after = old.packages or frozenset(), new.packages or frozenset()
    for kind in sorted(kinds):
        was = sum(1 for p in before if p.kind == kind)
        now = sum(1 for p in after if p.kind == kind)
        if not now:
            yield f"the package set vanished: {was} {_shown(kind)} packages before, none now"
        elif now < was * _SHRINKS:
            yield (
                f"the package set shrank: {was} {_shown(kind)} packages before, {now} now; set "
                "may_shrink where that is meant"
            )


def _silent(old: Scan, new: Scan) -> Iterator[str]:
    """Without lists of packages: a finding without a fix is not cured by an update."""
    for kind in sorted({one.package.kind for one in old.findings}):
        if any(one.package.kind == kind for one in new.findings):
            continue
        listed = new.packages is not None and any(p.kind == kind for p in new.packages)
        for one in old.findings:
            if one.package.kind == kind and not one.fixed and not listed:
                yield (
                    f"the package set vanished: {_name(one)} has no fix, and yet nothing of any "
                    f"{_shown(kind)} package is reported now"
                )
                break


# --------------------------------------------------------------------------- the findings


def _targeted(old: Scan, asked: Asked) -> tuple[list[Finding], list[str]]:
    """The old image's findings that must go, and the ids that it does not have."""
    if asked.targeted is None:
        chosen = [one for one in old.findings if one.severity >= asked.threshold and one.fixed]
        return chosen, []
    wanted = dict.fromkeys(asked.targeted)
    chosen = [one for one in old.findings if one.ids & set(wanted)]
    known = frozenset().union(*(one.ids for one in chosen))
    missing = [
        f"{_shown(id_)} was to be repaired, and the report of the old image does not have it: "
        "that it is gone now proves nothing"
        for id_ in wanted
        if id_ not in known
    ]
    return chosen, missing


def _repaired(pair: _Pair, targeted: Iterable[Finding]) -> tuple[list[str], list[str], list[str]]:
    """Refusals, repaired and excused among what was targeted."""
    refused: dict[str, None] = {}
    repaired, excused = [], []
    for finding in targeted:
        left = [one for one in pair.after(finding) if not _at_the_fix(one)]
        if not left:
            repaired.append(_name(finding))
        for one in left:
            if statement := pair.excuse(one):
                excused.append(_excused(one, statement))
            else:
                refused[_still(one)] = None
    return list(refused), repaired, excused


def _at_the_fix(one: Finding) -> bool:
    """Whether a finding that is still reported does not hold; never one that was hidden."""
    return not one.hidden and at_least(one.package.kind, one.installed, one.fixed)


def _still(one: Finding) -> str:
    if one.hidden:
        return f"{_name(one)} is still there, and the scanner was told to leave it out"
    if not one.fixed:
        return f"{_name(one)} is still there at {_shown(one.installed)}, and no fix is known"
    return (
        f"{_name(one)} is not repaired: expected {_shown(' or '.join(one.fixed))} or later, got "
        f"{_shown(one.installed)}"
    )


def _fresh(pair: _Pair, threshold: Severity) -> tuple[list[str], list[str], list[str]]:
    """Refusals, notes and excuses for what the new image has and the old one had not, or milder."""
    refused: dict[str, None] = {}
    notes: dict[str, None] = {}
    excused: list[str] = []
    for one in pair.new.findings:
        before = pair.before(one)
        if before and before.severity >= one.severity:
            continue
        at = one.severity.name.lower()
        if before is None:
            text = f"{_name(one)} is new: {at}, and the old image did not have it"
        else:
            was = before.severity.name.lower()
            text = f"{_name(one)} is worse than before: {was} in the old image, {at} in the new one"
        if one.severity < threshold:
            notes[text] = None
        elif _at_the_fix(one):
            notes[f"{_name(one)} is reported, though {_shown(one.installed)} has the fix"] = None
        elif statement := pair.excuse(one):
            excused.append(_excused(one, statement))
        else:
            refused[text] = None
    return list(refused), list(notes), excused


def _remarks(old: Scan, new: Scan, targeted: Sequence[Finding], asked: Asked) -> Iterator[str]:
    if not targeted:
        yield "nothing was there to be repaired: that the entry was closed is not proven"
    if old.version != new.version:
        yield (
            f"{_shown(new.scanner)} {_shown(old.version)} scanned the old image, "
            f"{_shown(new.version)} the new one"
        )
    if not (old.database and new.database):
        yield "the reports do not say which database they rest on"
    if asked.may_shrink:
        yield "the package set was allowed to shrink"


# --------------------------------------------------------------------------- words


def _name(finding: Finding) -> str:
    return f"{_shown(finding.id)} in {_shown(finding.package.name)}"


def _excused(one: Finding, statement: Statement) -> str:
    return f"{_name(one)}: {_shown(statement.status)}, {_shown(statement.reason)}"


def _shown(text: str) -> str:
    return for_terminal(text, 120) or "(nothing)"


def _first(digests: Iterable[str]) -> str:
    return min(digests, default="(nothing)")
