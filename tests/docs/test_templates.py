"""The workflows and pipelines that come with the product: pinned, with least rights, data as data.

What the two `rebuild` templates do is shown where they are executed for real:
`tests/adapters/*/test_real_pipeline.py` and the journeys run these very files. The patching and
rebasing ones run here, with stand-ins for the tools that they fetch.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from integrations._artifacts import read_build_json
from responder.playbook.shipped import shipped_folder
from tests.doubles.executors import STAND_INS

TEMPLATES = shipped_folder() / "templates"
GITHUB = sorted((TEMPLATES / "github").glob("*"))
GITLAB = sorted((TEMPLATES / "gitlab").glob("*"))
SHA = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
INPUT = re.compile(r"\$\{\{|\$\[\[")
KINDS = {"rebuild", "copacetic", "rebase"}
GIVEN = {"image", "correlation_id", "revision"}  # what `pipeline.run` always passes
DIGEST = f"sha256:{'a' * 64}"


def named(file: Path) -> str:
    """`github-rebuild`."""
    return f"{file.parent.name}-{file.stem}"


class Loader(yaml.SafeLoader):
    """Reads `on`, `yes` and `true` as words."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parts(file: Path) -> list[Any]:
    """The documents of a file; `on` stays a word, as GitHub reads it."""
    return list(yaml.load_all(file.read_text(), Loader))


def workflow(file: Path) -> dict[str, Any]:
    """A GitHub workflow, which is one document."""
    [found] = parts(file)
    return dict(found)


def steps(file: Path) -> Iterator[dict[str, Any]]:
    """Every step of every job."""
    for job in workflow(file)["jobs"].values():
        yield from job["steps"]


def scripts(file: Path) -> list[str]:
    """Everything that a shell reads."""
    if file in GITHUB:
        return [step["run"] for step in steps(file) if "run" in step]
    jobs = [job for job in parts(file)[1].values() if isinstance(job, dict) and "script" in job]
    return [line for job in jobs for line in job["script"]]


def test_there_is_one_of_each_kind_for_each_forge() -> None:
    """Rebuild, patch and rebase, and nothing that nobody has looked at."""
    for files in (GITHUB, GITLAB):
        assert {file.stem for file in files} == KINDS


@pytest.mark.parametrize("file", GITHUB, ids=lambda file: file.stem)
def test_every_action_is_pinned_by_a_whole_commit(file: Path) -> None:
    """No tag, no branch, and none beside the two of GitHub itself."""
    used = {step["uses"] for step in steps(file) if "uses" in step}
    assert used
    assert all(SHA.fullmatch(name) for name in used)
    assert used <= set(STAND_INS.values())


@pytest.mark.parametrize("file", GITHUB, ids=lambda file: file.stem)
def test_a_workflow_has_no_right_that_it_does_not_name(file: Path) -> None:
    """None for the file, and for a job at most to read the source."""
    found = workflow(file)
    assert found["permissions"] == {}
    for job in found["jobs"].values():
        assert job["permissions"] in ({}, {"contents": "read"})
        assert (job["permissions"] == {}) != any(
            "checkout" in step.get("uses", "") for step in job["steps"]
        )
        assert job["timeout-minutes"] <= 40


@pytest.mark.parametrize("file", GITHUB + GITLAB, ids=named)
def test_no_script_has_a_value_written_into_it(file: Path) -> None:
    """Values come by the environment; what a script fetches is checked by its hash."""
    for script in scripts(file):
        assert not INPUT.search(script), script
        assert "eval" not in script
        assert ("curl" in script) == ("sha256sum -c" in script), script


@pytest.mark.parametrize("file", GITHUB + GITLAB, ids=named)
def test_the_run_s_name_shows_the_correlation_id_and_the_inputs_are_those_that_are_passed(
    file: Path,
) -> None:
    """All that `pipeline.run` passes is declared; what it may not pass is not required."""
    if file in GITHUB:
        found = workflow(file)
        assert "${{ inputs.correlation_id }}" in found["run-name"]
        inputs: Mapping[str, Any] = found["on"]["workflow_dispatch"]["inputs"]
        assert set(found["on"]) == {"workflow_dispatch"}
        required = {name for name, one in inputs.items() if one["required"] == "true"}
    else:
        head, body = parts(file)
        assert "$[[ inputs.correlation_id ]]" in body["workflow"]["name"]
        inputs = head["spec"]["inputs"]
        assert all("regex" in one for one in inputs.values())
        required = {name for name, one in inputs.items() if "default" not in one}
    assert set(inputs) >= GIVEN
    assert required == {"image", "correlation_id"} | (
        set() if file.stem == "rebuild" else {"digest"}
    )


@pytest.mark.parametrize("file", GITLAB, ids=lambda file: file.stem)
def test_a_gitlab_job_is_called_as_the_settings_expect_and_pins_its_image(file: Path) -> None:
    """The job `build` hands over build.json; an image, where one is named, has a digest."""
    body = parts(file)[1]
    assert "build.json" in body["build"]["artifacts"]["paths"]
    for job in body.values():
        if isinstance(job, dict) and "image" in job:
            assert "@sha256:" in job["image"]


# --------------------------------------------------------------------------- run with stand-ins

TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $1" in
  "docker image") echo "$IMAGE@{digest}" ;;
  "trivy image")
    while [ $# -gt 0 ]; do [ "$1" = --output ] && echo '{{}}' > "$2"; shift; done ;;
esac
"""
CURL = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
cp "$ARCHIVES/$out" "$out"
"""
RELEASES = {"trivy": "trivy.tar.gz", "copa": "copa.tar.gz", "pack": "pack.tgz"}
MADE = f"sha256:{'b' * 64}"


def archive(name: str) -> bytes:
    """A release of a tool that only notes how it is called."""
    data = TOOL.format(digest=MADE).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o755
        made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Machine:
    """A folder with stand-ins of Docker, curl and the tools, and the shell of a job."""

    def __init__(self, folder: Path) -> None:
        """Put all of it there."""
        self.folder = folder
        self.work = folder / "work"
        for name in ("bin", "archives", "work"):
            (folder / name).mkdir()
        self.given = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(folder / "calls"),
            "ARCHIVES": str(folder / "archives"),
            "REBUILD_IMAGES": "registry.example/bank/* registry.example/shop/*",
            "ALLOWED": "registry.example/bank/* registry.example/shop/*",
            "GITHUB_OUTPUT": str(folder / "output"),
        }
        for name, text in (("docker", TOOL.format(digest=MADE)), ("curl", CURL)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        for name, file in (
            ("trivy", "trivy.tar.gz"),
            ("copa", "copa.tar.gz"),
            ("pack", "pack.tgz"),
        ):
            data = archive(name)
            (folder / "archives" / file).write_bytes(data)
            upper = name.upper()
            self.given |= {f"{upper}_VERSION": "1.2.3", upper: "1.2.3"}
            self.given[f"{upper}_SHA256"] = hashlib.sha256(data).hexdigest()

    def run(self, file: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
        """Every script of the job `build`, in one shell each, until one fails."""
        values = {"image": "registry.example/shop/cart", "correlation_id": "rr-1", **inputs}
        names = {"IMAGE": "image", "TAG": "correlation_id", "OLD": "digest", "BASE": "base"}
        given = {name: values.get(key, "") for name, key in names.items()}
        alone = {"VERSION": "1.2.3", "SHA256": self.given["PACK_SHA256"]}
        environment = {**alone, **self.given, **given}
        done = subprocess.CompletedProcess[str]([], 0, "", "")
        for script in self.scripts(file):
            done = subprocess.run(
                ["bash", "-e", "-c", script],
                cwd=self.work,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                break
        return done

    @staticmethod
    def scripts(file: Path) -> list[str]:
        """What the job `build` of either forge gives to its shell."""
        if file in GITHUB:
            return [
                step["run"] for step in workflow(file)["jobs"]["build"]["steps"] if "run" in step
            ]
        return list(parts(file)[1]["build"]["script"])

    def calls(self) -> list[str]:
        """What the tools were called with, in order."""
        return (self.folder / "calls").read_text().splitlines()


WITH_TOOLS = [file for file in GITHUB + GITLAB if file.stem != "rebuild"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine of its own."""
    return Machine(tmp_path)


@pytest.mark.parametrize("file", WITH_TOOLS, ids=named)
def test_it_patches_the_digest_that_runs_and_says_what_it_pushed(
    machine: Machine, file: Path
) -> None:
    """The tool gets the old image by digest, and build.json is as `pipeline.run` reads it."""
    done = machine.run(file, digest=DIGEST, base="registry.example/run:1")
    assert done.returncode == 0, done.stderr
    build = read_build_json((machine.work / "build.json").read_bytes())
    assert (build.image, build.digest) == ("registry.example/shop/cart", MADE)
    assert (build.correlation_id, build.tag) == ("rr-1", "rr-1")
    old = f"registry.example/shop/cart@{DIGEST}"
    tool = {"copacetic": f"copa patch --image {old}", "rebase": "pack rebase"}[file.stem]
    [call] = [line for line in machine.calls() if line.startswith(tool)]
    assert old in call
    assert "--tag rr-1" in call or "cart:rr-1 --previous-image" in call


@pytest.mark.parametrize("file", WITH_TOOLS, ids=named)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "registry.example/other/cart"),
        ("image", "registry.example/shop/$(touch pwned)"),
        ("correlation_id", 'x","digest":"y'),
        ("digest", "sha256:0;touch pwned"),
    ],
    ids=["not-allowed", "command", "quotes", "semicolon"],
)
def test_what_it_may_not_build_and_what_is_no_name_ends_it_before_anything_is_fetched(
    machine: Machine, file: Path, name: str, value: str
) -> None:
    """Nothing runs, nothing is logged in to, and no text of an input is a command."""
    done = machine.run(file, **{"digest": DIGEST, name: value})
    assert done.returncode != 0
    assert not (machine.folder / "calls").exists()
    assert list(machine.work.iterdir()) == []


@pytest.mark.parametrize("file", WITH_TOOLS, ids=named)
def test_a_tool_that_is_not_the_pinned_one_is_never_started(machine: Machine, file: Path) -> None:
    """Another hash, or none at all, ends the job."""
    for name in ("COPA_SHA256", "PACK_SHA256"):
        machine.given[name] = "0" * 64
    assert machine.run(file, digest=DIGEST).returncode != 0
    assert not (machine.folder / "calls").exists()


def test_what_stands_for_an_action_is_only_what_the_workflows_use() -> None:
    """One list of pinned commits: the stand-ins of the tests and the files agree."""
    used = {step["uses"] for file in GITHUB for step in steps(file) if "uses" in step}
    assert used == set(STAND_INS.values())
    assert json.dumps(sorted(used)).count("@") == len(used)
