"""A real `.gitlab-ci.yml` really rebuilds an image: double, gitlab-ci-local, engine, registry."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from integrations.registry import setup as set_up_registries
from responder.clock import World
from responder.errors import StepFailed, StepRetry
from responder.model import Target
from responder.ports import Call, Done, Integration, Kit, Pending
from tests.adapters.github.test_real_pipeline import push_base
from tests.adapters.gitlab.world import Bench, NoEvidence, a_call, bench, route_to
from tests.doubles.gitlab import TOKEN
from tests.doubles.lab_executors import CiLocal
from tests.real.engine import Engine
from tests.real.waiting import eventually


@pytest.fixture
def registries(engine: Engine) -> Integration:
    """The registry adapter, allowed to ask the engine's registry over plain HTTP."""
    return set_up_registries(
        {engine.registry: {"insecure": True}}, World(), Kit(evidence=NoEvidence())
    )


async def until_done(b: Bench, call: Call) -> Done:
    """Apply and look every fifth of a second, as a hint would make us do."""
    now: Done | Pending = await b.apply(call)
    async with asyncio.timeout(90):
        while isinstance(now, Pending):
            await asyncio.sleep(0.2)
            now = await b.action.poll(call, now.state)
    return now


async def test_a_vulnerable_base_is_replaced_by_a_real_pipeline(
    engine: Engine, ci_local_path: Path, registries: Integration, tmp_path: Path
) -> None:
    """The digest of build.json is the registry's, the image runs on the patched base."""
    name = f"{engine.registry}/shop/lab"
    forge = {"executor": CiLocal(ci_local_path, engine, tmp_path)}
    push_base(engine, tmp_path, "patched")
    async with bench(double=forge, digest_of=registries.digest_of, route=route_to(name)) as b:
        call = a_call(params={"revision": "r2"}, target=Target(image=f"{name}:1.4"))
        done = await until_done(b, call)
        verdict = await b.action.verify(call, await b.action.plan(call), done.result)
        assert verdict.checks["registry"] == done.result["digest"]
        engine.docker("pull", "-q", done.result["image"])
        base = engine.docker("run", "--rm", "--network", "none", done.result["image"],
                             "/bin/busybox", "cat", "/etc/base")  # fmt: skip
        assert base.stdout == "patched\n"
        assert list(b.double.dispatches.values()) == [1]
    assert registries.close
    await registries.close()


async def test_a_real_pipeline_that_fails_ends_the_step_with_its_address(
    engine: Engine, ci_local_path: Path, registries: Integration, tmp_path: Path
) -> None:
    """The job's own exit code becomes a final failure."""
    name = f"{engine.registry}/shop/lab"
    forge = {"executor": CiLocal(ci_local_path, engine, tmp_path)}
    route = route_to(name, inputs={"base": f"{engine.registry}/nothing:1"})
    async with bench(double=forge, digest_of=registries.digest_of, route=route) as b:
        call = a_call(params={"image": f"{name}:1"}, target=Target())
        with pytest.raises(StepFailed, match="GitLab pipeline 31 failed: http"):
            await until_done(b, call)
    assert registries.close
    await registries.close()


async def test_a_real_pipeline_that_is_canceled_ends_and_is_told_as_superseded(
    engine: Engine, ci_local_path: Path, registries: Integration, tmp_path: Path
) -> None:
    """A person stops it on the forge: its jobs are gone, and the step may go again."""
    name = f"{engine.registry}/shop/lab"
    forge = {"executor": CiLocal(ci_local_path, engine, tmp_path)}
    async with bench(double=forge, digest_of=registries.digest_of, route=route_to(name)) as b:
        call = a_call(params={"image": f"{name}:1"}, target=Target())
        pending = await b.apply(call)
        one = b.double.pipelines[31]
        await eventually(lambda: asyncio.sleep(0, one.status == "running"), "it to start")
        async with aiohttp.ClientSession(headers={"PRIVATE-TOKEN": TOKEN}) as person:
            url = f"{b.double.base_url}/api/v4/projects/10/pipelines/31/cancel"
            assert (await person.post(url)).status == 201
        with pytest.raises(StepRetry, match="was canceled: superseded"):
            await b.action.poll(call, pending.state)
        await eventually(lambda: asyncio.sleep(0, not b.double._tasks), "its jobs to end")
        assert one.status == "canceled"
    assert registries.close
    await registries.close()
