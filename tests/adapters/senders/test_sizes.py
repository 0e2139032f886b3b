"""A sender stays small enough to be read whole, and adding one is an afternoon's work."""

from __future__ import annotations

import statistics
from pathlib import Path

import integrations

FOLDER = Path(integrations.__file__).parent


def test_the_smallest_sender_has_60_lines_and_the_median_120() -> None:
    """Sizes are printed, so that growth is seen."""
    sizes = {
        name: len((FOLDER / f"{module.rpartition('.')[2]}.py").read_text("utf-8").splitlines())
        for name, module in integrations.SOURCES.items()
    }
    for name, size in sorted(sizes.items(), key=lambda pair: pair[1]):
        print(f"{size:4}  {name}")
    median = statistics.median(sizes.values())
    print(f"smallest {min(sizes.values())}, median {median:g}")

    assert min(sizes.values()) <= 60
    assert median <= 120
