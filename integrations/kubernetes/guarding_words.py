"""What the guard's expressions share: who we are, what is used, and what differs. Pure.

They judge by what differs between the old and the new object, because the API server has filled in
both by then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from integrations.kubernetes.holding import KEEP

__all__ = ["ALIKE", "SAME", "Need", "is_ours", "text", "variables"]

_MANAGER = "app.kubernetes.io/managed-by"
_USE = "kubernetes."
_PREFIX = "responder.dev/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the loaded playbooks write, and as whom."""

    home: str
    account: str
    user: str
    words: frozenset[str]  # "action" and "action param=value"
    writes: frozenset[tuple[str, str]]  # group/resource and operation
    at_home: frozenset[tuple[str, str]]  # those of them that our own namespace is for

    def uses(self, *actions: str) -> bool:
        """Whether one of these actions is used."""
        return any(f"{_USE}{action}" in self.words for action in actions)

    def says(self, action: str, param: str, *values: str) -> bool:
        """Whether a step gives a parameter one of these values, or one that is not known yet."""
        return any(f"{_USE}{action} {param}={value}" in self.words for value in (*values, "*"))


def variables() -> list[dict[str, str]]:
    """What the expressions share. Each is worked out only where one asks for it."""
    found = {
        "what": "request.resource.group + '/' + request.resource.resource + "
        "(has(request.subResource) && request.subResource != '' ? '/' + request.subResource : '')",
        "place": "has(request.namespace) ? request.namespace : ''",
        "newLabels": _table("object", "labels"),
        "oldLabels": _table("oldObject", "labels"),
        "newNotes": _table("object", "annotations"),
        "oldNotes": _table("oldObject", "annotations"),
        # the names of what differs in `spec`
        "changed": "(has(object.spec) ? object.spec.filter(k, !has(oldObject.spec) || "
        "!(k in oldObject.spec) || object.spec[k] != oldObject.spec[k]) : []) + "
        "(has(oldObject.spec) ? oldObject.spec.filter(k, !has(object.spec) || "
        "!(k in object.spec)) : [])",
        "bound": " && ".join(
            f"({_or_none('object', field)}) == ({_or_none('oldObject', field)})"
            for field in ("finalizers", "ownerReferences")
        ),
        "marks": _only("newNotes", "oldNotes", f"k.startsWith({text(_PREFIX)}) || k in {_KEPT}"),
    }
    return [{"name": name, "expression": said} for name, said in found.items()]


def text(word: str) -> str:
    """A text as an expression writes it."""
    return json.dumps(word)


# the API server counts in this one itself when the template of a DaemonSet changes
_COUNTED = "deprecated.daemonset.template.generation"
_KEPT = f"[{', '.join(text(key) for key in (*KEEP, _COUNTED))}]"


def _table(item: str, field: str) -> str:
    there = f"{item} != null && has({item}.metadata) && has({item}.metadata.{field})"
    return f"{there} ? dyn({item}.metadata.{field}) : dyn({{}})"


def _or_none(item: str, field: str) -> str:
    return f"has({item}.metadata.{field}) ? dyn({item}.metadata.{field}) : dyn([])"


def _only(new: str, old: str, chosen: str) -> str:
    """Whether no key but the chosen ones is new, gone, or another."""
    new, old = f"variables.{new}", f"variables.{old}"
    return (
        f"{new}.all(k, (k in {old} && {old}[k] == {new}[k]) || {chosen}) && "
        f"{old}.all(k, k in {new} || {chosen})"
    )


def is_ours(labels: str) -> str:
    """Whether these labels say that we made the object."""
    table = f"variables.{labels}"
    return f"{text(_MANAGER)} in {table} && {table}[{text(_MANAGER)}] == 'responder'"


SAME = "variables.newLabels == variables.oldLabels"
ALIKE = "variables.bound && variables.newNotes == variables.oldNotes"
