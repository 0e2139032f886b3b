"""A revoked account may do nothing; what cannot be taken or put back is said."""

from __future__ import annotations

from typing import Any

import pytest

from responder.errors import StepFailed
from responder.model import VerdictLevel
from responder.ports import Integration
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.asking import responder
from tests.real.cluster import ControlPlane
from tests.real.waiting import eventually

pytestmark = pytest.mark.control_plane
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def account(plane: ControlPlane, namespace: str) -> str:
    """An account `cart` that two pods share; a token that gets in as it."""
    token = plane.token_for(namespace, "cart")
    for name in ("solo", "twin"):
        stage.bare(plane, namespace, name, account="cart")
    return token


async def may_read(plane: ControlPlane, token: str, path: str, *, wanted: bool) -> None:
    """Wait until a token may, or may not, read a path: rights need a moment to be seen."""

    async def as_wanted() -> bool:
        status = (await plane.arequest("GET", path, token=token))[0]
        return (status == 200) is wanted and status in {200, 403}

    await eventually(as_wanted, f"{path} to be {'readable' if wanted else 'refused'}")


async def test_an_account_loses_its_rights_at_once_and_gets_them_back(
    control_plane: ControlPlane, namespace: str
) -> None:
    """A stolen token reads nothing any more; its old-style Secret is deleted, never read."""
    stolen = account(control_plane, namespace)
    stage.bind(control_plane, namespace, "cart", ["cart"])
    stage.token_secret(control_plane, namespace, "cart")
    other = {"metadata": {"name": "database"}, "stringData": {"password": "x"}}
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    control_plane.must("POST", secrets, other)
    pods = f"/api/v1/namespaces/{namespace}/pods/solo"
    binding = f"{RBAC}/namespaces/{namespace}/rolebindings/cart"
    before = stage.read(control_plane, binding)[1]
    await may_read(control_plane, stolen, pods, wanted=True)
    async with responder(control_plane, namespace, "revoke_service_account") as made:
        request = stage.call("revoke_service_account", pod=f"{namespace}/solo")
        doer = stage.action(made, "revoke_service_account")
        plan = await doer.plan(request)
        assert plan.params["shared by"] == ["solo", "twin"]
        assert "which 2 pods share" in plan.summary
        assert any("loses its rights: solo, twin" in text for text in plan.residual)
        with pytest.raises(StepFailed, match=f"still has: RoleBinding {namespace}/cart, Secret"):
            await doer.verify(request, plan, {})
        result = await stage.finish(doer, request, plan)
        await stage.finish(doer, request, plan)  # resumed
        assert result == {"account": f"{namespace}/cart", "bindings": 1, "secrets": 1}
        assert (await doer.verify(request, plan, result)).level is VerdictLevel.APPLIED
        await may_read(control_plane, stolen, pods, wanted=False)
        assert stage.read(control_plane, f"{secrets}/cart-token")[0] == 404
        assert stage.read(control_plane, f"{secrets}/database")[0] == 200
        await doer.undo(request, plan, result)
        await doer.undo(request, plan, result)
    await may_read(control_plane, stolen, pods, wanted=True)
    after = stage.read(control_plane, binding)[1]
    assert (after["subjects"], after["roleRef"]) == (before["subjects"], before["roleRef"])


async def test_what_we_may_not_write_is_said_in_the_plan_and_in_the_undo(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Rights that our account does not hold: a shared binding stays, a deleted one is not ours."""
    account(control_plane, namespace)
    stage.bind(control_plane, namespace, "alone", ["cart"], resource="limitranges")
    stage.bind(control_plane, namespace, "shared", ["cart", "other"], resource="limitranges")
    stage.bind(control_plane, namespace, "common", ["cart", "other"])
    base = f"{RBAC}/namespaces/{namespace}/rolebindings"
    async with responder(control_plane, namespace, "revoke_service_account") as made:
        request = stage.call("revoke_service_account", account=f"{namespace}/cart")
        doer = stage.action(made, "revoke_service_account")
        plan = await doer.plan(request)
        assert f"RoleBinding {namespace}/shared is shared with others" in plan.residual[0]
        result = await stage.finish(doer, request, plan)
        assert result["bindings"] == 2
        verdict = await doer.verify(request, plan, result)
        assert verdict.level is VerdictLevel.RESIDUAL
        assert stage.read(control_plane, f"{base}/alone")[0] == 404
        left = stage.read(control_plane, f"{base}/common")[1]["subjects"]
        assert [one["name"] for one in left] == ["other"]
        with pytest.raises(StepFailed, match=r"restored all but: RoleBinding .*/alone .*HTTP 403"):
            await doer.undo(request, plan, result)
        back = stage.read(control_plane, f"{base}/common")[1]["subjects"]
        assert {one["name"] for one in back} == {"cart", "other"}


async def test_rights_that_come_through_a_group_and_new_bindings_are_told(
    control_plane: ControlPlane, namespace: str
) -> None:
    """What stays open is residual; a binding made after the revocation fails the proof."""
    account(control_plane, namespace)
    group = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Group",
        "name": f"system:serviceaccounts:{namespace}",
    }
    stage.bind(control_plane, namespace, "everyone", [], more=[group])
    async with responder(control_plane, namespace, "revoke_service_account") as made:
        request = stage.call("revoke_service_account", pod=f"{namespace}/solo")
        doer = stage.action(made, "revoke_service_account")
        plan, result = await stage.perform(made, request)
        verdict = await doer.verify(request, plan, result)
        assert verdict.level is VerdictLevel.RESIDUAL
        assert "everyone gives everyone to a group" in verdict.residual[0]
        stage.bind(control_plane, namespace, "new", ["cart"])
        with pytest.raises(StepFailed, match=f"still has: RoleBinding {namespace}/new"):
            await doer.verify(request, plan, result)


async def test_no_data_of_a_secret_ever_reaches_us(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The plan, the only place where Secrets are listed, holds metadata alone."""
    account(control_plane, namespace)
    stage.token_secret(control_plane, namespace, "cart")
    path = f"/api/v1/namespaces/{namespace}/secrets/cart-token"

    async def filled() -> str:
        _, answer = await control_plane.arequest("GET", path)
        return str((answer.get("data") or {}).get("token") or "")

    token = await eventually(filled, "the Secret to hold its token")
    async with responder(control_plane, namespace, "revoke_service_account") as made:
        api = made_api(made)
        items = await api.items(path.rpartition("/")[0], outline=True)
        plan = await stage.action(made, "revoke_service_account").plan(
            stage.call("revoke_service_account", pod=f"{namespace}/solo")
        )
    assert [set(item) - {"kind", "apiVersion"} for item in items] == [{"metadata"}]
    assert token not in str(items)
    assert token not in str(plan.to_json())


def made_api(made: Integration) -> Any:
    """The client of the one cluster."""
    doer: Any = stage.action(made, "revoke_service_account")
    return doer.fleet.api(stage.call("revoke_service_account"))
