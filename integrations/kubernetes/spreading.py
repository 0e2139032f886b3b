"""Where an image runs, whose workload that is, and in which order a new one goes there. Pure.

A pod's own report of its digest decides; a workload without pods is judged by the name in its
template. What somebody else owns is never in a wave: a GitOps tool, a Helm release or an operator
would put the old image back, so the change belongs into their source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from integrations.kubernetes import rollout
from integrations.kubernetes.client import Json
from integrations.kubernetes.gitops import source_of
from integrations.kubernetes.identity import digest_in
from integrations.kubernetes.owners import controller_of
from integrations.kubernetes.quarantine import LABEL
from responder.text import for_terminal

__all__ = ["Elsewhere", "Found", "Place", "Seen", "spread", "waves"]

_KINDS = ("Deployment", "DaemonSet", "StatefulSet", "CronJob")  # in the order of a campaign


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was read of one cluster."""

    workloads: Sequence[Json]  # each with its kind
    replica_sets: Sequence[Json] = ()
    jobs: Sequence[Json] = ()
    pods: Sequence[Json] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One container of one workload that runs the image and may be given another."""

    workload: str  # Kind/name
    namespace: str
    container: str
    image: str
    pods: int  # of it that run the image now
    by: str  # digest | name

    def to_json(self, cluster: str) -> dict[str, Any]:
        """As a playbook sees it: `item.workload`, `item.namespace`, …"""
        named = {key: getattr(self, key) for key in self.__slots__}
        return {"cluster": cluster, **named}


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Something that runs the image and is not ours to patch, and what is to be done instead."""

    workload: str
    namespace: str
    owner: str
    instead: str
    image: str = ""  # as its template names it
    tool: str = ""  # argocd | flux, where such a tool brings it
    object: str = ""  # that tool's: an application, or Kind/name
    object_namespace: str = ""

    def to_json(self, cluster: str) -> dict[str, Any]:
        """Plain JSON."""
        return {"cluster": cluster, **{key: getattr(self, key) for key in self.__slots__}}


@dataclass(frozen=True, slots=True)
class Found:
    """All of it, in the order of a campaign."""

    places: tuple[Place, ...]
    elsewhere: tuple[Elsewhere, ...]


@dataclass(slots=True)
class _Use:
    """The pods of one workload, by container: how many run the image, and how many there are."""

    running: dict[str, int] = field(default_factory=dict)
    init: bool = False
    pods: int = 0


def spread(
    seen: Seen, digests: frozenset[str], names: Iterable[str] = (), skip: Sequence[str] = ()
) -> Found:
    """Every place of an image. `names` are names it is known by, `skip` globs of namespaces."""
    uses, called = _uses(seen, digests)
    known = called | frozenset(names)
    places: list[tuple[tuple[Any, ...], Place]] = []
    elsewhere: list[Elsewhere] = []
    mine = set()
    for item in seen.workloads:
        mine.add(item["metadata"]["uid"])
        use = uses.get(item["metadata"]["uid"], _Use())
        found = _places(item, use, digests, known)
        if not found and not use.init:
            continue
        other = _elsewhere(item, skip) or _only_in_init(item, found)
        if other:
            elsewhere.append(replace(other, image=found[0].image) if found else other)
        else:
            places += [(_order(item, one), one) for one in found]
    elsewhere += [_ownerless(pod) for uid, pod in _strangers(seen, digests) if uid not in mine]
    ordered = tuple(place for _, place in sorted(places, key=lambda pair: pair[0]))
    return Found(ordered, tuple(dict.fromkeys(elsewhere)))


