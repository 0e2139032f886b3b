"""A credential that stops holding: an App's token is renewed once, a token of a person is not."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from responder.errors import StepFailed, StepRetry
from responder.model import Secret
from responder.ports import Pending
from tests.adapters.github.world import Bench, a_call, bench
from tests.doubles.executors import Immediate
from tests.doubles.faults import Fault

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
APP = {"token": None, "app_id": 7, "private_key": Secret(PEM), "installation_id": 3, "threads": 1}
GOING = Immediate(states=("in_progress",) * 4)


@contextlib.asynccontextmanager
async def app_bench(executor: Immediate = GOING) -> AsyncIterator[Bench]:
    """Serve a double that hands out an App's tokens, to one thread so that they can be counted."""
    double = {"app_key": KEY.public_key(), "executor": executor}
    async with bench(double=double, settings=APP) as b:
        yield b


async def test_a_token_of_an_app_that_runs_out_is_renewed_once_and_the_look_repeated() -> None:
    """401 in the middle of polling: one new token, one more look, and the run is followed."""
    async with app_bench() as b:
        pending = await b.apply(a_call())
        b.double.token = "the second token"
        assert isinstance(await b.action.poll(a_call(), pending.state), Pending)
        assert b.double.asked["app-token"] == 2
        assert b.double.asked["run"] == 2
        await b.to_end(a_call(resumed=True))
        assert b.dispatched() == 1


async def test_a_dispatch_that_was_refused_for_its_token_acts_once_with_the_new_one() -> None:
    """401 is said before anything is done, so the POST may be sent again."""
    async with app_bench(Immediate()) as b:
        plan = await b.action.plan(a_call())
        b.double.token = "the second token"
        await b.action.apply(a_call(), plan)
        assert b.double.asked["dispatch"] == 2
        assert b.dispatched() == 1


async def test_a_token_that_is_refused_although_it_is_new_ends_with_the_settings() -> None:
    """Renewed once and not again: somebody took the App's rights away."""
    async with app_bench() as b:
        pending = await b.apply(a_call())
        b.double.refuses_all = True
        words = r"HTTP 401.*just made: check installation_id .*\[forges.github\]"
        with pytest.raises(StepFailed, match=words):
            await b.action.poll(a_call(), pending.state)
        assert b.double.asked["run"] == 2
        assert b.double.asked["app-token"] == 2


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_app_that_gets_no_token_ends_with_the_settings(status: int) -> None:
    """Removed, suspended or another key: it must never read as a run that was deleted."""
    async with app_bench() as b:
        pending = await b.apply(a_call())
        b.double.token, b.double.app_refused = "the second token", status
        words = rf"HTTP {status}, GitHub gives the App no token; check app_id, private_key"
        with pytest.raises(StepFailed, match=words):
            await b.action.poll(a_call(), pending.state)


async def test_a_dispatch_without_a_token_has_surely_not_acted() -> None:
    """The place of the tokens is down: tried again later, and nobody looks for a run."""
    async with app_bench(Immediate()) as b:
        plan = await b.action.plan(a_call())
        b.double.token = "the second token"
        b.double.faults.arm("app-token", Fault.ERROR_BEFORE)
        with pytest.raises(StepRetry, match="no token of the App"):
            await b.action.apply(a_call(), plan)
        assert b.double.asked["list"] == 0
        await b.to_end(a_call(attempt=2))
        assert b.dispatched() == 1


async def test_a_revoked_token_of_a_person_is_final_and_names_the_setting() -> None:
    """There is nothing to renew it with; no second try, no second run."""
    async with bench(double={"executor": GOING}) as b:
        pending = await b.apply(a_call())
        b.double.token = "another"
        words = r"HTTP 401.*expired or was revoked: renew \[forges.github\] token"
        with pytest.raises(StepFailed, match=words):
            await b.action.poll(a_call(), pending.state)
        assert b.double.asked["run"] == 1
        assert b.dispatched() == 1
