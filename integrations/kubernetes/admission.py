"""Admission policies of our own: put there once, compared, never replaced when somebody else's.

Every default that the API server fills in is written out, so that what is there can be compared
with what is wanted word by word: a narrowed selector or an added condition shows as a difference.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import insist
from integrations.kubernetes.paths import collection, named
from responder.errors import Conflict, NotFound, StepFailed

__all__ = [
    "BINDING",
    "MANAGED",
    "POLICY",
    "binding",
    "find",
    "install",
    "match",
    "policy",
    "put",
    "refusal",
    "rule",
    "username",
]

POLICY = "ValidatingAdmissionPolicy"
BINDING = "ValidatingAdmissionPolicyBinding"
MANAGED = {"app.kubernetes.io/managed-by": "responder"}
_VERSION = "admissionregistration.k8s.io/v1"
_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_REFUSED = "HTTP 422"
_TRIES = 6  # how often something may get between our look and our patch


def rule(group: str, resources: Iterable[str], *operations: str) -> Json:
    """One resource rule of version v1."""
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": list(operations),
        "resources": list(resources),
        "scope": "*",
    }


def match(
    *rules: Json, objects: Mapping[str, str] | None = None, namespace: str = ""
) -> dict[str, Any]:
    """What a policy or binding is about, with the API server's defaults written out."""
    name = {"kubernetes.io/metadata.name": namespace}
    return {
        **({"resourceRules": list(rules)} if rules else {}),
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchLabels": name} if namespace else {},
        "objectSelector": {"matchLabels": dict(objects)} if objects else {},
    }


def policy(name: str, spec: Mapping[str, Any]) -> Json:
    """A policy that refuses where its expression cannot be evaluated."""
    spec = {"failurePolicy": "Fail", **spec}
    return {"apiVersion": _VERSION, "kind": POLICY, **_named(name), "spec": spec}


def binding(name: str, of: str, actions: Iterable[str], **more: Any) -> Json:
    """A binding: without one a policy does nothing."""
    spec = {"policyName": of, "validationActions": list(actions), **more}
    return {"apiVersion": _VERSION, "kind": BINDING, **_named(name), "spec": spec}


def _named(name: str) -> Json:
    return {"metadata": {"name": name, "labels": dict(MANAGED)}}


async def username(api: Api) -> str:
    """Who we are there: what a policy sees as `request.userInfo.username`."""
    body: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await api.ask(_REVIEW, body)
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")


async def find(api: Api, kind: str, name: str, namespace: str = "") -> Json | None:
    """The object of this name, or nothing."""
    try:
        return await api.get(named(kind, namespace, name))
    except NotFound:
        return None


async def install(api: Api, wanted: Json) -> None:
    """Put a policy or binding there as wanted; one of ours that differs is set right.

    Never touches one that is not ours: raises `StepFailed`. Raises `Conflict` when it changes
    faster than it can be patched; the API server itself writes its status after each change.
    """
    for _ in range(_TRIES):
        if await insist(api, lambda: _install(api, wanted)):
            return
    label = f"{wanted['kind']} {wanted['metadata']['name']}"
    raise Conflict(f"{label} changes faster than it can be patched")


async def _install(api: Api, wanted: Json) -> bool:
    """Whether it is as wanted now; no where it moved between look and patch."""
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    with suppress(Conflict):
        await api.create(collection(kind), wanted)
        return True
    found = await find(api, kind, name)
    if found is None:
        return False  # deleted between the two calls
    if found["spec"] == wanted["spec"]:
        return True
    if not MANAGED.items() <= (found["metadata"].get("labels") or {}).items():
        raise StepFailed(
            f"{kind} {name} exists and is not ours: rename it, or choose another `home` for "
            f"[clusters.{api.cluster}]"
        )
    with suppress(Conflict):
        await api.patch(named(kind, "", name), _correction(found, wanted))
        return True
    return False


def _correction(found: Json, wanted: Json) -> Json:
    """The merge patch that makes one `spec` the other: what is too much goes."""
    gone = dict.fromkeys(found["spec"].keys() - wanted["spec"].keys())
    spec = {key: _replaced(found["spec"].get(key), value) for key, value in wanted["spec"].items()}
    version = found["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version}, "spec": {**gone, **spec}}


def _replaced(found: Any, wanted: Any) -> Any:
    if not isinstance(found, Mapping) or not isinstance(wanted, Mapping):
        return wanted
    gone = dict.fromkeys(found.keys() - wanted.keys())
    return {**gone, **{key: _replaced(found.get(key), wanted[key]) for key in wanted}}


async def put(api: Api, wanted: Json) -> None:
    """Create an object; one of this name is fine only where label and `spec` are as wanted."""
    await insist(api, lambda: _put(api, wanted))


async def _put(api: Api, wanted: Json) -> None:
    kind, metadata = wanted["kind"], wanted["metadata"]
    namespace = metadata.get("namespace", "")
    try:
        await api.create(collection(kind, namespace), wanted)
    except Conflict:
        found = await api.get(named(kind, namespace, metadata["name"]))
        labels = found["metadata"].get("labels") or {}
        if found["spec"] != wanted["spec"] or labels != metadata["labels"]:
            raise StepFailed(
                f"{kind} {metadata['name']} exists and is not the one this step makes; look at it "
                "and delete it"
            ) from None


async def refusal(attempt: Awaitable[object], policy_name: str) -> str:
    """What a policy said against an attempt, or nothing when it let it pass.

    Raises whatever else went wrong, so that another rule's no is not taken for ours.
    """
    try:
        await attempt
    except StepFailed as error:
        text = str(error)
        if _REFUSED in text and f"'{policy_name}'" in text:
            return text
        raise
    return ""
