"""Take alerts in: duplicates, incidents, runs and first journal lines, in one transaction.

The hot path of the product. What does not need the database is done before the writer sees it
(`prepare`); the operation itself is a handful of statements on short indexes. It never waits,
never reads a clock, and never lets an alert vanish: a duplicate is kept too and counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from responder.model import AlertKind, Mode
from responder.store._sheet import NOT_OPENED, Sheet
from responder.store._text import clean, encode
from responder.store.interface import Accept, Brake, Event, Opening, Receipt, RunStart

__all__ = [
    "Draft",
    "Intake",
    "Opened",
    "Take",
    "create_run",
    "draft",
    "find_or_open",
    "opened",
    "prepare",
    "take",
]

_END = "resolved:"
_DECIDED = ("incident", "mode", "braked")  # known only inside the transaction


class Draft(NamedTuple):
    """A run to create, as far as it can be written down beforehand."""

    id: str
    playbook: str
    hash: str
    text: str
    mode: str
    priority: int
    person: str
    door: str
    reason: str
    brakes: tuple[Brake, ...]
    storm: Brake | None
    mark: str
    head: str  # the first journal line's JSON, without what the transaction decides
    at: int


class Opened(NamedTuple):
    """An incident to join or open."""

    key: str
    window: int
    title: str
    severity: int
    target: str


class Intake(NamedTuple):
    """One alert, ready for its columns."""

    id: str
    hook: str
    fingerprint: str
    received: int
    window: int
    body: str
    raw: str
    story: str
    mark: str
    resolves: str
    resolved: bool
    opening: Opened | None
    drafts: tuple[Draft, ...]


def prepare(item: Accept) -> Intake:
    """Everything about an alert that needs no database."""
    alert = item.alert
    resolved = alert.kind is AlertKind.RESOLVED
    body = alert.to_json()
    opening = (
        None if resolved or item.opening is None else opened(item.opening, encode(body["target"]))
    )
    return Intake(
        id=item.id,
        hook=clean(item.hook),
        # an end may carry the fingerprint of what it ends, and is no repeat of it
        fingerprint=clean(f"{_END}{alert.fingerprint}" if resolved else alert.fingerprint),
        received=item.received,
        window=item.dedup_window,
        body=encode(body),
        raw=clean(alert.raw),
        story=clean(alert.summary or alert.rule),
        mark=f'{{"alert":"{item.id}"}}',  # an id is plain ASCII
        resolves=clean(alert.resolves or alert.fingerprint),
        resolved=resolved,
        opening=opening,
        drafts=tuple(
            draft(run_id, start, item.received, item.created)
            for run_id, start in zip(item.run_ids, item.starts, strict=True)
        )
        if opening
        else (),
    )


def opened(opening: Opening, target: str = "{}") -> Opened:
    """The columns of an incident to join or open."""
    return Opened(
        clean(opening.key), opening.window, clean(opening.title), int(opening.severity), target
    )


def draft(run_id: str, start: RunStart, at: int, created: Event | None) -> Draft:
    """The columns of a run to create."""
    data: dict[str, Any] = dict(created.data) if created else {}
    data |= {
        "playbook": start.playbook,
        "playbook_hash": start.playbook_hash,
        "inputs": dict(start.inputs),
        "person": start.person,
        "door": start.door,
        "reason": start.reason,
    }
    for name in _DECIDED:
        data.pop(name, None)
    return Draft(
        id=run_id,
        playbook=clean(start.playbook),
        hash=start.playbook_hash,
        text=clean(start.playbook_text),
        mode=start.mode.value,
        priority=int(start.priority),
        person=clean(start.person),
        door=clean(start.door),
        reason=clean(start.reason),
        brakes=start.brakes,
        storm=start.storm,
        mark=encode({"run": run_id}),
        head=encode(data)[:-1],
        at=created.at if created else at,
    )


class Take:
    """Storing prepared alerts, as an operation that its neighbours in a group can join."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[Intake]) -> None:
        self.items = items

    def __call__(self, db: sqlite3.Connection) -> list[Receipt]:
        return take(db, self.items)

    @staticmethod
    def join(db: sqlite3.Connection, ops: Sequence[Any]) -> list[list[Receipt]]:
        """All of them as one; each one's receipts."""
        receipts = iter(take(db, [item for op in ops for item in op.items]))
        return [[next(receipts) for _ in op.items] for op in ops]


def take(db: sqlite3.Connection, items: Sequence[Intake]) -> list[Receipt]:
    """Store prepared alerts and say what became of each."""
    sights = [(item.hook, item.fingerprint) for item in items if item.fingerprint]
    sights += [(item.hook, item.resolves) for item in items if item.resolved]
    sheet = Sheet(db, sights, [item.opening.key for item in items if item.opening])
    receipts = [_repeat(sheet, item) or _first(sheet, item) for item in items]
    sheet.flush()
    return receipts


# --------------------------------------------------------------------------- duplicates


def _repeat(sheet: Sheet, item: Intake) -> Receipt | None:
    if not item.fingerprint or item.window <= 0:
        return None
    known = sheet.sighting((item.hook, item.fingerprint))
    # abs: after a clock jump a sight in the far future must not swallow alerts for ever
    if known is None or abs(item.received - known.seen) > item.window:
        return None
    earlier, incident = known.alert, known.incident
    sheet.keep(_columns(item, incident, earlier))
    if incident is None:
        return Receipt(id=earlier, incident=None, duplicate=True, runs=())
    if not item.resolved:
        sheet.touch(incident, item.received)
    runs = sheet.open_runs(incident)
    return Receipt(id=earlier, incident=incident, duplicate=True, runs=runs)


