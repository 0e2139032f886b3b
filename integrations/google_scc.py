"""Google Security Command Center: finding notifications, by a Pub/Sub push or without its wrapper.

https://cloud.google.com/security-command-center/docs/how-to-api-receive-notifications
https://cloud.google.com/pubsub/docs/push
A push is signed by an OIDC token: `auth = {oidc = {…}}`. Delivery is at least once and unordered.

Never: acts on what is muted, inactive, or an error of Security Command Center itself.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any

from integrations._json import decode
from integrations._source import Ignored, Sender, Table, at, listed
from integrations._values import string
from responder.errors import BadAlert
from responder.model import Alert, AlertKind, JsonObject
from responder.ports import HookInfo

__all__ = ["IGNORED", "MAPPING", "SENDER", "setup"]

_OWN = "finding/sourceProperties"
# https://cloud.google.com/security-command-center/docs/reference/rest/v2/organizations.sources.findings
_WEAKNESSES = ("VULNERABILITY", "MISCONFIGURATION", "POSTURE_VIOLATION", "TOXIC_COMBINATION")

MAPPING = Table(
    rule=("finding/category",),
    summary=("finding/description", "finding/category"),
    severity=("finding/severity", f"{_OWN}/SeverityLevel", f"{_OWN}/severity"),
    time=("finding/eventTime", "finding/createTime"),
    target={
        "namespace": ("pod/ns", f"{_OWN}/Pod_Namespace"),
        "pod": ("pod/name", f"{_OWN}/Pod_Name"),
        "container": ("container/name", f"{_OWN}/Container_Name"),
        "image": ("container/uri", f"{_OWN}/Container_Image_Uri"),
        "digest": ("container/imageId", f"{_OWN}/Container_Image_Id"),
        "node": (f"{_OWN}/VM_Instance_Name",),
    },
    fingerprint=("finding/name",),
    tags=("finding/findingClass", "finding/mitreAttack/primaryTechniques"),
    notes={
        "kind": f"`vulnerability` where the class is one of {', '.join(_WEAKNESSES)}, or where a "
        "scanner names itself.",
        "pod": "The only one of `finding.kubernetes.pods`; of several none is chosen.",
        "container": "The pod's only container, else the only one of `finding.containers`.",
    },
)
IGNORED = (
    Ignored(
        "inactive",
        AlertKind.RESOLVED,
        "the finding is no longer active",
        lambda item: at(item, "finding/state") == "INACTIVE",
    ),
    Ignored(
        "muted",
        AlertKind.NOTE,
        "somebody, or a rule, has muted it",
        lambda item: at(item, "finding/mute") == "MUTED",
    ),
    Ignored(
        "errors",
        AlertKind.HEALTH,
        "Security Command Center speaks about its own errors",
        lambda item: at(item, "finding/findingClass") == "SCC_ERROR",
    ),
    Ignored(
        "observation",
        AlertKind.NOTE,
        "an observation, which asks for nothing",
        lambda item: at(item, "finding/findingClass") == "OBSERVATION",
    ),
)


def _opened(part: Any) -> Any:
    """What a push carries, or the part itself when it is none."""
    data = at(part, "message/data")
    if not isinstance(data, str):
        return part
    try:
        return decode(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError, BadAlert):
        return "the push holds no JSON"


def _split(payload: Any) -> list[Any]:
    pushes = listed()(payload)
    return [one for part in pushes for one in listed("listFindingsResults")(_opened(part))]


def _shape(item: JsonObject, _hook: HookInfo) -> JsonObject | str:
    finding = item.get("finding")
    if not isinstance(finding, dict) or not string(finding.get("name")):
        return "not a notification of Security Command Center's"
    pod = _only(at(finding, "kubernetes/pods"))
    return {
        **item,
        "pod": pod,
        "container": _only(at(pod, "containers")) or _only(finding.get("containers")),
    }


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else None


def _finish(alert: Alert, item: JsonObject) -> Alert:
    weak = at(item, "finding/findingClass") in _WEAKNESSES or at(item, f"{_OWN}/ScannerName")
    if alert.kind is AlertKind.DETECTION and weak:
        return replace(alert, kind=AlertKind.VULNERABILITY)
    return alert


SENDER = Sender(
    name="google-scc",
    title="Google Security Command Center",
    home="https://cloud.google.com/security-command-center/docs/how-to-api-receive-notifications",
    mapping=MAPPING,
    ignored=IGNORED,
    split=_split,
    shape=_shape,
    finish=_finish,
)
setup = SENDER.setup
