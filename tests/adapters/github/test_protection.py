"""A deployment that waits at GitHub: answered once, bounded by the map, and never on a claim."""

import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from integrations.github import setup
from integrations.github.protection import RULE, place_of, question, ruling
from integrations.github.webhook import GitHubHints
from responder.clock import World
from responder.errors import Conflict, StepFailed, StepRetry, Unauthorized
from responder.model import Alert, Plan, Secret, VerdictLevel
from responder.ports import Action, Call, Done, HookInfo, ImageRoute, Kit, Known
from tests.adapters.github.recording import LOST, SAFE
from tests.adapters.github.world import NoEvidence, a_call
from tests.doubles.corpus import corpus
from tests.doubles.faults import Fault
from tests.doubles.github import GitHubDouble, running
from tests.doubles.github_deployments import Deployed
from tests.doubles.shapes import SHA, DoubleRun

OLD, NEW, OTHER = (f"sha256:{digit * 64}" for digit in "079")
OURS = Known(passed={NEW: 42}, tied=(42,))
SECRETS = {"hmac": {"header": "X-Hub-Signature-256", "prefix": "sha256="}}


def hook(name: str = "github", secret: str = "s1", **options: Any) -> HookInfo:
    """Return a hook with a secret of its own."""
    auth = {"hmac": {**SECRETS["hmac"], "secret": Secret(secret)}}
    return HookInfo(name=name, source="github", auth=auth, options=options)


def sent(data: Mapping[str, Any], secret: str = "s1", guid: str = "g-1") -> tuple[Any, bytes]:
    """Return headers and body of a delivery, signed as GitHub signs."""
    body = json.dumps(data).encode()
    mark = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "x-github-event": "deployment_protection_rule",
        "x-github-delivery": guid,
        "x-hub-signature-256": f"sha256={mark}",
    }
    return headers, body


@dataclass
class Gatehouse:
    """The action, the forge whose run waits, and what the incidents know."""

    forge: GitHubDouble
    deployed: Deployed
    action: Action
    run: DoubleRun
    delivery: dict[str, Any]
    known: Known
    asked: list[tuple[str, int, str]] = field(default_factory=list)

    def call(self, alert: Alert | None = None, **changes: Any) -> Call:
        """Return the call that a delivery leads to, as the playbook of the docs makes it."""
        said = (alert or question(self.delivery)).fields  # type: ignore[union-attr]
        names = ("callback", "environment", "repository", "digests")
        params = {**{name: said[name] for name in names}, **changes.pop("params", {})}
        values = {"action": "github.answer_deployment", "key": "run_9/answer", "params": params}
        return a_call(**values | changes)

    async def answer(self, **changes: Any) -> Done:
        """Plan, apply and verify."""
        call = self.call(**changes)
        plan = await self.action.plan(call)
        done = await self.action.apply(call, plan)
        assert isinstance(done, Done)
        await self.action.verify(call, plan, done.result)
        return done

    async def trying(self, plan: Plan, tries: int = 6) -> Done:
        """Apply as the engine does after each temporary failure, until it is done."""
        for attempt in range(1, tries + 1):
            call = self.call(attempt=attempt, resumed=attempt > 1, started=1)
            try:
                done = await self.action.apply(call, plan)
            except StepRetry as later:
                self.forge.clock.leap(later.after)
                continue
            assert isinstance(done, Done)
            return done
        raise AssertionError("it never ended")


