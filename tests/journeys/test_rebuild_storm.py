"""Many rebuilds at once on slow forges with limits: each is started once, and isolations go on.

`make bench ARGS=forge` runs a hundred of them with answers of a second, beside a server that
rebuilds nothing, and holds the times.
"""

from pathlib import Path

import pytest

from tests.bench.forge import NAMES, Scale, rebuilding

REBUILDS = 16
PACE = {"answer": 0.2, "build": 4.0, "window": 4.0, "points": 900, "pipelines": 5}


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_rebuilds_obey_the_forges_limits_and_leave_room_for_isolations(
    tmp_path: Path,
) -> None:
    """A closed window hears nothing, nothing is started twice, every alert is contained."""
    scale = Scale(rebuilds=REBUILDS, pods=400, gap=0.5, backoff="1s", pace=PACE, sides=("busy",))
    seen = await rebuilding(tmp_path, scale)
    assert seen.rebuilt == {"succeeded": REBUILDS}
    assert len(seen.busy) > 10
    for name in NAMES:
        told = seen.told[name]
        assert (told["dispatched"], told["twice"]) == (REBUILDS // 2, 0)
        assert told["offences"] == 0
        assert told["wrong"] == []
        assert told["hooks"] == REBUILDS // 2
        # no run was looked at before its webhook; lists are for those that were turned away
        assert told["looks"] <= told["asked"].get("list", 0)
    assert seen.told["gitlab"]["refused"] > 0  # else the limit was not tried
