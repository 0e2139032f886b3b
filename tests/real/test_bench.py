"""The real parts answer: few and fast checks of the bench itself, not of the product."""

import pytest

from tests.real.cluster import ControlPlane, Node
from tests.real.waiting import wait_until


def test_the_control_plane_answers_its_administrator_and_refuses_a_stranger(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The administrator sees the version; a token without rights may not list pods."""
    assert control_plane.must("GET", "/version")["gitVersion"].startswith("v1.")
    nobody = control_plane.token_for(namespace, "nobody")
    pods = f"/api/v1/namespaces/{namespace}/pods"
    assert control_plane.request("GET", pods, token=nobody)[0] == 403
    assert control_plane.request("GET", pods)[0] == 200


async def test_the_control_plane_can_be_asked_without_blocking_the_loop(
    control_plane: ControlPlane,
) -> None:
    """The awaited request gives the same answer as the plain one."""
    path = "/apis/apps/v1"
    assert await control_plane.arequest("GET", path) == control_plane.request("GET", path)


def probe_pod(name: str, *args: str, image: str = Node.probe_image) -> dict[str, object]:
    """Return a pod that runs the probe program, never pulled from anywhere."""
    container = {"name": "c", "image": image, "imagePullPolicy": "Never", "args": list(args)}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def is_ready(cluster: ControlPlane | Node, pod: str) -> bool:
    """Tell whether a pod (by its path) is Ready."""
    conditions = cluster.must("GET", pod)["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@pytest.mark.parametrize(("mode", "answer"), [("none", "ok"), ("strict", "timeout")])
def test_packets_on_the_node_obey_a_policy_only_when_one_is_enforced(
    node: Node, node_namespace: str, mode: str, answer: str
) -> None:
    """A running pod is reached from outside; a deny-all stops it exactly when one enforces it."""
    pod = f"/api/v1/namespaces/{node_namespace}/pods/server"
    policies = f"/apis/networking.k8s.io/v1/namespaces/{node_namespace}/networkpolicies"
    node.must("POST", pod.removesuffix("/server"), probe_pod("server", "serve"))
    wait_until(lambda: is_ready(node, pod), "the server to be Ready")
    address = f"{node.must('GET', pod)['status']['podIP']}:7000"
    node.policy(mode)
    try:
        wait_until(lambda: dial(node, address) == "ok", "the server's answer")
        deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        node.must("POST", policies, {"metadata": {"name": "deny"}, "spec": deny})
        wait_until(lambda: dial(node, address) == answer, f"the answer {answer!r}")
    finally:
        node.policy("none")


def dial(node: Node, address: str) -> str:
    """Open one new connection from the host beyond the node's uplink and return the outcome."""
    return node.exec(
        [str(node.probe_program), "dial", address, "-t", "500ms"], outside=True
    ).stdout.strip()
