"""Bad input against the real server as a process: refused or kept, never 5xx, never a traceback."""

import http.client
import json
import re
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.journeys.hostile_hooks import HOOKS as HOOKS_CONFIG
from tests.journeys.hostile_hooks import SECRETS, SENDERS, WORLD, encoded, keyed
from tests.journeys.hostile_payloads import (
    ODD,
    TOO_DEEP,
    Odd,
    Payload,
    of_matching_senders,
    own,
    recorded,
    sample,
)
from tests.journeys.hostile_server import MIB, Serving, served

LANES = 8
SAMPLE = 1500
ATTACK = 18.0  # seconds; a slow body is let go after 15
JSON = {"Content-Type": "application/json"}
HOOKS = tuple(SENDERS)
BROKEN = re.compile(r"Traceback|unexpected failure|source failed|matching failed|task ended|poison")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    """A server with every kind of hook and every way to prove who sends."""
    with served(tmp_path, WORLD + HOOKS_CONFIG, SECRETS) as serving:
        yield serving


# --------------------------------------------------------------------------- what is posted


@dataclass(frozen=True)
class Post:
    """One body to one hook, and what must come of it."""

    hook: str
    body: bytes
    status: int
    least: int  # alerts that must be kept
    what: str


def post_of(hook: str, payload: Any, what: str, *, too_deep: bool = False) -> Post:
    """A JSON value to a hook: kept, but for what is too deep or cannot prove who sends it."""
    value, proven = keyed(hook, payload)
    status = 400 if too_deep else 202 if proven else 401
    least = said(SENDERS[hook].source, hook, value) if status == 202 else 0
    return Post(hook, encoded(value), status, least, f"{hook}: {what}")


def said(source: str, hook: str, value: Any) -> int:
    """How many statements a body holds at least: none of them may be lost."""
    if source == "github":
        return 0  # a hint for the poller, no detector's statement
    if source == "alertmanager" or hook == "generic-items":
        inner = value.get("alerts") if isinstance(value, dict) else None
        if hook == "generic-items" and not isinstance(inner, list):
            return 1  # its mapping finds no list: the whole body is one unreadable statement
        value = inner if isinstance(inner, list) else value
    return min(len(value), 900) if isinstance(value, list) else 1


def raw_post(hook: str, payload: Payload) -> Post:
    """What is no JSON is refused; at the forge's hook it is no hint and nothing is lost."""
    status = {"pagerduty-key": 401, "forge": 202}.get(hook, 400)
    return Post(hook, payload.raw, status, 0, f"{hook}: {payload.name}")


def whole(payloads: Iterable[Payload]) -> list[Post]:
    """Every payload to every hook."""
    return [
        raw_post(hook, one) if one.raw else post_of(hook, one.value, one.name)
        for one in payloads
        for hook in HOOKS
    ]


def odd(changed: Iterable[Odd], hooks: dict[str, list[str]]) -> list[Post]:
    """Every changed payload to one of the hooks of its source, in turn."""
    posts = []
    for number, one in enumerate(changed):
        fitting = hooks.get(one.payload.source) or list(HOOKS)
        hook = fitting[number % len(fitting)]
        what = f"{one.payload.name} {one.path} {one.kind}"
        posts.append(post_of(hook, one.value, what, too_deep=one.kind == TOO_DEEP))
    return posts


# --------------------------------------------------------------------------- posting


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def take(self, post: Post, status: int, raw: bytes) -> None:
        """Hold one answer against what must come of the post."""
        self.statuses[status] += 1
        if status != post.status or b"Traceback" in raw:
            self.wrong.append(f"{post.what}: {status} instead of {post.status}: {raw[:200]!r}")
        elif status == 202:
            alerts = json.loads(raw)["alerts"]
            self.ids |= {alert["id"] for alert in alerts}
            if len(alerts) < post.least:
                self.wrong.append(f"{post.what}: {len(alerts)} kept of {post.least}")


def send_all(url: str, posts: list[Post]) -> Tally:
    """Post everything over a few connections that stay open; what came back."""
    tally = Tally()
    with ThreadPoolExecutor(LANES) as pool:
        for answers in pool.map(lambda lane: send_lane(url, posts[lane::LANES]), range(LANES)):
            for post, status, raw in answers:
                tally.take(post, status, raw)
    return tally


def send_lane(url: str, posts: list[Post]) -> list[tuple[Post, int, bytes]]:
    """One connection's part."""
    link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    answers = []
    for post in posts:
        headers = {**JSON, **SENDERS[post.hook].prove(post.body)}
        link.request("POST", f"/v1/hooks/{post.hook}", post.body, headers)
        answer = link.getresponse()
        answers.append((post, answer.status, answer.read()))
    link.close()
    return answers


def check_kept(server: Serving, tally: Tally) -> Counter[str]:
    """Every id that was answered is in the store with its text; kinds counted."""
    rows = server.rows("SELECT id, body, raw FROM alerts")
    kept = {str(row[0]) for row in rows}
    assert tally.ids <= kept, f"{len(tally.ids - kept)} answered and not kept"
    assert all(raw for _, _, raw in rows)
    return Counter(json.loads(str(body))["kind"] for _, body, _ in rows)


def check_quiet(server: Serving) -> None:
    """It ends when asked to, and nothing that it wrote tells of a fault of its own."""
    assert server.stop() == 0
    found = [line[:300] for line in server.said().splitlines() if BROKEN.search(line)]
    assert not found, found[:5]


