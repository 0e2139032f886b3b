"""`flux.notify`: one notice, signed, to a path that nobody sees."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from integrations.flux import setup
from responder.clock import World
from responder.errors import ConfigError, StepFailed, StepRetry
from responder.model import Secret, Target
from responder.ports import Action, Call, Done, Kit
from tests.adapters.flux.receiver import TOKEN, Receivers, running
from tests.adapters.github.world import NoEvidence
from tests.doubles.faults import Fault

COMMIT = "c" * 40


def a_call(**params: Any) -> Call:
    """Return the call of one step."""
    return Call(
        action="flux.notify",
        key="run_01j9/notify",
        incident=42,
        run="run_01j9",
        step="notify",
        params={"revision": COMMIT, **params},
        target=Target(),
    )


@contextlib.asynccontextmanager
async def bench(settings: Any = (), **double: Any) -> AsyncIterator[tuple[Receivers, Action]]:
    """Serve a Receiver and set the action up against it."""
    async with running(**double) as receivers:
        table = {
            "url": receivers.url,
            "receiver": "deploy",
            "token": Secret(TOKEN),
            "timeout": 1,
            **dict(settings),
        }
        made = setup({"main": table}, World(), Kit(evidence=NoEvidence()))
        try:
            yield receivers, made.actions[0]
        finally:
            assert made.close
            await made.close()


async def told(action: Action, tries: int = 6) -> Done:
    """Plan and apply, again after `StepRetry`, as the engine does."""
    for left in range(tries, 0, -1):
        try:
            done = await action.apply(a_call(), await action.plan(a_call()))
        except StepRetry:
            if left == 1:
                raise
            continue
        assert isinstance(done, Done)
        return done
    raise AssertionError("unreachable")


@pytest.mark.parametrize("kind", ["generic-hmac", "generic"])
async def test_a_receiver_hears_what_is_new(kind: str) -> None:
    """The plan shows who, never where; the verdict says what is not known yet."""
    async with bench({"type": kind}, hmac=kind == "generic-hmac") as (receivers, action):
        plan = await action.plan(a_call())
        assert plan.hash == (await action.plan(a_call())).hash
        done = await told(action)
        verdict = await action.verify(a_call(), plan, done.result)

        [body] = receivers.heard
        assert json.loads(body)["revision"] == COMMIT
        assert "kubernetes.reconcile_flux waits for it" in verdict.residual[0]
        shown = json.dumps(plan.to_json())
        assert plan.targets == ("Receiver flux-system/deploy",)
        assert receivers.path not in shown
        assert TOKEN not in shown


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
async def test_a_lost_answer_is_told_again(fault: Fault) -> None:
    """Being told twice is one wish to look: no fault ends as an error, none goes unheard."""
    async with bench() as (receivers, action):
        receivers.faults.arm("notify", fault)
        done = await told(action)
        assert done.result["receiver"] == "flux-system/deploy"
        assert 1 <= len(receivers.heard) <= 2
        assert not any(receivers.faults.armed.values())


@pytest.mark.parametrize(
    ("settings", "double", "text"),
    [
        ({"token": Secret("another")}, {}, "there is no such Receiver"),
        ({"receiver": "other"}, {}, "there is no such Receiver"),
        ({"type": "generic"}, {}, "refuses the signature"),
    ],
)
async def test_a_receiver_that_does_not_know_us_says_why(
    settings: Any, double: Any, text: str
) -> None:
    """Wrong token, name or type; the path is in no text."""
    async with bench(settings, **double) as (receivers, action):
        with pytest.raises(StepFailed, match=text) as refusal:
            await action.apply(a_call(), await action.plan(a_call()))
        assert "/hook/" not in str(refusal.value)
        assert receivers.heard == []


async def test_a_suspended_receiver_is_asked_again_later() -> None:
    """503: nothing was done, so it may be told again."""
    async with bench(ready=False) as (receivers, action):
        with pytest.raises(StepRetry, match="suspended or not ready"):
            await action.apply(a_call(), await action.plan(a_call()))
        assert receivers.heard == []


async def test_the_notice_never_follows_a_redirect() -> None:
    """Its path is a secret, and so is its signature's key."""
    async with bench() as (receivers, action), running() as other:
        receivers.moved = f"{other.url}/hook/x"
        with pytest.raises(StepFailed, match="sent elsewhere; check url"):
            await action.apply(a_call(), await action.plan(a_call()))
        assert other.asked == 0


async def test_there_is_no_undo_and_no_receiver_that_is_not_configured() -> None:
    """Both are said."""
    async with bench() as (_, action):
        plan = await action.plan(a_call())
        with pytest.raises(StepFailed, match="no undo"):
            await action.undo(a_call(), plan, {})
        with pytest.raises(StepFailed, match=r"there is no \[flux.mian\]; .*main"):
            await action.plan(a_call(receiver="mian"))
    nobody = setup({}, World(), Kit(evidence=NoEvidence())).actions[0]
    with pytest.raises(StepFailed, match=r"no \[flux.NAME\] is configured"):
        await nobody.plan(a_call())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"url": "http://flux.example"}, "http only on loopback"),
        ({"url": "https://flux.example/hook/abc"}, "that path is a secret"),
        ({"token": "written-out"}, r"\[flux.main\] token"),
        ({"receiver": "../x"}, r"\[flux.main\] receiver"),
        ({"typ": "generic"}, r"\[flux.main\] typ: is not a known key; .*type"),
    ],
)
def test_a_wrong_table_is_refused_by_its_key_and_shows_no_value(change: Any, text: str) -> None:
    """Before anything is connected."""
    good = {"url": "https://flux.example", "receiver": "deploy", "token": Secret("x")}
    with pytest.raises(ConfigError, match=text) as refusal:
        setup({"main": {**good, **change}}, World(), Kit(evidence=NoEvidence()))
    assert "written-out" not in str(refusal.value)
    assert "abc" not in str(refusal.value)
