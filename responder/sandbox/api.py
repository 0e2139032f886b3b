"""The verbs of the sandbox's API server over its objects, without any HTTP.

Order of checks, numbers and words follow the real server; the contract suite holds both to it.
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from responder.sandbox.effects import Effects
from responder.sandbox.failure import (
    Refusal,
    already_exists,
    bad_request,
    conflict,
    not_found,
    precondition,
    too_many,
)
from responder.sandbox.kinds import BY_KIND, Kind, kind_named
from responder.sandbox.objects import Item, Objects, stamp
from responder.sandbox.patches import json_patch, merge_patch, strategic_patch
from responder.sandbox.rules import check, check_update, with_defaults
from responder.sandbox.selectors import matches
from responder.sandbox.workloads import ending_pod, is_ready

__all__ = ["Api", "Place", "full"]

POD, NAMESPACE, BUDGET = map(kind_named, ("Pod", "Namespace", "PodDisruptionBudget"))
_PATCHES: Mapping[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": merge_patch,
    "application/json-patch+json": json_patch,
    "application/strategic-merge-patch+json": strategic_patch,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a path points at."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    sub: str = ""


def full(kind: Kind, item: Item) -> Item:
    """The object with its kind and apiVersion."""
    return {"kind": kind.kind, "apiVersion": kind.api_version, **item}


class Api:
    """Reads and writes as a caller from outside. Raises `Refusal`."""

    def __init__(self, objects: Objects, effects: Effects) -> None:
        self._objects, self._effects = objects, effects

    def create(self, place: Place, body: Item, *, dry: bool) -> Item:
        """POST of a new object."""
        kind, meta = place.kind, dict(_meta(place.kind, body))
        if kind.namespaced:
            if meta.setdefault("namespace", place.namespace) != place.namespace:
                text = (
                    "the namespace of the provided object does not match the namespace sent "
                    "on the request"
                )
                raise bad_request(text)
            if self._objects.find(NAMESPACE, "", place.namespace) is None:
                raise not_found(NAMESPACE, place.namespace)
        if meta.get("resourceVersion"):
            raise Refusal(500, "", "resourceVersion should not be set on objects to be created")
        for key in ("uid", "creationTimestamp", "generation", "resourceVersion", "selfLink"):
            meta.pop(key, None)
        if not meta.get("name") and meta.get("generateName"):
            space = meta.get("namespace", "")
            meta["name"] = self._objects.free_name(kind, space, meta["generateName"])
        body = {key: value for key, value in body.items() if key != "status" or not kind.has_status}
        item = with_defaults(kind, {**body, "metadata": meta})
        check(kind, item)
        if dry:
            return self._imagined(kind, item)
        made = self._objects.create(kind, item)
        self._effects.created(kind, made)
        if kind is NAMESPACE:
            account = {"metadata": {"name": "default", "namespace": made["metadata"]["name"]}}
            self._objects.create(kind_named("ServiceAccount"), account)
        return made

    def _imagined(self, kind: Kind, item: Item) -> Item:
        """What a creation would have made."""
        meta = item["metadata"]
        if self._objects.find(kind, meta.get("namespace", ""), meta["name"]) is not None:
            raise already_exists(kind, meta["name"])
        now = stamp(self._objects.world.clock.now())
        extra: dict[str, Any] = {"uid": self._objects.uid(), "creationTimestamp": now}
        if kind.counts_generation:
            extra["generation"] = 1
        return {**item, "metadata": {**meta, **extra}}

    def replace(self, place: Place, body: Item, *, dry: bool) -> Item:
        """PUT in place of an object; only its status with the subresource."""
        before = self._objects.get(place.kind, place.namespace, place.name)
        if place.sub == "scale":
            return self._scale(place, before, body, dry=dry)
        if (
            _meta(place.kind, body).get("uid", before["metadata"]["uid"])
            != before["metadata"]["uid"]
        ):
            raise conflict(place.kind, place.name)
        return self._swap(place, before, body, dry=dry)

    def patch(self, place: Place, patch: Any, content_type: str, *, dry: bool) -> Item:
        """PATCH in one of three languages; only its status with the subresource."""
        language = _PATCHES.get(content_type)
        if language is None:
            text = f"the body of the request was in an unknown format: {content_type}"
            raise Refusal(415, "UnsupportedMediaType", text, {})
        before = self._objects.get(place.kind, place.namespace, place.name)
        if language is not json_patch and not isinstance(patch, dict):
            raise bad_request("error decoding patch: the patch must be an object")
        if place.sub == "scale":
            return self._scale(place, before, language(_scale_of(before), patch), dry=dry)
        return self._swap(place, before, language(before, patch), dry=dry)

    def _swap(self, place: Place, before: Item, after: Any, *, dry: bool) -> Item:
        kind, old = place.kind, before["metadata"]
        meta = _meta(kind, after)
        if meta.get("name", old["name"]) != old["name"]:
            text = (
                f"the name of the object ({meta['name']}) does not match the name on the URL "
                f"({old['name']})"
            )
            raise bad_request(text)
        if meta.get("resourceVersion") not in {None, "", old["resourceVersion"]}:
            raise conflict(kind, old["name"])
        if place.sub == "status":
            after = {**before, "status": after.get("status") or {}}
        else:
            after = with_defaults(kind, {**after, "metadata": _kept(old, meta)})
            if kind.has_status:
                after = {**after, "status": before.get("status") or {}}
            check_update(
                kind, before, {**after, "metadata": {**after["metadata"], "uid": meta.get("uid")}}
            )
            check(kind, after)
        bare: Item = {key: after[key] for key in after if key not in {"kind", "apiVersion"}}
        if dry:
            return bare
        written = self._objects.update(kind, bare)
        if written is not before and place.sub != "status":
            self._effects.changed(kind, before, written)
        ending = written["metadata"].get("deletionTimestamp")
        if ending and kind is not POD and not written["metadata"].get("finalizers"):
            self._objects.delete(kind, written)
        return written

    def _scale(self, place: Place, before: Item, body: Item, *, dry: bool) -> Item:
        size = (body.get("spec") or {}).get("replicas", 0)
        after = {**before, "spec": {**before["spec"], "replicas": size}}
        if (body.get("metadata") or {}).get("resourceVersion") not in {
            None,
            "",
            before["metadata"]["resourceVersion"],
        }:
            raise conflict(place.kind, place.name)
        if not dry and after != before:
            after = self._objects.update(place.kind, after)
            self._effects.changed(place.kind, before, after)
        return _scale_of(after)

    def scale(self, place: Place) -> Item:
        """GET of the scale subresource."""
        return _scale_of(self._objects.get(place.kind, place.namespace, place.name))

    def delete(self, place: Place, options: Mapping[str, Any], *, dry: bool) -> Item:
        """DELETE with preconditions, grace and propagation; answers as the real server does."""
        kind = place.kind
        item = self._objects.get(kind, place.namespace, place.name)
        _check_preconditions(kind, item, options.get("preconditions") or {})
        if not dry:
            self._effects.deleted(kind, item)
        return self._remove(kind, item, options, dry=dry)

    def _remove(self, kind: Kind, item: Item, options: Mapping[str, Any], *, dry: bool) -> Item:
        meta = item["metadata"]
        if kind is POD:
            return full(kind, self._end_pod(item, options.get("gracePeriodSeconds"), dry=dry))
        if not dry:
            if options.get("propagationPolicy") == "Orphan" or options.get("orphanDependents"):
                self._orphan(meta["uid"], meta.get("namespace", ""))
            if meta.get("finalizers"):
                now = stamp(self._objects.world.clock.now())
                marked = {**item, "metadata": {**meta, "deletionTimestamp": now}}
                return full(kind, self._objects.update(kind, marked))
            if kind is NAMESPACE:
                self._empty(meta["name"])
            self._objects.delete(kind, item)
        details = {"name": meta["name"], "kind": kind.plural, "uid": meta["uid"]}
        if kind.group:
            details["group"] = kind.group
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }

    def _end_pod(self, pod: Item, grace: int | None, *, dry: bool) -> Item:
        meta = pod["metadata"]
        seconds = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        if not pod["spec"].get("nodeName"):
            seconds = 0
        marked = pod
        if seconds < meta.get("deletionGracePeriodSeconds", seconds + 1):
            marked = ending_pod(self._objects, pod, seconds)
        if dry:
            return marked
        marked = self._objects.update(POD, marked)
        if seconds == 0 and not meta.get("finalizers"):
            self._objects.delete(POD, marked)
        return marked

    def _empty(self, namespace: str) -> None:
        for kind in BY_KIND.values():
            if kind.namespaced:
                for item in self._objects.items(kind, namespace):
                    self._objects.delete(kind, item)

    def _orphan(self, uid: str, namespace: str) -> None:
        for kind in BY_KIND.values():
            for item in self._objects.items(kind, namespace):
                owners = item["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == uid for owner in owners):
                    meta = {**item["metadata"]}
                    meta["ownerReferences"] = [o for o in owners if o["uid"] != uid]
                    self._objects.update(kind, {**item, "metadata": meta})

    def evict(self, place: Place, body: Item, *, dry: bool) -> Item:
        """POST to a pod's eviction: a deletion that disruption budgets may refuse with 429."""
        if not isinstance(body, dict):
            raise bad_request("the object provided is unrecognized (must be of type Eviction)")
        if (body.get("metadata") or {}).get("name", place.name) != place.name:
            raise bad_request("name in URL does not match name in Eviction object")
        pod = self._objects.get(POD, place.namespace, place.name)
        options = body.get("deleteOptions") or {}
        _check_preconditions(POD, pod, options.get("preconditions") or {})
        budgets = [
            item
            for item in self._objects.items(BUDGET, place.namespace)
            if matches((item.get("spec") or {}).get("selector"), pod)
        ]
        if len(budgets) > 1:
            text = (
                "This pod has more than one PodDisruptionBudget, which the eviction subresource "
                "does not support."
            )
            raise Refusal(500, "", text)
        if budgets and pod["status"].get("phase") == "Running":
            self._take_from(budgets[0], pod, dry=dry)
        if not dry:
            self._effects.count("evictions", f"{place.namespace}/{place.name}")
        self._end_pod(pod, options.get("gracePeriodSeconds"), dry=dry)
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "code": 201,
        }

    def _take_from(self, item: Item, pod: Item, *, dry: bool) -> None:
        status, name = item.get("status") or {}, item["metadata"]["name"]
        allowed = status.get("disruptionsAllowed", 0)
        healthy, needed = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
        if not is_ready(pod) and healthy >= needed > 0:
            return  # https://kubernetes.io/docs/tasks/run-application/configure-pdb/
        if allowed < 1:
            text = "Cannot evict pod as it would violate the pod's disruption budget."
            cause = (
                f"The disruption budget {name} needs {needed} healthy pods and has {healthy} "
                "currently"
            )
            raise too_many(text, cause)
        if not dry:
            self._objects.set_status(BUDGET, item, disruptionsAllowed=allowed - 1)


