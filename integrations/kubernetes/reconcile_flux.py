# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.reconcile_flux`: have Flux fetch and apply now, and wait until it is ready.

All that is written is Flux's own annotation, on the object and on the way to it: a HelmRelease is
applied by a Kustomization, and that takes from a GitRepository. Its value comes from the step's
key, so asking twice asks once. Never changes a spec, never resumes what its owner suspended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from integrations._forge import correlation_id
from integrations.kubernetes import flux_reading
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist, reference
from integrations.kubernetes.flux_reading import REQUESTED, Link, Stage
from integrations.kubernetes.paths import named, valid_name
from integrations.kubernetes.rights import right
from responder.clock import SECOND, duration
from responder.errors import Conflict, StepFailed, StepRetry
from responder.model import Blast, Change, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending
from responder.text import for_terminal

__all__ = ["INFO", "ReconcileFlux"]

KINDS = ("Kustomization", "HelmRelease")
_ALL = ("GitRepository", *KINDS)
_LOOK_AGAIN = 2.0  # seconds
_WITHIN = "20m"
_PASSES = 60.0  # seconds that an ill state may take to pass: Flux tries again by itself
_DEPTH = 3
INFO = ActionInfo(
    name="kubernetes.reconcile_flux",
    summary="Have Flux fetch and apply now, and wait until the object is ready",
    effect=Effect.CHANGE,
    params={
        "object": Param(type="string", summary="Kustomization/x or HelmRelease/x", required=True),
        "namespace": Param(type="string", summary="the object's", default="flux-system"),
        "cluster": Param(type="string", summary="Cluster; the target's when left out"),
        "revision": Param(
            type="string", summary="commit that must be applied, or a chart's version", default=""
        ),
        "ask": Param(type="bool", summary="false: a Receiver was told, so only wait", default=True),
        "within": Param(type="duration", summary="how long it may take", default=_WITHIN),
    },
    results={
        "object": Param(type="string", summary="Kind/name that is ready"),
        "revision": Param(type="string", summary="what it has applied, in Flux's words"),
    },
    permissions=tuple(
        right(kind, "get", "patch", why="see how far it is, annotate it") for kind in _ALL
    ),
    concern="deployer",
    timeout=60.0,
    example={"object": "Kustomization/shop", "revision": "c" * 40},
)


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class ReconcileFlux:
    """Annotates and waits; see the module for what it never does."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Read the chain. Raises `StepFailed` for what is suspended, or lacks rights."""
        api = self._api(call)
        end, seconds = _asked(call)
        await self.fleet.require(api, self.info, end.namespace)
        chain = await _chain(api, end)
        for link, item in chain:
            if flux_reading.suspended(item):
                raise StepFailed(
                    f"{link.label} is suspended: its owner stopped it, so nothing would be applied"
                )
        asks = call.params.get("ask", True) is not False
        spaces = tuple(dict.fromkeys(link.namespace for link, _ in chain))
        revision = str(call.params.get("revision") or "")
        return Plan(
            action=call.action,
            summary=f"{'reconcile' if asks else 'wait for'} {end.label}",
            changes=tuple(_change(api, link, item) for link, item in chain) if asks else (),
            blast=Blast(
                namespaces=spaces, labels=dict(chain[-1][1]["metadata"].get("labels") or {})
            ),
            residual=_blind(chain, revision),
            params={"object": f"{end.kind}/{end.name}", "namespace": end.namespace}
            | ({"revision": revision} if revision else {}),
            data={
                "chain": [[link.kind, link.namespace, link.name] for link, _ in chain],
                "uids": [item["metadata"]["uid"] for _, item in chain],
                "revision": revision,
                "before": flux_reading.revision_of(*chain[0]),
                "within": seconds,
            },
        )

    def _api(self, call: Call) -> Api:
        cluster = str(call.params.get("cluster") or "")
        target = replace(call.target, cluster=cluster) if cluster else call.target
        return self.fleet.api(replace(call, target=target))

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Annotate each object, the repository first; the same value twice asks once."""
        api = self._api(call)
        token = correlation_id(call.key, call.attempt) if plan.changes else ""
        if token:
            for link, uid in zip(_links(plan.data), plan.data["uids"], strict=True):
                await insist(api, partial(_annotate, api, link, uid, token))
        now = api.connection.world.clock.now()
        state = {**plan.data, "token": token, "since": now, "ill": 0}
        return _pending(state, "asked" if token else "waits")

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Look at the chain; never writes. Raises `StepFailed` when it stays ill or takes long."""
        api = self._api(call)
        now = api.connection.world.clock.now()
        try:
            chain = await _read_again(api, state)
        except StepRetry as silent:
            return _in_time(state, now, str(silent))
        look = flux_reading.judge(chain, state["token"], state["revision"], state["before"])
        if look.stage is Stage.DONE:
            end, item = chain[-1]
            applied = flux_reading.revision_of(end, item)
            return Done(result={"object": f"{end.kind}/{end.name}", "revision": applied})
        ill = look.stage is Stage.ILL
        since = (state["ill"] or now) if ill else 0
        if look.stage is Stage.FAILED or (ill and now > since + int(_PASSES * SECOND)):
            raise StepFailed(look.words)
        return _in_time({**state, "ill": since}, now, look.words)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read it afresh. What the pods run is for `kubernetes.await_image` to say."""
        chain = await _read_again(self._api(call), plan.data)
        revision = str(plan.data["revision"])
        look = flux_reading.judge(chain, "", revision, plan.data["before"])
        if look.stage is not Stage.DONE:
            raise StepFailed(look.words)
        checks = {
            link.label: flux_reading.revision_of(link, item) or "ready" for link, item in chain
        }
        later = flux_reading.moved_on(chain, revision)
        residual = (*plan.residual, *((later,) if later else ()))
        return Verdict(level=VerdictLevel.APPLIED, residual=residual, checks=checks)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """There is none: looking earlier changed nothing that would not have come by itself."""
        raise StepFailed("a reconcile has no undo: revert the commit in its source")


def _asked(call: Call) -> tuple[Link, float]:
    kind, slash, name = str(call.params["object"]).partition("/")
    if not slash or kind not in KINDS:
        shown = for_terminal(str(call.params["object"]), 80)
        raise StepFailed(f"object {shown!r}: expected Kustomization/name or HelmRelease/name")
    namespace = str(call.params.get("namespace") or "flux-system")
    try:
        seconds = duration(str(call.params.get("within") or _WITHIN))
    except ValueError as error:
        raise StepFailed(f"within: {error}") from None
    return Link(kind, valid_name(namespace, "namespace"), valid_name(name, kind)), seconds


async def _chain(api: Api, end: Link) -> list[tuple[Link, Json]]:
    """The object with what it comes from, the repository's end first."""
    found: list[tuple[Link, Json]] = []
    link: Link | None = end
    while link is not None and len(found) < _DEPTH:
        item = await api.get(named(link.kind, link.namespace, link.name))
        found.insert(0, (link, item))
        before = flux_reading.source if link.kind == "Kustomization" else flux_reading.parent
        link = None if link.kind == "GitRepository" else before(item)
    return found


