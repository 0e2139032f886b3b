"""What the sandbox's API server insists on before it takes an object, and what it fills in.

Only rules that the product can run into: names, labels, containers, selectors, policy types,
and which parts of an object may not change. Field names unknown to a kind are not looked for.
"""

from __future__ import annotations

import re
from typing import Any

from responder.sandbox.failure import Refusal, invalid
from responder.sandbox.kinds import Kind
from responder.sandbox.objects import Item
from responder.sandbox.selectors import selects

__all__ = ["check", "check_update", "with_defaults"]

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_NAME_MAX = 253
_WORKLOADS = {"ReplicaSet", "Deployment", "StatefulSet", "DaemonSet"}
_TEMPLATED = _WORKLOADS | {"Job"}
_POD_MAY_CHANGE = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"}
_ANNOTATIONS_MAX = 256 * 1024


def check(kind: Kind, item: Item) -> None:
    """Raise the 422 refusal for an object that the real server would not take."""
    meta = item["metadata"]
    name = meta.get("name") or ""
    _check_name(kind, name)
    for key, value in (meta.get("labels") or {}).items():
        _check_label(kind, name, key, value)
    if sum(map(len, (meta.get("annotations") or {}).values())) > _ANNOTATIONS_MAX:
        raise invalid(kind, name, "metadata.annotations", "FieldValueTooLong", "Too long")
    spec = item.get("spec") or {}
    if kind.kind == "Pod":
        _check_containers(kind, name, spec, "spec")
    elif kind.kind in _TEMPLATED:
        _check_template(kind, name, spec)
    elif kind.kind == "NetworkPolicy":
        _check_policy(kind, name, spec)


def _wrong(kind: Kind, name: str, field: str, value: str, why: str) -> Refusal:
    return invalid(kind, name, field, "FieldValueInvalid", f'Invalid value: "{value}": {why}')


def _check_name(kind: Kind, name: str) -> None:
    if not name:
        text = "Required value: name or generateName is required"
        raise invalid(kind, "", "metadata.name", "FieldValueRequired", text)
    short = kind.kind in {"Service", "Namespace"}
    pattern = _LABEL if short else _SUBDOMAIN
    if not pattern.fullmatch(name) or len(name) > (63 if short else _NAME_MAX):
        why = f"a lowercase RFC 1123 {'label' if short else 'subdomain'} must be used"
        raise _wrong(kind, name, "metadata.name", name, why)


def _check_label(kind: Kind, name: str, key: str, value: Any) -> None:
    if not _KEY.fullmatch(key):
        raise _wrong(kind, name, "metadata.labels", key, "name part must be a qualified name")
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        why = (
            "a valid label must be an empty string or consist of alphanumeric characters, "
            "'-', '_' or '.'"
        )
        raise _wrong(kind, name, "metadata.labels", str(value), why)


def _check_containers(kind: Kind, name: str, spec: dict[str, Any], where: str) -> None:
    containers = spec.get("containers")
    if not containers:
        raise invalid(kind, name, f"{where}.containers", "FieldValueRequired", "Required value")
    for index, container in enumerate(containers):
        for key in ("name", "image"):
            if not container.get(key):
                field = f"{where}.containers[{index}].{key}"
                raise invalid(kind, name, field, "FieldValueRequired", "Required value")


def _check_template(kind: Kind, name: str, spec: dict[str, Any]) -> None:
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if kind.kind in _WORKLOADS:
        if not spec.get("selector"):
            raise invalid(kind, name, "spec.selector", "FieldValueRequired", "Required value")
        if not selects(spec["selector"], labels):
            field = "spec.template.metadata.labels"
            text = f"Invalid value: {labels}: `selector` does not match template `labels`"
            raise invalid(kind, name, field, "FieldValueInvalid", text)
    _check_containers(kind, name, template.get("spec") or {}, "spec.template.spec")


