"""What one event of a watch may have changed: the whole cluster, a namespace, one object, nothing.

Each new isolation is a change in its namespace, so without this every one would have all others
looked at again. Three things are known to be no matter to others:

- A policy that allows nothing and speaks only of one value of our label: policies add up, so
  whether it comes or goes, the traffic of pods without that value stays what it was
  (https://kubernetes.io/docs/concepts/services-networking/network-policies/). It matters to the
  isolation that it belongs to, which is told by its name.
- A pod with our label tells nothing of other pods.
- What an isolation of ours writes (`underway`): its proof comes after it.

It must never keep quiet where it cannot tell: a policy that was changed may have said anything
before, so its whole namespace is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from integrations.kubernetes.marks import LABEL
from integrations.kubernetes.underway import Underway

__all__ = ["Hearing", "only_denies"]

Json = dict[str, Any]


def only_denies(policy: Json) -> bool:
    """Whether a policy can do nothing but deny, and only for pods with one value of our label."""
    spec = policy.get("spec") or {}
    selector = spec.get("podSelector") or {}
    return (
        set(spec) <= {"podSelector", "policyTypes"}
        and set(selector) == {"matchLabels"}
        and set(selector["matchLabels"] or {}) == {LABEL}
    )


@dataclass(slots=True)
class Hearing:
    """Where events may matter: "" is the whole cluster, then "namespace" and "namespace/name"."""

    underway: Underway
    _spaces: dict[str, Any] = field(default_factory=dict)  # labels of namespaces, as last heard
    _pods: dict[str, Any] = field(default_factory=dict)  # what counts of pods, as last heard

    def places(self, kind: str, verb: str, item: Json) -> list[str]:
        """Where this event may matter; empty where it cannot."""
        metadata = item["metadata"]
        if kind == "Namespace":
            return self._namespace(verb, metadata)
        place = f"{metadata.get('namespace', '')}/{metadata['name']}"
        if kind == "Pod":
            news = self._pod(place, verb, metadata)
        elif kind == "NetworkPolicy" and verb in {"ADDED", "DELETED"} and only_denies(item):
            news = True
        else:
            return [metadata.get("namespace", "")]
        return [place] if news and not self.underway.knows(item) else []

    def _namespace(self, verb: str, metadata: Json) -> list[str]:
        name, labels = metadata["name"], metadata.get("labels") or {}
        before = self._spaces.get(name)
        if verb == "DELETED":
            self._spaces.pop(name, None)
        else:
            self._spaces[name] = labels
        if before is not None and before == labels:
            return [name]
        return [name, ""]  # policies elsewhere may mean its labels

    def _pod(self, place: str, verb: str, metadata: Json) -> bool:
        """Whether anything is new that an isolation stands on; its status is not."""
        now = [metadata.get(key) for key in ("uid", "labels", "annotations", "deletionTimestamp")]
        before = self._pods.pop(place, None)
        if verb == "DELETED":
            return True
        self._pods[place] = now
        return bool(now != before)
