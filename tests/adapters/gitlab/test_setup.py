"""The tables of both kinds of forges are checked, and the image map chooses among them."""

from pathlib import Path
from typing import Any

import pytest

from integrations._forges import setup
from integrations._pipeline import PipelineRun
from responder.clock import World
from responder.errors import ConfigError
from responder.model import Secret
from responder.ports import ImageRoute, Kit
from tests.adapters.github.world import NoEvidence
from tests.adapters.gitlab.world import a_call, bench, route_to
from tests.doubles import github, gitlab

TOKEN = Secret("canary-token")
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "gitlab", "token": "canary-plain"}, "token: Input should be an instance of Secret"),
    ({"kind": "gitlab"}, r"\[forges.lab\] token: Field required"),
    ({"kind": "gitlab", "token": TOKEN, "tokn": "x"}, "tokn: Extra inputs"),
    ({"kind": "gitlab", "token": TOKEN, "base_url": "http://lab.example"}, "expected https"),
    ({"kind": "gitlab", "token": TOKEN, "base_url": "https://x/api/v4"}, "without /api/v4"),
    ({"kind": "gitlab", "token": TOKEN, "artifact": "../x"}, "expected a path inside"),
    ({"kind": "gitlab", "token": TOKEN, "pass_as": "args"}, "pass_as"),
    ({"kind": "gitlub", "token": TOKEN}, 'kind: "gitlub" is none; did you mean "gitlab"'),
]


def kit(*routes: ImageRoute) -> Kit:
    """Return a kit with these lines of the image map."""
    return Kit(evidence=NoEvidence(), images=routes)


@pytest.mark.parametrize(("table", "text"), WRONG)
def test_a_wrong_table_names_the_key_and_shows_no_value(table: dict[str, Any], text: str) -> None:
    """A secret written out in the file is refused without being shown."""
    with pytest.raises(ConfigError, match=text) as caught:
        setup({"lab": table}, World(), kit())
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"forge": "lob"}, r'no \[forges.lob\]; did you mean "lab"'),
        ({"repo": "shop"}, "repo: expected GROUP/PROJECT"),
        ({"repo": "acme//shop"}, "repo: expected GROUP/PROJECT"),
        ({"workflow": "rebuild.yml"}, r"workflow: GitLab starts a project's .gitlab-ci.yml"),
        ({"inputs": {"IMAGE": "x"}}, "inputs: image are set by pipeline.run"),
        ({"inputs": {f"i{n}": "" for n in range(18)}}, "at most 20 in all"),
    ],
)
def test_a_wrong_route_is_found_when_the_configuration_is_read(
    change: dict[str, Any], text: str
) -> None:
    """A route that could never work is an error at start, not in an incident."""
    with pytest.raises(ConfigError, match=text):
        setup({"lab": {"kind": "gitlab", "token": TOKEN}}, World(), kit(route_to(**change)))


async def test_two_kinds_of_forges_are_one_action_and_the_image_map_chooses() -> None:
    """`pipeline.run` exists once; each image goes to its own forge and to no other."""

    async def agreeing(reference: str) -> str:
        return reference.rpartition("@")[2]

    async with gitlab.running() as lab, github.running() as hub:
        common = {"settle": 0.3, "timeout": 2}
        tables = {
            "hub": {"base_url": hub.base_url, "token": Secret(hub.token), **common},
            "lab": {
                "kind": "gitlab", "base_url": lab.base_url, "token": Secret(lab.token), **common
            },
        }  # fmt: skip
        routes = (
            route_to("registry.example/shop/cart"),
            ImageRoute(match="*", forge="hub", repo="acme/shop", workflow="rebuild.yml"),
        )
        both = Kit(evidence=NoEvidence(), images=routes, digest_of=agreeing)
        made = setup(tables, World(), both)
        [action] = [one for one in made.actions if isinstance(one, PipelineRun)]
        names = [one.info.name for one in made.actions]
        assert len(set(names)) == len(names)
        for number, image in enumerate(("registry.example/shop/cart:1", "registry.example/a:1")):
            call = a_call(key=f"run_{number}/rebuild", params={"image": image})
            await action.apply(call, await action.plan(call))
        assert (lab.dispatches.total(), hub.dispatches.total()) == (1, 1)
        assert set(made.checks) == {"forge hub", "forge lab"}
        assert [await check() for check in made.checks.values()] == ["ok", "ok"]
        assert {source.name for source in made.sources} == {"github", "gitlab"}
        assert made.close
        await made.close()
        assert lab.wrong_requests == lab.wrong_answers == []


async def test_neither_token_is_ever_in_a_plan_a_state_or_a_process_list() -> None:
    """The trigger token travels in a body, the API token in a header, both nowhere else."""
    more = {"trigger_token": Secret(gitlab.TRIGGER_TOKEN)}
    async with bench(settings=more) as b:
        plan = await b.action.plan(a_call())
        pending = await b.apply(a_call())
        said = f"{plan} {pending} {b.integration}"
        said += Path("/proc/self/cmdline").read_text()
        assert gitlab.TRIGGER_TOKEN not in said
        assert gitlab.TOKEN not in said
