"""Whether all senders together are taken as fast as Falco alone, by the same server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp

from integrations._source import sample_of
from responder.model import Alert
from responder.ports import HookInfo, Source
from responder.wiring.known import sources
from tests.bench.load import Body, alerts
from tests.bench.processes import TOKEN, Process, folder, responder, write_config
from tests.bench.report import Report, median, percentile

__all__ = ["mixed"]

ROUNDS, SECONDS, CONNECTIONS = 6, 2.0, 16
HOOK = """
[hooks.{name}]
source = "{name}"
auth = {{bearer = {{env = "BENCH_TOKEN"}}}}
"""
_TAKEN = {200, 202}  # some senders want the one, some the other
_MARK = b"@@@@@@@@"


@dataclass
class _Side:
    """What was sent to some hooks, round by round."""

    process: Process
    bodies: Sequence[tuple[str, Body]]
    rates: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # µs of CPU for one delivery

    async def one(self, seconds: float = SECONDS) -> None:
        """One round: every connection sends to the hooks in turn."""
        codes: Counter[int] = Counter()
        took: list[float] = []
        turns = itertools.cycle(self.bodies)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        before, start = self.process.cpu, time.perf_counter()

        async def worker(session: aiohttp.ClientSession) -> None:
            while (sent := time.perf_counter()) - start < seconds:
                hook, body = next(turns)
                url = f"{self.process.url}/v1/hooks/{hook}"
                async with session.post(url, data=body(), headers=headers) as answer:
                    await answer.read()
                codes[answer.status] += 1
                took.append(time.perf_counter() - sent)

        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(worker(session) for _ in range(CONNECTIONS)))
        lasted = time.perf_counter() - start
        if not codes.keys() <= _TAKEN:
            raise RuntimeError(f"not all were accepted: {dict(codes)}")
        self.rates.append(codes.total() / lasted)
        self.p99.append(percentile(took, 0.99) * 1000)
        self.cpu.append((self.process.cpu - before) / codes.total() * 1e6)


def mixed(report: Report) -> None:
    """All senders in turn at 16 connections, against Falco alone at the same server."""
    known = sources()
    samples = {name: _fresh(source, sample_of(name)) for name, source in known.items()}
    hooks = "".join(HOOK.format(name=name) for name in known)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder())
        config = write_config(place / "ours", f"{hooks}[playbooks]\nshipped = []\n")
        process = stack.enter_context(responder(config))
        alone = _Side(process, [("falco", alerts())])
        every = _Side(process, [(name, body) for name, (body, _) in samples.items()])
        asyncio.run(_interleave(alone, every))
    ratio = median([a / b for a, b in zip(every.rates, alone.rates, strict=True)])
    report.line(
        f"deliveries/s of {len(samples)} senders",
        f"{median(every.rates):.0f}/s",
        f"{median(alone.rates):.0f}/s (Falco)",
        f"{ratio:.2f}, >= 0.8",
        ok=ratio >= 0.8,
    )
    report.note("p99 of an answer", f"{median(every.p99):.1f} ms", f"{median(alone.p99):.1f} ms")
    report.note("CPU a delivery", f"{median(every.cpu):.0f} us", f"{median(alone.cpu):.0f} us")
    repeated = sorted(name for name, (_, new) in samples.items() if not new)
    report.note("that could only repeat", ", ".join(repeated) or "none", "")
    size = sum(len(sample_of(name)) for name in samples) / len(samples)
    report.note("bytes of a body", f"{size:.0f}", f"{len(alerts()())}")


async def _interleave(*sides: _Side) -> None:
    for side in sides:
        await side.one()  # to warm up; forgotten
        for figures in (side.rates, side.p99, side.cpu):
            figures.clear()
    for number in range(ROUNDS):
        for side in sides if number % 2 == 0 else sides[::-1]:
            await side.one()


def _fresh(source: Source, sample: bytes) -> tuple[Body, bool]:
    """Bodies of a sender that each say something new, and whether they do.

    The sample's own names are tried: one is right when another name makes another fingerprint. A
    repeat costs less than something new, so it must not pass for it.
    """
    before = _prints(source, sample)
    for name in _names(_parsed(source, sample)):
        text = name.encode()
        if text in sample and len(text) > 2:  # shorter ones stand everywhere
            changed = sample.replace(text, text + _MARK)
            if _prints(source, changed.replace(_MARK, b"00000001")).isdisjoint(before):
                return _numbered(changed), True
    return (lambda: sample), False


def _numbered(text: bytes) -> Body:
    first, *rest = text.split(_MARK)
    numbers = itertools.count()

    def body() -> bytes:
        number = b"%08d" % next(numbers)
        return first + b"".join(number + part for part in rest)

    return body


def _parsed(source: Source, body: bytes) -> list[Alert]:
    return list(source.parse({}, body, HookInfo(name=source.name, source=source.name)))


def _prints(source: Source, body: bytes) -> set[str]:
    return {alert.fingerprint for alert in _parsed(source, body)}


def _names(found: Sequence[Alert]) -> Iterator[str]:
    """What an alert is about, the narrowest first, then the rest that it says."""
    for alert in found:
        about = alert.target
        yield from (about.pod, about.workload.partition("/")[2], about.host, about.node)
        yield from (about.image.partition(":")[0], about.container_id, about.namespace, alert.rule)
        yield from (str(value) for value in alert.fields.values())
