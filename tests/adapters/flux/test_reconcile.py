"""`kubernetes.reconcile_flux` on a real API server: asked once, followed to ready, or why not."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.kubernetes import reconcile_flux
from integrations.kubernetes.flux_reading import REQUESTED
from responder.errors import Conflict, StepFailed
from responder.model import VerdictLevel
from responder.ports import Action, Call, Done, Integration, Pending
from tests.adapters.flux.cluster import COMMIT, OLD, Flux, path
from tests.adapters.flux.receiver import TOKEN, running
from tests.adapters.kubernetes import asking, stage
from tests.real.cluster import ControlPlane

pytestmark = pytest.mark.control_plane


def a_call(namespace: str, **params: Any) -> Call:
    """Return the call of one step."""
    values = {"object": "Kustomization/shop", "namespace": namespace, "revision": COMMIT, **params}
    return stage.call("reconcile_flux", key="run_1/reconcile", **values)


async def begun(made: Integration, call: Call) -> tuple[Action, Any, Pending]:
    """Plan and apply; there is always something to wait for."""
    doer = stage.action(made, "reconcile_flux")
    plan = await doer.plan(call)
    assert plan.hash == (await doer.plan(call)).hash
    pending = await doer.apply(call, plan)
    assert isinstance(pending, Pending)
    return doer, plan, pending


async def words(doer: Action, call: Call, pending: Pending) -> str:
    """What one more look says while it goes on."""
    now = await doer.poll(call, pending.state)
    assert isinstance(now, Pending)
    return now.waiting_for


async def test_flux_is_asked_once_and_followed_until_the_commit_is_applied(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The repository first; nothing but the annotation is written, under the guard."""
    flux = Flux(control_plane, namespace).make()
    before = {kind: flux.item(kind) for kind in ("GitRepository", "Kustomization")}
    call = a_call(namespace)
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer, plan, pending = await begun(made, call)
        assert plan.targets == (
            f"GitRepository {namespace}/shop",
            f"Kustomization {namespace}/shop",
        )
        token = flux.asked("Kustomization")
        assert token
        assert flux.asked("GitRepository") == token
        assert "GitRepository" in await words(doer, call, pending)
        flux.write("GitRepository", commit=OLD)
        assert f"is at main@sha1:{OLD}, not yet at {COMMIT}" in await words(doer, call, pending)
        flux.write("GitRepository", commit=COMMIT)
        assert "Kustomization" in await words(doer, call, pending)
        flux.write("Kustomization", commit=OLD)
        assert "not yet at" in await words(doer, call, pending)
        flux.write("Kustomization", ready="Unknown", reason="Progressing", message="health checks")
        assert "Progressing: health checks" in await words(doer, call, pending)
        flux.write("Kustomization", commit=COMMIT)
        done = await doer.poll(call, pending.state)
        assert isinstance(done, Done)
        assert done.result["revision"] == f"main@sha1:{COMMIT}"
        verdict = await doer.verify(call, plan, done.result)
        assert verdict.level is VerdictLevel.APPLIED
        await doer.apply(call, plan)  # again with the same key, as after a crash
        assert flux.asked("Kustomization") == token
        with pytest.raises(StepFailed, match="no undo"):
            await doer.undo(call, plan, done.result)
    for kind, item in before.items():
        now = flux.item(kind)
        assert now["spec"] == item["spec"]
        assert set(now["metadata"].get("annotations") or {}) == {REQUESTED}


