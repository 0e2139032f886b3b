"""What the table alone does not show of clouds, registries and go-betweens."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from responder.model import AlertKind, Severity
from tests.adapters.senders.parts import SOURCES, changed, hook_of, parsed, sample
from tests.adapters.sources.parts import corpus_files

CID = "3f9a1c0b77de3f9a1c0b77de3f9a1c0b77de3f9a1c0b77de3f9a1c0b77de0011"


def in_sns(payload: Any) -> dict[str, Any]:
    """A payload as an SNS topic carries it."""
    return {**sample("aws-sns"), "Message": json.dumps(payload)}


def upper(value: Any) -> Any:
    """The same value with keys as the API of AWS writes them."""
    if isinstance(value, list):
        return [upper(item) for item in value]
    if isinstance(value, dict):
        return {key[:1].upper() + key[1:]: upper(item) for key, item in value.items()}
    return value


def test_a_guardduty_finding_is_the_same_however_it_comes() -> None:
    """In EventBridge, bare, from the API, in SNS, in SNS in a Lambda: one statement."""
    event = sample("aws-guardduty")
    [alert] = parsed("aws-guardduty", event)
    shapes: list[Any] = [
        event["detail"],
        {"Findings": [upper(event["detail"])]},
        in_sns(event),
        in_sns(event["detail"]),
        {"Records": [{"EventSource": "aws:sns", "Sns": in_sns(event)}]},
        [event],
    ]
    for shape in shapes:
        [again] = parsed("aws-guardduty", shape)
        assert (again.fingerprint, again.target, again.severity, again.time) == (
            alert.fingerprint,
            alert.target,
            alert.severity,
            alert.time,
        )


@pytest.mark.parametrize("path", corpus_files("alerts/aws-sns"))
def test_a_recorded_topic_is_opened_by_guarddutys_source_too(path: Path) -> None:
    """A sample and a finding are told apart inside of SNS; what is no finding acts nowhere."""
    [alert] = parsed("aws-guardduty", path.read_bytes())
    wanted = {
        "lambda-records-guardduty-eks-malicious-ip-caller.json": AlertKind.DETECTION,
        "notification-guardduty-finding-in-eventbridge-in-sns.json": AlertKind.TEST,
        "subscription-confirmation.json": AlertKind.HEALTH,
    }
    assert alert.kind is wanted.get(path.name, AlertKind.UNPARSED)


def test_a_guardduty_finding_told_again_is_a_repeat() -> None:
    """Its count and its times go up while it goes on."""
    event = sample("aws-guardduty")
    [alert] = parsed("aws-guardduty", event)
    [again] = parsed(
        "aws-guardduty",
        changed(
            event,
            {
                "id": "another-event",
                "detail/service/count": 9,
                "detail/updatedAt": "2026-09-24T09:00:00.000Z",
                "detail/service/eventLastSeen": "2026-09-24T09:00:00.000Z",
            },
        ),
    )
    assert again.fingerprint == alert.fingerprint
    assert again.time > alert.time


def test_a_guardduty_workload_is_an_owner_and_only_a_pod_is_a_pod() -> None:
    """A null workload names nothing; of several containers none is chosen."""
    base = "detail/resource/kubernetesDetails/kubernetesWorkloadDetails"
    event = changed(sample("aws-guardduty"), {"detail/resource/containerDetails": None})
    owner = {"name": "cart", "type": "deployments", "namespace": "shop", "uid": "u"}
    [one] = parsed("aws-guardduty", changed(event, {base: owner}))
    [none] = parsed("aws-guardduty", changed(event, {base: None}))
    boxes = [{"name": "cart", "image": "a/b:1"}, {"name": "side", "image": "a/c:1"}]
    [two] = parsed("aws-guardduty", changed(event, {f"{base}/containers": boxes}))

    assert (one.target.workload, one.target.pod) == ("Deployment/cart", "")
    assert (none.target.namespace, none.target.pod) == ("", "")
    assert (two.target.pod, two.target.container, two.target.image) == ("cart-5d9f-abcde", "", "")


SEVERITIES: dict[tuple[str, str], dict[Any, str]] = {
    ("aws-guardduty", "detail/severity"): {
        1.0: "LOW",
        3.9: "LOW",
        4: "MEDIUM",
        6.9: "MEDIUM",
        7: "HIGH",
        8.9: "HIGH",
        9: "CRITICAL",
        10.0: "CRITICAL",
        0: "UNKNOWN",
        "high": "UNKNOWN",
    },
    ("aws-security-hub", "detail/findings/0/Severity"): {
        "CRITICAL": "CRITICAL",
        "HIGH": "HIGH",
        "MEDIUM": "MEDIUM",
        "LOW": "LOW",
        "INFORMATIONAL": "INFO",
        0: "INFO",
        39: "LOW",
        40: "MEDIUM",
        69: "MEDIUM",
        70: "HIGH",
        90: "CRITICAL",
        "odd": "UNKNOWN",
    },
    ("google-scc", "finding/severity"): {
        "CRITICAL": "CRITICAL",
        "HIGH": "HIGH",
        "MEDIUM": "MEDIUM",
        "LOW": "LOW",
        "SEVERITY_UNSPECIFIED": "UNKNOWN",
    },
    ("microsoft-defender", "Severity"): {
        "High": "HIGH",
        "Medium": "MEDIUM",
        "Low": "LOW",
        "Informational": "INFO",
        "Critical": "UNKNOWN",
    },
    ("elastic-security", "alerts/0/kibana.alert.severity"): {
        "critical": "CRITICAL",
        "high": "HIGH",
        "medium": "MEDIUM",
        "low": "LOW",
    },
    ("datadog", "priority"): {
        "P1": "CRITICAL",
        "P2": "HIGH",
        "P3": "MEDIUM",
        "P4": "LOW",
        "P5": "INFO",
        "normal": "UNKNOWN",
        "$ALERT_PRIORITY": "UNKNOWN",
    },
    ("stackrox", "alert/policy/severity"): {
        "CRITICAL_SEVERITY": "CRITICAL",
        "HIGH_SEVERITY": "HIGH",
        "MEDIUM_SEVERITY": "MEDIUM",
        "LOW_SEVERITY": "LOW",
        "UNSET_SEVERITY": "UNKNOWN",
    },
    ("ocsf", "severity_id"): {
        0: "UNKNOWN",
        1: "INFO",
        2: "LOW",
        3: "MEDIUM",
        4: "HIGH",
        5: "CRITICAL",
        6: "CRITICAL",
        99: "UNKNOWN",
    },
    ("harbor", "event_data/resources/0/scan_overview/m/severity"): {
        "Critical": "CRITICAL",
        "High": "HIGH",
        "Medium": "MEDIUM",
        "Low": "LOW",
        "Negligible": "INFO",
        "Unknown": "UNKNOWN",
        "": "UNKNOWN",
    },
    ("quay", "vulnerability/priority"): {
        "Defcon1": "CRITICAL",
        "Critical": "CRITICAL",
        "High": "HIGH",
        "Medium": "MEDIUM",
        "Low": "LOW",
        "Negligible": "INFO",
        "Unknown": "UNKNOWN",
    },
    ("opsgenie", "alert/priority"): {
        "P1": "CRITICAL",
        "P3": "MEDIUM",
        "P5": "INFO",
        1: "CRITICAL",
        2: "HIGH",
        3: "MEDIUM",
        4: "LOW",
        5: "INFO",
        None: "UNKNOWN",
    },
}


@pytest.mark.parametrize(("name", "path"), SEVERITIES, ids=[name for name, _ in SEVERITIES])
def test_severities_are_what_the_page_says(name: str, path: str) -> None:
    """Every word and every border of every number."""
    for said, wanted in SEVERITIES[name, path].items():
        value: Any = said
        base = sample(name)
        if name == "aws-security-hub":
            value = {"Normalized": said} if isinstance(said, int) else {"Label": said}
        if name == "harbor":
            summary = {"total": 3, "summary": {"High": 3}}
            report = {"m": {"scan_status": "Success", "severity": said, "summary": summary}}
            value, path = report, "event_data/resources/0/scan_overview"
        [alert] = parsed(name, changed(base, {path: value}))
        assert alert.severity is Severity[wanted], said


def test_elastics_risk_score_stands_in_for_a_severity() -> None:
    """By Elastic's own bands."""
    bands = {
        0: "LOW",
        21: "LOW",
        22: "MEDIUM",
        47: "MEDIUM",
        48: "HIGH",
        73: "HIGH",
        74: "CRITICAL",
    }
    for score, wanted in bands.items():
        changes = {"alerts/0/kibana.alert.severity": ..., "alerts/0/kibana.alert.risk_score": score}
        [alert] = parsed("elastic-security", changed(sample("elastic-security"), changes))
        assert alert.severity is Severity[wanted], score


