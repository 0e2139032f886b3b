"""Run the benchmarks: `python -m tests.bench [--strict] [NAME…]`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping

from tests.bench.report import Report

FIGURES: Mapping[str, str] = {
    "help": "starting.help_text",
    "ready": "starting.ready",
    "accept": "accepting.accepted",
    "playbooks": "accepting.playbooks",
    "senders": "senders.mixed",
    "runs": "running.runs",
    "waiting": "waiting.waiting",
    "contain": "containing.contain",
    "flood": "flooding.flood",
    "storm": "storm.storm",
    "forge": "forge.forge",
}


def main() -> int:
    """Measure what was asked for (all of it when nothing was); 1 on a miss with --strict."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--strict", action="store_true", help="exit 1 when a bound is missed")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(FIGURES))
    if unknown:
        parser.error(f"there is no figure {unknown[0]}; known: {', '.join(FIGURES)}")
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, Python {sys.version.split()[0]}")
    report = Report()
    report.head()
    for name in options.names or FIGURES:
        try:
            _figure(FIGURES[name])(report)
        except Exception as failure:  # noqa: BLE001 - the other figures are worth having
            report.skip(name, f"{type(failure).__name__}: {failure}")
    report.foot()
    return 1 if options.strict and (report.misses or report.missing) else 0


def _figure(path: str) -> Callable[[Report], None]:
    module, _, function = path.partition(".")
    found: Callable[[Report], None] = getattr(
        importlib.import_module(f"tests.bench.{module}"), function
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
