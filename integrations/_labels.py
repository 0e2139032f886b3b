"""Turn flat labels, as Prometheus rules and event details carry them, into a target.

There is no standard place for a pod in a label set; these are the names in use. Where a scraped
exporter speaks of another object, Prometheus keeps that object under `exported_…` and puts the
exporter's own pod under the plain name, so `exported_…` wins.
See honor_labels in https://prometheus.io/docs/prometheus/latest/configuration/configuration/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from integrations import _values as values
from responder.model import Target

__all__ = ["KINDS", "target_from"]

_NAMESPACE = ("namespace", "kubernetes_namespace", "k8s_ns_name", "k8s.ns.name", "ns")
_POD = ("pod", "pod_name", "kubernetes_pod_name", "k8s_pod_name", "k8s.pod.name")
_CONTAINER = ("container", "container_name", "container.name")
_IDS = ("container_id", "container.id")
_NODE = ("node", "node_name", "nodename", "kubernetes_node", "k8s_node_name")
_EXPORTED = ("exported_namespace", "exported_pod", "exported_container")
# `job` is the scrape job in every Prometheus label set; a Kubernetes Job is `job_name`.
_OWNERS = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
    "cronjob": "CronJob",
    "job_name": "Job",
    "replicaset": "ReplicaSet",
}
KINDS = {kind.lower(): kind for kind in _OWNERS.values()}


def target_from(labels: Mapping[str, Any], cluster: str) -> Target:
    """What the labels name, and nothing that they do not; malformed names are absent.

    `cluster` is the hook's: a label never chooses the cluster.
    """
    exported = any(label in labels for label in ("exported_pod", "exported_namespace"))
    namespace, pod, container = (
        (values.name(labels.get(label)) for label in _EXPORTED)
        if exported
        else (_first(labels, names) for names in (_NAMESPACE, _POD, _CONTAINER))
    )
    return Target(
        cluster=cluster,
        namespace=namespace,
        pod=pod,
        pod_uid=_first(labels, ("pod_uid",)) if pod and not exported else "",
        container="" if container == "host" else container,
        container_id="" if exported else _first(labels, _IDS, values.container_id),
        image="" if exported else _image(labels),
        digest="" if exported else _first(labels, ("digest", "image_id"), values.digest),
        workload=_workload(labels),
        node=_first(labels, _NODE),
        host=_host(labels),
    )


def _first(
    labels: Mapping[str, Any],
    names: tuple[str, ...],
    read: Callable[[Any], str] = values.name,
) -> str:
    """The first of these labels that holds something readable."""
    for label in names:
        if text := read(labels.get(label)):
            return text
    return ""


def _image(labels: Mapping[str, Any]) -> str:
    repository = labels.get("container_image_repository", labels.get("container.image.repository"))
    tag = labels.get("container_image_tag", labels.get("container.image.tag"))
    return values.image_name(labels.get("image")) or values.image_name(repository, tag)


def _workload(labels: Mapping[str, Any]) -> str:
    """`Kind/name`; the pair `workload`, `workload_type` is what kube-prometheus rules use."""
    for label, kind in _OWNERS.items():
        if named := values.name(labels.get(label)):
            return f"{kind}/{named}"
    kind = KINDS.get(values.string(labels.get("workload_type")).lower(), "")
    named = values.name(labels.get("workload"))
    return f"{kind}/{named}" if kind and named else ""


def _host(labels: Mapping[str, Any]) -> str:
    """`hostname`, `host`, or `instance` without its port: whom was scraped, not surely a node."""
    instance = values.string(labels.get("instance")).rpartition("://")[2]
    bare, _, port = instance.rpartition(":")
    scraped = values.name(bare if port.isdigit() else instance)
    return _first(labels, ("hostname", "host")) or scraped
