"""What holds an isolated pod and its quarantine in place, and how that is taken away again.

Three locks, because each has a hole that another closes:

- a PodDisruptionBudget: the eviction API never asks admission about the deletion;
- an admission policy against DELETE of the pod and of the quarantine's own policies: deleting a
  namespace takes the policies first, while the pod still runs;
- the same policy against taking the label off, or changing the policies: the label is the key.

One policy for the cluster, which stays; one binding for each held pod, which goes with the hold.
Our own account may pass, but not in a dry run: so the lock can be tried without opening it.
https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import admission
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import insist
from integrations.kubernetes.paths import named
from integrations.kubernetes.quarantine import INCIDENT, KEY, LABEL
from responder.errors import Conflict, NotFound, StepFailed, StepRetry

__all__ = [
    "HELD",
    "KEEP",
    "Hold",
    "bindings",
    "budget",
    "deadlines",
    "lift",
    "lock",
    "policy_name",
    "release",
]

HELD = "responder.dev/hold"
KEEP = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
_PODS = ("pods", "pods/status", "pods/ephemeralcontainers", "pods/resize")
_BUDGETS = ("poddisruptionbudgets", "poddisruptionbudgets/status")
_OLD = f"oldObject.metadata.labels['{LABEL}']"
_NEW = f"object.metadata.labels['{LABEL}']"
_HAD = f"has(oldObject.metadata.labels) && '{LABEL}' in oldObject.metadata.labels"
_HAS = f"has(object.metadata.labels) && '{LABEL}' in object.metadata.labels"
_REMEDY = "end it with `responder undo`, or with the action kubernetes.release_pod"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One held pod: where it is, and the value of its quarantine label."""

    home: str
    namespace: str
    pod: str
    uid: str
    value: str

    @property
    def name(self) -> str:
        """The name of the budget and, behind our home's name, of the bindings."""
        return f"responder-hold-{self.value}"


def policy_name(home: str) -> str:
    """The one policy of all holds of one installation."""
    return f"{home}-holds"


def lock(home: str, user: str) -> Json:
    """The admission policy: refuses, for everybody but `user`, what would end a hold."""
    ours = f"request.userInfo.username == {json.dumps(user)} && !request.dryRun"
    return admission.policy(
        policy_name(home),
        {
            "matchConstraints": admission.match(
                admission.rule("", _PODS, "UPDATE", "DELETE"),
                admission.rule("", ("namespaces",), "DELETE"),
                admission.rule("networking.k8s.io", ("networkpolicies",), "UPDATE", "DELETE"),
                admission.rule("policy", _BUDGETS, "UPDATE", "DELETE"),
            ),
            "variables": [{"name": "ours", "expression": ours}],
            "validations": [
                {
                    "expression": "request.operation != 'DELETE' || variables.ours || "
                    "has(oldObject.metadata.deletionTimestamp)",
                    "message": f"held as evidence of an open incident: {_REMEDY}",
                },
                {
                    "expression": f"request.operation != 'UPDATE' || variables.ours || "
                    f"!({_HAD}) || ({_HAS} && {_NEW} == {_OLD})",
                    "message": f"the label {LABEL} holds a quarantine: {_REMEDY}",
                },
                {
                    "expression": "request.operation != 'UPDATE' || variables.ours || "
                    "!(request.resource.resource in ['networkpolicies', 'poddisruptionbudgets'])"
                    " || object.spec == oldObject.spec",
                    "message": f"this belongs to a quarantine: {_REMEDY}",
                },
            ],
        },
    )


def bindings(hold: Hold) -> tuple[Json, Json]:
    """What the policy is about: everything with the label, and the deletion of the namespace."""
    of = policy_name(hold.home)
    name = f"{hold.home}-{hold.name}"
    labelled = admission.match(objects={LABEL: hold.value}, namespace=hold.namespace)
    place = admission.match(admission.rule("", ("namespaces",), "DELETE"), namespace=hold.namespace)
    actions = ("Deny", "Audit")
    return (
        admission.binding(name, of, actions, matchResources=labelled),
        admission.binding(f"{name}-namespace", of, actions, matchResources=place),
    )


