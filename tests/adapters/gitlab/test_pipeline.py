"""`pipeline.run` on GitLab from plan to verdict, against a double that checks what it is asked."""

from typing import Any

import aiohttp
import pytest

from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Secret
from responder.ports import Call, Done, Pending
from tests.adapters.gitlab.world import IMAGE, a_call, bench, route_to
from tests.doubles.contract import Answered, Asked
from tests.doubles.gitlab import HOST, TOKEN, TRIGGER_TOKEN
from tests.doubles.lab_contract import answer_fault, description, request_fault, schemas
from tests.doubles.lab_executors import Straight, build_json
from tests.doubles.lab_shapes import DoublePipeline


async def test_a_pipeline_ends_with_the_digest_that_it_and_the_registry_agree_on() -> None:
    """Plan, apply, poll and verify over real HTTP; one pipeline, one digest."""
    async with bench() as b:
        call = a_call()
        done = await b.to_end(call)
        plan = await b.action.plan(call)
        verdict = await b.action.verify(call, plan, done.result)
        assert done.result["image"] == f"{IMAGE}@{done.result['digest']}"
        assert done.result["run"] == 31
        assert done.result["url"].endswith("/acme/shop/-/pipelines/31")
        assert verdict.level == "enforced"
        assert plan.changes[0].ref.label == "Pipeline acme/shop/.gitlab-ci.yml"
        assert b.started() == 1


@pytest.mark.parametrize("way", ["inputs", "variables"])
@pytest.mark.parametrize("trigger", [False, True])
async def test_every_way_to_start_passes_the_inputs(way: str, trigger: bool) -> None:
    """API token or trigger token, inputs or variables: the shapes differ, the pipeline does not."""
    more = {"trigger_token": Secret(TRIGGER_TOKEN)} if trigger else {}
    async with bench(settings={"pass_as": way, **more}) as b:
        await b.to_end(a_call())
        [one] = b.double.runs
        assert (one.inputs["image"], one.source) == (IMAGE, "trigger" if trigger else "api")
        again = await b.apply(a_call(resumed=True))
        assert again.state["run_id"] == one.id
        assert b.started() == 1


async def test_a_server_under_a_path_is_reached() -> None:
    """Self-managed servers may live below a path."""
    async with bench(double={"prefix": "/gitlab"}) as b:
        await b.to_end(a_call())
        assert await b.integration.checks["forge lab"]() == "ok"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            "Pipeline will not run for the selected trigger.",
            "workflow:rules exclude CI_PIPELINE_SOURCE=api",
        ),
        ("Insufficient permissions to set pipeline variables", "declare spec:inputs"),
        ("Missing CI config file", "Missing CI config file"),
    ],
)
async def test_a_refused_start_is_final_and_names_the_way_out(said: str, text: str) -> None:
    """400 is never repeated; GitLab's sentence is a known-safe field."""
    async with bench(double={"refuses": said}) as b:
        with pytest.raises(StepFailed, match=text):
            await b.apply(a_call())
        assert b.double.asked["create"] == 1


async def test_too_many_pipelines_in_a_minute_is_waited_out() -> None:
    """GitLab says so with 400, before it has made anything."""
    said = "Too many pipelines created in the last minute. Try again later."
    async with bench(double={"refuses": said}) as b:
        with pytest.raises(StepRetry) as caught:
            await b.apply(a_call())
        assert caught.value.after == 60
        b.double.refuses = ""
        b.double.clock.leap(caught.value.after)
        await b.to_end(a_call(attempt=2))
        assert b.started() == 1


@pytest.mark.parametrize("route", [{"ref": "gone"}, {"repo": "acme/none"}])
async def test_a_missing_ref_or_project_is_said_before_anything_starts(route: Any) -> None:
    """The plan reads the ref."""
    async with bench(route=route_to(**route)) as b:
        with pytest.raises(StepFailed, match=r"lab shows us no (gone|main) of acme"):
            await b.action.plan(a_call())
        assert b.started() == 0


async def test_a_wrong_credential_is_final_and_never_shown() -> None:
    """401 ends the step; neither token nor body is in the text."""
    async with bench(settings={"token": Secret("canary-7f3a")}) as b:
        with pytest.raises(StepFailed, match="the credential does not hold") as caught:
            await b.action.plan(a_call())
        assert "canary" not in str(caught.value)


GOING = [
    "created", "waiting_for_resource", "preparing", "waiting_for_callback", "pending", "running",
    "canceling", "manual", "scheduled", "a_new_word",
]  # fmt: skip


