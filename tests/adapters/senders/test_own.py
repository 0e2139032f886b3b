"""Our own payloads in every sender's shape: detections are, and all the rest starts nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from responder.errors import BadAlert
from responder.model import AlertKind, Severity
from tests.adapters.senders.own import ROWS, Row
from tests.adapters.senders.parts import SOURCES, changed, parsed, places, sample
from tests.adapters.sources.test_hostile import sound
from tests.docs.senders import pages

ODD: tuple[Any, ...] = (None, 7, True, "x", "", [], {}, ["x"], {"k": 1}, 2.5)
IDS = [f"{number} {row.name()}" for number, row in enumerate(ROWS)]
CID = "3f9a1c0b77de3f9a1c0b77de3f9a1c0b77de3f9a1c0b77de3f9a1c0b77de0011"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_sample_is_one_alert_that_may_start_something(name: str) -> None:
    """With a rule, a time, and the fields that conditions ask."""
    [alert] = parsed(name, sample(name))

    sound(alert)
    assert alert.kind is pages()[name].mapping.kind
    said = 1_790_237_695_000_000 if pages()[name].mapping.time else 0
    assert alert.time == pytest.approx(said, abs=1_000_000)
    assert alert.fields
    assert alert.source == name


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_what_must_start_nothing_starts_nothing(row: Row) -> None:
    """Test, health, resolved, blocked, telemetry: kept as that, with the reason."""
    [alert] = parsed(row.source, row.payload, **row.options)

    sound(alert)
    named = {one.name: one.reason for one in pages()[row.source].ignored}
    assert (alert.kind, alert.reason) == (row.kind, named[row.what])
    assert not alert.kind.may_start


def test_every_ignored_event_has_a_payload_here() -> None:
    """A reason that no payload ever meets would be a promise without proof."""
    shown = {(row.source, row.what) for row in ROWS}
    promised = {(name, one.name) for name, page in pages().items() for one in page.ignored}

    assert promised - shown == set()


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_detection_is_no_repeat_of_what_started_nothing(row: Row) -> None:
    """A blocked attempt before it must not swallow the attempt that goes through."""
    [alert] = parsed(row.source, row.payload, **row.options)
    [detection] = parsed(row.source, sample(row.source))

    assert alert.fingerprint != detection.fingerprint


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_no_other_field_makes_it_start_something(row: Row) -> None:
    """Whatever else is changed in a test or health event, it stays one (or is unreadable)."""
    payload = row.payload
    marked = [path for path in places(payload) if not _touches(path, row.marks)]
    for path in marked:
        for odd in ODD:
            try:
                alerts = parsed(row.source, changed(payload, {path: odd}), **row.options)
            except BadAlert:
                continue
            assert [a for a in alerts if a.kind.may_start] == [], (path, odd)


def _touches(path: str, marks: tuple[str, ...]) -> bool:
    """Whether a path is a mark, above one, or below one."""
    return any(f"{path}/".startswith(f"{m}/") or f"{m}/".startswith(f"{path}/") for m in marks)


DOORS = sorted(name for name, page in pages().items() if hasattr(page, "split"))


@pytest.mark.parametrize("name", DOORS)
def test_lines_have_fates_of_their_own(name: str) -> None:
    """NDJSON: a broken line costs only itself, and the order is kept."""
    good = json.dumps(sample(name))
    alerts = parsed(name, f"{good}\n{{broken\n{good}".encode())

    assert [alert.kind.may_start for alert in alerts] == [True, False, True]
    assert alerts[1].kind is AlertKind.UNPARSED
    assert alerts[0].fingerprint == alerts[2].fingerprint


def _keys_turned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _keys_turned(value[key]) for key in reversed(value)}
    return [_keys_turned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_same_statement_has_the_same_fingerprint(name: str) -> None:
    """Order of keys and white space mean nothing; another place is another statement."""
    payload = sample(name)
    [alert] = parsed(name, payload)
    [turned] = parsed(name, json.dumps(_keys_turned(payload), indent=3).encode())
    elsewhere = json.loads(
        json.dumps(payload)
        .replace("cart-5d9f", "till-9c1b")
        .replace("PFQZPSZ", "PFQZPSX")
        .replace("node-7", "node-8")
        .replace("host-7/", "host-8/")
        .replace("cart/crypto", "till/crypto")
        .replace("c4edaaf9f9f839b1", "c4edaaf9f9f839b2")
        .replace("shop/cart", "shop/till")
        .replace('"007"', '"008"')
    )
    [other] = parsed(name, elsewhere)

    assert turned.fingerprint == alert.fingerprint
    assert other.fingerprint != alert.fingerprint


@pytest.mark.parametrize("length", [12, 24, 31, 64])
def test_container_ids_of_every_length_are_kept(length: int) -> None:
    """12 (Falco), 24 and 31 (Tetragon), 64 (the runtime): the resolver matches them by prefix."""
    [alert] = parsed(
        "tetragon",
        changed(
            sample("tetragon"),
            {
                "process_kprobe/process/docker": CID[:length],
                "process_kprobe/process/pod/container": {"name": "cart"},
            },
        ),
    )
    assert alert.target.container_id == CID[:length]


@pytest.mark.parametrize("absent", [None, "", "<NA>", "null", "N/A", "host", "$CONTAINER_ID", {}])
@pytest.mark.parametrize(
    ("name", "path"),
    [("sysdig", "containerId"), ("kubearmor", "ContainerID"), ("tracee", "container/id")],
)
def test_what_means_absent_is_absent(name: str, path: str, absent: Any) -> None:
    """No detector's word for "unknown" ever becomes part of a target."""
    [alert] = parsed(name, changed(sample(name), {path: absent}))

    assert alert.target.container_id == ""