def _blind(chain: list[tuple[Link, Json]], revision: str) -> tuple[str, ...]:
    first = chain[0][0]
    if not revision or first.kind != "Kustomization":
        return ()
    return (f"{first.label} takes from no Git repository: its commit is not looked for",)


def _change(api: Api, link: Link, item: Json) -> Change:
    return Change(
        verb="patch",
        ref=reference(api, link.kind, item),
        after={"annotations": [REQUESTED]},
    )


async def _annotate(api: Api, link: Link, uid: str, token: str) -> None:
    """Look, then write the one annotation. Raises `Conflict` when it is another object now."""
    path = named(link.kind, link.namespace, link.name)
    item = await api.get(path)
    if item["metadata"]["uid"] != uid:
        raise Conflict(f"{link.label} is another one now: expected UID {uid}")
    if (item["metadata"].get("annotations") or {}).get(REQUESTED) != token:
        await api.patch(path, {"metadata": {"uid": uid, "annotations": {REQUESTED: token}}})


def _links(data: Mapping[str, Any]) -> list[Link]:
    return [Link(*one) for one in data["chain"]]


async def _read_again(api: Api, data: Mapping[str, Any]) -> list[tuple[Link, Json]]:
    found = []
    for link, uid in zip(_links(data), data["uids"], strict=True):
        item = await api.get(named(link.kind, link.namespace, link.name))
        if item["metadata"]["uid"] != uid:
            raise StepFailed(f"{link.label} was made anew while it was watched")
        found.append((link, item))
    return found


def _in_time(state: Mapping[str, Any], now: int, words: str) -> Pending:
    if now > state["since"] + int(state["within"] * SECOND):
        end = _links(state)[-1]
        raise StepFailed(f"{end.label} was not ready within {state['within']:g} s: {words}")
    return _pending(state, words)


def _pending(state: Mapping[str, Any], words: str) -> Pending:
    return Pending(state=dict(state), after=_LOOK_AGAIN, waiting_for=words)
