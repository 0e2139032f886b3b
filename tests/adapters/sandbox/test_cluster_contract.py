"""The same checks over the sandbox's cluster and over a real API server."""

import ssl
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from responder.sandbox.kubelet import Pace
from responder.sandbox.world import SandboxWorld
from tests.adapters.sandbox import contract, contract_workloads
from tests.adapters.sandbox.client import Client
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet

Check = Callable[[Client], Awaitable[None]]
CHECKS = (*contract.CHECKS, *contract_workloads.CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_sandbox_keeps_the_contract(check: Check) -> None:
    """The sandbox answers and behaves as the check says."""
    async with (
        SandboxWorld(pace=Pace(start=0.01, stop=0.01)) as world,
        aiohttp.ClientSession() as s,
    ):
        body = {"metadata": {"name": "check"}}
        async with s.post(f"{world.cluster_url}/api/v1/namespaces", json=body) as answer:
            assert answer.status == 201
        await check(Client(s, world.cluster_url, "check"))


@pytest.mark.control_plane
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_real_api_server_keeps_the_contract(
    check: Check, control_plane: ControlPlane, namespace: str
) -> None:
    """A real API server answers and behaves as the check says: the check itself is right."""
    trust = ssl.create_default_context(cafile=str(control_plane.ca))
    headers = {"Authorization": f"Bearer {control_plane.admin_token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        with FakeKubelet(control_plane, namespace):
            await check(Client(session, control_plane.api, namespace, trust))
