"""How many alerts a second are taken for good, and whether many playbooks slow that down."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from responder.model import Alert, AlertKind, Severity, Target
from responder.playbook.loading import load_text
from responder.playbook.matching import Index
from responder.wiring.known import catalogue, sources
from tests.bench.load import Answers, Body, alerts, blast, ordinary
from tests.bench.processes import TOKEN, Process, folder, responder, run_floor, write_config
from tests.bench.report import Report, median, percentile

__all__ = ["accepted", "playbooks"]

ROUNDS, SECONDS, WARM = 5, 2.0, 3000
_SERIAL = itertools.count()  # each sender speaks of other alerts
OUTSIDE = """
[clusters.none]
api = "http://127.0.0.1:9"
[forges.none]
base_url = "http://127.0.0.1:9"
token = {env = "BENCH_TOKEN"}
[registries."127.0.0.1:9"]
insecure = true
"""
HOOK = """
[hooks.falco]
source = "falco"
auth = {bearer = {env = "BENCH_TOKEN"}}
"""
SHIPPED = """
[playbooks]
shipped = ["collect-evidence", "contain-and-rebuild", "quarantine-pod", "rebuild-image"]
"""
PLAYBOOK = """playbook: bench-{n}
on:
  - alert:
      source: [falco]
      rule: [Rule {n}, "Family {n} *"]
      when: alert.severity >= severity.low && alert.target.namespace == "shop"
mode: approve
steps:
  isolate:
    use: kubernetes.quarantine_pod
    with: {{pod: "${{{{ target.pod }}}}"}}
"""


Sender = Callable[..., Awaitable[Answers]]


@dataclass
class _Rounds:
    """What one receiver did, round by round."""

    process: Process
    url: str
    body: Body
    rates: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # µs of CPU for one alert

    async def one(self, send: Sender) -> None:
        """One round."""
        before = self.process.cpu
        answers = await send(self.url, self.body, token=TOKEN, connections=16, seconds=SECONDS)
        if set(answers.codes) != {202}:
            raise RuntimeError(f"not all were accepted: {dict(answers.codes)}")
        self.rates.append(answers.rate)
        self.p50.append(percentile(answers.seconds, 0.5) * 1000)
        self.p99.append(percentile(answers.seconds, 0.99) * 1000)
        self.cpu.append((self.process.cpu - before) / answers.codes[202] * 1e6)


def _ours(process: Process) -> _Rounds:
    return _Rounds(process, f"{process.url}/v1/hooks/falco", alerts(f"Bench rule {next(_SERIAL)}"))


async def _interleave(send: Sender, *sides: _Rounds) -> None:
    for side in sides:
        await blast(side.url, side.body, token=TOKEN, count=WARM)
    for number in range(ROUNDS):
        for side in sides if number % 2 == 0 else sides[::-1]:
            await side.one(send)


def _ratio(ours: list[float], floor: list[float]) -> float:
    """The median of the rounds' own ratios: each round had the same neighbours."""
    return median([a / b for a, b in zip(ours, floor, strict=True)])


def accepted(report: Report) -> None:
    """Durable accepted alerts a second at 16 connections, against the bare receiver."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder())
        bare = stack.enter_context(run_floor(place / "floor"))
        config = write_config(place / "ours", OUTSIDE + HOOK + SHIPPED)
        process = stack.enter_context(responder(config))
        ours, floor = _ours(process), _Rounds(bare, bare.url, alerts())
        asyncio.run(_interleave(ordinary, floor, ours))
        _tell(report, ours, floor)
        lean = _ours(process), _Rounds(bare, bare.url, alerts("Lean rule"))
        asyncio.run(_interleave(blast, *lean[::-1]))
        label = "from a sender that costs nothing"
        rates = [f"{median(side.rates):.0f}/s" for side in lean]
        report.note(label, *rates)
        report.note("memory", f"{process.rss:.0f} MiB", f"{bare.rss:.0f} MiB")


def _tell(report: Report, ours: _Rounds, floor: _Rounds) -> None:
    ratio = _ratio(ours.rates, floor.rates)
    report.line(
        "accepted alerts/s, 16 connections",
        f"{median(ours.rates):.0f}/s",
        f"{median(floor.rates):.0f}/s",
        f"{ratio:.2f}, >= 0.7",
        ok=ratio >= 0.7,
    )
    report.line(
        "  p99 of an answer",
        f"{median(ours.p99):.1f} ms",
        f"{median(floor.p99):.1f} ms",
        "<= 15 ms",
        ok=median(ours.p99) <= 15,
    )
    report.note("p50", f"{median(ours.p50):.1f} ms", f"{median(floor.p50):.1f} ms")
    report.note("CPU an alert", f"{median(ours.cpu):.0f} us", f"{median(floor.cpu):.0f} us")


def playbooks(report: Report) -> None:
    """The same with 1,000 playbooks as with one."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder())
        one, many = (
            _ours(stack.enter_context(responder(_with(place / str(count), count))))
            for count in (1, 1000)
        )
        asyncio.run(_interleave(ordinary, one, many))
        ratio = _ratio(many.rates, one.rates)
        report.line(
            "accepted alerts/s, 1,000 playbooks",
            f"{median(many.rates):.0f}/s",
            f"{median(one.rates):.0f}/s (1)",
            f"{ratio:.2f}, >= 0.9",
            ok=ratio >= 0.9,
        )
        report.note("CPU an alert", f"{median(many.cpu):.0f} us", f"{median(one.cpu):.0f} us")
        report.note("ready after", f"{many.process.ready:.2f} s", f"{one.process.ready:.2f} s")
    _match(report)


def _with(place: Path, count: int) -> Path:
    texts = place / "playbooks"
    texts.mkdir(parents=True)
    for number in range(count):
        (texts / f"{number}.yaml").write_text(PLAYBOOK.format(n=number))
    return write_config(place, f'{OUTSIDE}{HOOK}[playbooks]\nfolders = ["{texts}"]\n')


def _match(report: Report) -> None:
    actions, known = catalogue(), frozenset(sources())
    made = [load_text(PLAYBOOK.format(n=n), f"{n}.yaml", actions, known) for n in range(1000)]
    few, many = Index(made[:1]), Index(made)
    for name, rule in (("one starts", "Rule 0"), ("none starts", "Other rule")):
        alert = _alert(rule)
        ours, floor = _cost(many, few, alert)
        ok = ours <= floor * 1.1 + 0.2
        bound = f"{ours / floor:.2f}, <= 1.10 + 0.2 us"
        label = f"match of an alert, {name}"
        report.line(label, f"{ours:.2f} us", f"{floor:.2f} us (1)", bound, ok=ok)


def _cost(many: Index, few: Index, alert: Alert) -> tuple[float, float]:
    """Microseconds of one match: the least of interleaved rounds, which noise only adds to."""
    best = [float("inf"), float("inf")]
    for _ in range(15):
        for place, index in enumerate((many, few)):
            begun = time.process_time()
            for _ in range(2000):
                index.match(alert)
            best[place] = min(best[place], (time.process_time() - begun) / 2000 * 1e6)
    return best[0], best[1]


def _alert(rule: str) -> Alert:
    return Alert(
        source="falco",
        kind=AlertKind.DETECTION,
        rule=rule,
        severity=Severity.HIGH,
        summary="",
        time=0,
        fingerprint="f",
        target=Target(namespace="shop", pod="web-1"),
    )
