"""Policies of administrators, v1alpha1 and v1alpha2, as tables from the API's text."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.kubernetes.policy_evaluator import Allowed, Answer, evaluate
from tests.adapters.kubernetes.policy.build import end_of, world_from
from tests.adapters.kubernetes.policy.test_v1 import DB, NODES, OUT, PODS, SPACES, WEB, a_policy

Json = dict[str, Any]
ALL = {"namespaces": {}}
SHOP_DB = {
    "pods": {
        "namespaceSelector": {"matchLabels": {"team": "a"}},
        "podSelector": {"matchLabels": {"app": "db"}},
    }
}


def old(name: str = "a", priority: int = 5, subject: Json | None = None, **rules: Any) -> Json:
    """An AdminNetworkPolicy."""
    spec = {"priority": priority, "subject": subject or ALL, **rules}
    return {"kind": "AdminNetworkPolicy", "metadata": {"name": name}, "spec": spec}


def old_baseline(subject: Json | None = None, **rules: Any) -> Json:
    """The BaselineAdminNetworkPolicy."""
    spec = {"subject": subject or ALL, **rules}
    return {
        "kind": "BaselineAdminNetworkPolicy",
        "metadata": {"name": "default"},
        "spec": spec,
    }


def new(
    name: str = "c",
    tier: str = "Admin",
    priority: int = 5,
    subject: Json | None = None,
    **rules: Any,
) -> Json:
    """A ClusterNetworkPolicy."""
    spec = {"tier": tier, "priority": priority, "subject": subject or ALL, **rules}
    return {"kind": "ClusterNetworkPolicy", "metadata": {"name": name}, "spec": spec}


def into(action: str, peer: Json | None = None, **more: Any) -> Json:
    """One ingress rule."""
    return {"ingress": [{"action": action, "from": [ALL if peer is None else peer], **more}]}


def out(action: str, peer: Json | None = None, **more: Any) -> Json:
    """One egress rule."""
    return {"egress": [{"action": action, "to": [ALL if peer is None else peer], **more}]}


def asked(
    admin: list[Json],
    source: str = WEB,
    destination: str = DB,
    port: int = 80,
    protocol: str = "TCP",
    policies: list[Json] | None = None,
) -> Answer:
    """The answer for one flow in the small cluster of the v1 tables."""
    cluster = {"pods": PODS, "nodes": NODES, "namespaces": SPACES, "admin": admin}
    world = world_from({**cluster, "policies": policies or []})
    return evaluate(world, end_of(world, source), end_of(world, destination), port, protocol)


DENY_ALL = a_policy("deny", podSelector={}, policyTypes=["Ingress"])
ALLOW_ALL = a_policy("allow", podSelector={}, ingress=[{}])


@pytest.mark.parametrize("make", [old, new])
@pytest.mark.parametrize(
    ("action", "policy", "expected"),
    [
        ("accept", DENY_ALL, "yes"),
        ("Deny", ALLOW_ALL, "no"),
        ("Pass", ALLOW_ALL, "yes"),
        ("Pass", DENY_ALL, "no"),
        ("Pass", None, "yes"),
    ],
)
def test_the_admin_tier_is_final_unless_it_passes(
    make: Any, action: str, policy: Json | None, expected: str
) -> None:
    """Accepting (Allow in v1alpha1) and Deny overrule NetworkPolicy; Pass asks it."""
    if action == "accept":
        action = "Allow" if make is old else "Accept"
    assert asked([make(**into(action))], policies=[policy] if policy else []).allowed == expected


@pytest.mark.parametrize("baseline", [old_baseline, lambda **r: new("b", "Baseline", 5, **r)])
def test_baseline_is_asked_only_where_no_network_policy_isolates(baseline: Any) -> None:
    """NetworkPolicy is always final for the direction that it isolates."""
    deny = baseline(**into("Deny"))
    assert asked([deny]).allowed == "no"
    assert asked([deny], policies=[ALLOW_ALL]).allowed == "yes"
    passing = old(**into("Pass")) if deny["kind"].startswith("Base") else new(**into("Pass"))
    assert asked([passing, deny]).allowed == "no"


def test_a_pod_selected_for_the_other_direction_only_is_unknown_to_baseline() -> None:
    """The text says "selected pods"; programs go by pod or by direction."""
    egress = a_policy("out", policyTypes=["Egress"], egress=[{}])
    answer = asked([new("b", "Baseline", **into("Deny"))], policies=[egress])
    assert answer.allowed is Allowed.UNKNOWN
    assert "differs between implementations" in answer.reasons[-1]
    assert asked([new("b", "Baseline", **into("Accept"))], policies=[egress]).allowed == "yes"


@pytest.mark.parametrize(
    ("priorities", "expected"), [((1, 2), "no"), ((2, 1), "yes"), ((1, 1), "unknown")]
)
def test_the_lower_priority_number_wins_and_equal_ones_are_undefined(
    priorities: tuple[int, int], expected: str
) -> None:
    """Of two that match one flow an implementation may take either."""
    deny = new("deny", priority=priorities[0], **into("Deny"))
    accept = new("accept", priority=priorities[1], **into("Accept"))
    assert asked([accept, deny]).allowed == expected
    answer = asked([deny, accept])
    assert answer.allowed == expected
    assert ("equal" in answer.reasons[-1]) is (expected == "unknown")


def test_equal_priorities_matter_only_where_both_match() -> None:
    """One that does not speak of the flow does not make it doubtful."""
    deny = new("deny", **into("Deny"))
    other = new("other", **into("Accept", {"namespaces": {"matchLabels": {"team": "b"}}}))
    assert asked([deny, other]).allowed == "no"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("Deny", "Allow", "unknown"), ("Deny", "Deny", "no"), ("Deny", "Pass", "unknown")],
)
def test_two_api_versions_side_by_side_are_a_doubt_where_they_differ(
    one: str, other: str, expected: str
) -> None:
    """No text orders them; where only one speaks of the flow, it decides."""
    policies = [new(priority=1, **into(one)), old(priority=2, **into(other))]
    assert asked(policies).allowed == expected
    elsewhere = old(**into(other, {"namespaces": {"matchLabels": {"team": "b"}}}))
    assert asked([policies[0], elsewhere]).allowed == "no"


def test_rules_are_read_in_order() -> None:
    """The first that matches decides, Pass included."""
    rules = [
        {
            "action": "Pass",
            "from": [ALL],
            "protocols": [{"tcp": {"destinationPort": {"number": 1}}}],
        },
        {"action": "Deny", "from": [ALL], "name": "no-more"},
        {"action": "Accept", "from": [ALL]},
    ]
    policy = new(ingress=rules)
    assert asked([policy], port=1).allowed == "yes"
    answer = asked([policy], port=2)
    assert answer.allowed == "no"
    assert answer.reasons == ("ClusterNetworkPolicy c ingress rule 1 (no-more) denies it",)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (ALL, "no"),
        ({"namespaces": {"matchLabels": {"team": "a"}}}, "no"),
        ({"namespaces": {"matchLabels": {"team": "b"}}}, "yes"),
        (SHOP_DB, "no"),
        ({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "x"}}}}, "yes"),
        ({"pods": {"podSelector": {"matchLabels": {"app": "db"}}}}, "no"),
        ({"serviceAccounts": {}}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_subject_is_namespaces_or_pods_of_namespaces(subject: Json, expected: str) -> None:
    """A subject of an unknown kind may be anybody. Without a namespace selector all are meant."""
    policy = new(**into("Deny"))
    policy["spec"]["subject"] = subject
    assert asked([policy]).allowed == expected


@pytest.mark.parametrize(
    ("peer", "web", "outside", "node", "agent"),
    [
        (ALL, "no", "yes", "yes", "yes"),
        (SHOP_DB, "yes", "yes", "yes", "yes"),
        ({"networks": ["0.0.0.0/0"]}, "no", "no", "no", "no"),
        ({"networks": ["10.0.0.0/8", "2001:db8::/32"]}, "no", "yes", "no", "no"),
        ({"networks": ["192.0.2.0/24"]}, "yes", "no", "yes", "yes"),
        ({"networks": ["?"]}, "unknown", "unknown", "unknown", "unknown"),
        ({"nodes": {}}, "yes", "yes", "no", "no"),
        ({"nodes": {"matchLabels": {"zone": "x"}}}, "yes", "yes", "yes", "yes"),
        ({"domainNames": ["*.example.org"]}, "unknown", "unknown", "unknown", "unknown"),
        ({"serviceAccounts": {}}, "unknown", "unknown", "unknown", "unknown"),
        ({}, "unknown", "unknown", "unknown", "unknown"),
        ({"namespaces": {}, "pods": {}}, "unknown", "unknown", "unknown", "unknown"),
    ],
)
@pytest.mark.parametrize("make", [old, new])
def test_egress_peers(make: Any, peer: Json, web: str, outside: str, node: str, agent: str) -> None:
    """Networks cover pods too; pods on the host's network are no pods here but their node."""
    policy = make(subject=SHOP_DB, **out("Deny", peer))
    found = [asked([policy], DB, end).allowed for end in (WEB, OUT, "node n2", "pod shop/agent")]
    assert found == [web, outside, node, agent]


