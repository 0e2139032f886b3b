"""People's verbs: started once, decided by the right person, always in the audit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from responder.errors import BadRequest, Conflict, Forbidden, NotFound, StoreUnavailable
from responder.model import Role
from responder.ports import Integration
from responder.service import Who
from responder.store.sqlite import SqliteStore
from tests.core.engine.bench import ANNA, BEN, Bench, bench
from tests.core.engine.test_driver import MARK, playbook
from tests.fakes import Build, Things

ASKING = playbook(MARK, mode="approve")
CLEO = Who(person="cleo", role=Role.APPROVER, door="test")


async def begin(b: Bench, key: str = "k1", **more: Any) -> dict[str, Any]:
    """Start by hand with an idempotency key."""
    return await b.app.service.start(BEN, "p", {"thing": "a"}, "test", idempotency_key=key, **more)


async def verbs(b: Bench) -> list[str]:
    return [line["verb"] for line in (await b.app.service.audit(ANNA))["items"]]


# --------------------------------------------------------------------------- start


async def test_one_key_starts_one_run(tmp_path: Path) -> None:
    """The same request again gets the same answer, also when both come in one moment."""
    async with bench(tmp_path, [ASKING]) as b:
        first, second = await asyncio.gather(begin(b), begin(b))
        assert first == second == await begin(b)
        assert len(await b.app.store.runs()) == 1


async def test_a_key_belongs_to_one_request(tmp_path: Path) -> None:
    """Another request under the same key is refused, another person's key is another key."""
    async with bench(tmp_path, [ASKING]) as b:
        await begin(b)
        with pytest.raises(BadRequest, match="another request"):
            await b.app.service.start(BEN, "p", {"thing": "b"}, "test", idempotency_key="k1")
        await b.app.service.start(ANNA, "p", {"thing": "b"}, "test", idempotency_key="k1")


@pytest.mark.parametrize(
    ("more", "error"), [({"mode": "wild"}, BadRequest), ({"incident": 99}, NotFound)]
)
async def test_a_refused_start_does_not_use_up_its_key(
    tmp_path: Path, more: dict[str, Any], error: type[Exception]
) -> None:
    """The same wrong request is refused for the same reason again, not as still running."""
    async with bench(tmp_path, [ASKING]) as b:
        for _ in range(2):
            with pytest.raises(error):
                await begin(b, **more)


class Failing(SqliteStore):
    """Fails to start a run, as often as it is told."""

    fails = 0
    stops_after = False

    async def start_run(self, *args: Any, **more: Any) -> tuple[str, int]:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("busy")
        made = await super().start_run(*args, **more)
        if self.stops_after:
            self.stops_after = False
            raise StoreUnavailable("killed before the answer")
        return made


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
async def test_a_start_that_broke_off_is_finished_by_the_same_key(
    tmp_path: Path, *, after: bool
) -> None:
    """Whatever broke between key and answer: asking again gives one run, and its name."""
    store = Failing(tmp_path / "r.db")
    async with bench(tmp_path, [ASKING], store=store) as b:
        store.fails, store.stops_after = int(not after), after
        with pytest.raises(StoreUnavailable):
            await begin(b)
        answer = await begin(b)

        assert [run.id for run in await store.runs()] == [answer["run"]]


async def test_every_persons_verb_is_in_the_audit(tmp_path: Path) -> None:
    """Start, yes, note, undo, pause, resume, cancel: each with who and through which door."""
    async with bench(tmp_path, [ASKING]) as b:
        service = b.app.service
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        await b.approve(run, "mark")
        await b.until(run, "succeeded")
        await service.undo(ANNA, run, "mark", "back")
        await service.note(ANNA, 1, "looked at it")
        await service.pause(ANNA, "flood")
        await service.resume(ANNA, "over")
        second = await b.start("p", thing="b")
        await service.cancel(BEN, second, "no")
        found = set(await verbs(b))

        assert {"run", "approved", "undo", "note", "pause", "resume", "cancel"} <= found


async def test_the_audit_has_a_start_before_the_run_is_there(tmp_path: Path) -> None:
    """A run that nobody is named for must not exist, whatever breaks in between."""
    store = Failing(tmp_path / "r.db")
    async with bench(tmp_path, [ASKING], store=store) as b:
        store.stops_after = True
        with pytest.raises(StoreUnavailable):
            await begin(b)
        assert "run" in await verbs(b)


# --------------------------------------------------------------------------- who decides