@pytest.mark.parametrize("status", GOING)
async def test_every_open_status_is_waited_for_in_words(status: str) -> None:
    """Each status becomes a line that a person can read, with the pipeline's number."""
    async with bench(double={"executor": Straight(states=(status,))}) as b:
        first = await b.apply(a_call())
        seen = await b.action.poll(a_call(), first.state)
        assert isinstance(seen, Pending)
        assert seen.waiting_for.startswith("GitLab pipeline 31 (")
        assert seen.correlation == "gitlab:acme/shop:31"
        assert isinstance(await b.action.poll(a_call(), seen.state), Done)


@pytest.mark.parametrize("status", ["failed", "skipped"])
async def test_every_bad_end_is_final_and_links_the_pipeline(status: str) -> None:
    """The text says what happened and where to look."""
    async with bench(double={"executor": Straight(status=status)}) as b:
        pending = await b.apply(a_call())
        with pytest.raises(StepFailed, match=r"GitLab pipeline 31 .*/acme/shop/-/pipelines/31"):
            await b.action.poll(a_call(), pending.state)


async def test_a_canceled_pipeline_may_be_started_again() -> None:
    """Superseded is no failed patch."""
    async with bench(double={"executor": Straight(status="canceled")}) as b:
        pending = await b.apply(a_call())
        with pytest.raises(StepRetry, match="was canceled: superseded"):
            await b.action.poll(a_call(), pending.state)
        b.double.executor = Straight()
        await b.to_end(a_call(attempt=2))
        assert list(b.double.dispatches.values()) == [1, 1]


async def test_a_deleted_pipeline_is_an_end_only_when_it_is_old() -> None:
    """A replica may not know a pipeline yet; one that stays unknown was deleted."""
    async with bench() as b:
        pending = await b.apply(a_call())
        kept = b.double.pipelines.pop(31)
        seen = await b.action.poll(a_call(), pending.state)
        assert isinstance(seen, Pending)
        with pytest.raises(StepFailed, match="GitLab pipeline 31 was deleted"):
            await b.action.poll(a_call(), {**pending.state, "since": 1})
        b.double.pipelines[31] = kept


# --------------------------------------------------------------------------- downstream


def child(b: Any, project: str, executor: Straight) -> DoublePipeline:
    """Return a pipeline that another one has started, with the end that it will have."""
    mine = b.double.runs[0]
    b.double.executor = executor
    made: DoublePipeline = b.double.new(project, "main", mine.inputs, "parent_pipeline")
    return made


@pytest.mark.parametrize("project", ["acme/shop", "acme/base"])
async def test_a_result_is_found_in_the_pipeline_that_was_started_in_turn(project: str) -> None:
    """The parent is green at once; its child, here or in another project, has the job."""
    async with bench() as b:
        pending = await b.apply(a_call())
        below = child(b, project, Straight(states=("running", "manual")))
        below.files = {"build.json": build_json(below)}
        parent = b.double.pipelines[31]
        parent.job_names, parent.started = ("plan",), [("go", below, False)]
        first = await b.action.poll(a_call(), pending.state)
        assert isinstance(first, Pending)
        assert "downstream pipeline 32 of go: running" in first.waiting_for
        second = await b.action.poll(a_call(), first.state)
        assert isinstance(second, Pending)
        assert "waiting for a person" in second.waiting_for
        done = await b.action.poll(a_call(), second.state)
        assert isinstance(done, Done)
        assert done.result["run"] == 31


@pytest.mark.parametrize("may_fail", [False, True])
async def test_a_failed_downstream_pipeline_counts_unless_it_may_fail(may_fail: bool) -> None:
    """`allow_failure` on the trigger job is the project's own word for it."""
    async with bench() as b:
        pending = await b.apply(a_call())
        below = child(b, "acme/base", Straight(status="failed"))
        below.job_names = ("scan",)
        b.double.pipelines[31].started = [("go", below, may_fail)]
        if may_fail:
            assert isinstance(await b.action.poll(a_call(), pending.state), Done)
            return
        with pytest.raises(StepFailed, match="its downstream pipeline 32 of go failed"):
            await b.action.poll(a_call(), pending.state)


async def test_pipelines_that_start_each_other_are_walked_once() -> None:
    """A circle ends; a chain deeper than three is refused."""
    async with bench() as b:
        pending = await b.apply(a_call())
        chain = [b.double.pipelines[31]]
        for _ in range(5):
            below = child(b, "acme/base", Straight())
            below.status, below.script, below.job_names = "success", [], ("other",)
            chain[-1].started = [("go", below, False)]
            chain.append(below)
        with pytest.raises(StepFailed, match="deeper than 3"):
            await b.action.poll(a_call(), pending.state)
        chain[2].started = [("back", chain[1], False)]
        assert isinstance(await b.action.poll(a_call(), pending.state), Done)