@pytest.mark.parametrize("peer", [{"networks": ["0.0.0.0/0"]}, {"nodes": {}}, {}])
def test_ingress_knows_only_namespaces_and_pods(peer: Json) -> None:
    """Anything else is of another version of the API: unknown, never silently isolated."""
    answer = asked([new(**into("Deny", peer))], OUT, DB)
    assert answer.allowed is Allowed.UNKNOWN
    assert "not one of namespaces, pods" in answer.reasons[0]


def test_an_admin_deny_does_not_stop_the_outside_the_nodes_or_the_pod_itself() -> None:
    """Ingress peers cannot name them: a v1 policy must, and of the nodes only others' ones."""
    deny = new(**into("Deny"), **out("Deny", {"networks": ["0.0.0.0/0"]}))
    assert asked([deny], OUT, DB).allowed == "yes"
    assert asked([deny], "node n1", DB).allowed == "yes"
    assert asked([deny], "pod shop/agent", DB).allowed == "yes"
    assert asked([deny], DB, DB).allowed == "yes"
    assert asked([deny], WEB, DB).allowed == "no"
    assert asked([deny], DB, OUT).allowed == "no"


@pytest.mark.parametrize("action", ["Accept", "Deny", "Pass"])
def test_a_rule_with_an_unreadable_peer_is_unknown_whatever_it_does(action: str) -> None:
    """The text lets a program fail closed: nothing accepted, everything else denied."""
    rule = {"action": action, "from": [ALL, {"serviceAccounts": {}}]}
    answer = asked([new(ingress=[rule])], policies=[DENY_ALL if action == "Accept" else ALLOW_ALL])
    # another peer matches already: denying is certain then, accepting and passing are not
    assert answer.allowed == ("no" if action == "Deny" else "unknown")


