"""Every action works with exactly the rights it declares, and says which one is missing."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.kubernetes import INFOS, setup
from responder.clock import World
from responder.errors import StepFailed
from responder.model import VerdictLevel
from responder.ports import ActionInfo, Kit
from tests.adapters.kubernetes import stage
from tests.adapters.kubernetes.asking import asked, setting, short
from tests.real.cluster import ControlPlane
from tests.real.kubelet import FakeKubelet

pytestmark = pytest.mark.control_plane

# their containers must run: tests/cluster/test_probe_rights.py does the same on a node
ON_A_NODE = frozenset({"kubernetes.cut_flows", "kubernetes.probe_network"})
HERE = [info for info in INFOS if info.name not in ON_A_NODE]
CHANGING = [info for info in HERE if info.name != "kubernetes.snapshot"]
EACH_RIGHT = [
    (info, lost)
    for info in CHANGING
    for lost in dict.fromkeys(
        f"{verb} {it.resource}"
        for it in info.permissions
        for verb in it.verbs
        if not it.optional and not it.when
    )
]
SNAPSHOT = next(info for info in INFOS if info.name == "kubernetes.snapshot")


@pytest.mark.parametrize("info", HERE, ids=lambda info: info.name)
async def test_an_action_works_with_its_declared_rights_and_no_other(
    control_plane: ControlPlane, namespace: str, info: ActionInfo
) -> None:
    """A service account with a Role of the declared rules: plan, apply, verify, undo."""
    await setting(control_plane, info, namespace)
    name = short(info)
    request = asked(info, namespace)
    with FakeKubelet(control_plane, namespace) as kubelet:
        kubelet.paused = info is SNAPSHOT  # a container without a node's log server is a gap
        async with stage.product(control_plane, control_plane.admin_token) as admin:
            token = stage.account(control_plane, namespace, [stage.action(admin, name)])
        async with stage.product(control_plane, token, home=namespace) as made:
            plan, result = await stage.perform(made, request)
            doer = stage.action(made, name)
            verdict = await doer.verify(request, plan, result)
            assert verdict.level is not VerdictLevel.RESIDUAL
            if info.undoable:
                await stage.settle(doer, request, await doer.undo(request, plan, result))


@pytest.mark.parametrize(
    ("info", "lost"), EACH_RIGHT, ids=[f"{info.name}-{lost}" for info, lost in EACH_RIGHT]
)
async def test_without_one_right_an_action_refuses_before_it_changes_anything(
    control_plane: ControlPlane, namespace: str, info: ActionInfo, lost: str
) -> None:
    """The refusal names the right and the rule that gives it."""
    await setting(control_plane, info, namespace)
    before = _world(control_plane, namespace)
    name = short(info)
    async with stage.product(control_plane, control_plane.admin_token) as admin:
        token = stage.account(control_plane, namespace, [stage.action(admin, name)], skip=lost)
    async with stage.product(control_plane, token, home=namespace) as made:
        with pytest.raises(StepFailed) as caught:
            await stage.perform(made, asked(info, namespace))
    verb, resource = lost.split()
    text = str(caught.value)
    assert f"/{resource}" in text or lost in text, text
    assert f'verbs ["{verb}"]' in text or "give our account that right" in text, text
    assert _world(control_plane, namespace) == before


def _world(plane: ControlPlane, namespace: str) -> list[Any]:
    paths = (
        f"/api/v1/namespaces/{namespace}/pods",
        f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
        f"/apis/apps/v1/namespaces/{namespace}/deployments",
    )
    return [[_said(item["spec"]) for item in plane.must("GET", path)["items"]] for path in paths]


def _said(spec: dict[str, Any]) -> dict[str, Any]:
    """What was asked for: the scheduler adds the node when it comes to it."""
    return {key: value for key, value in spec.items() if key != "nodeName"}


@pytest.mark.parametrize(
    "lost",
    [f"{verb} {right.resource}" for right in SNAPSHOT.permissions for verb in right.verbs],
)
async def test_evidence_is_kept_without_one_right_and_the_gap_names_it(
    control_plane: ControlPlane, namespace: str, lost: str
) -> None:
    """Half of the evidence is worth more than none; the verdict says what is missing."""
    stage.bare(control_plane, namespace)
    request = stage.call("snapshot", pod=f"{namespace}/solo")
    async with stage.product(control_plane, control_plane.admin_token) as admin:
        doer = stage.action(admin, "snapshot")
        token = stage.account(control_plane, namespace, [doer], skip=lost)
    async with stage.product(control_plane, token, home=namespace) as made:
        if lost == "get pods":
            with pytest.raises(StepFailed, match="/pods/solo: HTTP 403"):
                await stage.perform(made, request)
            return
        plan, result = await stage.perform(made, request)
        verdict = await stage.action(made, "snapshot").verify(request, plan, result)
    assert verdict.level is VerdictLevel.RESIDUAL
    assert any(f"our account may not {lost} (add to its" in gap for gap in verdict.residual)


async def test_the_doctor_asks_only_for_what_the_playbooks_in_force_use(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Rights of other actions are not missed, and knowing a target is always needed."""
    isolating = [info for info in INFOS if info.name == "kubernetes.quarantine_pod"]
    token = stage.account_for(control_plane, namespace, isolating)
    table = {"api": control_plane.api, "ca": str(control_plane.ca), "token": token}
    section = {"prod": {**table, "namespaces": (namespace,)}}
    found = {}
    for used in (frozenset({"kubernetes.quarantine_pod"}), frozenset({"kubernetes.cordon_node"})):
        kit = Kit(evidence=stage.Shelf(), used=lambda used=used: used)  # type: ignore[misc]
        made = setup(section, World(), kit)
        assert made.close
        try:
            found[used] = await made.checks["kubernetes:prod"]()
        finally:
            await made.close()
    few, more = found.values()
    assert few == "ok"
    assert 'resources ["nodes"], verbs ["patch"]' in more
    assert "secrets" not in more


async def test_the_doctor_names_missing_rules_and_is_content_with_all(
    control_plane: ControlPlane, namespace: str
) -> None:
    """One check for each cluster."""
    async with stage.product(control_plane, control_plane.admin_token) as admin:
        full = stage.account(control_plane, namespace, admin.actions)
        less = stage.account(control_plane, namespace, admin.actions, skip="patch deployments")
    async with stage.product(control_plane, full, namespaces=(namespace,), home=namespace) as made:
        assert await made.checks["kubernetes:prod"]() == "ok"
    async with stage.product(control_plane, less, namespaces=(namespace,), home=namespace) as made:
        text = await made.checks["kubernetes:prod"]()
    assert 'apiGroups ["apps"], resources ["deployments"], verbs ["patch"]' in text
    assert namespace in text
    assert "kubernetes.redeploy" in text
    assert "get pods" not in text
