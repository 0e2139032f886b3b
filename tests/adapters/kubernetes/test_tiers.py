"""How far an isolation goes, what selects a pod and what it costs, as tables: pure, no cluster."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.kubernetes import consequences, policy_evaluator, tier_foreign, tier_native
from integrations.kubernetes.ground import Ground
from integrations.kubernetes.owners import treatment
from integrations.kubernetes.policy_model import Outside, PolicyWorld
from integrations.kubernetes.quarantine import LABEL, Request, Scene, design
from integrations.kubernetes.selection import shift
from integrations.kubernetes.tier_model import LEVELS
from responder.errors import StepFailed
from responder.model import Plan
from tests.adapters.kubernetes.test_policy import a_pod, owned

Item = dict[str, Any]
VALUE = "inc-42-11112222"
OURS = (LABEL, VALUE)
AMONG_PODS: Item = {
    "podSelector": {},
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [{"from": [{"podSelector": {}}]}],
    "egress": [{}],
}
OPEN: Item = {**AMONG_PODS, "ingress": [{}]}


def policy(name: str, spec: Item) -> Item:
    """A NetworkPolicy of the pod's namespace."""
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": "5"}
    return {"metadata": metadata, "spec": spec}


def plan_for(level: str, spec: Item, pod: Item | None = None, **ground: Any) -> Plan:
    """The plan for a pod beside one policy of others."""
    request = Request(
        action="kubernetes.quarantine_pod",
        cluster="prod",
        incident=42,
        key="run_1/s",
        escalate=level,
    )
    scene = Scene(pod=pod or a_pod(), policies=[policy("others", spec)], ground=Ground(**ground))
    return design(scene, request)


ADMIN = frozenset({"ClusterNetworkPolicy"})
BOTH = frozenset({"ClusterNetworkPolicy", "AdminNetworkPolicy"})
CILIUM = frozenset({"CiliumNetworkPolicy"})

CHOICES: list[tuple[str, Item, Item, str, int]] = [
    # level, policy of others, ground, the kind beside NetworkPolicy and Pod, lines still open
    ("none", OPEN, {"served": ADMIN | CILIUM, "enforced": ADMIN}, "", 2),
    ("admin", AMONG_PODS, {}, "", 2),
    ("admin", AMONG_PODS, {"served": ADMIN}, "", 2),
    ("admin", AMONG_PODS, {"served": ADMIN, "enforced": ADMIN}, "ClusterNetworkPolicy", 0),
    ("admin", OPEN, {"served": ADMIN, "enforced": ADMIN}, "ClusterNetworkPolicy", 1),
    ("admin", OPEN, {"served": BOTH, "enforced": BOTH}, "ClusterNetworkPolicy", 1),
    (
        "admin",
        AMONG_PODS,
        {"served": BOTH, "enforced": {"AdminNetworkPolicy"}},
        "AdminNetworkPolicy",
        0,
    ),
    ("admin", OPEN, {"served": CILIUM}, "", 2),
    ("native", OPEN, {"served": CILIUM}, "CiliumNetworkPolicy", 0),
    ("native", OPEN, {"served": ADMIN | CILIUM, "enforced": ADMIN}, "CiliumNetworkPolicy", 0),
    (
        "native",
        AMONG_PODS,
        {"served": ADMIN | CILIUM, "enforced": ADMIN},
        "ClusterNetworkPolicy",
        0,
    ),
    ("native", OPEN, {"served": {"CalicoNetworkPolicy"}}, "CalicoNetworkPolicy", 0),
    ("native", OPEN, {"served": {"CalicoStoredPolicy"}}, "CalicoStoredPolicy", 0),
    (
        "native",
        OPEN,
        {"served": {"CalicoNetworkPolicy", "CalicoStoredPolicy"}},
        "CalicoNetworkPolicy",
        0,
    ),
    ("native", OPEN, {"served": {"EgressFirewall"}}, "", 2),
    ("foreign", OPEN, {}, "NetworkPolicy", 0),
    ("foreign", OPEN, {"served": CILIUM}, "CiliumNetworkPolicy", 0),
    ("foreign", OPEN, {"served": ADMIN, "enforced": ADMIN}, "NetworkPolicy", 0),
    ("foreign", OPEN, {"refused": {"NetworkPolicy": "no"}}, "", 2),
    ("native", OPEN, {"served": CILIUM, "refused": {"CiliumNetworkPolicy": "no"}}, "", 2),
]


