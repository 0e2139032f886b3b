"""A flood from one sender: nothing is lost, the flood brakes itself, and another sender is heard.

`make bench ARGS=storm` runs the same with ten thousand alerts in ten seconds and holds its speed.
"""

from pathlib import Path

import pytest

from tests.bench.storm import BRAKE, weather

ALERTS, PODS, SECONDS = 1_500, 150, 4.0


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_storm_loses_nothing_brakes_itself_and_leaves_room_for_another_hook(
    tmp_path: Path,
) -> None:
    """Every accepted id is stored, repeats fold, the rest asks, the critical pod is isolated."""
    seen = await weather(tmp_path, ALERTS, PODS, SECONDS)
    assert seen.answers.codes == {202: ALERTS}
    assert (seen.stored, seen.lost) == (ALERTS, 0)
    assert seen.duplicates == ALERTS - PODS
    assert (seen.enforcing, seen.asking) == (BRAKE, PODS - BRAKE)
    assert seen.contained <= 2.0
    assert seen.peak - seen.base < 150
