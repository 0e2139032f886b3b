"""One way to deny more than NetworkPolicy can: what it changes, what it leaves open. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from integrations.kubernetes.client import Json
from responder.model import Change

__all__ = ["LEVELS", "Subject", "Tier", "metadata"]

# how far an isolation may go by itself; each level includes the ones before it
LEVELS = ("none", "admin", "native", "foreign")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The pod that is to be denied: as it was read, and as it will be labelled."""

    pod: Json
    labels: Mapping[str, str]  # those it will have
    label: tuple[str, str]  # the one that only it has
    name: str  # of everything made for it
    system: str
    marks: Mapping[str, str]  # annotations of everything made for it
    policies: Sequence[Json] = ()  # NetworkPolicies of its namespace

    @property
    def namespace(self) -> str:
        """Where it lives."""
        return str(self.pod["metadata"]["namespace"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A way that can be taken, or (`refusal`) the reason why not."""

    level: str
    kind: str
    changes: tuple[Change, ...] = ()
    memory: Mapping[str, str] = field(default_factory=dict)  # what taking it back needs to know
    notes: tuple[str, ...] = ()  # what else it does
    refusal: str = ""


def metadata(subject: Subject, namespace: str = "", name: str = "") -> Json:
    """The metadata of an object of ours; one in the pod's namespace goes when the pod has gone.

    One without a namespace cannot be owned by a pod: it stays until it is taken back, and denies
    nobody then, as no other pod ever has this label.
    """
    key, value = subject.label
    pod = subject.pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"]}
    return {
        "name": name or subject.name,
        **({"namespace": namespace, "ownerReferences": [owner]} if namespace else {}),
        "labels": {key: value, "app.kubernetes.io/managed-by": "responder"},
        "annotations": dict(subject.marks),
    }
