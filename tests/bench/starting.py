"""How soon it is there: `--help` for a person, `/readyz` for a cluster."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.accepting import HOOK, OUTSIDE, SHIPPED
from tests.bench.processes import folder, responder, run_floor, write_config
from tests.bench.report import Report, median

__all__ = ["help_text", "ready"]

ROUNDS = 9
RESPONDER = str(Path(sys.executable).with_name("responder"))
FIRST = """[playbooks]
shipped = []
"""


def help_text(report: Report) -> None:
    """`responder --help` beside a Python that does nothing but import click."""
    ours, floor = [], []
    for _ in range(ROUNDS):
        ours.append(_run([RESPONDER, "--help"]))
        floor.append(_run([sys.executable, "-c", "import click"]))
    wall, cpu = _middle(ours)
    bare, bare_cpu = _middle(floor)
    report.line("--help", f"{wall:.0f} ms", f"{bare:.0f} ms", "<= 120 ms", ok=wall <= 120)
    report.note("CPU", f"{cpu:.0f} ms", f"{bare_cpu:.0f} ms")


def ready(report: Report) -> None:
    """From the start of `responder serve` until /readyz says 200."""
    for name, more in (("with a hook", HOOK + FIRST), ("with a cluster", OUTSIDE + HOOK + SHIPPED)):
        ours, floor, cpu, bare_cpu = [], [], [], []
        for _ in range(ROUNDS // 2):
            with contextlib.ExitStack() as stack:
                place = stack.enter_context(folder())
                bare = stack.enter_context(run_floor(place / "floor"))
                floor.append(bare.ready)
                bare_cpu.append(bare.cpu)
                made = stack.enter_context(responder(write_config(place / "ours", more)))
                ours.append(made.ready)
                cpu.append(made.cpu)
        label = f"ready after start, {name}"
        best = f"{median(ours):.2f} s"
        report.line(label, best, f"{median(floor):.2f} s", "<= 1 s", ok=median(ours) <= 1)
        report.note("CPU", f"{median(cpu):.2f} s", f"{median(bare_cpu):.2f} s")


def _run(argv: Sequence[str]) -> tuple[float, float]:
    """Milliseconds of wall clock and of CPU that a program takes."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return (time.perf_counter() - begun) * 1000, cpu * 1000


def _middle(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median([wall for wall, _ in rounds]), median([cpu for _, cpu in rounds])
