"""Turns changes of objects into work for the controllers, each object once.

Changes mark what must be looked at again; one task does the looking. Nothing is done inside a
write, so watchers see changes in their true order. Services and budgets are counted in batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from responder.clock import World
from responder.sandbox.background import Background
from responder.sandbox.kinds import BY_KIND, Kind, kind_named
from responder.sandbox.kubelet import Kubelet
from responder.sandbox.objects import Change, Item, Objects, controller_of
from responder.sandbox.rollout import deployment
from responder.sandbox.sets import daemon_set, job, stateful_set
from responder.sandbox.surroundings import budget, collect, endpoints
from responder.sandbox.workloads import replica_set

__all__ = ["Controllers"]

Key = tuple[Kind, str, str]
Reconcile = Callable[[Objects, Item], float | None]
_BATCH = 0.02  # seconds that changes of pods are gathered before services are counted


def _quiet(function: Callable[[Objects, Item], None]) -> Reconcile:
    def run(objects: Objects, item: Item) -> None:
        function(objects, item)

    return run


_PROMPT: dict[Kind, Reconcile] = {
    kind_named("Deployment"): deployment,
    kind_named("ReplicaSet"): _quiet(replica_set),
    kind_named("StatefulSet"): _quiet(stateful_set),
    kind_named("DaemonSet"): _quiet(daemon_set),
    kind_named("Job"): _quiet(job),
}
_BATCHED: dict[Kind, Reconcile] = {
    kind_named("Service"): _quiet(endpoints),
    kind_named("PodDisruptionBudget"): _quiet(budget),
}
_OWNERS = tuple(kind for kind in _PROMPT if kind.kind != "Deployment")
POD = kind_named("Pod")


class Controllers:
    """The controller manager of the sandbox's cluster."""

    def __init__(
        self, objects: Objects, world: World, work: Background, kubelet: Kubelet | None
    ) -> None:
        self._objects, self._world, self._work, self._kubelet = objects, world, work, kubelet
        self._prompt: dict[Key, None] = {}
        self._batched: dict[Key, None] = {}
        self._gone: dict[tuple[str, str], None] = {}
        self._due: dict[Key, float] = {}  # when a look is already arranged
        self._wake, self._stale = asyncio.Event(), asyncio.Event()
        objects.listen(self._changed)

    def start(self) -> None:
        """Begin to work in the background."""
        self._work.start(self._run())
        self._work.start(self._run_batched())

    def settle(self) -> None:
        """Do all that is to be done now, at once."""
        while self._prompt or self._gone or self._batched:
            self._drain()
            self._drain_batched()

    def _changed(self, change: Change) -> None:
        meta, kind = change.item["metadata"], change.kind
        space = meta.get("namespace", "")
        if change.verb == "DELETED" and self._objects.owns(meta["uid"]):
            self._gone[(meta["uid"], space if kind.namespaced else "")] = None
        if kind in _PROMPT or kind is POD:
            self._prompt[(kind, space, meta["name"])] = None
        elif kind in _BATCHED:
            self._batched[(kind, space, meta["name"])] = None
        elif kind.kind == "Node":
            self._mark_all(kind_named("DaemonSet"), "")
            self._mark_pending()
        owner = controller_of(change.item) or (change.before and controller_of(change.before))
        if owner:
            group = owner["apiVersion"].rpartition("/")[0]
            above = BY_KIND.get((group, owner["kind"]))
            if above in _PROMPT:
                self._prompt[(above, space, owner["name"])] = None
        if kind is POD:
            self._pod_changed(change, space)
        self._wake.set()
        if self._batched:
            self._stale.set()

    def _pod_changed(self, change: Change, space: str) -> None:
        if controller_of(change.item) is None or change.verb == "DELETED":
            for kind in _OWNERS:  # somebody may adopt it, or miss it
                self._mark_all(kind, space)
        for kind in _BATCHED:
            for item in self._objects.items(kind, space):
                self._batched[(kind, space, item["metadata"]["name"])] = None

    def _mark_all(self, kind: Kind, space: str) -> None:
        for item in self._objects.items(kind, space):
            meta = item["metadata"]
            self._prompt[(kind, meta["namespace"], meta["name"])] = None

    def _mark_pending(self) -> None:
        for pod in self._objects.items(POD):
            if not pod["spec"].get("nodeName"):
                meta = pod["metadata"]
                self._prompt[(POD, meta["namespace"], meta["name"])] = None

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._drain()

    async def _run_batched(self) -> None:
        while True:
            await self._stale.wait()
            await self._world.clock.sleep(_BATCH)
            self._stale.clear()
            self._drain_batched()

    def _drain(self) -> None:
        while self._gone or self._prompt:
            while self._gone:
                uid, space = next(iter(self._gone))
                del self._gone[(uid, space)]
                collect(self._objects, uid, space)
            if self._prompt:
                key = next(iter(self._prompt))
                del self._prompt[key]
                self._look(key, _PROMPT)

    def _drain_batched(self) -> None:
        keys, self._batched = self._batched, {}
        for key in keys:
            self._look(key, _BATCHED)

    def _look(self, key: Key, table: dict[Kind, Reconcile]) -> None:
        kind, space, name = key
        if kind is POD:
            if self._kubelet is not None:
                self._kubelet.observe(space, name)
            return
        item = self._objects.find(kind, space, name)
        if item is None:
            return
        wait = table[kind](self._objects, item)
        if wait is None:
            return
        due = self._world.clock.monotonic() + wait
        if due < self._due.get(key, due + 1):
            self._due[key] = due
            self._work.start(self._later(wait, key, due))

    async def _later(self, seconds: float, key: Key, due: float) -> None:
        await self._world.clock.sleep(seconds + 0.01)
        if self._due.get(key) != due:
            return  # an earlier look was arranged meanwhile
        del self._due[key]
        self._prompt[key] = None
        self._wake.set()
