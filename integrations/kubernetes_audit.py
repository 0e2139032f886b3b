"""The Kubernetes API server's audit webhook: which requests are worth an alert, and which are not.

The API server posts `EventList`s (batches of up to 400) or one `Event`.
https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/#webhook-backend

Nearly all events are ordinary. The few below are detections; all ordinary ones of a body become
one note together. The hook's `options.own` lists user names whose requests are ordinary whatever
they do: name this product's own service account there, or its own calls come back as alerts.

Never: believes `userAgent`, which anybody chooses; reads a body that is no audit event at all
(it raises `BadAlert`, as the API server understands it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from integrations._source import Ignored, Sender, Table, at, listed
from integrations._values import string
from responder.errors import BadAlert
from responder.model import AlertKind, JsonObject, Severity
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "RULES", "SENDER", "setup"]

_REFUSED = 400  # and up: the API server said no
_INTO_PODS = ("exec", "attach", "portforward")
_OWNERS = ("Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicaSet")


def _is(item: JsonObject, verb: str, resource: str, *subresources: str) -> bool:
    return (
        (item.get("verb") == verb or verb == "")
        and at(item, "objectRef/resource") == resource
        and (at(item, "objectRef/subresource") or "") in (subresources or ("",))
    )


def _pod_spec(item: JsonObject) -> Any:
    """The pod's specification that a request makes, of a pod or of what makes pods."""
    made = item.get("requestObject")
    return (
        at(made, "spec/jobTemplate/spec/template/spec")
        or at(made, "spec/template/spec")
        or at(made, "spec")
    )


def _privileged(item: JsonObject) -> bool:
    if item.get("verb") not in ("create", "update", "patch"):
        return False
    spec = _pod_spec(item)
    groups = [at(spec, key) for key in ("containers", "initContainers", "ephemeralContainers")]
    held = [one for group in groups if isinstance(group, list) for one in group]
    return any(at(one, "securityContext/privileged") is True for one in held) or any(
        at(spec, key) is True for key in ("hostPID", "hostIPC", "hostNetwork")
    )


def _cluster_admin(item: JsonObject) -> bool:
    binding = _is(item, "create", "clusterrolebindings") or _is(item, "create", "rolebindings")
    return binding and at(item, "requestObject/roleRef/name") == "cluster-admin"


def _anonymous(item: JsonObject) -> bool:
    return (
        at(item, "user/username") == "system:anonymous"
        and isinstance(item.get("objectRef"), dict)
        and at(item, "objectRef/resource") != "selfsubjectaccessreviews"
    )


# Name of the rule, severity, whether an event is it. The first that fits decides.
RULES: tuple[tuple[str, Severity, Callable[[JsonObject], bool]], ...] = (
    ("Anonymous request allowed", Severity.CRITICAL, _anonymous),
    ("Cluster-admin granted", Severity.HIGH, _cluster_admin),
    ("Command in a pod", Severity.MEDIUM, lambda item: _is(item, "", "pods", *_INTO_PODS)),
    ("Debug container added", Severity.MEDIUM, lambda i: _is(i, "", "pods", "ephemeralcontainers")),
    ("Privileged pod asked for", Severity.HIGH, _privileged),
)

MAPPING = Table(
    rule=("rule",),
    summary=("requestURI",),
    severity=("severity",),
    severities={rule.lower(): severity for rule, severity, _ in RULES},
    time=("stageTimestamp", "requestReceivedTimestamp", "timestamp"),
    target={
        "namespace": ("namespace", "objectRef/namespace"),
        "pod": ("pod",),
        "pod_uid": ("pod_uid",),
        "workload": ("owner/kind + owner/name",),
        "node": ("node",),
    },
    fingerprint=(
        "user/username",
        "verb",
        "objectRef/resource",
        "objectRef/subresource",
        "objectRef/name",
        "responseStatus/code",
    ),
    notes={
        "rule": "One of ours, by what was asked: " + "; ".join(rule for rule, _, _ in RULES) + ".",
        "fingerprint": "Without `auditID` and stage: one exec is told of when it begins and ends.",
    },
)
IGNORED = (
    Ignored(
        "ordinary",
        AlertKind.NOTE,
        "ordinary requests, kept as one note for a body",
        lambda item: "rule" not in item,
    ),
    Ignored(
        "refused",
        AlertKind.NOTE,
        "the API server has already refused it",
        lambda item: _code(item) >= _REFUSED,
    ),
)


def _code(item: JsonObject) -> int:
    code = at(item, "responseStatus/code")
    return code if type(code) is int else 0


def _split(payload: Any) -> list[Any]:
    """The events of a list; what is no audit event at all is refused."""
    items = listed("items")(payload)
    kind = payload.get("kind") if isinstance(payload, dict) else None
    if kind not in ("Event", "EventList") and not any(at(item, "auditID") for item in items):
        raise BadAlert("the body is neither an audit Event nor an EventList", "/kind")
    worth = [item for item in items if not isinstance(item, dict) or _named(item)]
    ordinary = len(items) - len(worth)
    if len(items) == 1:
        return items
    return [*worth, {"auditID": "ordinary", "ordinary": ordinary}] if ordinary else worth


def _named(item: JsonObject) -> str:
    """The rule that an event is of; the request's begin is told again at its end."""
    if item.get("stage") == "RequestReceived":
        return ""
    return next((rule for rule, _, fits in RULES if fits(item)), "")


def _shape(item: JsonObject, hook: HookInfo) -> JsonObject | str:
    """The event with our rule, and the place of the object it is about."""
    if "ordinary" in item:
        return item
    if not string(item.get("auditID")):
        return "the event has no auditID"
    rule = _named(item)
    own = hook.options.get("own")
    if not rule or (isinstance(own, list) and at(item, "user/username") in own):
        return item
    named = at(item, "objectRef/name")
    resource = at(item, "objectRef/resource")
    place: JsonObject = {"rule": rule, "severity": rule}
    if resource == "pods":
        made = at(item, "responseObject/metadata")
        place["pod"] = named or at(made, "name")  # a generated name is only in the answer
        place["pod_uid"] = at(made, "uid") if at(item, "objectRef/subresource") is None else None
    elif resource == "namespaces":
        place["namespace"] = named
    elif resource == "nodes":
        place["node"] = named
    for kind in _OWNERS:
        if resource == f"{kind.lower()}s":
            place["owner"] = {"kind": kind, "name": named}
    return {**item, **place}


SENDER = Sender(
    name="kubernetes-audit",
    title="Kubernetes audit webhook",
    home="https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/#webhook-backend",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
)
setup = SENDER.setup
