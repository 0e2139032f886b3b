"""What the policies beyond NetworkPolicy say in a cluster, as far as it concerns one pod.

Read only where the kinds are served at all, so a cluster without them costs no call. What cannot
be read is named, and counts as letting traffic through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.landscape import Landscape
from integrations.kubernetes.paths import CLUSTER_WIDE, collection, named
from integrations.kubernetes.together import together
from responder.errors import NotFound, ResponderError

__all__ = ["ADMIN", "CALICO", "Ground", "survey"]

ADMIN = ("ClusterNetworkPolicy", "AdminNetworkPolicy")
# the kind that we write -> what decides before it: its peers, the cluster's policies, the tiers
CALICO = {
    "CalicoNetworkPolicy": ("CalicoNetworkPolicy", "CalicoGlobalNetworkPolicy", "CalicoTier"),
    "CalicoStoredPolicy": ("CalicoStoredPolicy", "CalicoStoredGlobalPolicy", "CalicoStoredTier"),
}
_LIMIT = 2.0  # seconds for one listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What is served, what of it is enforced by our configuration, and what was listed."""

    served: frozenset[str] = frozenset()
    enforced: frozenset[str] = frozenset()
    listed: Mapping[str, Sequence[Json]] = field(default_factory=dict)  # by kind, where readable
    namespace: Json | None = None  # the pod's, where readable
    unread: Mapping[str, str] = field(default_factory=dict)  # kind -> why it could not be listed
    refused: Mapping[str, str] = field(default_factory=dict)  # kind -> why ours was not accepted
    doubt: str = ""  # why the list of served kinds may be short

    def without(self, refused: Mapping[str, str]) -> Ground:
        """The same where ours of these kinds would not be accepted."""
        return replace(self, refused={**self.refused, **refused})


async def survey(
    api: Api, land: Landscape, namespace: str, *, cached: bool = True, native: bool = False
) -> Ground:
    """Read them. With `native` also what decides before a deny of Calico's.

    Never raises: an isolation cannot wait for a kind that does not answer.
    """
    kinds = [kind for kind in ADMIN if kind in land.served]
    if native:
        kinds += next((CALICO[kind] for kind in CALICO if kind in land.served), ())
    enforced = frozenset(api.connection.settings.enforced)
    if not kinds:
        return Ground(served=land.served, enforced=enforced, doubt=land.unread)
    found = await together(_listed(api, kind, namespace, cached=cached) for kind in kinds)
    return Ground(
        served=land.served,
        enforced=enforced,
        listed={k: one for k, one in zip(kinds, found, strict=True) if not isinstance(one, str)},
        namespace=await _namespace(api, namespace),
        unread={k: one for k, one in zip(kinds, found, strict=True) if isinstance(one, str)},
        doubt=land.unread,
    )


async def _listed(api: Api, kind: str, namespace: str, *, cached: bool) -> list[Json] | str:
    """The objects, or why they cannot be read: a kind may have an API server of its own."""
    place = "" if kind in CLUSTER_WIDE else namespace
    try:
        async with asyncio.timeout(_LIMIT):
            return await api.items(collection(kind, place), cached=cached)
    except NotFound:
        return []
    except TimeoutError:
        return f"no answer within {_LIMIT:g} s"
    except ResponderError as error:
        return str(error)


async def _namespace(api: Api, name: str) -> Json | None:
    try:
        return await api.get(named("Namespace", "", name))
    except ResponderError:
        return None