@contextlib.asynccontextmanager
async def gatehouse(
    known: Known = OURS, payload: Any = None, *, deployed: Deployed | None = None, **table: Any
) -> AsyncIterator[Gatehouse]:
    """Let a run of the map's repository wait for production."""
    part = deployed or Deployed()
    async with running(parts=(part,)) as forge:
        settings = {
            "kind": "github",
            "base_url": forge.base_url,
            "token": Secret(forge.token),
            "poll": 1,
            "settle": 0.3,
            "timeout": 2,
            **table,
        }
        route = ImageRoute(
            match="registry.example/shop/*",
            forge="github",
            repo="acme/shop",
            workflow="rebuild.yml",
        )

        async def knows(system: str, run: int, commit: str) -> Known:
            house.asked.append((system, run, commit))
            return house.known

        kit = Kit(evidence=NoEvidence(), images=(route,), knows=knows)
        integration = setup({"github": settings}, World(clock=forge.clock), kit)
        actions = {action.info.name: action for action in integration.actions}
        run = forge._new_run("acme/shop", "deploy.yml", "main", {"correlation_id": "x"})
        delivery = part.waits(run, "production", payload)
        action = actions["github.answer_deployment"]
        house = Gatehouse(forge, part, action, run, delivery, known)
        try:
            yield house
        finally:
            assert integration.close
            await integration.close()
        assert not forge.wrong_requests, forge.wrong_requests
        assert not forge.wrong_answers, forge.wrong_answers


# --------------------------------------------------------------------------- what decides


@pytest.mark.parametrize(
    ("claims", "known", "answer", "words"),
    [
        ([], OURS, "approved", f"the gate of incident 42 let {NEW} through"),
        ([NEW], OURS, "approved", "let"),
        ([OLD], Known(blocked={OLD: 7}), "rejected", "blocked or being replaced by incident 7"),
        ([NEW, OLD], replace(OURS, blocked={OLD: 7}), "rejected", "incident 7"),
        ([NEW], replace(OURS, blocked={NEW: 7}), "rejected", "incident 7"),
        ([OTHER], Known(refused={OTHER: 8}), "rejected", "the gate of incident 8 refused"),
        ([], Known(refused={NEW: 42}, tied=(42,)), "rejected", "refused"),
        ([], Known(tied=(42,), ungated=(42,)), "wait", "has not passed"),
        ([], Known(tied=(42,)), "wait", "has not passed"),
        ([], Known(passed={NEW: 7}, tied=(42,)), "wait", "incident 42 has not passed"),
        ([OTHER], OURS, "none", "which no gate of ours has let through"),
        ([NEW], Known(passed={NEW: 42}), "none", "not ours to answer"),
        ([NEW], Known(), "none", "not ours to answer"),
        ([], Known(blocked={OLD: 7}), "none", "not ours to answer"),
        (["\x1b[31m", f"{OLD} "], Known(blocked={OLD: 7}), "none", "not ours"),
    ],
)
def test_a_claim_rejects_at_most_and_only_what_is_ours_is_approved(
    claims: list[str], known: Known, answer: str, words: str
) -> None:
    """A delivery that claims a digest which a gate let through is not approved for it."""
    found = ruling(claims, known)
    assert (found.answer, words in found.why) == (answer, True)


def test_an_open_gate_rejects_where_the_playbook_says_so() -> None:
    """Instead of waiting for it."""
    known = Known(tied=(42,), ungated=(42,))
    assert ruling([], known, undecided="reject").answer == "rejected"


BASE = "https://github.example/api/v3"
GOOD = f"{BASE}/repos/acme/shop/actions/runs/4711/deployment_protection_rule"


@pytest.mark.parametrize(
    "callback",
    [
        GOOD.replace("github.example", "evil.example"),
        GOOD.replace("github.example", "github.example.evil.example"),
        GOOD.replace("github.example", "github.example:8443"),
        GOOD.replace("github.example", "github.example@evil.example"),
        GOOD.replace("github.example", "token@github.example"),
        GOOD.replace("https", "http"),
        GOOD.replace("/api/v3", ""),
        GOOD.replace("acme/shop", "../shop"),
        GOOD.replace("acme/shop", "acme/shop/../../evil/x"),
        GOOD.replace("acme/shop", "acme%2Fshop"),
        GOOD.replace("4711", "-1"),
        GOOD.replace("4711", "4711/cancel"),
        GOOD.replace("4711", "\u0664\u0667"),
        f"{GOOD}?x=1",
        f"{GOOD}#x",
        f"{GOOD}/",
        f"{GOOD}\n",
        "https://[",
        "",
        "x" * 5000,
    ],
)
def test_only_the_address_of_our_own_api_is_read(callback: str) -> None:
    """Another host, port, scheme, path or spelling is nobody we know."""
    with pytest.raises(StepFailed, match="the callback's address"):
        place_of(callback, BASE)
    assert place_of(GOOD, BASE) == ("acme/shop", 4711)


