"""A start acts exactly once on either forge, whatever is lost on the way; the doubles count.

Every fault that a forge's API can show, at each call that one step makes, and every situation that
a pipeline can get into. What must hold each time: no intent has two pipelines, and the end is a
digest, or a failure class whose words tell a person.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from responder.errors import StepFailed
from responder.ports import Done, Pending
from tests.adapters.forges.walking import FORGES, Walk, bench, deliveries, kind_of
from tests.adapters.github.world import a_call
from tests.doubles.executors import Immediate
from tests.doubles.faults import LIMITS, Fault
from tests.doubles.lab_executors import Straight

PLACES = {
    "github": ["workflow", "dispatch", "list", "run", "artifacts", "zip"],
    "event": ["workflow", "event", "list", "run", "artifacts", "zip"],
    "gitlab": ["commit", "create", "list", "pipeline", "bridges", "jobs", "file"],
}
STARTS = {"github": "dispatch", "event": "event", "gitlab": "create"}
LOOKS = {"github": "run", "event": "run", "gitlab": "pipeline"}
CASES = [
    (forge, place, fault) for forge, places in PLACES.items() for place in places for fault in Fault
]
TOLD: Counter[str] = Counter()
ROWS: Counter[str] = Counter()


def name_of(value: Any) -> str:
    """Return the name of a part of a row."""
    return value.name if isinstance(value, Fault) else getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("forge", "place", "fault"), CASES, ids=name_of)
async def test_no_fault_makes_two_pipelines_or_ends_without_a_reason(
    forge: str, place: str, fault: Fault
) -> None:
    """One fault at one call: exactly one pipeline and its digest, or words for a person."""
    async with bench(forge) as b:
        b.double.faults.arm(place, fault)
        if place == "list" and forge != "event":  # it is asked only where an answer was lost
            b.double.faults.arm(STARTS[forge], Fault.ERROR_AFTER)
        end = await Walk(b).end()
        acted = b.double.dispatches
        assert not any(b.double.faults.armed.values()), f"{place} was never asked"
        assert all(times == 1 for times in acted.values()), acted
        assert acted.total() == 1, acted
        ROWS[f"{place}: {fault.value}"] += 1
        judge(forge, b, end)
        # What a forge says about its limits is waited out; only silence after a lost start asks.
        assert isinstance(end, Done) or (place == "list" and fault not in LIMITS), repr(end)


def judge(forge: str, b: Any, end: Done | Exception) -> None:
    """A digest of the one pipeline, or a reason in words; counted for the reader."""
    if isinstance(end, Done):
        assert b.double.dispatches.total() >= 1
        assert end.result["digest"].startswith("sha256:")
        TOLD[f"{forge}: right end"] += 1
    else:
        assert len(str(end)) > 20, repr(end)
        TOLD[f"{forge}: a person asked"] += 1


# --------------------------------------------------------------------------- situations


@dataclass
class Once:
    """One executor for the first pipeline, another for the rest."""

    first: Any
    rest: Any

    async def execute(self, run: Any) -> None:
        """Use the first one once."""
        mine, self.first = self.first or self.rest, None
        await mine.execute(run)


@dataclass
class Expiring:
    """Lets the token run out when a pipeline begins."""

    double: Any

    async def execute(self, run: Any) -> None:
        """Change what the forge takes for valid."""
        self.double.token = "renewed"


def states(b: Any, github: tuple[str, ...], gitlab: tuple[str, ...]) -> None:
    """Let every pipeline show these states, one a look, before it succeeds."""
    straight = Straight(states=gitlab)
    b.double.executor = straight if kind_of(b) == "gitlab" else Immediate(states=github)


def lagging(b: Any, walk: Walk) -> None:
    """The answer is lost and the list is stale."""
    b.double.faults.hide_runs_for = 1
    for start in STARTS.values():
        b.double.faults.arm(start, Fault.ERROR_AFTER)


def superseded(b: Any, walk: Walk) -> None:
    """The first pipeline is canceled for a newer one."""
    made = {"github": Immediate(conclusion="cancelled"), "gitlab": Straight(status="canceled")}
    b.double.executor = Once(made[kind_of(b)], b.double.executor)


def superseded_always(b: Any, walk: Walk) -> None:
    """Each pipeline is canceled: somebody does not want it."""
    made = {"github": Immediate(conclusion="cancelled"), "gitlab": Straight(status="canceled")}
    b.double.executor = made[kind_of(b)]


def waiting(b: Any, walk: Walk) -> None:
    """A person must approve first, and takes a while."""
    states(b, ("waiting",) * 3, ("manual",) * 3)


def queued_behind(b: Any, walk: Walk) -> None:
    """A concurrency or resource group is busy."""
    states(b, ("pending",) * 3, ("waiting_for_resource",) * 3)


def late_once(b: Any, walk: Walk) -> None:
    """The artifact's address has run out once."""
    b.double.object_store = True
    b.double.faults.archive_late = 1


