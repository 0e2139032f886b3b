"""Label and field selectors: read once, then matched against objects.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from responder.sandbox.failure import bad_request

__all__ = ["Test", "field_test", "label_test", "matches", "selects"]

Test = Callable[[Mapping[str, Any]], bool]
_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")
_EQUAL = re.compile(r"^([^\s=!]+)\s*(==|=|!=)\s*([^\s=!]*)$")
_KEY = re.compile(r"^(!?)\s*([A-Za-z0-9][A-Za-z0-9_./-]*)$")
_SPLIT = re.compile(r",(?![^(]*\))")
_ALLOWED = {
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "reason",
    "type",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.uid",
}


def _requirement(text: str) -> tuple[str, str, tuple[str, ...]]:
    if found := _SET.match(text):
        key, verb, values = found.groups()
        return key, verb, tuple(value.strip() for value in values.split(","))
    if found := _EQUAL.match(text):
        key, sign, value = found.groups()
        return key, "notin" if sign == "!=" else "in", (value,)
    if found := _KEY.match(text):
        return found[2], "absent" if found[1] else "present", ()
    raise bad_request(f"unable to parse requirement: {text!r}")


def _holds(labels: Mapping[str, str], key: str, verb: str, values: tuple[str, ...]) -> bool:
    if verb == "present":
        return key in labels
    if verb == "absent":
        return key not in labels
    inside = key in labels and labels[key] in values
    return inside if verb == "in" else not inside


def label_test(text: str) -> Test | None:
    """A test for `a=b,c in (d,e),!f`; None when there is nothing to test."""
    if not text.strip():
        return None
    wanted = [_requirement(part.strip()) for part in _SPLIT.split(text)]

    def test(item: Mapping[str, Any]) -> bool:
        labels = item["metadata"].get("labels") or {}
        return all(_holds(labels, *requirement) for requirement in wanted)

    return test


def field_test(text: str) -> Test | None:
    """A test for `metadata.name=x,involvedObject.uid=y`; unknown fields are refused with 400."""
    if not text.strip():
        return None
    wanted: list[tuple[list[str], bool, str]] = []
    for part in text.split(","):
        found = _EQUAL.match(part.strip())
        if not found:
            raise bad_request(f"invalid field selector: {part!r}")
        if found[1] not in _ALLOWED:
            raise bad_request(f"field label not supported: {found[1]}")
        wanted.append((found[1].split("."), found[2] != "!=", found[3]))

    def test(item: Mapping[str, Any]) -> bool:
        return all((_dig(item, path) == value) is equal for path, equal, value in wanted)

    return test


def _dig(item: Any, path: list[str]) -> str:
    for key in path:
        item = item.get(key) if isinstance(item, Mapping) else None
    return "" if item is None else str(item)


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector object selects these labels; an empty one selects all, None none."""
    if selector is None:
        return False
    plain = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in plain.items()):
        return False
    verbs = {"In": "in", "NotIn": "notin", "Exists": "present", "DoesNotExist": "absent"}
    return all(
        _holds(labels, item["key"], verbs[item["operator"]], tuple(item.get("values") or ()))
        for item in selector.get("matchExpressions") or ()
    )


def matches(selector: Mapping[str, Any] | None, item: Mapping[str, Any]) -> bool:
    """Whether a LabelSelector object selects this object."""
    return selects(selector, item["metadata"].get("labels") or {})