# --------------------------------------------------------------------------- answered, or not


async def test_our_own_gated_rollout_is_approved_once() -> None:
    """The run goes on; the comment says why in our own words."""
    async with gatehouse() as g:
        done = await g.answer()
        assert done.result["answer"] == "approved"
        assert dict(g.deployed.verdicts) == {f"{g.run.id} production approved": 1}
        [review] = g.deployed.reviews[g.run.id]
        assert f"the gate of incident 42 let {NEW} through" in review["comment"]
        assert g.run.conclusion == "success"
        assert g.asked[0] == ("github:acme/shop", g.run.id, "")


async def test_a_digest_that_an_incident_has_blocked_is_rejected() -> None:
    """Whoever started the run: the payload's claim is enough to say no."""
    async with gatehouse(Known(blocked={OLD: 7}), {"image": f"shop@{OLD}"}) as g:
        done = await g.answer()
        assert done.result["answer"] == "rejected"
        assert g.run.conclusion == "failure"
        assert "incident 7" in g.deployed.reviews[g.run.id][0]["comment"]


async def test_an_unknown_run_is_not_answered_and_that_is_said() -> None:
    """The plan changes nothing, the result says none, the verdict keeps it open."""
    async with gatehouse(Known(passed={NEW: 42}), {"digest": NEW}) as g:
        call = g.call()
        plan = await g.action.plan(call)
        done = await g.action.apply(call, plan)
        assert isinstance(done, Done)
        assert (plan.changes, done.result["answer"]) == ((), "none")
        assert "unanswered" in plan.summary
        verdict = await g.action.verify(call, plan, done.result)
        assert verdict.level is VerdictLevel.RESIDUAL
        assert "not ours to answer" in verdict.residual[0]
        assert not g.deployed.verdicts


async def test_a_gate_that_has_not_spoken_is_waited_for() -> None:
    """Nothing is answered meanwhile; once it has passed, the run is approved."""
    async with gatehouse(Known(tied=(42,), ungated=(42,))) as g:
        with pytest.raises(StepRetry, match="has not passed yet"):
            await g.answer()
        assert not g.deployed.verdicts
        g.known = OURS
        assert (await g.answer()).result["answer"] == "approved"


async def test_what_changed_since_the_plan_is_planned_again() -> None:
    """An image blocked between plan and apply is not approved any more."""
    async with gatehouse(payload={"digest": NEW}) as g:
        call = g.call()
        plan = await g.action.plan(call)
        g.known = replace(OURS, blocked={NEW: 8})
        with pytest.raises(Conflict, match="something else since the plan"):
            await g.action.apply(call, plan)
        assert not g.deployed.verdicts
        assert (await g.answer()).result["answer"] == "rejected"


async def test_only_a_push_ties_a_run_by_its_commit() -> None:
    """Anybody may dispatch a workflow at a commit of ours, with other inputs."""
    async with gatehouse() as g:
        await g.action.plan(g.call())
        assert g.asked[-1][2] == ""
        g.run.event = "push"
        await g.action.plan(g.call())
        assert g.asked[-1] == ("github:acme/shop", g.run.id, SHA)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"callback": GOOD}, "not at the API of any"),
        ({"repository": "evil/fork"}, "not that of its callback"),
        ({"environment": ""}, "expected a name"),
        ({"environment": "a\nb"}, "expected a name"),
        ({"undecided": "approve"}, "wait or reject"),
    ],
)
async def test_a_delivery_that_is_not_the_operators_is_never_answered(
    params: dict[str, Any], words: str
) -> None:
    """Each with its reason, before anything is asked of the incidents."""
    async with gatehouse() as g:
        with pytest.raises(StepFailed, match=words):
            await g.answer(params=params)
        assert not g.deployed.verdicts


