"""Where each kind of object lives in the API, and which names may stand in a path.

Names come from alerts, so an intruder may have chosen them: nothing gets into a path that is not
a valid object name (https://kubernetes.io/docs/concepts/overview/working-with-objects/names/).
"""

from __future__ import annotations

import re
from typing import Final

from responder.errors import StepFailed
from responder.text import cut, for_terminal

__all__ = ["CLUSTER_WIDE", "KINDS", "collection", "named", "valid_name"]

KINDS: Final = {
    "Pod": ("api/v1", "pods"),
    "Node": ("api/v1", "nodes"),
    "Event": ("api/v1", "events"),
    "Service": ("api/v1", "services"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Namespace": ("api/v1", "namespaces"),
    "Secret": ("api/v1", "secrets"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "PodTemplate": ("api/v1", "podtemplates"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "ReplicationController": ("api/v1", "replicationcontrollers"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "StatefulSet": ("apis/apps/v1", "statefulsets"),
    "DaemonSet": ("apis/apps/v1", "daemonsets"),
    "Job": ("apis/batch/v1", "jobs"),
    "CronJob": ("apis/batch/v1", "cronjobs"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices"),
    "HorizontalPodAutoscaler": ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ClusterRoleBinding": ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    "ValidatingAdmissionPolicy": (
        "apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicies",
    ),
    "ValidatingAdmissionPolicyBinding": (
        "apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
    ),
    "ValidatingWebhookConfiguration": (
        "apis/admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
    ),
    "MutatingWebhookConfiguration": (
        "apis/admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
    ),
    "ClusterNetworkPolicy": ("apis/policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies"),
    "AdminNetworkPolicy": ("apis/policy.networking.k8s.io/v1alpha1", "adminnetworkpolicies"),
    "CiliumNetworkPolicy": ("apis/cilium.io/v2", "ciliumnetworkpolicies"),
    # two of one kind: what Calico's API server serves, and the objects below it
    "CalicoNetworkPolicy": ("apis/projectcalico.org/v3", "networkpolicies"),
    "CalicoGlobalNetworkPolicy": ("apis/projectcalico.org/v3", "globalnetworkpolicies"),
    "CalicoTier": ("apis/projectcalico.org/v3", "tiers"),
    "CalicoStoredPolicy": ("apis/crd.projectcalico.org/v1", "networkpolicies"),
    "CalicoStoredGlobalPolicy": ("apis/crd.projectcalico.org/v1", "globalnetworkpolicies"),
    "CalicoStoredTier": ("apis/crd.projectcalico.org/v1", "tiers"),
    "EgressFirewall": ("apis/k8s.ovn.org/v1", "egressfirewalls"),
    "GitRepository": ("apis/source.toolkit.fluxcd.io/v1", "gitrepositories"),
    "Kustomization": ("apis/kustomize.toolkit.fluxcd.io/v1", "kustomizations"),
    "HelmRelease": ("apis/helm.toolkit.fluxcd.io/v2", "helmreleases"),
}
CLUSTER_WIDE: Final = frozenset(
    {
        "Node",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ClusterNetworkPolicy",
        "AdminNetworkPolicy",
        "CalicoGlobalNetworkPolicy",
        "CalicoTier",
        "CalicoStoredGlobalPolicy",
        "CalicoStoredTier",
    }
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_MAX = 253


def valid_name(text: str, what: str) -> str:
    """The name itself. Raises `StepFailed` when no object can be called so."""
    if len(text) > _NAME_MAX or not _NAME.fullmatch(text):
        shown = for_terminal(cut(text, 80))
        raise StepFailed(f"{what}: {shown!r} is no name that a Kubernetes object can have")
    return text


def collection(kind: str, namespace: str = "") -> str:
    """The path of all objects of a kind, in a namespace or (empty) of the cluster."""
    group, plural = KINDS[kind]
    place = f"/namespaces/{valid_name(namespace, 'namespace')}" if namespace else ""
    return f"/{group}{place}/{plural}"


def named(kind: str, namespace: str, name: str) -> str:
    """The path of one object."""
    return f"{collection(kind, namespace)}/{valid_name(name, kind)}"
