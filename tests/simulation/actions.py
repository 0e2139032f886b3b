"""The simulated integrations: actions that keep the protocol over a world that does not.

Each looks its key up when an earlier attempt may have got through (`call.resumed`) and trusts the
engine to say so: an engine that forgets to is found by the count of effects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from responder.clock import World
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Alert, Blast, Change, Effect, ObjectRef, Plan, Verdict, VerdictLevel
from responder.ports import Action, ActionInfo, Call, Done, HookInfo, Integration, Param, Pending
from tests.simulation.world import LAG, TRAVEL, Conflicting, Outside, Resolving

__all__ = ["RECHECK", "Build", "Hints", "Look", "Mark", "building", "integration"]

RECHECK = 20.0  # seconds between two looks at what is isolated
_SETTLE = LAG + TRAVEL + 0.1  # after this long, a job that is not listed was never started
_NAME = Param(type="string", summary="which object", required=True)
_APPLIED = Verdict(level=VerdictLevel.APPLIED)


class Mark:
    """Sets a label of one object, with a precondition; can be taken back."""

    def __init__(self, outside: Outside, name: str, mark: str, *, containment: bool) -> None:
        self._outside, self._mark = outside, mark
        self.info = ActionInfo(
            name=name,
            summary=f"set {mark}",
            effect=Effect.CHANGE,
            params={"object": _NAME},
            results={"value": Param(type="string", summary="what it is now")},
            undoable=True,
            containment=containment,
            stage="contained" if containment else "",
            timeout=5.0,
            recheck=RECHECK if containment else 0.0,
        )

    async def plan(self, call: Call) -> Plan:
        """What the object is, perhaps a while ago, and what it would be."""
        name = str(call.params["object"])
        thing = await self._outside.read(name)
        again = not thing.get(self._mark) and await self._outside.ever(name, self._mark, call.key)
        change = Change(
            verb="patch",
            ref=ObjectRef(kind="Thing", name=name, namespace="shop", system="sim"),
            before=thing.get(self._mark),
            after=call.key,
            precondition={"version": str(thing.version)},
        )
        return Plan(
            action=call.action,
            summary=f"{self._mark} {name}",
            changes=(change,),
            blast=Blast(namespaces=("shop",)),
            undo=f"put {self._mark} of {name} back",
            params=call.params,
            data={"version": thing.version, "again": again},
        )

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Set it once; a lost answer is found by looking."""
        outside, name = self._outside, str(call.params["object"])
        outside.applied.append((outside.loop.time(), call.key))
        outside.witness(call, plan)
        if plan.data["again"]:
            return await self._put_back(call, plan)
        if call.resumed and await outside.ever(name, self._mark, call.key):
            return Done(result={"value": call.key})
        effect, version = (self._mark, call.key), int(plan.data["version"])
        try:
            await outside.patch(name, version, self._mark, call.key, effect=effect)
        except Conflicting as error:
            if not await outside.ever(name, self._mark, call.key):
                raise Conflict(str(error)) from None
        return Done(result={"value": call.key})

    async def _put_back(self, call: Call, plan: Plan) -> Done:
        """Set it anew where somebody has taken it away, as the version that was planned on."""
        outside, name = self._outside, str(call.params["object"])
        version = int(plan.data["version"])
        effect = (f"put back {self._mark}", f"{call.key}@{version}")
        try:
            await outside.patch(name, version, self._mark, call.key, effect=effect)
        except Conflicting as error:
            raise Conflict(str(error)) from None
        return Done(result={"value": call.key})

    async def recheck(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """The same as verifying, but a label that is gone was taken away."""
        name = str(call.params["object"])
        if not (await self._outside.read(name, fresh=True)).get(self._mark):
            raise StepFailed(f"{name} is not {self._mark} any more")
        return await self.verify(call, plan, result)

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """It never goes on elsewhere."""
        raise StepFailed("nothing to poll")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """Look at the object; somebody else's change is said, not hidden."""
        thing = await self._outside.read(str(call.params["object"]), fresh=True)
        if thing.get(self._mark) == call.key:
            return _APPLIED
        return Verdict(level=VerdictLevel.RESIDUAL, residual=("somebody changed it since",))

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Take the label away, unless somebody else has set it since."""
        outside, name = self._outside, str(call.params["object"])
        thing = await outside.read(name, fresh=True)
        if not thing.get(self._mark):
            return Done()
        if thing.get(self._mark) != call.key:
            raise Conflict(f"{name}: {self._mark} is {thing.get(self._mark)} by now")
        effect = (f"undo {self._mark}", call.key)
        try:
            await outside.patch(name, thing.version, self._mark, "", effect=effect)
        except Conflicting as error:
            raise Conflict(str(error)) from None
        return Done()


class Look:
    """Reads an object."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self.info = ActionInfo(
            name="sim.look",
            summary="look",
            effect=Effect.READ,
            params={"object": _NAME},
            results={"version": Param(type="int", summary="its version")},
            timeout=5.0,
        )

    async def plan(self, call: Call) -> Plan:
        """Nothing would change."""
        return Plan(action=call.action, summary=f"look at {call.params['object']}")

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Read it."""
        thing = await self._outside.read(str(call.params["object"]))
        return Done(result={"version": thing.version})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """It never goes on elsewhere."""
        raise StepFailed("nothing to poll")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """What was read was read."""
        return _APPLIED

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Nothing was done."""
        raise StepFailed("nothing to undo")


