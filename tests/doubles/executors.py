"""What runs behind the forge's double: an immediate stand-in, or a real workflow file by act."""

import asyncio
import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.doubles.shapes import DoubleRun
from tests.real.act import act_command, act_environment
from tests.real.engine import Engine

PIPELINE = Path(__file__).parent / "pipeline"
TEMPLATES = Path(__file__).parents[2] / "playbooks" / "templates"  # what is run is what is shipped
STAND_INS = {  # of what the workflows use and only GitHub has
    "checkout": "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683",
    "upload-artifact": "actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02",
}


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
    archive: Callable[[DoubleRun], bytes | None] = lambda run: zipped(
        {"build.json": build_json(run)}
    )

    async def execute(self, run: DoubleRun) -> None:
        """Script the run's states; the artifact is there when it has succeeded."""
        run.script = [(state, None) for state in self.states] + [("completed", self.conclusion)]
        run.archive = self.archive(run) if self.conclusion == "success" else None


def check_out(place: Path, registry: str, env: Mapping[str, str], *more: list[str]) -> None:
    """Make a repository of the app in ``place``, which may hold files already, and commit it.

    Its base image is the registry's unless the build says otherwise; `r2` is a tag of it. ``more``
    are further git commands.
    """
    shutil.copytree(PIPELINE / "app", place, dirs_exist_ok=True)
    text = (place / "Dockerfile").read_text()
    default = f"ARG BASE={registry}/base:stable\n"
    (place / "Dockerfile").write_text(text.replace("ARG BASE\n", default, 1))
    person = ["-c", "user.name=ci", "-c", "user.email=ci@example.test"]
    for argv in (
        ["init", "-q", "-b", "main"],
        *more,
        ["add", "-A"],
        [*person, "commit", "-qm", "x"],
        ["tag", "r2"],
    ):
        subprocess.run(["git", *argv], cwd=place, check=True, env=env)


@dataclass
class Act:
    """Runs the shipped workflows for real with act, on this machine, against a Docker engine.

    act does not enforce required inputs and shows no run-name: the double does these two. Each run
    has its own copy of the repository, so that runs at the same time do not meet. It never shows a
    run as ended before its artifact is there. The actions that need GitHub's own servers have
    stand-ins.
    """

    act: Path
    engine: Engine
    work: Path

    async def execute(self, run: DoubleRun) -> None:
        """Run the workflow and read its artifact folder; the exit code is the conclusion."""
        place = self.work / f"run-{run.id}-{run.attempt}"
        out = place / "artifact"
        await asyncio.to_thread(self._checkout, place)
        run.status = "in_progress"
        with (place / "act.jsonl").open("wb") as log:
            child = await asyncio.create_subprocess_exec(
                *self._command(run, out),
                cwd=place / "repo",
                env=act_environment(place / "home"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            code = await self._ended(run, child)
        run.archive, run.reports = (_kept(out / name) for name in ("build", "reports"))
        if run.status != "completed":  # else it was cancelled meanwhile
            run.conclusion = "success" if code == 0 else "failure"
            run.status = "completed"

    async def _ended(self, run: DoubleRun, child: asyncio.subprocess.Process) -> int:
        """Wait for act; a run that is cancelled, or a double that stops, ends it too."""
        waiting = asyncio.create_task(child.wait())
        try:
            while not (await asyncio.wait({waiting}, timeout=0.1))[0]:
                if run.status == "completed":
                    child.terminate()
                    break
            return await waiting
        except asyncio.CancelledError:
            child.terminate()
            await child.wait()
            raise

    def _checkout(self, place: Path) -> None:
        shutil.copytree(TEMPLATES / "github", place / "repo/.github/workflows")
        for name in ("artifact", "home"):
            (place / name).mkdir()
        check_out(place / "repo", self.engine.registry, act_environment(place / "home"))

    def _command(self, run: DoubleRun, out: Path) -> list[str]:
        given = {"ARTIFACT_DIR": str(out), "SOURCE_DIR": str(out.parent / "repo")}
        command = act_command(
            self.act, run.inputs, given, workflow=run.workflow, engine=self.engine
        )
        command += ["--var", f"REBUILD_IMAGES={self.engine.registry}/*"]
        for name, action in STAND_INS.items():
            command += ["--local-repository", f"{action}={PIPELINE / name}"]
        return command


def _kept(folder: Path) -> bytes | None:
    """The artifact in a folder as a zip, if the run has left one."""
    if not folder.is_dir():
        return None
    return zipped({file.name: file.read_bytes() for file in folder.iterdir()})
