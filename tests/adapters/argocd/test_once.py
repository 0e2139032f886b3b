"""A sync is begun exactly once, whatever is lost on the way, and no fault is taken for an end."""

import pytest

from responder.clock import World
from responder.errors import StepFailed, StepRetry, Uncertain
from responder.ports import Pending
from tests.adapters.argocd.world import a_call, bench, shop
from tests.doubles.argocd import COMMIT, App
from tests.doubles.faults import ACTING, Fault

AFTER = [fault for fault in Fault if fault in ACTING]
PLACES = ("application", "windows", "sync")


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
@pytest.mark.parametrize("place", PLACES)
async def test_no_fault_begins_two_syncs(place: str, fault: Fault) -> None:
    """Each fault at each call: one sync, and a good end."""
    async with bench(settings={"timeout": 1}) as b:
        b.double.faults.arm(place, fault)
        plan, pending = None, None
        for _ in range(6):
            try:
                plan = plan or await b.action.plan(a_call())
                pending = await b.action.apply(a_call(), plan)
                break
            except StepRetry:
                continue
        assert isinstance(pending, Pending), f"{place} {fault}"
        done = await b.follow(a_call(), pending)
        assert done.result["revision"] == COMMIT
        assert b.double.syncs.total() == 1, b.double.syncs
        assert not any(b.double.faults.armed.values())


@pytest.mark.parametrize("fault", AFTER, ids=lambda f: f.name)
async def test_a_sync_whose_answer_was_lost_is_found_by_its_mark(fault: Fault) -> None:
    """5xx after acting, reset after acting, no answer: the application shows the operation."""
    async with bench(settings={"timeout": 1}) as b:
        b.double.faults.arm("sync", fault)
        plan = await b.action.plan(a_call())
        pending = await b.action.apply(a_call(), plan)
        assert isinstance(pending, Pending)
        assert b.double.asked["sync"] == 1


async def test_an_answer_that_is_no_json_is_looked_into() -> None:
    """A proxy's page with status 200 says nothing of Argo CD."""
    async with bench() as b:
        plan = await b.action.plan(a_call())
        b.double.page = "<html>log in</html>"
        with pytest.raises(StepRetry, match="no sync of it showed up"):
            await b.action.apply(a_call(), plan)


async def test_after_a_crash_the_sync_of_this_step_is_followed() -> None:
    """The next life asks the application first; the mark comes from the step's key."""
    async with bench() as b:
        plan = await b.action.plan(a_call())
        started = World().clock.now()
        await b.action.apply(a_call(), plan)  # and then the process dies
        pending = await b.action.apply(a_call(resumed=True, started=started), plan)
        assert isinstance(pending, Pending)
        await b.follow(a_call(), pending)
        assert b.double.syncs.total() == 1


async def test_after_a_crash_before_the_request_it_is_begun() -> None:
    """Nothing shows up in the time that it may take: it surely was not asked for."""
    async with bench() as b:
        plan = await b.action.plan(a_call())
        started = World().clock.now()
        pending = await b.action.apply(a_call(resumed=True, started=started), plan)
        assert isinstance(pending, Pending)
        assert b.double.syncs.total() == 1


async def test_a_later_attempt_begins_anew_after_one_that_failed() -> None:
    """A failed sync is not adopted by the next attempt, and not repeated by its own."""
    app = shop(script=("Failed",))
    async with bench(app) as b:
        plan, pending = await b.apply(a_call())
        with pytest.raises(StepFailed):
            await b.follow(a_call(), pending)
        again = await b.action.apply(a_call(resumed=True, started=1), plan)
        assert isinstance(again, Pending)
        assert b.double.syncs.total() == 1
        app.script = ("Succeeded/Synced/Healthy",)
        third = await b.action.apply(a_call(attempt=2), plan)
        assert isinstance(third, Pending)
        await b.follow(a_call(attempt=2), third)
        assert sorted(b.double.syncs.values()) == [1, 1]


async def test_nobody_answers_after_a_lost_answer_so_a_person_is_asked() -> None:
    """It may have begun and cannot be looked at."""
    async with bench() as b:
        plan = await b.action.plan(a_call())
        b.double.faults.arm("sync", Fault.ERROR_AFTER)
        b.double.forbidden.add("application")
        with pytest.raises(Uncertain, match="may be synced, and it cannot be looked at"):
            await b.action.apply(a_call(), plan)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
async def test_a_look_that_fails_is_no_end(fault: Fault) -> None:
    """Polling goes on through every fault, within its time."""
    app: App = shop(script=("Running", "Running", "Succeeded/Synced/Healthy"))
    async with bench(app, settings={"timeout": 1}) as b:
        _, pending = await b.apply(a_call())
        b.double.faults.arm("application", fault, 2)
        done = await b.follow(a_call(), pending)
        assert done.result["revision"] == COMMIT
        assert b.double.syncs.total() == 1


async def test_a_credential_that_does_not_hold_is_said_and_never_shown() -> None:
    """401 and 403, in the plan, while polling, and for the doctor."""
    async with bench() as b:
        _, pending = await b.apply(a_call())
        b.double.forbidden.add("application")
        with pytest.raises(StepFailed, match="HTTP 403: not there, or the token has no right"):
            await b.action.poll(a_call(), pending.state)
        b.double.forbidden.clear()
        assert await b.integration.checks["argocd main"]() == "ok"
        b.double.token = "another-token-by-now"
        with pytest.raises(StepFailed, match="HTTP 401: the token is not accepted") as told:
            await b.action.plan(a_call())
        assert "argo-token-of-the-double" not in str(told.value)
        with pytest.raises(StepFailed, match="renew it"):
            await b.integration.checks["argocd main"]()


async def test_a_right_to_look_alone_is_no_right_to_sync() -> None:
    """403 to the sync is final: nothing was begun."""
    async with bench() as b:
        b.double.forbidden.add("sync")
        plan = await b.action.plan(a_call())
        with pytest.raises(StepFailed, match="permission denied"):
            await b.action.apply(a_call(), plan)


async def test_the_token_never_follows_a_redirect() -> None:
    """An answer that sends elsewhere is refused, and the other place hears nothing."""
    async with bench() as b, bench() as other:
        b.double.moved = f"{other.double.url}/api/v1/applications/shop"
        with pytest.raises(StepFailed, match="sent elsewhere; check url"):
            await b.action.plan(a_call())
        assert other.double.asked.total() == 0
