"""Pods that the node's tests run, and questions about them, as plain JSON objects."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.real.api import Api

PROBE_IMAGE = "localhost/probe:1"
SHELL_IMAGE = "localhost/shell:1"


def pod(
    name: str,
    args: Sequence[str] = (),
    *,
    image: str = PROBE_IMAGE,
    labels: Mapping[str, str] | None = None,
    pull: str = "Never",
    restart: str = "Always",
) -> dict[str, Any]:
    """Return a pod of one container "c", labelled ``app: NAME``, that ends without delay.

    With the probe image the arguments are those of ``tests/cluster/images/probe/main.go``
    (``serve``, ``dial``, ``hold``); with the shell image those of ``sh``.
    """
    container = {"name": "c", "image": image, "imagePullPolicy": pull, "args": list(args)}
    spec = {
        "containers": [container],
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
    }
    return {"metadata": {"name": name, "labels": {"app": name, **(labels or {})}}, "spec": spec}


def deployment(name: str, image: str, replicas: int = 2, **template: Any) -> dict[str, Any]:
    """Return a Deployment of pods made by ``pod`` (whose keywords it takes)."""
    made = pod(name, image=image, **template)
    labels = {"app": name}
    made["metadata"].pop("name")
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": made}
    return {"metadata": {"name": name}, "spec": spec}


def is_ready(cluster: Api, namespace: str, name: str) -> bool:
    """Tell whether a pod is Ready."""
    found = cluster.must("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
    conditions = found["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def image_ids(cluster: Api, namespace: str) -> set[str]:
    """Return the image ids that the pods of a namespace report."""
    found = cluster.must("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return {c["imageID"] for p in found for c in p["status"].get("containerStatuses", [])}
