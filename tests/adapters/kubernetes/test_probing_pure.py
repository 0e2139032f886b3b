"""The pure parts of probing: what is judged, what is read, and what a probe pod may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integrations.kubernetes import probing_pods, probing_scripts
from integrations.kubernetes.enforcement_class import CONNECTIONS, Class
from integrations.kubernetes.probing_flows import Socket, own_addresses, read_flows, read_sockets
from integrations.kubernetes.probing_isolation import Packets, read_told
from integrations.kubernetes.probing_table import Table
from integrations.kubernetes.probing_verdict import Findings, judge
from responder.model import VerdictLevel

POD, EVIL, NODE = ("10.77.0.5", 40000), ("198.51.100.10", 4444), ("10.77.0.1", 50000)
SILENT = Socket(POD, EVIL, moved=False)
ALIVE = Socket(POD, EVIL, moved=True)
UNSEEN = Socket(POD, EVIL, moved=None)
LINE = (
    "tcp      6 431999 ESTABLISHED src=10.77.0.5 dst=198.51.100.10 sport=40000 dport=4444 "
    "src=198.51.100.10 dst=10.77.0.5 sport=4444 dport=40000 [ASSURED] mark=0 use=1"
)


def packets(**changed: Any) -> Packets:
    """Everything denied, control reached, no connection."""
    whole = {"ingress": {"from node a to port 80": "timeout"}, "egress": "timeout", "sockets": ()}
    return Packets(**{**whole, **changed})


def table(text: str) -> Table:
    """A node's table as its pod printed it."""
    return Table(text.encode(), read_flows(text), own_addresses(text))


CLOSED = packets()
R, A, E, P = (
    VerdictLevel.RESIDUAL,
    VerdictLevel.APPLIED,
    VerdictLevel.ENFORCED,
    VerdictLevel.PROVEN,
)
CASES = {
    "nothing tried": (Findings(), A, "open connections may live on"),
    "nothing tried, a policy allows": (Findings(still=("NetworkPolicy x",)), R, "NetworkPolicy x"),
    "nothing tried, nothing enforces": (Findings(kind=Class.NONE), R, "not enforced"),
    "nothing tried, a policy allows and nothing enforces": (
        Findings(still=("NetworkPolicy x",), kind=Class.NONE),
        R,
        "not enforced",
    ),
    "denied both ways": (Findings(packets=CLOSED, kind=Class.CUTS), P, ""),
    "denied both ways, class unknown": (Findings(packets=CLOSED), E, "without TCP may live on"),
    "denied both ways, a policy allows": (
        Findings(packets=CLOSED, still=("NetworkPolicy x",)),
        R,
        "NetworkPolicy x",
    ),
    "way in passes": (
        Findings(packets=packets(ingress={"from node a to port 80": "open"})),
        R,
        "not enforced",
    ),
    "an answer of refused is a way in": (
        Findings(packets=packets(ingress={"from node a to port 80": "refused"})),
        R,
        "not enforced",
    ),
    "way out passes": (Findings(packets=packets(egress="open")), R, "not enforced"),
    "passes though the class says cuts": (
        Findings(packets=packets(egress="open"), kind=Class.CUTS),
        R,
        "not isolated",
    ),
    "denied though the class says none": (
        Findings(packets=CLOSED, kind=Class.NONE),
        E,
        "without TCP",
    ),
    "broken canary": (
        Findings(packets=Packets(fault="the canary is broken")),
        A,
        "no packet proves it: the canary",
    ),
    "broken canary, nothing enforces": (
        Findings(packets=Packets(fault="x"), kind=Class.NONE),
        R,
        "not enforced",
    ),
    "an answer that says nothing": (
        Findings(packets=packets(ingress={"from node a to port 80": "failed"})),
        A,
        "no answer can be read",
    ),
    "way out not tried": (
        Findings(packets=packets(egress="", why_no_egress="switched off")),
        E,
        "was not tried: switched off",
    ),
    "a second address": (
        Findings(packets=packets(untried=("address fd00::5 of the pod was not tried",))),
        E,
        "fd00::5",
    ),
    "connections not listed": (Findings(packets=packets(sockets=None)), E, "may live on"),
    "bytes move": (Findings(packets=packets(sockets=(ALIVE,))), R, "bytes still move"),
    "bytes move though the class says cuts": (
        Findings(packets=packets(sockets=(ALIVE,)), kind=Class.CUTS),
        R,
        "bytes still move",
    ),
    "silent, class unknown": (Findings(packets=packets(sockets=(SILENT,))), R, "may live on"),
    "silent, class survives": (
        Findings(packets=packets(sockets=(SILENT,)), kind=Class.SURVIVES),
        R,
        "may live on",
    ),
    "silent, class cuts": (
        Findings(packets=packets(sockets=(SILENT,)), kind=Class.CUTS),
        P,
        "",
    ),
    "nobody could tell, class survives": (
        Findings(packets=packets(sockets=(UNSEEN,)), kind=Class.SURVIVES),
        R,
        "may live on",
    ),
    "silent and in the table": (
        Findings(packets=packets(sockets=(SILENT,)), kind=Class.SURVIVES, table=table(LINE)),
        R,
        "may live on",
    ),
    "silent and gone from the table": (
        Findings(packets=packets(sockets=(SILENT,)), kind=Class.SURVIVES, table=table("")),
        P,
        "",
    ),
    "in the table alone": (
        Findings(packets=CLOSED, kind=Class.SURVIVES, table=table(LINE)),
        R,
        "in the node's connection table",
    ),
    "with its own node only": (
        Findings(
            packets=packets(sockets=(Socket(POD, NODE, moved=True),)),
            own=frozenset({NODE[0]}),
            kind=Class.CUTS,
        ),
        P,
        "",
    ),
    "table not read": (
        Findings(packets=CLOSED, kind=Class.CUTS, why_no_table="no NET_ADMIN"),
        E,
        "was not read: no NET_ADMIN",
    ),
}


