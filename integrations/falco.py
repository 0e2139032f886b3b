"""Falco's events, straight from `http_output` or through Falcosidekick's webhook output.

One event is one JSON object: `rule`, `priority`, `time`, `output`, `output_fields`, and, by
version and settings, `source`, `tags`, `hostname`, `uuid`. https://falco.org/docs/concepts/outputs/channels/
Falcosidekick repeats nothing and Falco ignores the answer, so any well-formed event is kept.

Severity: Emergency, Alert, Critical -> critical; Error -> high; Warning -> medium;
Notice -> low; Informational (also spelt Info), Debug -> info. Case does not matter.
https://falco.org/docs/concepts/rules/basic-elements/#priority

Kind: Falco's own reports (metrics snapshots, dropped system calls) are *health*; Falcosidekick's
`/test` and its generated samples are *test*; an event without a rule is *unparsed*; the rest are
detections. Only detections start anything.

Fingerprint: rule, source, place, and who did what to what: process, command line, user, file or
the server's end of a connection, and for the audit log the verb, resource, subresource and
command. The place is namespace and pod, else the container, else the host. Times, counters,
process ids, client ports, `output`, `uuid` and tags stay out: they differ between repeats.

Never: guesses a node from `hostname` (in a container that is the sensor's own pod), lets an event
name its cluster (the hook says it), or sends `evt.time` through a float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from integrations import _values as values
from integrations._json import as_text
from integrations._source import Ignored, Page, Table, own_kind, payloads, sample_of, verdict
from integrations._webhook import Guard
from responder.clock import World
from responder.model import Alert, AlertKind, JsonObject, Severity, Target
from responder.ports import HookInfo, Integration, Kit

__all__ = ["IGNORED", "MAPPING", "PAGE", "Falco", "setup"]

_INTERNAL = "Falco internal:"
_TEST_RULE = "Test rule"
_RULE_MAX = 256
_TAGS_MAX = 64
# What tells one statement from another once rule and place are the same.
# https://falco.org/docs/reference/rules/supported-fields/
_DEEDS = (
    "proc.name",
    "proc.cmdline",
    "user.name",
    "ka.user.name",
    "ka.verb",
    "ka.target.resource",
    "ka.target.subresource",
    "ka.target.namespace",
    "ka.target.name",
    "ka.uri.param[command]",
)
_CHOSEN_BY_INTRUDERS = ("proc.", "fd.", "evt.", "user.", "fs.", "ka.uri")
_UNSAID = frozenset({"", "<NA>"})
_AUDIT_OWNERS = {
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
    "cronjobs": "CronJob",
    "jobs": "Job",
    "replicasets": "ReplicaSet",
}


_OUT = "output_fields"

MAPPING = Table(
    rule=("rule",),
    summary=("output",),
    severity=("priority",),
    severities={
        "emergency": Severity.CRITICAL,
        "alert": Severity.CRITICAL,
        "critical": Severity.CRITICAL,
        "error": Severity.HIGH,
        "warning": Severity.MEDIUM,
        "notice": Severity.LOW,
        "informational": Severity.INFO,
        "info": Severity.INFO,
        "debug": Severity.INFO,
    },
    time=("time",),
    target={
        "namespace": (f"{_OUT}/k8s.ns.name", f"{_OUT}/k8smeta.ns.name"),
        "pod": (f"{_OUT}/k8s.pod.name", f"{_OUT}/k8smeta.pod.name"),
        "pod_uid": (f"{_OUT}/k8s.pod.uid", f"{_OUT}/k8smeta.pod.uid"),
        "container": (f"{_OUT}/container.name",),
        "container_id": (f"{_OUT}/container.full_id", f"{_OUT}/container.id"),
        "image": (f"{_OUT}/container.image.repository",),
        "digest": (f"{_OUT}/container.image.digest",),
        "node": (f"{_OUT}/k8s.node.name",),
        "host": ("hostname",),
    },
    fingerprint=("source", *(f"{_OUT}/{deed}" for deed in _DEEDS), f"{_OUT}/fd.name"),
    tags=("tags",),
    notes={
        "audit events": "Events of the source `k8s_audit` are about the object that "
        "`ka.target.namespace`, `ka.target.resource` and `ka.target.name` name.",
        "image": "With `container.image.tag`, else `container.image.digest`.",
        "fingerprint": "Of a connection only the server's end counts.",
    },
)
IGNORED = (
    Ignored(
        "test",
        AlertKind.TEST,
        "Falcosidekick's test event",
        lambda event: event["rule"] == _TEST_RULE,
    ),
    Ignored(
        "health",
        AlertKind.HEALTH,
        "Falco speaks about itself",
        lambda event: event["rule"].startswith(_INTERNAL) or event["source"] == "internal",
    ),
    Ignored(
        "sample",
        AlertKind.TEST,
        "a generated sample: every field holds its own name",
        lambda event: not event["rendered"],
    ),
)
PAGE = Page(
    name="falco",
    title="Falco and Falcosidekick",
    home="https://falco.org/docs/concepts/outputs/channels/",
    mapping=MAPPING,
    ignored=IGNORED,
)


class Falco:
    """The source `falco`. Falcosidekick takes 200, 201, 202 and 204 for stored."""

    name = "falco"
    accepts_status = 202

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def preverify(self, headers: Mapping[str, str], hook: HookInfo) -> None:
        """What can be checked before the body is read; raises `Unauthorized`."""
        self._guard.before(headers, hook)

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Raise `Unauthorized` unless the sender holds this hook's credentials."""
        self._guard.whole(headers, body, hook)

    @property
    def sample(self) -> bytes:
        """An event as Falco sends it."""
        return sample_of(self.name)

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """One alert for an event, one for each event of an array or of several lines.

        Raises `BadAlert` when the body is not JSON (Falco with `json_output: false` sends the
        bare line of text: switch it on).
        """
        del headers
        found = payloads(body)
        if len(found) == 1 and isinstance(found[0], dict) and "rule" in found[0]:
            return [_alert(found[0], as_text(body), hook)]  # the ordinary case, made cheap
        events = [event for payload in found for event in _events(payload)]
        return values.each(events, lambda item, raw: _alert(item, raw, hook), _unparsed)


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """Offer the source `falco`; it has no settings of its own."""
    del kit
    values.no_settings(section, Falco.name)
    return Integration(sources=[Falco(Guard(world))])


