"""Cilium Tetragon's events, as a log forwarder posts them: one, an array, or one a line.

Tetragon has no HTTP exporter: Fluent Bit, Vector or an OpenTelemetry collector sends on what it
writes to its log. The kind of event is the one key of the object that names it.
https://tetragon.io/docs/concepts/events/

Only events that a TracingPolicy asked for are detections. Every process that starts or ends is an
event too, and is kept as a note: write a policy for what must be answered.

Never: takes the 31 characters of `process.docker` for a whole container id where the pod's own
record has the whole one.
"""

from __future__ import annotations

from integrations._source import Ignored, Sender, Table, listed
from responder.model import AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_BY_POLICY = {"process_kprobe", "process_tracepoint", "process_uprobe", "process_lsm"}
_TELEMETRY = {"process_exec", "process_exit", "process_loader", "process_usdt"}
_HEALTH = {"rate_limit_info", "process_throttle"}
_ENFORCED = ("KPROBE_ACTION_SIGKILL", "KPROBE_ACTION_OVERRIDE")

MAPPING = Table(
    rule=("policy_name", "function_name", "event"),
    summary=("message", "process/arguments"),
    time=("time",),
    target={
        "namespace": ("process/pod/namespace",),
        "pod": ("process/pod/name",),
        "pod_uid": ("process/pod/uid",),
        "container": ("process/pod/container/name",),
        "container_id": ("process/pod/container/id", "process/docker"),
        "image": ("process/pod/container/image/name", "process/pod/container/image/id"),
        "digest": ("process/pod/container/image/id",),
        "workload": ("process/pod/workload_kind + process/pod/workload",),
        "node": ("node_name",),
    },
    fingerprint=(
        "event",
        "function_name",
        "process/binary",
        "process/arguments",
        "args/0/file_arg/path",
        "args/0/path_arg/path",
        "args/0/string_arg",
        "args/0/sock_arg/daddr",
        "args/0/sock_arg/dport",
        "args/1/string_arg",
    ),
    tags=("tags",),
    notes={
        "severity": "Tetragon has none; a playbook decides by rule and tags.",
        "event": "The key that names the event, such as process_kprobe.",
    },
)
IGNORED = (
    Ignored(
        "enforced",
        AlertKind.NOTE,
        "Tetragon has already killed or stopped it",
        lambda item: item.get("action") in _ENFORCED,
    ),
    Ignored(
        "telemetry",
        AlertKind.NOTE,
        "an ordinary start or end of a process, asked for by no policy",
        lambda item: item["event"] in _TELEMETRY,
    ),
    Ignored(
        "health",
        AlertKind.HEALTH,
        "Tetragon speaks about itself",
        lambda item: item["event"] in _HEALTH,
    ),
    Ignored(
        "test", AlertKind.TEST, "Tetragon's own test event", lambda item: item["event"] == "test"
    ),
)


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    """The event's own object, with the key that named it as `event` and the rest beside it."""
    named = (_BY_POLICY | _TELEMETRY | _HEALTH | {"test"}) & item.keys()
    if len(named) != 1:
        return "not one of Tetragon's events"
    event = named.pop()
    if not isinstance(item[event], dict):
        return f"{event} is not an object"
    outside = {key: value for key, value in item.items() if key != event}
    return {**item[event], **outside, "event": event}


SENDER = Sender(
    name="tetragon",
    title="Cilium Tetragon",
    home="https://tetragon.io/docs/concepts/events/",
    mapping=MAPPING,
    ignored=IGNORED,
    split=listed("events"),
    shape=_shape,
)
setup = SENDER.setup