@pytest.mark.parametrize(("level", "spec", "ground", "kind", "still"), CHOICES)
def test_the_first_way_that_leaves_least_is_taken_and_no_further_than_allowed(
    level: str, spec: Item, ground: Item, kind: str, still: int
) -> None:
    """NetworkPolicy first, the pod's label last, and between them at most one further deny."""
    plan = plan_for(level, spec, **ground)
    between = [change.ref.kind for change in plan.changes[1:-1]]
    assert between == ([kind] if kind else [])
    assert (plan.changes[0].ref.kind, plan.changes[-1].ref.kind) == ("NetworkPolicy", "Pod")
    assert len(plan.data["still"]) == still
    assert list(plan.residual[:still]) == plan.data["still"]
    assert bool(plan.asks) is (kind == "NetworkPolicy")
    offered = any(text.startswith("to close what is open") for text in plan.residual)
    assert offered is bool(still)


@given(level=st.sampled_from(LEVELS), served=st.sets(st.sampled_from(sorted(BOTH | CILIUM))))
def test_where_nothing_is_open_nothing_further_is_done(level: str, served: set[str]) -> None:
    """Escalation is an answer to a policy of somebody else, never a habit."""
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    plan = plan_for(level, closed, served=frozenset(served), enforced=BOTH)
    assert [change.ref.kind for change in plan.changes] == ["NetworkPolicy", "Pod"]
    assert plan.data["tier"] == {}


def test_a_person_reads_every_way_that_is_left() -> None:
    """What could be taken with a word more, what the configuration lacks, and the end of it."""
    plan = plan_for("none", OPEN, served=ADMIN | CILIUM | {"EgressFirewall"})
    [offer] = [text for text in plan.residual if text.startswith("to close")]
    for part in (
        "escalate: native (CiliumNetworkPolicy)",
        "escalate: foreign (NetworkPolicy)",
        "add it to `enforced` of [clusters.prod]",
        "EgressFirewall",
        "kubernetes.cut_flows",
        "kubernetes.evict_pod",
    ):
        assert part in offer


def test_what_could_not_be_read_counts_as_open() -> None:
    """No right to list, or no answer: never taken for "there is none"."""
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    unread = plan_for("none", closed, served=ADMIN, unread={"ClusterNetworkPolicy": "HTTP 403"})
    assert "cannot be read, and one may let it through: HTTP 403" in unread.residual[0]
    lost = plan_for("none", closed, doubt="which kinds there are is not known")
    assert lost.residual[0] == "which kinds there are is not known"


def admin(action: str, priority: int, subject: Item, tier: str = "Admin") -> Item:
    """A ClusterNetworkPolicy that speaks of ingress."""
    rule = {"action": action, "from": [{"namespaces": {}}]}
    spec = {"tier": tier, "priority": priority, "subject": subject, "ingress": [rule]}
    return {"metadata": {"name": "theirs"}, "spec": spec}


EVERY: Item = {"namespaces": {}}
PROD: Item = {"namespaces": {"matchLabels": {"env": "prod"}}}
ACCEPTED: list[tuple[Item, Item | None, bool]] = [
    (admin("Accept", 9, EVERY), None, True),
    (admin("Deny", 9, EVERY), None, False),
    (admin("Pass", 9, EVERY), None, False),
    (admin("Tomorrow", 9, EVERY), None, True),
    (admin("Accept", 9, EVERY, "Baseline"), None, False),
    (admin("Accept", 9, PROD), None, True),  # the namespace's labels are not known
    (admin("Accept", 9, PROD), {"env": "prod"}, True),
    (admin("Accept", 9, PROD), {"env": "test"}, False),
]


