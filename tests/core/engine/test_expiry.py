"""What happens when a containment runs out: it stays and a person is called, or it reverts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from responder.clock import SECOND
from responder.engine.machine import LATE, decide
from responder.engine.state import RunState
from responder.model import Plan
from responder.ports import Call
from tests.core.engine.bench import ANNA, Bench, bench
from tests.core.engine.runs import NOW, Said, applied, run_of
from tests.core.engine.test_driver import MARK, playbook
from tests.fakes import Mark

EXPIRES = NOW + 60 * SECOND
STEPS = MARK.replace('value: "yes"}', 'value: "yes", expires: 4h}')
AFTER = 4 * 3600 + 1


def locked(on_expiry: str, *more: Said) -> RunState:
    """A run whose step has an expiry and is done."""
    data = {
        "step": "mark",
        "verdict": {"level": "applied", "residual": [], "checks": {}},
        "expires": EXPIRES,
        "on_expiry": on_expiry,
    }
    end: Said = ("run_finished", {"outcome": "succeeded"})
    return run_of(MARK, *applied("mark"), ("step_done", data), end, *more)


def said(run: RunState, now: int) -> list[str]:
    """What the machine asks for."""
    return [c.event.type if c.event else c.kind.value for c in decide(run, now).commands]


ASKED: Said = ("undo_asked", {"step": "mark", "person": "expiry", "expired": True})
BY_ANNA: Said = ("undo_asked", {"step": "mark", "person": "anna"})


@pytest.mark.parametrize(
    ("on_expiry", "more", "now", "wanted"),
    [
        ("revert", [], EXPIRES - 1, []),
        ("revert", [], EXPIRES, ["undo_asked"]),
        ("revert", [], EXPIRES + LATE, ["undo_asked"]),
        ("revert", [], EXPIRES + LATE + 1, ["containment_expired"]),
        ("revert", [ASKED], EXPIRES, ["undo"]),
        ("revert", [BY_ANNA, ("undo_done", {"step": "mark"})], EXPIRES, []),
        ("revert", [BY_ANNA], EXPIRES, ["undo", "undo_asked"]),
        ("revert", [BY_ANNA, ASKED], EXPIRES, ["undo"]),
        ("revert", [ASKED, ("undo_failed", {"step": "mark", "error": "no"})], EXPIRES, []),
        ("revert", [("extended", {"step": "mark", "until": EXPIRES + 9})], EXPIRES, []),
        ("stay", [], EXPIRES, ["containment_expired"]),
        ("stay", [], EXPIRES + LATE + 1, ["containment_expired"]),
        ("stay", [("containment_expired", {"step": "mark"})], EXPIRES + 1, []),
    ],
)
def test_the_machine_reverts_in_time_and_calls_a_person_otherwise(
    on_expiry: str, more: list[Said], now: int, wanted: list[str]
) -> None:
    """Asked once; a late expiry, a stay and a failed undo open nothing by themselves."""
    assert said(locked(on_expiry, *more), now) == wanted


async def _story(b: Bench, words: str) -> None:
    for _ in range(400):
        if any(words in line for line in await b.story()):
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{words!r} never got into {await b.story()}")


async def test_a_lock_that_reverts_is_taken_back_when_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The action's own undo runs, once, and the story says why."""
    monkeypatch.setattr(Mark, "info", replace(Mark.info, on_expiry="revert"))
    async with bench(tmp_path, [playbook(STEPS)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")
        assert b.things.state == {"a": "yes"}
        b.clock.jump(AFTER)
        b.app.driver.wake()
        await _story(b, "undone:")
        assert b.things.state == {}
        assert any("mark has expired and is taken back" in line for line in await b.story())


async def test_a_pause_holds_what_only_the_clock_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused: nothing reverts by itself; resumed: it does."""
    monkeypatch.setattr(Mark, "info", replace(Mark.info, on_expiry="revert"))
    async with bench(tmp_path, [playbook(STEPS)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")
        await b.app.service.pause(ANNA, "CNI upgrade")
        b.clock.jump(AFTER)
        b.app.driver.wake()
        await _story(b, "mark has expired and is taken back")
        for _ in range(20):
            b.app.driver.wake()
            await asyncio.sleep(0.005)
        assert b.things.state == {"a": "yes"}
        await b.app.service.resume(ANNA, "done")
        b.clock.jump(60)
        b.app.driver.wake()
        await _story(b, "undone:")
        assert b.things.state == {}


async def test_an_expiry_that_nobody_was_there_for_stays_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After days without the product nothing opens by itself."""
    monkeypatch.setattr(Mark, "info", replace(Mark.info, on_expiry="revert"))
    async with bench(tmp_path, [playbook(STEPS)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "succeeded")
        b.clock.jump(3 * 24 * 3600)
        b.app.driver.wake()
        await _story(b, "has expired while nobody was there; it stays until a person decides")
        assert b.things.state == {"a": "yes"}


async def test_an_action_that_always_asks_waits_even_in_enforce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No playbook may act alone there."""
    monkeypatch.setattr(Mark, "info", replace(Mark.info, always_asks=True))
    async with bench(tmp_path, [playbook(MARK)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        assert b.things.state == {}
        assert any("fake.mark always asks" in line for line in await b.story())
        await b.approve(run, "mark")
        await b.until(run, "succeeded")
        assert b.things.state == {"a": "yes"}


async def test_a_plan_that_asks_waits_even_in_enforce_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action asks for some plans and not for others: by what the plan would change."""
    plan_as_ever = Mark.plan

    async def asking(self: Mark, call: Call) -> Plan:
        return replace(await plan_as_ever(self, call), asks="it changes what others own")

    monkeypatch.setattr(Mark, "plan", asking)
    async with bench(tmp_path, [playbook(MARK)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        assert b.things.state == {}
        assert any("it changes what others own" in line for line in await b.story())
        await b.approve(run, "mark")
        await b.until(run, "succeeded")
        assert b.things.state == {"a": "yes"}
