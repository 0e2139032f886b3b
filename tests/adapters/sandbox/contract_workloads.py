"""What a cluster's controllers must do: checks for the sandbox and for a real one alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.adapters.sandbox.client import (
    APPS,
    POLICY,
    STRATEGIC,
    Client,
    deployment_body,
    refused,
)


async def a_deployment_makes_pods_owned_through_a_replica_set(api: Client) -> None:
    """Owner references lead from pod to ReplicaSet to Deployment, and the hash ties them."""
    made = await api.must("POST", api.path("deployments", api=APPS), deployment_body("web", 2))
    assert made["metadata"]["generation"] == 1
    pods = await api.until("two pods", lambda: _count(api, "app=web", 2))
    owner = pods[0]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["controller"]) == ("ReplicaSet", True)
    holder = await api.must("GET", api.path("replicasets", owner["name"], APPS))
    assert holder["metadata"]["uid"] == owner["uid"]
    above = holder["metadata"]["ownerReferences"][0]
    assert (above["kind"], above["uid"]) == ("Deployment", made["metadata"]["uid"])
    mark = pods[0]["metadata"]["labels"]["pod-template-hash"]
    assert holder["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": mark}
    assert owner["name"] == f"web-{mark}"


async def _count(api: Client, selector: str, wanted: int) -> list[dict[str, Any]]:
    pods = await api.pods(selector)
    return pods if len(pods) == wanted else []


async def _ready(api: Client, name: str, wanted: int) -> dict[str, Any] | None:
    found = await api.must("GET", api.path("deployments", name, APPS))
    status = found.get("status") or {}
    seen = status.get("observedGeneration") == found["metadata"]["generation"]
    counts = [status.get(f"{w}Replicas", 0) for w in ("updated", "ready", "available")]
    whole = counts == [wanted] * 3 and status.get("replicas") == wanted
    return dict(found) if seen and whole else None


async def a_relabelled_pod_is_released_replaced_and_surplus_when_taken_back(api: Client) -> None:
    """Dropping selector labels frees the pod and brings a new one; putting them back costs one."""
    await api.must("POST", api.path("deployments", api=APPS), deployment_body("web", 2))
    await api.until("rolled out", lambda: _ready(api, "web", 2))
    pod = (await api.pods("app=web"))[0]["metadata"]
    where = api.path("pods", pod["name"])
    drop = {"metadata": {"labels": {"app": None, "pod-template-hash": None, "held": "1"}}}
    after = await api.must("PATCH", where, drop)
    assert after["metadata"]["labels"] == {"held": "1"}
    assert after["metadata"]["uid"] == pod["uid"]

    async def released() -> bool:
        return "ownerReferences" not in (await api.must("GET", where))["metadata"]

    await api.until("released", released)
    await api.until("replaced", lambda: _count(api, "app=web", 2))
    assert len(await api.pods()) == 3
    labels = {**pod["labels"], "held": None}
    await api.must("PATCH", where, {"metadata": {"labels": labels}})

    async def whole_again() -> bool:
        return len(await api.pods()) == 2

    await api.until("the surplus is gone", whole_again)
    assert len(await api.pods("app=web")) == 2


async def a_new_template_rolls_out_and_old_pods_go(api: Client) -> None:
    """A new image makes a new ReplicaSet, which ends up with all pods, and the status says so."""
    await api.must("POST", api.path("deployments", api=APPS), deployment_body("web", 3))
    await api.until("rolled out", lambda: _ready(api, "web", 3))
    image = "example.invalid/probe@sha256:" + "b" * 64
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
    after = await api.must("PATCH", api.path("deployments", "web", APPS), patch, STRATEGIC)
    assert after["metadata"]["generation"] == 2
    done = await api.until("rolled over", lambda: _ready(api, "web", 3))
    assert done["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    reasons = {c["type"]: c["reason"] for c in done["status"]["conditions"]}
    assert reasons["Available"] == "MinimumReplicasAvailable"

    async def ended() -> bool:
        now = await api.must("GET", api.path("deployments", "web", APPS))
        found = {c["type"]: c["reason"] for c in now["status"]["conditions"]}
        return found["Progressing"] == "NewReplicaSetAvailable"

    await api.until("said to be complete", ended)
    pods = await api.until("only new pods", lambda: _count(api, "app=web", 3))
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {image}
    sets = (await api.must("GET", api.path("replicasets", api=APPS)))["items"]
    assert sorted(item["spec"]["replicas"] for item in sets) == [0, 3]


async def an_eviction_is_refused_while_a_budget_forbids_it(api: Client) -> None:
    """429 with the budget's arithmetic; 500 with two budgets; 201 without."""
    await api.must("POST", api.path("deployments", api=APPS), deployment_body("web", 2))
    await api.until("rolled out", lambda: _ready(api, "web", 2))
    budget = {
        "metadata": {"name": "hold"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    }
    path = api.path("poddisruptionbudgets", api=POLICY)
    await api.must("POST", path, budget)

    async def counted() -> Any:
        status = (await api.must("GET", path + "/hold")).get("status") or {}
        return status if status.get("currentHealthy") == 2 else None

    status = await api.until("counted", counted)
    assert (status["desiredHealthy"], status["expectedPods"]) == (2, 2)
    assert status["disruptionsAllowed"] == 0
    name = (await api.pods("app=web"))[0]["metadata"]["name"]
    where = api.path("pods", name) + "/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    body = refused(await api.send("POST", where, eviction), 429, "TooManyRequests")
    assert body["message"].startswith("Cannot evict pod as it would violate")
    assert body["details"]["causes"][0] == {
        "reason": "DisruptionBudget",
        "message": "The disruption budget hold needs 2 healthy pods and has 2 currently",
    }
    await api.must("POST", path, {**budget, "metadata": {"name": "hold2"}})
    await asyncio.sleep(0.2)
    assert (await api.send("POST", where, eviction))[0] == 500
    for budget_name in ("hold", "hold2"):
        await api.must("DELETE", f"{path}/{budget_name}")

    async def evicted() -> bool:
        return (await api.send("POST", where, eviction))[0] == 201

    await api.until("evicted", evicted)
    nobody = api.path("pods", "none") + "/eviction"
    refused(await api.send("POST", nobody, eviction), 400, "BadRequest")
    eviction["metadata"] = {"name": "none"}
    refused(await api.send("POST", nobody, eviction), 404, "NotFound")


async def deleting_a_deployment_takes_its_pods_along(api: Client) -> None:
    """Garbage is collected down the owner references."""
    await api.must("POST", api.path("deployments", api=APPS), deployment_body("web", 2))
    await api.until("two pods", lambda: _count(api, "app=web", 2))
    background = {"propagationPolicy": "Background"}
    await api.must("DELETE", api.path("deployments", "web", APPS), background)

    async def empty() -> bool:
        sets = (await api.must("GET", api.path("replicasets", api=APPS)))["items"]
        return not sets and not await api.pods()

    await api.until("all gone", empty)


async def a_pod_in_a_stateful_set_is_not_replaced_beside_itself(api: Client) -> None:
    """A released pod keeps its name, so the set stays short."""
    body = deployment_body("db", 2)
    body["spec"]["serviceName"] = "db"
    await api.must("POST", api.path("statefulsets", api=APPS), body)
    await api.until("two pods", lambda: _count(api, "app=db", 2))
    assert {pod["metadata"]["name"] for pod in await api.pods()} == {"db-0", "db-1"}
    await api.must("PATCH", api.path("pods", "db-1"), {"metadata": {"labels": {"app": None}}})

    async def released() -> bool:
        pod = await api.must("GET", api.path("pods", "db-1"))
        return "ownerReferences" not in pod["metadata"]

    await api.until("released", released)
    await asyncio.sleep(0.3)
    assert {pod["metadata"]["name"] for pod in await api.pods()} == {"db-0", "db-1"}


async def a_service_knows_the_pods_it_selects(api: Client) -> None:
    """EndpointSlices follow labels and readiness."""
    await api.must("POST", api.path("deployments", api=APPS), deployment_body("web", 2))
    service = {
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    await api.must("POST", api.path("services"), service)
    path = api.path("endpointslices", api="/apis/discovery.k8s.io/v1")
    path += "?labelSelector=kubernetes.io/service-name%3Dweb"

    async def names(wanted: int) -> set[str]:
        slices = (await api.must("GET", path))["items"]
        ends = [end for item in slices for end in item.get("endpoints") or ()]
        found = {e["targetRef"]["name"] for e in ends if e["conditions"]["ready"]}
        return found if len(found) == wanted else set()

    await api.until("two endpoints", lambda: names(2))
    pod = (await api.pods("app=web"))[0]["metadata"]["name"]
    strip = {"metadata": {"labels": {"app": None, "pod-template-hash": None}}}
    await api.must("PATCH", api.path("pods", pod), strip)

    async def left_out() -> bool:
        found = await names(2)
        return bool(found) and pod not in found

    await api.until("the relabelled pod is no endpoint", left_out)


CHECKS: tuple[Callable[[Client], Awaitable[None]], ...] = (
    a_deployment_makes_pods_owned_through_a_replica_set,
    a_relabelled_pod_is_released_replaced_and_surplus_when_taken_back,
    a_new_template_rolls_out_and_old_pods_go,
    an_eviction_is_refused_while_a_budget_forbids_it,
    deleting_a_deployment_takes_its_pods_along,
    a_pod_in_a_stateful_set_is_not_replaced_beside_itself,
    a_service_knows_the_pods_it_selects,
)
