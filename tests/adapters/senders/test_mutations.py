"""Whatever a payload is turned into: sound alerts or `BadAlert`, and never anything else.

Every place of every payload gets every odd value; bodies are cut everywhere, parts are doubled
and turned around. Deterministic; the recorded payloads are thinned to what a minute holds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integrations._json import DEPTH_MAX
from responder.errors import BadAlert
from responder.model import Alert
from tests.adapters.senders import table
from tests.adapters.senders.own import ROWS
from tests.adapters.senders.parts import SOURCES, changed, parsed, places, sample
from tests.adapters.sources.parts import corpus_root
from tests.adapters.sources.test_hostile import deep, sound

ODD: tuple[Any, ...] = (
    None,
    ["x", 1, None, {}],
    {"k": "v", "name": {}, "0": [[]]},
    7,
    -1.5,
    10**30,
    True,
    "",
    "null",
    "../../etc\r\n\x1b[31m\u202e${{ x }}\x00",
    "A" * 9000,
    list(range(1500)),
    deep(DEPTH_MAX - 14),
)
BODIES_MAX = 300  # changes of values of one recorded payload
OWN: list[tuple[str, Any]] = [(name, sample(name)) for name in sorted(SOURCES)]
OWN += [(row.source, row.payload) for row in ROWS]


def post(name: str, body: Any) -> list[Alert]:
    """Sound alerts, or none when the body was refused."""
    try:
        alerts = parsed(name, body)
    except BadAlert:
        return []
    assert len(alerts) < 1000
    for alert in alerts:
        sound(alert)
    return alerts


def bodies(payload: Any, most: int = 1 << 30) -> list[bytes]:
    """All changed bodies of one payload in a fixed order, or `most` changes of values evenly."""
    changes = [{path: odd} for path in places(payload, most=1) for odd in ODD]
    step = max(1, len(changes) // most)
    step += step > 1 and step % len(ODD) == 0  # so that every odd value has its turn
    made = [json.dumps(changed(payload, change)).encode() for change in changes[::step]]
    whole = json.dumps(payload, ensure_ascii=False).encode()
    step = max(1, len(whole) // 60)
    made += [whole[:cut] for cut in range(0, len(whole), step)]
    made += [whole[cut:] for cut in range(1, len(whole), step)]
    made += [whole + whole, whole + b"\n" + whole, b"[" + whole + b"," + whole + b"]"]
    made += [whole[:cut] + b"\xff\x00" + whole[cut:] for cut in range(0, len(whole), step * 4)]
    return made


@pytest.mark.parametrize(("name", "payload"), OWN, ids=[f"{n}-{i}" for i, (n, _) in enumerate(OWN)])
def test_no_change_of_our_payloads_breaks_a_sender(name: str, payload: Any) -> None:
    """Every place by every odd value, every cut, doubled, joined, with bytes in between."""
    made = bodies(payload)
    for body in made:
        post(name, body)
    assert len(made) > 70


def recorded() -> list[Any]:
    """Every recorded payload with the source that its table names."""
    root = corpus_root()
    files = [
        (said["source"], folder, name)
        for folder, content in table.read().items()
        for name, said in content["files"].items()
    ]
    if root is None:
        reason = "no recorded payloads: set RESPONDER_CORPUS to their folder"
        return [pytest.param("", None, marks=pytest.mark.skip(reason=reason), id="no-corpus")]
    return [
        pytest.param(source, root / "alerts" / folder / name, id=f"{folder}/{name}")
        for source, folder, name in files
    ]


@pytest.mark.parametrize(("name", "path"), recorded())
def test_no_change_of_recorded_payloads_breaks_a_sender(name: str, path: Path) -> None:
    """The same over what the tools really sent, thinned evenly."""
    for body in bodies(json.loads(path.read_bytes()), BODIES_MAX):
        post(name, body)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_payload_can_come_to_the_wrong_hook(name: str) -> None:
    """A sender that was pointed at another's hook is kept or refused, never a failure."""
    for _, payload in OWN:
        post(name, payload)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_order_of_a_batch_changes_nothing_but_the_order(name: str) -> None:
    """Parts of an array are read alone: turned around they give the same alerts turned around."""
    payload = sample(name)
    first = json.dumps(payload).encode()
    second = first.replace(b"cart-5d9f", b"till-9c1b").replace(b"node-7", b"node-8")
    there = post(name, b"[" + first + b"," + second + b"]")
    back = post(name, b"[" + second + b"," + first + b"]")

    assert [a.fingerprint for a in there] == [a.fingerprint for a in reversed(back)]
