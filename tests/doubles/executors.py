"""What runs behind the forge's double: an immediate stand-in, or a real workflow file by act."""

import asyncio
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.doubles.shapes import DoubleRun

PIPELINE = Path(__file__).parent / "pipeline"


class Executor(Protocol):
    """Takes a run from queued to completed and leaves its artifact."""

    async def execute(self, run: DoubleRun) -> None:
        """Set status, conclusion and archive of the run."""
        ...


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return a zip in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def digest_for(run: DoubleRun) -> str:
    """Return the digest that the stand-in says it built for a run."""
    return f"sha256:{hashlib.sha256(f'built for run {run.id}'.encode()).hexdigest()}"


def build_json(run: DoubleRun, **changes: object) -> bytes:
    """Return the build.json of a run, with changes for tests of bad ones."""
    value = {
        "image": run.inputs.get("image", ""),
        "digest": digest_for(run),
        "revision": run.inputs.get("revision", ""),
        "correlation_id": run.inputs.get("correlation_id", ""),
        **changes,
    }
    return json.dumps(value).encode()


@dataclass
class Immediate:
    """Ends each run at once, as told; ``states`` are shown first, one a look."""

    conclusion: str = "success"
    states: tuple[str, ...] = ()
    archive: Callable[[DoubleRun], bytes] = lambda run: zipped({"build.json": build_json(run)})

    async def execute(self, run: DoubleRun) -> None:
        """Script the run's states; the artifact is there when it has succeeded."""
        run.script = [(state, None) for state in self.states] + [("completed", self.conclusion)]
        run.archive = self.archive(run) if self.conclusion == "success" else None


@dataclass
class Act:
    """Runs ``rebuild.yml`` for real with act, on this machine, against a Docker engine.

    act binds its own servers to the host's outer address unless told not to, does not enforce
    required inputs and shows no run-name: the double does these two. Each run has its own copy of
    the repository, so that runs at the same time do not meet.
    """

    docker_host: str
    registry: str
    work: Path
    program: Path = field(default_factory=lambda: Path(sys.executable).parent / "act")
    files: Mapping[str, Path] = field(default_factory=dict)  # extra files of the repository
    env: Mapping[str, str] = field(default_factory=dict)

    async def execute(self, run: DoubleRun) -> None:
        """Run the workflow and read its artifact folder; the exit code is the conclusion."""
        place = self.work / f"run-{run.id}-{run.attempt}"
        out = place / "artifact"
        await asyncio.get_running_loop().run_in_executor(None, self._checkout, place)
        run.status = "in_progress"
        with (place / "act.jsonl").open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                *self._argv(run, place, out),
                cwd=place / "repo",
                env=self._environment(place),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                code = await child.wait()
            except asyncio.CancelledError:
                child.terminate()
                await child.wait()
                raise
        members = {file.name: file.read_bytes() for file in out.iterdir()}
        run.archive = zipped(members) if members else None
        run.status, run.conclusion = "completed", "success" if code == 0 else "failure"

    def _checkout(self, place: Path) -> None:
        shutil.copytree(PIPELINE, place / "repo")
        for name in ("artifact", "home", "bin"):
            (place / name).mkdir()
        # Debian's client has BuildKit built in; a newer one earlier in PATH may lack buildx.
        (place / "bin" / "docker").symlink_to("/usr/bin/docker")
        for name, source in self.files.items():
            shutil.copy(source, place / "repo" / name)
        for argv in (
            ["git", "init", "-q", "-b", "main"],
            ["git", "add", "-A"],
            ["git", "-c", "user.name=ci", "-c", "user.email=ci@example.test", "commit", "-qm", "x"],
        ):
            subprocess.run(argv, cwd=place / "repo", check=True, env=self._environment(place))

    def _argv(self, run: DoubleRun, place: Path, out: Path) -> list[str]:
        argv = [
            str(self.program),
            "workflow_dispatch",
            *("-P", "ubuntu-latest=-self-hosted"),
            *("-W", f".github/workflows/{run.workflow}"),
            *("--json", "--no-cache-server"),
            *("--container-daemon-socket", "-"),
            *("--artifact-server-addr", "127.0.0.1"),
        ]
        handed = {
            "DOCKER_HOST": self.docker_host,
            "DOCKER_CONFIG": str(place / "home"),
            "ARTIFACT_DIR": str(out),
            "REGISTRY": self.registry,
            **self.env,
        }
        for name, value in handed.items():
            argv += ["--env", f"{name}={value}"]
        for name, value in run.inputs.items():
            argv += ["--input", f"{name}={value}"]
        return argv

    def _environment(self, place: Path) -> dict[str, str]:
        home = str(place / "home")
        return {
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
            "HOME": home,
            "XDG_CACHE_HOME": home,
            "XDG_CONFIG_HOME": home,
        }