async def test_a_trigger_job_that_started_nothing_is_nothing_to_wait_for() -> None:
    """A manual or skipped one leaves the pipeline green."""
    async with bench() as b:
        pending = await b.apply(a_call())
        b.double.pipelines[31].started = [("optional", None, False)]
        assert isinstance(await b.action.poll(a_call(), pending.state), Done)


# --------------------------------------------------------------------------- artifacts


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (lambda one: {"build.json": b"[" * 70000}, "longer than 65536"),
        (lambda one: {"build.json": b"{"}, "is not JSON"),
        (lambda one: {"build.json": build_json(one, more=1)}, "nobody agreed on: more"),
        (lambda one: {"build.json": build_json(one, digest="sha256:1")}, "expected digest"),
        (lambda one: {"build.json": build_json(one, image="evil/x")}, "built another image"),
        (lambda one: {"build.json": build_json(one, correlation_id="rr-0-1")}, "another request"),
        (lambda one: {"other.txt": b""}, "is not there"),
        (lambda one: None, "is not there"),
    ],
    ids=["long", "broken", "extra", "no digest", "image", "request", "other file", "none"],
)
async def test_an_artifact_that_breaks_a_rule_ends_the_step(files: Any, text: str) -> None:
    """What is not understood is not acted upon."""
    async with bench(double={"executor": Straight(files=files)}) as b:
        pending = await b.apply(a_call())
        with pytest.raises(StepFailed, match=text):
            await b.action.poll(a_call(), pending.state)


async def test_an_artifact_elsewhere_is_fetched_without_the_token() -> None:
    """Object storage is another host; an address whose time has passed is asked for again."""
    async with bench(double={"object_store": True}) as b:
        b.double.faults.archive_late = 1
        await b.to_end(a_call())
        assert b.double.asked["file"] == 2
        assert b.double.leaked == []


async def test_an_artifact_that_stays_gone_elsewhere_ends_the_step() -> None:
    """Three addresses, each 410: it is gone."""
    async with bench(double={"object_store": True}) as b:
        b.double.faults.archive_late = 9
        pending = await b.apply(a_call())
        with pytest.raises(StepFailed, match="is not there"):
            await b.action.poll(a_call(), pending.state)
        assert b.double.asked["file"] == 3


async def test_a_registry_that_disagrees_ends_the_step() -> None:
    """The pipeline's word is not enough."""

    async def another(reference: str) -> str:
        return f"sha256:{'9' * 64}"

    async def nothing(reference: str) -> str:
        raise NotFound(reference)

    for said, text in ((another, "disagree"), (nothing, "has no")):
        async with bench(digest_of=said) as b:
            pending = await b.apply(a_call())
            with pytest.raises(StepFailed, match=text):
                await b.action.poll(a_call(), pending.state)


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def put(self, call: Call, name: str, data: bytes, origin: Any) -> str:
        """Note the name."""
        self.names.append(name)
        return ""

    async def list(self, incident: int) -> list[Any]:
        """Return nothing."""
        return []


async def test_scan_reports_are_kept_as_evidence_where_the_settings_name_their_job() -> None:
    """The job `build` hands over both here."""
    sink = Kept()
    executor = Straight(files=lambda one: {"scan-new.json": b"{}"})
    settings = {"reports": "build", "artifact": "scan-new.json"}
    async with bench(double={"executor": executor}, settings=settings, evidence=sink) as b:
        pending = await b.apply(a_call())
        b.double.pipelines[31].files = {"scan-new.json": build_json(b.double.pipelines[31])}
        assert isinstance(await b.action.poll(a_call(), pending.state), Done)
        assert sink.names == ["scan-new.json"]


# --------------------------------------------------------------------------- the double itself


async def test_the_double_notices_a_wrong_request_and_a_wrong_answer() -> None:
    """A check that accepts everything would prove nothing."""
    if description() is None or schemas() is None:
        pytest.skip("no shared corpus")
    path = "/api/v4/projects/acme%2Fshop/pipeline"
    kind = {"Content-Type": "application/json"}
    assert request_fault(Asked("POST", path, [], kind, b'{"variables": {"a": 1}}', HOST))
    right = Asked("POST", path, [], kind, b'{"ref": "main", "inputs": {}}', HOST)
    assert request_fault(right) == ""
    assert "sha" in answer_fault("create", right, Answered(201, b'{"id": 1}', kind))
    async with bench() as b, aiohttp.ClientSession() as client:
        url = f"{b.double.base_url}/api/v4/projects/10/pipeline"
        answer = await client.post(url, json={}, headers={"PRIVATE-TOKEN": TOKEN})
        assert answer.status == 400
        assert b.double.wrong_requests
        b.double.wrong_requests.clear()