async def test_a_branch_that_went_on_is_followed_and_said(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Somebody merged after us: what was fetched since holds ours, and has to be applied."""
    flux = Flux(control_plane, namespace).make()
    call = a_call(namespace)
    later = "d" * 40
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer, plan, pending = await begun(made, call)
        flux.write("GitRepository", commit=later)
        flux.write("Kustomization", commit=COMMIT)
        assert f"not yet at main@sha1:{later}" in await words(doer, call, pending)
        flux.write("Kustomization", commit=later)
        done = await doer.poll(call, pending.state)
        assert isinstance(done, Done)
        verdict = await doer.verify(call, plan, done.result)
        assert "the branch has moved on" in verdict.residual[0]


async def test_a_helm_release_is_reached_through_what_applies_it(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Repository, Kustomization, release: the commit is the Kustomization's, not the chart's."""
    flux = Flux(control_plane, namespace).make(helm=True)
    call = a_call(namespace, object="HelmRelease/shop")
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer, plan, pending = await begun(made, call)
        assert [change.ref.kind for change in plan.changes] == [
            "GitRepository",
            "Kustomization",
            "HelmRelease",
        ]
        flux.bring()
        assert "HelmRelease" in await words(doer, call, pending)
        flux.plane.must(
            "PATCH", path("HelmRelease", namespace, "shop"), {"spec": {"values": {"image": "new"}}}
        )
        assert "HelmRelease" in await words(doer, call, pending)
        flux.write("HelmRelease", commit=COMMIT)
        done = await doer.poll(call, pending.state)
        assert isinstance(done, Done)
        assert (await doer.verify(call, plan, done.result)).level is VerdictLevel.APPLIED


async def test_an_old_ready_of_a_newer_form_is_not_believed(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The spec has changed since: what is said of the former one says nothing."""
    flux = Flux(control_plane, namespace).make(commit=COMMIT)
    call = a_call(namespace)
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer, _, pending = await begun(made, call)
        flux.bring()
        control_plane.must(
            "PATCH", path("Kustomization", namespace, "shop"), {"spec": {"path": "./other"}}
        )
        assert "has not seen its newest form" in await words(doer, call, pending)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("HealthCheckFailed", "timeout waiting for: [Deployment/shop/cart status: 'InProgress']"),
        ("BuildFailed", "kustomize build failed"),
        ("ReconciliationFailed", "admission webhook denied"),
    ],
)
async def test_what_stays_ill_has_failed_with_fluxs_reason(
    control_plane: ControlPlane, namespace: str, reason: str, message: str
) -> None:
    """Flux tries again by itself, so the first look waits; one after its time does not."""
    flux = Flux(control_plane, namespace).make()
    call = a_call(namespace)
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer, _, pending = await begun(made, call)
        flux.write("GitRepository", commit=COMMIT)
        flux.write("Kustomization", ready="False", reason=reason, message=message)
        ill = await doer.poll(call, pending.state)
        assert isinstance(ill, Pending)
        assert reason in ill.waiting_for
        later = {**ill.state, "ill": ill.state["ill"] - 61_000_000}
        with pytest.raises(StepFailed, match=reason):
            await doer.poll(call, later)
        flux.write("Kustomization", commit=COMMIT)  # its next round went well
        assert isinstance(await doer.poll(call, ill.state), Done)


async def test_what_cannot_go_on_has_failed_at_once(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Stalled is Flux's word for: not without a change."""
    flux = Flux(control_plane, namespace).make()
    call = a_call(namespace)
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer, _, pending = await begun(made, call)
        flux.write("GitRepository", commit=COMMIT)
        said = {"reason": "InvalidPath", "message": "no such directory"}
        flux.write("Kustomization", ready="False", stalled=True, **said)
        with pytest.raises(StepFailed, match="is stalled: InvalidPath: no such directory"):
            await doer.poll(call, pending.state)


async def test_what_never_comes_has_failed_when_its_time_is_over(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Bounded, and its end says what was seen last."""
    Flux(control_plane, namespace).make()
    call = a_call(namespace, within="1s")
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer, _, pending = await begun(made, call)
        late = {**pending.state, "since": pending.state["since"] - 2_000_000}
        with pytest.raises(StepFailed, match=r"was not ready within 1 s: .*has not picked it up"):
            await doer.poll(call, late)


@pytest.mark.parametrize("kind", ["GitRepository", "Kustomization"])
async def test_what_its_owner_suspended_is_left_alone(
    control_plane: ControlPlane, namespace: str, kind: str
) -> None:
    """Refused in the plan; nothing is resumed and nothing is annotated."""
    flux = Flux(control_plane, namespace).make(suspend=kind)
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer = stage.action(made, "reconcile_flux")
        with pytest.raises(StepFailed, match=f"{kind} .* is suspended"):
            await doer.plan(a_call(namespace))
    assert flux.asked("Kustomization") == flux.asked("GitRepository") == ""


async def test_another_object_of_the_same_name_is_not_asked(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Deleted and made again between plan and apply."""
    flux = Flux(control_plane, namespace).make()
    call = a_call(namespace)
    async with asking.responder(control_plane, namespace, "reconcile_flux") as made:
        doer = stage.action(made, "reconcile_flux")
        plan = await doer.plan(call)
        for kind in ("GitRepository", "Kustomization"):
            control_plane.must("DELETE", path(kind, namespace, "shop"))
        flux.make()
        with pytest.raises(Conflict, match="is another one now"):
            await doer.apply(call, plan)
    assert flux.asked("GitRepository") == ""


async def test_the_guard_lets_nothing_but_the_annotation_through(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Our account cannot suspend, repoint or relabel, whoever holds its token."""
    flux = Flux(control_plane, namespace).make()
    infos = [reconcile_flux.INFO]
    token = stage.account_for(control_plane, namespace, infos)
    where = path("Kustomization", namespace, "shop")
    for body in (
        {"spec": {"suspend": True}},
        {"spec": {"path": "./evil"}},
        {"metadata": {"labels": {"a": "b"}}},
        {"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}},
    ):
        status, answer = control_plane.request("PATCH", where, body, token=token)
        assert status == 422, (body, answer)
        assert "annotation is set that makes it look" in answer["message"]
    good = {"metadata": {"annotations": {REQUESTED: "now"}}}
    assert control_plane.request("PATCH", where, good, token=token)[0] == 200
    assert flux.asked("Kustomization") == "now"


async def test_a_receiver_that_was_told_is_waited_for_without_asking_again(
    control_plane: ControlPlane, namespace: str
) -> None:
    """`flux.notify`, what Flux makes of it, and `ask: false`: nothing of ours is written."""
    from integrations.flux import setup
    from responder.clock import World
    from responder.model import Secret, Target
    from responder.ports import Kit

    flux = Flux(control_plane, namespace).make()
    call = a_call(namespace, ask=False)
    notice = Call(
        action="flux.notify", key="run_1/notify", incident=1, run="run_1", step="notify",
        params={}, target=Target(),
    )  # fmt: skip
    async with (
        running(then=flux.bring) as receivers,
        asking.responder(control_plane, namespace, "reconcile_flux") as made,
    ):
        doer, plan, pending = await begun(made, call)
        assert plan.changes == ()
        assert "not yet at" in await words(doer, call, pending)
        table = {"url": receivers.url, "receiver": "deploy", "token": Secret(TOKEN)}
        teller = setup({"main": table}, World(), Kit(evidence=stage.Shelf()))
        assert teller.close
        await teller.actions[0].apply(notice, await teller.actions[0].plan(notice))
        await teller.close()
        assert isinstance(await doer.poll(call, pending.state), Done)
    assert flux.asked("Kustomization") == ""
