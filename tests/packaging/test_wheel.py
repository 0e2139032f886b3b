"""The wheel holds what it must and nothing else, and works from an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout by the build backend alone."""
    out = tmp_path_factory.mktemp("wheel")
    program = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", program, str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return out / built.stdout.strip().splitlines()[-1]


def test_its_top_level_is_exactly_ours(wheel: Path) -> None:
    """Two import packages and the metadata: no tests, no playbooks beside them."""
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "responder",
        "integrations",
        "runtime_responder",
    }


def test_it_carries_playbooks_example_migrations_and_types(wheel: Path) -> None:
    """Everything that is not Python but needed at run time."""
    names = set(zipfile.ZipFile(wheel).namelist())

    for playbook in (ROOT / "playbooks").glob("*.yaml"):
        assert f"responder/_shipped/playbooks/{playbook.name}" in names
    for template in (ROOT / "playbooks/templates").glob("*/*.yml"):
        place = template.relative_to(ROOT / "playbooks")
        assert f"responder/_shipped/playbooks/{place}" in names
    assert sum("/playbooks/templates/" in name for name in names) == 6
    assert "responder/_shipped/config.example.toml" in names
    assert any(name.startswith("responder/store/migrations/0001") for name in names)
    assert {"responder/py.typed", "integrations/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_names_both_commands(wheel: Path) -> None:
    """`responder`, and the kubectl plugin of the same wheel."""
    with zipfile.ZipFile(wheel) as opened:
        name = next(n for n in opened.namelist() if n.endswith("entry_points.txt"))
        text = opened.read(name).decode()

    assert "responder = responder.cli:main" in text
    assert "kubectl-responder = responder.cli:main" in text


def test_the_installed_wheel_finds_its_playbooks(wheel: Path, tmp_path: Path) -> None:
    """Unpacked away from the checkout, the shipped playbooks load."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            target = site / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(opened.read(name))
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import responder; assert responder.__file__.startswith(sys.argv[1])\n"
        "from responder.playbook.shipped import shipped_texts\n"
        "print(len(shipped_texts()))"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program, str(site)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )

    assert int(ran.stdout) == len(list((ROOT / "playbooks").glob("*.yaml")))