def run(server: Serving, posts: list[Post], what: str) -> Tally:
    """Post, check each answer, and say how many there were."""
    tally = send_all(server.url, posts)
    print(f"{what}: {len(posts)} posts to {len(HOOKS)} hooks, answers {dict(tally.statuses)}")
    assert not tally.wrong, "\n".join([f"{len(tally.wrong)} wrong", *tally.wrong[:10]])
    return tally


def by_source() -> dict[str, list[str]]:
    """The hooks of each source."""
    found: dict[str, list[str]] = {}
    for hook, sender in SENDERS.items():
        found.setdefault(sender.source, []).append(hook)
    return found


# --------------------------------------------------------------------------- the facts


@pytest.mark.timeout(180)
def test_nothing_posted_breaks_the_server_and_nothing_authentic_is_lost(server: Serving) -> None:
    """Our payloads to every hook; each field of each sender by each odd value; the rest sampled."""
    payloads = own()
    posts = whole(payloads) + odd(of_matching_senders(payloads), by_source())
    posts += odd(sample(payloads, SAMPLE), {})
    tally = run(server, posts, "own")
    kinds = check_kept(server, tally)
    print(f"kept: {dict(kinds)}")
    assert {post.what.rpartition(" ")[2] for post in posts} >= set(ODD) - {TOO_DEEP}
    assert kinds["unparsed"] > 100
    assert kinds["detection"] > 100
    check_quiet(server)


@pytest.mark.timeout(240)
def test_no_recorded_payload_breaks_the_server_and_none_is_lost(server: Serving) -> None:
    """What the tools really sent, to every hook; each field of each sender by each odd value."""
    payloads = recorded()
    if not payloads:
        pytest.skip("no recorded payloads: set RESPONDER_CORPUS to their folder")
    posts = whole(payloads) + odd(of_matching_senders(payloads), by_source())
    posts += odd(sample(payloads, SAMPLE), {})
    tally = run(server, posts, "recorded")
    print(f"kept: {dict(check_kept(server, tally))}")
    check_quiet(server)


@pytest.mark.parametrize("hook", [name for name, sender in SENDERS.items() if sender.early])
def test_a_stranger_is_refused_before_his_body_is_read(hook: str, server: Serving) -> None:
    """No credential, a length, no body at all: the answer is 401 at once, at every such hook."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=5) as link:
        link.sendall(
            f"POST /v1/hooks/{hook} HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".encode()
        )
        assert link.recv(2000).split()[1] == b"401"


# --------------------------------------------------------------------------- under attack


def healthy(url: str, number: int, mark: str) -> list[float]:
    """Seconds that each of so many ordinary alerts took, one after the other on one connection."""
    link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    proof = SENDERS["falco-header"].prove(b"")
    took = []
    for at in range(number):
        body = encoded({"rule": f"healthy {mark} {at}", "priority": "Notice", "output": "x"})
        started = time.perf_counter()
        link.request("POST", "/v1/hooks/falco-header", body, {**JSON, **proof})
        answer = link.getresponse()
        raw = answer.read()
        took.append(time.perf_counter() - started)
        assert answer.status == 202, raw
        time.sleep(0.005)  # a sender, not a flood
    link.close()
    return took


def p99(took: list[float]) -> float:
    """The slowest but one in a hundred, in milliseconds."""
    return statistics.quantiles(took, n=100)[98] * 1000


def attacked(
    server: Serving, calm: Serving, seconds: float
) -> tuple[dict[str, Any], list[float], list[float]]:
    """Let the hostile process loose on one server; what it saw, and what healthy senders felt.

    The calm server is asked in the same seconds: it is the floor that this machine gives.
    """
    place = [server.url, "falco-bearer", SECRETS["BEARER_NEW"], str(seconds)]
    hostile = subprocess.Popen(
        [sys.executable, "-m", "tests.journeys.hostile_attacks", *place], stdout=subprocess.PIPE
    )
    took: list[float] = []
    floor: list[float] = []
    try:
        while hostile.poll() is None:
            took += healthy(server.url, 50, str(len(took)))
            floor += healthy(calm.url, 50, str(len(floor)))
        answer = hostile.communicate(timeout=60)[0]
    finally:
        if hostile.poll() is None:
            hostile.kill()
            hostile.wait(10)
    assert hostile.returncode == 0
    return json.loads(answer), took, floor


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_attackers_are_refused_and_a_healthy_sender_hardly_notices(
    server: Serving, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each attack has its right answer; memory +<64 MiB; a healthy p99 < 50 ms meanwhile."""
    healthy(server.url, 200, "warm")
    before = server.forget_peak()
    with served(tmp_path_factory.mktemp("calm"), WORLD + HOOKS_CONFIG, SECRETS) as calm:
        told, took, floor = attacked(server, calm, ATTACK)
    grown = (server.peak() - before) / MIB
    print(f"{told['rounds']} rounds of {len(told['right'])} attacks, memory +{grown:.1f} MiB")
    print(f"healthy p99: {p99(took):.1f} ms of {len(took)}; {p99(floor):.1f} ms without attack")
    print("\n".join(f"  {name}: {seen}" for name, seen in told["seen"].items()))
    for name, seen in told["seen"].items():
        assert set(seen) <= set(told["right"][name]), f"{name}: {seen}"
    assert told["seen"].keys() == told["right"].keys()
    assert grown < 64
    # a machine that makes a server wait which nobody attacks is no measure of the attack
    assert p99(took) < max(50.0, 3 * p99(floor))
    kept = {str(row[0]) for row in server.rows("SELECT body FROM alerts")}
    assert sum('"healthy ' in body for body in kept) == 200 + len(took)
    check_quiet(server)
    lines = server.said().count("\n")
    assert lines < 200, f"{lines} log lines"