def budget(hold: Hold, *, key: str, incident: int) -> Json:
    """The budget that leaves no room to evict the pod. It goes when the pod has gone."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": hold.pod, "uid": hold.uid}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": hold.name,
            "namespace": hold.namespace,
            "labels": {LABEL: hold.value, **admission.MANAGED},
            "annotations": {KEY: key, INCIDENT: str(incident)},
            "ownerReferences": [owner],
        },
        # an integer: a share cannot be computed for a pod that nobody scales
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {LABEL: hold.value}}},
    }


def deadlines(pod: Json) -> Iterator[str]:
    """When each container will be restarted once its liveness probe fails, for a person.

    A probe of a running pod cannot be changed, and a restart takes memory and writable layer.
    https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
    """
    spec = pod.get("spec") or {}
    ends = spec.get("restartPolicy") == "Never"
    for container in spec.get("containers") or []:
        probe = container.get("livenessProbe")
        if probe:
            seconds = (probe.get("periodSeconds") or 10) * (probe.get("failureThreshold") or 3)
            yield (
                f"container {container['name']} will be {'ended' if ends else 'restarted'} in "
                f"about {seconds} s when its liveness probe fails: capture first"
            )


# --------------------------------------------------------------------------- the way back


async def release(api: Api, namespace: str, name: str, uid: str) -> None:
    """End the hold of a pod that says it is held; any other pod is left alone."""
    try:
        pod = await api.get(named("Pod", namespace, name))
    except NotFound:
        return
    metadata = pod["metadata"]
    value = (metadata.get("labels") or {}).get(LABEL)
    annotations = metadata.get("annotations") or {}
    if metadata["uid"] == uid and value and HELD in annotations:
        home = _memory(annotations).get("home") or api.connection.settings.home
        hold = Hold(home=home, namespace=namespace, pod=name, uid=uid, value=value)
        await lift(api, hold)


async def lift(api: Api, hold: Hold) -> None:
    """Take bindings, budget and annotations away; what is gone already is fine.

    Raises `Conflict` with the difference before anything is touched.
    """
    made = [*bindings(hold), budget(hold, key="", incident=0)]
    found = [await _as_made(api, wanted) for wanted in made]
    restored = _restored(await _pod(api, hold))
    for item in found:
        if item:
            await insist(api, lambda item=item: _remove(api, item))  # type: ignore[misc]
    if restored:
        body = {"metadata": {"uid": hold.uid, "annotations": restored}}
        path = named("Pod", hold.namespace, hold.pod)
        await insist(api, lambda: _patched(api, path, body))


async def _as_made(api: Api, wanted: Json) -> Json | None:
    metadata = wanted["metadata"]
    place = metadata.get("namespace", "")
    found = await admission.find(api, wanted["kind"], metadata["name"], place)
    if found and found["spec"] != wanted["spec"]:
        raise Conflict(
            f"{wanted['kind']} {metadata['name']} was changed since: expected "
            f"{json.dumps(wanted['spec'], sort_keys=True)}, got "
            f"{json.dumps(found['spec'], sort_keys=True)}; delete it by hand"
        )
    return {**wanted, "metadata": found["metadata"]} if found else None


async def _pod(api: Api, hold: Hold) -> Json:
    found = await admission.find(api, "Pod", hold.pod, hold.namespace)
    return found if found and found["metadata"]["uid"] == hold.uid else {}


def _restored(pod: Json) -> dict[str, str | None]:
    """The annotations as they were. Raises `Conflict` where somebody has changed ours."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    if HELD not in annotations:
        return {}
    changed = [
        f"{key}: expected {text}, got {annotations.get(key)}"
        for key, text in KEEP.items()
        if annotations.get(key) != text
    ]
    if changed:
        raise Conflict(f"pod {pod['metadata']['name']} was changed since: {'; '.join(changed)}")
    return {HELD: None, **before(annotations)}


def before(annotations: Mapping[str, str]) -> dict[str, str | None]:
    """The autoscalers' annotations as they were. Raises `StepFailed` when that was spoilt."""
    found = _memory(annotations)["before"]
    return {key: found.get(key) for key in KEEP}


def _memory(annotations: Mapping[str, str]) -> dict[str, Any]:
    """What the hold wrote down. Raises `StepFailed` when somebody has spoilt it."""
    try:
        found = json.loads(annotations[HELD])
        texts = [found["key"], found["home"], *(found["before"].get(key) or "" for key in KEEP)]
    except (ValueError, KeyError, TypeError, AttributeError):
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise StepFailed(f"annotation {HELD} was changed and cannot be read: mend it")
    return dict(found)


async def _remove(api: Api, item: Json) -> None:
    metadata = item["metadata"]
    path = named(item["kind"], metadata.get("namespace", ""), metadata["name"])
    try:
        await api.delete(path, metadata["uid"])
    except NotFound:
        return
    except StepFailed as error:
        if policy_name(api.connection.settings.home) in str(error):
            raise StepRetry(f"the hold has not ended yet: {error}", after=1.0) from error
        raise


async def _patched(api: Api, path: str, body: Json) -> None:
    try:
        await api.patch(path, body)
    except NotFound:
        return
