"""For each action: what it needs to find on the stage, and a request that it can fulfil."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from integrations.kubernetes import INFOS
from responder.model import Target
from responder.ports import ActionInfo, Call, Integration
from tests.adapters.flux.cluster import COMMIT, primed
from tests.adapters.kubernetes import stage
from tests.real.cluster import ControlPlane
from tests.real.kubelet import ensure_node

Scene = Callable[[ControlPlane, str], None]


def _workload(plane: ControlPlane, namespace: str) -> None:
    stage.workload(plane, namespace, "Deployment", replicas=0)


def _pod(plane: ControlPlane, namespace: str) -> None:
    stage.bare(plane, namespace)


def _bound_pod(plane: ControlPlane, namespace: str) -> None:
    stage.bare(plane, namespace, bound=True)


def _job(plane: ControlPlane, namespace: str) -> None:
    stage.cron_job(plane, namespace)


def _account(plane: ControlPlane, namespace: str) -> None:
    """An account that two pods share, with a binding of its own and an old-style token."""
    plane.must(
        "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "cart"}}
    )
    for name in ("solo", "twin"):
        stage.bare(plane, namespace, name, account="cart")
    stage.bind(plane, namespace, "cart", ["cart"])
    stage.token_secret(plane, namespace, "cart")


def _flux(plane: ControlPlane, namespace: str) -> None:
    primed(plane, namespace, stage.call("reconcile_flux").key)


def _node(plane: ControlPlane, namespace: str) -> None:
    spare_node(plane, f"node-{namespace}")


SCENES: Mapping[str, Scene] = {
    "snapshot": _bound_pod,
    "hold_pod": _bound_pod,
    "evict_pod": _bound_pod,
    "redeploy": _workload,
    "await_image": _workload,
    "reconcile_flux": _flux,
    "scale_workload": _workload,
    "suspend_job": _job,
    "revoke_service_account": _account,
    "cordon_node": _node,
}
ISOLATED = {"release_pod", "delete_pod", "hold_pod"}
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "redeploy": {"workload": "Deployment/cart", "image": stage.NEW},
    "await_image": {"workload": "Deployment/cart", "image": stage.OLD},
    "reconcile_flux": {"object": "Kustomization/shop", "revision": COMMIT},
    "scale_workload": {"workload": "Deployment/cart", "replicas": 1},
    "suspend_job": {"workload": "CronJob/report"},
    "revoke_service_account": {"pod": "solo"},
    "cordon_node": {},
    "lock_namespace": {"expires": "1h"},
    "label": {"pod": "solo", "labels": {"team.example/incident": "42"}},
    "annotate": {"pod": "solo", "annotations": {"team.example/note": "look at me"}},
    "find_workloads": {"digest": f"sha256:{'d' * 64}"},
    "block_image": {"digest": f"sha256:{'d' * 64}"},
}


def spare_node(plane: ControlPlane, name: str) -> str:
    """A node that draws no pod of other tests; its API path."""
    ensure_node(plane, name)
    path = f"/api/v1/nodes/{name}"
    taint = {"key": "spare", "value": "true", "effect": "NoSchedule"}
    plane.must("PATCH", path, {"spec": {"taints": [taint]}})
    return path


def short(info: ActionInfo) -> str:
    """The action's name within its integration."""
    return info.name.removeprefix("kubernetes.")


def asked(info: ActionInfo, namespace: str) -> Call:
    """A request that the action can fulfil on the stage of `setting`."""
    params = dict(PARAMS.get(short(info), {"pod": f"{namespace}/solo"}))
    if short(info) == "reconcile_flux":
        params["namespace"] = namespace
    target = Target(namespace=namespace, node=f"node-{namespace}")
    return stage.call(short(info), target, **params)


async def setting(plane: ControlPlane, info: ActionInfo, namespace: str) -> None:
    """What the action needs to find: a workload, a pod, an isolated pod."""
    SCENES.get(short(info), _pod)(plane, namespace)
    if short(info) in ISOLATED:
        async with stage.product(plane, plane.admin_token) as made:
            await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/solo"))


@asynccontextmanager
async def responder(plane: ControlPlane, namespace: str, *names: str) -> AsyncIterator[Integration]:
    """The product with the declared rights of these actions and no other."""
    wanted = [info for info in INFOS if short(info) in names]
    assert len(wanted) == len(names)
    token = stage.account_for(plane, namespace, wanted)
    async with stage.product(plane, token, home=namespace) as made:
        yield made