@pytest.mark.parametrize(("action", "tier"), [("Tomorrow", "Admin"), ("Deny", "Tomorrow")])
def test_an_unknown_action_or_tier_is_unknown(action: str, tier: str) -> None:
    """Neither is rounded to something known."""
    assert asked([new(tier=tier, **into(action))]).allowed is Allowed.UNKNOWN


@pytest.mark.parametrize(
    ("field", "port", "hit", "missed"),
    [
        ("ports", {"portNumber": {"protocol": "TCP", "port": 80}}, "80/TCP", ("81/TCP", "80/UDP")),
        ("ports", {"portNumber": {"port": 80}}, "80/TCP", ("80/UDP",)),
        ("ports", {"portRange": {"start": 80, "end": 90}}, "90/TCP", ("79/TCP", "91/TCP")),
        (
            "ports",
            {"portRange": {"protocol": "SCTP", "start": 80, "end": 90}},
            "80/SCTP",
            ("80/TCP",),
        ),
        ("ports", {"namedPort": "http"}, "80/TCP", ("81/TCP", "80/UDP")),
        ("ports", {"namedPort": "dns"}, "53/UDP", ("53/TCP",)),
        ("protocols", {"tcp": {}}, "7/TCP", ("7/UDP",)),
        ("protocols", {"udp": {"destinationPort": {"number": 53}}}, "53/UDP", ("53/TCP", "54/UDP")),
        (
            "protocols",
            {"sctp": {"destinationPort": {"range": {"start": 5, "end": 9}}}},
            "9/SCTP",
            ("4/SCTP", "10/SCTP", "9/TCP"),
        ),
        ("protocols", {"destinationNamedPort": "dns"}, "53/UDP", ("53/TCP", "80/UDP")),
    ],
)
def test_ports_of_both_versions(field: str, port: Json, hit: str, missed: tuple[str, ...]) -> None:
    """In both directions the port is the destination's."""
    for rule in (into("Deny", **{field: [port]}), out("Deny", **{field: [port]})):
        policy = new(**rule)
        for text in (hit, *missed):
            number, protocol = text.split("/")
            expected = "no" if text == hit else "yes"
            assert asked([policy], WEB, DB, int(number), protocol).allowed == expected, text


@pytest.mark.parametrize(
    "port",
    [
        {"icmp": {}},
        {},
        {"tcp": {}, "udp": {}},
        {"tcp": {"sourcePort": {"number": 1}}},
        {"tcp": {"destinationPort": {"list": [1]}}},
    ],
)
def test_a_protocol_that_cannot_be_read_is_unknown(port: Json) -> None:
    """A match of tomorrow may or may not cover the flow."""
    assert asked([new(**into("Deny", protocols=[port]))]).allowed is Allowed.UNKNOWN


def test_the_quarantine_of_one_pod_holds_in_both_directions_with_v1_beside_it() -> None:
    """Admin denies what is inside, v1 what comes from outside; only the own node is left."""
    admin = new("irq", priority=1, subject=SHOP_DB)
    admin["spec"] |= into("Deny") | out("Deny", {"networks": ["0.0.0.0/0", "::/0"]})
    v1 = a_policy("quarantine", policyTypes=["Ingress", "Egress"])
    open_ = a_policy("open", podSelector={}, ingress=[{"from": [{"podSelector": {}}]}])
    for source, destination in ((WEB, DB), (OUT, DB), ("node n2", DB), (DB, WEB), (DB, OUT)):
        answer = asked([admin], source, destination, policies=[v1, open_])
        assert answer.blocked, (source, destination, answer)
    assert asked([admin], "node n1", DB, policies=[v1]).allowed == "yes"
