"""What of a campaign goes through a repository: which changes, and who brings them then. Pure.

Only what the image map's `changes` name is ever proposed. The same file for many workloads is one
change, and one application or Flux object is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from integrations._merging_routes import change_of
from integrations.kubernetes import rollout
from responder.ports import ImageRoute

__all__ = ["roads", "with_changes"]

Item = Mapping[str, Any]

_OWNERS = ("Argo CD", "Flux", "Helm")


def with_changes(elsewhere: Sequence[Item], routes: Sequence[ImageRoute]) -> list[dict[str, Any]]:
    """The same items, each with the name of the change that mends it; empty where there is none."""
    return [_with_change(one, routes) for one in elsewhere]


def _with_change(item: Item, routes: Sequence[ImageRoute]) -> dict[str, Any]:
    place = f"{item['cluster']}/{item['namespace']}/{item['workload']}"
    ours = item["owner"] in _OWNERS and item["image"]
    change = change_of(routes, item["image"], place) if ours else ""
    if not change:
        return {**item, "change": ""}
    return {**item, "change": change, "instead": f'the change "{change}" of the image map mends it'}


def roads(elsewhere: Sequence[Item], digest: str) -> dict[str, list[dict[str, Any]]]:
    """The results of `kubernetes.find_workloads` that a playbook goes through, in order.

    `changes` to propose, `applications` to sync, `flux` objects to reconcile, and all that is
    `awaited` then, whoever brings it.
    """
    mended = [one for one in elsewhere if one["change"]]
    argo = [one for one in mended if one["tool"] == "argocd" and one["object"]]
    flux = [one for one in mended if one["tool"] == "flux" and one["object"]]
    return {
        "changes": [{**one, "digest": digest} for one in _each(mended, _proposal)],
        "applications": _once(argo, _application, ("cluster", "application", "app_namespace")),
        "flux": _each(flux, _flux),
        "awaited": [dict(one) for one in mended],
    }


def _proposal(one: Item) -> dict[str, Any]:
    return {"change": one["change"], "image": rollout.repository(one["image"])}


def _application(one: Item) -> dict[str, Any]:
    return {
        "cluster": one["cluster"],
        "application": one["object"],
        "app_namespace": one["object_namespace"],
        "namespace": one["namespace"],
        "workload": one["workload"],
        "change": one["change"],
    }


def _flux(one: Item) -> dict[str, Any]:
    return {
        "cluster": one["cluster"],
        "object": one["object"],
        "namespace": one["object_namespace"] or one["namespace"],
        "change": one["change"],
    }


def _each(items: Sequence[Item], made: Callable[[Item], dict[str, Any]]) -> list[dict[str, Any]]:
    return _once(items, made, ())


def _once(
    items: Sequence[Item], made: Callable[[Item], dict[str, Any]], by: Sequence[str]
) -> list[dict[str, Any]]:
    """Each value once, the first of its kind; told apart by some fields, or by all."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for item in items:
        value = made(item)
        found.setdefault(tuple(value[key] for key in by or sorted(value)), value)
    return list(found.values())
