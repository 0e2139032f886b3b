"""Going beyond NetworkPolicy on a real API server that has the kinds: the calls, not the packets.

A control plane of its own, because custom resource definitions are seen by everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from responder.errors import Conflict, StepFailed
from responder.model import Plan, VerdictLevel
from tests.adapters.kubernetes import crds, stage
from tests.adapters.kubernetes.accounts import infos, responder
from tests.real import cluster
from tests.real.cluster import ControlPlane

LABEL = "responder.dev/quarantine"
OPEN: dict[str, Any] = {
    "podSelector": {},
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [{}],
    "egress": [{}],
}
AMONG_PODS: dict[str, Any] = {
    **OPEN,
    "ingress": [{"from": [{"podSelector": {}}]}],
}
ENFORCED = ("ClusterNetworkPolicy", "AdminNetworkPolicy")


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane for this module alone."""
    with cluster.control_plane() as plane:
        yield plane


@pytest.fixture
def kinds(control_plane: ControlPlane) -> Iterator[Any]:
    """A function that installs kinds; they go with the test."""
    made: list[str] = []

    def install(*names: str) -> None:
        for name in names:
            made.append(name)
            crds.install(control_plane, name)

    yield install
    for name in made:
        crds.remove(control_plane, name)


def listed(plane: ControlPlane, kind: str, namespace: str) -> list[dict[str, Any]]:
    """The objects of a further kind."""
    return list(plane.must("GET", crds.collection(kind, namespace))["items"])


