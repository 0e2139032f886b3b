"""A hundred incidents rebuild at once; an isolation must not notice.

GitHub, GitLab and the registry are a process of their own (`tests.bench.forges`): their answers
take a second and have limits. Fifty rebuilds go to each forge. Two servers, each with a sandbox
cluster, get alerts for isolations in turn; one of them rebuilds meanwhile and the other has nothing
else to do. So whatever else the machine is busy with, the doubles included, is in both figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp

from tests.adapters.sandbox.process import fetch
from tests.bench.containing import LABEL, RULE, Client, Seen, alert, seeing
from tests.bench.load import blast
from tests.bench.processes import TOKEN, Process, folder, responder, start, write_config
from tests.bench.report import Report, percentile
from tests.real.cluster import ControlPlane

__all__ = ["Outcome", "Scale", "forge", "rebuilding"]

SECRET = "bench-webhook-secret-of-32-letters"
NAMES = ("github", "gitlab")
PLAYBOOKS = {
    "isolate": f"""playbook: isolate
on:
  - alert: {{source: [falco], rule: [{RULE}]}}
mode: enforce
steps:
  isolate:
    use: kubernetes.quarantine_pod
    with: {{pod: "${{{{ target.pod }}}}"}}
""",
    "rebuild": """playbook: rebuild
on:
  - alert: {source: [generic], when: 'alert.kind == "vulnerability"'}
incident: {key: [image, digest], window: 12h}
mode: enforce
steps:
  rebuild:
    use: pipeline.run
    with: {image: "${{ target.image }}"}
    retry: {attempts: 3, backoff: 30s}
    timeout: 45m
