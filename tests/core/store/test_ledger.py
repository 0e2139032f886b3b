"""What the ledger reads out of real journals: who blocked, gated, started and merged what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from responder.store.interface import Event
from responder.store.sqlite import SqliteStore
from responder.wiring.ledger import Ledger, read
from tests.core.store.making import NOW, item, start

OLD, NEW, OTHER = (f"sha256:{digit * 64}" for digit in "079")
SYSTEM = "github:acme/shop"
COMMIT = "c1" * 20


def planned(step: str, action: str, system: str = "", **params: Any) -> Event:
    """A recorded plan."""
    changes = [{"ref": {"system": system}}] if system else []
    plan = {"action": action, "params": params, "changes": changes}
    return Event("step_planned", NOW, {"step": step, "plan": plan})


def done(step: str, **result: Any) -> list[Event]:
    """A step that succeeded."""
    return [
        Event("step_applied", NOW, {"step": step, "result": result}),
        Event("step_done", NOW, {"step": step, "verdict": {}}),
    ]


def failed(step: str, *, temporary: bool = False) -> list[Event]:
    """A step that did not."""
    return [Event("step_failed", NOW, {"step": step, "error": "no", "temporary": temporary})]


REBUILD = [planned("rebuild", "pipeline.run", SYSTEM, image="registry.example/shop/cart")]
BUILT = [*REBUILD, *done("rebuild", run=4711, digest=NEW)]
GATE = planned("gate", "image.gate", image=f"registry.example/shop/cart@{NEW}")
MERGE = planned("merge", "change.merge", SYSTEM)


async def kept(store: SqliteStore, number: int, events: Sequence[Event], digest: str = OLD) -> int:
    """An open incident about an image, with one run that has this journal."""
    [receipt] = await store.accept([item(number, start(), key=f"incident {number}")])
    assert receipt.incident is not None
    await store.set_incident(receipt.incident, NOW, target={"digest": digest})
    _, sofar = await store.load_run(receipt.runs[0])
    await store.append(receipt.runs[0], sofar[-1].seq, events)
    return receipt.incident


async def test_a_run_is_tied_while_it_goes_on_and_after_it_has_ended(store: SqliteStore) -> None:
    """By what the step waits for, and by its result; another run or repository is nobody's."""
    waiting = Event("step_pending", NOW, {"step": "rebuild", "state": {"run_id": 4710}})
    first = await kept(store, 1, [*REBUILD, waiting])
    second = await kept(store, 2, BUILT)
    ledger = Ledger(store)
    assert (await ledger("GitHub:Acme/Shop", 4710, "")).tied == (first,)
    assert (await ledger(SYSTEM, 4711, "")).tied == (second,)
    for system, run in (("github:acme/other", 4711), ("other:acme/shop", 4711), (SYSTEM, 4712)):
        assert (await ledger(system, run, COMMIT)).tied == ()


@pytest.mark.parametrize("name", ["sha", "commit"])
async def test_a_commit_is_tied_once_it_was_merged(store: SqliteStore, name: str) -> None:
    """Proposed is not merged; an empty commit is nobody's."""
    proposed = [planned("propose", "change.propose", SYSTEM), *done("propose", sha=OTHER)]
    number = await kept(store, 1, [*proposed, MERGE, *done("merge", **{name: COMMIT})])
    ledger = Ledger(store)
    assert (await ledger(SYSTEM, 0, COMMIT)).tied == (number,)
    assert (await ledger(SYSTEM, 0, OTHER)).tied == ()
    assert (await ledger(SYSTEM, 0, "")).tied == ()


async def test_a_gate_is_open_passed_or_refused(store: SqliteStore) -> None:
    """A temporary failure is no refusal; a later pass of the same image counts."""
    ledger = Ledger(store)
    number = await kept(store, 1, [*BUILT, GATE, *failed("gate", temporary=True)])
    known = await ledger(SYSTEM, 4711, "")
    assert (known.ungated, known.passed, known.refused) == ((number,), {}, {})
    number = await kept(store, 2, [*BUILT, GATE, *failed("gate")])
    known = await ledger(SYSTEM, 4711, "")
    assert known.refused == {NEW: number}
    assert number not in known.ungated
    number = await kept(store, 3, [*BUILT, GATE, *done("gate", digest=NEW)])
    known = await ledger(SYSTEM, 4711, "")
    assert (known.passed, known.refused) == ({NEW: number}, {})


async def test_a_digest_is_blocked_while_it_is_replaced_or_blocked(store: SqliteStore) -> None:
    """An incident that only looks at an image blocks nothing; a block that was undone neither."""
    block = [planned("block", "kubernetes.block_image"), *done("block", digests=[OTHER])]
    ledger = Ledger(store)
    await kept(store, 1, [planned("look", "kubernetes.snapshot"), *done("look")], digest=NEW)
    assert (await ledger(SYSTEM, 0, "")).blocked == {}
    one = await kept(store, 2, BUILT, digest=OLD)
    two = await kept(store, 3, block, digest="")
    assert (await ledger(SYSTEM, 0, "")).blocked == {OLD: one, OTHER: two}
    await kept(store, 4, [*block, Event("undo_done", NOW, {"step": "block"})], digest="")
    assert (await ledger(SYSTEM, 0, "")).blocked == {OLD: one, OTHER: two}
    await store.set_incident(two, NOW, status="closed")
    assert (await ledger(SYSTEM, 0, "")).blocked == {OLD: one}


async def test_questions_of_forges_do_not_crowd_out_what_is_known(store: SqliteStore) -> None:
    """Two hundred newer incidents that only ask: the older one that replaces an image is seen."""
    number = await kept(store, 1, BUILT)
    await store.set_incident(number, NOW, status="resolved")
    for at in range(2, 202):
        [receipt] = await store.accept([item(at, start(), key=f"incident {at}")])
        assert receipt.incident is not None
        about = {"host": f"github:acme/shop production run {at}"}
        await store.set_incident(receipt.incident, NOW, status="resolved", target=about)
    assert (await Ledger(store)(SYSTEM, 4711, "")).blocked == {OLD: number}


def test_a_journal_without_steps_or_with_strange_ones_is_read() -> None:
    """Events of the run itself say nothing here."""
    strange = [Event("run_created", NOW, {"target": {}}), Event("step_done", NOW, {"step": 7})]
    assert read(strange) == {}
    assert read([Event("step_planned", NOW, {"step": "x", "plan": None})])["x"].action == ""
