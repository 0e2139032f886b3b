"""What becomes of an alert: duplicate, incident, runs, brakes."""

from __future__ import annotations

import asyncio

import pytest

from responder.errors import Conflict
from responder.model import AlertKind, Mode
from responder.store.sqlite import SqliteStore
from tests.core.store.making import MINUTE, NOW, brake, ended, item, start


async def test_a_first_alert_opens_incident_one_with_its_run(store: SqliteStore) -> None:
    """The receipt names both, and both are there to be read."""
    [receipt] = await store.accept([item(1, start())])
    assert (receipt.id, receipt.incident, receipt.duplicate) == ("alr_000001", 1, False)
    assert receipt.runs == ("run_000001_0",)
    row, events = await store.load_run("run_000001_0")
    assert (row.status, row.due, row.mode) == ("running", NOW, Mode.ENFORCE)
    assert row.text == "name: quarantine\n"
    assert [(event.seq, event.type) for event in events] == [(1, "run_created")]
    data = events[0].data
    assert (data["incident"], data["playbook"], data["braked"]) == (1, "quarantine", False)
    assert data["alert"]["rule"] == "Terminal shell in container"
    incident = await store.incident(1)
    assert (incident.alerts, incident.status, incident.target["pod"]) == (1, "open", "cart-7f9c")
    assert [line.kind for line in await store.timeline(1)] == ["alert", "run"]
    assert await store.latest_incident() == 1


async def test_the_stored_alert_comes_back_with_its_raw_payload(store: SqliteStore) -> None:
    """Nothing of what the sender said is lost."""
    given = item(1)
    await store.accept([given])
    kept = await store.alert("alr_000001")
    assert kept["alert"] == given.alert.to_json()
    assert (kept["raw"], kept["hook"], kept["duplicate_of"]) == (given.alert.raw, "falco", None)


async def test_a_repeat_within_the_window_is_a_duplicate_and_counted(store: SqliteStore) -> None:
    """It names the earlier alert, the incident and the open runs, and starts nothing."""
    await store.accept([item(1, start())])
    [receipt] = await store.accept([item(2, start(), fingerprint="f1", at=NOW + MINUTE)])
    assert (receipt.id, receipt.incident, receipt.duplicate) == ("alr_000001", 1, True)
    assert receipt.runs == ("run_000001_0",)
    incident = await store.incident(1)
    assert (incident.alerts, incident.last_alert) == (2, NOW + MINUTE)
    assert (await store.alert("alr_000002"))["duplicate_of"] == "alr_000001"
    assert [row.id for row in await store.runs()] == ["run_000001_0"]


@pytest.mark.parametrize(("gap", "duplicate"), [(MINUTE, True), (MINUTE + 1, False)])
async def test_the_window_is_measured_from_the_last_sight(
    store: SqliteStore, gap: int, duplicate: bool
) -> None:
    """Its last microsecond still belongs to it, and each sight moves it on."""
    for number, at in enumerate((NOW, NOW + MINUTE, NOW + MINUTE + gap), 1):
        [receipt] = await store.accept([item(number, fingerprint="f", at=at, dedup=MINUTE)])
    assert receipt.duplicate is duplicate


async def test_a_clock_that_went_back_a_day_swallows_no_alert(store: SqliteStore) -> None:
    """A sight in the far future is no reason to call an alert a duplicate."""
    await store.accept([item(1, fingerprint="f", at=NOW + 1440 * MINUTE)])
    [receipt] = await store.accept([item(2, fingerprint="f", at=NOW)])
    assert not receipt.duplicate


async def test_alerts_without_fingerprint_are_never_duplicates(store: SqliteStore) -> None:
    """No name is no evidence of sameness."""
    receipts = await store.accept([item(n, fingerprint="") for n in (1, 2)])
    assert [receipt.duplicate for receipt in receipts] == [False, False]


async def test_sixty_four_equal_alerts_at_once_open_one_incident_and_one_run(
    store: SqliteStore,
) -> None:
    """However the callers race, one is first and all others are told so."""
    given = [item(n, start(), fingerprint="same") for n in range(64)]
    receipts = [got for [got] in await asyncio.gather(*(store.accept([one]) for one in given))]
    assert sum(not receipt.duplicate for receipt in receipts) == 1
    assert {receipt.incident for receipt in receipts} == {1}
    assert len({receipt.runs for receipt in receipts}) == 1
    assert (await store.incident(1)).alerts == 64
    assert len(await store.runs()) == 1
    assert len(await store.alerts(incident=1)) == 64


async def test_another_statement_of_the_same_key_joins_and_reuses_the_open_run(
    store: SqliteStore,
) -> None:
    """One incident, one run of each playbook; a second playbook gets its own."""
    await store.accept([item(1, start())])
    [receipt] = await store.accept([item(2, start(), start("rebuild"), at=NOW + MINUTE)])
    assert (receipt.incident, receipt.duplicate) == (1, False)
    assert receipt.runs == ("run_000001_0", "run_000002_1")
    assert (await store.incident(1)).alerts == 2


async def test_an_ended_run_does_not_stop_a_new_one(store: SqliteStore) -> None:
    """What has ended is not open."""
    await store.accept([item(1, start())])
    await store.append("run_000001_0", 1, [], ended())
    [receipt] = await store.accept([item(2, start())])
    assert receipt.runs == ("run_000002_0",)


