"""Datadog's webhooks, with the template of our page: monitors and Cloud SIEM's signals.

The body is whatever a template makes of variables; one that Datadog does not know stays as it is
written (`$ALERT_TITLE`), and so means absent. All values are text, times are milliseconds.
https://docs.datadoghq.com/integrations/webhooks/

Never: acts on what has recovered, has no data, or is a test of the notification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from integrations import _values as values
from integrations._source import Ignored, Sender, Table, first, texts, word
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_STATE = re.compile(r"\[(?P<state>[A-Za-z -]{1,24})(?: on [^\]]{0,500})?\]\s*", re.ASCII)

MAPPING = Table(
    rule=("rule", "alert_title", "untagged"),
    summary=("text", "title", "body"),
    severity=("priority", "severity", "alert_type"),
    severities={
        "p1": Severity.CRITICAL,
        "p2": Severity.HIGH,
        "p3": Severity.MEDIUM,
        "p4": Severity.LOW,
        "p5": Severity.INFO,
        "critical": Severity.CRITICAL,
        "high": Severity.HIGH,
        "error": Severity.HIGH,
        "medium": Severity.MEDIUM,
        "warning": Severity.MEDIUM,
        "low": Severity.LOW,
        "info": Severity.INFO,
    },
    time=("date", "last_updated"),
    target={
        "namespace": ("tag/kube_namespace",),
        "pod": ("tag/pod_name",),
        "container": ("tag/kube_container_name", "tag/container_name"),
        "container_id": ("tag/container_id",),
        "image": ("tag/image_id", "tag/image_name"),
        "workload": (
            "kind/deployment + tag/kube_deployment",
            "kind/statefulset + tag/kube_stateful_set",
            "kind/daemonset + tag/kube_daemon_set",
            "kind/cronjob + tag/kube_cronjob",
            "kind/job + tag/kube_job",
        ),
        "host": ("hostname", "tag/host"),
    },
    fingerprint=("monitor_id", "alert_id", "scopes", "scope"),
    tags=("tags",),
    notes={
        "rule": "`untagged` is the title without Datadog's `[Triggered on …]` before it.",
        "target": "`tag` holds the tags; one that stands there with two values names nothing. "
        "`kind` only gives the owner's kind its name.",
    },
)


def _state(item: JsonObject) -> str:
    return str(item["state"])


IGNORED = (
    Ignored(
        "test", AlertKind.TEST, "a test of the notification", lambda item: _state(item) == "test"
    ),
    Ignored(
        "recovered",
        AlertKind.RESOLVED,
        "Datadog says it is over",
        lambda item: _state(item) in ("recovered", "success"),
    ),
    Ignored(
        "no data",
        AlertKind.HEALTH,
        "the monitor has no data to judge by",
        lambda item: _state(item) in ("no data", "re-no data"),
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    """The body with its tags by name, and the state that title or transition tells."""
    title = first(item, ("title",), word)
    named = _STATE.match(title)
    bare = title
    while found := _STATE.match(bare):
        bare = bare[found.end() :]
    transition = first(item, ("alert_transition", "transition"), word).lower()
    state = transition or (named["state"].lower() if named else "")
    if named and named["state"].lower() == "test":
        state = "test"
    if not state and first(item, ("alert_type",), word).lower() == "success":
        state = "success"
    kinds = ("deployment", "statefulset", "daemonset", "cronjob", "job")
    return {
        **item,
        "state": state,
        "untagged": bare,
        "tag": _tags(texts(item.get("tags"))),
        "kind": {kind: kind for kind in kinds},
    }


def _tags(tags: list[str]) -> Mapping[str, str]:
    """Tags by name, without those that stand there with two values."""
    pairs = {tag.partition(":")[::2] for tag in tags if ":" in tag and values.known(tag)}
    names = [name for name, _ in pairs]
    return {name: value for name, value in sorted(pairs) if names.count(name) == 1}


SENDER = Sender(
    name="datadog",
    title="Datadog",
    home="https://docs.datadoghq.com/integrations/webhooks/",
    mapping=MAPPING,
    ignored=IGNORED,
    shape=_shape,
)
setup = SENDER.setup
