"""The journey with a pull or merge request in it, its server killed at each call to the forge.

As `test_kill_points`, with a double as the forge that has pipelines and a repository: the digest
that was built is proposed in the file that the workload is deployed from, merged after a person's
yes, and then rolled out. Each journey must end as the one that nobody disturbed: one pipeline, one
branch, one commit, one request, one merge, one rollout. The cluster's own looks are left to
`test_kill_points`; what it changes is here, too.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import github, gitlab
from tests.doubles.github_pulls import Pulls
from tests.doubles.gitstore import GitStore
from tests.doubles.lab_requests import Repository
from tests.journeys.kill_driver import Death, Forging, Journey, nursery
from tests.journeys.test_kill_points import SHIPPED, all_of, first_light, name
from tests.journeys.workshop import TOKEN, HubWorkshop, LabWorkshop

FILE = "shop/cart.yaml"
OLD = f"cart:\n  # what runs\n  digest: sha256:{'0' * 64}\n"
ONCE = {
    "github": {"fork": 1, "push": 1, "open": 1, "merge": 1},
    "gitlab": {"push": 1, "open": 1, "merge": 1},
}
STEPS = """\
  propose:
    use: change.propose
    needs: [rebuild]
    with:
      image: ${{ steps.rebuild.image }}
      digest: ${{ steps.rebuild.digest }}
      change: production
  merge:
    use: change.merge
    needs: [propose]
    with:
      image: ${{ steps.rebuild.image }}
      change: ${{ steps.propose.change }}
      request: ${{ steps.propose.request }}
      sha: ${{ steps.propose.sha }}
"""
FEWEST = {"github": 64, "gitlab": 50}  # moments; fewer means that the points have come loose


def playbook(folder: Path) -> Path:
    """The shipped playbook with the two steps between rebuild and redeploy; only the merge asks."""
    text = SHIPPED.read_text().replace("mode: approve", "mode: enforce")
    head, _, tail = text.partition("  redeploy:\n")
    tail = tail.replace("needs: [rebuild]", "needs: [merge]", 1)
    tail = tail.replace("    approve: {by: approver, within: 30m, otherwise: stop}\n", "")
    tail = tail.partition("tests:\n")[0]
    folder.mkdir()
    (folder / SHIPPED.name).write_text(f"{head}{STEPS}  redeploy:\n{tail}")
    return folder


def told(kind: str, addresses: Mapping[str, str], base_url: str) -> dict[str, Any]:
    """What a server is told of the forge: where it is, and what the image map allows."""
    return {
        "forge": {"kind": kind, "base_url": base_url},
        "route": {
            "match": f"{addresses['registry']}/*",
            "forge": "other",
            "repo": "acme/shop",
            "workflow": "rebuild.yml" if kind == "github" else ".gitlab-ci.yml",
            "changes": [
                {"name": "production", "file": FILE, "kind": "values", "key": "cart.digest"}
            ],
        },
    }


def forging(kind: str, made: Counter[str]) -> Forging:
    """Serve a double of this kind for each journey; counts what each has made, and checks it."""

    @contextlib.asynccontextmanager
    async def serve(addresses: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        git, base = GitStore({FILE: OLD}), f"{addresses['forge']}/repos/{addresses['repo']}"
        double: Any
        if kind == "github":
            part = Pulls(git, settled_after=0, checked_after=-9)
            running: Any = github.running(executor=HubWorkshop(base), token=TOKEN, parts=(part,))
        else:
            lab = Repository(git, settled_after=0, pipeline_after=0)
            running = gitlab.running(executor=LabWorkshop(base), token=TOKEN, repository=lab)
        async with running as double:
            yield told(kind, addresses, double.base_url)
        assert (double.wrong_requests, double.wrong_answers, double.leaked) == ([], [], [])
        made.update(git.made)
        made["journeys"] += 1
        assert dict(git.made) == ONCE[kind], f"not once each: {dict(git.made)}"
        assert len(git.own()) == 1
        text = git.at("main", FILE) or ""
        assert text.startswith("cart:\n  # what runs\n  digest: sha256:")
        assert text != OLD

    return serve


def concerns(point: str) -> bool:
    """Whether it is a call to the forge, or what changes or removes something of the cluster."""
    return any(word in point for word in ("acme/shop", "acme%2Fshop", "call PATCH", "call DELETE"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["github", "gitlab"])
async def test_a_kill_at_any_call_to_the_forge_makes_no_second_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Before and after each: one pipeline, one branch, one commit, one request, one rollout."""
    made: Counter[str] = Counter()
    serve, playbooks = forging(kind, made), playbook(tmp_path / "playbooks")
    async with nursery() as hand:
        first = await first_light(hand, tmp_path / "first", playbooks, serve)
        points = [point for point in first.lives[0] if concerns(point)]
        plans = [(Death(point),) for point in points]
        ends = await all_of(hand, tmp_path / "killed", playbooks, first, plans, serve)
    reached = [deaths[0].target for deaths, story in ends.items() if story.kills]
    counts = {word: made[word] for word in ("journeys", *ONCE[kind])}
    with capsys.disabled():
        print(
            f"\n{kind}: killed at {len(reached)} of {len(points)} moments around calls to the "
            f"forge and changes of the cluster; {counts}: same end each time, one pipeline, one "
            "branch, one commit, one request, one merge, one rollout in each"
        )
    assert len(points) >= FEWEST[kind]
    assert {name(point) for point in reached} == {name(point) for point in points}
    assert len(reached) >= 0.97 * len(points)


async def test_a_server_that_names_each_branch_anew_is_found(tmp_path: Path) -> None:
    """The counter-proof: with a name that another life does not find again, there are two."""
    made: Counter[str] = Counter()
    serve, playbooks = forging("github", made), playbook(tmp_path / "playbooks")
    opened = "after call POST /repos/acme/shop/pulls #1"
    async with nursery("--restless") as hand:
        journey = Journey(hand, tmp_path / "killed", playbooks, serve)
        with pytest.raises(AssertionError, match="not once each"):
            await journey.travel(Death(opened))
    assert made["open"] == 2
