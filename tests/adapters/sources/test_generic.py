"""Mapped JSON and PagerDuty's words: what the mapping finds, and that silence starts nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integrations.generic import KEYS, check_mapping
from responder.errors import BadAlert, ConfigError, Unauthorized
from responder.model import Alert, AlertKind, Secret, Severity
from responder.ports import HookInfo
from tests.adapters.sources import payloads
from tests.adapters.sources.parts import SOURCES, hook_of

GENERIC = SOURCES["generic"]
PAGER = SOURCES["pagerduty"]
MISSING = object()  # what an expression gives where a field is not there


def read(payload: Any, **mapping: Any) -> list[Alert]:
    """Alerts of a body under a mapping; `target__pod` stands for `target.pod`."""
    named = {key.replace("__", "."): value for key, value in mapping.items()}
    hook = hook_of("generic", mapping=named)
    return GENERIC.parse({}, json.dumps(payload).encode(), hook)


def page(event: Any) -> Alert:
    """The alert of one PagerDuty event."""
    (alert,) = PAGER.parse({}, json.dumps(event).encode(), hook_of("pagerduty"))
    return alert


def test_a_mapping_fills_every_part() -> None:
    """Each key of the mapping lands in its place, read like any other source's value."""
    finding = {
        "what": "Egress",
        "how": "HIGH",
        "at": 1790237695,
        "p": "web-0",
        "n": "shop",
        "id": 9,
    }
    (alert,) = read(
        finding,
        rule=lambda b: b["what"],
        severity=lambda b: b["how"],
        time=lambda b: b["at"],
        summary=lambda b: b["what"] + "!",
        kind=lambda _: "vulnerability",
        fingerprint=lambda b: b["id"],
        tags=lambda _: ["a", 5, "b"],
        target__pod=lambda b: b["p"],
        target__namespace=lambda b: b["n"],
        target__workload=lambda _: "Deployment/web",
        target__container_id=lambda _: "containerd://3f9a1c0b77de",
    )
    assert alert.kind is AlertKind.VULNERABILITY
    assert (alert.rule, alert.summary) == ("Egress", "Egress!")
    assert alert.severity is Severity.HIGH
    assert alert.time == 1790237695000000
    assert alert.tags == ("a", "b")
    assert alert.target.to_json() == {
        "cluster": "prod",
        "namespace": "shop",
        "pod": "web-0",
        "container_id": "3f9a1c0b77de",
        "workload": "Deployment/web",
    }
    assert alert.fields["id"] == 9


def test_without_a_mapping_our_own_words_are_read() -> None:
    """A sender may speak the product's own words."""
    (alert,) = read(payloads.generic_event())
    assert (alert.rule, alert.severity) == ("Odd egress", Severity.HIGH)
    assert alert.time == 1790237695120000
    assert alert.target.workload == "Deployment/cart"
    assert alert.labels == {"team": "shop"}
    assert alert.fields["bytes"] == 90071992547409931


def test_items_make_one_alert_each() -> None:
    """The list that `items` finds, or the items of a body that is an array."""
    findings = [{"r": "a"}, {"r": "b"}, 7]
    for payload, more in (({"f": findings}, {"items": lambda b: b["f"]}), (findings, {})):
        alerts = read(payload, rule=lambda b: b["r"], **more)
        assert [alert.rule for alert in alerts] == ["a", "b", ""]
        assert alerts[2].kind is AlertKind.UNPARSED


