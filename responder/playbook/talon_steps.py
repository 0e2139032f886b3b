"""Turns the actions of a Talon rule into steps: what has a safe equal here, and nothing else.

https://docs.falco-talon.org/docs/actionners/
Evidence always comes first and a pod is isolated before it is deleted, because deleting it first
loses both. Nothing here ever runs a command in a pod, or deletes anything but an isolated pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from responder.playbook.talon_rules import ACTION_KEYS, Action, Refused, quoted, yes

__all__ = ["Steps", "steps"]

POD: Final = "${{ target.pod }}"
_EVIDENCE: Final = (
    "the pod's objects, events and logs are kept, not a capture: no command, packet or system "
    "call is taken from inside the pod"
)
_EGRESS: Final = (
    "Talon only adds a policy against egress, for the whole workload; here the one pod of the "
    "alert is isolated, in both directions, with an undo"
)
_CODE: Final = "nothing is ever run inside a pod"
_CLOUD: Final = "no function of a cloud is called; a pipeline of your own can take its place"
# What is refused, and why.
_REFUSED: Final[Mapping[str, str]] = {
    "kubernetes:exec": _CODE,
    "kubernetes:script": _CODE,
    "kubernetes:delete": "what it deletes cannot be brought back; see kubernetes.lock_namespace",
    "kubernetes:drain": "it evicts every pod of a node, also those that nothing is known against; "
    "see kubernetes.cordon_node and kubernetes.evict_pod",
    "aws:lambda": _CLOUD,
    "gcp:function": _CLOUD,
}
# The parameters that Talon reads; it ignores all others without a word.
_PARAMETERS: Final[Mapping[str, frozenset[str]]] = {
    "kubernetes:terminate": frozenset(
        {
            "grace_period_seconds", "ignore_daemonsets", "ignore_statefulsets",
            "ignore_standalone_pods", "min_healthy_replicas",
        }
    ),
    "kubernetes:label": frozenset({"labels", "level"}),
    "kubernetes:annotation": frozenset({"annotations", "level"}),
    "kubernetes:networkpolicy": frozenset({"allow_cidr", "allow_namespaces"}),
    "calico:networkpolicy": frozenset({"order", "allow_cidr", "allow_namespaces"}),
    "cilium:networkpolicy": frozenset({"allow_cidr", "allow_namespaces"}),
    "kubernetes:log": frozenset({"tail_lines"}),
    "kubernetes:download": frozenset({"file"}),
    "kubernetes:tcpdump": frozenset({"duration", "snaplen", "image"}),
    "kubernetes:sysdig": frozenset({"scope", "duration", "buffer_size", "image"}),
    "kubernetes:cordon": frozenset(),
}  # fmt: skip
_CARRIED: Final = frozenset(
    {
        "labels", "annotations", "level",
        "ignore_daemonsets", "ignore_statefulsets", "ignore_standalone_pods",
    }
)  # fmt: skip
_ENDS: Final = frozenset(
    {"kubernetes:terminate", "kubernetes:delete", "kubernetes:tcpdump", "kubernetes:sysdig"}
)
_UNLESS: Final = {
    "ignore_daemonsets": '!target.workload.startsWith("DaemonSet/")',
    "ignore_statefulsets": '!target.workload.startsWith("StatefulSet/")',
    "ignore_standalone_pods": 'target.workload != ""',
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step to be written down."""

    use: str
    given: Mapping[str, Any] = field(default_factory=dict)
    condition: str = ""
    on_error: str = ""
    timeout: str = ""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a rule by id, in their order, what is different, and what was left out."""

    steps: Mapping[str, Step]
    notes: tuple[str, ...]
    refused: tuple[str, ...]


def steps(actions: Sequence[Action]) -> Steps:
    """The steps for these actions; none when each of them is refused."""
    found: dict[str, Step] = {}
    notes: list[str] = []
    refused: list[str] = []
    for number, action in enumerate(actions):
        name = quoted(action.name)
        try:
            more, said = _one(action)
            _join(found, more)
            notes += [f"{name}: {text}" for text in said]
        except Refused as reason:
            refused.append(f"{name} ({quoted(action.actionner) or 'no actionner'}): {reason}")
        if not _goes_on(action):
            later = [quoted(other.name) for other in actions[number + 1 :]]
            if later:
                notes.append(f"Talon ends the list at {name}; left out: {', '.join(later)}")
            break
    return Steps(_ordered(found), tuple(notes), tuple(refused))


def _goes_on(action: Action) -> bool:
    """Whether Talon comes to the next action; what it cannot read ends the list."""
    try:
        return yes(action.keys.get("continue"), "continue", default=action.actionner not in _ENDS)
    except Refused:
        return False


def _one(action: Action) -> tuple[dict[str, Step], list[str]]:
    what, given = action.actionner, action.parameters
    if not what:
        raise Refused("no file says what this action does")
    if reason := _REFUSED.get(what):
        raise Refused(reason)
    if what not in _PARAMETERS:
        raise Refused("Talon has no such actionner")
    level = given.get("level", "pod")
    if level != "pod":
        raise Refused("a node is not marked, only a pod or its workload")
    made = _made(what, given)
    if yes(action.keys.get("ignore_errors"), "ignore_errors", default=False):
        made = {name: replace(step, on_error="continue") for name, step in made.items()}
    return made, _notes(action)


def _made(what: str, given: Mapping[str, Any]) -> dict[str, Step]:
    snapshot = Step("kubernetes.snapshot", {"pod": POD}, on_error="continue", timeout="30s")
    isolate = Step("kubernetes.quarantine_pod", {"pod": POD, "expires": "4h"})
    if what == "kubernetes:cordon":
        return {"cordon": Step("kubernetes.cordon_node")}
    if what == "kubernetes:label":
        return {"mark": Step("kubernetes.label", {"pod": POD, "labels": _marks(given, "labels")})}
    if what == "kubernetes:annotation":
        marks = _marks(given, "annotations")
        return {"annotate": Step("kubernetes.annotate", {"pod": POD, "annotations": marks})}
    if what.endswith(":networkpolicy"):
        return {"snapshot": snapshot, "isolate": isolate}
    if what == "kubernetes:terminate":
        condition = _unless(given)
        remove = Step("kubernetes.delete_pod", {"pod": POD}, condition)
        return {
            "snapshot": snapshot,
            "isolate": replace(isolate, condition=condition),
            "remove": remove,
        }
    return {"snapshot": snapshot}


def _unless(given: Mapping[str, Any]) -> str:
    parts = [part for key, part in _UNLESS.items() if yes(given.get(key), key, default=False)]
    return " && ".join(parts)


def _marks(given: Mapping[str, Any], key: str) -> dict[str, str]:
    marks = given.get(key)
    if not isinstance(marks, dict) or not marks:
        raise Refused(f"it has no {key}")
    if not all(isinstance(text, str) for pair in marks.items() for text in pair):
        raise Refused(f"its {key} are not texts")
    if any("${{" in text for pair in marks.items() for text in pair):
        raise Refused(f"its {key} hold what would be an expression here")
    return marks


def _notes(action: Action) -> list[str]:
    """What Talon would have dropped or done in another way."""
    what, given = action.actionner, action.parameters
    found = []
    if what.endswith(":networkpolicy"):
        found.append(_EGRESS)
    elif what == "kubernetes:terminate":
        found.append("Talon kills the pod at once; here it is recorded and isolated before")
    elif what in {"kubernetes:download", "kubernetes:tcpdump", "kubernetes:sysdig"}:
        found.append(_EVIDENCE)
    elif what == "kubernetes:log":
        found.append("more is kept than its logs: the pod's objects and events too")
    for key in given:
        if key not in _PARAMETERS[what]:
            found.append(f'Talon ignores the parameter "{quoted(key)}" silently; left out')
        elif key not in _CARRIED:
            found.append(f'the parameter "{key}" has no equal here; left out')
    if "allow_namespaces" in given:
        found.append("allow_namespaces never held in Talon: it asks for a label that is not there")
    if action.keys.get("output"):
        found.append("its output is left out: evidence goes to this server's own store")
    if action.keys.get("additional_contexts"):
        found.append("additional_contexts never reached an action in Talon; left out")
    unknown = [quoted(key) for key in action.keys if key not in ACTION_KEYS]
    return found + [f'"{key}" is no key of an action: Talon ignores it silently' for key in unknown]


def _join(found: dict[str, Step], more: Mapping[str, Step]) -> None:
    """Each thing is done once; what one action wants without a condition has none."""
    for name, step in more.items():
        if name not in found:
            found[name] = step
            continue
        known = found[name]
        same = known.condition == step.condition
        given = {key: _both(known.given.get(key), value) for key, value in step.given.items()}
        found[name] = replace(known, given=given, condition=known.condition if same else "")


def _both(one: Any, other: Any) -> Any:
    return {**one, **other} if isinstance(one, dict) and isinstance(other, dict) else other


def _ordered(found: Mapping[str, Step]) -> dict[str, Step]:
    """Evidence first, deletion last, the rest as it was given."""
    rank = {"snapshot": 0, "remove": 2}
    return {name: found[name] for name in sorted(found, key=lambda name: rank.get(name, 1))}
