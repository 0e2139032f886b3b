"""A catalogue of actions for the playbook tests: the shapes of the shipped ones."""

from __future__ import annotations

from collections.abc import Mapping

from responder.model import Effect
from responder.ports import ActionInfo, Param

__all__ = ["CATALOGUE", "SOURCES"]

SCANNERS = ("trivy", "trivy-operator", "grype", "harbor", "quay")
SOURCES = ("falco", "alertmanager", "generic", "pagerduty", *SCANNERS)


def _action(
    name: str, effect: Effect, params: str, results: str = "", *, undoable: bool = False
) -> ActionInfo:
    """An action from a short form: `pod:kubernetes.pod! expires:duration`, `!` means required."""
    return ActionInfo(
        name=name,
        summary=f"What {name} does.",
        effect=effect,
        params=_params(params),
        results=_params(results),
        undoable=undoable,
    )


def _params(short: str) -> Mapping[str, Param]:
    found = {}
    for word in short.split():
        name, _, kind = word.partition(":")
        found[name] = Param(
            type=kind.rstrip("!"), summary=f"The {name}.", required=kind.endswith("!")
        )
    return found


CATALOGUE: Mapping[str, ActionInfo] = {
    info.name: info
    for info in (
        _action(
            "kubernetes.snapshot", Effect.READ, "pod:kubernetes.pod!", "files:int manifest:string"
        ),
        _action(
            "kubernetes.quarantine_pod",
            Effect.CHANGE,
            "pod:kubernetes.pod! expires:duration",
            "policy:string replacement:string",
            undoable=True,
        ),
        _action("kubernetes.release_pod", Effect.CHANGE, "pod:kubernetes.pod!", undoable=True),
        _action("kubernetes.delete_pod", Effect.DESTROY, "pod:kubernetes.pod!"),
        _action(
            "kubernetes.redeploy",
            Effect.CHANGE,
            "workload:string! namespace:string image:string! container:string cluster:string "
            "one_way:bool",
            "revision:string image:string",
            undoable=True,
        ),
        _action(
            "pipeline.run",
            Effect.CHANGE,
            "image:string! revision:string options:map count:int flags:list urgent:bool",
            "image:string digest:string run:string url:string",
        ),
        _action("image.trace", Effect.READ, "image:image", "revision:string sure:string"),
        _action(
            "image.gate", Effect.READ, "image:image! digest:string", "image:string repaired:list"
        ),
        _action(
            "kubernetes.find_workloads",
            Effect.READ,
            "digest:list image:image patched:image expect_none:bool",
            "canary:list early:list rest:list elsewhere:list count:int changes:list "
            "applications:list flux:list awaited:list",
        ),
        _action(
            "change.propose",
            Effect.CHANGE,
            "image:image digest:string change:string base:image instead_of:string file:string",
            "request:int url:string sha:string branch:string change:string repo:string",
            undoable=True,
        ),
        _action(
            "change.merge",
            Effect.CHANGE,
            "image:image change:string request:int! sha:string!",
            "request:int url:string sha:string commit:string",
        ),
        _action(
            "argocd.sync",
            Effect.CHANGE,
            "application:string! app_namespace:string workload:string namespace:string "
            "image:image revision:string wait_if_automated:bool optional:bool",
            "application:string revision:string url:string",
        ),
        _action(
            "kubernetes.reconcile_flux",
            Effect.CHANGE,
            "object:string! namespace:string cluster:string revision:string",
            "object:string revision:string",
        ),
        _action(
            "kubernetes.await_image",
            Effect.READ,
            "workload:string! image:image! namespace:string cluster:string",
            "workload:string image:image",
        ),
        _action("chat.post", Effect.CHANGE, "text:string!"),
    )
}
