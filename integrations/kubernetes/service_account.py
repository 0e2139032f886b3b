# ruff: noqa: ARG002 - the port fixes what every method takes
"""`kubernetes.revoke_service_account`: a stolen token still gets in, and may do nothing.

Tokens cannot be called back one by one, so the account loses its rights: it is taken out of every
RoleBinding and ClusterRoleBinding, at once. Old-style token Secrets are deleted, and their data is
never read. The API server lets nobody write a binding who does not hold the rights in it, so a
binding that others share can only be changed, and a deleted one only be restored, by an account
that does; what cannot be done is said in the plan, and what cannot be restored in the undo.
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from integrations.kubernetes import revoking
from integrations.kubernetes.client import Api, Json
from integrations.kubernetes.fleet import Fleet, insist
from integrations.kubernetes.paths import collection, named, valid_name
from integrations.kubernetes.revoking import Account, Scene
from integrations.kubernetes.rights import right
from integrations.kubernetes.together import together
from responder.errors import Conflict, NotFound, StepFailed
from responder.model import Change, Effect, Plan, Verdict, VerdictLevel
from responder.ports import ActionInfo, Call, Done, Param, Pending

__all__ = ["INFO", "RevokeServiceAccount"]

INFO = ActionInfo(
    name="kubernetes.revoke_service_account",
    summary="Take every right from a service account, and delete its old-style token Secrets",
    effect=Effect.DESTROY,
    params={
        "pod": Param(type="kubernetes.pod", summary="The pod whose account is meant"),
        "account": Param(type="string", summary="namespace/name of the account, instead of a pod"),
    },
    results={
        "account": Param(type="string", summary="namespace/name of the account"),
        "bindings": Param(type="int", summary="Bindings that it was taken out of"),
        "secrets": Param(type="int", summary="Token Secrets that were deleted"),
    },
    permissions=(
        right("ServiceAccount", "get", why="whether it is the one that is meant"),
        right("Pod", "get", "list", why="whose account it is, and who shares it"),
        right("Secret", "list", "delete", why="its token Secrets, by their metadata alone"),
        right(
            "RoleBinding",
            "list",
            "get",
            "create",
            "patch",
            "delete",
            scope="cluster",
            why="take it out, in whichever namespace; put it back",
        ),
        right(
            "ClusterRoleBinding",
            "list",
            "get",
            "create",
            "patch",
            "delete",
            why="take it out, put it back",
        ),
    ),
    undoable=True,
    concern="identity",
    timeout=60.0,
    example={"pod": "shop/cart-7f9c"},
)


@dataclass(slots=True)  # the port's `info` is a plain attribute, so not frozen
class RevokeServiceAccount:
    """Never deletes the account itself, and never reads a Secret's data."""

    fleet: Fleet
    info: ActionInfo = INFO

    async def plan(self, call: Call) -> Plan:
        """Find all bindings, Secrets and pods of the account. Raises `StepFailed` without one."""
        api = self.fleet.api(call)
        namespace = self._namespace(call)
        await self.fleet.require(api, self.info, namespace)
        account = await self._account(api, call, namespace)
        scene = await _look(api, account)
        shared = [one for one in scene.bindings if len(one["subjects"]) > 1]
        barred = [one for one in shared if not await _may_write(api, one, account)]
        return revoking.design(call, api, account, scene, barred)

    def _namespace(self, call: Call) -> str:
        if call.params.get("account"):
            namespace, slash, _ = str(call.params["account"]).partition("/")
            if not slash:
                raise StepFailed('account: expected "namespace/name"')
            return valid_name(namespace, "namespace")
        if not call.params.get("pod"):
            raise StepFailed("no account: give `pod` or `account`")
        return self.fleet.place(call)[0]

    async def _account(self, api: Api, call: Call, namespace: str) -> Account:
        name = str(call.params.get("account") or "").partition("/")[2]
        if not name:
            pod = await api.get(named("Pod", *self.fleet.place(call)))
            self.fleet.confirm(call, pod)
            name = str((pod.get("spec") or {}).get("serviceAccountName") or "default")
        found = await api.get(named("ServiceAccount", namespace, name))
        return Account(namespace=namespace, name=name, uid=found["metadata"]["uid"])

    async def apply(self, call: Call, plan: Plan) -> Done | Pending:
        """Take it out of its bindings, then delete its token Secrets. Raises `Conflict`."""
        api = self.fleet.api(call)
        account = Account(**plan.data["account"])
        for change in plan.changes:
            await insist(api, lambda change=change: _take(api, account, change))  # type: ignore[misc]
        secrets = sum(change.ref.kind == "Secret" for change in plan.changes)
        return Done(
            result={
                "account": account.label,
                "bindings": len(plan.changes) - secrets,
                "secrets": secrets,
            }
        )

    async def poll(self, call: Call, state: Mapping[str, Any]) -> Done | Pending:
        """Never needed: applying ends at once."""
        return Done()

    async def verify(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Verdict:
        """List all bindings and Secrets afresh. Raises `StepFailed` when one is left or is new."""
        api = self.fleet.api(call)
        account = Account(**plan.data["account"])
        scene = await _look(api, account)
        barred = set(plan.data["barred"])
        left = [revoking.label(one) for one in scene.bindings if revoking.label(one) not in barred]
        left += [f"Secret {one['metadata']['name']}" for one in scene.secrets]
        if left:
            raise StepFailed(f"service account {account.label} still has: {', '.join(left)}")
        kept = tuple(text for text in plan.residual if text in plan.data["still"])
        return Verdict(
            level=VerdictLevel.RESIDUAL if kept else VerdictLevel.APPLIED,
            residual=plan.residual,
            checks={"bindings": "none names it", "secrets": "none belongs to it"},
        )

    async def undo(self, call: Call, plan: Plan, result: Mapping[str, Any]) -> Done | Pending:
        """Put the bindings back. Raises `StepFailed` naming those that we may not write."""
        api = self.fleet.api(call)
        account = Account(**plan.data["account"])
        failed = []
        for change in plan.changes:
            if change.ref.kind == "Secret":
                continue
            try:
                await insist(api, lambda change=change: _put_back(api, account, change))  # type: ignore[misc]
            except StepFailed as error:
                failed.append(f"{change.ref.label} ({error})")
        if failed:
            raise StepFailed(
                f"restored all but: {'; '.join(failed)}; somebody who holds the rights in it has "
                "to create it again, as the plan shows it"
            )
        return Done()


async def _look(api: Api, account: Account) -> Scene:
    tokens = "type=kubernetes.io/service-account-token"
    secret, pod = (collection(kind, account.namespace) for kind in ("Secret", "Pod"))
    roles, wide, secrets, pods = await together(
        (
            api.items(collection("RoleBinding")),
            api.items(collection("ClusterRoleBinding")),
            api.items(secret, outline=True, fieldSelector=tokens),
            api.items(pod, fieldSelector=f"spec.serviceAccountName={account.name}"),
        )
    )
    for item in roles:
        item["kind"] = "RoleBinding"
    for item in wide:
        item["kind"] = "ClusterRoleBinding"
    return revoking.scene(account, [*roles, *wide], secrets, pods)


async def _may_write(api: Api, binding: Json, account: Account) -> bool:
    """Whether the API server would let us write a binding that others share."""
    metadata = binding["metadata"]
    body = revoking.without(binding, account)
    path = named(binding["kind"], metadata.get("namespace", ""), metadata["name"])
    try:
        await api.patch(path, body, dry_run=True)
    except StepFailed as error:
        if "HTTP 403" in str(error):
            return False
        raise
    return True


async def _take(api: Api, account: Account, change: Change) -> None:
    """Delete what is the account's alone, take it out of what it shares."""
    ref = change.ref
    path = named(ref.kind, ref.namespace, ref.name)
    try:
        if change.verb == "delete" and ref.kind == "Secret":
            await api.delete(path, ref.uid)
            return
        found = {**await api.get(path), "kind": ref.kind}
        if found["metadata"]["uid"] != ref.uid:
            raise Conflict(f"{ref.label} is another one now")
        if not revoking.names(found, account):
            return
        if change.verb == "patch":
            await api.patch(path, revoking.without(found, account))
        elif len(found["subjects"]) == 1:
            await api.delete(path, ref.uid)
        else:
            raise Conflict(f"{ref.label} is shared now, by somebody new")
    except NotFound:
        return


async def _put_back(api: Api, account: Account, change: Change) -> None:
    ref = change.ref
    path = named(ref.kind, ref.namespace, ref.name)
    try:
        found = {**await api.get(path), "kind": ref.kind}
    except NotFound:
        await api.create(collection(ref.kind, ref.namespace), revoking.again(change))
        return
    if found["roleRef"] != change.before["roleRef"]:
        raise StepFailed(
            f"{ref.label} grants something else now: expected "
            f"{change.before['roleRef']}, got {found['roleRef']}"
        )
    if not revoking.names(found, account):
        await api.patch(path, revoking.with_(found, account))