@pytest.mark.parametrize(("theirs", "labels", "open_"), ACCEPTED)
def test_what_an_administrator_accepts_is_open_whatever_networkpolicy_denies(
    theirs: Item, labels: dict[str, str] | None, open_: bool
) -> None:
    """The Admin tier is asked first, and its Accept is final."""
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    space = {"metadata": {"name": "shop", "labels": labels}} if labels is not None else None
    listed = {"ClusterNetworkPolicy": [theirs]}
    plan = plan_for("none", closed, served=ADMIN, listed=listed, namespace=space)
    assert ("ClusterNetworkPolicy theirs still accepts ingress" in plan.residual) is open_
    after = plan_for("admin", closed, served=ADMIN, enforced=ADMIN, listed=listed, namespace=space)
    assert after.data["still"] == []  # ours has a lower number


@pytest.mark.parametrize("kind", sorted(BOTH))
def test_the_evaluator_agrees_that_our_admin_deny_lets_nothing_through(kind: str) -> None:
    """Judged by the reading of policies that knows nothing of how ours are made."""
    plan = plan_for("admin", AMONG_PODS, served={kind}, enforced={kind})
    made = plan.changes[1].after
    target = {**a_pod(labels=plan.data["labels"]), "status": {"podIP": "10.0.0.5"}}
    peer = {**a_pod(name="peer", uid="u2", labels={"a": "b"}), "status": {"podIP": "10.0.0.6"}}
    with_, without = (
        policy_evaluator.world_of(
            pods=[target, peer],
            namespaces=[
                {"metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}}}
            ],
            policies=[policy("others", AMONG_PODS), plan.changes[0].after],
            admin=found,
        )
        for found in ({kind: [made]}, {})
    )
    ends = [
        with_.at("10.0.0.6"),
        Outside(ip_address("203.0.113.7")),
        Outside(ip_address("2001:db8::7")),
    ]
    pod = with_.at("10.0.0.5")
    for end in ends:
        assert policy_evaluator.evaluate(with_, pod, end, 443).blocked
        assert policy_evaluator.evaluate(with_, end, pod, 443).blocked
    assert not policy_evaluator.evaluate(without, ends[0], pod, 443).blocked
    assert _other_pod_talks(with_, ends)


def _other_pod_talks(world: PolicyWorld, ends: list[Any]) -> bool:
    """Nobody but the isolated pod is denied."""
    return not policy_evaluator.evaluate(world, ends[0], ends[1], 443).blocked


NAMES = st.sampled_from(["a", "b", "c"])
RULES = st.fixed_dictionaries(
    {
        "key": NAMES,
        "operator": st.sampled_from(["In", "NotIn"]),
        "values": st.lists(NAMES, min_size=1, max_size=2),
    }
)
SELECTORS = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(NAMES, NAMES, min_size=1),
        "matchExpressions": st.lists(RULES, min_size=1),
    },
)


@given(selector=SELECTORS)
def test_a_selector_of_others_comes_back_word_for_word(selector: Item) -> None:
    """Another isolation's condition beside ours changes nothing in that."""
    changed = tier_foreign.excluding(selector, OURS)
    other = (LABEL, "inc-9-aaaa")
    both = tier_foreign.excluding(changed, other)
    assert tier_foreign.restored(changed, OURS) == selector
    assert tier_foreign.restored(tier_foreign.restored(both, OURS), other) == selector
    assert tier_foreign.is_excluded(both, OURS)
    assert not tier_foreign.is_excluded(selector, OURS)
    assert tier_foreign.same_but_for_ours(selector, both, LABEL)
    assert not tier_foreign.same_but_for_ours({"matchLabels": {"z": "z"}}, both, LABEL)


def calico(name: str, order: float | None, action: str = "Allow", tier: str = "") -> Item:
    """A policy of Calico's."""
    spec: Item = {"ingress": [{"action": action}]}
    spec |= {"order": order} if order is not None else {}
    spec |= {"tier": tier} if tier else {}
    return {"metadata": {"name": name}, "spec": spec}


