"""The three ways to patch an object; each returns a new object and never changes the old one.

JSON merge patch (RFC 7386), JSON patch (RFC 6902) and the simple cases of the strategic merge:
lists of things with a name are merged by name, `$patch: delete` removes one of them.
https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from responder.sandbox.failure import bad_request, patch_refused

__all__ = ["json_patch", "merge_patch", "strategic_patch"]

_BY_NAME = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "conditions": "type",
    "ownerReferences": "uid",
    "hostAliases": "ip",
}


def merge_patch(old: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = merge_patch(new.get(key), value)
    return new


def strategic_patch(old: Any, patch: Any) -> Any:
    """Like a merge patch, but lists of named things are merged by their name."""
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif key.startswith("$"):
            continue  # directives for order: they change nothing that is looked at here
        elif isinstance(value, list) and key in _BY_NAME:
            new[key] = _merge_list(new.get(key) or [], value, _BY_NAME[key])
        else:
            new[key] = strategic_patch(new.get(key), value)
    return new


def _merge_list(old: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    merged = {item.get(key): item for item in old if isinstance(item, dict)}
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item!r} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = strategic_patch(merged.get(item[key]), item)
    return list(merged.values())


def json_patch(old: Any, operations: Any) -> Any:
    """RFC 6902 as the real server does it: any step that cannot be done refuses the whole (422).

    Two things are looser than the RFC, as in the library the real server uses: `replace` of a
    member that is missing adds it. A body that is no list is refused with 400.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: the patch must be a list of operations")
    document = old
    for operation in operations:
        try:
            document = _apply(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise patch_refused() from error
    return document


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    verb, path = operation["op"], _parts(operation["path"])
    if verb == "test":
        if _get(document, path) != operation.get("value"):
            raise ValueError("test failed")
        return document
    if verb in {"add", "replace"}:
        return _set(document, path, operation["value"], insert=verb == "add")
    if verb == "remove":
        return _remove(document, path)
    if verb in {"move", "copy"}:
        source = _parts(operation["from"])
        value = _get(document, source)
        document = _remove(document, source) if verb == "move" else document
        return _set(document, path, value, insert=True)
    raise ValueError("unknown operation")


def _parts(pointer: str) -> list[str]:
    if pointer == "":
        return []
    if not pointer.startswith("/"):
        raise ValueError("a pointer starts with a slash")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def _get(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _set(document: Any, path: list[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(document, list):
        items = list(document)
        index = len(items) if head == "-" else int(head)
        if not 0 <= index <= len(items):
            raise IndexError(index)
        if rest:
            items[index] = _set(items[index], rest, value, insert=insert)
        elif insert:
            items.insert(index, value)
        else:
            items[index] = value
        return items
    inner = _set(document[head], rest, value, insert=insert) if rest else value
    return {**document, head: inner}


def _remove(document: Any, path: list[str]) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(document, list):
        items = list(document)
        if rest:
            items[int(head)] = _remove(items[int(head)], rest)
        else:
            del items[int(head)]
        return items
    if rest:
        return {**document, head: _remove(document[head], rest)}
    new = dict(document)
    del new[head]
    return new
