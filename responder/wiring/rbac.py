"""Kubernetes roles from what the actions declare: nothing is listed twice.

The rules are exactly the declared ones. No wildcard, no secrets, no `nodes/proxy`, no `escalate`,
`bind` or `impersonate` can come out of here unless an action declares it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from responder.ports import ActionInfo

__all__ = ["manifests", "rules"]

NAME = "responder"
SWITCH = "controls"  # the ConfigMap whose key `pause` holds changes; see clusters.<name>.pause


def rules(infos: Iterable[ActionInfo], scope: str) -> list[dict[str, Any]]:
    """The rules of one scope (`namespace` or `cluster`), one for each group and resource."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for info in infos:
        for right in info.permissions:
            if right.system == "kubernetes" and right.scope == scope:
                verbs.setdefault((right.group, right.resource), set()).update(right.verbs)
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": sorted(found)}
        for (group, resource), found in sorted(verbs.items())
    ]


def manifests(
    infos: Iterable[ActionInfo], *, account_namespace: str, namespaces: Iterable[str]
) -> list[dict[str, Any]]:
    """A service account, a role bound in each namespace, one for what has none, and the switch."""
    infos = list(infos)
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": account_namespace}
    found = [
        _object("v1", "ServiceAccount", NAME, account_namespace),
        _object(_RBAC, "ClusterRole", NAME, rules=rules(infos, "namespace")),
        _object(_RBAC, "ClusterRole", f"{NAME}-nodes", rules=rules(infos, "cluster")),
        _binding("ClusterRoleBinding", f"{NAME}-nodes", account),
    ]
    found += [_binding("RoleBinding", NAME, account, name) for name in namespaces]
    read = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    rule = {**read, "resourceNames": [SWITCH]}
    return [
        *found,
        _object(_RBAC, "Role", f"{NAME}-{SWITCH}", account_namespace, rules=[rule]),
        _binding("RoleBinding", f"{NAME}-{SWITCH}", account, account_namespace, kind_of="Role"),
    ]


_RBAC = "rbac.authorization.k8s.io/v1"


def _object(version: str, kind: str, name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **more}


def _binding(
    kind: str,
    role: str,
    account: Mapping[str, str],
    namespace: str = "",
    *,
    kind_of: str = "ClusterRole",
) -> dict[str, Any]:
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind_of, "name": role}
    return _object(_RBAC, kind, role, namespace, subjects=[dict(account)], roleRef=ref)