def test_tracees_three_shapes_name_the_same_pod() -> None:
    """Flat (0.8), nested (0.1x and 0.2x), and by workload (v1beta1)."""
    nested = sample("tracee")
    flat = {
        **{key: nested[key] for key in ("timestamp", "eventName", "metadata", "processName")},
        "containerId": CID,
        "containerName": "cart",
        "containerImage": "registry.example/shop/cart:1.4.2",
        "podName": "cart-5d9f-abcde",
        "podNamespace": "shop",
        "podUID": "0f7ad251-39da-44f7-af28-34a0e971be3e",
    }
    beta = {
        "timestamp": {"seconds": "1790237695", "nanos": 120000417},
        "id": "dropped_executable",
        "name": "dropped_executable",
        "threat": {"name": "Dropped", "severity": "MEDIUM", "description": "d"},
        "workload": {
            "container": {"id": CID, "name": "cart", "image": {"name": "r.example/shop/cart:1"}},
            "k8s": {
                "pod": {"name": "cart-5d9f-abcde", "uid": "0f7ad251-39da-44f7-af28-34a0e971be3e"},
                "namespace": {"name": "shop"},
            },
        },
        "data": [{"name": "path", "str": "/tmp/miner"}],
    }
    for shape in (flat, nested, beta):
        [alert] = parsed("tracee", shape)
        target = alert.target
        assert (target.namespace, target.pod, target.container_id) == (
            "shop",
            "cart-5d9f-abcde",
            CID,
        )
        assert alert.severity is Severity.MEDIUM
        assert alert.kind is AlertKind.DETECTION
        assert alert.time == 1_790_237_695_120_000


def test_kubearmors_sidekick_wraps_the_same_alert() -> None:
    """The wrapper's words stand in for what the alert leaves out, and override nothing."""
    inner = sample("kubearmor")
    [bare] = parsed("kubearmor", inner)
    detail = {key: inner[key] for key in inner if key not in {"Type", "HostName", "Timestamp"}}
    [wrapped] = parsed(
        "kubearmor",
        {
            "Timestamp": inner["Timestamp"],
            "UpdatedTime": "2026-09-24T08:14:55.9Z",
            "ClusterName": "another",
            "HostName": "node-7",
            "EventType": "MatchedPolicy",
            "Detail": detail,
        },
    )
    assert (wrapped.fingerprint, wrapped.target, wrapped.time) == (
        bare.fingerprint,
        bare.target,
        bare.time,
    )


def test_kubescapes_report_of_changed_files_is_an_alert_for_each() -> None:
    """Its sensor for files on the node posts to the same address."""
    event = {"eventType": "modify", "path": "/etc/passwd", "timestamp": "2026-09-24T08:14:55Z"}
    report = {"events": [event, {**event, "path": "/etc/shadow"}], "nodeName": "node-7"}
    first, second = parsed("kubescape", report)

    assert (first.rule, first.summary, first.target.node) == (
        "File modify",
        "/etc/passwd",
        "node-7",
    )
    assert first.fingerprint != second.fingerprint


NV_LINE = (
    b"level=CRITICAL,cluster=prod,name=Container.Suspicious.Process,level=Critical,"
    b"reported_timestamp=1790237695,reported_at=2026-09-24T08:14:55Z,host_name=node-7,"
    b"workload_name=cart-5d9f-abcde,workload_domain=shop,"
    b"workload_image=registry.example/shop/cart:1.4.2,"
)