@pytest.mark.parametrize(
    "mapping",
    [
        {"rule": lambda _: MISSING},
        {"rule": lambda _: 5},
        {"rule": lambda b: b["no such key"]},
        {"rule": lambda _: "r", "kind": lambda _: MISSING},
        {"rule": lambda _: "r", "kind": lambda _: "whatever"},
        {"rule": lambda _: "r", "kind": lambda _: "unparsed"},
        {"rule": lambda _: "r", "kind": lambda _: 1 / 0},
        {"rule": lambda _: "r", "target.pod": lambda b: b.x},
        {"rule": lambda _: "r", "items": lambda _: MISSING},
        {"rule": lambda _: "r", "items": lambda _: {}},
        {"rule": lambda _: "r", "items": lambda b: b["no such key"]},
    ],
    ids=str,
)
def test_a_mapping_that_finds_nothing_or_breaks_starts_nothing(mapping: Any) -> None:
    """The alert is kept unread with the reason; it never costs the request."""
    body = json.dumps({"x": 1}).encode()
    (alert,) = GENERIC.parse({}, body, hook_of("generic", mapping=mapping))
    assert alert.kind is AlertKind.UNPARSED
    assert alert.reason
    assert alert.raw == body.decode()


@pytest.mark.parametrize("value", [MISSING, None, 5, [], {}, "../../x", "a b", 1e300, "x" * 9999])
def test_odd_values_in_a_mapping_are_absent(value: Any) -> None:
    """No part of the target, no time and no tag comes of a value that cannot be one."""
    keys = [key for key in sorted(KEYS) if key.startswith("target.")]
    named = {key: (lambda _: value) for key in [*keys, "time", "tags", "summary", "fingerprint"]}
    mapping = {"rule": lambda _: "r"} | named
    (alert,) = GENERIC.parse({}, b"{}", hook_of("generic", mapping=mapping))
    assert alert.kind is AlertKind.DETECTION
    assert alert.target.pod == alert.target.workload == alert.target.container_id == ""
    assert alert.tags == ()


def test_severity_takes_words_and_our_numbers() -> None:
    """0 to 5 as this product counts; other numbers are unknown."""
    seen = [
        read({"s": given}, rule=lambda _: "r", severity=lambda b: b["s"])[0].severity
        for given in ("critical", 5, 0, 6, -1, True, 4.0, None)
    ]
    assert [int(severity) for severity in seen] == [5, 5, 0, 0, 0, 0, 0, 0]


def test_an_end_finds_its_start() -> None:
    """By the mapped fingerprint, by `resolves`, or by what would have been computed."""
    rule = {"rule": lambda b: b["r"]}
    named = rule | {"fingerprint": lambda b: b["id"]}
    ended = {"kind": lambda _: "resolved"}
    event = {"r": "a", "id": "77"}
    assert read(event, **named, **ended)[0].resolves == read(event, **named)[0].fingerprint
    assert read(event, **rule, **ended)[0].resolves == read(event, **rule)[0].fingerprint
    by_id = read(event, **rule, **ended, resolves=lambda b: b["id"])[0]
    assert by_id.resolves == read(event, **named)[0].fingerprint
    assert by_id.fingerprint != by_id.resolves


def test_a_mapping_is_checked_by_its_keys() -> None:
    """An unknown key, a cluster from the payload and a missing rule are configuration errors."""
    check_mapping(KEYS, "[hooks.x.mapping]")
    for keys, says in (
        (["rule", "sevrity"], 'did you mean "severity"'),
        (["rule", "target.cluster"], "never chooses the cluster"),
        (["summary"], "rule is missing"),
    ):
        with pytest.raises(ConfigError, match=says):
            check_mapping(keys, "[hooks.x.mapping]")


# --------------------------------------------------------------------------- PagerDuty's words


def test_a_trigger_is_a_detection_with_its_details() -> None:
    """Rule from the class, target from the details, host from the source."""
    alert = page(payloads.pagerduty_event())
    assert alert.kind is AlertKind.DETECTION
    assert (alert.rule, alert.summary, alert.severity) == ("shell", "shell in cart", Severity.HIGH)
    assert alert.time == 1790237695120000
    assert alert.target.to_json() == {
        "cluster": "prod",
        "namespace": "shop",
        "pod": "cart-5d9f-abcde",
        "container_id": "3f9a1c0b77de3f9a1c0b77de",
        "host": "node-7",
    }
    assert alert.fields["custom_details.count"] == 3


