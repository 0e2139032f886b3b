"""Ten thousand alerts in ten seconds, and one that matters in the middle of them.

The server (`responder serve`) and the sandbox cluster are processes of their own. The flood's
playbook brakes itself after some enforcing runs: the rest ask. Another hook's critical alert must
be answered as if all were quiet. Nothing accepted may be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.adapters.sandbox.process import fetch, sandbox_process
from tests.bench.load import Answers, blast, falco
from tests.bench.processes import TOKEN, Process, folder, responder, write_config
from tests.bench.report import Report, percentile

__all__ = ["Outcome", "storm", "weather"]

BRAKE = 50
LABEL = "responder.dev/quarantine"
CONFIG = """
[playbooks]
folders = ["{texts}"]
[clusters.sandbox]
api = "{api}"
[hooks.flood]
source = "falco"
auth = {{bearer = {{env = "BENCH_TOKEN"}}}}
[hooks.other]
source = "falco"
auth = {{bearer = {{env = "BENCH_TOKEN"}}}}
[guards]
mode = "enforce"
pods_per_window = 10000
storm = 1000
"""
PLAYBOOK = """playbook: {name}
on:
  - alert: {{source: [falco], rule: [{rule}]}}
mode: enforce
{limits}steps:
  isolate:
    use: kubernetes.quarantine_pod
    with: {{pod: "${{{{ target.pod }}}}"}}
