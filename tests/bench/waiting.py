"""What ten thousand waiting runs cost, and how soon a killed server goes on with them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.accepting import HOOK, OUTSIDE
from tests.bench.load import blast, falco
from tests.bench.processes import TOKEN, folder, run_floor, start, write_config
from tests.bench.report import Report

__all__ = ["waiting"]

RUNS = 10_000
AHEAD = 90.0  # seconds until the work elsewhere comes due
PLAYBOOKS = {
    "far": """playbook: far
on:
  - alert: {source: [falco], rule: [Far]}
mode: enforce
steps:
  job:
    use: fake.build
    with: {thing: "${{ target.pod }}"}
""",
    "asked": """playbook: asked
on:
  - alert: {source: [falco], rule: [Asked]}
mode: approve
steps:
  mark:
    use: fake.mark
    with: {thing: "${{ target.pod }}"}
    approve: {within: 24h}
""",
}
GUARDS = """[guards]
mode = "enforce"
storm = 1000000
pods_per_window = 1000000
"""
PROGRAM = (sys.executable, "-m", "tests.bench.waiter")


def waiting(report: Report) -> None:
    """Half of the runs wait for a person, half for work elsewhere that is due at the restart."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder())
        bare = stack.enter_context(run_floor(place / "floor"))
        config = _config(place / "ours")
        due = time.time() + AHEAD
        environ = {"BENCH_DUE": str(due)}
        process = start([*PROGRAM, "--config", str(config)], config.parent, environ=environ)
        stack.callback(process.end)
        base = process.rss
        asyncio.run(_fill(process.url))
        database = place / "ours/responder.db"
        took = _until_waiting(database, due)
        time.sleep(2)
        rss = process.rss
        report.line(
            f"memory with {RUNS:,} waiting runs",
            f"{rss:.0f} MiB",
            f"{bare.rss:.0f} MiB",
            "<= 250 MiB",
            ok=rss <= 250,
        )
        report.note("before the first, and at most", f"{base:.0f}, {process.peak:.0f} MiB")
        report.note("all are waiting after", f"{took:.0f} s")
        process.end(signal.SIGKILL)
        time.sleep(max(0.0, due - time.time()) + 0.5)
        _restart(report, config, environ, bare.ready)


def _config(place: Path) -> Path:
    texts = place / "playbooks"
    texts.mkdir(parents=True)
    for name, text in PLAYBOOKS.items():
        (texts / f"{name}.yaml").write_text(text)
    return write_config(place, f'{OUTSIDE}{HOOK}{GUARDS}[playbooks]\nfolders = ["{texts}"]\n')


async def _fill(url: str) -> None:
    numbers = itertools.count()

    def body() -> bytes:
        number = next(numbers)
        return falco(("Far", "Asked")[number % 2], "shop", f"web-{number}").encode()

    answers = await blast(f"{url}/v1/hooks/falco", body, token=TOKEN, count=RUNS)
    if answers.codes[202] != RUNS:
        raise RuntimeError(f"not all were accepted: {dict(answers.codes)}")


def _until_waiting(database: Path, due: float) -> float:
    begun = time.monotonic()
    ask = "SELECT count(*) FROM runs WHERE status LIKE 'waiting-%'"
    with contextlib.closing(_reader(database)) as db:
        while db.execute(ask).fetchone()[0] < RUNS:
            if time.time() > due - 3:
                raise TimeoutError("the runs did not all wait before the work elsewhere came due")
            time.sleep(0.2)
    return time.monotonic() - begun


def _restart(report: Report, config: Path, environ: dict[str, str], bare: float) -> None:
    """From the start of the new process to the first journal line it writes."""
    with contextlib.closing(_reader(config.with_name("responder.db"))) as db:
        ask = "SELECT max(rowid) FROM journal"
        last = db.execute(ask).fetchone()[0]
        config.with_name("log").unlink()
        begun = time.perf_counter()
        ready = _Starter(config, environ)
        while db.execute(ask).fetchone()[0] == last:
            if time.perf_counter() - begun > 60:
                raise TimeoutError("nothing was written after the restart")
            time.sleep(0.002)
        took = time.perf_counter() - begun
    ready.end()
    label = f"killed, restarted, first step of {RUNS // 2:,} due"
    report.line(label, f"{took:.2f} s", f"{bare:.2f} s (ready)", "<= 2 s", ok=took <= 2)


class _Starter:
    """The new process, started without waiting for it."""

    def __init__(self, config: Path, environ: dict[str, str]) -> None:
        with config.with_name("log").open("wb") as out:
            self._child = subprocess.Popen(
                [*PROGRAM, "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "BENCH_TOKEN": TOKEN, **environ},
            )

    def end(self) -> None:
        self._child.kill()
        self._child.wait()


def _reader(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
