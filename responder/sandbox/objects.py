"""Where the sandbox's cluster keeps its objects: by kind, namespace and name, with a history.

Objects are never changed in place: a write puts a new one. So a list copies nothing, each object
is encoded at most once, and a watcher sees exactly what was true then. The history is bounded;
a watch that asks for older changes is refused as the real server refuses it.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from responder.clock import SECOND, World, iso
from responder.sandbox.failure import already_exists, gone, not_found
from responder.sandbox.kinds import Kind

__all__ = ["Change", "Item", "Objects", "controller_of", "stamp"]

Item = dict[str, Any]
HISTORY = 8192
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Change:
    """One write: what happened to which object, and what it was before."""

    version: int
    verb: str  # ADDED | MODIFIED | DELETED
    kind: Kind
    item: Item
    before: Item | None


class Objects:
    """All objects of one cluster. Raises `Refusal` as the API server would."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.version = 1
        self._tables: dict[Kind, dict[str, dict[str, Item]]] = {}
        self._encoded: dict[str, tuple[str, bytes]] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._listeners: list[Callable[[Change], None]] = []
        self._owners: Counter[str] = Counter()

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call this for every change from now on, in order, within the write."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[Change], None]) -> None:
        """Stop calling it."""
        self._listeners.remove(listener)

    def get(self, kind: Kind, namespace: str, name: str) -> Item:
        """The object; raises the 404 refusal."""
        item = self.find(kind, namespace, name)
        if item is None:
            raise not_found(kind, name)
        return item

    def find(self, kind: Kind, namespace: str, name: str) -> Item | None:
        """The object, or None."""
        return self._tables.get(kind, {}).get(namespace, {}).get(name)

    def items(self, kind: Kind, namespace: str = "") -> Iterable[Item]:
        """All of a kind, in one namespace or (empty) in every one."""
        table = self._tables.get(kind, {})
        if namespace or not kind.namespaced:
            return list(table.get(namespace, {}).values())
        return [item for space in sorted(table) for item in table[space].values()]

    def owned(self, kind: Kind, namespace: str, uid: str) -> Iterator[Item]:
        """Those of a kind whose controller has this UID."""
        for item in self.items(kind, namespace):
            owner = controller_of(item)
            if owner and owner["uid"] == uid:
                yield item

    def owns(self, uid: str) -> bool:
        """Whether anything names this UID as an owner."""
        return self._owners[uid] > 0

    def create(self, kind: Kind, item: Item) -> Item:
        """Put a new object: UID, version, generation and time of creation are given here."""
        meta = dict(item["metadata"])
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = self.free_name(kind, meta.get("namespace", ""), meta["generateName"])
        space = meta.get("namespace", "")
        if self.find(kind, space, meta["name"]) is not None:
            raise already_exists(kind, meta["name"])
        meta["uid"] = meta.get("uid") or self.uid()
        meta.setdefault("creationTimestamp", stamp(self.world.clock.now()))
        if kind.counts_generation:
            meta.setdefault("generation", 1)
        return self._write("ADDED", kind, {**item, "metadata": meta}, None)

    def update(self, kind: Kind, item: Item) -> Item:
        """Put the object in place of the one with its name; an equal one writes nothing."""
        meta = item["metadata"]
        before = self.get(kind, meta.get("namespace", ""), meta["name"])
        if item == before:
            return before
        if kind.counts_generation and item.get("spec") != before.get("spec"):
            number = before["metadata"].get("generation", 1) + 1
            item = {**item, "metadata": {**meta, "generation": number}}
        return self._write("MODIFIED", kind, item, before)

    def delete(self, kind: Kind, item: Item) -> None:
        """Take the object away at once."""
        meta = item["metadata"]
        before = self.find(kind, meta.get("namespace", ""), meta["name"])
        if before is not None and before["metadata"]["uid"] == meta["uid"]:
            self._write("DELETED", kind, before, before)

    def set_status(self, kind: Kind, item: Item, **fields: Any) -> Item:
        """Merge fields into the status; None removes one."""
        status = {**(item.get("status") or {}), **fields}
        status = {key: value for key, value in status.items() if value is not None}
        return self.update(kind, {**item, "status": status})

    def since(self, kind: Kind, version: int) -> list[Change]:
        """Changes of a kind after `version`; raises the 410 refusal when they are forgotten."""
        full = len(self._history) == HISTORY
        if full and version < self._history[0].version - 1:
            oldest = self._history[0].version
            raise gone(f"too old resource version: {version} ({oldest})")
        return [
            change for change in self._history if change.version > version and change.kind is kind
        ]

    def encoded(self, kind: Kind, item: Item) -> bytes:
        """The object as JSON without kind and apiVersion; encoded once per version."""
        meta = item["metadata"]
        uid, version = meta["uid"], meta["resourceVersion"]
        known = self._encoded.get(uid)
        if known and known[0] == version:
            return known[1]
        data = json.dumps(item, separators=(",", ":")).encode()
        current = self.find(kind, meta.get("namespace", ""), meta["name"])
        if current is item:
            self._encoded[uid] = (version, data)
        return data

    def uid(self) -> str:
        """A new UID in the usual form."""
        return str(uuid.UUID(int=self.world.rng.getrandbits(128), version=4))

    def free_name(self, kind: Kind, namespace: str, prefix: str) -> str:
        """A generated name that nothing bears."""
        while True:
            letters = "".join(self.world.rng.choice(_NAME_LETTERS) for _ in range(5))
            if self.find(kind, namespace, prefix + letters) is None:
                return prefix + letters

    def _write(self, verb: str, kind: Kind, item: Item, before: Item | None) -> Item:
        self.version += 1
        meta = {**item["metadata"], "resourceVersion": str(self.version)}
        body = {key: value for key, value in item.items() if key not in {"kind", "apiVersion"}}
        item = {**body, "metadata": meta}
        space = self._tables.setdefault(kind, {}).setdefault(meta.get("namespace", ""), {})
        if verb == "DELETED":
            del space[meta["name"]]
            self._encoded.pop(meta["uid"], None)
        else:
            space[meta["name"]] = item
        if before is not None:
            self._owners.subtract(_owner_uids(before))
        if verb != "DELETED":
            self._owners.update(_owner_uids(item))
        change = Change(self.version, verb, kind, item, before)
        self._history.append(change)
        for listener in tuple(self._listeners):
            listener(change)
        return item


def _owner_uids(item: Item) -> list[str]:
    return [owner["uid"] for owner in item["metadata"].get("ownerReferences") or ()]


def controller_of(item: Item) -> dict[str, Any] | None:
    """The owner reference that has `controller: true`."""
    for owner in item["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return dict(owner)
    return None


def stamp(micros: int) -> str:
    """A time as Kubernetes writes it: whole seconds, UTC."""
    return iso(micros - micros % SECOND)[:19] + "Z"
