"""Alertmanager: one alert an item, with its own status; each end finds its start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from responder.model import Alert, AlertKind, Severity
from tests.adapters.sources import payloads
from tests.adapters.sources.parts import SOURCES, corpus_files, hook_of

SOURCE = SOURCES["alertmanager"]
HOOK = hook_of("alertmanager")


def read(payload: Any) -> list[Alert]:
    """All alerts of one delivery."""
    return SOURCE.parse({}, json.dumps(payload).encode(), HOOK)


def one(item: dict[str, Any], **group: Any) -> Alert:
    """The alert of a group of one."""
    (alert,) = read(payloads.alertmanager_group() | {"alerts": [item]} | group)
    return alert


def test_each_item_is_an_alert_with_its_own_status() -> None:
    """A firing group may hold members that have ended."""
    firing, ended = read(payloads.alertmanager_group())
    assert (firing.kind, ended.kind) == (AlertKind.DETECTION, AlertKind.RESOLVED)
    assert not ended.kind.may_start
    assert json.loads(firing.raw) == payloads.alert_item()


def test_labels_become_the_target() -> None:
    """Namespace, pod, container, node, owner; `instance` is whom was scraped, without its port."""
    alert = one(payloads.alert_item())
    assert alert.target.to_json() == {
        "cluster": "prod",
        "namespace": "shop",
        "pod": "cart-5d9f-abcde",
        "container": "cart",
        "workload": "Deployment/cart",
        "node": "node-7",
        "host": "10.0.0.7",
    }
    assert alert.rule == "ShellInContainer"
    assert alert.severity is Severity.CRITICAL
    assert alert.summary == "somebody opened a shell"
    assert alert.time == 1790237695123456
    assert alert.fields["annotations.runbook"] == "wiki/shell"
    assert alert.labels["pod"] == "cart-5d9f-abcde"


def test_an_exporters_own_pod_is_not_the_target() -> None:
    """With `exported_…` labels the plain ones name the exporter, which did nothing wrong."""
    item = payloads.alert_item(exported_namespace="pay", exported_pod="till-0", pod="exporter-1")
    target = one(item).target
    assert (target.namespace, target.pod, target.container) == ("pay", "till-0", "")


def test_a_scrape_job_is_not_a_workload() -> None:
    """`job` is in every label set and names the scrape, `job_name` a Job."""
    item = payloads.alert_item(job="node-exporter")
    del item["labels"]["deployment"]
    assert one(item).target.workload == ""
    item["labels"]["job_name"] = "nightly"
    assert one(item).target.workload == "Job/nightly"


def test_a_label_cannot_choose_the_cluster() -> None:
    """The hook names the cluster; the label is kept as a label."""
    alert = one(payloads.alert_item(cluster="other"))
    assert alert.target.cluster == "prod"
    assert alert.labels["cluster"] == "other"


def test_an_end_names_the_start_it_ends() -> None:
    """Same item, firing then resolved: `resolves` is the first one's fingerprint."""
    start = one(payloads.alert_item())
    end = one(payloads.alert_item() | {"status": "resolved", "endsAt": "2026-09-24T09:00:00Z"})
    assert end.resolves == start.fingerprint
    assert end.fingerprint != start.fingerprint
    assert start.resolves == ""
    assert end.time == 1790240400000000


@pytest.mark.parametrize("given", ["missing", "", None, 5])
def test_a_missing_fingerprint_is_computed_from_labels_and_start(given: Any) -> None:
    """In any order of labels; other labels or another start give another one."""
    item = payloads.alert_item() | {"fingerprint": given}
    if given == "missing":
        del item["fingerprint"]
    turned = item | {"labels": dict(reversed(item["labels"].items()))}
    assert one(item).fingerprint == one(turned).fingerprint
    assert one(item).fingerprint != one(payloads.alert_item()).fingerprint
    later = item | {"startsAt": "2026-09-24T11:00:00Z"}
    other = item | {"labels": item["labels"] | {"pod": "web"}}
    assert len({one(x).fingerprint for x in (item, later, other)}) == 3


def test_a_repeat_folds_and_a_new_start_does_not() -> None:
    """Alertmanager's fingerprint names a label set for ever, so the start belongs to it."""
    first = one(payloads.alert_item())
    again = one(payloads.alert_item() | {"endsAt": "2026-09-24T12:00:00Z"}, groupKey="other route")
    later = one(payloads.alert_item() | {"startsAt": "2026-09-25T08:00:00Z"})
    assert first.fingerprint == again.fingerprint != later.fingerprint


