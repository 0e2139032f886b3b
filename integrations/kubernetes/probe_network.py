# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.probe_network`: find out what the cluster's network plug-in does with a policy.

The product does it by itself, after its first proof with packets; this is for a person who wants to
know now, or for a playbook that runs after an upgrade. Its declared rights are those of every probe
with packets, in a role of their own: bind that role where `[clusters.NAME.probe]` has an image.
Touches nothing but short-lived pods, a policy for one of them and a ConfigMap in our own namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Api
from integrations.kubernetes.enforcement import CONFIG, Enforcement
from integrations.kubernetes.enforcement_class import Class
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.rights import right
from responder.errors import StepFailed
from responder.model import Blast, Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "ProbeNetwork"]

INFO = ActionInfo(
    name="kubernetes.probe_network",
    summary="Try with two pods of our own whether NetworkPolicy is enforced, open connections too",
    effect=Effect.CHANGE,
    results={
        "class": Param(type="string", summary="cuts, survives, none or unknown"),
        "text": Param(type="string", summary="The same as a sentence"),
    },
    permissions=(
        right("Pod", "create", "list", "delete", scope="home", why="short-lived probe pods"),
        right("NetworkPolicy", "create", "get", "delete", scope="home", why="a policy to try"),
        right("ConfigMap", "create", "get", "patch", scope="home", why="remember the answer"),
        right(
            "Pod",
            "patch",
            sub="ephemeralcontainers",
            why="try the way out of an isolated pod",
            optional=True,
        ),
        right("Node", "list", why="try from another node; see a new version", optional=True),
        right(
            "DaemonSet",
            "list",
            scope="cluster",
            why="see a changed network plug-in",
            optional=True,
        ),
    ),
    concern="prober",
    timeout=300.0,
)


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class ProbeNetwork:
    """One try for one cluster; what was known before stays known when it does not work."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Say what will be started. Raises `StepFailed` where no probe image is configured."""
        api = self.fleet.api(call)
        home = api.connection.settings.home
        if not api.connection.settings.probe.on:
            raise StepFailed(f"no probe image: set `image` under [clusters.{api.cluster}.probe]")
        await self.fleet.require(api, self.info, home)
        made = [("Pod", "server"), ("Pod", "client"), ("NetworkPolicy", "server")]
        return Plan(
            action=call.action,
            summary=f"try what the network plug-in of cluster {api.cluster} does",
            changes=tuple(
                Change(verb="create", ref=_ref(api, kind, f"responder-probe-{name}"))
                for kind, name in made
            ),
            blast=Blast(namespaces=(home,)),
            residual=("it deletes them again, and keeps the answer in ConfigMap " + CONFIG,),
        )

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Try it now, whatever is known already."""
        known = await _of(self.fleet, call).refresh(again=True)
        return Done(result={"class": known.kind.value, "text": known.text})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends with the answer."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """What is known now; `residual` when it could not be found out."""
        known = _of(self.fleet, call).known
        unknown = known.kind is Class.UNKNOWN or bool(known.fault)
        return Verdict(
            level=VerdictLevel.RESIDUAL if unknown else VerdictLevel.ENFORCED,
            residual=(known.text,) if unknown else (),
            checks={"enforcement": known.text},
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing of it is left, so there is nothing to take back."""
        return Done()


def _of(fleet: Fleet, call: Call) -> Enforcement:
    return fleet.enforcement[fleet.api(call).cluster]


def _ref(api: Api, kind: str, name: str) -> ObjectRef:
    home = api.connection.settings.home
    return ObjectRef(kind=kind, name=name, namespace=home, system=f"cluster:{api.cluster}")
