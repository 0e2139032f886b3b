"""Whatever is posted to whichever source: an alert, or `BadAlert`, and never anything else.

Every recorded payload and every payload of ours goes to every source; then each of their fields
becomes, one after the other, null, a list, an object, a number, a text, something huge and
something deep; then hypothesis makes up JSON of its own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations._json import DEPTH_MAX
from responder.clock import iso
from responder.errors import BadAlert, Unauthorized
from responder.model import Alert
from responder.ports import HookInfo
from tests.adapters.sources import payloads
from tests.adapters.sources.parts import SOURCES, corpus_files, hook_of

_RULES = {"rule": lambda body: body.get("rule"), "target.pod": lambda body: body["pod"]["name"]}
HOOKS: dict[str, list[HookInfo]] = {name: [hook_of(name)] for name in SOURCES}
HOOKS["generic"].append(hook_of("generic", mapping=_RULES))
HOOKS["generic"].append(hook_of("generic", mapping={"items": lambda body: body["alerts"]}))


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    made: Any = "bottom"
    for _ in range(levels):
        made = [made]
    return made


ODD: dict[str, Any] = {
    "null": None,
    "list": ["x", 1, None],
    "object": {"k": "v", "name": {}},
    "number": 7,
    "fraction": -1.5,
    "beyond 64 bits": 10**30,
    "true": True,
    "text": "../../etc\r\n\x1b[31m\u202e${{ x }}\x00",
    "huge": "A" * 70_000,
    "wide": list(range(3000)),
    "deep": deep(DEPTH_MAX - 12),
    "too deep": deep(200),
}


def sound(alert: Alert) -> None:
    """What every later layer counts on."""
    shown = json.dumps(alert.to_json(), allow_nan=False, ensure_ascii=False)
    shown.encode()
    alert.raw.encode()
    assert Alert.from_json(json.loads(shown)).to_json() == alert.to_json()
    assert iso(alert.time)
    assert len(alert.fingerprint) == 32
    assert len(alert.rule) < 300
    assert len(alert.summary) < 1200
    assert "\x00" not in shown
    assert alert.kind.may_start is (not alert.reason), alert.reason
    assert alert.rule or not alert.kind.may_start
    for part in alert.target.to_json().values():
        assert part.isascii()
        assert part.isprintable()
        assert ".." not in part
        assert len(part) < 800
    for key, value in alert.fields.items():
        assert len(key) < 300
        assert not isinstance(value, int) or -(2**63) <= value < 2**63


def post(name: str, body: bytes, *, items: int = 1) -> list[Alert]:
    """Post to every hook of one source and check what came of it; refused bodies give nothing."""
    got: list[Alert] = []
    for hook in HOOKS[name]:
        try:
            alerts = SOURCES[name].parse({}, body, hook)
        except BadAlert:
            continue
        assert items <= len(alerts) < 1000
        for alert in alerts:
            sound(alert)
        got += alerts
    return got


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside, the top included."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for at in range(min(len(value), 2)):
            yield from places(value[at], (*path, at))


def with_value(payload: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the payload with one value replaced."""
    if not path:
        return value
    changed = copy.deepcopy(payload)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


def mutate(name: str, payload: Any) -> int:
    """Every field by every odd value to every source; how many bodies were posted."""
    count = 0
    for path in places(payload):
        for odd, value in ODD.items():
            body = json.dumps(with_value(payload, path, value)).encode()
            assert post(name, body) or odd == "too deep", (path, odd)
            for other in SOURCES.keys() - {name}:
                post(other, body)
            count += 1
    return count


@pytest.mark.parametrize("name", SOURCES)
def test_no_type_of_any_field_of_our_payloads_breaks_a_source(name: str) -> None:
    """Each field by each odd value is an alert; only what is too deep is refused."""
    counted = sum(mutate(name, payload) for payload in payloads.ALL[name])
    print(f"{name}: {counted} changed payloads")
    assert counted > 150


@pytest.mark.parametrize(
    "path",
    corpus_files("alerts/falco", "alerts/falcosidekick", "alerts/alertmanager", "alerts/pagerduty"),
)
@pytest.mark.timeout(120)
def test_no_type_of_any_field_of_recorded_payloads_breaks_a_source(path: Path) -> None:
    """The same over what the tools really sent."""
    name = path.parent.name.replace("falcosidekick", "falco")
    assert mutate(name, json.loads(path.read_bytes())) > 12


@pytest.mark.parametrize("path", corpus_files("alerts", "falco-talon"))
def test_every_recorded_payload_can_be_posted_to_every_source(path: Path) -> None:
    """Other tools' alerts become unparsed or foreign alerts; none breaks anything."""
    body = path.read_bytes()
    for name in SOURCES:
        post(name, body, items=0)


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_authentic_is_lost_among_foreign_payloads(name: str) -> None:
    """Any JSON that says something leaves at least one alert that keeps it."""
    for foreign in (list_ for kind in payloads.ALL.values() for list_ in kind):
        assert post(name, json.dumps(foreign).encode())


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"0",
        b'""',
        b"{}",
        b"[" * 100_000,
        b'{"rule":"\\ud800"}',
        b'{"rule":NaN}',
        b'{"rule":"a","rule":"b"}',
        b'{"alerts":[' + b"{}," * 300_000 + b"{}]}",
        b"[" + b"{}," * 300_000 + b"{}]",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_bodies_made_to_break_are_answered(name: str, body: bytes) -> None:
    """Empty, cut, deep, doubled, wide: refused or kept, with a bounded number of alerts."""
    post(name, body, items=0)


@pytest.mark.parametrize("name", SOURCES)
def test_odd_headers_only_ever_refuse(name: str) -> None:
    """A stranger's headers raise `Unauthorized` and nothing else."""
    for value in (
        "",
        " ",
        "\x00",
        "Bearer",
        "Bearer \ud800",
        "Basic ==",
        "é",
        "x" * 70_000,
        "a, b",
    ):
        with pytest.raises(Unauthorized):
            SOURCES[name].verify({"authorization": value}, b"{}", HOOKS[name][0])


WORDS = sorted(
    {
        str(step)
        for kind in payloads.ALL.values()
        for payload in kind
        for path in places(payload)
        for step in path
    }
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["firing", "resolved", "trigger", "Test rule", "<NA>", "host", "critical"])
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=8), inner, max_size=8)
    ),
    max_leaves=30,
)


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payload=JSON)
def test_made_up_json_becomes_sound_alerts_or_is_refused(name: str, payload: Any) -> None:
    """Random JSON from the senders' own words, NaN and lone surrogates included."""
    post(name, json.dumps(payload).encode(), items=0)


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200))
def test_made_up_bytes_become_sound_alerts_or_are_refused(name: str, body: bytes) -> None:
    """Bytes that mostly are no JSON at all."""
    post(name, body, items=0)
