"""The guard on our own account, on a real API server: what our token must never be able to do.

That every action works under it is shown by the other tests of this folder: `stage.account_for`
installs it for each account.
"""

from __future__ import annotations

from typing import Any

import pytest

from integrations.kubernetes import INFOS, guard_check, guarding
from integrations.kubernetes.client import Connection
from integrations.kubernetes.settings import read
from responder.clock import World
from responder.ports import ActionInfo
from tests.adapters.kubernetes import stage
from tests.real.cluster import ControlPlane
from tests.real.waiting import wait_until

LABEL = "responder.dev/quarantine"
OURS = {"app.kubernetes.io/managed-by": "responder", LABEL: "inc-1-aaaa"}
NETWORKING = "/apis/networking.k8s.io/v1/namespaces"
Json = dict[str, Any]


def infos(*names: str) -> list[ActionInfo]:
    """The actions of these names."""
    wanted = {f"kubernetes.{name}" for name in names}
    found = [info for info in INFOS if info.name in wanted]
    assert len(found) == len(names)
    return found


def refused(answer: tuple[int, Json], why: str) -> None:
    """The API server said no, because of the guard and for this reason."""
    status, body = answer
    assert status == 422, body
    assert "guard" in body["message"]
    assert why in body["message"]


def policy(**spec: Any) -> Json:
    """A policy with our labels."""
    body = {"podSelector": {"matchLabels": {LABEL: "inc-1-aaaa"}}, "policyTypes": ["Ingress"]}
    return {"metadata": {"name": "made", "labels": OURS}, "spec": {**body, **spec}}


def test_our_token_changes_nothing_of_a_pod_but_our_labels(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Not its image, not its owner, not others' annotations; a label of ours passes."""
    stage.bare(control_plane, namespace)
    token = stage.account_for(control_plane, namespace, infos("quarantine_pod"))
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    spec = {"spec": {"containers": [{"name": "c", "image": "evil"}]}}
    pod = stage.read(control_plane, path)[1]
    spec["spec"]["containers"][0]["name"] = pod["spec"]["containers"][0]["name"]
    strategic = "application/strategic-merge-patch+json"
    why = "only our labels and annotations are changed"
    refused(control_plane.request("PATCH", path, spec, token=token, content_type=strategic), why)
    for metadata in (
        {"annotations": {"somebody": "else"}},
        {"labels": {"app": "other"}},
        {"finalizers": ["a.example/b"]},
    ):
        refused(control_plane.request("PATCH", path, {"metadata": metadata}, token=token), why)
    mine = {"metadata": {"labels": {LABEL: "inc-1-aaaa"}}}
    assert control_plane.request("PATCH", path, mine, token=token)[0] == 200


def test_our_token_neither_opens_nor_removes_what_others_closed(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Only a policy of ours that allows nothing is made; others' policies stay as they are."""
    token = stage.account_for(control_plane, namespace, infos("quarantine_pod"))
    path = f"{NETWORKING}/{namespace}/networkpolicies"
    theirs = {"metadata": {"name": "theirs"}, "spec": {"podSelector": {}}}
    uid = control_plane.must("POST", path, theirs)["metadata"]["uid"]
    why = "only a policy of ours that allows nothing is made"
    refused(control_plane.request("POST", path, policy(ingress=[{}]), token=token), why)
    foreign = policy()
    foreign["metadata"]["labels"] = {}
    refused(control_plane.request("POST", path, foreign, token=token), why)
    exactly = {"preconditions": {"uid": uid}}
    answer = control_plane.request("DELETE", f"{path}/theirs", exactly, token=token)
    refused(answer, "this policy is not of our making")
    assert control_plane.request("POST", path, policy(), token=token)[0] == 201
    by_name = control_plane.request("DELETE", f"{path}/made", token=token)
    refused(by_name, "only one object, named by its UID, is deleted")


def test_nothing_is_changed_in_a_protected_namespace(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The right is there, and the guard says no."""
    stage.bare(control_plane, namespace)
    token = stage.account_for(
        control_plane, namespace, infos("quarantine_pod"), protected=[namespace]
    )
    mine = {"metadata": {"labels": {LABEL: "inc-1-aaaa"}}}
    path = f"/api/v1/namespaces/{namespace}/pods/solo"
    refused(control_plane.request("PATCH", path, mine, token=token), "this namespace is protected")


def test_a_write_that_no_used_action_makes_is_refused_whatever_the_roles_say(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A role that grew by mistake opens nothing."""
    token = stage.account_for(control_plane, namespace, infos("quarantine_pod"))
    subject = control_plane.request(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        {},
        token=token,
    )[1]["status"]["userInfo"]["username"]
    grown = {
        "metadata": {"name": "grown"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "User", "name": subject}],
    }
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
    control_plane.must("POST", roles, grown)
    secret = {"metadata": {"name": "s"}, "stringData": {"a": "b"}}
    path = f"/api/v1/namespaces/{namespace}/secrets"
    wait_until(
        lambda: control_plane.request("GET", path, token=token)[0] == 200, "the grown rights"
    )
    answer = control_plane.request("POST", path, secret, token=token)
    refused(answer, "no loaded playbook needs such a write")


async def test_doctor_says_whether_the_guard_is_installed(
    control_plane: ControlPlane, namespace: str
) -> None:
    """By a write that is only tried: in force, not installed, cannot be told."""
    guarded = stage.account_for(control_plane, namespace, infos("quarantine_pod"))
    poor = stage.account_for(control_plane, namespace, infos("cordon_node"))
    said = []
    for token in (guarded, control_plane.admin_token, poor):
        table = {"api": control_plane.api, "ca": str(control_plane.ca), "token": token}
        settings = read({"prod": {**table, "namespaces": [namespace]}})["prod"]
        link = Connection("prod", settings, World())
        try:
            said.append(await guard_check.told(link))
        finally:
            await link.close()
    assert said[0] == "ok (the guard is in force)"
    assert "is not guarded" in said[1]
    assert "cannot be told" in said[2]


@pytest.mark.parametrize("glob", ["kube-*", "prod", "team-?"])
def test_a_protected_namespace_may_be_a_glob(glob: str) -> None:
    """Its pattern stands in the expression, anchored at both ends."""
    scope = guarding.Scope(home="home", protected=(glob,))
    made, _ = guarding.guard(scope, guarding.need_of(scope, infos("quarantine_pod")))
    found = [one["expression"] for one in made["spec"]["validations"] if "matches" in str(one)]
    assert len(found) == 1
    pattern = glob.replace("*", ".*").replace("?", ".")
    assert f"^({pattern}|home)$" in found[0]