TIMES: list[tuple[str, str, Any, int]] = [
    ("ocsf", "time", 1_790_237_695, 1_790_237_695_000_000),
    ("ocsf", "time", 1_790_237_695_120, 1_790_237_695_120_000),
    ("opsgenie", "alert/createdAt", 1_790_237_695_120_000_417, 1_790_237_695_120_000),
    ("datadog", "date", "1790237695120", 1_790_237_695_120_000),
    (
        "stackrox",
        "alert/time",
        {"seconds": "1790237695", "nanos": 120_000_417},
        1_790_237_695_120_000,
    ),
    ("microsoft-defender", "StartTimeUtc", "2026-09-24T08:14:55.1234567Z", 1_790_237_695_123_456),
    (
        "docker-distribution",
        "events/0/timestamp",
        "2026-09-24T01:14:55-07:00",
        1_790_237_695_000_000,
    ),
    ("harbor", "occur_at", 1_790_237_695, 1_790_237_695_000_000),
    ("elastic-security", "alerts/0/@timestamp", "0001-01-01T00:00:00Z", 0),
    ("cloudevents", "time", ..., 0),
    ("stackrox", "alert/time", "1970-01-01T00:00:00Z", 0),
]


@pytest.mark.parametrize(("name", "path", "said", "wanted"), TIMES)
def test_every_form_of_a_time_is_read(name: str, path: str, said: Any, wanted: int) -> None:
    """Seconds, ms, ns, text, two numbers; unset is unset; whole numbers stay whole."""
    [alert] = parsed(name, changed(sample(name), {path: said}))

    assert alert.time == wanted
    if isinstance(said, int):
        assert said in alert.fields.values()


