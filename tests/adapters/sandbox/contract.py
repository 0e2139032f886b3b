"""What a cluster must do, as checks that run over the sandbox and over a real API server alike.

Each check gets a client and a namespace of its own, and asserts numbers, reasons and states. What
only a kubelet can do (container logs) is checked on the sandbox alone, beside this file.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPS, POLICY = "/apis/apps/v1", "/apis/policy/v1"
NETWORKING = "/apis/networking.k8s.io/v1"
PATIENCE = 20.0

Answer = tuple[int, Any]


@dataclass(frozen=True)
class Client:
    """Plain HTTP and JSON to one API server, for one namespace."""

    session: aiohttp.ClientSession
    base: str
    namespace: str
    trust: ssl.SSLContext | bool = True

    def path(self, plural: str, name: str = "", api: str = "/api/v1") -> str:
        """The path of objects or of one object in this check's namespace."""
        tail = f"/{name}" if name else ""
        return f"{api}/namespaces/{self.namespace}/{plural}{tail}"

    async def send(self, method: str, path: str, body: Any = None, kind: str = "") -> Answer:
        """One request; never raises for a status."""
        kind = kind or (MERGE if method == "PATCH" else "application/json")
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind} if data is not None else {}
        url = self.base + path
        async with self.session.request(
            method, url, data=data, headers=headers, ssl=self.trust
        ) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json else text

    async def must(self, method: str, path: str, body: Any = None, kind: str = "") -> Any:
        """One request that has to succeed."""
        status, answer = await self.send(method, path, body, kind)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    async def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """Pods of the namespace that are not ending."""
        query = f"?labelSelector={selector}" if selector else ""
        found = (await self.must("GET", self.path("pods") + query))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def until(self, what: str, test: Callable[[], Awaitable[Any]]) -> Any:
        """Ask again until it holds; AssertionError after a while."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while not (got := await test()):
            assert loop.time() < end, f"never came true: {what}"
            await asyncio.sleep(0.03)
        return got

    @asynccontextmanager
    async def watching(self, path: str, version: str) -> AsyncIterator[AsyncIterator[Any]]:
        """Events of a watch of two seconds; it is read to its end, so that nothing stays open."""
        url = f"{self.base}{path}{'&' if '?' in path else '?'}watch=1&timeoutSeconds=2"
        url += f"&resourceVersion={version}"
        async with self.session.get(url, ssl=self.trust) as answer:
            assert answer.status == 200

            async def lines() -> AsyncIterator[Any]:
                async for line in answer.content:
                    yield json.loads(line)

            yield lines()
            await answer.read()


def pod_body(name: str, image: str = "example.invalid/probe:1", **labels: str) -> dict[str, Any]:
    """A pod with one container."""
    spec = {"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def deployment_body(name: str, size: int, image: str = "example.invalid/probe:1") -> dict[str, Any]:
    """A Deployment of pods that carry `app: NAME`."""
    spec = pod_body("x", image)["spec"]
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": size,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def refused(answer: Answer, code: int, reason: str) -> dict[str, Any]:
    """The Status body of a refusal, after holding it to its number and reason."""
    status, body = answer
    assert status == code, (status, body)
    assert body["kind"] == "Status"
    assert body["status"] == "Failure"
    assert body["code"] == code
    assert body.get("reason", "") == reason, body
    return dict(body)


async def a_deployment_makes_pods_owned_through_a_replica_set(api: Client) -> None:
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


async def a_policy_is_created_once_and_a_dry_run_leaves_nothing(api: Client) -> None:
    where = api.path("networkpolicies", api=NETWORKING)
    body = {
        "metadata": {"name": "deny"},
        "spec": {"podSelector": {"matchLabels": {"q": "1"}}, "policyTypes": ["Ingress", "Egress"]},
    }
    dry = await api.must("POST", where + "?dryRun=All", body)
    assert dry["metadata"]["uid"]
    assert "resourceVersion" not in dry["metadata"]
    refused(await api.send("GET", where + "/deny"), 404, "NotFound")
    made = await api.must("POST", where, body)
    assert made["spec"] == body["spec"]
    again = refused(await api.send("POST", where, body), 409, "AlreadyExists")
    assert again["message"] == 'networkpolicies.networking.k8s.io "deny" already exists'
    refused(await api.send("POST", where + "?dryRun=All", body), 409, "AlreadyExists")
    gone = await api.must("DELETE", where + "/deny")
    assert (gone["status"], gone["details"]["uid"]) == ("Success", made["metadata"]["uid"])


async def a_dry_run_of_a_patch_or_deletion_changes_nothing(api: Client) -> None:
    before = await api.must("POST", api.path("pods"), pod_body("p", app="p"))
    where = api.path("pods", "p")
    seen = await api.must("PATCH", where + "?dryRun=All", {"metadata": {"labels": {"dry": "1"}}})
    assert seen["metadata"]["labels"] == {"app": "p", "dry": "1"}
    await api.must("DELETE", where + "?dryRun=All")
    after = await api.must("GET", where)
    assert after["metadata"]["labels"] == {"app": "p"}
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "deletionTimestamp" not in after["metadata"]


async def a_json_patch_whose_test_fails_is_refused_whole(api: Client) -> None:
    await api.must("POST", api.path("pods"), pod_body("p", app="p"))
    where = api.path("pods", "p")
    for path, value in (("/metadata/labels/app", "x"), ("/metadata/uid", "x"), ("/a/b", "x")):
        patch = [
            {"op": "add", "path": "/metadata/labels/new", "value": "1"},
            {"op": "test", "path": path, "value": value},
        ]
        body = refused(await api.send("PATCH", where, patch, JSON_PATCH), 422, "Invalid")
        text = "the server rejected our request due to an error in our request"
        assert body["message"] == text
    assert (await api.must("GET", where))["metadata"]["labels"] == {"app": "p"}
    missing = [{"op": "remove", "path": "/metadata/labels/none"}]
    refused(await api.send("PATCH", where, missing, JSON_PATCH), 422, "Invalid")
    orphan = [{"op": "add", "path": "/metadata/annotations/a", "value": "1"}]
    refused(await api.send("PATCH", where, orphan, JSON_PATCH), 422, "Invalid")
    loose = [{"op": "replace", "path": "/metadata/labels/new", "value": "1"}]
    after = await api.must("PATCH", where, loose, JSON_PATCH)
    assert after["metadata"]["labels"] == {"app": "p", "new": "1"}
    refused(await api.send("PATCH", where, {"op": "add"}, JSON_PATCH), 400, "BadRequest")


async def a_write_against_an_old_version_conflicts(api: Client) -> None:
    where = api.path("configmaps")
    old = await api.must("POST", where, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    version = old["metadata"]["resourceVersion"]
    new = await api.must("PATCH", where + "/c", {"data": {"a": "2"}})
    assert int(new["metadata"]["resourceVersion"]) > int(version)
    stale = {"metadata": {"resourceVersion": version}, "data": {"a": "3"}}
    body = refused(await api.send("PATCH", where + "/c", stale), 409, "Conflict")
    assert body["message"].startswith('Operation cannot be fulfilled on configmaps "c": ')
    refused(await api.send("PUT", where + "/c", old), 409, "Conflict")
    same = await api.must("PATCH", where + "/c", {"data": {"a": "2"}})
    assert same["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"]
    free = {"metadata": {"name": "c"}, "data": {"a": "4"}}
    assert (await api.must("PUT", where + "/c", free))["data"] == {"a": "4"}
    other = {"metadata": {"name": "c", "uid": "another"}, "data": {"a": "5"}}
    refused(await api.send("PUT", where + "/c", other), 409, "Conflict")


async def another_uid_or_name_in_a_patch_is_refused(api: Client) -> None:
    await api.must("POST", api.path("pods"), pod_body("p", app="p"))
    where = api.path("pods", "p")
    uid = {"metadata": {"uid": "another", "labels": {"x": "1"}}}
    body = refused(await api.send("PATCH", where, uid), 422, "Invalid")
    assert body["details"]["causes"][0]["field"] == "metadata.uid"
    refused(await api.send("PATCH", where, {"metadata": {"name": "q"}}), 400, "BadRequest")
    refused(await api.send("PATCH", where, {"spec": {"nodeName": "elsewhere"}}), 422, "Invalid")
    refused(await api.send("PATCH", where, {}, "text/plain"), 415, "UnsupportedMediaType")
    nowhere = api.path("pods", "none")
    refused(await api.send("PATCH", nowhere, {"metadata": {}}), 404, "NotFound")


async def a_deletion_holds_to_its_preconditions(api: Client) -> None:
    made = await api.must("POST", api.path("pods"), pod_body("p"))
    where = api.path("pods", "p")
    wrong = {"preconditions": {"uid": "another"}}
    body = refused(await api.send("DELETE", where, wrong), 409, "Conflict")
    assert "the UID in the precondition (another) does not match" in body["message"]
    wrong = {"preconditions": {"resourceVersion": "1"}}
    refused(await api.send("DELETE", where, wrong), 409, "Conflict")
    right = {"preconditions": {"uid": made["metadata"]["uid"]}, "gracePeriodSeconds": 0}
    gone = await api.must("DELETE", where, right)
    assert (gone["kind"], gone["metadata"]["uid"]) == ("Pod", made["metadata"]["uid"])
    refused(await api.send("GET", where), 404, "NotFound")
    refused(await api.send("DELETE", where, right), 404, "NotFound")


async def invalid_objects_are_refused_with_their_field(api: Client) -> None:
    where = api.path("pods")
    plain = pod_body("p")["spec"]
    table: list[tuple[dict[str, Any], int, str, str]] = [
        ({"metadata": {"name": "A_b"}, "spec": plain}, 422, "Invalid", "metadata.name"),
        ({"metadata": {}, "spec": plain}, 422, "Invalid", "metadata.name"),
        ({"metadata": {"name": "x" * 254}, "spec": plain}, 422, "Invalid", "metadata.name"),
        (
            {"metadata": {"name": "p"}, "spec": {"containers": []}},
            422,
            "Invalid",
            "spec.containers",
        ),
        (pod_body("p", a="b c"), 422, "Invalid", "metadata.labels"),
        (pod_body("p", a="x" * 64), 422, "Invalid", "metadata.labels"),
        ({"metadata": {"name": "p", "labels": {"a": 1}}, "spec": plain}, 400, "BadRequest", ""),
        ({"metadata": {"name": "p", "namespace": "no"}, "spec": plain}, 400, "BadRequest", ""),
        ({"kind": "Service", "apiVersion": "v1", **pod_body("p")}, 400, "BadRequest", ""),
    ]
    for body, code, reason, field in table:
        answer = refused(await api.send("POST", where, body), code, reason)
        if field:
            assert answer["details"]["causes"][0]["field"] == field
    status, _ = await api.send("GET", where + "/p")
    assert status == 404
    wrong = deployment_body("web", 1)
    wrong["spec"]["selector"]["matchLabels"] = {"app": "other"}
    path = api.path("deployments", api=APPS)
    answer = refused(await api.send("POST", path, wrong), 422, "Invalid")
    assert answer["details"]["causes"][0]["field"] == "spec.template.metadata.labels"
    policy = {"metadata": {"name": "n"}, "spec": {"podSelector": {}, "policyTypes": ["Both"]}}
    path = api.path("networkpolicies", api=NETWORKING)
    answer = refused(await api.send("POST", path, policy), 422, "Invalid")
    assert answer["details"]["causes"][0]["field"] == "spec.policyTypes[0]"


async def unknown_places_and_methods_are_refused(api: Client) -> None:
    body = refused(await api.send("GET", api.path("pods", "none")), 404, "NotFound")
    assert body["message"] == 'pods "none" not found'
    refused(await api.send("GET", api.path("nopes")), 404, "NotFound")
    refused(await api.send("PATCH", api.path("pods"), {}), 405, "MethodNotAllowed")
    elsewhere = "/api/v1/namespaces/no-such-place/pods"
    body = refused(await api.send("POST", elsewhere, pod_body("p")), 404, "NotFound")
    assert body["message"] == 'namespaces "no-such-place" not found'
    assert (await api.must("GET", elsewhere))["items"] == []
    query = api.path("pods") + "?dryRun=some"
    refused(await api.send("POST", query, pod_body("p")), 422, "Invalid")
    refused(await api.send("GET", api.path("pods") + "?fieldSelector=a%3Db"), 400, "BadRequest")
    refused(
        await api.send("GET", api.path("pods") + "?labelSelector=a%3D%3D%3Db"), 400, "BadRequest"
    )


async def a_list_is_selected_by_labels_and_fields(api: Client) -> None:
    for name, labels in (("a", {"app": "x"}), ("b", {"app": "y", "t": "1"}), ("c", {})):
        await api.must("POST", api.path("pods"), pod_body(name, **labels))
    table = {
        "labelSelector=app%3Dx": {"a"},
        "labelSelector=app!%3Dx": {"b", "c"},
        "labelSelector=app": {"a", "b"},
        "labelSelector=!app": {"c"},
        "labelSelector=app+in+(x,y),t": {"b"},
        "labelSelector=app+notin+(x)": {"b", "c"},
        "fieldSelector=metadata.name%3Db": {"b"},
        "fieldSelector=metadata.name!%3Db": {"a", "c"},
        "resourceVersion=0&labelSelector=t%3D1": {"b"},
    }
    for query, names in table.items():
        answer = await api.must("GET", f"{api.path('pods')}?{query}")
        assert (answer["kind"], answer["apiVersion"]) == ("PodList", "v1")
        assert int(answer["metadata"]["resourceVersion"]) > 0
        assert {item["metadata"]["name"] for item in answer["items"]} == names, query
        assert all("kind" not in item for item in answer["items"])


async def a_watch_sees_what_happens_after_its_version(api: Client) -> None:
    path = api.path("configmaps")
    await api.must("POST", path, {"metadata": {"name": "before"}})
    version = (await api.must("GET", path))["metadata"]["resourceVersion"]
    seen: list[tuple[str, str]] = []
    async with api.watching(path + "?labelSelector=w%3D1", version) as events:
        await api.must("POST", path, {"metadata": {"name": "other"}})
        await api.must("POST", path, {"metadata": {"name": "mine", "labels": {"w": "1"}}})
        await api.must("PATCH", path + "/mine", {"data": {"a": "1"}})
        await api.must("PATCH", path + "/mine", {"metadata": {"labels": {"w": "2"}}})
        await api.must("PATCH", path + "/other", {"metadata": {"labels": {"w": "1"}}})
        await api.must("DELETE", path + "/other")
        async for event in events:
            assert event["object"]["kind"] == "ConfigMap"
            seen.append((event["type"], event["object"]["metadata"]["name"]))
            if len(seen) == 5:
                break
    assert seen == [
        ("ADDED", "mine"),
        ("MODIFIED", "mine"),
        ("DELETED", "mine"),
        ("ADDED", "other"),
        ("DELETED", "other"),
    ]


async def an_eviction_is_refused_while_a_budget_forbids_it(api: Client) -> None:
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


async def a_log_is_asked_of_a_pod_and_container_that_exist(api: Client) -> None:
    await api.must("POST", api.path("pods"), pod_body("p"))
    refused(await api.send("GET", api.path("pods", "none") + "/log"), 404, "NotFound")
    wrong = api.path("pods", "p") + "/log?container=none"
    body = refused(await api.send("GET", wrong), 400, "BadRequest")
    assert body["message"] == "container none is not valid for pod p"


async def a_review_answers_what_the_caller_may(api: Client) -> None:
    root = "/apis/authorization.k8s.io/v1"
    asked = {"namespace": api.namespace, "verb": "get", "resource": "pods", "subresource": "log"}
    body = {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": asked},
    }
    answer = await api.must("POST", f"{root}/selfsubjectaccessreviews", body)
    assert answer["status"]["allowed"] is True
    assert answer["spec"]["resourceAttributes"] == asked
    refused(
        await api.send("POST", f"{root}/selfsubjectaccessreviews", {**body, "spec": {}}),
        422,
        "Invalid",
    )
    rules = {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"namespace": api.namespace},
    }
    answer = await api.must("POST", f"{root}/selfsubjectrulesreviews", rules)
    found = answer["status"]["resourceRules"]
    assert {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]} in found


async def a_finalizer_holds_an_object_until_it_is_taken_off(api: Client) -> None:
    path = api.path("configmaps")
    held = {"metadata": {"name": "f", "finalizers": ["sandbox.example/hold"]}}
    await api.must("POST", path, held)
    marked = await api.must("DELETE", path + "/f")
    assert marked["metadata"]["deletionTimestamp"]
    await api.must("GET", path + "/f")
    await api.must("PATCH", path + "/f", {"metadata": {"finalizers": None}})
    refused(await api.send("GET", path + "/f"), 404, "NotFound")


async def deleting_a_deployment_takes_its_pods_along(api: Client) -> None:
    await api.must("POST", api.path("deployments", api=APPS), deployment_body("web", 2))
    await api.until("two pods", lambda: _count(api, "app=web", 2))
    background = {"propagationPolicy": "Background"}
    await api.must("DELETE", api.path("deployments", "web", APPS), background)

    async def empty() -> bool:
        sets = (await api.must("GET", api.path("replicasets", api=APPS)))["items"]
        return not sets and not await api.pods()

    await api.until("all gone", empty)


async def a_pod_in_a_stateful_set_is_not_replaced_beside_itself(api: Client) -> None:
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
    a_policy_is_created_once_and_a_dry_run_leaves_nothing,
    a_dry_run_of_a_patch_or_deletion_changes_nothing,
    a_json_patch_whose_test_fails_is_refused_whole,
    a_write_against_an_old_version_conflicts,
    another_uid_or_name_in_a_patch_is_refused,
    a_deletion_holds_to_its_preconditions,
    invalid_objects_are_refused_with_their_field,
    unknown_places_and_methods_are_refused,
    a_list_is_selected_by_labels_and_fields,
    a_watch_sees_what_happens_after_its_version,
    an_eviction_is_refused_while_a_budget_forbids_it,
    a_log_is_asked_of_a_pod_and_container_that_exist,
    a_review_answers_what_the_caller_may,
    a_finalizer_holds_an_object_until_it_is_taken_off,
    deleting_a_deployment_takes_its_pods_along,
    a_pod_in_a_stateful_set_is_not_replaced_beside_itself,
    a_service_knows_the_pods_it_selects,
)
