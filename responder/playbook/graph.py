"""A playbook as a drawing: Mermaid text that Git forges and editors show.

Ids are made here (`s0`, `s1`, …) and labels are stripped of Mermaid's signs, so that no text of a
playbook can add arrows or links. https://mermaid.js.org/syntax/flowchart.html
"""

from __future__ import annotations

from responder.playbook.definition import Playbook, Step
from responder.playbook.values import show_duration

__all__ = ["mermaid"]

_ENTITIES = {'"': "#quot;", "#": "#35;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\\": "#92;"}


def mermaid(playbook: Playbook) -> str:
    """The steps as boxes, `needs` as arrows, questions to people as diamonds."""
    ids = {step: f"s{index}" for index, step in enumerate(playbook.steps)}
    lines = ["flowchart TD", f"  start([{_quoted(_starts(playbook))}])"]
    for step in playbook.steps.values():
        lines += _step(step, ids[step.id])
        entry = f"{ids[step.id]}a" if step.approve else ids[step.id]
        lines += [f"  {ids[one]} --> {entry}" for one in step.needs] or [f"  start --> {entry}"]
    last = [ids[one] for one in _ends(playbook)]
    for index, step in enumerate(playbook.finally_):
        lines += _step(step, f"f{index}")
        before = last if index == 0 else [f"f{index - 1}"]
        lines += [f"  {one} -.-> f{index}" for one in before]
    return "\n".join(lines) + "\n"


def _step(step: Step, name: str) -> list[str]:
    parts = [step.id, step.use]
    if step.condition is not None:
        parts.append(f"if {step.condition.text}")
    if step.for_each is not None:
        turn = f", {step.at_once} at once" if step.at_once else ""
        parts.append(f"for each {step.for_each.text}{turn}")
    lines = [f"  {name}[{_quoted(*parts)}]"]
    if step.approve is not None:
        asked = f"{step.approve.by.value} within {show_duration(step.approve.within)}?"
        lines = [
            f"  {name}a{{{_quoted(asked)}}}",
            *lines,
            f"  {name}a -->|yes| {name}",
        ]
    return lines


def _starts(playbook: Playbook) -> str:
    sources = dict.fromkeys(one for trigger in playbook.triggers for one in trigger.sources)
    ways = [f"alert of {one}" for one in sources]
    if playbook.manual is not None:
        ways.append("by hand")
    return " or ".join(ways) or playbook.name


def _ends(playbook: Playbook) -> list[str]:
    """The steps that no other step needs."""
    needed = {one for step in playbook.steps.values() for one in step.needs}
    return [step for step in playbook.steps if step not in needed]


def _quoted(*parts: str) -> str:
    clean = [
        "".join(_ENTITIES.get(sign, sign) for sign in " ".join(part.split())) for part in parts
    ]
    return '"' + "<br/>".join(clean) + '"'