@pytest.mark.parametrize("length", [12, 24, 31, 64])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("aws-guardduty", "detail/resource/containerDetails/id"),
        ("microsoft-defender", "Entities/4/ContainerId"),
        ("elastic-security", "alerts/0/container/id"),
        ("stackrox", "alert/processViolation/processes/0/signal/containerId"),
        ("ocsf", "evidences/0/container/uid"),
        ("cloudevents", "data/container_id"),
    ],
)
def test_container_ids_keep_their_length_and_absent_words_are_absent(
    name: str, path: str, length: int
) -> None:
    """12, 24, 31 and 64 characters; `host`, null, `<NA>`, a variable and a UUID are none."""
    [alert] = parsed(name, changed(sample(name), {path: f"containerd://{CID[:length]}"}))
    assert alert.target.container_id == CID[:length]
    absents: tuple[Any, ...] = (
        None,
        "",
        "host",
        "<NA>",
        "null",
        "N/A",
        "$CONTAINER_ID",
        {},
        "abcd1234",
        "b781c8e5-8bf9-445e-aef2-25020af698df",
    )
    for absent in absents:
        [without] = parsed(name, changed(sample(name), {path: absent}))
        assert without.target.container_id == "", absent


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("aws-security-hub", {"detail/findings/0/RecordState": "ARCHIVED"}),
        ("google-scc", {"finding/state": "INACTIVE"}),
        ("microsoft-defender", {"Status": "Resolved"}),
        ("elastic-security", {"alerts/0/kibana.alert.workflow_status": "closed"}),
        ("datadog", {"alert_transition": "Recovered", "title": "[Recovered] Binary executed"}),
        ("stackrox", {"alert/state": "RESOLVED"}),
        ("ocsf", {"activity_id": 3, "status": "Closed"}),
        ("opsgenie", {"action": "Close"}),
    ],
)
def test_an_end_names_what_it_ends(name: str, changes: dict[str, Any]) -> None:
    """By the fingerprint of the alert before it, so that an incident can be told of it."""
    [alert] = parsed(name, sample(name))
    [end] = parsed(name, changed(sample(name), changes))

    assert end.kind is AlertKind.RESOLVED
    assert end.resolves == alert.fingerprint


