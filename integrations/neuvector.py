"""NeuVector's webhooks: JSON, or the default, one line of `key=value` pairs.

https://open-docs.neuvector.com/configuration/notifications/
Only 200 counts as delivered; a 500 is tried three times, anything else is lost. Its JSON is put
together from texts, so a quote in the cluster's name makes it unreadable: such a body is read as
pairs where that is possible, else kept as *unparsed*.

Never: takes a workload's name for a pod's where it is a Docker container outside of Kubernetes.
"""

from __future__ import annotations

import re
from typing import Any

from integrations._json import as_text
from integrations._source import Ignored, Sender, Table, payloads
from integrations._values import string
from responder.errors import BadAlert
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_INCIDENTS = re.compile(
    r"(Host|Container|Process)\.(Privilege\.Escalation|Suspicious\.Process|FileAccess\.Violation"
    r"|Package\.Updated|Tunnel\.Detected|Profile\.Violation|Process\.Violation)"
)
_PAIR = re.compile(r"(?:^|,)([a-z][a-z0-9_]{0,63})=")
_PAIRS_MAX = 256
_DENIED = {"deny", "denied", "reset", "block"}

MAPPING = Table(
    rule=("name",),
    summary=("message", "proc_cmd", "name"),
    severity=("severity", "level"),
    severities={
        "emergency": Severity.CRITICAL,
        "alert": Severity.CRITICAL,
        "critical": Severity.CRITICAL,
        "error": Severity.HIGH,
        "high": Severity.HIGH,
        "warning": Severity.MEDIUM,
        "medium": Severity.MEDIUM,
        "notice": Severity.LOW,
        "low": Severity.LOW,
        "info": Severity.INFO,
        "debug": Severity.INFO,
    },
    time=("reported_timestamp", "reported_at"),
    target={
        "namespace": ("workload_domain", "server_workload_domain", "client_domain"),
        "pod": ("workload_name", "server_workload_name", "client_name"),
        "container_id": ("workload_id", "server_workload_id", "client_id"),
        "image": ("workload_image", "server_workload_image", "client_image"),
        "node": ("host_name",),
    },
    fingerprint=("proc_path", "proc_cmd", "file_path", "client_ip", "server_ip", "server_port"),
    notes={
        "namespace": "A threat is filed under the server's side, a violation under the client's.",
        "rule": "Threats and incidents by their name; a violation of a network rule has none and "
        "is called `Network.Violation`.",
    },
)
IGNORED = (
    Ignored(
        "blocked",
        AlertKind.NOTE,
        "NeuVector has already denied it",
        lambda item: "ambiguous" not in item and _action(item) in _DENIED,
    ),
    Ignored(
        "own events",
        AlertKind.HEALTH,
        "NeuVector speaks about itself, its users and its scans",
        lambda item: not _attack(item),
    ),
)


def _action(item: JsonObject) -> str:
    return string(item.get("action") or item.get("policy_action")).lower()


def _attack(item: JsonObject) -> bool:
    """Whether it is a threat, a violation or an incident, rather than an event or a report."""
    return (
        "threat_id" in item
        or "policy_action" in item
        or _INCIDENTS.fullmatch(string(item.get("name"))) is not None
    )


def _read(body: bytes) -> list[Any]:
    """JSON, else pairs, else the text itself. Raises `BadAlert` for an empty body.

    A value may hold commas, so it ends where the next key begins. A command line may hold what
    looks like a pair: the first of a name counts, and `ambiguous` says that there was another.
    """
    try:
        return payloads(body)
    except BadAlert:
        text = as_text(body)
        if not text.strip():
            raise
    found = list(_PAIR.finditer(text))[:_PAIRS_MAX]
    if not found or found[0].start() != 0:
        return [text]
    ends = [match.start() for match in found[1:]] + [len(text)]
    pairs: JsonObject = {}
    for match, end in zip(found, ends, strict=True):
        if pairs.setdefault(match[1], value := text[match.end() : end].strip()) != value:
            pairs["ambiguous"] = True
    return [pairs]


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    if "level" not in item:
        return "not a notification of NeuVector's"
    if "policy_action" in item and not string(item.get("name")):
        return {**item, "name": "Network.Violation"}
    return item


SENDER = Sender(
    name="neuvector",
    title="NeuVector",
    home="https://open-docs.neuvector.com/configuration/notifications/",
    mapping=MAPPING,
    ignored=IGNORED,
    read=_read,
    shape=_shape,
    accepts_status=200,
    media=frozenset({"text/plain"}),
)
setup = SENDER.setup