def test_a_resolve_ends_the_trigger_with_its_key_and_needs_no_payload() -> None:
    """`dedup_key` joins the three actions; only the trigger may start anything."""
    trigger = page(payloads.pagerduty_event())
    bare = {"routing_key": "k", "dedup_key": "shop/cart/shell"}
    resolve = page(bare | {"event_action": "resolve"})
    seen = page(bare | {"event_action": "acknowledge"})
    assert (resolve.kind, resolve.resolves) == (AlertKind.RESOLVED, trigger.fingerprint)
    assert (seen.kind, seen.resolves) == (AlertKind.NOTE, "")
    assert len({trigger.fingerprint, resolve.fingerprint, seen.fingerprint}) == 3


@pytest.mark.parametrize("action", ["triggered", "Trigger", "", None, 5, "missing"])
def test_an_unknown_action_is_kept_unread(action: Any) -> None:
    """Webhooks v3 and mistakes start nothing."""
    event = payloads.pagerduty_event() | {"event_action": action}
    if action == "missing":
        del event["event_action"]
    assert page(event).kind is AlertKind.UNPARSED


def test_without_a_key_the_payload_is_the_identity() -> None:
    """Details and time may differ between repeats, the five identifying fields may not."""
    event = payloads.pagerduty_event()
    del event["dedup_key"]
    first = page(event)
    event["payload"]["timestamp"] = "2026-09-24T09:00:00Z"
    assert page(event).fingerprint == first.fingerprint
    event["payload"]["component"] = "till"
    assert page(event).fingerprint != first.fingerprint


def test_the_routing_key_never_gets_into_the_alert() -> None:
    """It is a credential: not in fields, not in the raw text, not in a reason."""
    secret = payloads.pagerduty_event()["routing_key"]
    good, bad = payloads.pagerduty_event(), payloads.pagerduty_event() | {"event_action": 5}
    for payload in (good, bad, [good, bad], good | {"Routing_Key": secret}):
        body = json.dumps(payload).encode()
        for alert in PAGER.parse({}, body, hook_of("pagerduty")):
            assert secret not in json.dumps(alert.to_json()) + alert.raw


ROUTED = HookInfo(
    name="p",
    source="pagerduty",
    auth={"routing_key": [Secret("canary-routing-key-0123456789abcdef"), Secret("old-key")]},
)


def test_the_routing_key_lets_its_holder_in() -> None:
    """The new and the old key, for one event and for each of an array."""
    event = payloads.pagerduty_event()
    for payload in (event, event | {"routing_key": "old-key"}, [event, event]):
        PAGER.verify({}, json.dumps(payload).encode(), ROUTED)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        [],
        "x",
        None,
        {"routing_key": None},
        {"routing_key": ""},
        {"routing_key": ["old-key"]},
        {"routing_key": "old-ke"},
        {"routing_key": "OLD-KEY"},
        {"ROUTING_KEY": "old-key"},
        [{"routing_key": "old-key"}, {"routing_key": "x"}],
        [{"routing_key": "old-key"}, 5],
        [{"routing_key": "old-key"}] * 901,
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_without_the_routing_key_nobody_gets_in(payload: Any) -> None:
    """Missing, wrong, bent, or not on every event."""
    with pytest.raises(Unauthorized):
        PAGER.verify({}, json.dumps(payload).encode(), ROUTED)


def test_a_routing_key_in_what_is_no_json_is_no_key() -> None:
    """An unreadable body is a stranger's where the credential is inside it."""
    with pytest.raises(Unauthorized):
        PAGER.verify({}, b'{"routing_key":"old-key"', ROUTED)
    with pytest.raises(BadAlert):
        PAGER.parse({}, b'{"routing_key":"old-key"', ROUTED)
