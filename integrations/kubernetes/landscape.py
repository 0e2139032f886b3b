"""What a cluster has beside NetworkPolicy: further policy kinds, and admission rules by label.

Asked once in five minutes, beside what is read anyway, because it changes with installations and
not with pods. Every account may read which groups are served
(https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api). That a kind is
served says nothing of whether something enforces it.

Never fails a containment: what cannot be read is said in `unread`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.paths import KINDS, collection
from integrations.kubernetes.together import together
from responder.clock import Clock
from responder.errors import NotFound, ResponderError, StepFailed

__all__ = ["FURTHER", "HOOKS", "Landscape", "Scout"]

FURTHER = (
    "ClusterNetworkPolicy",
    "AdminNetworkPolicy",
    "CiliumNetworkPolicy",
    "CalicoNetworkPolicy",
    "CalicoStoredPolicy",
    "EgressFirewall",
)
HOOKS = (
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
)
_REMEMBER = 300.0  # seconds
_RETRY = 30.0  # seconds until a look that failed is tried again
_DENIED = 3600.0  # seconds until what we may not list is asked for again: a no is no news
_LIMIT = 2.0  # seconds: a slow answer must not hold up an isolation


@dataclass(frozen=True, slots=True)
class Landscape:
    """What was found; `unread` says why the list of kinds may be short."""

    served: frozenset[str] = frozenset()  # of FURTHER
    hooks: Mapping[str, tuple[Json, ...]] | None = None  # by kind; None: we may not list them
    unread: str = ""


class Scout:
    """Looks around in one cluster and remembers it for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._denied_until = 0.0
        self._seen: Landscape | None = None
        self._looking = asyncio.Lock()

    async def look(self, api: Api, *, again: bool = False) -> Landscape:
        """What the cluster has; read anew when the last look is old, or (`again`) has failed.

        One look at a time: who comes meanwhile gets the last one, or waits for the first.
        """
        if self._seen and (self._is_fresh(again=again) or self._looking.locked()):
            return self._seen
        async with self._looking:
            if self._seen is None or not self._is_fresh(again=again):
                self._seen = await self._anew(api)
            return self._seen

    def _is_fresh(self, *, again: bool) -> bool:
        failed = again and bool(self._seen and self._seen.unread)
        return self._clock.monotonic() < self._until and not failed

    async def _anew(self, api: Api) -> Landscape:
        asks = self._clock.monotonic() >= self._denied_until
        seen = await _look(api, hooks=asks)
        now = self._clock.monotonic()
        self._until = now + (_RETRY if seen.unread else _REMEMBER)
        if asks and seen.hooks is None and not seen.unread:
            self._denied_until = now + _DENIED
        return seen


async def _look(api: Api, *, hooks: bool) -> Landscape:
    try:
        async with asyncio.timeout(_LIMIT):
            work: list[Coroutine[Any, Any, Any]] = [_served(api)]
            work += [_hooks(api)] if hooks else []
            served, *admission = await together(work)
    except (ResponderError, TimeoutError) as error:
        why = str(error) or f"no answer within {_LIMIT:g} s"
        return Landscape(unread=f"which further policy kinds there are is not known: {why}")
    return Landscape(served, *admission)


async def _served(api: Api) -> frozenset[str]:
    """The further kinds that the API server serves; a server without the list has none."""
    try:
        listed = (await api.get("/apis")).get("groups") or []
    except NotFound:
        return frozenset()
    there = {
        f"apis/{version['groupVersion']}"
        for group in listed
        for version in group.get("versions") or []
    }
    places = sorted({KINDS[kind][0] for kind in FURTHER} & there)
    plurals = dict(zip(places, await together(_plurals(api, one) for one in places), strict=True))
    return frozenset(
        kind for kind in FURTHER if KINDS[kind][1] in plurals.get(KINDS[kind][0], frozenset())
    )


async def _plurals(api: Api, place: str) -> frozenset[str]:
    try:
        listed = (await api.get(f"/{place}")).get("resources") or []
    except NotFound:
        return frozenset()
    return frozenset(str(item.get("name")) for item in listed)


async def _hooks(api: Api) -> Mapping[str, tuple[Json, ...]] | None:
    try:
        found = await together(api.items(collection(kind), cached=True) for kind in HOOKS)
    except (NotFound, StepFailed):
        return None
    return {kind: tuple(items) for kind, items in zip(HOOKS, found, strict=True)}
