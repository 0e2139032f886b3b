"""One story over the sandbox and over a real API server: both must tell it the same way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from integrations.kubernetes import setup
from responder.clock import World
from responder.errors import Conflict, NotFound
from responder.model import Target, VerdictLevel
from responder.ports import Integration, Kit
from responder.sandbox.world import SandboxWorld
from tests.adapters.kubernetes import accounts, stage
from tests.real.kubelet import FakeKubelet
from tests.real.waiting import eventually

LABEL = "responder.dev/quarantine"
ACTIONS = ("snapshot", "quarantine_pod", "redeploy", "delete_pod")
Ask = Callable[..., Awaitable[tuple[int, Any]]]


@dataclass(frozen=True)
class Scene:
    """A cluster with Deployment cart, three pods ready, and the product in front of it."""

    made: Integration
    ask: Ask
    namespace: str

    async def ready(self, count: int) -> list[dict[str, Any]]:
        """The ready pods of the Deployment, once there are so many."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app%3Dcart"

        async def look() -> list[dict[str, Any]]:
            _, answer = await self.ask("GET", path)
            found = [pod for pod in answer["items"] if stage.is_ready(pod)]
            return found if len(found) == count else []

        return await eventually(look, f"{count} ready pods")


@pytest.fixture(params=["sandbox", pytest.param("real", marks=pytest.mark.control_plane)])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """The same stage in both worlds."""
    opened = _sandbox() if request.param == "sandbox" else _real(request)
    async with opened as found:
        yield found


@asynccontextmanager
async def _sandbox() -> AsyncIterator[Scene]:
    async with SandboxWorld(pods=3) as world, aiohttp.ClientSession() as session:
        facts = json.loads(world.addresses())

        async def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            data = None if body is None else json.dumps(body)
            url = f"{facts['cluster']}{path}"
            headers = {"Content-Type": kind}
            async with session.request(method, url, data=data, headers=headers) as answer:
                return answer.status, await answer.json()

        made = setup({"prod": {"api": facts["cluster"]}}, World(), Kit(evidence=stage.Shelf()))
        yield Scene(made, ask, facts["namespace"])
        assert made.close
        await made.close()


@asynccontextmanager
async def _real(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    plane = request.getfixturevalue("control_plane")
    namespace = request.getfixturevalue("namespace")
    stage.workload(plane, namespace, "Deployment", replicas=3)
    with FakeKubelet(plane, namespace):
        async with accounts.responder(plane, namespace, *ACTIONS) as made:
            yield Scene(made, plane.arequest, namespace)


async def test_contained_rolled_out_and_deleted(scene: Scene) -> None:
    """Identity, evidence, isolation, replacement, rollout by digest, the end of the pod."""
    first = (await scene.ready(3))[0]
    name = first["metadata"]["name"]
    target = await scene.made.resolvers["prod"].resolve(Target(namespace=scene.namespace, pod=name))
    assert target.pod_uid == first["metadata"]["uid"]
    assert target.workload == "Deployment/cart"
    assert target.digest.startswith("sha256:")

    _, kept = await stage.perform(scene.made, stage.call("snapshot", target, pod=name))
    assert kept["files"] >= 10

    isolating = stage.call("quarantine_pod", target, key="run_1/isolate", pod=name)
    plan, result = await stage.perform(scene.made, isolating)
    verdict = await stage.action(scene.made, "quarantine_pod").verify(isolating, plan, result)
    assert verdict.level is VerdictLevel.APPLIED
    assert name not in {pod["metadata"]["name"] for pod in await scene.ready(3)}
    _, pod = await scene.ask("GET", f"/api/v1/namespaces/{scene.namespace}/pods/{name}")
    assert pod["metadata"]["labels"] == {LABEL: f"inc-42-{target.pod_uid[:8]}"}
    assert not pod["metadata"].get("ownerReferences")

    repository = target.image.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    image = f"{repository}@{target.digest}" if "@" not in target.image else stage.NEW
    rolling = stage.call(
        "redeploy", target, key="run_1/roll", workload=target.workload, image=image
    )
    plan, result = await stage.perform(scene.made, rolling)
    verdict = await stage.action(scene.made, "redeploy").verify(rolling, plan, result)
    assert verdict.level is VerdictLevel.ENFORCED
    running = await scene.ready(3)
    assert {pod["spec"]["containers"][0]["image"] for pod in running} == {image}

    ending = stage.call("delete_pod", target, key="run_1/end", pod=name)
    plan, result = await stage.perform(scene.made, ending)
    verdict = await stage.action(scene.made, "delete_pod").verify(ending, plan, result)
    assert verdict.level is VerdictLevel.ENFORCED
    with pytest.raises(NotFound):
        await scene.made.resolvers["prod"].resolve(Target(namespace=scene.namespace, pod=name))
    rules = f"/apis/networking.k8s.io/v1/namespaces/{scene.namespace}/networkpolicies"

    async def collected() -> bool:
        _, answer = await scene.ask("GET", rules)
        return not any("quarantine" in item["metadata"]["name"] for item in answer["items"])

    await eventually(collected, "the policy to go with its pod")


async def test_released_and_refused(scene: Scene) -> None:
    """Somebody's change is shown and kept; once it is taken back the pod is released."""
    first = (await scene.ready(3))[0]
    name = first["metadata"]["name"]
    path = f"/api/v1/namespaces/{scene.namespace}/pods/{name}"
    target = Target(namespace=scene.namespace)
    doer = stage.action(scene.made, "quarantine_pod")
    request = stage.call("quarantine_pod", target, pod=name)
    plan, result = await stage.perform(scene.made, request)
    await scene.ready(3)
    await scene.ask("PATCH", path, {"metadata": {"labels": {"team": "red"}}})
    with pytest.raises(Conflict, match=r"\+team=red"):
        await doer.undo(request, plan, result)
    await scene.ask("PATCH", path, {"metadata": {"labels": {"team": None}}})
    await doer.undo(request, plan, result)
    _, pod = await scene.ask("GET", path)
    if pod.get("kind") == "Pod":  # the set may have chosen this one as the one too many
        assert pod["metadata"]["labels"] == first["metadata"]["labels"]
    await scene.ready(3)
