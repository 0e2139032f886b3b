"""The `[argocd]` tables: what is taken, what is refused, and that no secret shows."""

from typing import Any

import pytest

from integrations.argocd import setup
from integrations.argocd.reading import repository
from responder.clock import World
from responder.errors import ConfigError, StepFailed
from responder.model import Secret
from responder.ports import Done, Kit
from tests.adapters.argocd.world import a_call
from tests.adapters.github.world import NoEvidence

GOOD = {"url": "https://argocd.example", "token": Secret("do-not-show")}


def made(**changes: Any) -> Any:
    """Set one server up."""
    return setup({"main": {**GOOD, **changes}}, World(), Kit(evidence=NoEvidence()))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"url": "http://argocd.example"}, "http only on loopback"),
        ({"url": "https://me:pw@argocd.example"}, "without user name"),
        ({"url": "https://argocd.example/api/v1"}, "without /api/v1"),
        ({"token": "written-out"}, "token"),
        ({"tokn": "x"}, r"\[argocd.main\] tokn: is not a known key; .*token"),
        ({"poll": 0}, "poll"),
    ],
)
def test_a_wrong_table_is_refused_by_its_key_and_shows_no_value(change: Any, text: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigError, match=text) as told:
        made(**change)
    assert "written-out" not in str(told.value)
    assert "pw@" not in str(told.value)


async def test_without_a_server_the_action_says_so() -> None:
    """A playbook that has it loads everywhere, and nobody takes its silence for a sync."""
    found = setup({}, World(), Kit(evidence=NoEvidence()))
    assert (found.checks, found.sources) == ({}, ())
    with pytest.raises(StepFailed, match=r"no \[argocd.NAME\] is configured"):
        await found.actions[0].plan(a_call())
    plan = await found.actions[0].plan(a_call(optional=True))
    done = await found.actions[0].apply(a_call(optional=True), plan)
    assert isinstance(done, Done)
    verdict = await found.actions[0].verify(a_call(optional=True), plan, done.result)
    assert plan.changes == ()
    assert "its own sync has to bring the change" in verdict.residual[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/acme/deploy",
        "https://git.example/acme/deploy.git",
        "https://user@GIT.example/acme/deploy/",
        "ssh://git@git.example/acme/deploy.git",
        "git@git.example:acme/deploy.git",
        "git.example/acme/deploy",
    ],
)
def test_one_repository_has_many_addresses(url: str) -> None:
    """They are compared by host and path."""
    assert repository(url) == "git.example/acme/deploy"
