"""Which cluster a call speaks of, and the few steps that every action takes there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from integrations.kubernetes.client import Api, Connection, Json
from integrations.kubernetes.enforcement import Enforcement
from integrations.kubernetes.enforcement_class import Class
from integrations.kubernetes.identity import check, pod_name
from integrations.kubernetes.landscape import Landscape, Scout
from integrations.kubernetes.listing import Listings
from integrations.kubernetes.looks import Looks
from integrations.kubernetes.probing_memory import Prober
from integrations.kubernetes.rights import Rights
from responder.errors import StepFailed, StepRetry, Uncertain
from responder.model import ObjectRef
from responder.ports import ActionInfo, Call
from responder.text import suggestion

__all__ = ["Fleet", "insist", "reference"]

T = TypeVar("T")

_PAUSES = (0.1, 0.5, 2.0)  # seconds between two looks after an answer was lost


@dataclass(frozen=True, slots=True)
class Fleet:
    """All configured clusters."""

    connections: Mapping[str, Connection]
    rights: Mapping[str, Rights]
    looks: Mapping[str, Looks]
    enforcement: Mapping[str, Enforcement] = field(default_factory=dict)
    probers: Mapping[str, Prober] = field(default_factory=dict)
    scouts: dict[str, Scout] = field(default_factory=dict)  # by cluster, each from its first look
    listings: dict[str, Listings] = field(default_factory=dict)  # the same

    def api(self, call: Call, lane: str = "bulk") -> Api:
        """The cluster of the call's target, or the only one. Raises `StepFailed`."""
        name = call.target.cluster
        if not name and len(self.connections) == 1:
            name = next(iter(self.connections))
        if name not in self.connections:
            raise StepFailed(
                f"{call.action}: no cluster {name!r} is configured; "
                f"{suggestion(name, self.connections)}"
            )
        return self.connections[name].api(lane)

    def network(self, api: Api) -> Class:
        """What is known of the network plug-in, without waiting; what was kept is read beside."""
        found = self.enforcement.get(api.cluster)
        if found is None:
            return Class.UNKNOWN
        found.kick(only_read=True)
        return found.known.kind

    def dry_runs(self, api: Api) -> bool:
        """Whether a plan asks the API server with `dryRun=All`."""
        return api.connection.settings.dry_run_plans

    async def landscape(self, api: Api, *, again: bool = False) -> Landscape:
        """What the cluster has beside NetworkPolicy; `again`: not the memory of a failed look."""
        clock = api.connection.world.clock
        return await self.scouts.setdefault(api.cluster, Scout(clock)).look(api, again=again)

    async def items(self, api: Api, path: str) -> list[Json]:
        """A consistent listing, one for all who ask at the same moment; not to be changed."""
        return await self.listings.setdefault(api.cluster, Listings()).items(api, path)

    async def require(self, api: Api, info: ActionInfo, namespace: str) -> None:
        """Raise `StepFailed` when our account lacks a right that the action declares."""
        await self.rights[api.cluster].require(api, info, namespace)

    def place(self, call: Call) -> tuple[str, str]:
        """Namespace and name of the pod the call speaks of. Raises `StepFailed`."""
        return pod_name(str(call.params["pod"]), call.target)

    def confirm(self, call: Call, pod: Json) -> None:
        """Raise `StepFailed` when the alert spoke of this name but of another pod."""
        metadata = pod["metadata"]
        target = call.target
        if target.pod == metadata["name"] and target.namespace in {"", metadata["namespace"]}:
            check(pod, target)


def reference(api: Api, kind: str, item: Json) -> ObjectRef:
    """An object as plans name it."""
    metadata = item["metadata"]
    return ObjectRef(
        kind=kind,
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        uid=metadata.get("uid", ""),
        system=f"cluster:{api.cluster}",
    )


async def insist(api: Api, attempt: Callable[[], Awaitable[T]]) -> T:
    """Do something that looks before it acts, again when the answer was lost.

    Only for attempts that are safe to repeat. Raises `StepRetry` when nothing can be seen.
    """
    lost: Uncertain | None = None
    for pause in _PAUSES:
        try:
            return await attempt()
        except Uncertain as error:
            lost = error
            await api.connection.world.clock.sleep(pause)
    raise StepRetry(f"{lost}; looked {len(_PAUSES)} times in vain") from lost
