"""Wazuh's alerts, from an integration script (`custom-…`), or in the wrapper of its Shuffle one.

https://documentation.wazuh.com/current/user-manual/manager/integration-with-external-apis.html

Never: guesses a pod; only Wazuh's Docker listener names a container at all.
"""

from __future__ import annotations

from integrations._source import Ignored, Sender, Table, at, first, listed, texts
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_DOCKER = "data/docker/Actor/Attributes"
# The manager's word on its own agents and on itself.
_OWN_RULES = {str(number) for number in range(500, 520)}

MAPPING = Table(
    rule=("rule/id",),
    summary=("rule/description", "full_log"),
    severity=("rule/level",),
    severities={
        0: Severity.INFO,
        4: Severity.LOW,
        7: Severity.MEDIUM,
        12: Severity.HIGH,
        15: Severity.CRITICAL,
    },
    time=("timestamp",),
    target={
        "namespace": (f"{_DOCKER}/io.kubernetes.pod.namespace",),
        "pod": (f"{_DOCKER}/io.kubernetes.pod.name",),
        "pod_uid": (f"{_DOCKER}/io.kubernetes.pod.uid",),
        "container": (f"{_DOCKER}/io.kubernetes.container.name", f"{_DOCKER}/name"),
        "container_id": ("data/docker/id", "data/docker/Actor/ID"),
        "image": (f"{_DOCKER}/image", "data/docker/from"),
        "host": ("agent/name", "manager/name"),
    },
    fingerprint=(
        "agent/id",
        "location",
        "data/srcip",
        "data/srcuser",
        "data/dstuser",
        "data/docker/Action",
        "syscheck/path",
        "syscheck/event",
        "data/vulnerability/cve",
    ),
    tags=("rule/groups", "rule/mitre/id"),
    notes={"rule": "The rule's number as text, such as 5712."},
)


def _groups(item: JsonObject) -> list[str]:
    return texts(at(item, "rule/groups"))


IGNORED = (
    Ignored(
        "own",
        AlertKind.HEALTH,
        "Wazuh speaks about itself and its agents",
        lambda item: first(item, ("rule/id",)) in _OWN_RULES,
    ),
    Ignored(
        "blocked",
        AlertKind.NOTE,
        "Wazuh's active response has already acted",
        lambda item: "active_response" in _groups(item),
    ),
    Ignored(
        "level 0",
        AlertKind.NOTE,
        "level 0 is Wazuh's word for: nothing to do",
        lambda item: at(item, "rule/level") == 0,
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    """The alert itself; Shuffle's wrapper folds the level, so what it wraps is read."""
    inner = item.get("all_fields")
    return inner if isinstance(inner, dict) else item


SENDER = Sender(
    name="wazuh",
    title="Wazuh",
    home="https://documentation.wazuh.com/current/user-manual/manager/integration-with-external-apis.html",
    mapping=MAPPING,
    ignored=IGNORED,
    split=listed("alerts"),
    shape=_shape,
)
setup = SENDER.setup
