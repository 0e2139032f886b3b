"""A sender that should speak and does not is an incident, once; a test of a hook starts nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from integrations._source import sample_of
from responder.clock import SECOND, World
from responder.errors import BadRequest, ConfigError, Forbidden, NotFound
from responder.model import Role
from responder.service import Who
from responder.service.silence import RULE, Silence
from responder.wiring import App, build, load_settings

ADMIN = Who(person="anna", role=Role.ADMIN, door="cli")
CONFIG = """
[store]
url = "sqlite:///{folder}/responder.db"
[playbooks]
folders = ["{folder}/playbooks"]
[clusters.prod]
api = "https://cluster.invalid"
[hooks.quiet]
source = "falco"
cluster = "prod"
auth = {{none = true}}
expect_every = "1h"
[hooks.free]
source = "tetragon"
cluster = "prod"
auth = {{none = true}}
[hooks.forge]
source = "github"
auth = {{none = true}}
[forges.github]
base_url = "https://forge.invalid"
token = {{env = "FORGE_TOKEN"}}
"""
PLAYBOOK = """
playbook: watch-shells
description: Collect what is known of a pod with a shell in it.
on:
  - alert:
      source: [falco]
      rule: [Terminal shell in container]
mode: observe
steps:
  snapshot:
    use: kubernetes.snapshot
    with: {pod: "${{ target.pod }}"}
"""


class Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.micros = 1_790_000_000 * SECOND

    def now(self) -> int:
        return self.micros

    def monotonic(self) -> float:
        return self.micros / SECOND

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


@asynccontextmanager
async def server(folder: Path, clock: Hands) -> AsyncIterator[App]:
    """A server that is set up and carries nothing on."""
    (folder / "playbooks").mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text(CONFIG.format(folder=folder))
    settings = load_settings(path, environ={"FORGE_TOKEN": "t"})
    async with build(settings, world=World(clock=clock), anonymous=True, idle=True) as app:
        yield app


async def told(app: App) -> list[str]:
    """What the store has of silence, oldest first."""
    rows = (await app.service.alerts(ADMIN, hook="quiet"))["items"]
    return [r["alert"]["kind"] for r in reversed(rows) if r["alert"]["rule"] == RULE]


async def test_silence_is_one_incident_and_its_end_is_told(tmp_path: Path) -> None:
    """Not before the hour is over, once for one silence, and again for the next."""
    clock = Hands()
    async with server(tmp_path, clock) as app:
        silence = Silence(app.service.core)
        await silence.look()
        clock.micros += 3600 * SECOND
        await silence.look()
        assert await told(app) == []

        clock.micros += SECOND
        for _ in range(3):
            await silence.look()
        assert await told(app) == ["health"]
        incidents = (await app.service.incidents(ADMIN))["items"]
        assert [i["title"] for i in incidents] == ["Source silent - quiet"]
        number = incidents[0]["number"]
        assert (await app.service.incident(ADMIN, number))["runs"] == []
        page = (await app.service.metrics_text()).decode()
        assert 'responder_source_silent{hook="quiet"} 1.0' in page
        assert 'responder_source_silent{hook="free"}' not in page

        await app.service.receive("quiet", {}, sample_of("falco"))
        await silence.look()
        assert await told(app) == ["health", "resolved"]
        assert (
            'responder_source_silent{hook="quiet"} 0.0'
            in (await app.service.metrics_text()).decode()
        )

        clock.micros += 3601 * SECOND
        await silence.look()
        assert await told(app) == ["health", "resolved", "health"]


async def test_a_restart_neither_forgets_nor_repeats_a_silence(tmp_path: Path) -> None:
    """What was heard before counts, and what was told before is not told again."""
    clock = Hands()
    async with server(tmp_path, clock) as app:
        await app.service.receive("quiet", {}, sample_of("falco"))
    clock.micros += 3601 * SECOND
    for _ in range(2):
        async with server(tmp_path, clock) as app:
            silence = Silence(app.service.core)
            await silence._remember()
            await silence.look()
            assert await told(app) == ["health"]
        clock.micros += 60 * SECOND


async def test_refused_senders_break_no_silence(tmp_path: Path) -> None:
    """Whoever does not hold the credential was not heard."""
    async with server(tmp_path, Hands()) as app:
        with pytest.raises(NotFound):
            await app.service.receive("nobody", {}, b"{}")
        assert app.service.core.heard == {}


async def test_a_test_of_a_hook_is_stored_and_starts_nothing(tmp_path: Path) -> None:
    """It names what would start, is no repeat of another test, and no sign of life."""
    clock = Hands()
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/watch.yaml").write_text(PLAYBOOK)
    async with server(tmp_path, clock) as app:
        for _ in range(2):
            clock.micros += SECOND
            [said] = (await app.service.hook_test(ADMIN, "quiet"))["alerts"]
            assert said["would_start"] == ["watch-shells"]
            assert (said["runs"], said["duplicate"], said["incident"]) == ([], False, None)
        rows: list[dict[str, Any]] = (await app.service.alerts(ADMIN, hook="quiet"))["items"]
        assert [row["alert"]["kind"] for row in rows] == ["test", "test"]
        assert rows[0]["alert"]["reason"] == "a test of this hook, asked for by anna"
        assert app.service.core.heard == {}
        assert (await app.service.incidents(ADMIN))["items"] == []


async def test_only_responders_test_hooks_and_only_those_that_make_alerts(tmp_path: Path) -> None:
    """A viewer may not; a forge's hints have no sample."""
    async with server(tmp_path, Hands()) as app:
        viewer = Who(person="v", role=Role.VIEWER, door="cli")
        with pytest.raises(Forbidden):
            await app.service.hook_test(viewer, "quiet")
        with pytest.raises(NotFound):
            await app.service.hook_test(ADMIN, "nobody")
        with pytest.raises(BadRequest):
            await app.service.hook_test(ADMIN, "forge")


async def test_an_odd_expectation_is_named(tmp_path: Path) -> None:
    """`expect_every` is a duration."""
    (tmp_path / "playbooks").mkdir()
    path = tmp_path / "config.toml"
    text = CONFIG.replace('expect_every = "1h"', 'expect_every = "often"')
    path.write_text(text.format(folder=tmp_path))
    settings = load_settings(path, environ={"FORGE_TOKEN": "t"})
    with pytest.raises(ConfigError, match=r"hooks\.quiet\.expect_every"):
        async with build(settings, anonymous=True, idle=True):
            pass
