"""Falco and Falcosidekick: what an event means, which repeats fold, what starts nothing."""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from responder.errors import BadAlert, ConfigError
from responder.model import Alert, AlertKind, Severity
from tests.adapters.sources import payloads
from tests.adapters.sources.parts import SOURCES, WORLD, corpus_files, hook_of

FALCO = SOURCES["falco"]
HOOK = hook_of("falco")


def read(event: Any) -> Alert:
    """The one alert of one event."""
    (alert,) = FALCO.parse({}, json.dumps(event).encode(), HOOK)
    return alert


def test_a_pod_event_names_pod_container_and_image() -> None:
    """Every part that the event names is there, and no part that it does not."""
    alert = read(payloads.falco_pod())
    assert alert.kind is AlertKind.DETECTION
    assert alert.rule == "Terminal shell in container"
    assert alert.severity is Severity.MEDIUM
    assert alert.time == 1790237695120000
    assert alert.target.to_json() == {
        "cluster": "prod",
        "namespace": "shop",
        "pod": "cart-5d9f-abcde",
        "container": "cart",
        "container_id": "3f9a1c0b77de",
        "image": "registry.example/shop/cart:1.4.2",
        "host": "sensor-k2x9p",
    }
    assert alert.tags == ("container", "mitre_execution", "shell")
    assert alert.labels == {
        "priority": "Warning",
        "source": "syscall",
        "hostname": "sensor-k2x9p",
    }
    assert json.loads(alert.raw) == payloads.falco_pod()


def test_whole_numbers_stay_whole_and_nulls_stay_absent() -> None:
    """Nanoseconds beyond 2^53 are exact; a null field is not there at all."""
    fields = read(payloads.falco_pod()).fields
    assert fields["evt.time"] == 1790237695120000417
    assert fields["proc.tty"] == 34816
    assert "fd.name" not in fields
    assert "proc.pname" not in fields
    assert fields["tags"] == ["container", "mitre_execution", "shell"]


def test_a_host_event_has_no_container_and_no_pod() -> None:
    """`host`, `<NA>` and null are ways to say nothing."""
    alert = read(payloads.falco_host())
    assert alert.target.to_json() == {"cluster": "prod", "host": "node-7"}
    assert alert.severity is Severity.HIGH


def test_an_audit_event_is_about_the_object_not_the_sensor() -> None:
    """The pod comes from `ka.target.*`; the plugin's own host stays out of the target."""
    alert = read(payloads.falco_audit())
    assert alert.target.to_json() == {"cluster": "prod", "namespace": "shop", "pod": "web-0"}
    assert alert.labels["hostname"] == "audit-plugin-0"


@pytest.mark.parametrize(
    ("resource", "part", "expected"),
    [
        ("pods", "pod", "thing"),
        ("deployments", "workload", "Deployment/thing"),
        ("daemonsets", "workload", "DaemonSet/thing"),
        ("nodes", "node", "thing"),
        ("namespaces", "namespace", "thing"),
        ("volumeattachments", "pod", ""),
        (None, "pod", ""),
    ],
)
def test_an_audit_target_is_what_its_resource_says(resource: Any, part: str, expected: str) -> None:
    """Only a pod is a pod: a cluster-wide object is never taken for one."""
    event = payloads.falco_audit()
    event["output_fields"] |= {"ka.target.resource": resource, "ka.target.name": "thing"}
    assert getattr(read(event).target, part) == expected


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        ("Emergency", Severity.CRITICAL),
        ("Alert", Severity.CRITICAL),
        ("CRITICAL", Severity.CRITICAL),
        ("Error", Severity.HIGH),
        ("warning", Severity.MEDIUM),
        ("Notice", Severity.LOW),
        ("Informational", Severity.INFO),
        ("info", Severity.INFO),
        ("Debug", Severity.INFO),
        ("Odd", Severity.UNKNOWN),
        (None, Severity.UNKNOWN),
    ],
)
def test_the_eight_priorities_have_their_severity(priority: Any, expected: Severity) -> None:
    """In any case and in both spellings; an unknown one is still a detection."""
    alert = read(payloads.falco_pod() | {"priority": priority})
    assert alert.severity is expected
    assert alert.kind is AlertKind.DETECTION


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (payloads.falco_drop(), AlertKind.HEALTH),
        (payloads.falco_drop() | {"source": None}, AlertKind.HEALTH),
        (payloads.falco_drop() | {"rule": "Something of its own"}, AlertKind.HEALTH),
        (payloads.sidekick_test(), AlertKind.TEST),
        (payloads.sidekick_test() | {"source": "syscalls"}, AlertKind.TEST),
        (
            payloads.sidekick_pod() | {"output_fields": {"proc.name": "proc.name"}},
            AlertKind.TEST,
        ),
        (payloads.falco_pod() | {"rule": None}, AlertKind.UNPARSED),
        (payloads.falco_pod() | {"rule": ["x"]}, AlertKind.UNPARSED),
        ({}, AlertKind.UNPARSED),
        ("text", AlertKind.UNPARSED),
    ],
    ids=["drop", "old drop", "internal", "test", "old test", "sample", "null", "list", "{}", "str"],
)
def test_what_is_no_detection_starts_nothing_and_says_why(event: Any, kind: AlertKind) -> None:
    """Health, test and unreadable events are kept with their reason and raw text."""
    alert = read(event)
    assert alert.kind is kind
    assert not alert.kind.may_start
    assert alert.reason
    assert json.loads(alert.raw) == event


