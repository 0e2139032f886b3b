"""Audit chain, evidence, tokens, switches, strikes, remembered requests, stories."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder.errors import Conflict, NotFound
from responder.model import canonical
from responder.store import _audit
from responder.store._home import Home
from responder.store.interface import EvidenceRow, TimelineEntry, TokenRow
from responder.store.sqlite import SqliteStore
from tests.core.store.making import NOW, audited, item


def artefact(data: bytes = b"log line\n", **named: object) -> EvidenceRow:
    """Custody data that fits the bytes."""
    row = EvidenceRow(
        incident=1,
        run="run_1",
        step="collect",
        name="container.log",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        at=NOW,
        origin={"pod": "cart-7f9c"},
    )
    return replace(row, **named)  # type: ignore[arg-type]


# --------------------------------------------------------------------------- audit


async def test_the_audit_chain_follows_the_published_rule(store: SqliteStore) -> None:
    """Anyone can recompute it: SHA-256 over the former hash and the canonical entry."""
    await store.add_audit([audited("pause"), audited("resume", detail={"n": [1, "é", None]})])
    previous = ""
    for number, entry in enumerate(await store.audit(), 1):
        meaning = {
            name: getattr(entry, name)
            for name in (
                "id",
                "at",
                "person",
                "door",
                "verb",
                "object",
                "plan",
                "detail",
                "address",
            )
        }
        assert entry.id == number
        previous = hashlib.sha256((previous + canonical(meaning)).encode()).hexdigest()
        assert entry.hash == previous
    assert [entry.verb for entry in await store.audit(after=1)] == ["resume"]


COLUMNS = ["id", "at", "person", "door", "verb", "object", "plan", "detail", "address", "hash"]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_byte_of_any_audit_line_is_found(tmp_path: Path, data: st.DataObject) -> None:
    """Ten lines; one bit of one column of one of them flips, by whatever means."""
    line = data.draw(st.integers(1, 10))
    column = data.draw(st.sampled_from(COLUMNS))
    with closing(_chain(tmp_path)) as db:
        [old] = db.execute(f"SELECT {column} FROM audit WHERE id=?", (line,)).fetchone()
        if isinstance(old, int):
            new: object = old ^ (1 << data.draw(st.integers(0, 40)))
            if column == "id" and new in range(1, 11):
                new = 99
        else:
            where = data.draw(st.integers(0, len(old) - 1))
            flipped = ord(old[where]) ^ (1 << data.draw(st.integers(0, 6)))
            new = old[:where] + chr(flipped) + old[where + 1 :]
        db.execute(f"UPDATE audit SET {column}=? WHERE id=?", (new, line))
        assert _audit.fault(db) != ""


@pytest.mark.parametrize("gone", [(1,), (5,), (10,), (9, 10), tuple(range(1, 11))])
def test_a_missing_audit_line_is_found_also_at_the_end(
    tmp_path: Path, gone: tuple[int, ...]
) -> None:
    """First, middle, last, the tail, or all."""
    with closing(_chain(tmp_path)) as db:
        db.executemany("DELETE FROM audit WHERE id=?", [(line,) for line in gone])
        assert _audit.fault(db) != ""


def test_two_exchanged_audit_lines_are_found(tmp_path: Path) -> None:
    """Order is part of what is said."""
    with closing(_chain(tmp_path)) as db:
        db.execute("UPDATE audit SET id=77 WHERE id=3")
        db.execute("UPDATE audit SET id=3 WHERE id=4")
        db.execute("UPDATE audit SET id=4 WHERE id=77")
        assert _audit.fault(db) == "line 3 does not follow from the line before it"


def test_an_untouched_chain_has_no_fault(tmp_path: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    with closing(_chain(tmp_path)) as db:
        assert _audit.fault(db) == ""


def _chain(folder: Path) -> sqlite3.Connection:
    """A database with ten lines, in a transaction that is never committed."""
    home = Home(folder / "responder.db")
    home.prepare()
    db = home.writer()
    db.execute("BEGIN")
    for number in range(10):
        _audit.add(db, [audited(f"verb{number}", detail={"number": number})])
    return db


# --------------------------------------------------------------------------- evidence


async def test_evidence_comes_back_with_its_custody_data(store: SqliteStore) -> None:
    """Twice the same artefact of the same step is one."""
    await store.accept([item(1)])
    for _ in range(2):
        await store.put_evidence(artefact(), b"log line\n")
    [row] = await store.evidence(1)
    assert (row.name, row.size, row.origin) == ("container.log", 9, {"pod": "cart-7f9c"})
    assert await store.evidence_bytes(row.sha256) == b"log line\n"


async def test_bytes_that_do_not_have_the_hash_are_not_kept(store: SqliteStore) -> None:
    """Neither file nor row."""
    with pytest.raises(ValueError, match="does not have the hash"):
        await store.put_evidence(artefact(), b"other bytes")
    assert await store.evidence(1) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "0" * 64, "0" * 65])
async def test_only_a_hash_names_evidence(store: SqliteStore, name: str) -> None:
    """No path is ever made of what a caller says."""
    with pytest.raises(NotFound):
        await store.evidence_bytes(name)


async def test_altered_or_missing_evidence_is_found(tmp_path: Path) -> None:
    """By a reader and by the check."""
    store = SqliteStore(tmp_path / "responder.db", reserve=0)
    await store.open()
    row = artefact()
    await store.put_evidence(row, b"log line\n")
    path = tmp_path / "evidence" / row.sha256[:2] / row.sha256
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"log lime\n")
    with pytest.raises(Conflict, match="was altered"):
        await store.evidence_bytes(row.sha256)
    assert "was altered" in (await store.check())["evidence"]
    path.unlink()
    assert "does not exist" in (await store.check())["evidence"]
    await store.close()


# --------------------------------------------------------------------------- small things


async def test_tokens_are_found_by_hash_and_end_once(store: SqliteStore) -> None:
    """A second revocation does not move the time; an unknown one is said."""
    row = TokenRow(id="tok_1", person="ann", role="admin", hash="h1", created=NOW, expires=NOW + 9)
    await store.add_token(row, audited("token create"))
    assert await store.find_token("h1") == row
    assert await store.find_token("h2") is None
    for at in (NOW + 1, NOW + 2):
        await store.revoke_token("tok_1", at, audited("token revoke"))
    assert [token.revoked for token in await store.tokens()] == [NOW + 1]
    with pytest.raises(NotFound):
        await store.revoke_token("tok_2", NOW, audited("token revoke"))
    verbs = [entry.verb for entry in await store.audit()]
    assert verbs == ["token create", "token revoke", "token revoke"]


async def test_a_switch_is_written_and_removed_with_its_audit_line(store: SqliteStore) -> None:
    """The pause of a house must survive a restart and leave a trace."""
    assert await store.get_switch("pause") is None
    await store.set_switch("pause", {"reason": "drill"}, audited("pause"))
    assert await store.get_switch("pause") == {"reason": "drill"}
    await store.set_switch("pause", None, audited("resume"))
    assert await store.get_switch("pause") is None
    assert [entry.verb for entry in await store.audit()] == ["pause", "resume"]


async def test_strikes_are_counted_by_kind_and_key(store: SqliteStore) -> None:
    """The last reason is kept."""
    assert await store.strike("run", "r1", "first", NOW) == 1
    assert await store.strike("run", "r1", "second", NOW + 1) == 2
    assert await store.strike("hook", "r1", "other", NOW) == 1
    [struck] = await store.strikes("run")
    assert struck == {"kind": "run", "key": "r1", "count": 2, "reason": "second", "at": NOW + 1}
    assert len(await store.strikes()) == 2


async def test_a_request_is_claimed_once_and_its_answer_kept(store: SqliteStore) -> None:
    """While it runs others see no answer; afterwards they see the first one."""
    assert await store.remember("k", "hash-a", None, NOW) is None
    assert await store.remember("k", "hash-b", None, NOW) == {"request": "hash-a", "answer": None}
    assert await store.remember("k", "hash-a", {"run": "r1"}, NOW) is None
    known = {"request": "hash-a", "answer": {"run": "r1"}}
    assert await store.remember("k", "hash-a", None, NOW) == known
    assert await store.remember("k", "hash-a", {"run": "r2"}, NOW) == known


async def test_stages_keep_their_first_time(store: SqliteStore) -> None:
    """What was reached once stays reached then."""
    await store.accept([item(1)])
    await store.set_incident(1, NOW + 1, stage="contained", target={"pod": "p"})
    await store.set_incident(1, NOW + 2, stage="contained", status="contained")
    row = await store.incident(1)
    assert (row.stages, row.status, row.target) == (
        {"contained": NOW + 1},
        "contained",
        {"pod": "p"},
    )
    with pytest.raises(NotFound):
        await store.set_incident(2, NOW, status="closed")


async def test_incidents_are_listed_by_status_time_and_page(store: SqliteStore) -> None:
    """Newest first."""
    await store.accept([item(n, key=f"k{n}", at=NOW + n) for n in range(4)])
    await store.set_incident(2, NOW, status="closed")
    assert [row.number for row in await store.incidents(before=4, limit=2)] == [3, 2]
    assert [row.number for row in await store.incidents(status="open")] == [4, 3, 1]
    assert [row.number for row in await store.incidents(since=NOW + 2)] == [4, 3]
    with pytest.raises(NotFound):
        await store.incident(5)
    with pytest.raises(NotFound):
        await store.alert("alr_x")


async def test_a_story_is_read_on_from_an_entry(store: SqliteStore) -> None:
    """Ids rise over all incidents, so a reader never sees a line twice."""
    await store.accept([item(1), item(2, key="other")])
    note = TimelineEntry(incident=1, at=NOW, kind="note", text="a\0b", door="api", person="ann")
    await store.add_timeline([note])
    lines = await store.timeline(1)
    assert [line.kind for line in lines] == ["alert", "note"]
    assert await store.timeline(1, after=lines[0].id) == lines[1:]
    assert (lines[1].text, lines[1].person) == ("a\N{REPLACEMENT CHARACTER}b", "ann")