async def test_a_repository_outside_the_map_is_never_answered() -> None:
    """The same forge, the same App, another repository."""
    async with gatehouse() as g:
        g.delivery["deployment_callback_url"] = g.delivery["deployment_callback_url"].replace(
            "acme/shop", "acme/other"
        )
        with pytest.raises(StepFailed, match="no line of"):
            await g.answer(params={"repository": ""})


async def test_an_environment_that_nobody_waits_for_is_left_alone() -> None:
    """Another name than the run's, or one that was answered meanwhile."""
    async with gatehouse() as g:
        done = await g.answer(params={"environment": "staging"})
        assert done.result["why"] == "nothing waits for staging any more"
        await g.answer()
        again = await g.answer(key="run_10/answer")
        assert again.result["answer"] == "none"
        assert g.deployed.verdicts.total() == 1


# --------------------------------------------------------------------------- exactly once


@pytest.mark.parametrize("waits_on", [False, True], ids=["alone", "reviewers too"])
@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault.name)
async def test_a_verdict_whose_answer_is_lost_is_given_once(
    fault: Fault, *, waits_on: bool
) -> None:
    """The run waits no more, or its reviews show our mark where people must agree as well."""
    async with gatehouse(deployed=Deployed(keeps_waiting=waits_on)) as g:
        plan = await g.action.plan(g.call())
        g.forge.faults.arm("answer", fault)
        done = await g.trying(plan)
        print(f"GitHub {fault.value:42} verdicts {dict(g.deployed.verdicts)}")
        assert done.result["answer"] == "approved"
        assert dict(g.deployed.verdicts) == {f"{g.run.id} production approved": 1}


@pytest.mark.parametrize("fault", SAFE, ids=lambda fault: fault.name)
async def test_a_verdict_that_did_not_act_is_given_again_and_counts_once(fault: Fault) -> None:
    """Outages and limits before acting."""
    async with gatehouse() as g:
        plan = await g.action.plan(g.call())
        g.forge.faults.arm("answer", fault)
        await g.trying(plan)
        print(f"GitHub {fault.value:42} verdicts {dict(g.deployed.verdicts)}")
        assert dict(g.deployed.verdicts) == {f"{g.run.id} production approved": 1}


async def test_after_a_crash_nothing_is_answered_twice() -> None:
    """Killed after the call: the reviews show our mark."""
    async with gatehouse(deployed=Deployed(keeps_waiting=True)) as g:
        plan = await g.action.plan(g.call())
        await g.action.apply(g.call(), plan)
        done = await g.action.apply(g.call(resumed=True), plan)
        assert isinstance(done, Done)
        assert done.result["answer"] == "approved"
        assert g.deployed.verdicts.total() == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not hold"), (403, "it needs deployments: write"), (404, "not"), (422, "HTTP 422")],
)
async def test_a_refusal_is_final_and_says_what_is_missing(status: int, words: str) -> None:
    """A token that is no App's gets 403: nobody else may answer."""
    async with gatehouse() as g:
        plan = await g.action.plan(g.call())
        g.deployed.denies["answer"] = status
        with pytest.raises(Exception, match=words) as caught:
            await g.action.apply(g.call(), plan)
        assert not isinstance(caught.value, StepRetry)


# --------------------------------------------------------------------------- the delivery (C10)


async def test_the_question_of_a_real_delivery_is_an_alert_only_where_the_hook_says_so() -> None:
    """The double's delivery is held against GitHub's own schema of it."""
    async with gatehouse(payload={"deep": [{"digest": NEW}]}) as g:
        headers, body = sent(g.delivery)
        source = GitHubHints(World())
        assert source.parse(headers, body, hook()) == []
        [alert] = source.parse(headers, body, hook(deployments=True))
        assert (alert.rule, alert.kind.value, alert.source) == (RULE, "detection", "github")
        assert alert.fields["digests"] == [NEW]
        assert f"run {g.run.id}" in alert.target.host
        folder = corpus()
        if folder is None:
            pytest.skip("no shared corpus")
        schema = json.loads((folder / "openapi" / "github-webhooks.schema.json").read_text())
        wanted = {**schema, "$ref": "#/definitions/deployment_protection_rule$requested"}
        wanted.pop("oneOf", None)
        loose = {"repository", "sender"}  # recorded ones have fields that only their own kind has
        faults = [
            error
            for error in Draft7Validator(wanted).iter_errors(g.delivery)
            if not loose & set(map(str, error.absolute_path)) and error.validator != "oneOf"
        ]
        assert not [fault.message for fault in faults]


