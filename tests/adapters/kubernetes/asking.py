"""For each action: what it needs to find on the stage, and a request that it can fulfil."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from responder.model import Target
from responder.ports import ActionInfo, Call
from tests.adapters.kubernetes import stage
from tests.real.cluster import ControlPlane

Scene = Callable[[ControlPlane, str], None]


def _workload(plane: ControlPlane, namespace: str) -> None:
    stage.workload(plane, namespace, "Deployment", replicas=0)


def _pod(plane: ControlPlane, namespace: str) -> None:
    stage.bare(plane, namespace)


def _bound_pod(plane: ControlPlane, namespace: str) -> None:
    stage.bare(plane, namespace, bound=True)


SCENES: Mapping[str, Scene] = {
    "snapshot": _bound_pod,
    "hold_pod": _bound_pod,
    "redeploy": _workload,
}
ISOLATED = {"release_pod", "delete_pod", "hold_pod"}
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "redeploy": {"workload": "Deployment/cart", "image": stage.NEW},
    "block_image": {"digest": f"sha256:{'d' * 64}"},
}


def short(info: ActionInfo) -> str:
    """The action's name within its integration."""
    return info.name.removeprefix("kubernetes.")


def asked(info: ActionInfo, namespace: str) -> Call:
    """A request that the action can fulfil on the stage of `setting`."""
    params = PARAMS.get(short(info), {"pod": f"{namespace}/solo"})
    return stage.call(short(info), Target(namespace=namespace), **params)


async def setting(plane: ControlPlane, info: ActionInfo, namespace: str) -> None:
    """What the action needs to find: a workload, a pod, an isolated pod."""
    SCENES.get(short(info), _pod)(plane, namespace)
    if short(info) in ISOLATED:
        async with stage.product(plane, plane.admin_token) as made:
            await stage.perform(made, stage.call("quarantine_pod", pod=f"{namespace}/solo"))
