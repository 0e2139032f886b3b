"""Runs: append, wake, read; no event lost, no wake-up lost."""

from __future__ import annotations

import asyncio

import pytest

from responder.errors import NotFound
from responder.model import Mode
from responder.store.interface import (
    Event,
    IncidentPatch,
    Opening,
    TimelineEntry,
)
from responder.store.sqlite import SqliteStore
from tests.core.store.making import MINUTE, NOW, audited, ended, item, start, waiting

RUN = "run_000001_0"


@pytest.fixture
async def run(store: SqliteStore) -> str:
    """One open run with one journal line."""
    await store.accept([item(1, start())])
    return RUN


async def test_append_numbers_events_without_gaps(store: SqliteStore, run: str) -> None:
    """What is returned is what a reader finds."""
    added = await store.append(run, 1, [Event("a", NOW + 1, {"n": 1}), Event("b", NOW + 2)])
    _, events = await store.load_run(run)
    assert [event.seq for event in events] == [1, 2, 3]
    assert events[1:] == added


async def test_append_returns_what_others_wrote_meanwhile(store: SqliteStore, run: str) -> None:
    """A writer that knew less learns it with its own answer, in order."""
    await store.append(run, 1, [Event("approval_given", NOW + 1)])
    added = await store.append(run, 1, [Event("step_done", NOW + 2)], waiting(None))
    assert [(event.seq, event.type) for event in added] == [
        (2, "approval_given"),
        (3, "step_done"),
    ]


async def test_a_writer_that_did_not_know_all_leaves_the_run_due(
    store: SqliteStore, run: str
) -> None:
    """Otherwise a crash right after would let what was heard sleep for ever."""
    await store.append(run, 1, [Event("approval_given", NOW + 1)])
    await store.append(run, 1, [Event("step_done", NOW + 2)], waiting(None))
    assert await store.due_runs(NOW + 2, 10) == [run]
    assert await store.set_run(run, 3, waiting(None))
    assert await store.due_runs(NOW + MINUTE, 10) == []


async def test_set_run_writes_nothing_when_the_journal_has_grown(
    store: SqliteStore, run: str
) -> None:
    """The row may only follow a journal that its writer has seen."""
    await store.append(run, 1, [Event("hint", NOW + 1)])
    assert not await store.set_run(run, 1, waiting(None))
    assert await store.due_runs(NOW + 1, 10) == [run]


async def test_append_without_update_makes_the_run_due(store: SqliteStore, run: str) -> None:
    """Also one that has ended: somebody asked for something."""
    await store.append(run, 1, [Event("run_finished", NOW + 1)], ended())
    assert await store.due_runs(NOW + MINUTE, 10) == []
    await store.append(run, 2, [Event("undo_asked", NOW + 2)])
    assert await store.due_runs(NOW + 2, 10) == [run]


async def test_a_busy_writer_leaves_the_run_due_for_a_restart(store: SqliteStore, run: str) -> None:
    """It excludes the run itself while it works; a new process would not."""
    await store.append(run, 1, [Event("apply_started", NOW + 1)], busy=True)
    assert await store.due_runs(NOW + 1, 10) == [run]
    assert await store.due_runs(NOW + 1, 10, exclude=[run]) == []


async def test_sixty_four_writers_at_once_lose_no_event(store: SqliteStore, run: str) -> None:
    """Each gets a place of its own."""
    await asyncio.gather(*(store.append(run, 1, [Event(f"e{n}", NOW + n)]) for n in range(64)))
    _, events = await store.load_run(run)
    assert [event.seq for event in events] == list(range(1, 66))
    assert {event.type for event in events[1:]} == {f"e{n}" for n in range(64)}


async def test_append_writes_row_story_audit_and_incident_together(
    store: SqliteStore, run: str
) -> None:
    """One transaction carries all that one event means."""
    line = TimelineEntry(incident=1, at=NOW, kind="step", text="isolated", data={"step": "s"})
    patch = IncidentPatch(status="contained", target={"pod": "p"}, stages={"contained": NOW + 5})
    await store.append(
        run, 1, [Event("step_done", NOW + 5)], waiting(NOW + 9), [line], [audited()], patch
    )
    row, _ = await store.load_run(run)
    assert (row.status, row.due) == ("waiting-external", NOW + 9)
    assert (await store.timeline(1))[-1].text == "isolated"
    assert [entry.verb for entry in await store.audit()] == ["pause"]
    incident = await store.incident(1)
    assert (incident.status, incident.target) == ("contained", {"pod": "p"})
    assert incident.stages == {"contained": NOW + 5}


async def test_an_append_that_fails_leaves_nothing(store: SqliteStore, run: str) -> None:
    """A fault in the last part takes the first part back."""
    bad = audited(at="no number")
    with pytest.raises(Exception, match="audit"):
        await store.append(run, 1, [Event("step_done", NOW)], waiting(None), [], [bad])
    assert len((await store.load_run(run))[1]) == 1
    assert await store.due_runs(NOW, 10) == [run]


async def test_an_ended_run_has_its_end_and_its_reason(store: SqliteStore, run: str) -> None:
    """`finished` is the time of the last event and does not move."""
    await store.append(run, 1, [Event("run_finished", NOW + 7)], ended())
    await store.append(run, 2, [Event("hint", NOW + 8)])
    assert await store.set_run(run, 3, ended())
    row, _ = await store.load_run(run)
    assert (row.outcome, row.finished, row.due) == ("succeeded", NOW + 7, None)
    assert row.reason == "all steps succeeded"


