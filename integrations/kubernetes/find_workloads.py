# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.find_workloads`: everything that runs an image, in waves for a campaign.

A campaign is a playbook: this step finds, and `kubernetes.redeploy` with `for_each` and `at_once`
goes through `canary`, `early` and `rest`, each workload a step of its own with its own plan, proof
and place in the journal. What others own is not in a wave; it is named with what must be done, and
where the image map knows the file, with the change that a pull request proposes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import rollout
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.paths import collection
from integrations.kubernetes.proposing import roads, with_changes
from integrations.kubernetes.rights import right
from integrations.kubernetes.spreading import Found, Seen, spread, waves
from integrations.kubernetes.together import together
from responder.errors import StepFailed
from responder.model import Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, ImageRoute, Param, Pending
from responder.text import for_terminal, suggestion

__all__ = ["INFO", "FindWorkloads"]

_READ = ("Deployment", "StatefulSet", "DaemonSet", "CronJob", "ReplicaSet", "Job", "Pod")
_SKIPPED = ("kube-*", "openshift-*")
_NAMED = 20  # residuals; the result has all
_HEX = frozenset("0123456789abcdef")

INFO = ActionInfo(
    name="kubernetes.find_workloads",
    summary="Find every workload that runs an image, in waves, and who else must change it",
    effect=Effect.READ,
    params={
        "digest": Param(
            type="list", summary="digest of the image, or several; the target's when left out"
        ),
        "image": Param(
            type="image", summary="a name of it, for workloads without pods; the target's"
        ),
        "clusters": Param(type="list", summary="clusters to look in; all when left out"),
        "skip": Param(
            type="list", summary="globs of namespaces to leave out", default=list(_SKIPPED)
        ),
        "canary": Param(type="int", summary="how many go first, alone", default=1),
        "early": Param(type="int", summary="percent of the others that go second", default=10),
        "patched": Param(
            type="image", summary="what shall run instead, repository@sha256:…: for `changes`"
        ),
        "expect_none": Param(
            type="bool", summary="nothing may be left: what is, stays open", default=False
        ),
    },
    results={
        "canary": Param(type="list", summary="first: cluster, namespace, workload, container"),
        "early": Param(type="list", summary="then these"),
        "rest": Param(type="list", summary="then all others"),
        "elsewhere": Param(type="list", summary="not ours to patch: owner, and what to do instead"),
        "count": Param(type="int", summary="how many are in the waves"),
        "clusters": Param(type="list", summary="the clusters that were looked in"),
        "changes": Param(type="list", summary="to propose for those: change, image, digest"),
        "applications": Param(type="list", summary="of Argo CD, that bring such a change"),
        "flux": Param(type="list", summary="objects of Flux that bring such a change"),
        "awaited": Param(type="list", summary="those elsewhere that such a change mends"),
    },
    permissions=tuple(
        right(kind, "list", why="see what runs the image", scope="cluster") for kind in _READ
    ),
    timeout=120.0,
    example={"digest": "${{ target.digest }}"},
)


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class FindWorkloads:
    """Lists and sorts. Never changes anything, and never takes a tag for a digest."""

    fleet: Fleet
    images: Sequence[ImageRoute] = ()  # the image map: what may be proposed, and where
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """An empty plan. Raises `StepFailed` without a digest, a known cluster or the rights."""
        digests, clusters = _digests(call), self._clusters(call)
        _shares(call)
        _patched(call)
        for cluster in clusters:
            await self._require(cluster)
        return Plan(
            action=INFO.name,
            summary=f"find what runs {', '.join(sorted(digests))} in {', '.join(clusters)}",
            params={"digest": sorted(digests), "clusters": list(clusters)},
        )

    async def apply(self, call: Call, plan: Plan) -> Done:
        """The waves. One canary is one of the whole campaign, not of each cluster."""
        canary, early = _shares(call)
        places: list[dict[str, Any]] = []
        elsewhere: list[dict[str, Any]] = []
        for cluster in self._clusters(call):
            found = await self._found(call, cluster)
            places += [one.to_json(cluster) for one in found.places]
            elsewhere += [one.to_json(cluster) for one in found.elsewhere]
        elsewhere = with_changes(elsewhere, self.images)
        first, second, rest = waves(places, canary=canary, early=early)
        return Done(
            result={
                "canary": first,
                "early": second,
                "rest": rest,
                "elsewhere": elsewhere,
                "count": len(places),
                "clusters": list(self._clusters(call)),
                **roads(elsewhere, _patched(call)),
            }
        )

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: looking ends at once."""
        raise StepFailed("kubernetes.find_workloads has nothing to wait for")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """What is left to others stays open; with `expect_none` everything that was found."""
        left = [*result["elsewhere"]]
        if call.params.get("expect_none"):
            left += [one for wave in ("canary", "early", "rest") for one in result[wave]]
        texts = [_still(one) for one in left[:_NAMED]]
        if len(left) > _NAMED:
            texts.append(f"and {len(left) - _NAMED} more")
        level = VerdictLevel.RESIDUAL if left else VerdictLevel.PROVEN
        checks = {"in waves": str(result["count"]), "elsewhere": str(len(result["elsewhere"]))}
        return Verdict(level=level, residual=tuple(texts), checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing was changed."""
        return Done()

    def _clusters(self, call: Call) -> tuple[str, ...]:
        known = tuple(self.fleet.connections)
        asked = call.params.get("clusters") or known
        for name in asked:
            if name not in known:
                raise StepFailed(
                    f"no cluster {for_terminal(str(name), 60)!r} is configured; "
                    f"{suggestion(str(name), known)}"
                )
        return tuple(asked)

    async def _require(self, cluster: str) -> None:
        connection = self.fleet.connections[cluster]
        for namespace in connection.settings.namespaces or ("default",):
            await self.fleet.require(connection.api("bulk"), INFO, namespace)

    async def _found(self, call: Call, cluster: str) -> Found:
        connection = self.fleet.connections[cluster]
        api, settings = connection.api("bulk"), connection.settings
        seen = await _seen(api, settings.namespaces)
        skip = call.params.get("skip")
        names = [str(call.params.get("image") or call.target.image)]
        globs = (*(_SKIPPED if skip is None else map(str, skip)), *settings.protect)
        return spread(seen, _digests(call), [name for name in names if name], globs)


