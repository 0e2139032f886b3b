"""The sandbox moves only when its world's clock does."""

import asyncio
import heapq
import random

import aiohttp

from responder.clock import SECOND, SystemIds, World
from responder.sandbox.kubelet import Pace
from responder.sandbox.world import SandboxWorld
from tests.adapters.sandbox.client import APPS, Client


class StoppedClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self._now = 1_700_000_000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    def now(self) -> int:
        """Microseconds, as set."""
        return int(self._now * SECOND)

    def monotonic(self) -> float:
        """Seconds, as set."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until somebody moves the clock this far."""
        self._count += 1
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, woken))
        await woken.wait()

    async def go(self, seconds: float) -> None:
        """Move on, sleeper by sleeper, giving each time to act."""
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            self._now, _, woken = heapq.heappop(self._sleepers)
            woken.set()
            for _ in range(20):
                await asyncio.sleep(0)
        self._now = end


async def test_nothing_happens_while_the_clock_stands_still() -> None:
    """A replacement pod starts when its time has come on the given clock, not before."""
    clock = StoppedClock()
    world = World(clock=clock, ids=SystemIds(), rng=random.Random(1))
    paced = SandboxWorld(world, pace=Pace(start=60.0))
    async with paced as sandbox, aiohttp.ClientSession() as session:
        api = Client(session, sandbox.cluster_url, "shop")
        name = (await api.pods())[0]["metadata"]["name"]
        strip = {"metadata": {"labels": {"app": None, "pod-template-hash": None}}}
        await api.must("PATCH", api.path("pods", name), strip)

        async def phases() -> list[str]:
            return sorted(pod["status"]["phase"] for pod in await api.pods("app=cart"))

        assert await phases() == ["Pending", "Running", "Running"]
        await clock.go(59.0)
        assert await phases() == ["Pending", "Running", "Running"]
        await clock.go(1.1)
        assert await phases() == ["Running", "Running", "Running"]
        found = await api.must("GET", api.path("deployments", "cart", APPS))
        assert found["status"]["availableReplicas"] == 3
        pods = await api.pods("app=cart")
        born = max(pod["metadata"]["creationTimestamp"] for pod in pods)
        assert born == "2023-11-14T22:13:20Z"