def policies(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    """All NetworkPolicies of a namespace, without noise."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    return [stage.plain(item) for item in plane.must("GET", path)["items"]]


def pod_at(plane: ControlPlane, namespace: str) -> dict[str, Any]:
    """The pod, without noise."""
    return stage.plain(plane.must("GET", f"/api/v1/namespaces/{namespace}/pods/solo"))


WAYS = {
    "ClusterNetworkPolicy": ("admin", ("ClusterNetworkPolicy",)),
    "AdminNetworkPolicy": ("admin", ("AdminNetworkPolicy",)),
    "CiliumNetworkPolicy": ("native", ("CiliumNetworkPolicy",)),
    "CalicoNetworkPolicy": ("native", crds.CALICO),
    "CalicoStoredPolicy": ("native", ("CalicoStoredPolicy",)),
}


@pytest.mark.parametrize("way", ["undo", "release"])
@pytest.mark.parametrize("kind", WAYS)
async def test_a_further_deny_closes_what_another_policy_leaves_open_and_goes_without_a_trace(
    control_plane: ControlPlane, namespace: str, kinds: Any, kind: str, way: str
) -> None:
    """Accepted in its shape, applied before the label, proven by a fresh look, taken back."""
    level, needed = WAYS[kind]
    kinds(*needed)
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", AMONG_PODS)
    before = [policies(control_plane, namespace), pod_at(control_plane, namespace)]
    async with responder(
        control_plane, namespace, "quarantine_pod", "release_pod", enforced=ENFORCED
    ) as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate=level)
        plan, result = await stage.perform(made, request)
        verdict = await doer.verify(request, plan, result)
        [deny] = listed(control_plane, kind, namespace)
        again = await doer.plan(request)
        if way == "undo":
            await doer.undo(request, plan, result)
        else:
            freeing = stage.call("release_pod", key="run_2/free", pod=f"{namespace}/solo")
            second, _ = await stage.perform(made, freeing)
            assert f"{kind} " in " ".join(second.targets)
    assert not [text for text in plan.residual if "still" in text]
    assert [change.ref.kind for change in plan.changes] == ["NetworkPolicy", kind, "Pod"]
    assert plan.asks == ""
    assert again.hash == plan.hash
    assert verdict.level is VerdictLevel.APPLIED
    assert deny["spec"] == plan.changes[1].after["spec"]
    assert listed(control_plane, kind, namespace) == []
    assert [policies(control_plane, namespace), pod_at(control_plane, namespace)] == before


async def test_what_comes_from_outside_stays_named_under_an_admin_deny(
    control_plane: ControlPlane, namespace: str, kinds: Any
) -> None:
    """These policies know no addresses for ingress, so a rule without peers still lets some in."""
    kinds("ClusterNetworkPolicy")
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    async with responder(control_plane, namespace, "quarantine_pod", enforced=ENFORCED) as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="admin")
        plan, result = await stage.perform(made, request)
        verdict = await stage.action(made, "quarantine_pod").verify(request, plan, result)
        await stage.action(made, "quarantine_pod").undo(request, plan, result)
    text = "NetworkPolicy others still allows ingress from outside the cluster and from nodes"
    assert plan.residual[0] == text
    assert "escalate: foreign" in plan.residual[1]
    assert verdict.level is VerdictLevel.RESIDUAL
    assert verdict.residual[0] == text


async def test_a_kind_that_nobody_enforces_is_never_used(
    control_plane: ControlPlane, namespace: str, kinds: Any
) -> None:
    """A definition alone denies nothing: the plan says what the configuration lacks."""
    kinds("ClusterNetworkPolicy")
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", AMONG_PODS)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="admin")
        plan, _ = await stage.perform(made, request)
    assert [change.ref.kind for change in plan.changes] == ["NetworkPolicy", "Pod"]
    assert "add it to `enforced` of [clusters.prod]" in plan.residual[2]
    assert listed(control_plane, "ClusterNetworkPolicy", namespace) == []


def admin_policy(name: str, priority: int, action: str = "Accept") -> dict[str, Any]:
    """A policy of an administrator that speaks of every pod."""
    return {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "tier": "Admin",
            "priority": priority,
            "subject": {"namespaces": {}},
            "ingress": [{"action": action, "from": [{"namespaces": {}}]}],
        },
    }


async def test_our_number_is_nobodys_and_what_is_asked_before_it_is_named(
    control_plane: ControlPlane, namespace: str, kinds: Any
) -> None:
    """Accepting at 0 comes before our 1; without any number free the kind is not used."""
    kinds("ClusterNetworkPolicy")
    crds.make(control_plane, "ClusterNetworkPolicy", admin_policy("first", 0))
    crds.make(control_plane, "ClusterNetworkPolicy", admin_policy("last", 900))
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", AMONG_PODS)
    async with responder(control_plane, namespace, "quarantine_pod", enforced=ENFORCED) as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="admin")
        plan = await doer.plan(request)
        bare = await doer.plan(stage.call("quarantine_pod", pod=f"{namespace}/solo"))
        for priority in range(1, 6):
            body = admin_policy(f"more-{priority}", priority, "Pass")
            crds.make(control_plane, "ClusterNetworkPolicy", body)
        full = await doer.plan(request)
    assert plan.changes[1].after["spec"]["priority"] == 1
    assert plan.residual[0] == "ClusterNetworkPolicy first still accepts ingress"
    assert "ClusterNetworkPolicy last still accepts ingress" in bare.residual
    assert [change.ref.kind for change in full.changes] == ["NetworkPolicy", "Pod"]
    assert any("priorities 0 to 5 are taken" in text for text in full.residual)


async def test_an_admin_policy_made_later_shows_in_the_proof(
    control_plane: ControlPlane, namespace: str, kinds: Any
) -> None:
    """Accepting in the Admin tier overrules our NetworkPolicy, though no NetworkPolicy allows."""
    kinds("ClusterNetworkPolicy")
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, request)
        doer = stage.action(made, "quarantine_pod")
        first = await doer.verify(request, plan, result)
        crds.make(control_plane, "ClusterNetworkPolicy", admin_policy("late", 3))
        second = await doer.verify(request, plan, result)
    assert first.level is VerdictLevel.APPLIED
    assert second.level is VerdictLevel.RESIDUAL
    assert second.residual[0] == "ClusterNetworkPolicy late still accepts ingress"


@pytest.mark.parametrize("harm", ["gone", "changed"])
async def test_a_further_deny_that_somebody_touched_fails_the_proof(
    control_plane: ControlPlane, namespace: str, kinds: Any, harm: str
) -> None:
    """Gone or changed, it never passes for isolated; taking it back shows the difference."""
    kinds("CiliumNetworkPolicy")
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="native")
        plan, result = await stage.perform(made, request)
        path = f"{crds.collection('CiliumNetworkPolicy', namespace)}/{result['policy']}"
        if harm == "gone":
            control_plane.must("DELETE", path)
        else:
            control_plane.must("PATCH", path, {"spec": {"egressDeny": []}})
        with pytest.raises(StepFailed, match=r"is gone: it denies nothing|was changed by somebody"):
            await doer.verify(request, plan, result)
        if harm == "gone":
            await doer.undo(request, plan, result)
            return
        with pytest.raises(Conflict, match=r'expected .*"toEntities".*, got .*"egressDeny": \[\]'):
            await doer.undo(request, plan, result)
    assert LABEL in pod_at(control_plane, namespace)["metadata"]["labels"]


async def test_without_its_right_a_further_deny_is_left_out_and_the_isolation_is_done(
    control_plane: ControlPlane, namespace: str, kinds: Any
) -> None:
    """Rights for these kinds are given where a playbook says so; lacking them opens nothing."""
    kinds("CiliumNetworkPolicy")
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    lost = "create ciliumnetworkpolicies"
    token = stage.account_for(control_plane, namespace, infos("quarantine_pod"), skip=lost)
    async with stage.product(control_plane, token) as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="native")
        plan, result = await stage.perform(made, request)
        verdict = await stage.action(made, "quarantine_pod").verify(request, plan, result)
    assert verdict.level is VerdictLevel.RESIDUAL
    assert any("HTTP 403" in text and "CiliumNetworkPolicy" in text for text in plan.residual)
    assert LABEL in pod_at(control_plane, namespace)["metadata"]["labels"]


async def test_a_calico_policy_that_is_asked_first_is_named(
    control_plane: ControlPlane, namespace: str, kinds: Any
) -> None:
    """A tier before `default`, or a lower order in it: its selector is not judged, only named."""
    kinds(*crds.CALICO)
    body: dict[str, Any] = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "early"},
        "spec": {"order": -5, "ingress": [{"action": "Allow"}]},
    }
    crds.make(control_plane, "CalicoGlobalNetworkPolicy", body)
    late = {**body, "metadata": {"name": "late"}, "spec": {**body["spec"], "order": 2000}}
    crds.make(control_plane, "CalicoGlobalNetworkPolicy", late)
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="native")
        plan, result = await stage.perform(made, request)
        verdict = await stage.action(made, "quarantine_pod").verify(request, plan, result)
    text = "CalicoGlobalNetworkPolicy early is asked first and may allow it"
    assert plan.residual[0] == text
    assert not any("Policy late" in line for line in plan.residual)
    assert verdict.residual[0] == text


async def test_a_namespaces_firewall_is_offered_and_never_made(
    control_plane: ControlPlane, namespace: str, kinds: Any
) -> None:
    """It closes the whole namespace, which nobody asked for."""
    kinds("EgressFirewall")
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="native")
        plan, _ = await stage.perform(made, request)
    assert any("an EgressFirewall, which closes egress of its whole" in t for t in plan.residual)
    assert listed(control_plane, "EgressFirewall", namespace) == []


SELECTORS: list[dict[str, Any]] = [
    {},
    {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
    {
        "matchExpressions": [
            {"key": "tier", "operator": "NotIn", "values": ["db"]},
            {"key": "team", "operator": "DoesNotExist"},
        ]
    },
]


@pytest.mark.parametrize("way", ["undo", "release"])
@pytest.mark.parametrize("selector", SELECTORS)
async def test_a_policy_of_others_leaves_the_pod_out_and_comes_back_byte_for_byte(
    control_plane: ControlPlane, namespace: str, selector: dict[str, Any], way: str
) -> None:
    """A person is always asked; other pods stay selected; the undo leaves nothing behind."""
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", {**OPEN, "podSelector": selector})
    before = [policies(control_plane, namespace), pod_at(control_plane, namespace)]
    async with responder(control_plane, namespace, "quarantine_pod", "release_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="foreign")
        plan = await doer.plan(request)
        await stage.finish(doer, request, Plan.from_json(plan.to_json()))
        verdict = await doer.verify(request, plan, {})
        again = await doer.plan(request)
        changed = next(
            one for one in policies(control_plane, namespace) if one["metadata"]["name"] == "others"
        )
        if way == "undo":
            await doer.undo(request, plan, {})
        else:
            freeing = stage.call("release_pod", key="run_2/free", pod=f"{namespace}/solo")
            await stage.perform(made, freeing)
    value = plan.data["label"]
    ours = {"key": LABEL, "operator": "NotIn", "values": [value]}
    assert plan.asks == "it changes NetworkPolicies of others: others"
    assert ours in changed["spec"]["podSelector"]["matchExpressions"]
    assert verdict.level is VerdictLevel.APPLIED
    assert again.hash == plan.hash
    assert [policies(control_plane, namespace), pod_at(control_plane, namespace)] == before


async def test_two_isolated_pods_share_a_policy_of_others_and_part_one_by_one(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Each condition is its own; the first undo does not take the second's away."""
    stage.bare(control_plane, namespace)
    stage.bare(control_plane, namespace, "twin")
    stage.policy(control_plane, namespace, "others", OPEN)
    before = policies(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        done = []
        for name in ("solo", "twin"):
            request = stage.call(
                "quarantine_pod", key=f"run_{name}/s", pod=f"{namespace}/{name}", escalate="foreign"
            )
            done.append((request, *await stage.perform(made, request)))
        await doer.undo(*done[0])
        verdict = await doer.verify(*done[1])
        await doer.undo(*done[1])
    assert verdict.level is VerdictLevel.APPLIED
    assert policies(control_plane, namespace) == before


async def test_a_policy_of_others_that_was_changed_since_is_not_put_back(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Nothing is touched, and the text shows both selectors."""
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/others"
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="foreign")
        plan, result = await stage.perform(made, request)
        patch = {"spec": {"podSelector": {"matchLabels": {"app": "other"}}}}
        control_plane.must("PATCH", path, patch)
        with pytest.raises(Conflict, match=r'expected .*, got .*"app": "other"'):
            await doer.undo(request, plan, result)
    assert LABEL in pod_at(control_plane, namespace)["metadata"]["labels"]


async def test_a_selector_that_gitops_put_back_shows_as_residual(
    control_plane: ControlPlane, namespace: str
) -> None:
    """The proof reads the policies afresh; undo has nothing to put back then."""
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/others"
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="foreign")
        plan, result = await stage.perform(made, request)
        control_plane.must("PATCH", path, {"spec": {"podSelector": {"matchExpressions": None}}})
        verdict = await doer.verify(request, plan, result)
        await doer.undo(request, plan, result)
    assert verdict.level is VerdictLevel.RESIDUAL
    assert "NetworkPolicy others still allows egress" in verdict.residual


@pytest.mark.parametrize("done", ["nothing", "deny", "selectors"])
async def test_a_resumed_escalation_ends_the_same_whatever_had_happened(
    control_plane: ControlPlane, namespace: str, done: str
) -> None:
    """Killed between any two writes: applied again it is whole, and the plan is the same."""
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    base = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="foreign")
        plan = await doer.plan(request)
        if done != "nothing":
            control_plane.must("POST", base, plan.changes[0].after)
        if done == "selectors":
            control_plane.must("PATCH", f"{base}/others", {"spec": plan.changes[1].after})
        assert (await doer.plan(request)).hash == plan.hash
        await stage.finish(doer, request, plan)
        verdict = await doer.verify(request, plan, {})
        await doer.undo(request, plan, {})
    assert verdict.level is VerdictLevel.APPLIED
    assert [one["spec"] for one in policies(control_plane, namespace)] == [OPEN]


async def test_an_unknown_level_is_refused_with_the_levels(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Nothing is guessed."""
    stage.bare(control_plane, namespace)
    async with responder(control_plane, namespace, "quarantine_pod") as made:
        request = stage.call("quarantine_pod", pod=f"{namespace}/solo", escalate="all")
        with pytest.raises(StepFailed, match="none of none, admin, native, foreign"):
            await stage.perform(made, request)


@pytest.mark.parametrize("way", ["undo", "release"])
@pytest.mark.parametrize("level", ["native", "foreign"])
async def test_an_isolated_pod_is_closed_further_by_a_later_step_without_being_opened(
    control_plane: ControlPlane, namespace: str, kinds: Any, level: str, way: str
) -> None:
    """The later step's undo takes its own part back; the first one's waits for that."""
    if level == "native":
        kinds("CiliumNetworkPolicy")
    stage.bare(control_plane, namespace)
    stage.policy(control_plane, namespace, "others", OPEN)
    origin = [policies(control_plane, namespace), pod_at(control_plane, namespace)]
    async with responder(control_plane, namespace, "quarantine_pod", "release_pod") as made:
        doer = stage.action(made, "quarantine_pod")
        first = stage.call("quarantine_pod", pod=f"{namespace}/solo")
        plan, result = await stage.perform(made, first)
        before = [policies(control_plane, namespace), pod_at(control_plane, namespace)]
        told = await doer.verify(first, plan, result)
        later = stage.call(
            "quarantine_pod", key="run_2/step", pod=f"{namespace}/solo", escalate=level
        )
        further = await doer.plan(later)
        await stage.finish(doer, later, further)
        again = await doer.plan(later)
        verdicts = [await doer.verify(*one) for one in ((first, plan, {}), (later, further, {}))]
        with pytest.raises(Conflict, match=r"\+responder.dev/escalated="):
            await doer.undo(first, plan, result)
        if way == "undo":
            await doer.undo(later, further, {})
            after = [policies(control_plane, namespace), pod_at(control_plane, namespace)]
            assert after == before
            await doer.undo(first, plan, result)
        else:
            freeing = stage.call("release_pod", key="run_3/free", pod=f"{namespace}/solo")
            await stage.perform(made, freeing)
    kind = "CiliumNetworkPolicy" if level == "native" else "NetworkPolicy"
    assert [change.ref.kind for change in further.changes] == [kind, "Pod"]
    assert bool(further.asks) is (level == "foreign")
    assert "the pod stays isolated as it was" in further.undo
    assert told.level is VerdictLevel.RESIDUAL
    assert [one.level for one in verdicts] == [VerdictLevel.APPLIED, VerdictLevel.APPLIED]
    assert again.hash == further.hash
    assert [policies(control_plane, namespace), pod_at(control_plane, namespace)] == origin