def late_always(b: Any, walk: Walk) -> None:
    """The artifact is gone where it is kept."""
    b.double.object_store = True
    b.double.faults.archive_late = 99


def gone(b: Any, walk: Walk) -> None:
    """The artifact is gone at the API: 410, or 404."""
    b.double.faults.archive_gone = True


def expiring(b: Any, walk: Walk) -> None:
    """The token does not hold any more once the pipeline runs."""
    b.double.executor = Expiring(b.double)


def limited_while_polling(b: Any, walk: Walk) -> None:
    """Five looks in a row are refused without a word about how long."""
    states(b, ("in_progress",) * 2, ("running",) * 2)
    for look in set(LOOKS.values()):
        b.double.faults.arm(look, Fault.TOO_MANY_BARE, times=5)


def limited_in_every_form(b: Any, walk: Walk) -> None:
    """Each form of a limit, one after the other, at the start and at the looks."""
    for place in {*STARTS.values(), *LOOKS.values()}:
        for fault in sorted(LIMITS, key=lambda one: one.name):
            b.double.faults.arm(place, fault)


def limited_after_a_lost_start(b: Any, walk: Walk) -> None:
    """The start acted, its answer is lost, and looking it up is refused for a minute."""
    for start in STARTS.values():
        b.double.faults.arm(start, Fault.ERROR_AFTER)
    b.double.faults.arm("list", Fault.FORBIDDEN_LIMIT_BODY)


def hooks_twice(b: Any, walk: Walk) -> None:
    """Every webhook comes twice."""
    states(b, ("queued", "in_progress"), ("pending", "running"))
    words = ("requested", "requested", "in_progress", "in_progress", "completed", "completed")
    walk.post = deliveries(b, *words)


def hooks_out_of_order(b: Any, walk: Walk) -> None:
    """The end is told first, then the beginning, then the end again."""
    states(b, ("queued", "in_progress"), ("pending", "running"))
    walk.post = deliveries(b, "completed", "in_progress", "requested", "completed")


def hooks_never(b: Any, walk: Walk) -> None:
    """No webhook comes at all: the slow look finds out."""
    states(b, ("queued", "in_progress"), ("pending", "running"))


SITUATIONS: dict[Callable[[Any, Walk], None], tuple[bool, int]] = {  # right end, pipelines at most
    lagging: (True, 1),
    superseded: (True, 2),
    superseded_always: (False, 4),
    waiting: (True, 1),
    queued_behind: (True, 1),
    late_once: (True, 1),
    late_always: (False, 1),
    gone: (False, 1),
    expiring: (False, 1),
    limited_while_polling: (True, 1),
    limited_in_every_form: (True, 1),
    limited_after_a_lost_start: (True, 1),
    hooks_twice: (True, 1),
    hooks_out_of_order: (True, 1),
    hooks_never: (True, 1),
}


async def walked(forge: str, situation: Callable[[Any, Walk], None]) -> tuple[Walk, Any]:
    """Walk through one situation and check what holds in all of them."""
    async with bench(forge) as b:
        walk = Walk(b)
        situation(b, walk)
        end = await walk.end()
        right, pipelines = SITUATIONS[situation]
        assert isinstance(end, Done) is right, repr(end)
        assert all(times == 1 for times in b.double.dispatches.values()), b.double.dispatches
        assert b.double.dispatches.total() == pipelines
        ROWS[f"situation: {situation.__name__}"] += 1
        judge(forge, b, end)
    return walk, end


@pytest.mark.parametrize("forge", FORGES)
@pytest.mark.parametrize("situation", SITUATIONS, ids=name_of)
async def test_no_situation_makes_two_pipelines_or_ends_without_a_reason(
    situation: Callable[[Any, Walk], None], forge: str
) -> None:
    """The same on either forge; a superseded pipeline is another attempt with its own name."""
    await walked(forge, situation)


@pytest.mark.parametrize("forge", FORGES)
async def test_a_wait_for_a_person_is_told_as_one_and_a_queue_is_not(forge: str) -> None:
    """The engine stops the step's clock for the one and not for the other."""
    walk, _ = await walked(forge, waiting)
    assert walk.persons == 3
    assert any("to approve" in said or "manual job" in said for said in walk.said), walk.said
    walk, _ = await walked(forge, queued_behind)
    assert walk.persons == 0
    assert any("group" in said for said in walk.said), walk.said


