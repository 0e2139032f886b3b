"""The guard rails as a table: plan, policy and history go in, an answer with reasons comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from responder.engine.brakes import ALWAYS_PROTECTED, Answer, Guard, History, check, mode_for
from responder.model import Blast, Change, Mode, ObjectRef, Plan
from responder.playbook.definition import Limits

POD = ObjectRef(kind="Pod", name="web-1", namespace="shop", uid="u1", system="cluster:prod")
PLAN = Plan(
    action="fake.isolate",
    summary="isolate pod shop/web-1",
    changes=(Change(verb="patch", ref=POD, before="a", after="b"),),
    blast=Blast(pods=1, namespaces=("shop",), workloads=("shop/Deployment/web",)),
)


def touching(ref: ObjectRef, **blast: object) -> Plan:
    """A plan with one change of this object."""
    change = Change(verb="patch", ref=ref, before="a", after="b")
    return replace(PLAN, changes=(change,), blast=Blast(**blast))  # type: ignore[arg-type]


def blast(**values: object) -> Plan:
    """The usual plan with another blast radius."""
    return replace(PLAN, blast=replace(PLAN.blast, **values))  # type: ignore[arg-type]


KUBE = replace(POD, namespace="kube-system")
NONE = replace(POD, namespace="")
NAMESPACE = ObjectRef(kind="Namespace", name="kube-system", system="cluster:prod")

TABLE = {
    "a usual plan": (PLAN, Guard(), Answer.ALLOW),
    "no changes": (replace(PLAN, changes=(), blast=Blast(pods=99)), Guard(), Answer.ALLOW),
    "protected by blast": (blast(namespaces=("kube-system",)), Guard(), Answer.REFUSE),
    "protected by object alone": (touching(KUBE), Guard(), Answer.REFUSE),
    "a namespace itself": (touching(NAMESPACE), Guard(), Answer.REFUSE),
    "pods of no namespace": (touching(NONE, pods=1), Guard(), Answer.REFUSE),
    "something of no cluster": (touching(ObjectRef(kind="Job", name="j")), Guard(), Answer.ALLOW),
    "glob": (blast(namespaces=("openshift-dns",)), Guard(), Answer.REFUSE),
    "our own": (blast(namespaces=("responder",)), Guard(), Answer.REFUSE),
    "written in capitals": (
        PLAN,
        Guard(protected_namespaces=("SHOP",)),
        Answer.REFUSE,
    ),
    "excepted by name": (
        touching(KUBE, pods=1, namespaces=("kube-system",)),
        Guard(unprotected_namespaces=("kube-system",)),
        Answer.ALLOW,
    ),
    "one of two namespaces": (blast(namespaces=("shop", "cilium")), Guard(), Answer.REFUSE),
    "label": (
        blast(labels={"tier": "critical"}),
        Guard(protected_labels={"tier": "critical"}),
        Answer.REFUSE,
    ),
    "label with another value": (
        blast(labels={"tier": "web"}),
        Guard(protected_labels={"tier": "critical"}),
        Answer.ALLOW,
    ),
    "workload glob": (PLAN, Guard(protected_workloads=("shop/*/web",)), Answer.REFUSE),
    "pods in this run": (blast(pods=11), Guard(), Answer.REFUSE),
    "as many pods as allowed": (blast(pods=10), Guard(), Answer.ALLOW),
    "nodes in this run": (blast(nodes=2), Guard(), Answer.REFUSE),
    "share of ready replicas": (blast(ready_share=0.6), Guard(), Answer.ASK),
    "last ready replica": (blast(ready_share=1.0, last_ready=True), Guard(), Answer.ASK),
    "service without endpoints": (
        blast(services_without_endpoints=("shop/web",)),
        Guard(),
        Answer.ASK,
    ),
    "disruption budget": (blast(budgets_crossed=("shop/web",)), Guard(), Answer.ASK),
    "refuse beats ask": (
        blast(last_ready=True, namespaces=("kube-system",)),
        Guard(),
        Answer.REFUSE,
    ),
}


@pytest.mark.parametrize(("plan", "guard", "answer"), TABLE.values(), ids=TABLE)
def test_the_guard_answers(plan: Plan, guard: Guard, answer: Answer) -> None:
    """Every answer but allow comes with a reason."""
    ruling = check(plan, guard, Limits(), History())

    assert ruling.answer is answer
    assert bool(ruling.reasons) == (answer is not Answer.ALLOW)


@pytest.mark.parametrize("namespace", ALWAYS_PROTECTED)
def test_what_is_always_protected_is_refused(namespace: str) -> None:
    """No setting is needed for kube-system, the network plug-ins and ourselves."""
    plan = blast(namespaces=(namespace.replace("*", "x"),))

    assert check(plan, Guard(), Limits(), History()).answer is Answer.REFUSE


@pytest.mark.parametrize(
    ("limits", "history", "answer"),
    [
        (Limits(pods=1), History(run_pods=1), Answer.REFUSE),
        (Limits(pods=50), History(run_pods=10), Answer.REFUSE),  # the configuration's is lower
        (Limits(), History(window_pods=50), Answer.ASK),
        (Limits(), History(window_pods=49), Answer.ALLOW),
        (Limits(ready_share=0.1), History(), Answer.ALLOW),
    ],
    ids=["playbook", "lower wins", "window", "window's last", "no share lost"],
)
def test_ceilings_count_what_was_applied_before(
    limits: Limits, history: History, answer: Answer
) -> None:
    """Of playbook and configuration the lower ceiling holds; the window asks."""
    assert check(PLAN, Guard(), limits, history).answer is answer


@pytest.mark.parametrize(
    ("own", "namespaces", "modes", "mode"),
    [
        (Mode.ENFORCE, ("shop",), {}, Mode.ENFORCE),
        (Mode.ENFORCE, ("shop",), {"*": Mode.APPROVE}, Mode.APPROVE),
        (Mode.OBSERVE, ("shop",), {"*": Mode.ENFORCE}, Mode.OBSERVE),
        (Mode.ENFORCE, ("shop", "pay"), {"pay": Mode.OBSERVE}, Mode.OBSERVE),
        (Mode.ENFORCE, (), {"*": Mode.OBSERVE}, Mode.OBSERVE),
        (Mode.ENFORCE, (), {"pay": Mode.OBSERVE}, Mode.ENFORCE),
    ],
    ids=["own", "all", "own is stricter", "one of two", "no namespace", "not this one"],
)
def test_the_stricter_mode_wins(
    own: Mode, namespaces: tuple[str, ...], modes: dict[str, Mode], mode: Mode
) -> None:
    """What holds for every namespace holds for what has none, too."""
    assert mode_for(own, namespaces, Guard(namespace_modes=modes)) is mode
