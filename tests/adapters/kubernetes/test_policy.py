"""Selectors, policies, owners and rollouts as tables: pure, no cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.kubernetes.identity import bare_id, digest_in
from integrations.kubernetes.owners import treatment
from integrations.kubernetes.policy import remaining, selects, service_selects
from integrations.kubernetes.quarantine import LABEL, Request, Scene, design
from integrations.kubernetes.release import Hold, difference
from integrations.kubernetes.rollout import pick_container, progress, running, selector_query
from responder.errors import StepFailed
from responder.model import Plan

DIGEST = "sha256:" + "a" * 64


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    """A selector of one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        (None, {"a": "1"}, False),
        ({}, {}, True),
        ({}, {"a": "1"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchLabels": {"a": "1"}}, {}, False),
        (expression("a", "In", "1", "2"), {"a": "2"}, True),
        (expression("a", "In", "1"), {}, False),
        (expression("a", "NotIn", "1"), {}, True),
        (expression("a", "NotIn", "1"), {"a": "1"}, False),
        (expression("a", "NotIn", "1"), {"a": "2"}, True),
        (expression("a", "Exists"), {"a": ""}, True),
        (expression("a", "Exists"), {}, False),
        (expression("a", "DoesNotExist"), {}, True),
        (expression("a", "DoesNotExist"), {"a": "1"}, False),
        (expression("a", "OfTomorrow"), {}, True),
        ({"matchLabels": {"a": "1"}, **expression("b", "Exists")}, {"a": "1"}, False),
    ],
)
def test_a_selector_matches_as_the_api_says(
    selector: dict[str, Any] | None, labels: dict[str, str], expected: bool
) -> None:
    """Absent keys satisfy NotIn and DoesNotExist; an unknown operator counts as selecting."""
    assert selects(selector, labels) is expected


def test_our_own_policy_and_those_that_do_not_select_are_no_residual() -> None:
    """Only a foreign policy that selects and allows counts."""
    policies = [
        {"metadata": {"name": "own"}, "spec": {"podSelector": {}, "ingress": [{}]}},
        {
            "metadata": {"name": "other-app"},
            "spec": {"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{}]},
        },
        {"metadata": {"name": "deny"}, "spec": {"podSelector": {}}},
        {"metadata": {"name": "open"}, "spec": {"podSelector": {}, "ingress": [{}]}},
    ]
    found = remaining(policies, {"q": "1"}, own="own")
    assert found == ("NetworkPolicy open still allows ingress",)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [({}, False), ({"a": "1"}, True), ({"a": "1", "b": "2"}, False), (None, False)],
)
def test_a_service_without_selector_selects_nothing(
    selector: dict[str, str] | None, expected: bool
) -> None:
    """Unlike a policy's."""
    assert service_selects({"spec": {"selector": selector}}, {"a": "1"}) is expected


@pytest.mark.parametrize(
    ("image_id", "expected"),
    [
        (f"registry.test/a@{DIGEST}", DIGEST),
        (f"docker-pullable://registry.test/a@{DIGEST}", DIGEST),
        (DIGEST, ""),
        (f"docker://{DIGEST}", ""),
        ("registry.test/a@sha256:12", ""),
        ("", ""),
    ],
)
def test_only_a_registrys_digest_counts(image_id: str, expected: str) -> None:
    """A bare sha256 is a config id that no registry knows."""
    assert digest_in(image_id) == expected


def test_a_container_id_is_compared_without_its_runtime() -> None:
    """Senders leave the scheme out."""
    assert bare_id("containerd://ABC") == "abc"
    assert bare_id("abc") == "abc"


def a_pod(**metadata: Any) -> dict[str, Any]:
    """A pod as the API gives it."""
    return {
        "metadata": {
            "namespace": "shop",
            "name": "cart-1",
            "uid": "11112222-3333",
            "resourceVersion": "7",
            "labels": {"app": "cart"},
            **metadata,
        },
        "spec": {"containers": [{"name": "main", "image": "x"}]},
        "status": {"phase": "Running"},
    }


def owned(kind: str) -> list[dict[str, Any]]:
    """Owner references of one controller."""
    return [{"kind": kind, "name": "cart", "uid": "u1", "controller": True}]


@pytest.mark.parametrize(
    ("kind", "strip"),
    [
        ("ReplicaSet", True),
        ("ReplicationController", True),
        ("Job", True),
        ("StatefulSet", False),
        ("DaemonSet", False),
        ("CloneSet", False),
    ],
)
def test_labels_are_taken_off_only_where_the_owner_can_bear_it(kind: str, strip: bool) -> None:
    """An owner of an unknown kind is never assumed to be harmless."""
    found = treatment(a_pod(ownerReferences=owned(kind)))
    assert found.strip is strip
    assert found.refusal == ""
    assert found.consequence


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_refused(phase: str) -> None:
    """Nothing runs that could be isolated."""
    pod = {**a_pod(), "status": {"phase": phase}}
    with pytest.raises(StepFailed, match="has ended"):
        planned(pod)


def planned(pod: dict[str, Any], key: str = "run_1/s", **lists: Any) -> Plan:
    """The plan for a pod."""
    request = Request(
        action="kubernetes.quarantine_pod", cluster="prod", incident=42, key=key, expires="4h"
    )
    return design(Scene(pod=pod, **lists), request)


