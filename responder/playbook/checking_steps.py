"""Checks the steps: actions, parameters, order, and that nothing reads a step not yet run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from responder.model import Effect, Role
from responder.playbook import reading
from responder.playbook.checking_triggers import literal
from responder.playbook.definition import Approve, Retry, Step
from responder.playbook.expressions import Expression
from responder.playbook.names import param_type, run_names, step_type
from responder.playbook.nodes import Node, Report
from responder.playbook.order import circle, topological, upstream
from responder.playbook.templates import Mixed, Template
from responder.playbook.values import DYN, Type, unify
from responder.ports import ActionInfo, Param
from responder.text import suggestion

__all__ = ["FINALLY_KEYS", "STEP_KEYS", "UNDO", "Names", "check_finally", "check_steps"]

STEP_KEYS: Final = (
    "use",
    "with",
    "needs",
    "if",
    "for_each",
    "at_once",
    "timeout",
    "retry",
    "on_error",
    "approve",
)
FINALLY_KEYS: Final = ("use", "with", "if", "timeout", "retry")
ON_ERROR: Final = ("stop", "continue", "undo")
OTHERWISE: Final = ("stop", "continue")
APPROVERS: Final = ("responder", "approver", "admin")
MAX_STEPS: Final = 200  # more than any person reviews
_AT_ONCE_MAX: Final = 200
_SECOND: Final = 1_000_000
_WEEK: Final = 7 * 86_400 * _SECOND

UNDO: Final = ActionInfo(
    name="undo",
    summary="Reverse what an earlier step of the same run applied.",
    effect=Effect.CHANGE,
    params={"step": Param(type="step", summary="The step to reverse.", required=True)},
    example={"step": "isolate"},
)


@dataclass(frozen=True, slots=True)
class Names:
    """What the steps of one playbook may refer to, and where problems go."""

    report: Report
    catalogue: Mapping[str, ActionInfo]
    variables: Mapping[str, Type] | None
    inputs: Mapping[str, Type]

    def action(self, name: str) -> ActionInfo | None:
        """The description of an action; `undo` is built in."""
        return UNDO if name == UNDO.name else self.catalogue.get(name)


@dataclass(frozen=True, slots=True)
class _Before:
    """What has run before a step: the keys of each step, and the types of their results."""

    used: Mapping[str, str]  # step -> action
    types: Mapping[str, Type]


def check_steps(names: Names, node: Node) -> Mapping[str, Step]:
    """All steps in topological order; empty when the order itself is at fault."""
    report = names.report
    if node.kind != "map" or not node.entries:
        report.add(node, "PB017", "steps: expected at least one step", 'write "name: {use: …}"')
        return {}
    if len(node.entries) > MAX_STEPS:
        report.add(node, "PB016", f"steps: more than {MAX_STEPS}", "split the playbook in two")
        return {}
    found: dict[str, Mapping[str, Node]] = {}
    places: dict[str, Node] = {}
    for key, key_node, value in node.pairs():
        reading.name(report, key_node, key_node.value, "step", dashes=False)
        if key.startswith("finally_"):
            report.add(
                key_node, "PB013", f'step: "{key}" could be mistaken for a step of "finally"',
                "give it another name",
            )  # fmt: skip
        keys = reading.mapping(
            report, value, f'step "{key}"', STEP_KEYS, ("use",) if value.kind == "map" else ()
        )
        found[key], places[key] = keys, key_node
    report.steps = tuple(found)
    needs = {step: _needs(report, step, keys, found) for step, keys in found.items()}
    _circles(report, needs, places)
    used = {step: _use(keys) for step, keys in found.items()}
    types = {
        step: step_type(step, names.action(used[step]), repeated="for_each" in keys)
        for step, keys in found.items()
    }
    steps = {}
    for step in [*topological(needs), *found]:
        if step not in steps:
            above = upstream(step, needs) - {step}
            before = _Before({one: used[one] for one in above}, {one: types[one] for one in above})
            steps[step] = _step(names, step, places[step].line, found[step], needs[step], before)
    return steps


def _use(keys: Mapping[str, Node]) -> str:
    value = keys["use"].value if "use" in keys else None
    return value if isinstance(value, str) else ""


def _needs(
    report: Report, step: str, keys: Mapping[str, Node], known: Mapping[str, Any]
) -> tuple[str, ...]:
    node = keys.get("needs")
    if node is None or (node.kind == "list" and not node.items):
        return ()
    found = []
    for name, item in reading.texts(report, node, "needs"):
        if name == step:
            report.add(item, "PB053", f'step "{step}" needs itself', "remove it")
        elif name not in known:
            others = [one for one in known if one != step]
            report.add(item, "PB050", f'needs: there is no step "{name}"', suggestion(name, others))
        else:
            found.append(name)
    return tuple(found)


def _circles(
    report: Report, needs: Mapping[str, tuple[str, ...]], places: Mapping[str, Node]
) -> None:
    round_ = circle(needs)
    if round_:
        report.add(
            places[round_[0]], "PB051", f"steps wait for each other: {' → '.join(round_)}",
            f'remove "{round_[1]}" from "needs" of "{round_[0]}"',
        )  # fmt: skip


def _step(
    names: Names,
    step: str,
    line: int,
    keys: Mapping[str, Node],
    needs: tuple[str, ...],
    before: _Before,
) -> Step:
    report = names.report
    types = run_names(names.variables, names.inputs, before.types)
    each = _for_each(report, keys["for_each"], types) if "for_each" in keys else None
    if "for_each" in keys:
        types = {**types, "item": each.type.item or DYN if each else DYN}
    condition = reading.condition(report, keys["if"], "if", types) if "if" in keys else None
    on_error = _word(report, keys, "on_error", ON_ERROR, "stop")
    return Step(
        id=step,
        use=_use(keys),
        params=_params(names, step, keys, types, before),
        needs=needs,
        condition=condition,
        for_each=each,
        at_once=_at_once(report, keys),
        timeout=_seconds(report, keys, "timeout", _SECOND),
        retry=_retry(report, keys["retry"]) if "retry" in keys else None,
        on_error=cast("Literal['stop', 'continue', 'undo']", on_error),
        approve=_approve(report, keys["approve"]) if "approve" in keys else None,
        line=line,
    )


def check_finally(names: Names, node: Node, steps: Mapping[str, Step]) -> tuple[Step, ...]:
    """The steps that run whatever happened; all other steps are upstream of them."""
    if node.kind != "list":
        names.report.add(
            node, "PB012", f"finally: expected a list, got {node.shown}", "write - use: …"
        )
        return ()
    used = {step.id: step.use for step in steps.values()}
    types = {
        step.id: step_type(step.id, names.action(step.use), repeated=step.for_each is not None)
        for step in steps.values()
    }
    found = []
    for index, item in enumerate(node.items, 1):
        keys = reading.mapping(
            names.report,
            item,
            f"finally {index}",
            FINALLY_KEYS,
            ("use",) if item.kind == "map" else (),
        )
        before = _Before(used, types)
        found.append(_step(names, f"finally_{index}", item.line, keys, (), before))
    return tuple(found)


def _for_each(report: Report, node: Node, types: Mapping[str, Type]) -> Expression | None:
    source = reading.text(report, node, "for_each")
    if source is None:
        return None
    if (stripped := source.strip()).startswith("${{") and stripped.endswith("}}"):
        source = stripped[3:-2]
    found = reading.expression(report, node, source, types)
    if found is not None and found.type.kind not in {"list", "dyn"}:
        report.inside(
            node, found.text, 0, "PB033", f"for_each: expected a list, got {found.type}", ""
        )
        return None
    return found


def _at_once(report: Report, keys: Mapping[str, Node]) -> int:
    if "at_once" not in keys:
        return 0
    if "for_each" not in keys:
        report.add(keys["at_once"], "PB011", "at_once: for_each is missing", "add for_each")
    return reading.whole(report, keys["at_once"], "at_once", 1, _AT_ONCE_MAX) or 0


def _word(
    report: Report, keys: Mapping[str, Node], key: str, options: tuple[str, ...], default: str
) -> str:
    if key not in keys:
        return default
    return reading.choice(report, keys[key], key, options) or default


def _seconds(report: Report, keys: Mapping[str, Node], key: str, low: int) -> float | None:
    if key not in keys:
        return None
    micros = reading.duration(report, keys[key], key, low, _WEEK)
    return None if micros is None else micros / _SECOND


def _retry(report: Report, node: Node) -> Retry:
    keys = reading.mapping(report, node, "retry", ("attempts", "backoff", "max"), ("attempts",))
    attempts = (
        reading.whole(report, keys["attempts"], "attempts", 1, 100) if "attempts" in keys else 1
    )
    backoff = _seconds(report, keys, "backoff", 0)
    longest = _seconds(report, keys, "max", 0)
    if backoff is not None and longest is not None and longest < backoff:
        report.add(keys["max"], "PB016", "retry: max is shorter than backoff", "swap the two")
    first = 5.0 if backoff is None else backoff
    return Retry(attempts or 1, first, max(first, 300.0) if longest is None else longest)


def _approve(report: Report, node: Node) -> Approve:
    keys = reading.mapping(report, node, "approve", ("by", "within", "otherwise", "quorum"))
    within = Approve().within
    if "within" in keys:
        within = reading.duration(report, keys["within"], "within", _SECOND, _WEEK) or within
    quorum = reading.whole(report, keys["quorum"], "quorum", 1, 10) if "quorum" in keys else 1
    otherwise = _word(report, keys, "otherwise", OTHERWISE, "stop")
    return Approve(
        by=Role(_word(report, keys, "by", APPROVERS, "approver")),
        within=within,
        otherwise=cast("Literal['stop', 'continue']", otherwise),
        quorum=quorum or 1,
    )


# --------------------------------------------------------------------------- parameters


def _params(
    names: Names, step: str, keys: Mapping[str, Node], types: Mapping[str, Type], before: _Before
) -> Template:
    report = names.report
    info = None
    if "use" in keys and (use := reading.text(report, keys["use"], "use")) is not None:
        info = names.action(use)
        if info is None:
            known = [*names.catalogue, UNDO.name]
            report.add(keys["use"], "PB040", f'unknown action "{use}"', suggestion(use, known))
    node = keys.get("with")
    given: dict[str, Any] = {}
    if node is not None and node.kind != "map":
        report.add(node, "PB012", f"with: expected a map, got {node.shown}")
    elif node is not None:
        for key, key_node, value in node.pairs():
            given[key], kind = reading.template(report, value, types)
            if info is not None:
                _param(report, info, key, (key_node, value), (given[key], kind))
    if info is not None and (node is None or node.kind == "map"):
        _required(report, info, given, node or keys["use"])
    if info is UNDO and node is not None:
        _undone(names, step, given.get("step"), node, before)
    return Template(given)


def _param(
    report: Report, info: ActionInfo, key: str, nodes: tuple[Node, Node], found: tuple[Any, Type]
) -> None:
    key_node, node = nodes
    value, kind = found
    param = info.params.get(key)
    if param is None:
        report.add(
            key_node, "PB041", f'{info.name} has no parameter "{key}"',
            suggestion(key, info.params) if info.params else "it takes none",
        )  # fmt: skip
    elif isinstance(value, Expression | Mixed):
        if unify(param_type(param.type), kind) is None:
            fix = "use string(…)" if param_type(param.type).kind == "string" else ""
            report.add(node, "PB043", f"{info.name}: {key}: expected {param.type}, got {kind}", fix)
    else:
        literal(report, node, param.type, f"{info.name}: {key}")


def _required(report: Report, info: ActionInfo, given: Mapping[str, Any], node: Node) -> None:
    for key, param in info.params.items():
        if param.required and key not in given:
            report.add(
                node, "PB042", f'{info.name} needs the parameter "{key}" ({param.type})',
                f'add "{key}:" under "with"',
            )  # fmt: skip


def _undone(names: Names, step: str, target: Any, node: Node, before: _Before) -> None:
    """`undo` names a step that has run before it and can be reversed."""
    place = next((value for key, _, value in node.pairs() if key == "step"), None)
    if place is None:
        return
    if not isinstance(target, str) or target not in before.used:
        fix = suggestion(str(target), before.used) if before.used else f'add "needs" to "{step}"'
        names.report.add(
            place, "PB052", f'undo: "{place.value}" is no step that has run before this one', fix
        )
        return
    info = names.action(before.used[target])
    if info is not None and not info.undoable:
        names.report.add(
            place, "PB044", f'undo: {info.name} of step "{target}" cannot be undone', "remove it"
        )