@pytest.mark.parametrize(("found", "level", "text"), CASES.values(), ids=CASES.keys())
def test_a_verdict_says_no_more_than_its_findings(
    found: Findings, level: VerdictLevel, text: str
) -> None:
    """Level and reason for each row of the table of verdicts."""
    judged = judge(found)
    assert judged.level is level
    assert any(text in line for line in judged.residual) if text else judged.residual == ()


def test_what_the_plan_could_not_know_about_connections_is_replaced_by_what_was_seen() -> None:
    """The plan's sentence goes, the plan's other limits stay."""
    limits = (CONNECTIONS[Class.UNKNOWN], "a Service still sends requests")
    judged = judge(Findings(packets=CLOSED, limits=limits, kind=Class.CUTS))
    assert judged.residual == ("a Service still sends requests",)


def test_no_try_without_packets_is_ever_called_more_than_applied() -> None:
    """Whatever class is known: nothing was tried on this pod."""
    for kind in Class:
        assert judge(Findings(kind=kind)).level in {A, R}


def test_connections_are_read_with_what_moved_between_two_looks() -> None:
    """Counters that changed, that did not, a new connection, loopback, IPv4 written as IPv6."""
    told = [
        "word timeout",
        "was [::ffff:10.0.0.5]:7000 [::ffff:10.0.0.6]:1 5 5",
        "was 10.0.0.5:7000 10.0.0.6:2 5 5",
        "was 127.0.0.1:1 127.0.0.1:2 1 1",
        "is [::ffff:10.0.0.5]:7000 [::ffff:10.0.0.6]:1 6 5",
        "is 10.0.0.5:7000 10.0.0.6:2 5 5",
        "is 10.0.0.5:7000 10.0.0.6:3 0 0",
        "is 127.0.0.1:1 127.0.0.1:2 9 9",
        "seen ss 4",
    ]
    found = read_sockets(told)
    assert found is not None
    assert {one.peer[1]: one.moved for one in found} == {1: True, 2: False, 3: True}
    assert {one.peer[0] for one in found} == {"10.0.0.6"}


def test_without_ss_the_kernels_own_list_is_read_and_nothing_is_said_of_movement() -> None:
    """Addresses of /proc/net/tcp are in the machine's byte order."""
    told = ["word timeout", "bare 05004D0A:1B58 0A6433C6:115C", "seen proc 1"]
    [one] = read_sockets(told) or ()
    assert (one.local, one.peer, one.moved) == (
        ("10.77.0.5", 7000),
        ("198.51.100.10", 4444),
        None,
    )


