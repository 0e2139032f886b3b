"""What the tests of the sources share: the sources themselves, hooks, and the corpus if any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations import alertmanager, falco, generic, pagerduty
from integrations._webhook import Guard
from responder.clock import World
from responder.model import Secret
from responder.ports import HookInfo, Source

NOW = 1_790_000_000_000_000  # microseconds; the clock of every test here


class StillClock:
    """A clock that a test owns."""

    def now(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a source never waits")


WORLD = World(clock=StillClock())
SOURCES: dict[str, Source] = {
    "falco": falco.Falco(Guard(WORLD)),
    "alertmanager": alertmanager.Alertmanager(Guard(WORLD)),
    "pagerduty": pagerduty.PagerDuty(Guard(WORLD)),
    "generic": generic.Generic(Guard(WORLD)),
}


def hook_of(source: str, **options: Any) -> HookInfo:
    """A hook that speaks for the cluster `prod`."""
    return HookInfo(
        name=f"{source}-prod",
        source=source,
        cluster="prod",
        auth={"bearer": Secret("right-token")},
        options=options,
    )


def corpus_root() -> Path | None:
    """The folder of recorded payloads: named by the environment, or beside the checkout."""
    named = os.environ.get("RESPONDER_CORPUS")
    if named:
        return Path(named) if Path(named).is_dir() else None
    for parent in Path(__file__).resolve().parents:
        for candidate in (parent / "shared" / "corpus", parent / "corpus"):
            if (candidate / "alerts").is_dir():
                return candidate
    return None


def corpus_files(*folders: str) -> list[Any]:
    """Parameters for pytest: every recorded payload, or one that skips with the reason."""
    root = corpus_root()
    if root is None:
        reason = "no recorded payloads: set RESPONDER_CORPUS to their folder"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="no-corpus")]
    return [pytest.param(path, id=str(path.relative_to(root))) for path in _walk(root, folders)]


def _walk(root: Path, folders: tuple[str, ...]) -> Iterator[Path]:
    for folder in folders or (".",):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".json", ".txt"} and "openapi" not in path.parts:
                yield path
