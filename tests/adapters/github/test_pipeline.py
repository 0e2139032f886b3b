"""`pipeline.run` from plan to verdict against a forge that checks what it is asked."""

from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Secret, Target
from responder.ports import Done, ImageRoute, Pending
from tests.adapters.github.world import IMAGE, OLD_DIGEST, a_call, bench
from tests.doubles.contract import Answered, Asked, answer_fault, description, request_fault
from tests.doubles.executors import Immediate, build_json, zipped
from tests.doubles.faults import Fault
from tests.doubles.github import TOKEN


async def test_a_run_ends_with_the_digest_that_pipeline_and_registry_agree_on() -> None:
    """Plan, apply, poll and verify over real HTTP; one dispatch, one digest."""
    async with bench() as b:
        call = a_call()
        done = await b.to_end(call)
        verdict = await b.action.verify(call, await b.action.plan(call), done.result)
        assert done.result["image"] == f"{IMAGE}@{done.result['digest']}"
        assert done.result["run"] == 4711
        assert verdict.level == "enforced"
        assert b.dispatched() == 1


async def test_a_plan_names_workflow_inputs_and_what_stays_open_and_is_stable() -> None:
    """The same world gives the same hash for every attempt, so an approval holds over retries."""
    async with bench() as b:
        plan = await b.action.plan(a_call())
        again = await b.action.plan(a_call(attempt=2, resumed=True))
        assert plan.hash == again.hash
        assert plan.changes[0].verb == "dispatch"
        assert plan.changes[0].ref.label == "WorkflowRun acme/shop/rebuild.yml"
        assert set(plan.params["inputs"]) == {"image", "revision", "correlation_id"}
        assert plan.params["inputs"]["image"] == IMAGE
        assert "not scanned" in plan.residual[0]
        assert b.dispatched() == 0


async def test_a_route_that_asks_for_it_passes_the_digest_that_runs_or_starts_nothing() -> None:
    """What patches an image must know which one; an image that names a digest itself means that."""
    named = "registry.example/shop/*"
    route = ImageRoute(
        match=named,
        forge="github",
        repo="acme/shop",
        workflow="rebuild.yml",
        digest_input="digest",
    )
    other = f"sha256:{'1' * 64}"
    async with bench(route=route) as b:
        plan = await b.action.plan(a_call())
        assert plan.params["inputs"]["digest"] == OLD_DIGEST
        told = await b.action.plan(a_call(params={"image": f"{IMAGE}@{other}"}))
        assert told.params["inputs"]["digest"] == other
        await b.to_end(a_call())
        assert [run.inputs["digest"] for run in b.double.runs.values()] == [OLD_DIGEST]
        with pytest.raises(StepFailed, match="needs the digest of the image that runs"):
            await b.action.plan(a_call(target=Target(image=f"{IMAGE}:1.4")))
        assert b.dispatched() == 1


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("registry.example/bank/vault:1", r"no route in \[\[images\]\] matches"),
        ("registry.example.evil/shop/cart:1", r"no route in \[\[images\]\] matches"),
        ("shop/cart", r"no route in \[\[images\]\] matches docker.io/shop/cart"),
        ("registry.example/shop/../x", "is no image name"),
        ("registry.example/shop/cart --push\n", "is no image name"),
        ("", "is no image name"),
    ],
)
async def test_only_the_image_map_chooses_a_pipeline(image: str, text: str) -> None:
    """An image without a route, or what is no image name at all, reaches no pipeline."""
    async with bench() as b:
        with pytest.raises(StepFailed, match=text):
            await b.action.plan(a_call(params={"image": image}, target=Target()))
        assert b.double.asked.total() == 0


async def test_a_switched_off_or_missing_workflow_is_said_before_anything_starts() -> None:
    """The plan reads the workflow's state."""
    off = ImageRoute(match="*", forge="github", repo="acme/shop", workflow="off.yml")
    async with bench(double={"workflows": {"off.yml": "disabled_manually"}}, route=off) as b:
        with pytest.raises(StepFailed, match="is disabled_manually; enable it"):
            await b.action.plan(a_call())
    async with bench(double={"workflows": {}}) as b:
        with pytest.raises(StepFailed, match=r"acme/shop has no workflow rebuild\.yml"):
            await b.action.plan(a_call())


async def test_a_refused_input_is_final_and_says_githubs_reason() -> None:
    """422 is never repeated; its message is a known-safe field."""
    async with bench(double={"required": ("image", "team")}) as b:
        with pytest.raises(StepFailed, match="Required input 'team' not provided"):
            await b.apply(a_call())
        assert b.double.asked["dispatch"] == 1


