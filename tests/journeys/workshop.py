"""Lets the sandbox's forge do what a runner of another forge would do: build, push and tell.

So what a pipeline does outside is counted in one place, whatever forge has started it.
"""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.doubles.lab_shapes import DoublePipeline
from tests.doubles.shapes import DoubleRun

__all__ = ["TOKEN", "HubWorkshop", "LabWorkshop"]

TOKEN = "sandbox-token"


@dataclass
class _Workshop:
    base: str

    async def built(self, ref: str, inputs: Mapping[str, str]) -> tuple[bool, bytes]:
        """Dispatch there and wait for its end; whether it went well, and its archive."""
        async with aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as client:
            order = {"ref": ref, "inputs": dict(inputs), "return_run_details": True}
            where = f"{self.base}/actions/workflows/rebuild.yml/dispatches"
            async with client.post(where, json=order) as answer:
                assert answer.status == 200, await answer.text()
                number = (await answer.json())["workflow_run_id"]
            run: dict[str, Any] = {}
            while run.get("status") != "completed":
                await asyncio.sleep(0.02)
                run = await self._get(client, f"/actions/runs/{number}")
            listed = await self._get(client, f"/actions/runs/{number}/artifacts")
            kept = f"{self.base}/actions/artifacts/{listed['artifacts'][0]['id']}/zip"
            async with client.get(kept, allow_redirects=False) as answer:
                place = answer.headers["Location"]
        async with aiohttp.ClientSession() as stranger, stranger.get(place) as answer:
            return run["conclusion"] == "success", await answer.read()

    async def _get(self, client: aiohttp.ClientSession, path: str) -> dict[str, Any]:
        async with client.get(f"{self.base}{path}") as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found


class LabWorkshop(_Workshop):
    """Behind GitLab's double."""

    async def execute(self, one: DoublePipeline) -> None:
        """Build, and hand the build.json over as a job's file."""
        one.status = "running"
        well, data = await self.built(one.ref, one.inputs)
        archive = zipfile.ZipFile(io.BytesIO(data))
        one.files = {member: archive.read(member) for member in archive.namelist()}
        one.status = "success" if well else "failed"


class HubWorkshop(_Workshop):
    """Behind GitHub's double."""

    async def execute(self, run: DoubleRun) -> None:
        """Build, and hand the archive over as the run's artifact."""
        run.status = "in_progress"
        well, run.archive = await self.built(run.ref, run.inputs)
        run.status, run.conclusion = "completed", "success" if well else "failure"
