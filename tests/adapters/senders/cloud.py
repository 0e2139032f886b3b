"""What clouds, registries and go-betweens send that must never start anything; see `own`."""

from __future__ import annotations

from typing import Any

from responder.model import AlertKind
from tests.adapters.senders.rows import Row

HEALTH, NOTE, TEST, RESOLVED = (
    AlertKind.HEALTH,
    AlertKind.NOTE,
    AlertKind.TEST,
    AlertKind.RESOLVED,
)
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
URL = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=51b2ff3e"
ASKS: dict[str, Any] = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "98a3094e-c7e8-4d38-a730-939f361c6065",
    "Token": "51b2ff3e",
    "TopicArn": TOPIC,
    "Message": "You have chosen to subscribe to the topic.",
    "SubscribeURL": URL,
    "Timestamp": "2026-09-24T08:14:55.120Z",
    "SignatureVersion": "2",
    "Signature": "RVhBTVBMRQ==",
    "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
}
_LEAVES = {"Type": "UnsubscribeConfirmation"}
_ALLOWED = {"topics": [TOPIC]}
_AWS = ("aws-guardduty", "aws-security-hub", "aws-sns", "ocsf")
_FINDING = "detail/findings/0"
_EVENT = "alerts/0"

CLOUD: tuple[Row, ...] = (
    *(
        Row(name, "confirmation", HEALTH, {"SubscribeURL": URL, **_LEAVES}, ASKS, _ALLOWED)
        for name in _AWS
    ),
    *(Row(name, "foreign confirmation", HEALTH, _LEAVES, ASKS) for name in _AWS),
    *(
        Row(
            name,
            "foreign confirmation",
            HEALTH,
            {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com.evil.example/", **_LEAVES},
            ASKS,
            _ALLOWED,
        )
        for name in _AWS
    ),
    Row(
        "aws-guardduty",
        "coverage",
        HEALTH,
        {"detail-type": "GuardDuty Runtime Protection Unhealthy"},
    ),
    Row("aws-guardduty", "sample", TEST, {"detail/service/additionalInfo/sample": True}),
    Row(
        "aws-guardduty",
        "sample",
        TEST,
        {"detail/service/additionalInfo/value": '{"sample":true}'},
    ),
    Row("aws-guardduty", "archived", NOTE, {"detail/service/archived": True}),
    Row("aws-security-hub", "sample", TEST, {f"{_FINDING}/Sample": True}),
    Row("aws-security-hub", "archived", RESOLVED, {f"{_FINDING}/RecordState": "ARCHIVED"}),
    Row("aws-security-hub", "resolved", RESOLVED, {f"{_FINDING}/Workflow/Status": "RESOLVED"}),
    Row("aws-security-hub", "resolved", RESOLVED, {f"{_FINDING}/Compliance/Status": "PASSED"}),
    Row("aws-security-hub", "work", NOTE, {f"{_FINDING}/Workflow/Status": "SUPPRESSED"}),
    Row("aws-sns", "test", TEST, {"Message": '{"Event":"autoscaling:TEST_NOTIFICATION"}'}),
    Row("aws-sns", "test", TEST, {"Message": '{"Event":"s3:TestEvent"}'}),
    Row(
        "aws-sns",
        "test",
        TEST,
        {"Message": '{"detail":{"service":{"additionalInfo":{"sample":true}}}}'},
    ),
    Row(
        "aws-sns",
        "coverage",
        HEALTH,
        {"Message": '{"detail-type":"GuardDuty Runtime Protection Healthy"}'},
    ),
    Row("aws-sns", "resolved", RESOLVED, {"Message": '{"AlarmName":"a","NewStateValue":"OK"}'}),
    Row("aws-sns", "no data", HEALTH, {"Message": '{"NewStateValue":"INSUFFICIENT_DATA"}'}),
    Row("google-scc", "inactive", RESOLVED, {"finding/state": "INACTIVE"}),
    Row("google-scc", "muted", NOTE, {"finding/mute": "MUTED"}),
    Row("google-scc", "errors", HEALTH, {"finding/findingClass": "SCC_ERROR"}),
    Row("google-scc", "observation", NOTE, {"finding/findingClass": "OBSERVATION"}),
    Row("microsoft-defender", "test", TEST, {"AlertDisplayName": "[SAMPLE ALERT] Drift"}),
    Row("microsoft-defender", "test", TEST, {"AlertDisplayName": "A test (not a threat)"}),
    Row("microsoft-defender", "test", TEST, {"AlertType": "K8S.NODE_EICAR"}),
    Row("microsoft-defender", "resolved", RESOLVED, {"Status": "Resolved"}),
    Row("microsoft-defender", "work", NOTE, {"Status": "InProgress"}),
    Row("microsoft-defender", "incident", NOTE, {"IsIncident": True}),
    Row("elastic-security", "blocked", NOTE, {f"{_EVENT}/event/action": "blocked"}),
    Row("elastic-security", "blocked", NOTE, {f"{_EVENT}/event/type": ["start", "denied"]}),
    Row(
        "elastic-security",
        "closed",
        RESOLVED,
        {f"{_EVENT}/kibana.alert.workflow_status": "closed"},
    ),
    Row(
        "elastic-security",
        "work",
        NOTE,
        {f"{_EVENT}/kibana.alert.workflow_status": "acknowledged"},
    ),
    Row(
        "elastic-security",
        "building block",
        NOTE,
        {f"{_EVENT}/kibana.alert.building_block_type": "default"},
    ),
    Row("elastic-security", "telemetry", NOTE, {f"{_EVENT}/event/kind": "event"}),
    Row("datadog", "test", TEST, {"title": "[TEST] [Triggered] Drift"}),
    Row("datadog", "recovered", RESOLVED, {"alert_transition": "Recovered"}),
    Row(
        "datadog",
        "recovered",
        RESOLVED,
        {"title": "[Recovered on {host:a}] Drift", "alert_transition": ...},
    ),
    Row("datadog", "no data", HEALTH, {"alert_transition": "No Data"}),
    Row("stackrox", "test", TEST, {"alert/id": "testalert"}),
    Row("stackrox", "attempted", NOTE, {"alert/state": "ATTEMPTED"}),
    Row("stackrox", "resolved", RESOLVED, {"alert/state": "RESOLVED"}),
    Row("stackrox", "snoozed", NOTE, {"alert/state": "SNOOZED"}),
    Row("stackrox", "enforced", NOTE, {"alert/enforcement/action": "KILL_POD_ENFORCEMENT"}),
    Row("stackrox", "own events", NOTE, {"audit": {"method": "CLI"}}, {}),
    Row("ocsf", "stopped", NOTE, {"disposition_id": 2}),
    Row("ocsf", "stopped", NOTE, {"action_id": 2}),
    Row("ocsf", "closed", RESOLVED, {"activity_id": 3}),
    Row("ocsf", "closed", RESOLVED, {"status": "Resolved"}),
    Row("ocsf", "work", NOTE, {"status": "Suppressed"}),
    Row("ocsf", "passed", NOTE, {"status_code": "PASS"}),
    Row("harbor", "health", HEALTH, {"type": "SCANNING_FAILED"}),
    Row("harbor", "artefact", NOTE, {"type": "PUSH_ARTIFACT"}),
    Row(
        "harbor",
        "unfinished",
        HEALTH,
        {"event_data/resources/0/scan_overview": {"m": {"scan_status": "Running"}}},
    ),
    Row(
        "harbor",
        "clean",
        NOTE,
        {
            "event_data/resources/0/scan_overview": {
                "m": {"scan_status": "Success", "severity": "None", "summary": {"total": 0}}
            }
        },
    ),
    Row("quay", "test", TEST, {"vulnerability/id": "CVE-FAKE-CVE"}),
    Row("quay", "registry", NOTE, {"vulnerability": ..., "updated_tags": ["1.4.2"]}),
    Row("docker-distribution", "not watched", NOTE, {"events/0/action": "pull"}),
    Row("opsgenie", "closed", RESOLVED, {"action": "Close"}),
    Row("opsgenie", "work", NOTE, {"action": "Acknowledge"}),
)