TIERS = [
    {"metadata": {"name": "first"}, "spec": {"order": 1}},
    {"metadata": {"name": "kube-admin"}, "spec": {"order": 1000}},
    {"metadata": {"name": "default"}, "spec": {"order": 1000000}},
    {"metadata": {"name": "last"}, "spec": {}},
]


@pytest.mark.parametrize(
    ("item", "named"),
    [
        (calico("x", -1), True),
        (calico("x", 0), True),
        (calico("x", 1), False),
        (calico("x", None), False),
        (calico("x", -1, "Deny"), False),
        (calico("x", -1, "Pass"), True),
        (calico("x", 5, tier="first"), True),
        (calico("x", 5, tier="last"), False),
        (calico("x", 5, tier="kube-admin"), False),  # judged as a policy of administrators
    ],
)
def test_what_calico_asks_before_our_deny_is_named(item: Item, named: bool) -> None:
    """By tier, then by order; a policy without an order is asked last."""
    listed = {"CalicoGlobalNetworkPolicy": [item], "CalicoTier": TIERS}
    ground = Ground(served=frozenset({"CalicoNetworkPolicy"}), listed=listed)
    found = tier_native.before_ours(ground, "CalicoNetworkPolicy", LABEL)
    expected = ("CalicoGlobalNetworkPolicy x is asked first and may allow it",)
    assert found == (expected if named else ())


def test_a_total_cut_says_which_probes_it_cuts() -> None:
    """Cilium's deny of everything denies the node too; a probe that runs inside is not cut."""
    pod = a_pod()
    pod["spec"]["containers"] = [
        {"name": "web", "livenessProbe": {"httpGet": {"port": 80}}},
        {"name": "job", "livenessProbe": {"exec": {"command": ["true"]}}},
    ]
    plan = plan_for("native", OPEN, pod, served=CILIUM)
    assert [text for text in plan.residual if "probes" in text] == [
        "it cuts the node's probes of web too, which may then be restarted"
    ]


STRONG = {"securityContext": {"privileged": True}}
REFUSED: list[tuple[Item, str]] = [
    ({"hostNetwork": True}, "node's network"),
    ({"hostPID": True}, "hostPID"),
    ({"containers": [{"name": "main", **STRONG}]}, "main is privileged"),
    ({"ephemeralContainers": [{"name": "debug", **STRONG}]}, "debug is privileged"),
    ({"initContainers": [{"name": "side", "restartPolicy": "Always", **STRONG}]}, "side is"),
    ({"initContainers": [{"name": "once", **STRONG}]}, ""),  # it has ended
    (
        {
            "containers": [
                {"name": "w", "securityContext": {"windowsOptions": {"hostProcess": True}}}
            ]
        },
        "hostProcess",
    ),
    ({"hostIPC": True}, ""),
]


@pytest.mark.parametrize(("spec", "reason"), REFUSED)
def test_a_pod_that_is_its_node_is_refused(spec: Item, reason: str) -> None:
    """No NetworkPolicy holds whoever has the node; the refusal says what to do there."""
    pod = a_pod()
    pod["spec"] = {**pod["spec"], "nodeName": "n1", **spec}
    found = treatment(pod).refusal
    assert reason in found
    assert bool(found) is bool(reason)
    if reason:
        assert "n1" in found
        with pytest.raises(StepFailed, match="treat the node as compromised"):
            plan_for("none", OPEN, pod)


def test_a_kind_of_another_group_is_not_taken_for_kubernetes_own() -> None:
    """A batch system's Job may not let go of a pod as Kubernetes' Job does."""
    [own] = owned("Job")
    ours = treatment(a_pod(ownerReferences=[{**own, "apiVersion": "batch/v1"}]))
    theirs = treatment(a_pod(ownerReferences=[{**own, "apiVersion": "batch.volcano.sh/v1alpha1"}]))
    assert ours.strip
    assert not theirs.strip
    assert "may put them back as it wants them" in theirs.consequence


