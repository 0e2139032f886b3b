"""The image map alone says where a change may be proposed, and a wrong entry is told at start."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from integrations._forges import setup
from integrations._merging import ProposeChange
from integrations._merging_routes import change_of, place_of
from responder.clock import World
from responder.errors import ConfigError, StepFailed
from responder.model import Secret
from responder.ports import ImageRoute, Kit
from responder.settings import load
from responder.wiring import parts
from tests.adapters.forges.world import DIGEST, IMAGE, PRODUCTION, a_call
from tests.adapters.github.world import NoEvidence, agreeing
from tests.doubles import github, gitlab
from tests.doubles.github_pulls import Pulls

ROUTE = ImageRoute(
    match="registry.example/shop/*",
    forge="forge",
    repo="acme/shop",
    workflow="rebuild.yml",
    changes=(PRODUCTION,),
)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"forge": "frge"}, r'change "production": no \[forges.frge\].*forge'),
        ({"repo": "shop"}, "repo: expected OWNER/NAME"),
        ({"repo": "../x"}, "repo: expected OWNER/NAME"),
        ({"file": "/etc/passwd"}, "file: expected a path"),
        ({"file": "a/../b"}, "file: expected a path"),
        ({"kind": "value"}, 'kind: "value" is none.*values'),
        ({"key": ""}, "key: expected where the file names it"),
        ({"key": "a..b"}, "key: expected NAMES"),
        ({"key": "a[0]"}, "key: expected to end with a name"),
        ({"name": "source"}, 'change "source": the name is taken'),
    ],
)
def test_a_wrong_entry_is_told_at_start(change: dict[str, Any], text: str) -> None:
    """With the line and the key."""
    route = replace(ROUTE, changes=(replace(PRODUCTION, **change),))
    table = {"kind": "github", "token": Secret("t")}
    with pytest.raises(ConfigError, match=text):
        setup({"forge": table}, World(), Kit(evidence=NoEvidence(), images=(route,)))


def test_a_name_is_given_once() -> None:
    """Two entries of one name would be a guess."""
    route = replace(ROUTE, changes=(PRODUCTION, PRODUCTION))
    table = {"kind": "github", "token": Secret("t")}
    with pytest.raises(ConfigError, match="the name is taken"):
        setup({"forge": table}, World(), Kit(evidence=NoEvidence(), images=(route,)))


MANY = replace(
    ROUTE,
    changes=(
        replace(PRODUCTION, workloads=("prod/shop/*/cart",)),
        replace(PRODUCTION, name="staging", workloads=("staging/*",)),
        replace(PRODUCTION, name="base", kind="dockerfile"),
    ),
)


@pytest.mark.parametrize(
    ("workload", "name"),
    [
        ("prod/shop/Deployment/cart", "production"),
        ("staging/shop/CronJob/report", "staging"),
        ("prod/shop/Deployment/web", ""),
    ],
)
def test_a_workload_is_deployed_from_the_one_entry_that_fits(workload: str, name: str) -> None:
    """None or several: nothing is guessed."""
    assert change_of((MANY,), f"{IMAGE}@{DIGEST}", workload) == name
    assert change_of((MANY,), "registry.example/bank/vault:1", workload) == ""
    assert change_of((MANY,), "no image", workload) == ""
    twice = replace(MANY, changes=(*MANY.changes, replace(PRODUCTION, name="second")))
    assert change_of((twice,), IMAGE, workload) == ("second" if not name else "")


def test_of_several_entries_one_must_be_named() -> None:
    """And the text says which there are."""
    with pytest.raises(StepFailed, match=r"name one.*has: production, staging, base"):
        place_of(a_call(), (MANY,))
    assert place_of(a_call(change="staging"), (MANY,)).name == "staging"
    own = place_of(a_call(base="x", instead_of="y"), (MANY,))
    assert (own.name, own.repo, own.file) == ("source", "acme/shop", "Dockerfile")


def test_what_an_entry_leaves_out_is_the_lines_own(tmp_path: Path) -> None:
    """Forge, repository and branch."""
    file = tmp_path / "config.toml"
    file.write_text(
        """
[[images]]
match = "registry.example/shop/*"
forge = "hub"
repo = "acme/shop"
workflow = "rebuild.yml"
ref = "trunk"
[[images.changes]]
name = "production"
file = "deploy.yaml"
kind = "manifest"
[[images.changes]]
name = "config"
forge = "lab"
repo = "acme/deploy"
branch = "live"
file = "deploy.yaml"
kind = "kustomize"
"""
    )
    [image] = load(file, environ={}).images
    own, other = parts._route(image).changes
    assert (own.forge, own.repo, own.branch, own.checks) == ("hub", "acme/shop", "trunk", True)
    assert (other.forge, other.repo, other.branch) == ("lab", "acme/deploy", "live")


async def test_an_image_may_be_built_by_one_forge_and_deployed_from_another() -> None:
    """The route is a GitLab's, the file lies on a GitHub."""
    pulls = Pulls()
    async with (
        github.running(parts=(pulls,)) as hub,
        gitlab.running() as lab,
        contextlib.AsyncExitStack() as stack,
    ):
        tables = {
            "hub": {"kind": "github", "base_url": hub.base_url, "token": Secret(hub.token)},
            "lab": {"kind": "gitlab", "base_url": lab.base_url, "token": Secret(lab.token)},
        }
        change = replace(PRODUCTION, forge="hub", repo="acme/deploy")
        route = replace(ROUTE, forge="lab", workflow=".gitlab-ci.yml", changes=(change,))
        kit = Kit(evidence=NoEvidence(), images=(route,), digest_of=agreeing)
        made = setup(tables, World(), kit)
        assert made.close
        stack.push_async_callback(made.close)
        [action] = [one for one in made.actions if isinstance(one, ProposeChange)]
        done = await action.apply(a_call(), await action.plan(a_call()))
        assert done.result["repo"] == "acme/deploy"
        assert pulls.git.made["open"] == 1
        assert not lab.repository.git.made
        assert not lab.asked
