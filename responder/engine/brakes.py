"""Guard rails: may this plan be applied now, must a person be asked, or is it refused?

Pure: a plan, the policy and the recent history go in, a decision with its reasons comes out.
It never allows more than the policy says: of several answers the strictest wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from fnmatch import fnmatchcase

from responder.model import Mode, Plan
from responder.playbook.definition import Limits

__all__ = ["Answer", "Guard", "History", "Ruling", "check", "mode_for", "namespaces_of"]

ALWAYS_PROTECTED = (
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "calico-system",
    "calico-apiserver",
    "cilium",
    "kube-flannel",
    "tigera-operator",
    "openshift-*",
    "responder",  # our own: an alert about us must not make us cut ourselves off
)


class Answer(IntEnum):
    """What the guard says, in rising strictness."""

    ALLOW = 0
    ASK = 1
    REFUSE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The policy, from `[guards]` and the protected lists of the clusters."""

    protected_namespaces: tuple[str, ...] = ALWAYS_PROTECTED
    unprotected_namespaces: tuple[str, ...] = ()  # named exceptions to the list above
    protected_labels: Mapping[str, str] = field(default_factory=dict)
    protected_workloads: tuple[str, ...] = ()  # globs on "namespace/Kind/name"
    pods_per_run: int = 10
    pods_per_window: int = 50
    nodes_per_run: int = 1
    ready_share: float = 0.5
    window: int = 3_600_000_000  # microseconds
    ask_for_last_ready: bool = True
    namespace_modes: Mapping[str, Mode] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was already applied: by this run, and by all runs within the window."""

    run_pods: int = 0
    run_nodes: int = 0
    window_pods: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The guard's answer and every reason for it."""

    answer: Answer = Answer.ALLOW
    reasons: tuple[str, ...] = ()


def mode_for(own: Mode, namespaces: Iterable[str], guard: Guard) -> Mode:
    """The strictest of the run's mode and the modes of the namespaces it touches.

    What touches none is still under the modes that hold for all of them.
    """
    modes = [own]
    for namespace in tuple(namespaces) or ("",):
        modes += [m for glob, m in guard.namespace_modes.items() if _matches(namespace, (glob,))]
    return max(modes, key=lambda mode: mode.strictness)


def namespaces_of(plan: Plan) -> tuple[str, ...]:
    """Every namespace a plan touches: by its own word, by its objects, or itself as an object."""
    refs = [change.ref for change in plan.changes]
    own = [ref.name if ref.kind == "Namespace" else ref.namespace for ref in refs]
    return tuple(sorted({*plan.blast.namespaces, *own} - {""}))


def check(plan: Plan, guard: Guard, limits: Limits, history: History) -> Ruling:
    """Judge one plan. A plan without changes is always allowed."""
    if not plan.changes:
        return Ruling()
    found = [
        *_protected(plan, guard),
        *_ceilings(plan, guard, limits, history),
        *_availability(plan, guard, limits),
    ]
    answer = max((answer for answer, _ in found), default=Answer.ALLOW)
    return Ruling(answer=answer, reasons=tuple(reason for _, reason in found))


Finding = tuple[Answer, str]


def _protected(plan: Plan, guard: Guard) -> Iterable[Finding]:
    touched = namespaces_of(plan)
    if plan.blast.pods and not touched:
        yield Answer.REFUSE, "it takes pods and names no namespace: nobody can tell what is hit"
    for namespace in touched:
        if _matches(namespace, guard.unprotected_namespaces):
            continue
        if _matches(namespace, guard.protected_namespaces):
            yield Answer.REFUSE, f"namespace {namespace} is protected"
    for key, value in guard.protected_labels.items():
        if plan.blast.labels.get(key) == value:
            yield Answer.REFUSE, f"label {key}={value} marks a protected object"
    for workload in plan.blast.workloads:
        if _matches(workload, guard.protected_workloads):
            yield Answer.REFUSE, f"workload {workload} is protected"


def _ceilings(plan: Plan, guard: Guard, limits: Limits, history: History) -> Iterable[Finding]:
    blast = plan.blast
    most = guard.pods_per_run if limits.pods is None else min(guard.pods_per_run, limits.pods)
    in_run = history.run_pods + blast.pods
    if blast.pods and in_run > most:
        yield Answer.REFUSE, f"{in_run} pods in this run, at most {most} allowed"
    in_window = history.window_pods + blast.pods
    if blast.pods and in_window > guard.pods_per_window:
        # without the count: a yes holds while the reason to ask is the same
        yield Answer.ASK, f"more than {guard.pods_per_window} pods within the window"
    nodes = guard.nodes_per_run if limits.nodes is None else min(guard.nodes_per_run, limits.nodes)
    in_run = history.run_nodes + blast.nodes
    if blast.nodes and in_run > nodes:
        yield Answer.REFUSE, f"{in_run} nodes in this run, at most {nodes} allowed"


def _availability(plan: Plan, guard: Guard, limits: Limits) -> Iterable[Finding]:
    blast = plan.blast
    share = guard.ready_share
    if limits.ready_share is not None:
        share = min(share, limits.ready_share)
    if blast.last_ready and guard.ask_for_last_ready:
        yield Answer.ASK, "it takes the last ready replica"
    elif blast.ready_share > share:
        yield Answer.ASK, f"{blast.ready_share:.0%} of the ready replicas lost, {share:.0%} allowed"
    for service in blast.services_without_endpoints:
        yield Answer.ASK, f"service {service} would be left without endpoints"
    for budget in blast.budgets_crossed:
        yield Answer.ASK, f"disruption budget {budget} would be crossed"


def _matches(name: str, globs: Sequence[str]) -> bool:
    """Whether one of the globs fits, in capitals or not: a typing slip must not lift a guard."""
    return any(fnmatchcase(name.casefold(), glob.casefold()) for glob in globs)