async def test_what_is_heard_reaches_every_open_run_that_waits_for_it(
    store: SqliteStore, run: str
) -> None:
    """A hint is written and the run is due; ended and other runs hear nothing."""
    await store.accept([item(2, start(), key="b"), item(3, start(), key="c")])
    await store.set_run(run, 1, waiting(None, "gh:1", "gh:2"))
    await store.set_run("run_000002_0", 1, waiting(None, "gh:1"))
    await store.append("run_000003_0", 1, [], ended())
    assert await store.heard("gh:1", NOW + 3) == [run, "run_000002_0"]
    assert await store.due_runs(NOW + 3, 10) == [run, "run_000002_0"]
    _, events = await store.load_run(run)
    assert (events[-1].type, events[-1].data) == ("hint", {"correlation": "gh:1"})
    assert await store.heard("gh:9", NOW) == []


async def test_correlations_are_replaced(store: SqliteStore, run: str) -> None:
    """A run hears only what it waits for now."""
    await store.set_run(run, 1, waiting(None, "old"))
    await store.set_run(run, 1, waiting(None, "new"))
    assert await store.heard("old", NOW) == []
    assert await store.heard("new", NOW) == [run]


async def test_due_runs_come_by_priority_then_age(store: SqliteStore) -> None:
    """A critical run is taken up before an older low one."""
    for number, (priority, at) in enumerate([(2, 1), (5, 9), (5, 3), (2, 0)]):
        await store.accept([item(number, start(priority=priority), key=f"k{number}", at=NOW + at)])
    want = ["run_000002_0", "run_000001_0", "run_000003_0", "run_000000_0"]
    assert await store.due_runs(NOW + MINUTE, 10) == want
    assert await store.due_runs(NOW + MINUTE, 2, exclude=want[:1]) == want[1:3]
    assert await store.due_runs(NOW + 3, 10) == ["run_000002_0", "run_000003_0", "run_000000_0"]


async def test_the_next_due_time_lies_after_now(store: SqliteStore, run: str) -> None:
    """Over all priorities; None when nothing waits for a time."""
    await store.accept([item(2, start(priority=5), key="b", at=NOW + MINUTE)])
    assert await store.next_due(NOW - 1) == NOW
    assert await store.next_due(NOW) == NOW + MINUTE
    assert await store.next_due(NOW + MINUTE) is None


async def test_a_run_can_be_deferred(store: SqliteStore, run: str) -> None:
    """Whatever its row says."""
    await store.defer_run(run, NOW + MINUTE)
    assert await store.due_runs(NOW, 10) == []
    assert await store.next_due(NOW) == NOW + MINUTE


async def test_recent_events_of_a_type_come_from_all_runs(store: SqliteStore, run: str) -> None:
    """Oldest first, since a moment."""
    await store.accept([item(2, start(), key="b")])
    await store.append("run_000002_0", 1, [Event("apply_started", NOW + 2, {"pods": 1})])
    await store.append(run, 1, [Event("apply_started", NOW + 1), Event("other", NOW + 3)])
    assert [e.at for e in await store.recent_events("apply_started", NOW)] == [NOW + 1, NOW + 2]
    [late] = await store.recent_events("apply_started", NOW + 2)
    assert late.data == {"pods": 1}


async def test_a_run_by_hand_opens_or_uses_an_incident(store: SqliteStore, run: str) -> None:
    """Both ways; it never stands back for an open run, and a missing incident is said."""
    created = Event("run_created", NOW, {"inputs": {}})
    by_hand = start(mode=Mode.APPROVE, person="ann", door="cli", reason="drill")
    opening = Opening(key="manual", window=0, title="Drill", severity=1)
    made = await store.start_run("run_a", by_hand, NOW, created, incident=None, opening=opening)
    assert made == ("run_a", 2)
    made = await store.start_run("run_b", by_hand, NOW, created, incident=1, opening=None)
    assert made == ("run_b", 1)
    row, _ = await store.load_run("run_b")
    assert (row.person, row.mode) == ("ann", Mode.APPROVE)
    assert (await store.incident(2)).alerts == 0
    with pytest.raises(NotFound):
        await store.start_run("run_c", by_hand, NOW, created, incident=77, opening=None)


async def test_runs_are_listed_newest_first_in_pages(store: SqliteStore) -> None:
    """By incident, by status, and from where the page before ended."""
    await store.accept([item(n, start(), key=f"k{n % 2}", fingerprint="") for n in range(2)])
    await store.accept([item(n, start(f"p{n}"), key=f"k{n % 2}") for n in range(2, 6)])
    ids = [row.id for row in await store.runs()]
    assert ids == sorted(ids, reverse=True)
    assert [row.id for row in await store.runs(limit=2, before=ids[1])] == ids[2:4]
    assert [row.incident for row in await store.runs(incident=1)] == [1, 1, 1]
    await store.append(ids[0], 1, [], ended())
    assert [row.id for row in await store.runs(status="succeeded")] == ids[:1]
    assert [row.id for row in await store.runs(status="open")] == ids[1:]


async def test_unknown_names_are_said(store: SqliteStore) -> None:
    """No silent nothing."""
    for asked in (
        store.load_run("run_x"),
        store.append("run_x", 0, [Event("a", NOW)]),
        store.set_run("run_x", 0, ended()),
        store.defer_run("run_x", NOW),
    ):
        with pytest.raises(NotFound, match="run_x"):
            await asked


async def test_counts_show_what_waits_and_how_long(store: SqliteStore, run: str) -> None:
    """Ages are in seconds."""
    await store.set_incident(1, NOW, status="contained")
    figures = await store.counts(NOW + 5_000_000)
    assert figures["runs.running"] == 1
    assert figures["quarantines"] == 1
    assert figures["oldest_due_seconds"] == 5.0
    assert figures["store_bytes"] > 0