"""


@dataclass(frozen=True)
class Outcome:
    """What was seen of one storm."""

    sent: int
    pods: int
    answers: Answers
    stored: int  # rows of the flood's alerts
    unknown: int  # ids that were answered and are not stored
    duplicates: int
    enforcing: int
    asking: int
    contained: float  # seconds from the critical alert to its pod's label
    base: float  # MiB before
    peak: float  # MiB at most
    settled: float  # seconds until every run had ended or asked

    @property
    def pace(self) -> float:
        """Alerts a second that were really taken."""
        return self.answers.rate

    @property
    def lost(self) -> int:
        """Accepted and not stored."""
        return self.answers.codes[202] - self.stored + self.unknown


async def weather(place: Path, alerts: int, pods: int, seconds: float) -> Outcome:
    """One storm over that many pods; the critical alert comes at half time."""
    with contextlib.ExitStack() as stack:
        (place / "sandbox").mkdir()
        world = stack.enter_context(sandbox_process(place / "sandbox", "--pods", str(pods + 1)))
        process = stack.enter_context(responder(_config(place / "ours", world)))
        listed = fetch(f"{world['cluster']}/api/v1/namespaces/{world['namespace']}/pods")["items"]
        *names, critical = [pod["metadata"]["name"] for pod in listed]
        base = process.rss
        flood = asyncio.create_task(
            blast(
                f"{process.url}/v1/hooks/flood",
                _bodies(world["namespace"], names),
                token=TOKEN,
                count=alerts,
                pace=alerts / seconds,
                keep=True,
            )
        )
        await asyncio.sleep(seconds / 2)
        contained = await _critical(process, world, critical)
        answers = await flood
        settled = await _settled(place / "ours/responder.db")
        return _judge(
            place,
            answers,
            sent=alerts,
            pods=pods,
            contained=contained,
            base=base,
            peak=process.peak,
            settled=settled,
        )


def _config(place: Path, world: dict[str, Any]) -> Path:
    texts = place / "playbooks"
    texts.mkdir(parents=True)
    for name, rule, limits in (
        ("flood", "Storm rule", f"limits: {{runs_per_hour: {BRAKE}}}\n"),
        ("critical", "Critical rule", ""),
    ):
        text = PLAYBOOK.format(name=name, rule=rule, limits=limits)
        (texts / f"{name}.yaml").write_text(text)
    return write_config(place, CONFIG.format(texts=texts, api=world["cluster"]))


def _bodies(namespace: str, names: Sequence[str]) -> Any:
    numbers = itertools.count()

    def body() -> bytes:
        name = names[next(numbers) % len(names)]
        return falco("Storm rule", namespace, name).encode()

    return body


async def _critical(process: Process, world: dict[str, Any], name: str) -> float:
    """Seconds from sending the critical alert until its pod carries the label."""
    namespace = world["namespace"]
    pod = f"{world['cluster']}/api/v1/namespaces/{namespace}/pods/{name}"
    body = falco("Critical rule", namespace, name, priority="Critical").encode()
    begun = time.perf_counter()
    answers = await blast(
        f"{process.url}/v1/hooks/other", lambda: body, token=TOKEN, connections=1, count=1
    )
    assert answers.codes[202] == 1, answers.codes
    async with aiohttp.ClientSession() as session:
        while time.perf_counter() - begun < 60:
            async with session.get(pod) as answer:
                if LABEL in ((await answer.json())["metadata"].get("labels") or {}):
                    return time.perf_counter() - begun
            await asyncio.sleep(0.03)
    raise TimeoutError("the critical alert's pod was never isolated")


async def _settled(database: Path, limit: float = 120) -> float:
    """Until no run has anything to do; a run that asks waits for a person."""
    begun = time.perf_counter()
    ask = "SELECT count(*) FROM runs WHERE outcome='' AND status<>'waiting-approval'"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        while db.execute(ask).fetchone()[0]:
            if time.perf_counter() - begun > limit:
                raise TimeoutError("the runs of the storm never settled")
            await asyncio.sleep(0.1)
    return time.perf_counter() - begun


def _judge(place: Path, answers: Answers, **known: Any) -> Outcome:
    database = place / "ours/responder.db"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        stored = {i for (i,) in db.execute("SELECT id FROM alerts WHERE hook='flood'")}
        told = {one["id"] for body in answers.bodies for one in json.loads(body)["alerts"]}
        repeats = "SELECT count(*) FROM alerts WHERE hook='flood' AND duplicate_of IS NOT NULL"
        [duplicates] = db.execute(repeats).fetchone()
        modes = dict(
            db.execute("SELECT mode, count(*) FROM runs WHERE playbook='flood' GROUP BY mode")
        )
    return Outcome(
        answers=answers,
        stored=len(stored),
        unknown=len(told - stored),
        duplicates=duplicates,
        enforcing=modes.get("enforce", 0),
        asking=modes.get("approve", 0),
        **known,
    )


def storm(report: Report) -> None:
    """10,000 alerts for 1,000 pods in ten seconds."""
    with folder() as place:
        seen = asyncio.run(weather(place, 10_000, 1_000, 10.0))
    all_taken = seen.answers.codes[202] == seen.sent and not seen.lost
    taken = f"{seen.answers.codes[202]:,} taken"
    report.line("storm: none lost", taken, f"{seen.stored:,} stored", "0 lost", ok=all_taken)
    folded = seen.duplicates == seen.sent - seen.pods
    report.line("storm: duplicates folded", f"{seen.duplicates:,}", "", "9,000", ok=folded)
    braked = seen.enforcing == BRAKE and seen.asking == seen.pods - BRAKE
    report.line(
        "storm: enforcing, asking",
        f"{seen.enforcing}, {seen.asking}",
        "",
        f"{BRAKE}, {seen.pods - BRAKE}",
        ok=braked,
    )
    grown = seen.peak - seen.base
    report.line(
        "storm: memory grown",
        f"{grown:.0f} MiB",
        f"{seen.base:.0f} MiB",
        "< 150 MiB",
        ok=grown < 150,
    )
    report.line(
        "storm: another hook's alert contained",
        f"{seen.contained:.2f} s",
        "",
        "<= 2 s",
        ok=seen.contained <= 2,
    )
    report.line("storm: pace", f"{seen.pace:.0f}/s", "", ">= 990/s", ok=seen.pace >= 990)
    p99 = percentile(seen.answers.seconds, 0.99) * 1000
    report.note("p99 of an answer", f"{p99:.0f} ms")
    report.note("settled after", f"{seen.settled:.1f} s")
