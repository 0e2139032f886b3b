"""Two alerts, three playbooks, one pod, and a server killed at every write: never a window open.

Real: the API server, the server process and its end (SIGKILL), the store, the account with its
generated roles and guard. Judged by the history of the API server itself, revision by revision
(`tests/real/history.py`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.adapters.kubernetes import accounts
from tests.journeys.isolation_kills import PLAYBOOKS, PODS, Ending, Scene, travel, write_playbooks
from tests.journeys.kill_driver import Death, Nursery, nursery
from tests.real.cluster import ControlPlane
from tests.real.history import LABEL, Happening, judge

pytestmark = pytest.mark.control_plane
TOGETHER = 2  # journeys at once: one core each
TIMES = 3  # the calm race is run so often
RUNS = len(PLAYBOOKS) + 1  # three for the first pod, one for its sister
FEWEST = 30  # moments; fewer means that the points have come loose


def must_be_right(ending: Ending) -> None:
    """Never a gap, never two policies, one policy for each pod in the end, every run succeeded."""
    told = json.dumps(ending.runs, indent=1)[-6000:]
    assert ending.findings.gaps == [], told
    assert ending.findings.doubles == [], told
    assert [run["outcome"] for run in ending.runs] == ["succeeded"] * RUNS, told
    values = [pod["metadata"]["labels"].get(LABEL) for pod in ending.pods]
    assert len(values) == len(PODS)
    assert all(values), values
    named = [policy["spec"]["podSelector"]["matchLabels"][LABEL] for policy in ending.policies]
    assert sorted(named) == sorted(values)
    assert ending.findings.relabels == len(PODS)


async def journeys(
    plane: ControlPlane, hand: Nursery, folder: Path, plans: Sequence[Sequence[Death]]
) -> list[Ending]:
    """One journey for each plan of deaths, a few at once; each in a namespace of its own."""
    left = list(enumerate(plans))[::-1]
    home = plane.namespace("home")
    token = accounts.generated(plane, home, [], "quarantine_pod")
    told: list[Ending] = []
    playbooks = write_playbooks(folder / "playbooks")

    async def work() -> None:
        while left:
            number, deaths = left.pop()
            namespace = plane.namespace("k")
            scene = Scene(plane, home, token, namespace, folder / str(number), playbooks)
            try:
                accounts.let_into(plane, home, namespace, token)
                ending = await travel(hand, scene, *deaths)
                must_be_right(ending)
                told.append(ending)
            except Exception as error:
                error.add_note(f"deaths: {deaths}")
                raise
            finally:
                plane.drop_namespace(namespace)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(TOGETHER):
                group.create_task(work())
    finally:
        accounts.forget(plane, home)
    return told


def lasting(passed: Iterable[str]) -> list[str]:
    """The moments at outside writes, and at the journal's own writes around them."""
    return [
        point
        for point in passed
        if (" call " in point and " call GET " not in point and "reviews" not in point)
        or (" write append " in point)
    ]


@pytest.mark.timeout(240)
async def test_two_alerts_and_three_playbooks_make_one_isolation(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Racing for one pod: one policy was ever there at a time, before the label, until the end."""
    async with nursery() as hand:
        told = await journeys(control_plane, hand, tmp_path, [()] * TIMES)
    with capsys.disabled():
        made = [max(one.findings.created.values()) for one in told]
        print(f"\n{len(told)} races of {RUNS} runs for {len(PODS)} pods: policies made {made}")
    assert len(told) == TIMES


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_kill_at_any_write_leaves_no_window_and_no_second_policy(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between policy and label, label and proof, and at every other write, outside or journal."""
    async with nursery() as hand:
        (tmp_path / "calm").mkdir()
        [calm] = await journeys(control_plane, hand, tmp_path / "calm", [()])
        points = lasting(calm.passed)
        (tmp_path / "killed").mkdir()
        plans = [(Death(point),) for point in points]
        told = await journeys(control_plane, hand, tmp_path / "killed", plans)
    kills = sum(one.kills for one in told)
    outside = sum(" call " in point for point in points)
    with capsys.disabled():
        print(
            f"\n{kills} kills at {len(points)} moments ({outside} at outside writes, "
            f"{len(points) - outside} at the journal's): never a labelled pod without its policy, "
            f"never two policies"
        )
    assert len(points) >= FEWEST
    assert kills >= 0.8 * len(points)


# --------------------------------------------------------------------------- the counter-proof


def change(
    number: int, kind: str, name: str, *, gone: bool = False, **metadata: object
) -> Happening:
    """One change of an invented history."""
    spec = {
        "podSelector": {"matchLabels": metadata.get("labels")},
        "policyTypes": ["Ingress", "Egress"],
    }
    item = {"metadata": {"name": name, "uid": f"uid-{name}", **metadata}, "spec": spec}
    return Happening(number, kind, gone, item)


OWNED = {"labels": {LABEL: "a"}, "ownerReferences": [{"kind": "Pod", "uid": "uid-p"}]}


@pytest.mark.parametrize(
    ("story", "gaps", "doubles"),
    [
        (
            [change(1, "NetworkPolicy", "q", **OWNED), change(2, "Pod", "p", labels={LABEL: "a"})],
            0,
            0,
        ),
        (
            [change(1, "Pod", "p", labels={LABEL: "a"}), change(2, "NetworkPolicy", "q", **OWNED)],
            1,
            0,
        ),
        (
            [
                change(1, "NetworkPolicy", "q", **OWNED),
                change(2, "Pod", "p", labels={LABEL: "a"}),
                change(3, "NetworkPolicy", "q", gone=True, **OWNED),
            ],
            1,
            0,
        ),
        (
            [
                change(1, "Pod", "p", labels={}),
                change(2, "NetworkPolicy", "q", **OWNED),
                change(3, "NetworkPolicy", "r", **OWNED),
            ],
            0,
            1,
        ),
        (
            [change(1, "NetworkPolicy", "q", **OWNED), change(2, "Pod", "p", labels={LABEL: "b"})],
            1,
            0,
        ),
    ],
    ids=["right", "label first", "policy deleted", "two policies", "another label"],
)
def test_the_history_tells_a_window(story: list[Happening], gaps: int, doubles: int) -> None:
    """A window of one revision is found, and so is a second policy."""
    found = judge([], story)
    assert (len(found.gaps), len(found.doubles)) == (gaps, doubles)