@pytest.mark.parametrize(
    ("own", "group", "kind"),
    [
        ("firing", "resolved", AlertKind.DETECTION),
        ("resolved", "firing", AlertKind.RESOLVED),
        (None, "resolved", AlertKind.RESOLVED),
        ("missing", "resolved", AlertKind.RESOLVED),
        ("missing", "firing", AlertKind.DETECTION),
        ("missing", "missing", AlertKind.DETECTION),
        ("suppressed", "firing", AlertKind.UNPARSED),
        (7, "firing", AlertKind.UNPARSED),
        (["resolved"], "firing", AlertKind.UNPARSED),
        (None, None, AlertKind.UNPARSED),
    ],
)
def test_the_items_status_decides_and_an_unknown_one_starts_nothing(
    own: Any, group: Any, kind: AlertKind
) -> None:
    """Nothing starts on a status that might have meant "it has ended"."""
    payload = payloads.alertmanager_group() | {
        "status": group,
        "alerts": [payloads.alert_item() | {"status": own}],
    }
    if own == "missing":
        del payload["alerts"][0]["status"]
    if group == "missing":
        del payload["status"]
    assert read(payload)[0].kind is kind


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ({"alertname": "Watchdog"}, AlertKind.HEALTH),
        ({"alertname": "DeadMansSwitch"}, AlertKind.HEALTH),
        ({"alertname": "InfoInhibitor"}, AlertKind.HEALTH),
        ({"alertname": "Falco internal: syscall event drop", "source": "falco"}, AlertKind.HEALTH),
        ({"alertname": "Test rule", "source": "falco"}, AlertKind.TEST),
        ({"alertname": "Test rule"}, AlertKind.DETECTION),
        ({"alertname": ""}, AlertKind.UNPARSED),
    ],
    ids=lambda value: str(value)[:60],
)
def test_alerts_about_the_watchers_start_nothing(labels: dict[str, str], kind: AlertKind) -> None:
    """The alert that always fires is health; a nameless one is kept unread."""
    alert = one(payloads.alert_item(**labels))
    assert alert.kind is kind
    assert bool(alert.reason) is not alert.kind.may_start


@pytest.mark.parametrize("version", ["4", "1", 4.0, None, "missing"])
def test_the_version_is_not_looked_at(version: Any) -> None:
    """Old, managed and current senders all get in."""
    payload = payloads.alertmanager_group() | {"version": version}
    if version == "missing":
        del payload["version"]
    assert len(read(payload)) == 2


def test_a_bare_array_of_alerts_is_read() -> None:
    """What is posted to Alertmanager's own API has no group around it and no status."""
    item = payloads.alert_item()
    del item["status"]
    (alert,) = read([item])
    assert alert.kind is AlertKind.DETECTION


@pytest.mark.parametrize("payload", [{}, {"alerts": {}}, {"alerts": None}, "x", 5, None])
def test_a_payload_without_alerts_is_kept_unread(payload: Any) -> None:
    """Authentic but foreign: kept whole, with the reason."""
    (alert,) = read(payload)
    assert alert.kind is AlertKind.UNPARSED
    assert json.loads(alert.raw) == payload


def test_a_bad_item_does_not_cost_its_neighbours() -> None:
    """Good, bad, good: three alerts in order."""
    payload = payloads.alertmanager_group()
    payload["alerts"].insert(1, ["odd"])
    assert [alert.kind.value for alert in read(payload)] == ["detection", "unparsed", "resolved"]


def test_alerts_that_alertmanager_cut_off_are_reported() -> None:
    """They never came; a person must hear of it."""
    alerts = read(payloads.alertmanager_group() | {"truncatedAlerts": 7})
    assert alerts[-1].kind is AlertKind.HEALTH
    assert "7 alerts" in alerts[-1].summary
    assert len(alerts) == 3


@pytest.mark.parametrize("path", corpus_files("alerts/alertmanager"))
def test_recorded_groups_give_an_alert_an_item(path: Path) -> None:
    """Each recorded item is read, with its start, and ends only when it says so."""
    items = json.loads(path.read_bytes())["alerts"]
    alerts = SOURCE.parse({}, path.read_bytes(), HOOK)
    assert len(alerts) == len(items)
    assert len({alert.fingerprint for alert in alerts}) == len(items)
    for alert, item in zip(alerts, items, strict=True):
        ended = item.get("status") == "resolved"
        assert alert.kind is (AlertKind.RESOLVED if ended else AlertKind.DETECTION)
        assert alert.rule == item["labels"]["alertname"]
        assert alert.time > 0