def test_an_alarm_that_is_over_ends_its_alarm() -> None:
    """CloudWatch's OK names the alarm whose ALARM came before; each alarm is its own."""
    message = json.loads(sample("aws-sns")["Message"])
    [alert] = parsed("aws-sns", sample("aws-sns"))
    [end] = parsed("aws-sns", in_sns({**message, "NewStateValue": "OK"}))

    assert (end.kind, end.resolves) == (AlertKind.RESOLVED, alert.fingerprint)


def test_a_push_is_opened_and_a_broken_one_is_kept() -> None:
    """Pub/Sub's base64; with payload unwrapping there is none."""
    finding = sample("google-scc")
    [bare] = parsed("google-scc", finding)
    data = base64.b64encode(json.dumps(finding).encode()).decode()
    [pushed] = parsed("google-scc", {"message": {"data": data}, "subscription": "s"})
    for odd in (
        "not base64",
        base64.b64encode(b"{").decode(),
        "",
        base64.b64encode(b"[1]").decode(),
    ):
        [kept] = parsed("google-scc", {"message": {"data": odd}, "subscription": "s"})
        assert kept.kind is AlertKind.UNPARSED

    assert pushed.fingerprint == bare.fingerprint


def test_one_of_several_pods_is_never_chosen() -> None:
    """Two pods in one finding name none: a person looks."""
    pods = sample("google-scc")["finding"]["kubernetes"]["pods"]
    other = {**pods[0], "name": "till-9c1b-abcde"}
    changes = {"finding/kubernetes/pods": [*pods, other]}
    [scc] = parsed("google-scc", changed(sample("google-scc"), changes))

    entities = sample("microsoft-defender")["Entities"]
    more = [*entities, {"$id": "9", "Name": "till-9c1b-abcde", "Type": "K8s-pod"}]
    [defender] = parsed(
        "microsoft-defender", changed(sample("microsoft-defender"), {"Entities": more})
    )

    path = "alert/processViolation/processes"
    processes = sample("stackrox")["alert"]["processViolation"]["processes"]
    two = [*processes, {**processes[0], "podId": "till-9c1b-abcde"}]
    [stackrox] = parsed("stackrox", changed(sample("stackrox"), {path: two}))

    tags = f"{sample('datadog')['tags']},pod_name:till-9c1b-abcde"
    [datadog] = parsed("datadog", changed(sample("datadog"), {"tags": tags}))

    for alert in (scc, defender, stackrox, datadog):
        assert alert.kind is AlertKind.DETECTION
        assert alert.target.pod == "", alert.source
    assert stackrox.target.workload == "Deployment/cart"


def test_an_id_that_two_entities_share_leads_nowhere() -> None:
    """Defender's merged alerts use an `$id` twice; then no namespace is taken from it."""
    payload = sample("microsoft-defender")
    entities = [*payload["Entities"], {"$id": "4", "Name": "pay", "Type": "K8s-namespace"}]
    [alert] = parsed("microsoft-defender", changed(payload, {"Entities": entities}))

    assert (alert.target.namespace, alert.target.pod) == ("", "cart-5d9f-abcde")