async def test_an_incident_that_is_closed_is_not_joined(store: SqliteStore) -> None:
    """A new alert after a person's end is a new incident."""
    await store.accept([item(1)])
    await store.set_incident(1, NOW, status="closed")
    [receipt] = await store.accept([item(2)])
    assert receipt.incident == 2


async def test_outside_the_window_or_under_another_key_a_new_incident_opens(
    store: SqliteStore,
) -> None:
    """Key and window decide, nothing else."""
    await store.accept([item(1, window=MINUTE)])
    [late] = await store.accept([item(2, window=MINUTE, at=NOW + MINUTE + 1)])
    [other] = await store.accept([item(3, key="shop/pay", at=NOW + MINUTE + 1)])
    assert (late.incident, other.incident) == (2, 3)
    assert [row.number for row in await store.incidents()] == [3, 2, 1]


async def test_an_alert_without_opening_is_stored_and_starts_nothing(store: SqliteStore) -> None:
    """Test and health alerts are shown, and that is all."""
    [receipt] = await store.accept([item(1, start(), key=None, kind=AlertKind.TEST)])
    [again] = await store.accept(
        [item(2, start(), key=None, kind=AlertKind.TEST, fingerprint="f1")]
    )
    assert (receipt.incident, receipt.runs) == (None, ())
    assert (again.incident, again.duplicate) == (None, True)
    assert await store.latest_incident() is None
    assert [kept["id"] for kept in await store.alerts(hook="falco")] == ["alr_000002", "alr_000001"]


async def test_the_end_of_an_alert_is_noted_in_its_incident(store: SqliteStore) -> None:
    """It starts nothing, opens nothing, and does not count as another alert."""
    await store.accept([item(1, start())])
    over = item(2, start(), kind=AlertKind.RESOLVED, fingerprint="f1", resolves="f1")
    [receipt] = await store.accept([over])
    assert (receipt.incident, receipt.duplicate, receipt.runs) == (1, False, ())
    assert [line.kind for line in await store.timeline(1)] == ["alert", "run", "resolved"]
    assert (await store.incident(1)).alerts == 1
    [repeat] = await store.accept([item(3, fingerprint="f1")])
    assert (repeat.id, repeat.duplicate) == ("alr_000001", True)


async def test_the_end_of_an_unknown_alert_is_kept_without_incident(store: SqliteStore) -> None:
    """Nobody knows what it ends; nobody loses it."""
    [receipt] = await store.accept([item(1, kind=AlertKind.RESOLVED, resolves="never seen")])
    assert receipt.incident is None
    assert (await store.alert("alr_000001"))["alert"]["kind"] == "resolved"


async def test_the_playbook_brake_turns_the_next_run_into_an_asking_one(
    store: SqliteStore,
) -> None:
    """Two may act within the window; the third asks; after the window it acts again."""
    careful = start(brakes=(brake(2),))
    given = [item(n, careful, key=f"k{n}", at=NOW + n) for n in range(3)]
    receipts = await store.accept([*given, item(9, careful, key="k9", at=NOW + MINUTE + 9)])
    assert [receipt.braked for receipt in receipts] == [False, False, True, False]
    row, events = await store.load_run("run_000002_0")
    assert (row.mode, events[0].data["braked"]) == (Mode.APPROVE, True)


async def test_the_storm_brake_counts_over_all_playbooks(store: SqliteStore) -> None:
    """The playbook's own brake would not have held these."""
    receipts = await store.accept(
        [item(n, start(f"p{n}", storm=brake(2)), key=f"k{n}") for n in range(4)]
    )
    assert [receipt.braked for receipt in receipts] == [False, False, True, True]


async def test_runs_that_only_ask_or_watch_are_not_braked_and_do_not_count(
    store: SqliteStore,
) -> None:
    """A brake is about runs that act by themselves."""
    asking = start("ask", mode=Mode.APPROVE, storm=brake(1))
    receipts = await store.accept(
        [item(n, asking, key=f"k{n}") for n in range(3)]
        + [item(9, start(storm=brake(1)), key="k9")]
    )
    assert not any(receipt.braked for receipt in receipts)


async def test_one_bad_alert_refuses_the_whole_call(store: SqliteStore) -> None:
    """`accept` is one transaction: all of it or nothing."""
    await store.accept([item(1)])
    with pytest.raises(Conflict):
        await store.accept([item(2, key="other"), item(1, fingerprint="new")])
    assert len(await store.alerts()) == 1
    assert await store.latest_incident() == 1


@pytest.mark.parametrize(
    "poison", ["\ud800", "a\0b", "\u202e", "\U0001d54f", "'; DROP TABLE alerts; --"]
)
async def test_no_character_breaks_a_write(store: SqliteStore, poison: str) -> None:
    """Lone surrogates and NUL are legal JSON and must not lose an alert."""
    given = item(
        1,
        start(inputs={"note": poison}, person=poison, reason=poison),
        key=poison,
        summary=poison,
        fingerprint=poison,
        raw=poison,
        fields={poison: poison},
    )
    [receipt] = await store.accept([given])
    assert (await store.alert(receipt.id))["alert"]["fields"] == {poison: poison}
    assert (await store.load_run(receipt.runs[0]))[1][0].data["inputs"] == {"note": poison}
    [again] = await store.accept([item(2, fingerprint=poison)])
    assert again.duplicate