def test_a_list_that_was_cut_off_is_no_list() -> None:
    """Without the count nobody knows whether there was more; with it a missing one shows."""
    lines = ["0.5:7000 10.0.0.6:1 5 5", "was 10.0.0.5:7000 10.0.0.6:2 5 5"]
    lines += ["is 10.0.0.5:7000 10.0.0.6:2 5 5"]
    assert read_sockets(lines) is None
    assert read_sockets([*lines, "seen ss 2", "word timeout"]) is None
    assert read_sockets([*lines, "seen ss 1", "word timeout"]) == (
        Socket(("10.0.0.5", 7000), ("10.0.0.6", 2), moved=False),
    )


def test_a_line_that_cannot_be_read_is_a_list_that_was_not_seen() -> None:
    """The way out is known all the same, and nothing fails."""
    told = "bare 05004D0A 0A6433C6:115C\nseen proc 1\nword timeout"
    found = read_told(told)
    assert (found.egress, found.sockets) == ("timeout", None)
    assert read_told("").why_no_egress == "the container inside the pod told nothing"


def test_the_table_gives_live_flows_and_leaves_the_nodes_own_out() -> None:
    """Established TCP, answered UDP; not what waits, not the kubelet's checks, each once."""
    udp = "udp 17 29 src=10.77.0.5 dst=10.0.0.9 sport=5 dport=53 "
    udp += "src=10.0.0.9 dst=10.77.0.5 sport=53 dport=5"
    text = "\n".join(
        [
            LINE,
            LINE,
            f"{udp} [ASSURED] mark=0 use=1",
            udp.replace("sport=5 ", "sport=6 ") + " mark=0",
            LINE.replace("ESTABLISHED", "TIME_WAIT").replace("40000", "40001"),
            LINE.replace("198.51.100.10", "10.77.0.1").replace("40000", "40002"),
            "own 10.77.0.1",
            "own 127.0.0.1",
        ]
    )
    found = table(text)
    assert [(one.protocol, one.destination) for one in found.alive] == [
        ("tcp", EVIL),
        ("udp", ("10.0.0.9", 53)),
    ]


def test_a_probe_pod_holds_nothing_that_it_does_not_need() -> None:
    """No token, no root, no capability, no writable root, a deadline, no name of an alert."""
    task = probing_pods.Task("control", probing_scripts.DIAL, ("10.0.0.1", "80", "open", "5"))
    made = probing_pods.pod("abc", "near", "registry/tools", [task], seconds=30, node="n")
    spec, [container] = made["spec"], made["spec"]["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] == 30
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys()
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)


def test_the_pod_that_cuts_holds_one_capability_and_the_nodes_network() -> None:
    """NET_ADMIN alone; neither privileged nor in the node's process space."""
    task = probing_pods.Task("cut", probing_scripts.CUT, ("10.0.0.1",))
    made = probing_pods.pod("abc", "cut", "x", [task], seconds=30, node="n", on_node_network=True)
    [container] = made["spec"]["containers"]
    assert made["spec"]["hostNetwork"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert '"privileged"' not in json.dumps(made)
    assert not {"hostPID", "hostIPC"} & made["spec"].keys()


def test_arguments_never_become_part_of_a_program() -> None:
    """What an intruder may have chosen is an argument of its own, behind a constant program."""
    evil = "10.0.0.1; rm -rf /"
    task = probing_pods.Task("control", probing_scripts.DIAL, (evil,))
    made = probing_pods.pod("abc", "near", "x", [task], seconds=30)
    command = made["spec"]["containers"][0]["command"]
    assert command[:4] == ["sh", "-c", probing_scripts.DIAL, "probe"]
    assert command[4:] == [evil]


def test_a_pod_of_two_families_has_two_addresses() -> None:
    """The main one first, each once; none before it runs."""
    both = {"podIP": "10.0.0.5", "podIPs": [{"ip": "10.0.0.5"}, {"ip": "fd00::5"}]}
    assert probing_pods.addresses_of({"status": both}) == ("10.0.0.5", "fd00::5")
    assert probing_pods.addresses_of({"status": {}}) == ()


def test_names_come_from_the_key_alone() -> None:
    """The same step has the same names after a restart; another step has others."""
    assert probing_pods.mark_of("run_1/a") == probing_pods.mark_of("run_1/a")
    assert probing_pods.mark_of("run_1/a") != probing_pods.mark_of("run_1/b")
