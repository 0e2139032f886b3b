"""`python -m tests.fuzz [SENDER …] --seconds N --seed S`: random changes of all known payloads.

Starts from the samples, our own payloads and the recorded ones, and changes bytes, values, keys
and structure, many at once. Anything but sound alerts or `BadAlert` is a crash: the body is
printed, the seed repeats it, and the process ends with 1. An event that must start nothing and
whose marks were not touched is checked for that too.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from responder.errors import BadAlert
from tests.adapters.senders import table
from tests.adapters.senders.own import ROWS
from tests.adapters.senders.parts import SOURCES, changed, parsed, places, sample
from tests.adapters.sources.parts import corpus_root
from tests.adapters.sources.test_hostile import sound

Chance = random.Random
WORDS = ("", "null", "<NA>", "host", "Test rule", "resolved", "firing", "$X", "0", "1e999", "-1")
WORDS += ("2026-09-24T08:14:55Z", "9" * 400, "\u202e\x00", "../..", "a" * 5000, "{", "critical")
BITS = (
    b"\x00",
    b"\xff",
    b'"',
    b"\\",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"1e999",
)


def value(chance: Chance, depth: int = 0) -> Any:
    """A JSON value out of nothing."""
    kind = chance.randrange(8 if depth == 0 else 7 if depth < 4 else 5)  # width only at the top
    made: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: chance.choice((True, False)),
        lambda: chance.randrange(-(2**70), 2**70) >> chance.randrange(70),
        lambda: chance.uniform(-1e12, 1e12),
        lambda: chance.choice(WORDS),
        lambda: [value(chance, depth + 1) for _ in range(chance.randrange(4))],
        lambda: {chance.choice(WORDS[:12]): value(chance, depth + 1) for _ in range(3)},
        lambda: {"items": [value(chance, depth + 1)] * chance.randrange(1, 40)},
    )
    return made[kind]()


def of_values(chance: Chance, payload: Any) -> bytes:
    """One to six places get other values, or go, or change places."""
    for _ in range(chance.randrange(1, 7)):
        found = list(places(payload, most=3))
        if not found:
            break
        path = chance.choice(found)
        try:
            payload = changed(payload, {path: ... if chance.random() < 0.15 else value(chance)})
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            continue  # the place went with an earlier change
    return json.dumps(payload, default=str).encode()


def of_bytes(chance: Chance, body: bytes) -> bytes:
    """Cuts, doubles, flips and insertions."""
    data = bytearray(body)
    for _ in range(chance.randrange(1, 9)):
        at = chance.randrange(len(data) + 1)
        act = chance.randrange(5)
        if act == 0:
            data[at:at] = chance.choice(BITS)
        elif act == 1:
            del data[at : at + chance.randrange(1, 40)]
        elif act == 2 and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif act == 3:
            data[at:at] = data[at : at + chance.randrange(200)]
        else:
            data = data + b"\n" + data[: chance.randrange(len(data) + 1)]
        data = data[:400_000]
    return bytes(data)


def seeds(names: list[str]) -> list[tuple[str, Any]]:
    """Every payload that is known for these senders."""
    found = [(name, sample(name)) for name in names]
    found += [(row.source, row.payload) for row in ROWS if row.source in names]
    root = corpus_root()
    if root is not None:
        for folder, content in table.read().items():
            for file, said in content["files"].items():
                if said["source"] in names:
                    body = (root / "alerts" / folder / file).read_bytes()
                    found.append((said["source"], json.loads(body)))
    return found


def once(name: str, body: bytes) -> str:
    """What became of one body; anything unexpected raises."""
    try:
        alerts = parsed(name, body)
    except BadAlert:
        return "refused"
    assert len(alerts) < 1000
    for alert in alerts:
        sound(alert)
    return "acts" if any(alert.kind.may_start for alert in alerts) else "kept"


def run(names: list[str], seconds: float, seed: int) -> int:
    """Fuzz until the time is over; the number of crashes, at most one."""
    chance = Chance(seed)
    known = seeds(names)
    until, fates = time.monotonic() + seconds, {"refused": 0, "kept": 0, "acts": 0}
    while time.monotonic() < until:
        name, payload = chance.choice(known)
        body = of_values(chance, payload)
        if chance.random() < 0.5:
            body = of_bytes(chance, body)
        try:
            fates[once(name, body)] += 1
        except Exception:  # noqa: BLE001 - finding it is the point
            traceback.print_exc()
            print(f"CRASH {name}, seed {seed}, after {sum(fates.values())} bodies: {body!r}")
            return 1
    print(f"{', '.join(names)}: {sum(fates.values())} bodies in {seconds:g} s, 0 crashes, {fates}")
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("senders", nargs="*", metavar="SENDER")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    unknown = sorted(set(given.senders) - set(SOURCES))
    if unknown:
        parser.error(f"no sender is called {unknown[0]}; known: {', '.join(sorted(SOURCES))}")
    return run(given.senders or sorted(SOURCES), given.seconds, given.seed)


if __name__ == "__main__":
    sys.exit(main())
