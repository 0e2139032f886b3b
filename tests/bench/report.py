"""One figure a line: what we did, what the bare machine did, the bound, and whether it holds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Report", "median", "percentile"]

_HEAD = ("figure", "ours", "floor", "bound", "")


def median(values: Sequence[float]) -> float:
    """The middle of some rounds."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share (0…1) of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@dataclass
class Report:
    """Collects figures and prints each as it comes."""

    misses: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    widths: tuple[int, ...] = (46, 16, 16, 22)

    def head(self) -> None:
        """Print the heading."""
        print(self._row(_HEAD))
        print("-" * (sum(self.widths) + 12))

    def line(self, name: str, ours: str, floor: str = "", bound: str = "", *, ok: bool) -> None:
        """One figure with a bound."""
        if not ok:
            self.misses.append(name)
        print(self._row((name, ours, floor, bound, "ok" if ok else "MISS")), flush=True)

    def note(self, name: str, ours: str, floor: str = "") -> None:
        """One figure without a bound, for the reader."""
        print(self._row((f"  {name}", ours, floor, "", "")), flush=True)

    def skip(self, name: str, reason: str) -> None:
        """A figure that could not be measured here."""
        self.missing.append(name)
        print(f"{name}: not measured: {reason}", flush=True)

    def foot(self) -> None:
        """How many bounds were missed."""
        print(f"{len(self.misses)} missed" + (f": {'; '.join(self.misses)}" if self.misses else ""))
        if self.missing:
            print(f"{len(self.missing)} not measured: {'; '.join(self.missing)}")

    def _row(self, cells: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, self.widths, strict=False)]
        return "  ".join([*padded, *cells[len(padded) :]]).rstrip()
