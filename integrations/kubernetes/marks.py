"""What an isolation writes on a pod and on its own objects, and how it is read again. Pure.

The pod carries what is needed to put it back; our own objects carry a copy, because whoever can
patch the pod could forge the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from integrations.kubernetes.client import Json
from integrations.kubernetes.owners import Owner
from responder.errors import StepFailed

__all__ = [
    "ESCALATED",
    "EXPIRES",
    "INCIDENT",
    "KEY",
    "LABEL",
    "MARKS",
    "ORIGINAL",
    "OWNER",
    "SUSPENDED",
    "kept_twice",
    "mark",
    "memory_of",
    "policy_name",
    "rewound",
    "word",
]

LABEL = "responder.dev/quarantine"
ORIGINAL = "responder.dev/original-labels"
KEY = "responder.dev/key"
INCIDENT = "responder.dev/incident"
EXPIRES = "responder.dev/expires-after"
OWNER = "responder.dev/released-by"
ESCALATED = "responder.dev/escalated"  # which deny there is beside the NetworkPolicy
SUSPENDED = "responder.dev/suspended"  # the CronJob that was suspended
MARKS = (ORIGINAL, KEY, INCIDENT, EXPIRES, OWNER, ESCALATED, SUSPENDED)


def policy_name(value: str) -> str:
    """The policy of a quarantine label's value: named after the pod, so that there is only one."""
    return f"responder-quarantine-{value.rpartition('-')[2]}"


def memory_of(pod: Json, key: str) -> Mapping[str, str]:
    """What a mark on the pod tells; nothing without it."""
    annotations = pod["metadata"].get("annotations") or {}
    return mark(annotations, key) if key in annotations else {}


def rewound(pod: Json, key: str) -> Json:
    """The pod as it was before this very step relabelled it; any other pod unchanged."""
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    if annotations.get(KEY) != key or ORIGINAL not in annotations:
        return pod
    plain = {name: text for name, text in annotations.items() if name not in MARKS}
    labels = mark(annotations, ORIGINAL)
    references = metadata.get("ownerReferences") or []
    if not references and OWNER in annotations:
        references = [{**mark(annotations, OWNER), "controller": True}]
    rewound = {**metadata, "labels": labels, "annotations": plain, "ownerReferences": references}
    return {**pod, "metadata": rewound}


def mark(annotations: Mapping[str, str], key: str) -> dict[str, str]:
    """One of our annotations as a table. Raises `StepFailed` when somebody has spoilt it."""
    try:
        found = json.loads(annotations[key])
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise StepFailed(f"annotation {key} was changed and cannot be read: restore it by hand")
    return found


def word(owner: Owner) -> str:
    """An owner as a mark."""
    words = {"kind": owner.kind, "name": owner.name, "uid": owner.uid}
    return json.dumps(words, sort_keys=True)


def kept_twice(marks: Mapping[str, str]) -> dict[str, str]:
    """What our own objects remember too: whoever can patch the pod cannot forge this copy."""
    kept = (ORIGINAL, KEY, INCIDENT, EXPIRES, ESCALATED, SUSPENDED)
    return {key: marks[key] for key in kept if key in marks}
