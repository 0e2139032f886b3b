"""What a service account may do, and how it is taken away. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import reference
from responder.model import Blast, Change, Effect, Plan
from responder.ports import Call

__all__ = ["Account", "Scene", "again", "design", "label", "names", "scene", "with_", "without"]

_RBAC = "rbac.authorization.k8s.io"
_OF = "kubernetes.io/service-account.name"
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One service account."""

    namespace: str
    name: str
    uid: str

    @property
    def label(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def subject(self) -> Json:
        """How bindings name it."""
        return {"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}

    @property
    def groups(self) -> frozenset[str]:
        """Groups that every such account is in; their rights cannot be taken from one alone."""
        whole = "system:serviceaccounts"
        return frozenset({whole, f"{whole}:{self.namespace}", "system:authenticated"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was read for one account."""

    bindings: list[Json]  # that name it
    by_group: list[Json]  # that reach it through a group
    secrets: list[Json]  # its token Secrets: metadata only
    pods: list[Json]  # that run as it


def label(item: Mapping[str, Any]) -> str:
    """`RoleBinding shop/cart`."""
    metadata = item["metadata"]
    space = metadata.get("namespace")
    return (
        f"{item['kind']} {space}/{metadata['name']}"
        if space
        else (f"{item['kind']} {metadata['name']}")
    )


def names(binding: Json, account: Account) -> bool:
    """Whether a binding names the account, as an account or as a user."""
    return any(_is(subject, binding, account) for subject in binding.get("subjects") or [])


def _is(subject: Mapping[str, Any], binding: Json, account: Account) -> bool:
    if subject.get("kind") == "User":
        return subject.get("name") == f"system:serviceaccount:{account.namespace}:{account.name}"
    space = subject.get("namespace") or binding["metadata"].get("namespace", "")
    wanted = ("ServiceAccount", account.name, account.namespace)
    return (subject.get("kind"), subject.get("name"), space) == wanted


def scene(account: Account, bindings: list[Json], secrets: list[Json], pods: list[Json]) -> Scene:
    """Sort out what concerns the account."""
    return Scene(
        bindings=[one for one in bindings if names(one, account)],
        by_group=[one for one in bindings if _by_group(one, account)],
        secrets=[
            one
            for one in secrets
            if (one["metadata"].get("annotations") or {}).get(_OF) == account.name
        ],
        pods=pods,
    )


def _by_group(binding: Json, account: Account) -> bool:
    subjects = binding.get("subjects") or []
    groups = {one.get("name") for one in subjects if one.get("kind") == "Group"}
    own = groups & account.groups
    # every account may ask who it is and what it may do: not worth a line
    basic = binding["metadata"]["name"].startswith("system:")
    return bool(own) and not basic


def without(binding: Json, account: Account) -> Json:
    """The patch that takes the account out of a binding that others share."""
    subjects = [one for one in binding["subjects"] if not _is(one, binding, account)]
    return _patch(binding, subjects)


def with_(binding: Json, account: Account) -> Json:
    """The patch that puts it back in."""
    return _patch(binding, [*(binding.get("subjects") or []), account.subject])


def _patch(binding: Json, subjects: list[Json]) -> Json:
    metadata = binding["metadata"]
    guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    return {"metadata": guard, "subjects": subjects}


def again(change: Change) -> Json:
    """A deleted binding as a new object."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": change.ref.kind,
        "metadata": {
            "name": change.ref.name,
            **({"namespace": change.ref.namespace} if change.ref.namespace else {}),
            "labels": change.before["labels"],
            "annotations": change.before["annotations"],
        },
        "roleRef": change.before["roleRef"],
        "subjects": change.before["subjects"],
    }


def design(call: Call, api: Api, account: Account, scene: Scene, barred: list[Json]) -> Plan:
    """The plan for one account. `barred` are the bindings that we may not write."""
    open_ = [one for one in scene.bindings if one not in barred]
    changes = [_change(api, one) for one in open_]
    changes += [
        Change(
            verb="delete",
            ref=reference(api, "Secret", one),
            before="a service account token (not read)",
            effect=Effect.DESTROY,
        )
        for one in scene.secrets
    ]
    pods = sorted(one["metadata"]["name"] for one in scene.pods)
    still = _still(scene, barred)
    return Plan(
        action=call.action,
        summary=f"take all rights from service account {account.label}, which {len(pods)} pods "
        "share",
        changes=tuple(changes),
        blast=Blast(
            pods=len(pods),
            namespaces=(account.namespace,),
        ),
        residual=(*still, *_limits(account, pods)),
        undo="put the bindings back, where we hold their rights; deleted Secrets do not come back",
        params={"account": account.label, "uid": account.uid, "shared by": pods},
        data={
            "account": {
                "namespace": account.namespace,
                "name": account.name,
                "uid": account.uid,
            },
            "barred": [label(one) for one in barred],
            "still": list(still),
        },
    )


def _change(api: Api, binding: Json) -> Change:
    metadata = binding["metadata"]
    alone = len(binding["subjects"]) == 1
    return Change(
        verb="delete" if alone else "patch",
        ref=reference(api, binding["kind"], binding),
        before={
            "roleRef": binding["roleRef"],
            "subjects": binding["subjects"],
            "labels": metadata.get("labels") or {},
            "annotations": metadata.get("annotations") or {},
        },
        after=None if alone else {"subjects": "all but this account"},
        precondition={"resourceVersion": metadata["resourceVersion"]},
    )


def _still(scene: Scene, barred: list[Json]) -> tuple[str, ...]:
    """Rights that it keeps."""
    told = [
        f"{label(one)} is shared with others and our account may not write it (it does not hold "
        f"the rights of {one['roleRef']['kind']} {one['roleRef']['name']}): take it out by hand"
        for one in barred
    ]
    told += [
        f"{label(one)} gives {one['roleRef']['name']} to a group that it is in"
        for one in scene.by_group
    ]
    return tuple(told)


def _limits(account: Account, pods: list[str]) -> tuple[str, ...]:
    shown = ", ".join(pods[:_SHOWN]) + (" …" if len(pods) > _SHOWN else "")
    limits = ["its tokens still get in, with the rights that everybody has"]
    if len(pods) > 1:
        limits.append(f"every pod that runs as it loses its rights: {shown}")
    limits.append("rights outside of the cluster (cloud roles) are not touched")
    if account.name == "default":
        limits.append("it is the namespace's default account: new pods use it as well")
    return tuple(limits)