@pytest.mark.parametrize("forge", FORGES)
async def test_webhooks_twice_or_out_of_order_change_the_looks_and_never_the_end(
    forge: str,
) -> None:
    """The end is the same with any of them and without; GitHub's second copy wakes nobody."""
    never, right = await walked(forge, hooks_never)
    for situation in (hooks_twice, hooks_out_of_order):
        walk, end = await walked(forge, situation)
        told = {**end.result, "url": ""}  # the double's port is another one each time
        assert told == {**right.result, "url": ""}
        assert walk.heard > 0
        assert walk.looks == never.looks
    assert never.heard == 0


@pytest.mark.parametrize("forge", FORGES)
@pytest.mark.parametrize("fault", sorted(LIMITS, key=lambda one: one.name), ids=name_of)
async def test_a_limit_pauses_the_whole_forge_and_nobody_hammers(fault: Fault, forge: str) -> None:
    """Ten steps look at once: those under way are refused, all others stay at home."""
    async with bench(forge, threads=2, poll=15) as b:
        first = await b.action.apply(a_call(), await b.action.plan(a_call()))
        while not first.state["run_id"]:
            first = await b.action.poll(a_call(), first.state)
        states(b, ("in_progress",) * 99, ("running",) * 99)
        look, before = LOOKS[forge], b.double.asked.total()
        b.double.faults.arm(look, fault, times=99)
        looks = [b.action.poll(a_call(), first.state) for _ in range(10)]
        seen = await asyncio.gather(*looks, return_exceptions=True)
        assert all(isinstance(one, Pending) for one in seen), seen
        assert b.double.asked.total() - before <= 2
        assert all("rate limit" in one.waiting_for for one in seen if isinstance(one, Pending))
        waits = [one.after for one in seen if isinstance(one, Pending)]
        assert min(waits) >= (15 if fault in {Fault.FORBIDDEN_LIMIT, Fault.TOO_MANY} else 35)
        ROWS[f"whole forge: {fault.value}"] += 1


@pytest.mark.parametrize("forge", FORGES)
async def test_a_forge_that_keeps_refusing_is_asked_ever_more_seldom(forge: str) -> None:
    """An hour of bare refusals is six requests: 1, 2, 4, 8, 16 and 32 minutes between them."""
    async with bench(forge) as b:
        first = await b.action.apply(a_call(), await b.action.plan(a_call()))
        while not first.state["run_id"]:
            first = await b.action.poll(a_call(), first.state)
        states(b, ("in_progress",) * 99, ("running",) * 99)
        b.double.faults.arm(LOOKS[forge], Fault.TOO_MANY_BARE, times=99)
        before, waits = b.double.asked.total(), list[float]()
        for _ in range(6):
            seen = await b.action.poll(a_call(), first.state)
            assert isinstance(seen, Pending)
            waits.append(seen.after)
            b.double.clock.leap(seen.after)
        assert [round(wait / 60) for wait in waits] == [1, 2, 4, 8, 16, 32]
        assert b.double.asked.total() - before == 6


@pytest.mark.parametrize("forge", FORGES)
async def test_a_token_that_expires_in_the_middle_names_the_setting(forge: str) -> None:
    """Exactly one pipeline goes on there, and a person reads which secret to renew."""
    async with bench(forge) as b:
        states(b, ("in_progress",) * 9, ("running",) * 9)
        first = await b.action.apply(a_call(), await b.action.plan(a_call()))
        b.double.token = "renewed"
        with pytest.raises(StepFailed, match=r"401.*(renew \[forges\.(github|lab)\] token)"):
            await b.action.poll(a_call(), first.state)
        assert b.double.dispatches.total() == 1
        ROWS["situation: revoked in the middle"] += 1


def test_the_counts_of_the_table_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Most faults end well; how many of each is for the reader."""
    if not TOLD:
        pytest.skip("the table was not run")
    with capsys.disabled():
        print(f"\nfaults at one call each, never two pipelines: {dict(sorted(TOLD.items()))}")
        for row in sorted(ROWS):
            if not row.startswith(tuple(f"{p}: " for ps in PLACES.values() for p in ps)):
                print(f"  {row}: {ROWS[row]}")
        at = Counter[str]()
        for row, times in ROWS.items():
            at[row.partition(": ")[2]] += times if row.partition(": ")[0] not in _OTHER else 0
        print("  each fault, at each call:", {k: v for k, v in sorted(at.items()) if v})
    for forge in FORGES:
        assert TOLD[f"{forge}: right end"] > 4 * TOLD[f"{forge}: a person asked"]


_OTHER = {"situation", "whole forge"}
