"""What stands around a pod: the objects of its namespace that select it.

Read from the API server's cache: consistent lists cost fifty times as much, and verifying reads
afresh.
"""

from __future__ import annotations

from collections.abc import Sequence

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.owners import Owner
from integrations.kubernetes.paths import collection, named
from integrations.kubernetes.together import together
from responder.errors import NotFound, ResponderError, StepFailed

__all__ = ["KINDS", "Around", "around", "claims", "cron_job", "glance"]

KINDS = ("NetworkPolicy", "Service", "EndpointSlice", "PodDisruptionBudget")

Around = list[list[Json]]  # one list for each of KINDS


async def around(api: Api, namespace: str) -> Around:
    """Everything of these kinds in the namespace. Raises what listing raises."""
    return await together(api.items(collection(kind, namespace), cached=True) for kind in KINDS)


async def glance(api: Api, namespace: str) -> Around | None:
    """The same for whoever may need it in a moment; nothing when it cannot be had.

    The one who needs it asks again then, and hears the reason.
    """
    try:
        return await around(api, namespace)
    except ResponderError:
        return None


async def claims(api: Api, namespace: str, names: Sequence[str]) -> dict[str, Json]:
    """The volume claims of these names, as far as they are there and we may read them."""

    async def one(name: str) -> Json | None:
        try:
            return await api.get(named("PersistentVolumeClaim", namespace, name))
        except (NotFound, StepFailed):
            return None

    found = await together(one(name) for name in names)
    return {name: item for name, item in zip(names, found, strict=True) if item}


async def cron_job(api: Api, namespace: str, owner: Owner | None) -> tuple[Json | None, str]:
    """The CronJob itself once the API server would let us suspend it; else the reason."""
    if owner is None:
        return None, ""
    path = named("CronJob", namespace, owner.name)
    try:
        found = await api.get(path)
        body = {"metadata": {"uid": owner.uid}, "spec": {"suspend": True}}
        await api.patch(path, body, dry_run=True)
    except NotFound:
        return None, "it is gone"
    except ResponderError as error:
        return None, f"it cannot be suspended: {error}"
    return found, ""
