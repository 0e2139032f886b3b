"""Whatever fault shows up at whichever call: never two branches, requests, commits or merges.

Each try after a failure is another life, which knows nothing of the one before.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.adapters.forges.test_merge import checked_after, proposed
from tests.adapters.forges.world import KINDS, Forge, a_call, forge
from tests.doubles.faults import Fault

PROPOSING = {
    "github": ("branch", "fork", "read", "push", "requests", "open"),
    "gitlab": ("branch", "read", "push", "requests", "open"),
}
MERGING = {"github": ("request", "checks", "status", "merge"), "gitlab": ("request", "merge")}


def cases(places: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Every call of every forge."""
    return [(kind, place) for kind in KINDS for place in places[kind]]


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Count what was shown and what came of it; told at the end."""
    found: Counter[str] = Counter()
    yield found
    manager = request.config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        for kind in KINDS:
            words = ", ".join(f"{found[f'{kind} {word}']} {word}" for word in WORDS)
            print(f"\n{kind}: {words}")


WORDS = (
    "faults at propose", "branches", "commits", "requests", "doubled",
    "faults at merge", "merges", "merged twice or unchecked",
)  # fmt: skip


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
@pytest.mark.parametrize(("kind", "place"), cases(PROPOSING))
async def test_no_fault_proposes_twice(
    kind: str, place: str, fault: Fault, tally: Counter[str]
) -> None:
    """One branch, one commit, one request in the end."""
    async with forge(kind, settings={"timeout": 1}) as f:
        f.double.faults.arm(place, fault)
        done = await f.proposed_by(a_call())
        assert done.result["request"] == 1
        assert not any(f.double.faults.armed.values())
        made = (len(f.git.own()), f.made["push"], f.made["open"])
        tally[f"{kind} faults at propose"] += 1
        for word, count in zip(("branches", "commits", "requests"), made, strict=True):
            tally[f"{kind} {word}"] += count
            tally[f"{kind} doubled"] += count > 1
        assert made == (1, 1, 1)
        await is_whole(f)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
@pytest.mark.parametrize(("kind", "place"), cases(MERGING))
async def test_no_fault_merges_twice_or_unchecked(
    kind: str, place: str, fault: Fault, tally: Counter[str]
) -> None:
    """Merged once in the end, with its checks passed."""
    async with proposed(kind, settled_after=0, **checked_after(kind, 0)) as (f, call, _):
        f.settings = {"timeout": 1}
        f.double.faults.arm(place, fault)
        done = await f.merged_by(call, lives=12)
        assert done.result["commit"] == f.git.branches["main"]
        assert not any(f.double.faults.armed.values())
        twice = f.made["merge"] != 1 or f.made["merged unbuilt"] > 0
        tally[f"{kind} faults at merge"] += 1
        tally[f"{kind} merges"] += f.made["merge"]
        tally[f"{kind} merged twice or unchecked"] += twice
        assert not twice


async def is_whole(f: Forge) -> None:
    """A verdict of a later life holds, too."""
    call = a_call()
    f.settings = {}  # nothing is slow on purpose any more: no reason to be impatient
    async with f.life() as life:
        plan = f.plans[call.key]
        again = await life.propose.apply(call, plan)
        assert (await life.propose.verify(call, plan, again.result)).level == "applied"
    assert (f.made["push"], f.made["open"]) == (1, 1)