def test_neuvectors_line_of_pairs_is_read() -> None:
    """Commas inside of a value stay in it."""
    line = NV_LINE + b"proc_cmd=nmap -p 1,2,3,action=Alert,message=A scanner, started"
    [alert] = parsed("neuvector", line)

    assert alert.kind is AlertKind.DETECTION
    assert (alert.target.namespace, alert.target.pod) == ("shop", "cart-5d9f-abcde")
    assert alert.fields["proc_cmd"] == "nmap -p 1,2,3"
    assert alert.summary == "A scanner, started"
    assert alert.time == 1_790_237_695_000_000


def test_an_intruder_cannot_write_denied_into_neuvectors_line() -> None:
    """A command line that holds `action=` twice over makes nothing look blocked."""
    line = NV_LINE + b"proc_cmd=x,action=Denied,action=Alert,message=m"
    [alert] = parsed("neuvector", line)

    assert alert.kind is AlertKind.DETECTION


def test_neuvectors_broken_json_is_kept() -> None:
    """A quote in the cluster's name breaks its JSON; the alert is not lost."""
    [alert] = parsed("neuvector", b'{"cluster":"a"b","name":"Container.Suspicious.Process"}')

    assert alert.kind is AlertKind.UNPARSED
    assert "Container.Suspicious.Process" in alert.raw


def test_own_requests_are_ordinary_in_the_audit_log() -> None:
    """The hook names this product's account; anybody else's exec is a detection."""
    payload = sample("kubernetes-audit")
    user = payload["items"][0]["user"]["username"]

    [other] = parsed("kubernetes-audit", payload, own=["system:serviceaccount:a:b"])
    [own] = parsed("kubernetes-audit", payload, own=[user])

    assert (other.kind, own.kind) == (AlertKind.DETECTION, AlertKind.NOTE)


def test_ordinary_audit_events_of_a_batch_are_one_note() -> None:
    """Four hundred of them cost one row."""
    payload = sample("kubernetes-audit")
    listing = {**payload["items"][0], "verb": "list", "objectRef": {"resource": "pods"}}
    batch = {**payload, "items": [listing] * 399 + payload["items"]}

    alerts = parsed("kubernetes-audit", batch)
    assert [alert.kind for alert in alerts] == [AlertKind.DETECTION, AlertKind.NOTE]
    assert alerts[1].fields["ordinary"] == 399


def test_both_stages_of_one_exec_are_one_statement() -> None:
    """It is told of when it begins and again when it ends, with one `auditID`."""
    payload = sample("kubernetes-audit")
    begun = payload["items"][0]
    ended = {**begun, "stage": "ResponseComplete", "stageTimestamp": "2026-09-24T09:00:00Z"}
    first, second = parsed("kubernetes-audit", {**payload, "items": [begun, ended]})

    assert first.fingerprint == second.fingerprint


def test_falcosidekicks_other_outputs_are_read_by_the_same_hook() -> None:
    """A CloudEvent in structured mode, Kafka's REST proxy, lines: the same alert each."""
    event = sample("falco")
    [bare] = parsed("falco", event)
    wrapped: list[Any] = [
        {"specversion": "1.0", "type": "falco.rule.output.v1", "id": "1", "data": event},
        {"records": [{"value": event}]},
        [event],
    ]
    for shape in wrapped:
        [alert] = parsed("falco", shape)
        assert alert.fingerprint == bare.fingerprint
    assert len(parsed("falco", b"\n".join([json.dumps(event).encode()] * 3))) == 3


@pytest.mark.parametrize("name", ["trivy", "trivy-operator", "grype"])
def test_a_report_again_is_a_repeat_and_a_new_finding_is_not(name: str) -> None:
    """One alert a report; it hangs on the set of findings, not on their order."""
    path, key = {
        "trivy": ("Results/0/Vulnerabilities", "VulnerabilityID"),
        "trivy-operator": ("report/vulnerabilities", "vulnerabilityID"),
        "grype": ("matches", "vulnerability/id"),
    }[name]
    payload = sample(name)
    held: Any = payload
    for step in path.split("/"):
        held = held[int(step)] if isinstance(held, list) else held[step]
    [alert] = parsed(name, payload)
    [again] = parsed(name, changed(payload, {path: [*reversed(held), held[0]]}))
    [more] = parsed(name, changed(payload, {path: [*held, changed(held[0], {key: "CVE-2026-3"})]}))

    assert alert.kind is AlertKind.VULNERABILITY
    assert (again.fingerprint, again.summary) == (alert.fingerprint, alert.summary)
    assert more.fingerprint != alert.fingerprint