def test_keys_in_another_case_are_read() -> None:
    """Go's decoders take `Rule` for `rule`, so senders write it."""
    event = payloads.falco_pod()
    event["Rule"] = event.pop("rule")
    assert read(event).rule == "Terminal shell in container"


def test_unrendered_custom_fields_are_absent() -> None:
    """`$TEAM` is what Falcosidekick leaves where the variable was not set."""
    fields = read(payloads.sidekick_pod()).fields
    assert "team" not in fields
    assert fields["env"] == "staging"


def test_a_field_with_an_endless_name_is_left_to_the_raw_text() -> None:
    """Names of fields are bounded as their values are."""
    event = payloads.falco_pod()
    event["output_fields"] |= {"k" * 5000: "v", "long": "v" * 90_000}
    alert = read(event)
    assert max(map(len, alert.fields)) < 300
    assert len(alert.fields["long"]) < 8300
    assert json.loads(alert.raw) == event


@pytest.mark.parametrize("value", ["null", "N/A", "$X", "${HOME}", "proc.name"])
def test_an_intruder_cannot_hide_a_process_behind_a_word_for_nothing(value: str) -> None:
    """What a process calls itself is said, unless Falco itself marks it as unknown."""
    event = payloads.falco_pod()
    event["output_fields"]["proc.name"] = value
    assert read(event).fields["proc.name"] == value


def test_a_host_name_is_never_taken_for_a_node() -> None:
    """In a container `hostname` is the sensor's pod; only a node field names a node."""
    assert read(payloads.falco_pod()).target.node == ""


def test_a_payload_cannot_choose_the_cluster() -> None:
    """The cluster is the hook's, whatever the event says."""
    event = payloads.falco_pod() | {"cluster": "other"}
    event["output_fields"]["cluster"] = "other"
    assert read(event).target.cluster == "prod"


def test_an_array_of_events_becomes_an_alert_each() -> None:
    """In order, each with its own raw text; an unreadable one does not cost the others."""
    events = [payloads.falco_pod(), 5, payloads.falco_host()]
    alerts = FALCO.parse({}, json.dumps(events).encode(), HOOK)
    assert [alert.kind.value for alert in alerts] == ["detection", "unparsed", "detection"]
    assert [json.loads(alert.raw) for alert in alerts] == events


def test_text_output_is_refused_with_a_reason() -> None:
    """Falco without `json_output` sends a line of text, which nobody can respond to."""
    with pytest.raises(BadAlert, match="not JSON"):
        FALCO.parse({}, b"08:14:55 Warning Shell (user=root)", HOOK)


