# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.label` and `kubernetes.annotate`: mark one object for people and other tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import editing
from integrations.kubernetes.client import Json
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.owners import controller_of
from integrations.kubernetes.paths import named
from integrations.kubernetes.rights import right
from integrations.kubernetes.workloads import workload_of
from responder.errors import StepFailed
from responder.model import Blast, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending
from responder.text import cut, for_terminal

__all__ = ["ANNOTATE", "LABEL", "Mark"]

KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod")
_OURS = "responder.dev/"
_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_LONGEST = 4096


def _info(verb: str, field: str) -> ActionInfo:
    return ActionInfo(
        name=f"kubernetes.{verb}",
        summary=f"Set {field} of one pod or workload, or take them away",
        effect=Effect.CHANGE,
        params={
            field: Param(
                type="map", summary="key: text; an empty text takes the key away", required=True
            ),
            "pod": Param(type="kubernetes.pod", summary="namespace/name, or a name"),
            "workload": Param(type="string", summary="Kind/name, when it is no pod"),
            "namespace": Param(type="string", summary="The workload's; the target's by default"),
        },
        results={"object": Param(type="string", summary="Kind/name that was marked")},
        permissions=tuple(right(kind, "get", "patch", why=f"its {field}") for kind in KINDS),
        undoable=True,
        concern="deployer",
        timeout=30.0,
        example={"pod": "shop/cart-7f9c", field: {"team.example/incident": "42"}},
    )


LABEL = _info("label", "labels")
ANNOTATE = _info("annotate", "annotations")


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class Mark:
    """Sets what it is told and nothing else. Never touches our own marks."""

    fleet: Fleet
    info: ActionInfo

    @property
    def _field(self) -> str:
        return "labels" if self.info is LABEL else "annotations"

    async def plan(self, call: Call) -> Plan:
        """Read the object. Raises `StepFailed` for a key or text that cannot stand there."""
        api = self.fleet.api(call)
        after = _wanted(call.params[self._field], labels=self._field == "labels")
        kind, namespace, name = self._place(call)
        await self.fleet.require(api, self.info, namespace)
        item = await api.get(named(kind, namespace, name))
        if kind == "Pod":
            self.fleet.confirm(call, item)
        lens = _lens(self._field, after)
        plan = Plan(
            action=call.action,
            summary=f"set {self._field} of {kind} {namespace}/{name}",
            changes=editing.change(api, item, kind, lens, after),
            blast=Blast(namespaces=(namespace,), labels=dict(item["metadata"].get("labels") or {})),
            residual=_consequence(item, kind) if self._field == "labels" else (),
            undo=f"put the former {self._field} back",
            params={"object": f"{kind}/{name}", "namespace": namespace, self._field: after},
            data=editing.place_of(item, kind, lens, after),
        )
        await editing.rehearse(self.fleet, api, plan, lens)
        return plan

    def _place(self, call: Call) -> tuple[str, str, str]:
        if call.params.get("pod"):
            return ("Pod", *self.fleet.place(call))
        return workload_of(call, KINDS)

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Set them. Raises `Conflict` when somebody else changed the same keys."""
        await editing.apply(self.fleet.api(call), plan, _lens(self._field, plan.data["after"]))
        return Done(result={"object": f"{plan.data['kind']}/{plan.data['name']}"})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Read it afresh. Raises `StepFailed` with the difference."""
        item = await editing.read(self.fleet.api(call), plan.data)
        editing.must_hold(item, plan.data, _lens(self._field, plan.data["after"]))
        return Verdict(level=VerdictLevel.ENFORCED, checks={self._field: "as planned"})

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Put the former texts back. Raises `Conflict` with the difference."""
        await editing.undo(self.fleet.api(call), plan, _lens(self._field, plan.data["after"]))
        return Done()


def _lens(field: str, keys: Mapping[str, Any]) -> editing.Lens:
    """The chosen keys of labels or annotations; an absent one is None."""

    def read(item: Json) -> dict[str, Any]:
        found = item["metadata"].get(field) or {}
        return {key: found.get(key) for key in keys}

    return editing.Lens(read=read, write=lambda values: {"metadata": {field: dict(values)}})


def _wanted(given: Any, *, labels: bool) -> dict[str, str | None]:
    if not isinstance(given, Mapping) or not given:
        raise StepFailed("expected at least one key with its text")
    found: dict[str, str | None] = {}
    for key, value in given.items():
        text = "" if value is None else str(value)
        fits = _VALUE.fullmatch(text) if labels else len(text) <= _LONGEST
        if not _KEY.fullmatch(str(key)) or not fits:
            shown = for_terminal(cut(f"{key}: {text}", 120))
            raise StepFailed(f"{shown!r} cannot be a key and its text in Kubernetes")
        if str(key).startswith(_OURS):
            raise StepFailed(f"{key}: keys under {_OURS} tell of quarantines and are not set so")
        found[str(key)] = text or None
    return found


def _consequence(item: Json, kind: str) -> tuple[str, ...]:
    told = ["a policy, Service or budget that selects by these labels is not judged here"]
    owner = controller_of(item)
    if kind == "Pod" and owner:
        told.append(f"{owner.label} lets the pod go when its selector no longer matches")
    return tuple(told)