async def test_a_wrong_credential_is_final_and_never_shown() -> None:
    """401 ends the step; neither token nor body is in the text."""
    async with bench(settings={"token": Secret("canary-7f3a")}) as b:
        with pytest.raises(StepFailed, match="the credential does not hold") as caught:
            await b.action.plan(a_call())
        assert "canary" not in str(caught.value)


GOING = ["queued", "requested", "waiting", "pending", "in_progress", "a_new_word"]


@pytest.mark.parametrize("status", GOING)
async def test_every_open_status_is_waited_for_in_words(status: str) -> None:
    """Each status becomes a line that a person can read, with the run's number."""
    async with bench(double={"executor": Immediate(states=(status,))}) as b:
        first = await b.apply(a_call())
        seen = await b.action.poll(a_call(), first.state)
        assert isinstance(seen, Pending)
        assert seen.waiting_for.startswith("GitHub run 4711 (")
        assert seen.correlation == "github:acme/shop:4711"
        assert seen.after == {"waiting": 4, "pending": 2}.get(status, 1)  # asks more, so seldomer
        assert seen.person is (status == "waiting")


FAILING = ["failure", "timed_out", "skipped", "neutral", "stale", "startup_failure", "new_word"]


@pytest.mark.parametrize("conclusion", FAILING)
async def test_every_bad_end_is_final_and_links_the_run(conclusion: str) -> None:
    """The text says what happened and where to look."""
    async with bench(double={"executor": Immediate(conclusion=conclusion)}) as b:
        pending = await b.apply(a_call())
        with pytest.raises(StepFailed, match=r"GitHub run 4711 .*/acme/shop/actions/runs/4711"):
            await b.action.poll(a_call(), pending.state)


async def test_a_run_that_needs_a_person_is_waited_for() -> None:
    """`action_required` goes on under the same id once somebody agrees."""
    async with bench(double={"executor": Immediate(conclusion="action_required")}) as b:
        pending = await b.apply(a_call())
        seen = await b.action.poll(a_call(), pending.state)
        assert isinstance(seen, Pending)
        assert "a person must approve it" in seen.waiting_for
        assert seen.person


async def test_a_cancelled_run_is_superseded_and_tried_again_not_failed() -> None:
    """No living run of ours: the next attempt starts a new one, and both are counted."""
    async with bench() as b:
        pending = await b.apply(a_call())
        run = b.double.runs[4711]
        run.script, run.status, run.conclusion = [], "completed", "cancelled"
        with pytest.raises(StepRetry, match="superseded"):
            await b.action.poll(a_call(), pending.state)
        done = await b.to_end(a_call(attempt=2))
        assert done.result["run"] == 4712
        assert sorted(b.double.dispatches.values()) == [1, 1]


async def test_a_run_that_somebody_starts_again_is_followed_under_its_number() -> None:
    """A re-run keeps the id and raises the attempt; its own artifact is the one that is read."""
    async with bench(double={"executor": Immediate(states=("in_progress",))}) as b:
        pending = await b.apply(a_call())
        async with aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as person:
            url = f"{b.double.base_url}/repos/acme/shop/actions/runs/4711"
            assert (await person.post(f"{url}/cancel")).status == 202
            assert (await person.post(f"{url}/rerun")).status == 201
            jobs = await (await person.get(f"{url}/jobs")).json()
        seen = await b.action.poll(a_call(), pending.state)
        assert isinstance(seen, Pending)
        assert (seen.state["run_id"], seen.state["attempt"]) == (4711, 2)
        assert isinstance(await b.action.poll(a_call(), seen.state), Done)
        assert jobs["jobs"][0]["run_id"] == 4711
        assert b.dispatched() == 1


async def test_an_enterprise_server_below_a_path_works_the_same() -> None:
    """Its API lies under `/api/v3`."""
    async with bench(double={"prefix": "/api/v3"}) as b:
        assert (await b.to_end(a_call())).result["run"] == 4711
        assert await b.integration.checks["forge github"]() == "ok"


