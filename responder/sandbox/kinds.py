"""The kinds of objects that the sandbox's API server knows, and the paths they live at.

A kind that is missing here is answered with 404, as a real server answers for an API it lacks.
https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BY_KIND", "BY_PATH", "Kind", "kind_named"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: its name, its API group and the word in its path."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    has_status: bool = False
    counts_generation: bool = True  # whether a changed spec raises metadata.generation

    @property
    def api_version(self) -> str:
        """`v1` or `group/version`, as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`pods` or `deployments.apps`, as errors name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def long_kind(self) -> str:
        """`Pod` or `Deployment.apps`, as validation errors name it."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


_ALL = (
    Kind("Pod", "pods", has_status=True),
    Kind("Service", "services", has_status=True, counts_generation=False),
    Kind("Event", "events", counts_generation=False),
    Kind("Node", "nodes", namespaced=False, has_status=True, counts_generation=False),
    Kind("Namespace", "namespaces", namespaced=False, has_status=True, counts_generation=False),
    Kind("ConfigMap", "configmaps", counts_generation=False),
    Kind("Secret", "secrets", counts_generation=False),
    Kind("ServiceAccount", "serviceaccounts", counts_generation=False),
    Kind("PersistentVolumeClaim", "persistentvolumeclaims", has_status=True),
    Kind("ReplicationController", "replicationcontrollers", has_status=True),
    Kind("ReplicaSet", "replicasets", "apps", has_status=True),
    Kind("Deployment", "deployments", "apps", has_status=True),
    Kind("StatefulSet", "statefulsets", "apps", has_status=True),
    Kind("DaemonSet", "daemonsets", "apps", has_status=True),
    Kind("Job", "jobs", "batch", has_status=True),
    Kind("CronJob", "cronjobs", "batch", has_status=True),
    Kind("EndpointSlice", "endpointslices", "discovery.k8s.io"),
    Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io"),
    Kind("PodDisruptionBudget", "poddisruptionbudgets", "policy", has_status=True),
)

BY_KIND = {(kind.group, kind.kind): kind for kind in _ALL}
BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in _ALL}
_BY_NAME = {kind.kind: kind for kind in _ALL}


def kind_named(name: str) -> Kind:
    """The kind with this name; raises `KeyError` for one the sandbox does not know."""
    return _BY_NAME[name]
