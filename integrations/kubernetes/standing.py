"""Whether an isolation or a hold still stands, asked again long after it was made.

Three answers that must never be taken for one another: it stands (with what is open now), it is
over because nothing is left to hold (`NotFound`), somebody took it away (`StepFailed`). A right
that we lost, or an API server that does not answer, is none of them: `StepRetry`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from integrations.kubernetes import admission, holding
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.paths import named
from integrations.kubernetes.quarantine import KEY, LABEL
from responder.errors import NotFound, StepFailed, StepRetry
from responder.model import Verdict, VerdictLevel

__all__ = ["RECHECK", "hold", "isolation", "lock"]

RECHECK = 300.0  # seconds: the watch tells of a change at once, this finds what it missed
Verify = Callable[[], Awaitable[Verdict]]


async def isolation(api: Api, data: Mapping[str, Any], verify: Verify) -> Verdict:
    """What a quarantine reaches now. `data` is that of its plan."""
    namespace, place = data["namespace"], f"pod {data['namespace']}/{data['pod']}"
    pod = await _pod(api, namespace, data["pod"], data["uid"])
    policy = await _seen(api, named("NetworkPolicy", namespace, data["policy"]))
    metadata = pod["metadata"]
    labelled = (metadata.get("labels") or {}).get(LABEL) == data["label"]
    if not labelled and policy is None and KEY not in (metadata.get("annotations") or {}):
        raise NotFound(f"{place} was released: label, marks and NetworkPolicy are all gone")
    alarm = await _alarm(api, pod, policy, data["policy"])
    try:
        verdict = await verify()
    except StepFailed as error:
        if labelled and policy is not None and policy["spec"] == _denying(data["label"]):
            raise StepRetry(str(error)) from error  # it is there: only the look was refused
        raise StepFailed(f"{error}; {alarm}" if alarm else str(error)) from error
    if not alarm:
        return verdict
    residual = (alarm, *verdict.residual)
    return replace(verdict, level=VerdictLevel.RESIDUAL, residual=residual)


async def hold(api: Api, found: holding.Hold, verify: Verify) -> Verdict:
    """What a hold refuses now."""
    pod = await _pod(api, found.namespace, found.pod, found.uid)
    metadata = pod["metadata"]
    held = holding.HELD in (metadata.get("annotations") or {})
    if not held and (metadata.get("labels") or {}).get(LABEL) != found.value:
        raise NotFound(f"pod {found.namespace}/{found.pod} was released: label and marks are gone")
    await _seen(api, named("PodDisruptionBudget", found.namespace, found.name))
    return await verify()


async def lock(api: Api, data: Mapping[str, Any], verify: Verify) -> Verdict:
    """What a lock of a namespace denies now."""
    await _seen(api, named("NetworkPolicy", data["namespace"], data["policy"]))
    return await verify()


# --------------------------------------------------------------------------- looking


async def _seen(api: Api, path: str) -> Json | None:
    """The object, or nothing. Raises `StepRetry` where it cannot be told."""
    try:
        return await api.get(path)
    except NotFound:
        return None
    except StepFailed as error:
        raise StepRetry(str(error)) from error


async def _pod(api: Api, namespace: str, name: str, uid: str) -> Json:
    found = await _seen(api, named("Pod", namespace, name))
    if found is None:
        raise NotFound(f"pod {namespace}/{name} is gone: nothing is left to hold")
    if found["metadata"]["uid"] != uid:
        raise NotFound(f"pod {namespace}/{name} is another one now; the isolated one is gone")
    return found


def _denying(label: str) -> Json:
    return {
        "podSelector": {"matchLabels": {LABEL: label}},
        "policyTypes": ["Ingress", "Egress"],
    }


# --------------------------------------------------------------------------- the namespace


async def _alarm(api: Api, pod: Json, policy: Json | None, name: str) -> str:
    """What opens when, if the pod's namespace is being deleted; empty when it is not.

    The namespace controller deletes policies and budgets at once, the pod ends in its own time:
    https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-deletion
    """
    metadata = pod["metadata"]
    namespace, place = metadata["namespace"], f"{metadata['namespace']}/{metadata['name']}"
    try:
        space = await api.get(named("Namespace", "", namespace))
    except (NotFound, StepFailed):
        return ""  # without the right to read it the policies themselves still tell
    if not space["metadata"].get("deletionTimestamp"):
        return ""
    head = f"ALARM: namespace {namespace} is being deleted"
    grace = (pod.get("spec") or {}).get("terminationGracePeriodSeconds", 30)
    last = "nothing can be put back in a namespace that is being deleted; capture the pod now"
    budget = await _budget(api, pod)
    if policy is None:
        return f"{head}: NetworkPolicy {name} is gone, pod {place} is open until it ends; {last}"
    if holding.HELD not in (metadata.get("annotations") or {}):
        return (
            f"{head} and pod {place} is not held: NetworkPolicy {name} goes at once, the pod ends "
            f"up to {grace} s later and is open meanwhile; {last}"
        )
    if not budget:
        return f"{head}: the budget that holds pod {place} is gone, so it can be evicted; {last}"
    return (
        f"{head}: the hold of pod {place} keeps the pod, NetworkPolicy {name} and "
        f"PodDisruptionBudget {budget}; the deletion hangs, and all of it opens when the hold is "
        "lifted"
    )


async def _budget(api: Api, pod: Json) -> str:
    """The name of the budget that our hold has put there, if it is there."""
    value = (pod["metadata"].get("labels") or {}).get(LABEL, "")
    name = f"responder-hold-{value}"
    try:
        found = await admission.find(api, "PodDisruptionBudget", name, pod["metadata"]["namespace"])
    except StepFailed:
        return name  # it may not be read with our rights; the hold's own look tells of it
    return name if found else ""