def _meta(kind: Kind, body: Any) -> dict[str, Any]:
    """The metadata of a body that is an object of the right kind."""
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind.kind})")
    word, version = body.get("kind") or kind.kind, body.get("apiVersion") or kind.api_version
    if word not in {kind.kind, "Scale"}:
        raise bad_request(f'{word} in version "{kind.version}" cannot be handled as a {kind.kind}')
    if version != kind.api_version and word != "Scale":
        text = (
            f"the API version in the data ({version}) does not match the expected API version "
            f"({kind.api_version})"
        )
        raise bad_request(text)
    meta = body.get("metadata")
    if meta is None:
        meta = {}
    if not isinstance(meta, dict):
        raise bad_request(f"{kind.kind} cannot be handled: metadata must be an object")
    for key in ("labels", "annotations"):
        words = meta.get(key) or {}
        if not isinstance(words, dict) or not all(isinstance(w, str) for w in words.values()):
            text = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
            raise bad_request(f"{text}: metadata.{key} must be a map of texts")
    return meta


def _kept(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """New metadata with the parts that only the server sets."""
    meta = {key: value for key, value in new.items() if value not in ({}, [], None)}
    for key in (
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ):
        meta.pop(key, None)
        if key in old:
            meta[key] = old[key]
    return meta


def _check_preconditions(kind: Kind, item: Item, wanted: Mapping[str, Any]) -> None:
    meta = item["metadata"]
    for key, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(key) and wanted[key] != meta[key]:
            raise precondition(kind, meta["name"], word, wanted[key], meta[key])


def _scale_of(item: Item) -> Item:
    meta = item["metadata"]
    plain = (item["spec"].get("selector") or {}).get("matchLabels") or {}
    keys = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in keys if key in meta},
        "spec": {"replicas": item["spec"].get("replicas", 0)},
        "status": {
            "replicas": (item.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{k}={v}" for k, v in sorted(plain.items())),
        },
    }


def parse(body: bytes, kind: Kind) -> Any:
    """The JSON of a request; raises the 400 refusal."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        text = (
            f"the object provided is unrecognized (must be of type {kind.kind}): json parse error"
        )
        raise bad_request(text) from error
