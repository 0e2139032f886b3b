"""Which forge a journey goes through: how its double is served, and how the product is told."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles import github, gitlab
from tests.doubles.executors import Act
from tests.doubles.lab_executors import CiLocal
from tests.real.engine import Engine


@dataclass(frozen=True)
class Forging:
    """One kind of forge with a real executor of its pipeline files behind the double."""

    kind: str
    workflow: str
    serve: Callable[[Engine, Path], AbstractAsyncContextManager[Any]]
    ends: Callable[[Any], list[str | None]]  # of everything that the double has run


def by_github(act: Path) -> Forging:
    """GitHub's API in front of act."""
    return Forging(
        kind="github",
        workflow="rebuild.yml",
        serve=lambda engine, folder: github.running(executor=Act(act, engine, folder)),
        ends=lambda double: [run.conclusion for run in double.runs.values()],
    )


def by_gitlab(program: Path) -> Forging:
    """GitLab's API in front of gitlab-ci-local."""
    return Forging(
        kind="gitlab",
        workflow=".gitlab-ci.yml",
        serve=lambda engine, folder: gitlab.running(executor=CiLocal(program, engine, folder)),
        ends=lambda double: [one.status for one in double.runs],
    )