""",
}
CONFIG = """
[playbooks]
folders = ["{texts}"]
[clusters.sandbox]
api = "{cluster}"
[registries."{registry}"]
insecure = true
[forges.github]
base_url = "{github}"
token = {{env = "FORGE_TOKEN"}}
[forges.gitlab]
kind = "gitlab"
base_url = "{gitlab}"
token = {{env = "FORGE_TOKEN"}}
[[images]]
match = "{registry}/github/*"
forge = "github"
repo = "acme/shop"
workflow = "rebuild.yml"
[[images]]
match = "{registry}/gitlab/*"
forge = "gitlab"
repo = "acme/shop"
workflow = ".gitlab-ci.yml"
[hooks.falco]
source = "falco"
auth = {{bearer = {{env = "BENCH_TOKEN"}}}}
[hooks.scan]
source = "generic"
auth = {{bearer = {{env = "BENCH_TOKEN"}}}}
[hooks.github]
source = "github"
auth = {{hmac = {{header = "X-Hub-Signature-256", prefix = "sha256=", secret = {{env = "HOOK"}}}}}}
[hooks.gitlab]
source = "gitlab"
auth = {{header = {{name = "X-Gitlab-Token", value = {{env = "HOOK"}}}}}}
[guards]
mode = "enforce"
storm = 100000
pods_per_window = 100000
ready_share = 1.0
"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of it."""

    rebuilds: int = 100
    pods: int = 600  # of each cluster: for about four minutes
    gap: float = 0.4  # between two alerts of one server
    backoff: str = "30s"  # of the rebuilds
    pace: dict[str, float] = field(default_factory=dict)  # of the forges; see `forges.Pace`
    sides: tuple[str, ...] = ("busy", "quiet")  # without the second nothing is compared


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was seen."""

    busy: list[float]  # seconds from alert to contained, of the server that rebuilds
    quiet: list[float]  # of the one that does not
    slowest: list[tuple[float, float]]  # of the busy ones: when, and how long
    took: float  # seconds until every rebuild had ended, or there were no more pods
    rebuilt: dict[str, int]  # outcome of a run -> how many
    told: dict[str, dict[str, Any]]  # what each forge counted

    @property
    def moved(self) -> float:
        """The p99 beside the rebuilds as a share of the p99 without."""
        return percentile(self.busy, 0.99) / percentile(self.quiet, 0.99)


async def rebuilding(place: Path, scale: Scale) -> Outcome:
    """Alert both servers in turn until every rebuild of the one has ended, or the pods have."""
    async with contextlib.AsyncExitStack() as stack:
        outside = stack.enter_context(_forges(place / "forges"))
        places = _said(outside, **scale.pace)
        secrets = {"FORGE_TOKEN": places.pop("token"), "HOOK": SECRET}
        sides = []
        for name in scale.sides:
            world = stack.enter_context(_cluster(place / name / "sandbox", scale.pods))
            config = _config(place / name / "ours", scale, {**places, "cluster": world["cluster"]})
            process = stack.enter_context(responder(config, environ=secrets))
            sides.append(await stack.enter_async_context(_side(process, config, world)))
        busy = sides[0]
        _said(outside, hooks=busy.process.url, secret=SECRET)
        for side in sides * _WARM:
            await side.one()
        for side in sides:
            side.took.clear()
            side.when.clear()
        begun = time.perf_counter()
        await _order(busy.process, places["registry"], scale.rebuilds)
        while _ended(busy.database) < scale.rebuilds and all(side.pods for side in sides):
            for side in sides:
                await side.one()
                await asyncio.sleep(scale.gap / len(sides))
        took = time.perf_counter() - begun
        return Outcome(
            busy=busy.took,
            quiet=[took for side in sides[1:] for took in side.took],
            slowest=_slowest(busy, begun),
            took=took,
            rebuilt=_outcomes(busy.database),
            told=fetch(f"{outside.url}/told"),
        )


_WARM = 5


@contextlib.contextmanager
def _cluster(place: Path, pods: int) -> Iterator[dict[str, Any]]:
    """A sandbox with so many pods; it is killed: how it ends is no part of this."""
    place.mkdir(parents=True)
    file = place / "sandbox.json"
    argv = [sys.executable, "-m", "responder.sandbox", "--port-file", str(file)]
    child = subprocess.Popen([*argv, "--pods", str(pods)], stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not file.exists():
            if child.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the sandbox did not come up")
            time.sleep(0.05)
        yield json.loads(file.read_text())
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def _forges(place: Path) -> Iterator[Process]:
    """The doubles as a process; unchecked there, so that their own work costs little."""
    place.mkdir()
    argv = [sys.executable, "-m", "tests.bench.forges", str(place / "port")]
    process = start(argv, place, environ={"RESPONDER_CORPUS": str(place)})
    try:
        yield process
    finally:
        process.end()


def _said(outside: Process, **settings: Any) -> dict[str, Any]:
    """Tell the forges something; where they are."""
    request = urllib.request.Request(
        f"{outside.url}/settings",
        json.dumps(settings).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def _config(place: Path, scale: Scale, places: dict[str, Any]) -> Path:
    texts = place / "playbooks"
    texts.mkdir(parents=True)
    for name, text in PLAYBOOKS.items():
        (texts / f"{name}.yaml").write_text(text.replace("30s", scale.backoff))
    return write_config(place, CONFIG.format(texts=texts, **places))


@dataclass
class _Side:
    """One server with its cluster; alerts are for pods that nothing was done to yet."""

    process: Process
    database: Path
    seen: Seen
    pods: list[Any]
    took: list[float] = field(default_factory=list)
    when: list[float] = field(default_factory=list)

    async def one(self) -> None:
        """One alert, until label and policy are there."""
        pod = self.pods.pop()
        name, body = pod["metadata"]["name"], alert(pod)
        url = f"{self.process.url}/v1/hooks/falco"
        begun = time.perf_counter()
        answers = await blast(url, lambda: body, token=TOKEN, connections=1, count=1)
        assert answers.codes[202] == 1, answers.codes
        await self.seen.wait([name], 60)
        self.took.append(self.seen.at[name] - begun)
        self.when.append(begun)


@contextlib.asynccontextmanager
async def _side(process: Process, config: Path, world: dict[str, Any]) -> AsyncIterator[_Side]:
    plane = cast("ControlPlane", SimpleNamespace(api=world["cluster"], admin_token="-"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        api = Client(session, plane)
        pods = await api.ask("GET", f"/api/v1/namespaces/{world['namespace']}/pods")
        async with seeing(api, world["namespace"], LABEL) as seen:
            database = config.with_name("responder.db")
            yield _Side(process, database, seen, pods["items"])


def _slowest(side: _Side, begun: float) -> list[tuple[float, float]]:
    """The five that took longest, and how long after the first rebuild they came."""
    pairs = sorted(zip(side.took, side.when, strict=True), reverse=True)[:5]
    return [(when - begun, took) for took, when in pairs]


async def _order(process: Process, registry: str, count: int) -> None:
    """A vulnerability of so many images, half of them built by each forge."""
    numbers = itertools.count()

    def body() -> bytes:
        number = next(numbers)
        image = f"{registry}/{NAMES[number % 2]}/app-{number}:1"
        target = {"image": image, "digest": f"sha256:{number:064x}"}
        return json.dumps(
            {
                "rule": f"CVE-2026-{number}",
                "kind": "vulnerability",
                "severity": "critical",
                "fingerprint": f"finding-{number}",
                "target": target,
            }
        ).encode()

    answers = await blast(f"{process.url}/v1/hooks/scan", body, token=TOKEN, count=count)
    assert answers.codes[202] == count, answers.codes


def _outcomes(database: Path) -> dict[str, int]:
    ask = "SELECT outcome, count(*) FROM runs WHERE playbook='rebuild' GROUP BY outcome"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return dict(db.execute(ask))


def _ended(database: Path) -> int:
    return sum(count for outcome, count in _outcomes(database).items() if outcome)


def forge(report: Report) -> None:
    """A hundred rebuilds on two forges with answers of a second."""
    scale = Scale()
    with folder() as place:
        seen = asyncio.run(rebuilding(place, scale))
    report.line(
        "alert to contained, p99, 100 rebuilds beside it",
        f"{percentile(seen.busy, 0.99) * 1000:.1f} ms",
        f"{percentile(seen.quiet, 0.99) * 1000:.1f} ms",
        f"{seen.moved:.2f}, 0.8 to 1.2",
        ok=0.8 <= seen.moved <= 1.2,
    )
    halves = (f"{percentile(side, 0.5) * 1000:.1f} ms" for side in (seen.busy, seen.quiet))
    report.note(f"p50 ({len(seen.busy)} and {len(seen.quiet)} alerts)", *halves)
    slow = ", ".join(f"{took * 1000:.0f} ms at {at:.0f} s" for at, took in seen.slowest)
    report.note(f"the slowest: {slow}", "")
    all_well = seen.rebuilt == {"succeeded": scale.rebuilds}
    report.line("rebuilds that succeeded", str(seen.rebuilt), "", "all", ok=all_well)
    report.note("until the last had ended", f"{seen.took:.0f} s")
    for name in NAMES:
        _tell(report, name, seen.told[name], scale.rebuilds // 2)


def _tell(report: Report, name: str, told: dict[str, Any], started: int) -> None:
    once = told["dispatched"] == started and not told["twice"]
    report.line(f"{name}: pipelines started", str(told["dispatched"]), "", str(started), ok=once)
    report.line(
        f"{name}: calls in a window closed by 429",
        str(told["offences"]),
        f"{told['refused']} refused",
        "0",
        ok=not told["offences"],
    )
    share = told["looks"] * 15 / told["waiting"]
    report.line(f"{name}: looks a waiting run and 15 s", f"{share:.2f}", "", "<= 1", ok=share <= 1)
    report.note("calls", json.dumps(told["asked"]))
    report.note("at once; worst run's looks in 15 s", f"{told['at_once']}; {told['worst']:.2f}")
