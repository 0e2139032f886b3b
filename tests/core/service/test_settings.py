"""Configuration: what is a secret, what a reload may change, what guards us ourselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.errors import ConfigError
from responder.model import Secret
from responder.settings import differing, load
from responder.wiring.parts import guard
from tests.core.engine.bench import bench
from tests.core.engine.test_driver import MARK, playbook

PLAIN = """
[guards]
protected_labels = {env = "prod"}
namespace_modes = {env = "observe"}
[[images]]
match = "registry.example/*"
forge = "github"
repo = "acme/shop"
workflow = "rebuild.yml"
inputs = {file = "Dockerfile"}
"""


def test_a_label_called_env_is_a_label(tmp_path: Path) -> None:
    """`env = "prod"` is the commonest label there is, and no reference to a secret."""
    settings = load(_write(tmp_path, PLAIN), environ={"prod": "a value nobody meant"})

    assert settings.guards.protected_labels == {"env": "prod"}
    assert settings.images[0].inputs == {"file": "Dockerfile"}


def _write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


HOOK = '[hooks.falco]\nsource = "falco"\nauth = {bearer = {env = "TOKEN"}}\n'


def test_a_secret_of_a_hook_is_read_from_where_it_lies(tmp_path: Path) -> None:
    """Its value is a `Secret`; a missing one is an error that names key and variable."""
    path = _write(tmp_path, HOOK)
    found = load(path, environ={"TOKEN": "canary"}).hooks["falco"].auth["bearer"]
    assert isinstance(found, Secret)
    assert "canary" not in repr(found)

    with pytest.raises(ConfigError, match=r"hooks\.falco\.auth\.bearer.*TOKEN"):
        load(path, environ={})


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("", "", []),
        (HOOK, HOOK, []),
        (HOOK, HOOK.replace("TOKEN", "OTHER"), ["hooks"]),
        ("", '[guards]\nmode = "enforce"\n', ["guards"]),
        ("", '[playbooks]\nshipped = ["quarantine-pod"]\n', ["playbooks"]),
    ],
    ids=["nothing", "same secret", "new secret", "guards", "playbooks"],
)
def test_sections_that_differ_are_named(
    tmp_path: Path, first: str, second: str, names: list[str]
) -> None:
    """Also where only a secret is another one."""
    environ = {"TOKEN": "one", "OTHER": "two"}
    old = load(_write(tmp_path, first), environ=environ)
    new = load(_write(tmp_path, second), environ=environ)

    assert differing(old, new) == names


async def test_a_reload_that_cannot_be_whole_does_nothing(tmp_path: Path) -> None:
    """Guards are read at the start: "reloaded" would be a lie while they stay as they were."""
    async with bench(tmp_path, [playbook(MARK)]) as b:
        (tmp_path / "playbooks" / "1.yaml").write_text(playbook(MARK, name="q"), encoding="utf-8")
        new = b.app.settings.model_copy(
            update={"guards": b.app.settings.guards.model_copy(update={"pods_per_run": 3})}
        )
        with pytest.raises(ConfigError, match="guards"):
            b.app.reload(new)
        assert sorted(b.app.service.core.live.by_name) == ["p"]

        b.app.reload(b.app.settings)
        assert sorted(b.app.service.core.live.by_name) == ["p", "q"]


async def test_one_bad_playbook_keeps_the_old_set(tmp_path: Path) -> None:
    """All of the folder or none of it."""
    async with bench(tmp_path, [playbook(MARK)]) as b:
        (tmp_path / "playbooks" / "0.yaml").write_text(playbook(MARK, name="q"), encoding="utf-8")
        (tmp_path / "playbooks" / "1.yaml").write_text("playbook: [", encoding="utf-8")
        with pytest.raises(Exception, match=r"1\.yaml"):
            b.app.reload(b.app.settings)

        assert sorted(b.app.service.core.live.by_name) == ["p"]


def test_the_namespace_we_run_in_is_protected(tmp_path: Path) -> None:
    """Whatever it is called: an alert about us must not make us cut ourselves off."""
    own = tmp_path / "namespace"
    own.write_text("security-tools\n", encoding="utf-8")
    settings = load(None, environ={})

    assert "security-tools" in guard(settings, own=own).protected_namespaces
    assert "" not in guard(settings, own=tmp_path / "none").protected_namespaces


async def test_a_wrong_drain_time_is_found_at_the_start(tmp_path: Path) -> None:
    """Not when the server is asked to stop, with calls in flight."""
    with pytest.raises(ConfigError, match=r"server\.drain"):
        async with bench(tmp_path, [playbook(MARK)], server__drain="soon"):
            pytest.fail("it must not start")