def test_labels_that_go_begin_selections_and_end_others() -> None:
    """By what the pod has and will have: policies, peers, services, budgets, admission rules."""
    absent = {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}
    by_app = {"matchLabels": {"app": "cart"}}
    peers = {"podSelector": {}, "ingress": [{"from": [{"podSelector": by_app}]}]}
    rules = [{"apiGroups": [""], "resources": ["pods"], "operations": ["UPDATE"]}]
    hooks = {
        "ValidatingWebhookConfiguration": (
            {
                "metadata": {"name": "gate"},
                "webhooks": [
                    {"name": "pods", "objectSelector": by_app, "rules": rules},
                    {"name": "all", "objectSelector": {}, "rules": rules},
                    {"name": "nodes", "objectSelector": by_app, "rules": []},
                ],
            },
        ),
        "ValidatingAdmissionPolicy": (
            {
                "metadata": {"name": "lost"},
                "spec": {"matchConstraints": {"objectSelector": absent, "resourceRules": rules}},
            },
        ),
    }
    found = shift(
        a_pod(),
        {LABEL: VALUE},
        policies=[
            policy("mine", {"podSelector": by_app}),
            policy("lost", {"podSelector": absent}),
            policy("peer", peers),
        ],
        services=[{"metadata": {"name": "shop"}, "spec": {"selector": {"app": "cart"}}}],
        budgets=[{"metadata": {"name": "keep"}, "spec": {"selector": by_app}}],
        hooks=hooks,
    )
    assert found.stops == (
        "NetworkPolicy mine",
        "NetworkPolicy peer (as a peer)",
        "PodDisruptionBudget keep",
        "Service shop",
        "ValidatingWebhookConfiguration gate/pods",
    )
    assert found.starts == ("NetworkPolicy lost", "ValidatingAdmissionPolicy lost")


def claim(*modes: str) -> Item:
    """A volume claim."""
    return {"spec": {"accessModes": list(modes)}}


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({}, "may be usable on one node only"),
        ({"data": claim("ReadWriteOnce")}, "can be used on one node only"),
        ({"data": claim("ReadWriteOncePod")}, "can be used by one pod only"),
        ({"data": claim("ReadWriteMany")}, ""),
        ({"data": claim("ReadWriteOnce", "ReadWriteMany")}, ""),
    ],
)
def test_a_volume_stays_with_the_isolated_pod(claims: Item, told: str) -> None:
    """An ephemeral volume is made anew for each pod; a pod that nobody replaces needs no word."""
    pod = a_pod(ownerReferences=owned("ReplicaSet"))
    pod["spec"]["volumes"] = [
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "scratch", "ephemeral": {}},
    ]
    assert consequences.claims_of(pod) == ["data"]
    found = [text for text in consequences.limits(pod, [], {}, claims=claims) if "claim" in text]
    assert [told in text for text in found] == ([True] if told else [])
    lone = {**pod, "metadata": {**pod["metadata"], "ownerReferences": []}}
    assert not [text for text in consequences.limits(lone, [], {}) if "claim" in text]


def test_doors_to_the_node_and_who_still_counts_the_pod_are_named() -> None:
    """A host path, the rights to leave a container; a budget that goes on counting."""
    pod = a_pod(ownerReferences=owned("StatefulSet"))
    pod["spec"]["volumes"] = [{"name": "h", "hostPath": {"path": "/var/run"}}]
    pod["spec"]["containers"] = [
        {"name": "main", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
    ]
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    labels = pod["metadata"]["labels"]
    budget = {"metadata": {"name": "keep"}, "spec": {"selector": {"matchLabels": labels}}}
    service = {"metadata": {"name": "shop"}, "spec": {"selector": labels}}
    found = list(consequences.limits(pod, [], labels, services=[service], budgets=[budget]))
    why = "cannot start another pod of this name while this one exists"
    assert found == [
        "it can change files of its node (/var/run): look at the node too",
        "main has the rights to leave its container: look at the node too",
        f"its labels stay: StatefulSet/cart {why}; no replacement starts",
        "Service shop still sends requests to it, which time out",
        "PodDisruptionBudget keep still counts it as healthy",
    ]
