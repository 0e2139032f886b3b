"""What stands around a pod: the objects of its namespace that select it.

Read from the API server's cache: consistent lists cost fifty times as much, and verifying reads
afresh.
"""

from __future__ import annotations

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.paths import collection
from integrations.kubernetes.together import together
from responder.errors import ResponderError

__all__ = ["KINDS", "Around", "around", "glance"]

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