def waves(
    places: Sequence[Any], *, canary: int, early: float
) -> tuple[list[Any], list[Any], list[Any]]:
    """The canaries, a share of the others (at least one), and the rest."""
    first, others = list(places[:canary]), list(places[canary:])
    second = -(-int(len(others) * early * 1000) // 1000) if others else 0
    count = max(1, second) if others else 0
    return first, others[:count], others[count:]


# --------------------------------------------------------------------------- pods


def _uses(seen: Seen, digests: frozenset[str]) -> tuple[dict[str, _Use], frozenset[str]]:
    """By the UID of a workload, which of its containers run the image; and the image's names."""
    uses: dict[str, _Use] = {}
    called: set[str] = set()
    above = _owners(seen)
    for pod in seen.pods:
        if _over(pod):
            continue
        use = uses.setdefault(_root(pod, above), _Use())
        use.pods += 1
        for name, image, init in _running(pod, digests):
            called.add(image)
            use.init = use.init or init
            if not init:
                use.running[name] = use.running.get(name, 0) + 1
    return uses, frozenset(called)


def _strangers(seen: Seen, digests: frozenset[str]) -> list[tuple[str, Json]]:
    """Pods that run the image, with the UID of their root; one pod for each root."""
    above = _owners(seen)
    found: dict[str, Json] = {}
    for pod in seen.pods:
        if not _over(pod) and any(True for _ in _running(pod, digests)):
            found.setdefault(_root(pod, above), {**pod, "root": _root_owner(pod, seen)})
    return list(found.items())


def _over(pod: Json) -> bool:
    """Whether it has ended or is going, or is in quarantine: that is no place to roll out."""
    metadata = pod["metadata"]
    ended = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
    isolated = LABEL in (metadata.get("labels") or {})
    return bool(ended or isolated or metadata.get("deletionTimestamp"))


def _running(pod: Json, digests: frozenset[str]) -> Iterable[tuple[str, str, bool]]:
    """Container, its image's name, and whether it is an init container, where it runs the image."""
    spec, status = pod["spec"], pod.get("status") or {}
    for key, init in (("containers", False), ("initContainers", True)):
        statuses = "initContainerStatuses" if init else "containerStatuses"
        said = {one.get("name"): one.get("imageID") or "" for one in status.get(statuses) or []}
        for one in spec.get(key) or []:
            image = str(one.get("image") or "")
            if digest_in(said.get(one["name"], "")) in digests or _pinned(image) in digests:
                yield one["name"], image, init


def _pinned(image: str) -> str:
    return image.rpartition("@")[2] if "@" in image else ""


def _owners(seen: Seen) -> dict[str, str]:
    """UID of a ReplicaSet or Job -> UID of what owns it."""
    found = {}
    for item in (*seen.replica_sets, *seen.jobs):
        if owner := controller_of(item):
            found[item["metadata"]["uid"]] = owner.uid
    return found


def _root(pod: Json, above: Mapping[str, str]) -> str:
    owner = controller_of(pod)
    uid = owner.uid if owner else str(pod["metadata"]["uid"])
    return above.get(uid, uid)


def _root_owner(pod: Json, seen: Seen) -> str:
    """Kind and name of what owns a pod in the end, `Rollout/cart`; empty for a bare pod."""
    owner = controller_of(pod)
    for item in (*seen.replica_sets, *seen.jobs):
        if owner and item["metadata"]["uid"] == owner.uid:
            owner = controller_of(item) or owner
            break
    return owner.label if owner else ""


# --------------------------------------------------------------------------- workloads


def _places(item: Json, use: _Use, digests: frozenset[str], names: frozenset[str]) -> list[Place]:
    found = []
    for one in rollout.template_of(item)["spec"].get("containers") or []:
        image, name = str(one.get("image") or ""), str(one["name"])
        pinned = _pinned(image) in digests
        by_name = image in names and not use.pods
        if name in use.running or pinned or by_name:
            place = Place(
                workload=f"{item['kind']}/{item['metadata']['name']}",
                namespace=item["metadata"]["namespace"],
                container=name,
                image=image,
                pods=use.running.get(name, 0),
                by="digest" if name in use.running or pinned else "name",
            )
            found.append(place)
    return found


def _order(item: Json, place: Place) -> tuple[Any, ...]:
    """Running before idle, kinds in their order, small before great: the canary is the first."""
    return not place.pods, _KINDS.index(item["kind"]), place.pods, place.namespace, place.workload


def _elsewhere(item: Json, skip: Sequence[str]) -> Elsewhere | None:
    """Who else owns a workload, or why it cannot be rolled out; nothing where it is ours to do."""
    metadata = item["metadata"]
    if manager := rollout.manager_of(item):
        return _other(item, manager, "open a pull request to its source, then sync")
    if release := rollout.helm_release(item):
        text = f"open a pull request to the values of release {for_terminal(release, 80)}"
        return _other(item, "Helm", text)
    if owner := controller_of(item):
        return _other(item, owner.label, f"change {owner.label}: its operator would undo a patch")
    if any(fnmatchcase(metadata["namespace"], pattern) for pattern in skip):
        return _other(item, "", "its namespace is left out: roll it out by hand")
    if item["kind"] != "CronJob" and (why := rollout.refusal(item)):
        return _other(item, "", why)
    return None


def _only_in_init(item: Json, found: Sequence[Place]) -> Elsewhere | None:
    if found:
        return None
    return _other(item, "", "an init container runs it: change the template by hand")


def _other(item: Json, owner: str, instead: str) -> Elsewhere:
    metadata = item["metadata"]
    source = source_of(item)
    return Elsewhere(
        workload=f"{item['kind']}/{metadata['name']}",
        namespace=metadata["namespace"],
        owner=owner,
        instead=instead,
        tool=source.tool,
        object=source.object,
        object_namespace=source.namespace,
    )


def _ownerless(pod: Json) -> Elsewhere:
    """A pod whose root is none of the kinds that are rolled out."""
    metadata, root = pod["metadata"], pod["root"]
    kind = root.partition("/")[0]
    if not root:
        owner, instead = "", "nobody owns it: replace the pod"
    elif kind == "Rollout":
        owner, instead = "Argo Rollouts", f"change the image of {root} in its source"
    elif kind in {"Job", "ReplicaSet", "ReplicationController"}:
        owner, instead = "", f"change or delete {root}: it has no rollout"
    else:
        owner, instead = root, f"change {root}: its operator would undo a patch"
    label = root or f"Pod/{metadata['name']}"
    return Elsewhere(workload=label, namespace=metadata["namespace"], owner=owner, instead=instead)
