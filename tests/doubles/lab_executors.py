"""What runs behind the GitLab double: a stand-in, or a real `.gitlab-ci.yml` by gitlab-ci-local."""

import asyncio
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.doubles.executors import TEMPLATES, check_out
from tests.doubles.lab_shapes import DoublePipeline
from tests.real.ci_local import ci_local_command, ci_local_environment
from tests.real.engine import Engine


class Executor(Protocol):
    """Takes a pipeline from created to its end and leaves its artifacts."""

    async def execute(self, one: DoublePipeline) -> None:
        """Set status and files of the pipeline."""
        ...


def digest_for(one: DoublePipeline) -> str:
    """Return the digest that the stand-in says it built."""
    return f"sha256:{hashlib.sha256(f'built by pipeline {one.id}'.encode()).hexdigest()}"


def build_json(one: DoublePipeline, **changes: object) -> bytes:
    """Return the build.json of a pipeline, with changes for tests of bad ones."""
    value = {
        "image": one.inputs.get("image", ""),
        "digest": digest_for(one),
        "revision": one.inputs.get("revision", ""),
        "correlation_id": one.inputs.get("correlation_id", ""),
        **changes,
    }
    return json.dumps(value).encode()


@dataclass
class Straight:
    """Ends each pipeline at once, as told; ``states`` are shown first, one a look."""

    status: str = "success"
    states: tuple[str, ...] = ()
    files: Callable[[DoublePipeline], dict[str, bytes] | None] = lambda one: {
        "build.json": build_json(one)
    }

    async def execute(self, one: DoublePipeline) -> None:
        """Script the states; the artifacts are there when it has succeeded."""
        one.script = [*self.states, self.status]
        one.files = self.files(one) if self.status == "success" else None


@dataclass
class CiLocal:
    """Runs the shipped `.gitlab-ci.yml` for real, on this machine, against a Docker engine.

    Each pipeline has its own copy of the repository: jobs run in the checkout itself.
    """

    program: Path
    engine: Engine
    work: Path

    async def execute(self, one: DoublePipeline) -> None:
        """Run it and read the artifacts of its job; the exit code is its end."""
        place = self.work / f"pipeline-{one.id}"
        await asyncio.to_thread(self._checkout, place)
        one.status = "running"
        with (place / "log").open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                *ci_local_command(self.program, place / "home", one.inputs, self.engine.registry),
                cwd=place / "repo",
                env=ci_local_environment(self.engine, place / "home"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            code = await self._ended(one, child)
        kept = place / "repo/.gitlab-ci-local/artifacts/build"
        if kept.is_dir():
            one.files = {file.name: file.read_bytes() for file in kept.iterdir() if file.is_file()}
        if not one.ended:  # else it was canceled meanwhile
            one.status = "success" if code == 0 else "failed"

    async def _ended(self, one: DoublePipeline, child: asyncio.subprocess.Process) -> int:
        waiting = asyncio.create_task(child.wait())
        try:
            while not (await asyncio.wait({waiting}, timeout=0.1))[0]:
                if one.ended:
                    child.terminate()
                    break
            return await waiting
        except asyncio.CancelledError:
            child.terminate()
            await child.wait()
            raise

    def _checkout(self, place: Path) -> None:
        (place / "home").mkdir(parents=True)
        repo = place / "repo"
        repo.mkdir()
        shutil.copyfile(TEMPLATES / "gitlab/rebuild.yml", repo / ".gitlab-ci.yml")
        (repo / ".gitignore").write_text(".gitlab-ci-local/\nbuild.json\nbuild.env\n")
        remote = ["remote", "add", "origin", "git@gitlab.example:acme/shop.git"]
        environment = ci_local_environment(self.engine, place / "home")
        check_out(repo, self.engine.registry, environment, remote)