def _events(payload: Any) -> list[Any]:
    """The events in what Falcosidekick's outputs wrap them in.

    An array; a CloudEvent in structured mode (`data`); Kafka's REST proxy (`records[].value`).
    """
    if isinstance(payload, list):
        return payload
    if isinstance(payload, dict) and "rule" not in payload:
        if "specversion" in payload and "data" in payload:
            return [payload["data"]]
        if isinstance(records := payload.get("records"), list):
            return [r.get("value") if isinstance(r, dict) else r for r in records]
    return [payload]


def _unparsed(reason: str, raw: str) -> Alert:
    """What was said but cannot be read; kept for a person, starts nothing."""
    return values.unparsed(Falco.name, reason, raw)


def _alert(event: Any, raw: str, hook: HookInfo) -> Alert:
    """One event as an alert."""
    if not isinstance(event, dict):
        return _unparsed("the event is not an object", raw)
    if "rule" not in event:  # Go's decoders take keys in any case, so senders may write `Rule`
        event = {key.lower(): item for key, item in event.items()}
    rule = values.string(event.get("rule"), _RULE_MAX)
    if not rule:
        return _unparsed("the event has no rule", raw)
    said, rendered = _fields(event.get("output_fields"))
    source = values.string(event.get("source"))
    host = values.name(event.get("hostname"))
    kind, reason = verdict(IGNORED, {"rule": rule, "source": source, "rendered": rendered})
    tags = _tags(event.get("tags"))
    target = _target(said, host, source, hook.cluster)
    return Alert(
        source=Falco.name,
        kind=kind,
        rule=rule,
        severity=values.severity_of(event.get("priority")),
        summary=values.summary(event.get("output"), rule),
        time=values.micros(event.get("time")),
        fingerprint=_fingerprint(rule, source, target, said, host, *own_kind(kind)),
        target=target,
        tags=tags,
        labels=_labels(event),
        fields={**said, "tags": list(tags)} if tags else said,
        reason=reason,
        raw=raw,
    )


