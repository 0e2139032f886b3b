"""Payloads of our own in the senders' shapes: the samples, and what must never start anything.

Each row changes a sender's sample. `marks` are the paths that tell what it is: a test changes all
other fields and the event must still start nothing.
"""

from __future__ import annotations

from responder.model import AlertKind
from tests.adapters.senders.cloud import CLOUD
from tests.adapters.senders.parts import sample
from tests.adapters.senders.rows import Row

__all__ = ["ROWS", "Row"]

HEALTH, NOTE, TEST, RESOLVED = (
    AlertKind.HEALTH,
    AlertKind.NOTE,
    AlertKind.TEST,
    AlertKind.RESOLVED,
)


_EXEC = {"process_exec": {"process": {"binary": "/bin/sh", "pid": 1}}, "time": "2026-09-24T08:14Z"}

ROWS: tuple[Row, ...] = (
    Row("falco", "test", TEST, {"rule": "Test rule"}),
    Row("falco", "health", HEALTH, {"rule": "Falco internal: syscall event drop"}),
    Row("falco", "health", HEALTH, {"source": "internal"}),
    Row("falco", "sample", TEST, {"output_fields": {"proc.name": "proc.name"}}),
    Row("alertmanager", "resolved", RESOLVED, {"alerts/0/status": "resolved"}),
    Row("alertmanager", "odd status", AlertKind.UNPARSED, {"alerts/0/status": "odd"}),
    Row("alertmanager", "heartbeat", HEALTH, {"alerts/0/labels/alertname": "Watchdog"}),
    Row(
        "alertmanager",
        "Falcosidekick's test",
        TEST,
        {"alerts/0/labels/alertname": "Test rule", "alerts/0/labels/source": "falco"},
    ),
    Row(
        "alertmanager",
        "Falco's health",
        HEALTH,
        {"alerts/0/labels/alertname": "Falco internal: drop", "alerts/0/labels/source": "falco"},
    ),
    Row("pagerduty", "resolve", RESOLVED, {"event_action": "resolve"}),
    Row("pagerduty", "acknowledge", NOTE, {"event_action": "acknowledge"}),
    Row("pagerduty-v3", "test", TEST, {"event/event_type": "pagey.ping"}),
    Row("pagerduty-v3", "resolved", RESOLVED, {"event/event_type": "incident.resolved"}),
    Row("pagerduty-v3", "work", NOTE, {"event/event_type": "incident.acknowledged"}),
    Row("tetragon", "enforced", NOTE, {"process_kprobe/action": "KPROBE_ACTION_SIGKILL"}),
    Row("tetragon", "telemetry", NOTE, {"process_exec": _EXEC["process_exec"]}, _EXEC),
    Row("tetragon", "health", HEALTH, {"process_throttle": {"type": "START"}}, {}),
    Row("tetragon", "test", TEST, {"test": {"arg0": 1}}, {}),
    Row("tracee", "telemetry", NOTE, {"metadata": None}),
    Row("kubearmor", "blocked", NOTE, {"Action": "Block"}),
    Row("kubearmor", "telemetry", NOTE, {"Type": "ContainerLog"}),
    Row("kubescape", "limit", HEALTH, {"spec/alerts/0/alertName": "AlertLimitReached"}),
    Row("kubescape", "init", HEALTH, {"RuleID": "init"}, {"level": "init"}),
    Row(
        "sysdig", "blocked", NOTE, {"actions": [{"type": "POLICY_ACTION_KILL", "successful": True}]}
    ),
    Row("wazuh", "own", HEALTH, {"rule/id": "504"}),
    Row("wazuh", "blocked", NOTE, {"rule/groups": ["ossec", "active_response"]}),
    Row("wazuh", "level 0", NOTE, {"rule/level": 0}),
    Row("grafana", "resolved", RESOLVED, {"alerts/0/status": "resolved"}),
    Row(
        "grafana",
        "test",
        TEST,
        {"alerts/0/labels/alertname": "TestAlert", "alerts/0/labels/instance": "Grafana"},
    ),
    Row("grafana", "no data", HEALTH, {"alerts/0/labels/alertname": "DatasourceNoData"}),
    Row("grafana", "pending", NOTE, {"state": "pending"}, {"ruleName": "x", "ruleId": 3}),
    Row(
        "grafana",
        "left out",
        HEALTH,
        {"truncatedAlerts": 3, "alerts": []},
        {"status": "firing", "title": "x"},
    ),
    Row("neuvector", "blocked", NOTE, {"action": "Denied"}),
    Row("neuvector", "own events", HEALTH, {"name": "User.Login"}),
    Row("kubernetes-audit", "ordinary", NOTE, {"items/0/objectRef/subresource": "log"}),
    Row("kubernetes-audit", "refused", NOTE, {"items/0/responseStatus": {"code": 403}}),
    Row("trivy", "clean", NOTE, {"Results": []}),
    Row("trivy-operator", "clean", NOTE, {"report/vulnerabilities": []}),
    Row(
        "trivy-operator",
        "deleted",
        NOTE,
        {"verb": "delete"},
        {"verb": "update", "operatorObject": sample("trivy-operator")},
    ),
    Row("grype", "clean", NOTE, {"matches": []}),
    *CLOUD,
)
