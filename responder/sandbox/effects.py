"""Counts what callers really changed in the sandbox, so that "exactly once" can be asserted.

Only effects of requests from outside count: not dry runs, refusals, requests that changed nothing,
and not what the sandbox's own controllers, kubelet or pipeline did by themselves.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from responder.sandbox.kinds import Kind
from responder.sandbox.objects import Item

__all__ = ["Effects"]

_WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet"}


class Effects:
    """A tally by sort of effect and by the thing it was done to."""

    def __init__(self) -> None:
        self._tally: dict[str, Counter[str]] = {}

    def count(self, sort: str, thing: str) -> None:
        """One more effect of this sort on this thing."""
        self._tally.setdefault(sort, Counter())[thing] += 1

    def to_json(self) -> dict[str, dict[str, int]]:
        """Sort of effect -> thing -> how often."""
        return {sort: dict(things) for sort, things in sorted(self._tally.items())}

    def created(self, kind: Kind, item: Item) -> None:
        """An object was created from outside."""
        self.count(f"{kind.plural}_created", _thing(item))

    def deleted(self, kind: Kind, item: Item) -> None:
        """An object's deletion was asked for from outside."""
        self.count(f"{kind.plural}_deleted", _thing(item))

    def changed(self, kind: Kind, before: Item, after: Item) -> None:
        """An object was changed from outside; the sort says which part."""
        name = kind.kind
        if name == "Pod" and _labels(before) != _labels(after):
            self.count("relabels", _thing(after))
        elif name in _WORKLOADS and _template(before) != _template(after):
            self.count("rollouts", _thing(after))
        elif name in _WORKLOADS and before["spec"].get("replicas") != after["spec"].get("replicas"):
            self.count("scales", _thing(after))
        else:
            self.count(f"{kind.plural}_changed", _thing(after))


def _thing(item: Item) -> str:
    meta = item["metadata"]
    space = meta.get("namespace", "")
    return f"{space}/{meta['name']}" if space else str(meta["name"])


def _labels(item: Item) -> Any:
    return item["metadata"].get("labels") or {}


def _template(item: Item) -> Any:
    return item["spec"].get("template")
