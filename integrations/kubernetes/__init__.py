"""Kubernetes: know a pod, keep its evidence, isolate it, release it, roll out, delete.

`setup` takes the `[clusters]` tables. Nothing is connected before the first call, and the SDK is
not imported before then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from integrations.kubernetes import (
    await_image,
    block_image,
    cordon_node,
    cut_flows,
    delete,
    evict_pod,
    evidence,
    find_workloads,
    guard_check,
    hold,
    isolate,
    lock_namespace,
    mark,
    probe_network,
    reconcile_flux,
    redeploy,
    release,
    scale_workload,
    service_account,
    suspend_job,
)
from integrations.kubernetes.client import Connection
from integrations.kubernetes.enforcement import Enforcement
from integrations.kubernetes.fleet import Fleet
from integrations.kubernetes.identity import NEEDS, PodResolver
from integrations.kubernetes.looks import Looks
from integrations.kubernetes.pause import PauseSwitch
from integrations.kubernetes.probing_memory import Prober
from integrations.kubernetes.rights import Rights, doctor
from integrations.kubernetes.settings import read
from integrations.kubernetes.watching import ClusterWatch
from responder.clock import World
from responder.model import Effect
from responder.ports import Action, ActionInfo, Integration, Kit, needed

__all__ = ["INFOS", "setup"]

INFOS = (
    evidence.INFO,
    isolate.INFO,
    release.INFO,
    redeploy.INFO,
    delete.INFO,
    hold.INFO,
    block_image.INFO,
    service_account.INFO,
    cordon_node.INFO,
    evict_pod.INFO,
    scale_workload.INFO,
    suspend_job.INFO,
    lock_namespace.INFO,
    mark.LABEL,
    mark.ANNOTATE,
    cut_flows.INFO,
    probe_network.INFO,
    find_workloads.INFO,
    await_image.INFO,
    reconcile_flux.INFO,
)


def setup(section: Mapping[str, Any], world: World, kit: Kit) -> Integration:
    """One client for each cluster, and the actions over all of them.

    Raises `ConfigError` that names the key. Must be called where its event loop will run.
    """
    settings = read(section)
    links = {name: Connection(name, table, world) for name, table in settings.items()}
    looks = {name: Looks(world.clock) for name in links}
    enforcement = {name: Enforcement(link) for name, link in links.items()}
    fleet = Fleet(
        links,
        {name: Rights(world.clock) for name in links},
        looks,
        enforcement=enforcement,
        probers={name: Prober() for name in links},
    )

    async def close() -> None:
        await asyncio.gather(*(one.close() for one in enforcement.values()))
        await asyncio.gather(*(link.close() for link in links.values()))

    switches = {
        name: PauseSwitch(link.api("containment"), link.settings.pause)
        for name, link in links.items()
        if link.settings.pause
    }
    watches = {name: ClusterWatch(link) for name, link in links.items() if link.settings.watch}
    return Integration(
        actions=_actions(fleet, kit),
        resolvers={
            name: PodResolver(link.api("containment"), looks[name]) for name, link in links.items()
        },
        checks=_checks(links, switches, watches, enforcement, kit),
        pausers=tuple(switches.values()),
        watchers=tuple(watches.values()),
        permissions=NEEDS,
        close=close,
    )


def _checks(
    links: Mapping[str, Connection],
    switches: Mapping[str, PauseSwitch],
    watches: Mapping[str, ClusterWatch],
    enforcement: Mapping[str, Enforcement],
    kit: Kit,
) -> dict[str, Callable[[], Awaitable[str]]]:
    """What `doctor` asks of each cluster."""
    found: dict[str, Callable[[], Awaitable[str]]] = {}
    for name, link in links.items():
        found[f"kubernetes:{name}"] = partial(_check, link, switches.get(name), kit)
        found[f"kubernetes:{name} guard"] = partial(guard_check.told, link)
        if name in watches:
            found[f"kubernetes:{name} watch"] = partial(_heard, watches[name], kit)
        if link.settings.probe.on:
            found[f"kubernetes:{name} network"] = enforcement[name].told
    return found


def _actions(fleet: Fleet, kit: Kit) -> tuple[Action, ...]:
    return (
        evidence.Snapshot(fleet, kit.evidence),
        isolate.QuarantinePod(fleet),
        release.ReleasePod(fleet),
        redeploy.Redeploy(fleet),
        delete.DeletePod(fleet),
        hold.HoldPod(fleet),
        block_image.BlockImage(fleet),
        service_account.RevokeServiceAccount(fleet),
        cordon_node.CordonNode(fleet),
        evict_pod.EvictPod(fleet),
        scale_workload.ScaleWorkload(fleet),
        suspend_job.SuspendJob(fleet),
        lock_namespace.LockNamespace(fleet),
        mark.Mark(fleet, mark.LABEL),
        mark.Mark(fleet, mark.ANNOTATE),
        cut_flows.CutFlows(fleet, kit.evidence),
        probe_network.ProbeNetwork(fleet),
        find_workloads.FindWorkloads(fleet, kit.images),
        await_image.AwaitImage(fleet),
        reconcile_flux.ReconcileFlux(fleet),
    )


async def _heard(watch: ClusterWatch, kit: Kit) -> str:
    """For `doctor`: whether changes by others are heard at once, where something is looked at."""
    used = kit.used() if kit.used else {info.name for info in INFOS}
    return await watch.told() if any(i.recheck and i.name in used for i in INFOS) else "ok"


async def _check(link: Connection, switch: PauseSwitch | None, kit: Kit) -> str:
    """For `doctor`: `ok`, or what our account lacks there for the playbooks in force."""
    used = kit.used() if kit.used else {info.name for info in INFOS}
    used |= {probe_network.INFO.name} if link.settings.probe.on else set()
    wanted = [
        replace(info, permissions=needed(info.permissions, used))
        for info in INFOS
        if info.name in used
    ]
    base = ActionInfo(
        name="the check of targets", summary="", effect=Effect.READ, permissions=NEEDS
    )
    found = await doctor(link.api(), [*wanted, base], link.settings.namespaces)
    unread = await switch.unread() if switch else ""
    return unread if unread and found == "ok" else found
