"""Stand-ins that implement the real ports: a world of named things, and actions that change it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from responder.errors import Conflict, NotFound, StepFailed
from responder.model import (
    Blast,
    Change,
    Effect,
    ObjectRef,
    Plan,
    Target,
    Verdict,
    VerdictLevel,
)
from responder.ports import Action, ActionInfo, Call, Done, Integration, Param, Pending


@dataclass
class Things:
    """The outside world of these tests: things with a version, and a log of what was done."""

    state: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    done: list[tuple[str, str]] = field(default_factory=list)  # (verb, key), each real effect once
    faults: dict[str, list[Exception]] = field(default_factory=dict)  # "phase step" -> raised first
    jobs: dict[str, int] = field(default_factory=dict)  # key -> looks until done
    residual: tuple[str, ...] = ()
    blast: Blast = field(default_factory=lambda: Blast(pods=1, namespaces=("shop",)))
    gate: asyncio.Event | None = None  # when set, apply waits for it

    def fail(self, phase: str, step: str) -> None:
        """Raise the next planted fault, if there is one."""
        waiting = self.faults.get(f"{phase} {step}", [])
        if waiting:
            raise waiting.pop(0)


class Mark:
    """Sets a thing to a value; looks its key up; can be undone."""

    info = ActionInfo(
        name="fake.mark",
        summary="mark a thing",
        effect=Effect.CHANGE,
        params={
            "thing": Param(type="string", summary="which", required=True),
            "value": Param(type="string", summary="to what", default="on"),
            "expires": Param(type="duration", summary="until when"),
        },
        results={"value": Param(type="string", summary="what it is now")},
        undoable=True,
        containment=True,
        stage="contained",
    )

    def __init__(self, things: Things) -> None:
        self.things = things

    async def plan(self, call: Call) -> Plan:
        self.things.fail("plan", call.step)
        thing, value = str(call.params["thing"]), str(call.params.get("value", "on"))
        before = self.things.state.get(thing)
        change = Change(
            verb="patch",
            ref=ObjectRef(kind="Thing", name=thing, namespace="shop", system="fake"),
            before=before,
            after=value,
            precondition={"version": str(self.things.version)},
        )
        return Plan(
            action=call.action,
            summary=f"mark {thing} {value}",
            changes=(change,) if before != value else (),
            blast=self.things.blast,
            residual=self.things.residual,
            undo=f"put {thing} back",
            params=call.params,
            data={"before": before, "was": thing in self.things.state},
        )

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        thing, value = str(call.params["thing"]), str(call.params.get("value", "on"))
        if self.things.gate is not None:
            await self.things.gate.wait()
        if ("mark", call.key) in self.things.done:  # looked up: an earlier attempt got through
            return Done(result={"value": value})
        self.things.fail("apply", call.step)
        if plan.changes and self.things.state.get(thing) != plan.data["before"]:
            raise Conflict(f"{thing} is {self.things.state.get(thing)}, planned on another value")
        self.things.state[thing] = value
        self.things.done.append(("mark", call.key))
        self.things.fail("applied", call.step)
        return Done(result={"value": value})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        raise StepFailed("nothing to poll")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        self.things.fail("verify", call.step)
        level = VerdictLevel.RESIDUAL if plan.residual else VerdictLevel.APPLIED
        return Verdict(level=level, residual=plan.residual)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        self.things.fail("undo", call.step)
        thing, value = str(call.params["thing"]), str(call.params.get("value", "on"))
        if self.things.state.get(thing) not in {value, plan.data["before"]}:
            raise Conflict(f"{thing} was changed to {self.things.state.get(thing)} since")
        if plan.data["was"]:
            self.things.state[thing] = plan.data["before"]
        else:
            self.things.state.pop(thing, None)
        self.things.done.append(("unmark", call.key))
        return Done()


class Look:
    """Reads a thing."""

    info = ActionInfo(
        name="fake.look",
        summary="look at a thing",
        effect=Effect.READ,
        params={"thing": Param(type="string", summary="which", required=True)},
        results={"value": Param(type="string", summary="what it is")},
        stage="evidenced",
    )

    def __init__(self, things: Things) -> None:
        self.things = things

    async def plan(self, call: Call) -> Plan:
        return Plan(action=call.action, summary=f"look at {call.params['thing']}")

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        self.things.fail("apply", call.step)
        return Done(result={"value": str(self.things.state.get(str(call.params["thing"]), ""))})

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        raise StepFailed("nothing to poll")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        return Verdict(level=VerdictLevel.APPLIED)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        raise StepFailed("nothing to undo")


class Build:
    """Starts a job elsewhere and follows it; never starts one twice for a key."""

    def __init__(self, things: Things, *, looks: int = 2, looks_up: bool = True) -> None:
        self.things = things
        self.looks = looks
        self.info = ActionInfo(
            name="fake.build",
            summary="build a thing",
            effect=Effect.CHANGE,
            params={"thing": Param(type="string", summary="which", required=True)},
            results={"digest": Param(type="string", summary="what came out")},
            looks_up=looks_up,
            stage="built",
        )

    async def plan(self, call: Call) -> Plan:
        self.things.fail("plan", call.step)
        ref = ObjectRef(kind="Job", name=str(call.params["thing"]), system="fake")
        change = Change(verb="dispatch", ref=ref, after={"key": call.key})
        return Plan(action=call.action, summary=f"build {ref.name}", changes=(change,))

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        if call.key not in self.things.jobs:
            self.things.fail("apply", call.step)
            self.things.jobs[call.key] = self.looks
            self.things.done.append(("dispatch", call.key))
            self.things.fail("applied", call.step)
        return Pending(
            state={"job": call.key},
            after=15,
            waiting_for=f"job {call.params['thing']}",
            correlation=f"job:{call.params['thing']}",
        )

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        self.things.fail("poll", call.step)
        job = str(state["job"])
        self.things.jobs[job] -= 1
        if self.things.jobs[job] <= 0:
            return Done(result={"digest": "sha256:" + "ab" * 32})
        return Pending(state=state, after=15, waiting_for="job", correlation="job:again")

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        return Verdict(level=VerdictLevel.ENFORCED)

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        raise StepFailed("a build cannot be undone")


class FakeResolver:
    """Knows which pods there are now."""

    def __init__(self, pods: dict[str, str]) -> None:
        self.pods = pods  # "namespace/name" -> uid

    async def resolve(self, target: Target) -> Target:
        uid = self.pods.get(f"{target.namespace}/{target.pod}")
        if uid is None:
            raise NotFound(f"pod {target.namespace}/{target.pod} is gone")
        if target.pod_uid and target.pod_uid != uid:
            raise StepFailed(f"pod {target.pod} has UID {uid}, the alert spoke of {target.pod_uid}")
        from dataclasses import replace

        return replace(target, pod_uid=uid, workload="Deployment/web")


def fake_integration(things: Things, *, pods: dict[str, str] | None = None) -> Integration:
    """The three actions over one world."""
    actions: list[Action] = [Mark(things), Look(things), Build(things)]
    resolvers = {"": FakeResolver(pods)} if pods is not None else {}
    return Integration(actions=actions, resolvers=resolvers)