async def test_a_replayed_delivery_asks_nothing_again() -> None:
    """The same bytes under the same or a new id; after a restart the run is found answered."""
    async with gatehouse() as g:
        headers, body = sent(g.delivery)
        source, door = GitHubHints(World()), hook(deployments=True)
        source.verify(headers, body, door)
        [first] = source.parse(headers, body, door)
        await source.follow(headers, body, door)
        for guid in ("g-1", "g-2"):
            again = {**headers, "x-github-delivery": guid}
            source.verify(again, body, door)
            assert (source.parse(again, body, door), source.hints(again, body, door)) == ([], [])
        await g.answer(alert=first)
        [late] = GitHubHints(World()).parse(headers, body, door)
        assert late.fingerprint == first.fingerprint
        done = await g.answer(alert=late, key="run_10/answer")
        assert (done.result["answer"], g.deployed.verdicts.total()) == ("none", 1)


def test_a_delivery_of_one_hook_is_refused_at_another() -> None:
    """Each hook has its own secret; a changed byte, a missing or doubled signature hold nowhere."""
    headers, body = sent({"action": "requested"}, "s1")
    source = GitHubHints(World())
    source.verify(headers, body, hook("one", "s1"))
    twice = f"{headers['x-hub-signature-256']}, {headers['x-hub-signature-256']}"
    for bad, data, door in (
        (headers, body, hook("two", "s2")),
        (headers, body + b" ", hook("one", "s1")),
        ({**headers, "x-hub-signature-256": ""}, body, hook("one", "s1")),
        ({**headers, "x-hub-signature-256": twice}, body, hook("one", "s1")),
        ({k: v for k, v in headers.items() if "signature" not in k}, body, hook("one", "s1")),
    ):
        with pytest.raises(Unauthorized):
            source.verify(bad, data, door)


async def test_what_one_hook_has_heard_is_not_heard_for_another() -> None:
    """A replay at a second hook with the same secret would be that hook's own delivery."""
    headers, body = sent(
        {
            "action": "requested",
            "environment": "production",
            "deployment_callback_url": GOOD,
            "repository": {"full_name": "acme/shop"},
            "deployment": {"id": 1},
        }
    )
    source = GitHubHints(World())
    await source.follow(headers, body, hook("one", deployments=True))
    assert source.parse(headers, body, hook("one", deployments=True)) == []
    assert len(source.parse(headers, body, hook("two", deployments=True))) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"action": "created"},
        {"environment": None},
        {"environment": ["production"]},
        {"deployment_callback_url": 7},
        {"repository": "acme/shop"},
    ],
)
def test_a_delivery_that_asks_nothing_is_no_alert(changed: dict[str, Any]) -> None:
    """Unreadable or of another action: silence, and 2xx as always."""
    asked = {
        "action": "requested",
        "environment": "production",
        "deployment_callback_url": GOOD,
        "repository": {"full_name": "acme/shop"},
    }
    assert question(asked) is not None
    assert question({**asked, **changed}) is None


def test_hostile_words_of_a_delivery_are_made_harmless() -> None:
    """Control characters are shown as such, a payload without end is not followed."""
    deep: Any = NEW
    for _ in range(50):
        deep = [deep]
    found = question(
        {
            "action": "requested",
            "environment": "prod\x1b[31m\n" + "x" * 9999,
            "deployment_callback_url": GOOD,
            "repository": {"full_name": "acme/shop\u202e"},
            "deployment": {"payload": {"deep": deep, "many": [OLD] * 9999}},
        }
    )
    assert found is not None
    assert found.summary.isprintable()
    assert found.target.host.isprintable()
    assert found.fields["digests"] == [OLD]
