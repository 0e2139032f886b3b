"""What an API server must do with objects: checks for the sandbox and for a real one alike.

Each check gets a client and a namespace of its own, and asserts numbers, reasons and states. What
only a kubelet can do (container logs) is checked on the sandbox alone, beside this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.adapters.sandbox.client import (
    APPS,
    JSON_PATCH,
    NETWORKING,
    Client,
    deployment_body,
    pod_body,
    refused,
)


async def a_policy_is_created_once_and_a_dry_run_leaves_nothing(api: Client) -> None:
    """A second creation is a conflict; a dry run answers like the real call and stores nothing."""
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
    """The answer shows what would be; the object stays."""
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
    """One failed step refuses all steps with 422, in the server's few words."""
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
    """A resourceVersion in the body is a precondition; an equal write makes no new version."""
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
    """Identity and the fixed part of a pod's spec cannot be patched."""
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
    """UID and resourceVersion are compared before anything is deleted."""
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
    """Names, labels, containers, selectors and policy types are checked, and the field is named."""
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
    """Paths, methods and parameters that do not exist get the real numbers."""
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
    """Equality, sets and presence of labels; names by field."""
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
    """Entering and leaving the selection are told as ADDED and DELETED."""
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


async def a_log_is_asked_of_a_pod_and_container_that_exist(api: Client) -> None:
    """404 for no such pod, 400 for no such container."""
    await api.must("POST", api.path("pods"), pod_body("p"))
    refused(await api.send("GET", api.path("pods", "none") + "/log"), 404, "NotFound")
    wrong = api.path("pods", "p") + "/log?container=none"
    body = refused(await api.send("GET", wrong), 400, "BadRequest")
    assert body["message"] == "container none is not valid for pod p"


async def a_review_answers_what_the_caller_may(api: Client) -> None:
    """Both reviews of one's own rights answer an administrator with everything."""
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
    """Deletion marks; taking the last finalizer off deletes."""
    path = api.path("configmaps")
    held = {"metadata": {"name": "f", "finalizers": ["sandbox.example/hold"]}}
    await api.must("POST", path, held)
    marked = await api.must("DELETE", path + "/f")
    assert marked["metadata"]["deletionTimestamp"]
    await api.must("GET", path + "/f")
    await api.must("PATCH", path + "/f", {"metadata": {"finalizers": None}})
    refused(await api.send("GET", path + "/f"), 404, "NotFound")


CHECKS: tuple[Callable[[Client], Awaitable[None]], ...] = (
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
    a_log_is_asked_of_a_pod_and_container_that_exist,
    a_review_answers_what_the_caller_may,
    a_finalizer_holds_an_object_until_it_is_taken_off,
)