def changed(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """A change of output fields, written with `__` for the dot."""
    named = {key.replace("__", "."): value for key, value in fields.items()}
    return lambda event: event["output_fields"].update(named)


def replaced(**keys: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the event's own keys."""
    return lambda event: event.update(keys)


REPEATS = {
    "time": replaced(time="2026-09-24T09:00:00Z"),
    "nanoseconds": changed(evt__time=1790237699999999999),
    "uuid": replaced(uuid="another"),
    "output": replaced(output="another line"),
    "tags": replaced(tags=[]),
    "priority": replaced(priority="Error"),
    "sidekick's source": replaced(source="syscalls"),
    "no source": lambda event: event.pop("source"),
    "terminal": changed(proc__tty=5),
    "sensor's name": replaced(hostname="sensor-other"),
}
OTHERS = {
    "rule": replaced(rule="Other rule"),
    "source": replaced(source="k8s_audit"),
    "pod": changed(k8s__pod__name="cart-other"),
    "namespace": changed(k8s__ns__name="other"),
    "container": changed(container__name="sidecar"),
    "process": changed(proc__name="bash"),
    "command": changed(proc__cmdline="sh -c whoami"),
    "user": changed(user__name="app"),
    "file": changed(fd__name="/etc/passwd"),
}


@pytest.mark.parametrize("change", REPEATS.values(), ids=REPEATS)
def test_a_repeat_has_the_same_fingerprint(change: Callable[[Any], None]) -> None:
    """What differs between repeats of one statement stays out."""
    event = payloads.falco_pod()
    change(event)
    assert read(event).fingerprint == read(payloads.falco_pod()).fingerprint


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_another_statement_has_another_fingerprint(change: Callable[[Any], None]) -> None:
    """Rule, place and deed tell statements apart."""
    event = payloads.falco_pod()
    change(event)
    assert read(event).fingerprint != read(payloads.falco_pod()).fingerprint


def test_connections_fold_over_the_client_port_and_not_over_the_server() -> None:
    """A client takes a new port each time; the server it talks to is the statement."""
    marks = []
    for name in ("10.0.0.9:40001->10.9.9.9:443", "10.0.0.9:40002->10.9.9.9:443", "a->10.9.9.8:443"):
        event = payloads.falco_pod()
        event["output_fields"]["fd.name"] = name
        marks.append(read(event).fingerprint)
    assert marks[0] == marks[1] != marks[2]


def test_hosts_tell_events_outside_of_containers_apart() -> None:
    """Without pod and container the machine is the place."""
    one, two = payloads.falco_host(), payloads.falco_host() | {"hostname": "node-8"}
    assert read(one).fingerprint != read(two).fingerprint


def test_a_setting_is_refused_with_the_place_where_it_belongs() -> None:
    """The source has no settings of its own."""
    from integrations import alertmanager, falco, generic, pagerduty

    for module in (falco, alertmanager, generic, pagerduty):
        with pytest.raises(ConfigError, match="hooks"):
            module.setup({"token": 1}, WORLD, None)
        (source,) = module.setup({}, WORLD, None).sources
        assert source.accepts_status == 202


RECORDED = {
    "internal-": AlertKind.HEALTH,
    "drop-event": AlertKind.HEALTH,
    "slash-test": AlertKind.TEST,
    "test-input": AlertKind.TEST,
    "test-rule": AlertKind.TEST,
    "untemplated": AlertKind.TEST,
    "context-ptrace": AlertKind.TEST,
    "alertmanager-api": AlertKind.UNPARSED,
}


@pytest.mark.parametrize(
    "path", corpus_files("alerts/falco", "alerts/falcosidekick", "falco-talon/events")
)
def test_recorded_events_are_what_they_are(path: Path) -> None:
    """Detections are detections; health, test and foreign shapes are not."""
    expected = next(
        (kind for part, kind in RECORDED.items() if part in path.name), AlertKind.DETECTION
    )
    alerts = FALCO.parse({}, path.read_bytes(), HOOK)
    assert {alert.kind for alert in alerts} == {expected}
    if expected is AlertKind.DETECTION:
        payload = json.loads(path.read_bytes())
        said = payload["output_fields"]
        pod = said.get("k8s.pod.name") or said.get("ka.target.name") or ""
        if said.get("ka.target.resource", "pods") == "pods" and pod != "<NA>":
            assert alerts[0].target.pod == pod
        assert (alerts[0].time > 0) is ("bad-time" not in path.name)
        assert alerts[0].severity is not Severity.UNKNOWN


def test_an_event_is_parsed_in_microseconds() -> None:
    """Around 40 µs is the aim; ten times that is a mistake and not a busy machine."""
    body = json.dumps(payloads.falco_pod()).encode()
    best = min(timeit.repeat(lambda: FALCO.parse({}, body, HOOK), number=500, repeat=7)) / 500
    print(f"falco parse: {best * 1e6:.1f} µs for each alert")
    assert best < 400e-6
