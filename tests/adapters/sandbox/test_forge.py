"""The sandbox's forge as PyGithub sees it, held against GitHub's published description."""

import asyncio
import io
import json
import tarfile
import urllib.request
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import github
import pytest
from github.WorkflowRun import WorkflowRun

from responder.sandbox.forge import Manner
from responder.sandbox.world import SandboxWorld
from tests.adapters.sandbox.process import fetch, sandbox_process
from tests.doubles.contract import Answered, Asked, answer_fault, description, request_fault
from tests.real.waiting import wait_until

RUNS = "/repos/acme/shop/actions/runs"
DISPATCH = "/repos/acme/shop/actions/workflows/rebuild.yml/dispatches"


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Give the addresses of a sandbox in a process of its own."""
    with sandbox_process(tmp_path) as found:
        yield found


@pytest.fixture
def hub(addresses: Mapping[str, Any]) -> Iterator[github.Github]:
    """Give PyGithub pointed at the forge, without its own pauses and retries."""
    made = github.Github(
        base_url=addresses["forge"],
        auth=github.Auth.Token("any"),
        retry=None,
        seconds_between_requests=0,
        seconds_between_writes=0,
    )
    yield made
    made.close()


def _inputs(addresses: Mapping[str, Any], mark: str) -> dict[str, str]:
    return {"image": f"{addresses['registry']}/shop/cart", "correlation_id": mark}


def _completed(hub: github.Github, number: int) -> WorkflowRun:
    repo = hub.get_repo("acme/shop")
    wait_until(lambda: repo.get_workflow_run(number).status == "completed", "the run's end")
    return repo.get_workflow_run(number)


def test_pygithub_dispatches_follows_and_reads_the_artifact(
    addresses: Mapping[str, Any], hub: github.Github
) -> None:
    """A dispatch ends in an image that the registry has under the digest that was reported."""
    workflow = hub.get_repo(addresses["repo"]).get_workflow(addresses["workflow"])
    made = workflow.create_dispatch(
        "main", _inputs(addresses, "c-1"), throw=True, return_run_details=True
    )
    assert isinstance(made, WorkflowRun)
    run = _completed(hub, made.id)
    assert (run.conclusion, run.display_title, run.event) == (
        "success",
        "rebuild c-1",
        "workflow_dispatch",
    )
    assert [(job.name, job.conclusion) for job in run.jobs()] == [("build", "success")]
    (artifact,) = run.get_artifacts()
    assert artifact.name == "build"
    with urllib.request.urlopen(artifact.archive_download_url) as answer:  # follows the 302
        archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    build = json.loads(archive.read("build.json"))
    assert build["correlation_id"] == "c-1"
    assert build["image"] == f"{addresses['registry']}/shop/cart"
    assert build["revision"] == run.head_sha
    root = f"http://{addresses['registry']}/v2/shop/cart"
    manifest = fetch(f"{root}/manifests/{build['digest']}")
    config = fetch(f"{root}/blobs/{manifest['config']['digest']}")
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == run.head_sha
    old = fetch(f"{root}/manifests/1.0")
    assert len(manifest["layers"]) == len(old["layers"]) + 1
    assert manifest["layers"][-1] == old["layers"][-1]  # the application's own layer
    effects = fetch(f"{addresses['cluster']}/_sandbox/effects")
    assert effects["dispatches"] == {"c-1": 1}
    assert effects["pushes"] == {f"shop/cart@{build['digest']}": 1}


def test_the_fixed_file_is_really_in_the_built_image(
    addresses: Mapping[str, Any], hub: github.Github
) -> None:
    """The layers, unpacked in order, give the fixed library and the unchanged application."""
    workflow = hub.get_repo("acme/shop").get_workflow("rebuild.yml")
    made = workflow.create_dispatch(
        "main", _inputs(addresses, "c-1"), throw=True, return_run_details=True
    )
    assert isinstance(made, WorkflowRun)
    _completed(hub, made.id)
    root = f"http://{addresses['registry']}/v2/shop/cart"
    files: dict[str, dict[str, bytes]] = {}
    for tag in ("1.0", "c-1"):
        found = files.setdefault(tag, {})
        for layer in fetch(f"{root}/manifests/{tag}")["layers"]:
            with urllib.request.urlopen(f"{root}/blobs/{layer['digest']}") as answer:
                raw = io.BytesIO(answer.read())
            with tarfile.open(fileobj=raw, mode="r:gz") as packed:
                for member in packed.getmembers():
                    file = packed.extractfile(member)
                    assert file is not None
                    found[member.name] = file.read()
    changed = {name for name in files["c-1"] if files["c-1"][name] != files["1.0"].get(name)}
    assert changed == {"usr/lib/libshop.so.1"}
    assert b"fixed" in files["c-1"]["usr/lib/libshop.so.1"]


def test_runs_are_found_by_event_time_branch_and_status(
    addresses: Mapping[str, Any], hub: github.Github
) -> None:
    """The filters that finding a run by its correlation id needs do filter."""
    workflow = hub.get_repo("acme/shop").get_workflow("rebuild.yml")
    made = workflow.create_dispatch(
        "main", _inputs(addresses, "c-7"), throw=True, return_run_details=True
    )
    assert isinstance(made, WorkflowRun)
    run = _completed(hub, made.id)
    day = run.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")

    def titles(**filters: Any) -> list[str]:
        return [found.display_title for found in workflow.get_runs(**filters)]

    assert titles(event="workflow_dispatch", created=f">={day}") == ["rebuild c-7"]
    assert titles(created=">=2999-01-01T00:00:00Z") == []
    assert titles(created=f"2020-01-01..{day[:10]}") == ["rebuild c-7"]
    assert titles(event="push") == []
    assert titles(branch="other") == []
    assert titles(status="success") == ["rebuild c-7"]
    assert titles(status="queued") == []


@pytest.mark.parametrize(
    ("ref", "change", "text"),
    [
        ("main", {"image": ""}, "Required input 'image' not provided"),
        ("main", {"colour": "red"}, 'Unexpected inputs provided: ["colour"]'),
        ("0" * 40, {}, "No ref found for: " + "0" * 40),
    ],
)
def test_a_wrong_dispatch_is_refused_and_starts_nothing(
    addresses: Mapping[str, Any], hub: github.Github, ref: str, change: dict[str, str], text: str
) -> None:
    """Inputs and ref are checked as GitHub checks them: 422 and no run."""
    workflow = hub.get_repo("acme/shop").get_workflow("rebuild.yml")
    with pytest.raises(github.GithubException) as caught:
        workflow.create_dispatch(ref, _inputs(addresses, "c") | change, throw=True)
    assert caught.value.status == 422
    assert text in str(caught.value.data)
    assert workflow.get_runs().totalCount == 0


def test_an_image_that_is_not_there_makes_the_run_fail_and_say_why(
    addresses: Mapping[str, Any], hub: github.Github
) -> None:
    """A pipeline that cannot build ends in failure without an artifact; its log has the reason."""
    workflow = hub.get_repo("acme/shop").get_workflow("rebuild.yml")
    wanted = {"image": f"{addresses['registry']}/shop/none", "correlation_id": "c"}
    made = workflow.create_dispatch("main", wanted, throw=True, return_run_details=True)
    assert isinstance(made, WorkflowRun)
    run = _completed(hub, made.id)
    assert run.conclusion == "failure"
    assert run.get_artifacts().totalCount == 0
    (job,) = run.jobs()
    with urllib.request.urlopen(
        f"{addresses['forge']}/repos/acme/shop/actions/jobs/{job.id}/logs"
    ) as answer:
        assert "registry answered 404 for shop/none/manifests/1.0" in answer.read().decode()
    assert run.rerun()
    wait_until(lambda: _completed(hub, run.id).run_attempt == 2, "the second attempt")
    assert run.cancel() is False  # it is over


def _real_fault(fault: str) -> str:
    """The fault, but for one of the description: it calls a job's conclusion nullable and then
    lists only texts, so that no job could be unfinished."""
    return "" if fault.startswith("jobs/0/conclusion: None is not one of") else fault


@pytest.fixture
async def world() -> AsyncIterator[SandboxWorld]:
    """Give a sandbox in this process whose forge wants a token and is slow to begin."""
    async with SandboxWorld(manner=Manner(token="right", queue=0.3)) as made:
        yield made


async def test_every_answer_fits_the_published_description(world: SandboxWorld) -> None:
    """Requests and answers of the whole flow pass GitHub's OpenAPI description."""
    if description() is None:
        pytest.skip("the corpus with GitHub's description is not here")
    headers = {"Authorization": "Bearer right", "Accept": "application/vnd.github+json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def call(method: str, path: str, body: Any = None) -> Any:
            data = None if body is None else json.dumps(body).encode()
            kind = {"Content-Type": "application/json"} if data else {}
            where, _, query = path.partition("?")
            pairs = [tuple(part.split("=", 1)) for part in query.split("&") if part]
            asked = Asked(method, where, pairs, {**headers, **kind}, data)  # type: ignore[arg-type]
            assert request_fault(asked) == ""
            async with session.request(
                method, world.forge_url + path, data=data, headers=kind, allow_redirects=False
            ) as answer:
                raw = await answer.read()
                got = Answered(answer.status, raw, dict(answer.headers))
                assert _real_fault(answer_fault(asked, got)) == "", path
                return json.loads(raw) if raw else None

        inputs = {"image": f"{world.registry}/shop/cart", "correlation_id": "c-1"}
        body = {"ref": "main", "inputs": inputs, "return_run_details": True}
        made = await call("POST", DISPATCH, body)
        one = f"{RUNS}/{made['workflow_run_id']}"
        assert (await call("GET", one))["status"] == "queued"
        await call("GET", f"{one}/jobs")
        while (await call("GET", one))["status"] != "completed":
            await asyncio.sleep(0.02)
        await call("GET", f"{one}/jobs")
        artifacts = await call("GET", f"{one}/artifacts?name=build")
        await call(
            "GET", f"/repos/acme/shop/actions/artifacts/{artifacts['artifacts'][0]['id']}/zip"
        )
        await call("GET", f"{RUNS}?event=workflow_dispatch&per_page=10")
        await call("GET", "/repos/acme/shop")
        await call("GET", "/repos/acme/shop/actions/workflows")
        await call("POST", f"{one}/rerun")
        await call("POST", f"{one}/cancel")


async def test_a_cancelled_run_pushes_nothing_and_says_cancelled(world: SandboxWorld) -> None:
    """Cancelling a queued run ends it as cancelled, before anything was pushed."""
    headers = {"Authorization": "Bearer right"}
    inputs = {"image": f"{world.registry}/shop/cart", "correlation_id": "c-1"}
    async with aiohttp.ClientSession(headers=headers) as session:
        body = {"ref": "main", "inputs": inputs}
        async with session.post(world.forge_url + DISPATCH, json=body) as answer:
            assert (answer.status, await answer.read()) == (204, b"")
        (number,) = world.forge.runs
        async with session.post(f"{world.forge_url}{RUNS}/{number}/cancel") as answer:
            assert answer.status == 202
        await asyncio.sleep(0.01)
        async with session.get(f"{world.forge_url}{RUNS}/{number}") as answer:
            run = await answer.json()
    assert (run["status"], run["conclusion"]) == ("completed", "cancelled")
    assert "pushes" not in world.effects()


async def test_the_wrong_token_is_refused_and_downloads_take_none(world: SandboxWorld) -> None:
    """The API wants its token; the address of a download refuses to be given one."""
    async with aiohttp.ClientSession() as session:
        for token in ("", "Bearer wrong"):
            headers = {"Authorization": token} if token else {}
            async with session.get(world.forge_url + RUNS, headers=headers) as answer:
                assert answer.status == 401
        where = f"{world.forge.storage_url}/unknown"
        async with session.get(where) as answer:
            assert answer.status == 403