@pytest.mark.parametrize("person", ["ben", "BEN", " ben "])
async def test_no_spelling_of_the_requester_may_approve(tmp_path: Path, person: str) -> None:
    """The same human under a name with other capitals or a blank is the same human."""
    async with bench(tmp_path, [ASKING]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        with pytest.raises(Forbidden):
            await b.approve(run, "mark", Who(person=person, role=Role.ADMIN, door="t"))


TWO = MARK + "    approve: {by: approver, within: 30m, otherwise: stop, quorum: 2}\n"


async def test_a_spelling_does_not_make_one_approver_two(tmp_path: Path) -> None:
    """Quorum counts humans, not spellings."""
    async with bench(tmp_path, [playbook(TWO)]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        await b.approve(run, "mark")
        with pytest.raises(Conflict):
            await b.approve(run, "mark", replace(ANNA, person="Anna"))


async def test_a_yes_of_somebody_who_lost_the_role_does_not_count(tmp_path: Path) -> None:
    """Revoked between the first and the second yes: a third person is needed."""
    async with bench(tmp_path, [playbook(TWO)]) as b:
        service = b.app.service
        token = await service.token_create(BEN, "dora", "approver", 1)
        dora = await service.authenticate(token["secret"], "api")
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        await b.approve(run, "mark", dora)
        await service.token_revoke(BEN, token["id"])
        await b.approve(run, "mark", ANNA)
        await asyncio.sleep(0.05)
        assert b.things.done == []

        await b.approve(run, "mark", CLEO)
        await b.until(run, "succeeded")


async def test_two_opposite_decisions_in_one_moment_are_not_both_acknowledged(
    tmp_path: Path,
) -> None:
    """One of them counts; the other person is told that it came too late."""
    async with bench(tmp_path, [ASKING]) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        hash_ = (await b.step(run, "mark"))["plan_hash"]
        answers = await asyncio.gather(
            b.app.service.decide(ANNA, run, "mark", False, hash_, "no"),
            b.app.service.decide(CLEO, run, "mark", True, hash_, "yes"),
            return_exceptions=True,
        )

        assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "dict"]
        await b.until(run, "failed")
        assert b.things.done == []


class LateWord(SqliteStore):
    """Lets another event slip into the journal before a person's word is written."""

    slip: Any = None

    async def append(self, run_id: str, known_seq: int, *args: Any, **more: Any) -> Any:
        if self.slip is not None and known_seq == 0:
            slip, self.slip = self.slip, None
            await super().append(run_id, 0, [slip])
        return await super().append(run_id, known_seq, *args, **more)


async def test_a_yes_that_came_too_late_is_not_acknowledged(tmp_path: Path) -> None:
    """The time ended between look and write: the person hears it, and nothing is applied."""
    from responder.store.interface import Event

    store = LateWord(tmp_path / "r.db")
    async with bench(tmp_path, [ASKING], store=store) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        data = {"step": "mark", "reason": "nobody decided in time"}
        store.slip = Event("approval_expired", b.clock.now(), data)
        with pytest.raises(Conflict, match="too late"):
            await b.approve(run, "mark")
        await b.until(run, "failed")
        assert b.things.done == []


class Blind(Build):
    """Cannot look up what it has done."""

    def __init__(self, things: Things) -> None:
        super().__init__(things, looks_up=False)
        self.info = replace(self.info, name="blind.build")


async def test_what_cannot_be_looked_up_is_done_again_when_a_person_has_looked(
    tmp_path: Path,
) -> None:
    """Only a person can know; their yes must not lead back to the same question for ever."""
    things = Things(faults={"apply build": [TimeoutError()]})
    steps = "  build:\n    use: blind.build\n    with: {thing: b}\n"
    extra = [Integration(actions=[Blind(things)])]
    async with bench(tmp_path, [playbook(steps)], things=things, extra=extra) as b:
        run = await b.start("p", thing="a")
        await b.until(run, "waiting-approval")
        await b.app.service.decide(ANNA, run, "build", True, "", "it did not happen")
        await b.until(run, "succeeded")
        assert things.done == [("dispatch", f"{run}/build")]


async def test_an_undo_of_what_is_being_applied_is_refused(tmp_path: Path) -> None:
    """It is not known yet what there is to take back."""
    things = Things(gate=asyncio.Event())
    async with bench(tmp_path, [playbook(MARK)], things=things) as b:
        run = await b.start("p", thing="a")
        while (await b.step(run, "mark"))["status"] != "applying":
            await asyncio.sleep(0.005)
        with pytest.raises(Conflict):
            await b.app.service.undo(ANNA, run, "mark", "stop it")
        assert things.gate is not None
        things.gate.set()
        await b.until(run, "succeeded")