def test_a_registry_event_is_a_detection_only_where_it_is_watched() -> None:
    """Deletes when nothing is said; else what the hook names."""
    push = changed(sample("docker-distribution"), {"events/0/action": "push"})
    [left] = parsed("docker-distribution", push)
    [watched] = parsed("docker-distribution", push, watch=["push"])
    [unwatched] = parsed("docker-distribution", sample("docker-distribution"), watch=["push"])
    [odd] = parsed("docker-distribution", sample("docker-distribution"), watch="delete")

    assert left.kind is unwatched.kind is odd.kind is AlertKind.NOTE
    assert watched.kind is AlertKind.DETECTION


def test_every_artefact_of_a_scan_is_an_alert_of_its_own() -> None:
    """Harbor sends several in one event; its CloudEvents form says the same."""
    event = sample("harbor")
    [one] = event["event_data"]["resources"]
    other = {**one, "digest": "sha256:" + "9" * 64}
    first, second = parsed("harbor", changed(event, {"event_data/resources": [one, other]}))
    [cloud] = parsed(
        "harbor",
        {
            "specversion": "1.0",
            "type": "harbor.scan.completed",
            "time": "2026-09-24T08:14:55Z",
            "data": event["event_data"],
            "operator": "auto",
        },
    )
    assert first.fingerprint != second.fingerprint
    assert (cloud.fingerprint, cloud.time) == (first.fingerprint, first.time)


def test_unrendered_variables_mean_absent() -> None:
    """A template that nobody filled in starts nothing and names nothing."""
    payload = {key: f"${key.upper()}" for key in sample("datadog")}
    [alert] = parsed("datadog", payload)

    assert alert.kind is AlertKind.UNPARSED


# --------------------------------------------------------------------------- CloudEvents


def binary(body: bytes, media: str = "application/json", **more: str) -> list[Any]:
    """An event in binary mode: attributes as headers, the data as body."""
    event = sample("cloudevents")
    headers = {f"ce-{key}": event[key] for key in ("specversion", "id", "source", "type", "time")}
    headers |= {"content-type": media, **{f"ce-{key}": value for key, value in more.items()}}
    return SOURCES["cloudevents"].parse(headers, body, hook_of("cloudevents"))


def test_the_three_modes_say_the_same() -> None:
    """Structured, batched, binary; in base64 too."""
    event = sample("cloudevents")
    data = json.dumps(event["data"]).encode()
    packed = {**event, "data_base64": base64.b64encode(data).decode()}
    del packed["data"]
    [structured] = parsed("cloudevents", event)
    [alert] = binary(data)
    [opened] = parsed("cloudevents", packed)
    batch = parsed("cloudevents", [event, packed])

    for other in (alert, opened, *batch):
        assert (other.fingerprint, other.target, other.severity, other.time) == (
            structured.fingerprint,
            structured.target,
            structured.severity,
            structured.time,
        )
    assert parsed("cloudevents", b"[]") == []


def test_binary_attributes_are_percent_decoded() -> None:
    """By the binding's rule, without a way to smuggle a NUL."""
    [alert] = binary(b"{}", subject="shop%2Fcart%20%E2%9C%93%00")

    assert alert.fields["subject"] == "shop/cart \u2713\ufffd"


@pytest.mark.parametrize(
    ("body", "media"),
    [(b"<much wow='xml'/>", "application/xml"), (b"\xff\xfe", ""), (b"", ""), (b"{", "text/plain")],
)
def test_binary_data_may_be_anything(body: bytes, media: str) -> None:
    """What is no JSON stays text, and the event is still the event."""
    [alert] = binary(body, media)

    assert alert.rule == "com.example.drift"
    assert alert.kind is AlertKind.DETECTION


@pytest.mark.parametrize("attribute", ["specversion", "id", "source", "type"])
def test_an_event_without_a_required_attribute_is_none(attribute: str) -> None:
    """It is kept, with what is missing."""
    [alert] = parsed("cloudevents", changed(sample("cloudevents"), {attribute: ...}))

    assert alert.kind is AlertKind.UNPARSED
    assert attribute in alert.reason