def _fields(given: Any) -> tuple[JsonObject, bool]:
    """The fields that say something, and whether any of them was rendered at all.

    A generated sample repeats each field's own name as its value.
    """
    if not isinstance(given, dict):
        return {}, True
    said: JsonObject = {}
    samples = 0
    for key, value in given.items():
        kind = type(value)
        if kind is str:
            samples += value == key
            if _says(key, value):
                said[key] = value if len(value) <= values.VALUE_MAX else values.shorten(value)
        elif kind is dict or kind is list:
            said.update(values.flat(value, key))
        elif value is not None and len(key) <= values.KEY_MAX:
            said[key] = value  # a number or a yes says something, whatever it is
    return said, not given or samples < len(given)


def _says(key: str, value: str) -> bool:
    """Whether a field's text is one, rather than one of the ways to write "unknown".

    What an intruder can choose (a process, a file) is only absent when Falco itself says so: a
    process that calls itself `null` or `$X` must not fall out of the conditions that name it.
    """
    if len(key) > values.KEY_MAX:
        return False
    if key.startswith(_CHOSEN_BY_INTRUDERS):
        return value not in _UNSAID
    return value != key and values.known(value)


def _target(said: JsonObject, host: str, source: str, cluster: str) -> Target:
    """What the event is about, from the fields that name it and nothing else."""
    if "ka.target.name" in said or source == "k8s_audit":
        return _audit_target(said, cluster)
    get = said.get
    deployment = values.name(get("k8smeta.deployment.name") or get("k8s.deployment.name"))
    container = values.name(get("container.name"))
    return Target(
        cluster=cluster,
        namespace=values.name(get("k8s.ns.name") or get("k8smeta.ns.name")),
        pod=values.name(get("k8s.pod.name") or get("k8smeta.pod.name")),
        pod_uid=values.name(get("k8s.pod.uid") or get("k8smeta.pod.uid")),
        container="" if container == "host" else container,
        container_id=values.container_id(get("container.full_id") or get("container.id")),
        image=values.image_name(
            get("container.image.repository"),
            get("container.image.tag"),
            get("container.image.digest"),
        ),
        digest=values.digest(get("container.image.digest")),
        workload=f"Deployment/{deployment}" if deployment else "",
        node=values.name(get("k8s.node.name")),
        host=host,
    )


def _audit_target(said: JsonObject, cluster: str) -> Target:
    """The object an audit event is about; `hostname` is the plugin's own pod and stays out.

    https://github.com/falcosecurity/plugins/tree/main/plugins/k8saudit
    """
    resource = said.get("ka.target.resource")
    named = values.name(said.get("ka.target.name"))
    owner = _AUDIT_OWNERS.get(resource, "") if isinstance(resource, str) else ""
    namespace = values.name(said.get("ka.target.namespace"))
    return Target(
        cluster=cluster,
        namespace=named if resource == "namespaces" else namespace,
        pod=named if resource == "pods" else values.name(said.get("ka.target.pod.name")),
        workload=f"{owner}/{named}" if owner and named else "",
        node=named if resource == "nodes" else "",
    )


def _fingerprint(
    rule: str, source: str, target: Target, said: JsonObject, host: str, *more: str
) -> str:
    """See the module's text: equal for repeats, different for different deeds."""
    pod = f"{target.namespace}/{target.pod}" if target.pod else ""
    get = said.get
    return values.fingerprint_of(
        "falco",
        rule,
        "syscall" if source in {"", "syscalls"} else source,  # Falcosidekick's spelling
        pod or target.container_id[:12] or host,
        target.container if pod else "",
        _object(get("fd.name")),
        *[str(get(field, "")) for field in _DEEDS],
        *more,
    )


def _object(descriptor: Any) -> str:
    """A file's path, or the server's end of `client:port->server:port`."""
    return str(descriptor).rpartition("->")[2] if descriptor is not None else ""


def _tags(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list):
        return ()
    return tuple(tag for item in given[:_TAGS_MAX] if (tag := values.string(item, _RULE_MAX)))


def _labels(event: JsonObject) -> dict[str, str]:
    """The sender's own words about the event itself."""
    return {
        key: text
        for key in ("priority", "source", "hostname", "uuid")
        if (text := values.string(event.get(key), _RULE_MAX))
    }