class Build:
    """Starts a job that the forge would start twice, and follows it."""

    def __init__(self, outside: Outside, world: World) -> None:
        self._outside, self._world = outside, world
        self.info = ActionInfo(
            name="sim.build",
            summary="build",
            effect=Effect.CHANGE,
            params={"object": _NAME},
            results={"image": Param(type="string", summary="what came out")},
            stage="built",
            timeout=12.0,
        )

    async def plan(self, call: Call) -> Plan:
        """One dispatch."""
        ref = ObjectRef(kind="Job", name=call.key, system="forge")
        change = Change(verb="dispatch", ref=ref, after=call.params["object"])
        return Plan(action=call.action, summary=f"build {call.key}", changes=(change,))

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Dispatch once: when it may have happened, look until it would be listed."""
        self._outside.applied.append((self._outside.loop.time(), call.key))
        self._outside.witness(call, plan)
        if not (call.resumed and await self._found(call.key)):
            await self._outside.dispatch(call.key)
        return building(call.key)

    async def _found(self, key: str) -> bool:
        clock = self._world.clock
        until = clock.monotonic() + _SETTLE
        while clock.monotonic() < until:
            if await self._outside.find(key):
                return True
            await clock.sleep(0.3)
        return await self._outside.find(key)

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Whether it has ended."""
        try:
            done = await self._outside.job_done(str(state["job"]))
        except NotFound as error:
            raise StepFailed(str(error)) from None
        return Done(result={"image": f"image-{call.key}"}) if done else building(call.key)

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """What came out came out."""
        return _APPLIED

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """A build stays."""
        raise StepFailed("a build cannot be undone")


def building(key: str) -> Pending:
    return Pending(state={"job": key}, after=5, waiting_for=f"job {key}", correlation=f"job:{key}")


class Hints:
    """The forge's webhooks: they say which job to look at, and nothing else."""

    name = "github"  # the only name of a source that brings no alerts
    accepts_status = 202

    def verify(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> None:
        """Everybody may hint."""

    def parse(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[Alert]:
        """A hint is no alert."""
        return []

    def hints(self, headers: Mapping[str, str], body: bytes, hook: HookInfo) -> list[str]:
        """The job that has moved."""
        return [str(json.loads(body)["job"])]


def integration(
    outside: Outside, world: World, build: type[Build] = Build, isolate: type[Mark] = Mark
) -> Integration:
    """Everything of the simulated world; `build` and `isolate` may be planted variants."""
    actions: list[Action] = [
        isolate(outside, "sim.isolate", "isolated", containment=True),
        Mark(outside, "sim.tag", "tagged", containment=False),
        Mark(outside, "sim.rollout", "image", containment=False),
        Look(outside),
        build(outside, world),
    ]
    return Integration(sources=[Hints()], actions=actions, resolvers={"": Resolving(outside)})
