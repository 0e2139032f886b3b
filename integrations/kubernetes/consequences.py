"""What isolating a pod costs, and what it does not reach: counted from what was read. Pure.

Nothing here is guessed: a volume whose claim could not be read is named as one that may matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from integrations.kubernetes.client import Json
from integrations.kubernetes.owners import ready_replicas, root, running_containers, treatment
from integrations.kubernetes.policy import selects, service_selects
from responder.model import Blast

__all__ = ["HINT", "blast", "claims_of", "is_ready", "limits"]

Labels = Mapping[str, str]
HINT = "suspend_cronjob: true, or kubernetes.suspend_job, stops it"
_ONE_NODE = {"ReadWriteOnce", "ReadWriteOncePod"}


def is_ready(pod: Json) -> bool:
    """Whether the pod counts as ready now."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def blast(
    pod: Json,
    owners: Sequence[Json],
    *,
    services: Sequence[Json] = (),
    slices: Sequence[Json] = (),
    budgets: Sequence[Json] = (),
) -> Blast:
    """What is lost: an isolated pod serves nobody, whatever its readiness says."""
    metadata = pod["metadata"]
    namespace, labels = metadata["namespace"], metadata.get("labels") or {}
    ready = is_ready(pod)
    count = max(ready_replicas(owners[0] if owners else None), 1)
    owner = root(pod, list(owners))
    workload = owner.label if owner else f"Pod/{metadata['name']}"
    return Blast(
        pods=1,
        ready_share=1 / count if ready else 0.0,
        namespaces=(namespace,),
        workloads=(f"{namespace}/{workload}",),
        services_without_endpoints=_emptied(services, slices, pod, labels) if ready else (),
        budgets_crossed=_crossed(budgets, labels) if ready else (),
        last_ready=ready and count == 1,
        labels=dict(labels),
    )


def _emptied(
    services: Sequence[Json], slices: Sequence[Json], pod: Json, labels: Labels
) -> tuple[str, ...]:
    """Services that have no ready endpoint besides this pod."""
    found = []
    for service in services:
        name = service["metadata"]["name"]
        if service_selects(service, labels) and not _others_serve(slices, name, pod):
            found.append(f"{service['metadata']['namespace']}/{name}")
    return tuple(sorted(found))


def _others_serve(slices: Sequence[Json], service: str, pod: Json) -> bool:
    for piece in slices:
        if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != service:
            continue
        for endpoint in piece.get("endpoints") or []:
            other = (endpoint.get("targetRef") or {}).get("uid") != pod["metadata"]["uid"]
            # an absent answer counts as ready, as the API says
            if other and (endpoint.get("conditions") or {}).get("ready") is not False:
                return True
    return False


def _crossed(budgets: Sequence[Json], labels: Labels) -> tuple[str, ...]:
    """Disruption budgets with no room left; relabelling is not checked against them by anyone."""
    return tuple(
        sorted(
            f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in budgets
            if selects((item.get("spec") or {}).get("selector"), labels)
            and int((item.get("status") or {}).get("disruptionsAllowed") or 0) < 1
        )
    )


def limits(
    pod: Json,
    owners: Sequence[Json],
    after: Labels,
    *,
    services: Sequence[Json] = (),
    budgets: Sequence[Json] = (),
    claims: Mapping[str, Json] | None = None,
    goes_on: str = HINT,
) -> Iterator[str]:
    """What goes on, or goes wrong, although the pod is isolated; in the order of weight.

    `claims` are its volume claims as far as they could be read; `goes_on` is why its CronJob
    is not stopped, empty when it is.
    """
    how = treatment(pod)
    yield from _ways_out(pod)
    if how.consequence:
        yield how.consequence
    owner = root(pod, list(owners))
    if owner and owner.kind == "CronJob" and goes_on:
        yield f"{owner.label} goes on starting new ones by its schedule: {goes_on}"
    if how.strip and owner:
        yield from _volumes(pod, claims or {})
    if not how.strip:
        yield from _still_counted(pod, after, services, budgets)
    if pod["metadata"].get("deletionTimestamp"):
        yield "the pod is being deleted: what is in it will be gone soon"


def _ways_out(pod: Json) -> Iterator[str]:
    """Doors to the node that are no network and not its whole."""
    spec = pod.get("spec") or {}
    paths = [
        volume["hostPath"].get("path", "")
        for volume in spec.get("volumes") or []
        if volume.get("hostPath")
    ]
    if paths:
        yield f"it can change files of its node ({', '.join(sorted(paths))}): look at the node too"
    strong = sorted(
        container["name"]
        for container in running_containers(spec)
        if {"SYS_ADMIN", "CAP_SYS_ADMIN", "ALL"}
        & set(((container.get("securityContext") or {}).get("capabilities") or {}).get("add") or ())
    )
    if strong:
        yield f"{', '.join(strong)} has the rights to leave its container: look at the node too"


def claims_of(pod: Json) -> list[str]:
    """The volume claims that a pod names; one made for each pod anew is no matter to others."""
    claims = [
        (volume.get("persistentVolumeClaim") or {}).get("claimName")
        for volume in (pod.get("spec") or {}).get("volumes") or []
    ]
    return sorted(name for name in claims if name)


def _volumes(pod: Json, claims: Mapping[str, Json]) -> Iterator[str]:
    """A volume for one node at a time stays with the isolated pod: its replacement may wait."""
    for name in claims_of(pod):
        modes = set((claims.get(name, {}).get("spec") or {}).get("accessModes") or [])
        if modes and not modes <= _ONE_NODE:
            continue
        what = "can be used" if modes else "may be usable"
        where = "by one pod only" if "ReadWriteOncePod" in modes else "on one node only"
        yield f"it keeps volume claim {name}, which {what} {where}: a replacement may not start"


def _still_counted(
    pod: Json, after: Labels, services: Sequence[Json], budgets: Sequence[Json]
) -> Iterator[str]:
    """Who takes a pod that keeps its labels for one that serves."""
    for service in services:
        if service_selects(service, after):
            name = service["metadata"]["name"]
            yield f"Service {name} still sends requests to it, which time out"
    for budget in budgets:
        if is_ready(pod) and selects((budget.get("spec") or {}).get("selector"), after):
            yield f"PodDisruptionBudget {budget['metadata']['name']} still counts it as healthy"
