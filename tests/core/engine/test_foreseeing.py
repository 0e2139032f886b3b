"""A target is looked at while its alert is being stored, so that nobody waits for it afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

from responder.model import Target
from responder.ports import Integration
from responder.service import Service
from tests.bench.load import falco
from tests.core.engine.bench import bench
from tests.fakes import FakeResolver, Things

TEXT = """
playbook: p
on: [{alert: {source: falco, rule: Shell}}]
mode: enforce
steps:
  mark:
    use: fake.mark
    with: {thing: "pod-${{ target.pod }}", value: "yes"}
"""


class Foreseeing(FakeResolver):
    """Remembers what was asked of it, in order; `gate` holds every answer back."""

    def __init__(self) -> None:
        super().__init__({f"shop/{number}": f"uid-{number}" for number in range(9)})
        self.asked: list[str] = []
        self.gate = asyncio.Event()

    def foresee(self, target: Target) -> None:
        """Somebody will ask about it in a moment."""
        self.asked.append(f"foresee {target.pod}")

    async def resolve(self, target: Target) -> Target:
        self.asked.append(f"resolve {target.pod}")
        await self.gate.wait()
        return await super().resolve(target)


async def heard(service: Service, *pods: str, rule: str = "Shell") -> None:
    """Alerts about these pods, one after the other."""
    for pod in pods:
        await service.receive("falco", {}, falco(rule, "shop", pod).encode())


async def test_an_alert_that_starts_something_has_its_target_looked_at_before_it_is_stored(
    tmp_path: Path,
) -> None:
    """Once, before the run asks; one that starts nothing, or speaks of no pod, never."""
    resolver = Foreseeing()
    resolver.gate.set()
    extra = [Integration(resolvers={"": resolver})]
    async with bench(tmp_path, [TEXT], things=Things(), extra=extra) as b:
        await heard(b.app.service, "1", rule="Another rule")
        await heard(b.app.service, "")
        assert resolver.asked == []
        await heard(b.app.service, "2")
        await b.until(await _run(b.app.service, 2), "succeeded")
        assert resolver.asked == ["foresee 2", "resolve 2"]


async def test_with_many_runs_at_work_nothing_is_looked_at_ahead(tmp_path: Path) -> None:
    """In a storm the reads of the runs come first; they are no fewer for that."""
    resolver = Foreseeing()
    extra = [Integration(resolvers={"": resolver})]
    async with bench(tmp_path, [TEXT], things=Things(), extra=extra) as b:
        pods = [str(number) for number in range(1, 8)]
        await heard(b.app.service, *pods)
        ahead = [asked for asked in resolver.asked if asked.startswith("foresee")]
        assert ahead == [f"foresee {pod}" for pod in pods[:4]]
        resolver.gate.set()
        for number in range(1, 8):
            await b.until(await _run(b.app.service, number), "succeeded")
        assert {f"resolve {pod}" for pod in pods} <= {*resolver.asked}


async def _run(service: Service, incident: int) -> str:
    [row] = await service.core.store.runs(incident=incident)
    return row.id