async def test_an_app_gets_short_lived_tokens_of_its_installation() -> None:
    """The key signs a request for a token; only the token is used for the rest."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
    app = {"token": None, "app_id": 7, "private_key": Secret(pem), "installation_id": 9}
    async with bench(double={"app_key": key.public_key()}, settings={**app, "threads": 1}) as b:
        await b.to_end(a_call())
        assert b.double.asked["app-token"] == 1


async def test_a_forge_that_is_down_is_waited_for_and_costs_no_attempt() -> None:
    """A failed look is repeated later with the same state."""
    async with bench() as b:
        pending = await b.apply(a_call())
        b.double.faults.arm("run", Fault.ERROR_BEFORE, times=3)
        seen = await b.action.poll(a_call(), pending.state)
        assert isinstance(seen, Pending)
        assert seen.state == pending.state
        assert "HTTP 503" in seen.waiting_for
        assert isinstance(await b.action.poll(a_call(), seen.state), Done)


async def test_polling_never_starts_anything() -> None:
    """A look is a look, also where a run was accepted and is not listed yet."""
    async with bench() as b:
        b.double.faults.without_details = True
        b.double.faults.hide_runs_for = 3
        pending = await b.apply(a_call())
        seen = await b.action.poll(a_call(), pending.state)
        assert isinstance(seen, Pending)
        assert seen.waiting_for == "GitHub run (not listed yet)"
        assert b.double.asked["dispatch"] == 1


async def test_a_disagreeing_registry_fails_the_step_and_both_digests_are_named() -> None:
    """The pipeline's word alone is not enough."""
    other = f"sha256:{'e' * 64}"

    async def says_other(_: str) -> str:
        return other

    async with bench(digest_of=says_other) as b:
        with pytest.raises(StepFailed, match=f"pipeline says sha256:.*registry says {other}"):
            await b.to_end(a_call())


async def test_a_digest_that_the_registry_lacks_fails_the_step() -> None:
    """A build that was never pushed is no build."""

    async def lacks(_: str) -> str:
        raise NotFound("404")

    async with bench(digest_of=lacks) as b:
        with pytest.raises(StepFailed, match="registry says that it has no"):
            await b.to_end(a_call())


async def test_the_tag_of_the_run_is_what_the_registry_is_asked_for() -> None:
    """A pipeline that tells an older digest than the one it pushed is found out by its tag."""
    asked: list[str] = []

    async def pushed(reference: str) -> str:
        asked.append(reference)
        return f"sha256:{'f' * 64}"

    tagged = Immediate(
        archive=lambda run: zipped(
            {"build.json": build_json(run, tag=run.inputs["correlation_id"])}
        )
    )
    async with bench(double={"executor": tagged}, digest_of=pushed) as b:
        with pytest.raises(StepFailed, match="pipeline and registry disagree"):
            await b.to_end(a_call())
        assert asked == [f"{IMAGE}:{next(iter(b.double.dispatches))}"]


async def test_a_registry_that_is_down_is_waited_for_and_costs_no_attempt() -> None:
    """The build is there; only nobody can confirm it yet."""

    async def down(_: str) -> str:
        raise StepRetry("registry registry.example: HTTP 503", after=9)

    async with bench(digest_of=down) as b:
        pending = await b.apply(a_call())
        seen = await b.action.poll(a_call(), pending.state)
        assert isinstance(seen, Pending)
        assert seen.after == 9
        assert "registry registry.example: HTTP 503" in seen.waiting_for


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"params": {"image": f"{IMAGE}@{OLD_DIGEST}"}, "target": Target()},
    ],
)
async def test_the_digest_that_is_running_now_is_no_repair(change: dict[str, Any]) -> None:
    """A rebuild that changes nothing fails the step."""
    same = Immediate(archive=lambda run: zipped({"build.json": build_json(run, digest=OLD_DIGEST)}))
    async with bench(double={"executor": same}) as b:
        with pytest.raises(StepFailed, match="nothing was repaired"):
            await b.to_end(a_call(**change))


async def test_undo_says_what_can_be_done_instead() -> None:
    """The action declares that it cannot be undone, and refuses with the way out."""
    async with bench() as b:
        call = a_call()
        done = await b.to_end(call)
        assert not b.action.info.undoable
        with pytest.raises(StepFailed, match="undo the redeploy instead"):
            await b.action.undo(call, await b.action.plan(call), done.result)


async def test_without_a_registry_nothing_is_planned() -> None:
    """Nobody could check the pipeline's word."""
    async with bench(digest_of=None) as b:
        with pytest.raises(StepFailed, match="pipeline's word alone is not enough"):
            await b.action.plan(a_call())


@pytest.mark.skipif(description() is None, reason="GitHub's description is in no shared corpus")
async def test_the_double_notices_a_wrong_answer_of_its_own_and_a_wrong_request() -> None:
    """The check can fail: a run without its title and a dispatch without ref are found out."""
    asked = Asked("GET", "/repos/acme/shop/actions/runs/1", [], {}, None)
    bad = Answered(200, b'{"id": 1}', {"Content-Type": "application/json"})
    assert "display_title" in answer_fault(asked, bad)
    path = "/repos/acme/shop/actions/workflows/rebuild.yml/dispatches"
    headers = {"Content-Type": "application/json"}
    assert request_fault(Asked("POST", path, [], headers, b'{"inputs": {}}'))
    assert not request_fault(Asked("POST", path, [], headers, b'{"ref": "main"}'))