def applied(pod: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """The pod after the plan, as an API server would leave it."""
    after = copy.deepcopy(pod)
    change = next(c for c in plan.changes if c.verb == "patch")
    after["metadata"]["labels"] = change.after["labels"]
    annotations = after["metadata"].get("annotations") or {}
    after["metadata"]["annotations"] = annotations | change.after["annotations"]
    if "app" not in change.after["labels"]:
        after["metadata"].pop("ownerReferences", None)  # the controller lets go
    return after


LABELS = st.dictionaries(
    st.sampled_from(["app", "tier", "x/y", "team"]), st.sampled_from(["", "a", "b"]), max_size=4
)
OWNERS = st.sampled_from([None, "ReplicaSet", "Job", "StatefulSet", "DaemonSet", "CloneSet"])


@given(labels=LABELS, kind=OWNERS, version=st.integers(1, 99))
def test_the_same_step_plans_the_same_before_and_after_it_was_done(
    labels: dict[str, str], kind: str | None, version: int
) -> None:
    """Noise leaves the hash alone; so does the step's own work; undo knows all labels."""
    pod = a_pod(labels=labels, **({"ownerReferences": owned(kind)} if kind else {}))
    plan = planned(pod)
    noisy = copy.deepcopy(pod)
    noisy["metadata"]["resourceVersion"] = str(version)
    noisy["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert planned(noisy).hash == plan.hash
    done = applied(pod, plan)
    assert planned(done).hash == plan.hash
    assert Plan.from_json(plan.to_json()).hash == plan.hash
    hold = Hold.of_plan(plan)
    assert hold == Hold.of_pod(done)
    assert hold.original == labels


@given(labels=LABELS, extra=st.sampled_from(["app", "tier", "new"]))
def test_a_change_of_meaning_changes_the_hash(labels: dict[str, str], extra: str) -> None:
    """Another label, another UID, a policy that opens: a yes to the old plan is void."""
    plan = planned(a_pod(labels=labels))
    assert planned(a_pod(labels={**labels, extra: "changed"})).hash != plan.hash
    assert planned(a_pod(labels=labels, uid="99992222-3333")).hash != plan.hash
    opens = {"metadata": {"name": "open"}, "spec": {"podSelector": {}, "ingress": [{}]}}
    assert planned(a_pod(labels=labels), policies=[opens]).hash != plan.hash


def test_names_outside_derive_from_incident_and_uid() -> None:
    """Two pods of one incident never share a policy; the same pod always has the same."""
    plan = planned(a_pod())
    assert plan.data["policy"] == "responder-quarantine-11112222"
    assert planned(a_pod(), key="run_9/s").data["policy"] == plan.data["policy"]
    assert planned(a_pod(uid="5555-6")).data["policy"] != plan.data["policy"]
    assert plan.changes[1].after["labels"] == {LABEL: "inc-42-11112222"}


def test_a_difference_shows_both_sides() -> None:
    """Missing, new and changed keys."""
    text = difference({"a": "1", "b": "2"}, {"b": "3", "c": "4"})
    assert text == "-a=1, +c=4, b: expected 2, got 3"


def a_deployment(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A Deployment as the API gives it."""
    return {
        "kind": "Deployment",
        "metadata": {"name": "cart", "namespace": "shop", "generation": 3},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "cart"}},
            "template": {"spec": {"containers": [{"name": "main", "image": "x/cart:1"}]}},
            **spec,
        },
        "status": status,
    }


FULL = {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("status", "done"),
    [
        (FULL, True),
        ({**FULL, "observedGeneration": 2}, False),
        ({**FULL, "updatedReplicas": 1}, False),
        ({**FULL, "availableReplicas": 1}, False),
        ({**FULL, "replicas": 3}, False),
        ({}, False),
    ],
)
def test_a_rollout_is_done_only_when_all_of_it_is(status: dict[str, Any], done: bool) -> None:
    """An old status, an old pod left or a pod that is not available is not the end."""
    assert progress(a_deployment(status)).done is done


def test_the_container_is_found_by_name_by_being_alone_or_by_its_repository() -> None:
    """Two containers of other repositories are ambiguous: the error names them."""
    workload = a_deployment({})
    assert pick_container(workload, "", "y/other@" + DIGEST) == "main"
    containers = workload["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "side", "image": "reg:5000/x/side:2"})
    assert pick_container(workload, "", f"reg:5000/x/side@{DIGEST}") == "side"
    with pytest.raises(StepFailed, match="name one of main, side"):
        pick_container(workload, "", f"y/other@{DIGEST}")
    with pytest.raises(StepFailed, match="has no container 'nope'"):
        pick_container(workload, "nope", f"x@{DIGEST}")


def test_a_selector_becomes_a_query() -> None:
    """All four operators."""
    selector = {
        "matchLabels": {"a": "1"},
        "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["1", "2"]},
            {"key": "c", "operator": "NotIn", "values": ["3"]},
            {"key": "d", "operator": "Exists"},
            {"key": "e", "operator": "DoesNotExist"},
        ],
    }
    query = selector_query(a_deployment({}, selector=selector))
    assert query == "a=1,b in (1,2),c notin (3),d,!e"


def test_what_a_pod_runs_is_told_by_digest_by_spec_or_not_at_all() -> None:
    """Isolated and ending pods do not count."""

    def pod(name: str, image: str, image_id: str, **metadata: Any) -> dict[str, Any]:
        return {
            "metadata": {"name": name, **metadata},
            "spec": {"containers": [{"name": "main", "image": image}]},
            "status": {"containerStatuses": [{"name": "main", "imageID": image_id}]},
        }

    image = f"x/cart@{DIGEST}"
    found = running(
        [
            pod("exact", image, image),
            pod("config", image, "sha256:" + "b" * 64),
            pod("old", "x/cart:1", "x/cart@sha256:" + "c" * 64),
            pod("held", "x/cart:1", "", labels={LABEL: "inc-1"}),
            pod("going", "x/cart:1", "", deletionTimestamp="now"),
        ],
        "main",
        image,
    )
    assert found == (["exact"], ["config"], ["old"])
