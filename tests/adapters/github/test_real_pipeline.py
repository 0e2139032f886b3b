"""A real workflow really rebuilds an image: double, act, Docker engine and registry."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from integrations.registry import setup as set_up_registries
from responder.clock import World
from responder.errors import StepFailed, StepRetry
from responder.model import Target
from responder.ports import Call, Done, ImageRoute, Integration, Kit, Pending
from tests.adapters.github.world import Bench, NoEvidence, a_call, bench
from tests.doubles.executors import Act
from tests.doubles.github import TOKEN
from tests.real.engine import Engine
from tests.real.waiting import eventually

BASE = """FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox mkdir -p /srv /etc && echo {version} > /etc/base"]
"""


@pytest.fixture
def registries(engine: Engine) -> Integration:
    """The registry adapter, allowed to ask the engine's registry over plain HTTP."""
    return set_up_registries(
        {engine.registry: {"insecure": True}}, World(), Kit(evidence=NoEvidence())
    )


def push_base(engine: Engine, folder: Path, version: str) -> None:
    """Build and push a base image; the tag is the same for the old and the patched one."""
    place = folder / f"base-{version}"
    place.mkdir()
    (place / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (place / "busybox").chmod(0o755)
    (place / "Dockerfile").write_text(BASE.format(version=version))
    tag = f"{engine.registry}/base:stable"
    engine.docker("build", "-q", "--network", "none", "-t", tag, str(place))
    engine.docker("push", "-q", tag)


async def until_done(b: Bench, call: Call) -> Done:
    """Apply and look every fifth of a second, as a hint would make us do."""
    now: Done | Pending = await b.apply(call)
    async with asyncio.timeout(50):
        while isinstance(now, Pending):
            await asyncio.sleep(0.2)
            now = await b.action.poll(call, now.state)
    return now


async def test_a_vulnerable_base_is_replaced_by_a_real_pipeline_run(
    engine: Engine, act_path: Path, registries: Integration, tmp_path: Path
) -> None:
    """Two rebuilds on two bases give two digests; both are in the registry, by hash."""
    name = f"{engine.registry}/shop/cart"
    route = ImageRoute(
        match=f"{engine.registry}/shop/*", forge="github", repo="acme/shop", workflow="rebuild.yml"
    )
    forge = {"executor": Act(act_path, engine, tmp_path)}
    assert registries.digest_of
    async with bench(double=forge, digest_of=registries.digest_of, route=route) as b:
        target = Target(image=f"{name}:1.4")
        push_base(engine, tmp_path, "vulnerable")
        old_call = a_call(key="run_a/rebuild", params={}, target=target)
        old = await until_done(b, old_call)
        push_base(engine, tmp_path, "patched")
        running = Target(image=f"{name}:1.4", digest=old.result["digest"])
        call = a_call(key="run_b/rebuild", params={"revision": "r2"}, target=running)
        new = await until_done(b, call)
        verdict = await b.action.verify(call, await b.action.plan(call), new.result)
        assert new.result["digest"] != old.result["digest"]
        assert verdict.checks["registry"] == new.result["digest"]
        engine.docker("pull", "-q", new.result["image"])
        base = engine.docker("run", "--rm", "--network", "none", new.result["image"],
                             "/bin/busybox", "cat", "/etc/base")  # fmt: skip
        assert base.stdout == "patched\n"
        assert sorted(b.double.dispatches.values()) == [1, 1]
        inspect = registries.actions[0]
        asked = a_call(params={"image": new.result["image"]})
        seen = await inspect.apply(asked, await inspect.plan(asked))
        assert isinstance(seen, Done)
        assert seen.result["labels"]["org.opencontainers.image.revision"] == "r2"
        print(json.dumps({"old": old.result, "new": new.result}, indent=1))
    assert registries.close
    await registries.close()


async def test_a_real_pipeline_run_that_fails_ends_the_step_with_its_address(
    engine: Engine, act_path: Path, registries: Integration, tmp_path: Path
) -> None:
    """The workflow's own exit code becomes a final failure."""
    route = ImageRoute(
        match=f"{engine.registry}/shop/*",
        forge="github",
        repo="acme/shop",
        workflow="rebuild.yml",
        inputs={"base": f"{engine.registry}/nothing:1"},
    )
    forge = {"executor": Act(act_path, engine, tmp_path)}
    async with bench(double=forge, digest_of=registries.digest_of, route=route) as b:
        call = a_call(params={"image": f"{engine.registry}/shop/cart:1"}, target=Target())
        with pytest.raises(StepFailed, match="GitHub run 4711 failed: http"):
            await until_done(b, call)
    assert registries.close
    await registries.close()


async def test_a_real_pipeline_run_that_is_cancelled_ends_and_is_told_as_superseded(
    engine: Engine, act_path: Path, registries: Integration, tmp_path: Path
) -> None:
    """A person stops the run on the forge: act and its children are gone, the step may go again."""
    name = f"{engine.registry}/shop/cart"
    route = ImageRoute(match=name, forge="github", repo="acme/shop", workflow="rebuild.yml")
    forge = {"executor": Act(act_path, engine, tmp_path)}
    async with bench(double=forge, digest_of=registries.digest_of, route=route) as b:
        call = a_call(params={"image": f"{name}:1"}, target=Target())
        pending = await b.apply(call)
        run = b.double.runs[4711]
        await eventually(lambda: asyncio.sleep(0, run.status == "in_progress"), "the run to start")
        async with aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as person:
            url = f"{b.double.base_url}/repos/acme/shop/actions/runs/4711/cancel"
            assert (await person.post(url)).status == 202
        with pytest.raises(StepRetry, match="was cancelled: superseded"):
            await b.action.poll(call, pending.state)
        await eventually(lambda: asyncio.sleep(0, not b.double._tasks), "act to end")
        assert (run.status, run.conclusion) == ("completed", "cancelled")
    assert registries.close
    await registries.close()