def _columns(item: Intake, incident: int | None, earlier: str | None) -> tuple[Any, ...]:
    mark = item.fingerprint or None
    return (item.id, item.hook, item.received, incident, earlier, item.body, item.raw, mark)


# --------------------------------------------------------------------------- first sights


def _first(sheet: Sheet, item: Intake) -> Receipt:
    incident = _incident_of(sheet, item)
    if incident is None:
        sheet.keep(_columns(item, None, None))
        return Receipt(id=item.id, incident=None, duplicate=False, runs=())
    number, opens = incident
    kind = "resolved" if item.resolved else "alert"
    sheet.keep(_columns(item, number, None), opens, (kind, item.story, item.mark))
    if not item.drafts:
        return Receipt(id=item.id, incident=number, duplicate=False, runs=())
    sheet.flush()  # a run's lines come after its alert's
    made = [create_run(sheet.db, number, one) for one in item.drafts]
    sheet.ran()
    return Receipt(
        id=item.id,
        incident=number,
        duplicate=False,
        runs=tuple(run for run, _ in made),
        braked=any(braked for _, braked in made),
    )


def _incident_of(sheet: Sheet, item: Intake) -> tuple[int, tuple[Any, ...]] | None:
    """Its number, and its columns when this alert opens it; None: the alert has no incident."""
    opening = item.opening
    if item.resolved:
        found = sheet.sighting((item.hook, item.resolves))
        return (found.incident, NOT_OPENED) if found and found.incident is not None else None
    if opening is None:
        return None
    live = sheet.live(opening.key)
    if live is not None and abs(item.received - live.last_alert) <= opening.window:
        sheet.join(live.number, item.received, opening.severity)
        return live.number, NOT_OPENED
    number = sheet.open(opening.key, item.received)
    return number, (number, opening.key, opening.title, opening.severity, opening.target)


def find_or_open(db: sqlite3.Connection, opening: Opened, at: int, alerts: int) -> int:
    """The live incident of this key within its window, or a new one; its number."""
    found = db.execute(
        "SELECT number, last_alert FROM incidents WHERE key=?"
        " AND status NOT IN ('resolved', 'closed') ORDER BY number DESC LIMIT 1",
        (opening.key,),
    ).fetchone()
    if found is not None and abs(at - found[1]) <= opening.window:
        db.execute(
            "UPDATE incidents SET alerts=alerts+?, updated=?, last_alert=?,"
            " severity=max(severity, ?) WHERE number=?",
            (alerts, at, at, opening.severity, found[0]),
        )
        return int(found[0])
    made = db.execute(
        "INSERT INTO incidents (key, title, severity, status, opened, updated, last_alert, alerts,"
        " target, stages) VALUES (?,?,?,'open',?,?,?,?,?,'{}')",
        (opening.key, opening.title, opening.severity, at, at, at, alerts, opening.target),
    )
    return int(made.lastrowid or 0)


# --------------------------------------------------------------------------- runs


def create_run(
    db: sqlite3.Connection, incident: int, new: Draft, *, always: bool = False
) -> tuple[str, bool]:
    """Create a run with its first journal line; its id, and whether a brake made it ask.

    Unless `always`, an open run of the same playbook in this incident is returned instead.
    """
    if not always:
        found = db.execute(
            "SELECT id FROM runs WHERE incident=? AND playbook=? AND outcome='' LIMIT 1",
            (incident, new.playbook),
        ).fetchone()
        if found is not None:
            return str(found[0]), False
    braked = new.mode == Mode.ENFORCE and _braked(db, new)
    mode = Mode.APPROVE.value if braked else new.mode
    db.execute("INSERT OR IGNORE INTO playbooks VALUES (?,?,?)", (new.hash, new.playbook, new.text))
    seq = db.execute(
        "INSERT INTO runs (id, incident, playbook, playbook_hash, mode, status, due, created,"
        " person, priority, last) VALUES (?,?,?,?,?,'running',?,?,?,?,1)",
        (new.id, incident, new.playbook, new.hash, mode, new.at, new.at, new.person, new.priority),
    ).lastrowid
    decided = f'"incident":{incident},"mode":"{mode}","braked":{"true" if braked else "false"}}}'
    db.execute(
        "INSERT INTO journal VALUES (?,1,'run_created',?,?)",
        (seq, new.at, f"{new.head},{decided}"),
    )
    _tell_start(db, incident, new, mode, braked=braked)
    return new.id, braked


def _tell_start(
    db: sqlite3.Connection, incident: int, new: Draft, mode: str, *, braked: bool
) -> None:
    why = ": a brake turned enforce into approve" if braked else ""
    db.execute(
        "INSERT INTO timeline (incident, at, kind, text, door, person, data)"
        " VALUES (?,?,'run',?,?,?,?)",
        (
            incident,
            new.at,
            f"{new.playbook} started, mode {mode}{why}",
            new.door or "auto",
            new.person,
            new.mark,
        ),
    )


def _braked(db: sqlite3.Connection, new: Draft) -> bool:
    return any(_reached(db, brake, new.at, new.playbook) for brake in new.brakes) or (
        new.storm is not None and _reached(db, new.storm, new.at, None)
    )


def _reached(db: sqlite3.Connection, brake: Brake, at: int, playbook: str | None) -> bool:
    """Whether `limit` enforcing runs were made within the window already."""
    if brake.limit <= 0:
        return True
    where = "playbook=? AND" if playbook is not None else ""
    known = () if playbook is None else (playbook,)
    found = db.execute(
        f"SELECT 1 FROM runs WHERE {where} mode='enforce' AND created>?"  # noqa: S608 - two constants
        " LIMIT 1 OFFSET ?",
        (*known, at - brake.window, brake.limit - 1),
    ).fetchone()
    return found is not None
