"""Which workload a step speaks of: `Kind/name` in a namespace. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from integrations.kubernetes.paths import valid_name
from responder.errors import StepFailed
from responder.ports import Call

__all__ = ["workload_of"]


def workload_of(call: Call, kinds: Iterable[str]) -> tuple[str, str, str]:
    """Kind, namespace and name; the target's workload when the step names none.

    Raises `StepFailed` for another kind, or without a namespace.
    """
    text = str(call.params.get("workload") or call.target.workload)
    kind, slash, name = text.partition("/")
    known = list(kinds)
    if not slash or kind not in known:
        raise StepFailed(
            f"workload {text!r}: expected one of {', '.join(f'{one}/name' for one in known)}"
        )
    namespace = str(call.params.get("namespace") or call.target.namespace)
    if not namespace:
        raise StepFailed(f"workload {text} has no namespace: give `namespace`")
    return kind, valid_name(namespace, "namespace"), valid_name(name, kind)
