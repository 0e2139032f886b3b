"""From raw objects to the evaluator's world, and from the texts of flows to its ends."""

from __future__ import annotations

from integrations.kubernetes.policy_evaluator import world_of
from integrations.kubernetes.policy_model import End, PolicyWorld
from tests.adapters.kubernetes.policy.brute import Json


def world_from(cluster: Json) -> PolicyWorld:
    """The world of a whole cluster."""
    admin: dict[str, list[Json]] = {}
    for policy in cluster.get("admin", ()):
        admin.setdefault(policy["kind"], []).append(policy)
    return world_of(
        pods=cluster.get("pods", ()),
        namespaces=cluster.get("namespaces", ()),
        nodes=cluster.get("nodes", ()),
        policies=cluster.get("policies", ()),
        admin=admin,
    )


def end_of(world: PolicyWorld, text: str) -> End:
    """`pod NAMESPACE/NAME`, `node NAME` or `ip ADDRESS`."""
    kind, name = text.split(" ", 1)
    if kind == "ip":
        return world.at(name)
    if kind == "node":
        return world.nodes[name]
    return next(pod for pod in world.pods if pod.place == name)
