"""The rehearsal's deployments: `deployment.record` works in it, in the published shapes."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest

from integrations.github import setup
from responder.clock import World
from responder.model import Secret, Target
from responder.ports import Call, Done, ImageRoute, Kit
from responder.sandbox.forge_deployments import head_of
from responder.sandbox.world import SandboxWorld
from tests.adapters.github.world import NoEvidence
from tests.doubles.contract import Answered, Asked, answer_fault, description, request_fault

IMAGE = f"registry.invalid/shop/cart@sha256:{'7' * 64}"
TOLD = {"ref": "main", "auto_merge": False, "required_contexts": [], "payload": {"mark": "x"}}


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxWorld]:
    """A rehearsal world in this loop."""
    async with SandboxWorld() as world:
        yield world


async def _ask(root: str, method: str, path: str, body: Any = None) -> Any:
    """One request, held with its answer against the published description."""
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": "token any"}
        async with session.request(method, root + path, json=body, headers=headers) as answer:
            data = await answer.read()
            sent = None if body is None else json.dumps(body).encode()
            place = urlsplit(path)
            kind = {"Content-Type": "application/json"}
            asked = Asked(method, place.path, parse_qsl(place.query), kind, sent)
            if description() is not None:
                assert request_fault(asked) == ""
                seen = Answered(answer.status, data, dict(answer.headers))
                assert answer_fault(asked, seen) == ""
            return await answer.json()


async def test_the_forges_deployments_have_the_published_shape(sandbox: SandboxWorld) -> None:
    """Commit, deployment, list, one, a state and its list."""
    root, base = sandbox.forge_url, "/repos/acme/shop"
    commit = await _ask(root, "GET", f"{base}/commits/main")
    assert commit["sha"] == head_of("acme/shop", "main")
    made = await _ask(root, "POST", f"{base}/deployments", TOLD)
    listed = await _ask(root, "GET", f"{base}/deployments?environment=production&task=deploy")
    assert [one["id"] for one in listed] == [made["id"]]
    one = f"{base}/deployments/{made['id']}"
    assert (await _ask(root, "GET", one))["sha"] == commit["sha"]
    await _ask(root, "POST", f"{one}/statuses", {"state": "success", "description": "x"})
    assert [s["state"] for s in await _ask(root, "GET", f"{one}/statuses")] == ["success"]


async def test_a_rehearsed_record_is_told_once(sandbox: SandboxWorld) -> None:
    """The product's own action against the rehearsal's forge."""
    table = {"kind": "github", "base_url": sandbox.forge_url, "token": Secret("any")}
    route = ImageRoute(
        match="registry.invalid/shop/*", forge="github", repo="acme/shop", workflow="rebuild.yml"
    )
    made = setup({"github": table}, World(), Kit(evidence=NoEvidence(), images=(route,)))
    action = next(a for a in made.actions if a.info.name == "deployment.record")
    try:
        for state in ("running", "success"):
            call = Call(
                action="deployment.record",
                key=f"run_1/{state}",
                incident=1,
                run="run_1",
                step=state,
                params={"image": IMAGE, "state": state},
                target=Target(),
            )
            plan = await action.plan(call)
            done = await action.apply(call, plan)
            assert isinstance(done, Done)
            await action.verify(call, plan, done.result)
    finally:
        assert made.close
        await made.close()
    effects = sandbox.effects_tally.to_json()
    assert effects["deployments"] == {"production": 1}
    assert effects["deployment states"] == {"in_progress": 1, "success": 1}
