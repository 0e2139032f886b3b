"""Kubernetes roles from what the actions declare: nothing is listed twice.

The rules are exactly the declared ones, a role for each concern (`ActionInfo.role`), so that each
can be bound, left out, or given to an account of its own. No wildcard, no secrets, no
`nodes/proxy`, no `escalate`, `bind` or `impersonate` can come out of here unless an action
declares it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from responder.playbook.definition import Playbook
from responder.playbook.templates import Template
from responder.ports import ActionInfo, Permission, needed

__all__ = ["manifests", "rules", "uses"]

NAME = "responder"
SWITCH = "controls"  # the ConfigMap whose key `pause` holds changes; see clusters.<name>.pause
_READER = "reader"  # the concern of what is needed beside the actions
_RBAC = "rbac.authorization.k8s.io/v1"


def uses(playbook: Playbook) -> frozenset[str]:
    """The actions that a playbook names, its closing steps included.

    Beside each the values that its steps give, "action param=value", because some rights are
    needed for those only; "action param=*" where the value is known only when it runs.
    """
    steps = (*playbook.steps.values(), *playbook.finally_)
    return frozenset(word for step in steps for word in (step.use, *_given(step.use, step.params)))


def _given(use: str, params: Template) -> Iterator[str]:
    given = params.value if isinstance(params.value, Mapping) else {}
    for name, value in given.items():
        if Template(value).expressions:
            yield f"{use} {name}=*"
        elif isinstance(value, bool):
            yield f"{use} {name}={str(value).lower()}"
        elif isinstance(value, str | int | float):
            yield f"{use} {name}={value}"


def rules(permissions: Iterable[Permission], scope: str) -> list[dict[str, Any]]:
    """The rules of one scope, one for each group and resource."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for right in permissions:
        if right.system == "kubernetes" and right.scope == scope:
            verbs.setdefault((right.group, right.resource), set()).update(right.verbs)
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": sorted(found)}
        for (group, resource), found in sorted(verbs.items())
    ]


def manifests(
    infos: Iterable[ActionInfo],
    *,
    account_namespace: str,
    namespaces: Iterable[str],
    base: Iterable[Permission] = (),
    used: Collection[str] = (),
) -> list[dict[str, Any]]:
    """A service account, the roles of each concern with their bindings, and the switch.

    Rights that only some values of a parameter need are given where `used` says them; see `uses`.

    What is asked of a namespace is bound in each of `namespaces`, what is asked of the cluster in
    all of it, and what is asked of our home in `account_namespace`.
    """
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": account_namespace}
    watched = list(namespaces)
    found = [_object("v1", "ServiceAccount", NAME, account_namespace)]
    for concern, rights in sorted(_by_concern(infos, base, used).items()):
        found += _roles(f"{NAME}-{concern}", rights, account, watched)
    read = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    rule = {**read, "resourceNames": [SWITCH]}
    return [*found, *_home(f"{NAME}-{SWITCH}", [rule], account)]


def _by_concern(
    infos: Iterable[ActionInfo], base: Iterable[Permission], used: Collection[str]
) -> dict[str, list[Permission]]:
    found: dict[str, list[Permission]] = {_READER: list(base)}
    for info in infos:
        found.setdefault(info.role, []).extend(needed(info.permissions, used))
    return found


def _roles(
    name: str, rights: list[Permission], account: Mapping[str, str], namespaces: list[str]
) -> Iterator[dict[str, Any]]:
    """The roles of one concern; what would be empty is left out."""
    if asked := rules(rights, "namespace"):
        yield _object(_RBAC, "ClusterRole", name, rules=asked)
        for namespace in namespaces:
            yield _binding("RoleBinding", name, account, namespace)
    if asked := rules(rights, "cluster"):
        yield _object(_RBAC, "ClusterRole", f"{name}-cluster", rules=asked)
        yield _binding("ClusterRoleBinding", f"{name}-cluster", account)
    if asked := rules(rights, "home"):
        yield from _home(f"{name}-home", asked, account)


def _home(
    name: str, asked: list[dict[str, Any]], account: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    place = account["namespace"]
    yield _object(_RBAC, "Role", name, place, rules=asked)
    yield _binding("RoleBinding", name, account, place, kind_of="Role")


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
