"""The product's own integrations over the sandbox: one repair from the alert to the rollout."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from integrations import falco, registry
from integrations import github as forge
from integrations import kubernetes as cluster
from responder.clock import World
from responder.model import Plan, Secret, Target, VerdictLevel
from responder.ports import Action, Call, Done, HookInfo, ImageRoute, Kit, Pending
from responder.sandbox.kinds import kind_named
from responder.sandbox.kubelet import Pace
from responder.sandbox.world import SandboxWorld


class Evidence:
    """Keeps artefacts in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, call: Call, name: str, data: bytes, origin: Mapping[str, Any]) -> str:
        """Keep one."""
        self.kept[name] = data
        return hashlib.sha256(data).hexdigest()

    async def list(self, incident: int) -> Sequence[Mapping[str, Any]]:
        """What was kept, whatever the incident."""
        return [
            {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in self.kept.items()
        ]


async def _do(action: Action, call: Call) -> tuple[Plan, Done]:
    """Plan, apply and poll one action to its end, then verify it."""
    plan = await action.plan(call)
    state = await action.apply(call, plan)
    for _ in range(400):
        if isinstance(state, Done):
            break
        assert isinstance(state, Pending)
        await asyncio.sleep(0.02)
        state = await action.poll(call, state.state)
    assert isinstance(state, Done), state
    verdict = await action.verify(call, plan, state.result)
    assert verdict.level is not VerdictLevel.RESIDUAL, verdict
    return plan, state


def _call(action: str, step: str, target: Target, **params: Any) -> Call:
    return Call(
        action=action,
        key=f"run_1/{step}",
        incident=1,
        run="run_1",
        step=step,
        params=params,
        target=target,
    )


async def test_a_repair_runs_through_the_real_integrations() -> None:
    """Alert, snapshot, quarantine, rebuild, redeploy: each outside effect happens exactly once."""
    world = World()
    async with SandboxWorld(world, pace=Pace(start=0.01, stop=0.01)) as w:
        evidence = Evidence()
        images = registry.setup({w.registry: {"insecure": True}}, world, Kit(evidence=evidence))
        route = ImageRoute(
            match=f"{w.registry}/shop/*", forge="github", repo=w.repo, workflow=w.workflow
        )
        kit = Kit(evidence=evidence, images=(route,), digest_of=images.digest_of)
        hub = forge.setup(
            {"github": {"kind": "github", "base_url": w.forge_url, "token": Secret("any")}},
            world,
            kit,
        )
        pods = cluster.setup({"sandbox": {"api": w.cluster_url}}, world, kit)
        actions = {a.info.name: a for part in (images, hub, pods) for a in part.actions}
        try:
            (source,) = falco.setup({}, world, kit).sources
            hook = HookInfo(name="h", source="falco", cluster="sandbox")
            payload = json.dumps(w.falco_alert()).encode()
            (alert,) = source.parse({}, payload, hook)
            target = await pods.resolvers["sandbox"].resolve(alert.target)
            assert (target.workload, target.pod) == ("Deployment/cart", alert.target.pod)
            pod = f"{target.namespace}/{target.pod}"

            name = "kubernetes.snapshot"
            await _do(actions[name], _call(name, "snapshot", target, pod=pod))
            assert evidence.kept

            name = "kubernetes.quarantine_pod"
            await _do(actions[name], _call(name, "isolate", target, pod=pod))

            name = "pipeline.run"
            _, built = await _do(actions[name], _call(name, "rebuild", target, image=target.image))
            assert str(built.result["image"]).endswith(str(built.result["digest"]))

            name = "kubernetes.redeploy"
            call = _call(
                name, "redeploy", target, workload=target.workload, image=built.result["image"]
            )
            await _do(actions[name], call)
            effects = w.effects()
        finally:
            for part in (images, hub, pods):
                if part.close:
                    await part.close()
        assert {sort: sum(things.values()) for sort, things in effects.items()} == {
            "dispatches": 1,
            "networkpolicies_created": 1,
            "pushes": 1,
            "relabels": 1,
            "rollouts": 1,
        }
        states = [
            state["imageID"]
            for pod_now in w.cluster.objects.items(kind_named("Pod"), "shop")
            for state in pod_now["status"]["containerStatuses"]
            if pod_now["metadata"]["labels"].get("app") == "cart"
            and "deletionTimestamp" not in pod_now["metadata"]
        ]
        assert states == [built.result["image"]] * 3