async def _seen(api: Api, namespaces: tuple[str, ...]) -> Seen:
    """Every list of every namespace that is asked, or of the cluster at once."""
    lists: dict[str, list[Json]] = {kind: [] for kind in _READ}
    for namespace in namespaces or ("",):
        answers = await together([api.items(collection(kind, namespace)) for kind in _READ])
        for kind, items in zip(_READ, answers, strict=True):
            lists[kind] += [{**item, "kind": kind} for item in items]
    return Seen(
        workloads=[item for kind in _READ[:4] for item in lists[kind]],
        replica_sets=lists["ReplicaSet"],
        jobs=lists["Job"],
        pods=lists["Pod"],
    )


def _digests(call: Call) -> frozenset[str]:
    asked = call.params.get("digest") or call.target.digest
    listed = [asked] if isinstance(asked, str) else list(asked)
    found = frozenset(str(one).rpartition("@")[2] for one in listed if one)
    for one in found:
        kind, _, digits = one.partition(":")
        if kind != "sha256" or len(digits) != 64 or not set(digits) <= _HEX:  # noqa: PLR2004
            raise StepFailed(f"digest {for_terminal(one, 90)!r}: expected sha256:… in full")
    if not found:
        raise StepFailed("no digest: a tag may mean another image elsewhere, so none is looked for")
    return found


def _patched(call: Call) -> str:
    """The digest of what shall run instead, empty where the step does not say."""
    image = str(call.params.get("patched") or "")
    return rollout.pinned(image).rpartition("@")[2] if image else ""


def _shares(call: Call) -> tuple[int, float]:
    """How many go first, and the share of the others that goes second."""
    canary, early = call.params.get("canary"), call.params.get("early")
    first = 1 if canary is None else int(canary)
    percent = 10 if early is None else int(early)
    if first < 1 or not 0 <= percent <= 100:  # noqa: PLR2004
        raise StepFailed(f"canary {first}, early {percent}: expected 1 or more, and 0 to 100")
    return first, percent / 100


def _still(one: Mapping[str, Any]) -> str:
    where = f"{one['workload']} in {one['namespace']} of cluster {one['cluster']}"
    if "instead" not in one:
        return f"{where} still runs the image"
    owner = f" ({for_terminal(str(one['owner']), 80)})" if one["owner"] else ""
    return f"{where}{owner} still runs the image: {one['instead']}"