def _check_policy(kind: Kind, name: str, spec: dict[str, Any]) -> None:
    for index, word in enumerate(spec.get("policyTypes") or ()):
        if word not in {"Ingress", "Egress"}:
            text = f'Unsupported value: "{word}": supported values: "Ingress", "Egress"'
            field = f"spec.policyTypes[{index}]"
            raise invalid(kind, name, field, "FieldValueNotSupported", text)


def check_update(kind: Kind, before: Item, after: Item) -> None:
    """Raise the 422 refusal when a part changed that may not."""
    name = before["metadata"]["name"]
    uid = after["metadata"].get("uid", "")
    if uid and uid != before["metadata"]["uid"]:
        raise _wrong(kind, name, "metadata.uid", uid, "field is immutable")
    old, new = before.get("spec") or {}, after.get("spec") or {}
    if kind.kind in _WORKLOADS and old.get("selector") != new.get("selector"):
        raise invalid(kind, name, "spec.selector", "FieldValueInvalid", "field is immutable")
    if kind.kind == "Pod" and _fixed(old) != _fixed(new):
        text = (
            "Forbidden: pod updates may not change fields other than "
            "`spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations`"
        )
        raise invalid(kind, name, "spec", "FieldValueForbidden", text)


def _fixed(spec: dict[str, Any]) -> dict[str, Any]:
    """The part of a pod's spec that never changes."""
    fixed = {key: value for key, value in spec.items() if key not in _POD_MAY_CHANGE}
    for key in ("containers", "initContainers"):
        if key in fixed:
            fixed[key] = [{**item, "image": ""} for item in fixed[key]]
    return fixed


def with_defaults(kind: Kind, item: Item) -> Item:
    """The object with what the server fills in; only what the product reads."""
    spec = dict(item.get("spec") or {})
    if kind.kind == "Pod":
        item = {
            **item,
            "spec": _pod_defaults(spec),
            "status": item.get("status") or {"phase": "Pending"},
        }
    elif kind.kind in _TEMPLATED:
        item = {**item, "spec": _workload_defaults(kind, spec)}
        item.setdefault("status", {})
    elif kind.kind == "NetworkPolicy" and not spec.get("policyTypes"):
        types = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        item = {**item, "spec": {"podSelector": {}, **spec, "policyTypes": types}}
    elif kind.kind == "Namespace":
        meta = item["metadata"]
        labels = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta.get("name", "")}
        item = {**item, "metadata": {**meta, "labels": labels}, "status": {"phase": "Active"}}
        item["spec"] = {"finalizers": ["kubernetes"], **spec}
    return item


def _pod_defaults(spec: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        **spec,
    }
    for key in ("containers", "initContainers"):
        if key in spec:
            spec[key] = [_container_defaults(item) for item in spec[key]]
    return spec


def _container_defaults(container: dict[str, Any]) -> dict[str, Any]:
    image = container.get("image", "")
    latest = "@" not in image and (":" not in image.rpartition("/")[2] or image.endswith(":latest"))
    return {
        "resources": {},
        "imagePullPolicy": "Always" if latest else "IfNotPresent",
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **container,
    }


def _workload_defaults(kind: Kind, spec: dict[str, Any]) -> dict[str, Any]:
    template = spec.get("template") or {}
    inner = _pod_defaults(dict(template.get("spec") or {}))
    if "serviceAccountName" not in (template.get("spec") or {}):
        inner.pop("serviceAccountName")
    spec = {**spec, "template": {**template, "spec": inner}}
    if kind.kind in {"Deployment", "ReplicaSet", "StatefulSet"}:
        spec.setdefault("replicas", 1)
    if kind.kind == "Deployment":
        rolling = {"maxUnavailable": "25%", "maxSurge": "25%"}
        spec.setdefault("strategy", {"type": "RollingUpdate", "rollingUpdate": rolling})
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
    if kind.kind in {"StatefulSet", "DaemonSet"}:
        spec.setdefault("updateStrategy", {"type": "RollingUpdate"})
        spec.setdefault("revisionHistoryLimit", 10)
    if kind.kind == "Job":
        spec.setdefault("parallelism", 1)
        spec.setdefault("completions", 1)
        spec.setdefault("suspend", False)
    return spec
